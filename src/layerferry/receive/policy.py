"""The policy: what a client may do. It comes from our command line and a file of root's; never from the client.

Where both have a rule, both hold: a name must be allowed by each, the smaller limit counts, and a rule that only one
of them has counts alone. So a command line in an `authorized_keys` that its user may write does not loosen what root
wrote.
"""

import hashlib
import os
import re
import shlex
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from layerferry.errors import UsageError
from layerferry.oci.image import Name, Platform
from layerferry.receive.patterns import Pattern
from layerferry.receive.refusal import Refusal

#: Read whenever it is there.
POLICY_FILE = Path("/etc/layerferry/receive.toml")
#: Where the newest statements are remembered.
MEMORY = Path("/var/lib/layerferry")
MAX_BYTES = 16 << 30
IDLE = 300.0
SESSION = 4 * 3600.0
RUN_TIMEOUT = 300.0
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SIZE = re.compile(r"([0-9]{1,15})([KMGT]?)(?:i?B)?", re.IGNORECASE)
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of one source; None, or an empty tuple, where it has none. Sizes in bytes, times in seconds."""

    allow: tuple[Pattern, ...] = ()
    reuse: tuple[Pattern, ...] = ()
    platforms: tuple[Platform, ...] = ()
    max_bytes: int | None = None
    max_bytes_per_day: int | None = None
    immutable_tags: bool = False
    whole_layers: bool = False
    run: tuple[str, ...] = ()
    run_timeout: float | None = None
    engine: str | None = None
    label: str | None = None
    log: str | None = None
    state: Path | None = None
    spool: Path | None = None
    idle: float | None = None
    session: float | None = None
    signers: Path | None = None
    require: int | None = None
    max_signature_age: float | None = None
    revoked: Path | None = None
    allow_rollback: bool = False
    #: The user who may have written the files that these rules name, beside root.
    owner: int = 0

    @classmethod
    def read(cls, said: Mapping[str, Any], owner: int = 0) -> Self:
        """Read values as TOML or a command line has them; raises `UsageError` on one that has no meaning."""
        if unknown := set(said) - set(_READERS):
            raise UsageError(f"the policy says {min(unknown)!r}, which has no meaning")
        found: dict[str, Any] = {}
        for key, value in said.items():
            try:
                found[key] = _READERS[key](value)
            except (ValueError, TypeError, AttributeError):
                raise UsageError(f"the policy says {key} = {value!r}, which has no meaning") from None
        return cls(**found, owner=owner)


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of all sources. At least one of them must allow names, else none is allowed."""

    sources: tuple[Rules, ...]

    def _all(self, key: str) -> list[Any]:
        return [value for rules in self.sources if (value := getattr(rules, key))]

    def _first(self, key: str, otherwise: Any) -> Any:
        return next(iter(self._all(key)), otherwise)

    def names(self, name: Name, *ids: str) -> bool:
        """Whether the image that goes by `ids` may get `name`; whether any image may, without `ids`."""
        groups: list[tuple[Pattern, ...]] = self._all("allow")
        return bool(groups) and all(
            any(pattern.matches(name, *ids) if ids else pattern.allows(name) for pattern in group) for group in groups
        )

    def admits(self, *ids: str) -> bool:
        """Whether the image that goes by `ids` may get any name at all: else the engine need not see it."""
        groups: list[tuple[Pattern, ...]] = self._all("allow")
        return bool(groups) and all(any(pattern.fits(*ids) for pattern in group) for group in groups)

    def shows(self, name: Name, *ids: str) -> bool:
        """Whether the client may know of an image on this host, and build on it."""
        groups = [(*rules.allow, *rules.reuse) for rules in self.sources if rules.allow]
        return bool(groups) and all(any(pattern.matches(name, *ids) for pattern in group) for group in groups)

    def runs(self, platform: Platform, host: Platform) -> bool:
        """Whether an image of `platform` may come; by default the host's own."""
        groups: list[tuple[Platform, ...]] = self._all("platforms") or [(host,)]
        return all(any(allowed.runs(platform) for allowed in group) for group in groups)

    @property
    def max_bytes(self) -> int:
        return min(self._all("max_bytes"), default=MAX_BYTES)

    @property
    def max_bytes_per_day(self) -> int | None:
        return min(self._all("max_bytes_per_day"), default=None)

    @property
    def immutable_tags(self) -> bool:
        return any(self._all("immutable_tags"))

    @property
    def whole_layers(self) -> bool:
        """Whether layers always come whole: no client hears digests of files."""
        return any(self._all("whole_layers"))

    @property
    def run(self) -> tuple[str, ...]:
        return tuple(self._first("run", ()))

    @property
    def run_timeout(self) -> float:
        return min(self._all("run_timeout"), default=RUN_TIMEOUT)

    @property
    def engine(self) -> str:
        return str(self._first("engine", ""))

    @property
    def label(self) -> str:
        return str(self._first("label", "default"))

    @property
    def log(self) -> str:
        return str(self._first("log", "syslog"))

    @property
    def idle(self) -> float:
        return min(self._all("idle"), default=IDLE)

    @property
    def session(self) -> float:
        return min(self._all("session"), default=SESSION)

    @property
    def signs(self) -> bool:
        """Whether images must be signed; a rule on signatures without signers is one that nobody could keep."""
        return any(self._all("signers") + self._all("require") + self._all("revoked") + self._all("max_signature_age"))

    def signers(self) -> list[Path]:
        """The files of allowed signers, of which each must be satisfied; raises `Refusal` unless they are safe."""
        if not self._all("signers"):
            raise Refusal("the policy wants signatures, and does not say whose")
        return self._files("signers")

    def revoked(self) -> list[Path]:
        """The files of revoked keys; raises `Refusal` unless they are safe."""
        return self._files("revoked")

    def _files(self, key: str) -> list[Path]:
        try:
            return [
                safe(path, rules.owner, "the file")
                for rules in self.sources
                if (path := getattr(rules, key)) is not None
            ]
        except (OSError, UsageError) as error:
            told = error.message if isinstance(error, UsageError) else f"{error.filename}: {error.strerror}"
            raise Refusal(f"signatures cannot be checked: {told}") from None

    @property
    def require(self) -> int:
        return max(self._all("require"), default=1)

    @property
    def max_signature_age(self) -> float | None:
        return min(self._all("max_signature_age"), default=None)

    @property
    def allow_rollback(self) -> bool:
        """Whether an older image may come back: each source that names signers must say so."""
        return all(rules.allow_rollback for rules in self.sources if rules.signers)

    @property
    def memory(self) -> Path:
        """The folder in which the newest statements are remembered; none that only a source after the signers' says."""
        first = next((number for number, rules in enumerate(self.sources) if rules.signers), 0)
        return next((rules.state for rules in self.sources[: first + 1] if rules.state), MEMORY)

    def state(self, home: Path) -> Path:
        """The folder for the day's count and the lock on names."""
        return Path(self._first("state", home / ".local/state/layerferry"))

    @property
    def scope(self) -> str:
        """A word for who may see the same: two policies of one user, for two keys, are to show each other nothing."""
        sees = [self.label, *(f"{rules.allow} {rules.reuse}" for rules in self.sources)]
        return hashlib.sha256("\n".join(sees).encode()).hexdigest()[:16]

    @property
    def spool(self) -> Path:
        """Where archives wait while they are checked; /var/tmp, since /tmp is memory on many hosts."""
        return Path(self._first("spool", "/var/tmp"))  # noqa: S108 - files without a name, O_TMPFILE


def is_there(path: Path) -> bool:
    """Whether there is a policy file; raises `UsageError` where that cannot be seen, so that none is passed over."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UsageError(f"the policy file {path} cannot be read: {error}") from None
    return True


def read_file(path: Path, owner: int = 0) -> Rules:
    """Read a policy file, in TOML; raises `UsageError` unless nobody but `owner` and root can have written it."""
    import tomllib  # noqa: PLC0415 - most hosts have no such file

    try:
        said = tomllib.loads(safe(path, owner, "the policy file").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"the policy file {path} cannot be read: {error}") from None
    return Rules.read(said, owner)


def safe(path: Path, owner: int, what: str) -> Path:
    """The real path of a file that nobody but `owner` and root can have put there; raises `UsageError`, `OSError`."""
    real = path.resolve(strict=True)
    for place in (real, *real.parents):
        status = place.lstat()
        loose = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
            loose = 0  # nobody but its owner can replace what is in there
        if status.st_uid not in {0, owner} or loose:
            raise UsageError(f"{what} {path} is not safe: others than root can write {place}")
    if not stat.S_ISREG(real.lstat().st_mode):
        raise UsageError(f"{what} {path} is not a file")
    return real


def _texts(value: Any) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(text, str) for text in value):
        raise TypeError
    return list(value)


def _patterns(value: Any) -> tuple[Pattern, ...]:
    return tuple(map(Pattern.parse, _texts(value)))


def _platforms(value: Any) -> tuple[Platform, ...]:
    return tuple(map(Platform.parse, _texts(value)))


def _bytes(value: Any) -> int:
    match = _SIZE.fullmatch(str(value))
    if isinstance(value, bool) or match is None or not int(match[1]):
        raise ValueError
    return int(match[1]) << _UNITS[match[2].upper()]


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not 0 < float(value) < 1e9:  # noqa: PLR2004
        raise ValueError
    return float(value)


def _number(value: Any) -> int:
    if isinstance(value, bool) or str(value) not in {str(number) for number in range(1, 17)}:
        raise ValueError
    return int(value)


def _age(value: Any) -> float:
    from layerferry.signing.statement import duration  # noqa: PLC0415 - most policies name no signers

    return float(duration(str(value))) if not isinstance(value, bool) else _seconds(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _command(value: Any) -> tuple[str, ...]:
    """An absolute program and its arguments, as a list or, quoted as a shell quotes it, as one text."""
    argv = shlex.split(value) if isinstance(value, str) else _texts(value)
    if not argv or not Path(argv[0]).is_absolute():
        raise ValueError
    return tuple(argv)


def _engine(value: Any) -> str:
    text = str(value)
    if os.path.basename(text) not in {"docker", "podman"} or not (os.path.isabs(text) or "/" not in text):  # noqa: PTH117, PTH119
        raise ValueError
    return text


def _label(value: Any) -> str:
    if not isinstance(value, str) or not _LABEL.fullmatch(value):
        raise ValueError
    return value


def _path(value: Any) -> Path:
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise ValueError
    return Path(value)


def _log(value: Any) -> str:
    return "syslog" if value == "syslog" else str(_path(value))


_READERS = {
    "allow": _patterns,
    "reuse": _patterns,
    "platforms": _platforms,
    "max_bytes": _bytes,
    "max_bytes_per_day": _bytes,
    "immutable_tags": _flag,
    "whole_layers": _flag,
    "run": _command,
    "run_timeout": _seconds,
    "engine": _engine,
    "label": _label,
    "log": _log,
    "state": _path,
    "spool": _path,
    "idle": _seconds,
    "session": _seconds,
    "signers": _path,
    "require": _number,
    "max_signature_age": _age,
    "revoked": _path,
    "allow_rollback": _flag,
}
