"""The log of a run (`--log FILE`, LAYERFERRY_LOG), for whoever looks for a fault.

Each module that talks to another program notes it here: the conversation with a target line by line, ssh's command
lines and stderr, requests to the daemon and to registries, routes that were tried, errors with their tracebacks.
Where no log was asked for, nothing is written, and next to nothing is done. Lines are neutralised and bounded, secrets
masked, and the file is for its owner alone. A log that can no longer be written is given up, and the push goes on.
"""

import errno
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

from layerferry.ci.escape import message
from layerferry.errors import UsageError
from layerferry.oci import limits
from layerferry.processes import secret_values

# A run without a log does not load what only a log needs: hence the imports inside functions.
# ruff: noqa: PLC0415

#: Characters. A shorter value is a word such as `true`, which is in every other line.
_SHORTEST_SECRET: Final = 4
#: The value of a variable with such a name is masked, unless it is as short as a word, or a path.
_SECRET_NAMES: Final = ("PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "API_KEY", "ACCESS_KEY", "PRIVATE_KEY")
_SHORTEST_VALUE: Final = 8
#: Parameters of the distribution-spec and of its token protocol. Any other may be a signature or a session.
_QUERY: Final = frozenset({"digest", "mount", "from", "scope", "service", "n", "last", "tag", "repo", "ns"})
_MOST_CAUSES: Final = 8
_HINT: Final = "--log and LAYERFERRY_LOG take a file in a folder that you can write in."


class _File:
    def __init__(self, path: Path | None, say: Callable[[str], None] | None = None) -> None:
        self.path = path
        self.trouble = ""
        self.told: BaseException | None = None
        self._say = say
        self._descriptor = None if path is None else _open(path)
        self._left = limits.LOG
        self._secrets: list[str] = []
        self._lock = threading.RLock()
        self._start = time.monotonic()

    def mask(self, secrets: Iterable[str]) -> None:
        with self._lock:
            forms = {form for secret in secrets for form in _forms(secret) if len(form) >= _SHORTEST_SECRET}
            self._secrets = sorted(forms.union(self._secrets), key=len, reverse=True)

    def write(self, subject: str, text: str) -> None:
        text = f"{subject:<12} {text}"
        with self._lock:
            for secret in self._secrets:
                text = text.replace(secret, "***")
            line = f"{time.monotonic() - self._start:9.3f}  {message(text, limits.LOG_LINE)}"
            self._append(f"{line}\n")
            if self._say and self._left >= 0:
                self._say(line)

    def close(self) -> None:
        with self._lock:  # another thread may still write
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._left = -1

    def _append(self, line: str) -> None:
        """Write a line, whole or not at all as far as the system does so; after a failure nothing any more."""
        if self.trouble or self._left < 0:
            return
        data = line.encode(errors="backslashreplace")
        self._left -= len(data)
        if self._left < 0:
            self.trouble = f"it has {limits.LOG} bytes"
            return
        try:
            if self._descriptor is not None:
                os.write(self._descriptor, data)
        except OSError as error:
            self.trouble = error.strerror or type(error).__name__


_file: _File | None = None


def open_file(
    path: Path | None,
    secrets: Iterable[str],
    environ: Mapping[str, str],
    say: Callable[[str], None] | None = None,
) -> None:
    """Append to `path` from now on, mode 0600, and `say` each line; `secrets`, and those of `environ`, are masked.

    Raises `UsageError`.
    """
    global _file  # noqa: PLW0603 - there is one log of a process, as there is one stderr
    from layerferry import __version__

    try:
        _file = _File(path, say)
    except (OSError, ValueError) as error:
        told = "it is a symbolic link" if getattr(error, "errno", 0) == errno.ELOOP else getattr(error, "strerror", "")
        raise UsageError(f"the log {path} cannot be written: {told or error}", hint=_HINT) from None
    _file.mask([*secrets, *secret_values(environ), *_named_secret(environ)])
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    system = os.uname()
    python = sys.version.partition(" ")[0]
    note("layerferry", f"{__version__}, Python {python}, {system.sysname} {system.release} {system.machine}, {now}")


def close() -> str:
    """End the log; why not all of it could be written, as a sentence, or nothing."""
    global _file
    ended, _file = _file, None
    if ended is None:
        return ""
    ended.close()
    return f"the log {ended.path} is not whole: {ended.trouble}" if ended.trouble else ""


def mask(*secrets: str) -> None:
    """Mask `secrets` in all lines from now on."""
    if _file is not None:
        _file.mask(secrets)


def note(subject: str, text: str) -> None:
    """Write a line: `subject` is what it is about (`> prod`, `ssh`, `daemon`). Costs nothing without a log."""
    if _file is not None:
        _file.write(subject, text)


def command(subject: str, argv: Sequence[str]) -> None:
    """Write the command line of a process that is started."""
    if _file is not None:
        import shlex

        _file.write(subject, shlex.join(argv))


def failure(subject: str, error: BaseException) -> None:
    """Write an error with its traceback and those of its causes, also of those that `from None` hides.

    The same error in a row is written once: each caller that it passes may note it.
    """
    if _file is None or _file.told is error:
        return
    import traceback

    _file.told = error
    shown: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if shown is None:
            return
        for line in "".join(traceback.format_exception(shown, chain=False)).splitlines():
            if line.strip(" ^~"):
                _file.write(subject, line)
        shown = shown.__cause__ or shown.__context__


def fault(part: str, error: BaseException) -> str:
    """Write an error that is a fault in a part of ours, and return it in one line."""
    failure(part, error)
    where = "the log has it" if _file else "--log FILE shows where"
    return f"a fault in {part}: {type(error).__name__}: {error} ({where})"


def served(request: Any, response: Any) -> None:
    """Write a request to the embedded registry, and its answer."""
    note("our registry", f"{request.method} {request.path} {int(response.status)}")


def answered(subject: str) -> Callable[..., None]:
    """A `response` hook of a `requests.Session`, which writes method, URL, status and milliseconds of each request."""

    def hook(response: Any, **_: Any) -> None:
        if _file is not None:
            asked = response.request
            took = response.elapsed.total_seconds() * 1000
            _file.write(subject, f"{asked.method} {_address(str(asked.url))} {response.status_code} {took:.0f} ms")

    return hook


class Lines:
    """The bytes of a command's stderr, which come in pieces and are written line by line; a long line lacks its end."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._begun = b""

    def feed(self, data: bytes) -> None:
        if _file is not None:
            *lines, begun = (self._begun + data).split(b"\n")
            self._begun = begun[: limits.LINE]
            for line in lines:
                _file.write(self._subject, line.decode(errors="replace").rstrip("\r"))

    def end(self) -> None:
        """Write the last line, which has no end."""
        if self._begun:
            self.feed(b"\n")


def _open(path: Path) -> int:
    """Open a file of ours, or a device such as /dev/full; never a link, and never one that waits for a reader."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    descriptor = os.open(path, flags, 0o600)
    try:
        _admit(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _admit(descriptor: int, path: Path) -> None:
    found = os.fstat(descriptor)
    if trouble := _trouble(found):
        raise UsageError(f"the log {path} cannot be written: {trouble}", hint=_HINT)
    if stat.S_ISREG(found.st_mode):
        os.fchmod(descriptor, 0o600)


def _trouble(found: os.stat_result) -> str:
    if stat.S_ISREG(found.st_mode):
        return "" if found.st_uid == os.geteuid() else "it is somebody else's"
    return "" if stat.S_ISCHR(found.st_mode) else "it is no file"


def _forms(secret: str) -> Iterator[str]:
    """The forms of a secret: as it is, each of its lines, as in a URL, and as in a message that quotes it."""
    for text in {secret, secret.strip(), *map(str.strip, secret.splitlines())}:
        data = text.encode(errors="surrogateescape")
        yield from (text, quote(data, safe=""), quote_plus(data), repr(text)[1:-1])


def _named_secret(environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in environ.items():
        named = any(word in name.upper() for word in _SECRET_NAMES)
        if named and len(value.strip()) >= _SHORTEST_VALUE and not value.startswith(("/", "~", "./")):
            yield value


def _address(url: str) -> str:
    """A URL without a login, and without the values of parameters that may be secret; of the daemon's, the path."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        return parts.path
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = "&".join(f"{name}={value if name in _QUERY else '***'}" for name, value in pairs)
    return place + parts.path + (f"?{query}" if query else "")
