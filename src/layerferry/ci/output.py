"""The output to a CI: text, groups, masks, annotations, a summary, outputs. This is the plain form of them.

`open_output` picks the provider's own form, which `dialects` holds.
"""

import contextlib
import os
import secrets as random
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TextIO

from layerferry.ci.escape import message, neutralise, one_line, paragraph
from layerferry.ci.summary import LARGEST_SUMMARY
from layerferry.processes import child_environment

#: A function that runs a command with bytes on its stdin; raises OSError or SubprocessError.
Run = Callable[[Sequence[str], bytes], None]
#: The prefix of an output's name where names are shared with settings: LAYERFERRY_TARGETS would be read as one.
OUTPUT_PREFIX = "LAYERFERRY_OUTPUT_"
#: GitLab takes no larger dotenv report ("artifacts:reports:dotenv"), in bytes.
LARGEST_DOTENV = 5 * 1024
_RUN_SECONDS = 30
_SHORTEST_LINE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The settings of the output. `dotenv` is a file that gets the outputs as NAME=value, on any CI."""

    summary: bool = True
    dotenv: Path | None = None


class Output:
    """The log of a CI. All foreign text in it is neutralised, and masked values read `***`.

    A summary or an output that cannot be written is a line in the log, and never fails a push.
    """

    #: Whether the CI has a command that masks a secret. Where it has none, a line would show it.
    can_mask: ClassVar[bool] = False

    def __init__(
        self,
        stream: TextIO,
        env: Mapping[str, str],
        *,
        wishes: Wishes | None = None,
        run: Run | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.stream = stream
        self.env = env
        self.wishes = wishes or Wishes()
        self.run = run or (lambda command, data: _run(command, data, env))
        self.clock = clock
        self._secrets: list[str] = []

    def mask(self, *secrets: str) -> None:
        """Mask secrets from now on, here and in the CI. It is called before they are used, and before other output."""
        lines = [line for secret in secrets for line in _maskable(secret)]
        self._secrets = sorted({*self._secrets, *lines}, key=len, reverse=True)
        # A log that goes to a file is read by no runner: there the command would be the leak.
        if self.can_mask and not _is_file(self.stream):
            for line in lines:
                self.tell_mask(line)

    def redact(self, text: str) -> str:
        """The text without the masked values."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def line(self, text: str) -> None:
        """Write text of whatever origin, as one line or more."""
        self.write(neutralise(self.redact(text)))

    @contextlib.contextmanager
    def group(self, title: str) -> Iterator[None]:
        """Fold the lines of this block. Groups do not nest: most CIs know one level."""
        title = message(self.redact(title))
        self.open_group(title)
        failed = True
        try:
            yield
            failed = False
        finally:
            self.close_group(title, failed=failed)

    def error(self, text: str, *, hint: str = "") -> None:
        """Write an error, as an annotation where the CI has such; no other line has to repeat it."""
        self.annotate("error", message(self.redact(text)), paragraph(self.redact(hint)))

    def warning(self, text: str, *, hint: str = "") -> None:
        """Write a warning, as an annotation where the CI has such."""
        self.annotate("warning", message(self.redact(text)), paragraph(self.redact(hint)))

    def summary(self, markdown: str) -> None:
        """Show `markdown` on the job's page, where there is one and the user wants it."""
        if self.wishes.summary:
            with self.attempt("summary"):
                self.show_summary(self.redact(markdown))

    def outputs(self, values: Mapping[str, str]) -> None:
        """Give `values`, single lines, to later steps, and write them to the dotenv file, if there is one."""
        lines = {name: one_line(self.redact(value)) for name, value in values.items()}
        with self.attempt("outputs"):
            self.set_outputs(lines)
        if self.wishes.dotenv:
            with self.attempt("outputs in the dotenv file"):
                _append_dotenv(self.wishes.dotenv, lines)

    @contextlib.contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Do what may fail: the log gets the reason, and the push goes on."""
        try:
            yield
        except (OSError, subprocess.SubprocessError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            self.line(f"no {what}: {reason}")

    def write(self, line: str) -> None:
        """Write one of our own lines as it is."""
        self.stream.write(line + "\n")
        self.stream.flush()

    # What a dialect says in its own way; values are redacted and neutralised already, not yet escaped.

    def tell_mask(self, secret: str) -> None: ...

    def open_group(self, title: str) -> None:
        self.line(title)

    def close_group(self, title: str, *, failed: bool) -> None: ...

    def annotate(self, level: str, message: str, hint: str) -> None:
        """As any other command of ours tells it."""
        self.line(f"{'layerferry' if level == 'error' else level}: {message}")
        for line in hint.splitlines():
            self.line(f"  {line}")

    def show_summary(self, markdown: str) -> None: ...

    def set_outputs(self, values: Mapping[str, str]) -> None: ...


def variable(name: str) -> str:
    """An output's name as an environment variable: `image-id` is LAYERFERRY_OUTPUT_IMAGE_ID."""
    return OUTPUT_PREFIX + name.upper().replace("-", "_")


def append(path: str, text: str, *, limit: int = LARGEST_SUMMARY) -> None:
    """Append `text` on a line of its own to a file that other steps write too; raises OSError if it would not fit."""
    with Path(path).open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        data = text.encode()
        if end:
            file.seek(end - 1)
            data = data if file.read(1) == b"\n" else b"\n" + data
        if end + len(data) > limit:
            raise OSError(0, f"it would be larger than {limit} bytes")
        file.write(data)


def random_name() -> str:
    """A random name, so that no value can contain it by design."""
    return "layerferry_" + random.token_hex(16)


def _append_dotenv(path: Path, values: Mapping[str, str]) -> None:
    text = "".join(f"{variable(name)}={value}\n" for name, value in values.items())
    append(str(path), text, limit=LARGEST_DOTENV)


def _maskable(secret: str) -> list[str]:
    """The lines of a secret to mask: of several lines, those that are longer than ordinary words."""
    lines = [line.strip() for line in secret.splitlines() if line.strip()]
    if len(lines) < 2:  # noqa: PLR2004
        return lines
    return [line for line in lines if len(line) >= _SHORTEST_LINE and not line.startswith("-----")]


def _is_file(stream: TextIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def _run(command: Sequence[str], data: bytes, env: Mapping[str, str]) -> None:
    subprocess.run(
        command,
        input=data,
        env=child_environment(env),
        check=True,
        capture_output=True,
        timeout=_RUN_SECONDS,
        close_fds=True,
    )
