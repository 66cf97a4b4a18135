"""What a user wants to follow a push: files that are copied to the target, and a command that runs there."""

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from layerferry.errors import UsageError
from layerferry.oci import limits
from layerferry.targets import is_registry

if TYPE_CHECKING:
    from layerferry.push.compose_up import Project

#: Of a file whose name says that it holds secrets, whatever it has here.
_PRIVATE = 0o600
_PERMISSIONS = 0o777


class After(StrEnum):
    """When the command runs on each of several targets."""

    #: As soon as that target has the image.
    EACH = "each"
    #: When all of them have it; nowhere, where one has not.
    ALL = "all"
    #: On one after the other, in their order, up to the first that fails.
    ONE_BY_ONE = "one-by-one"


@dataclass(frozen=True, slots=True)
class Copy:
    """A file of ours for the target: its path there, from the home folder on where it is relative, mode and content."""

    path: str
    mode: int
    content: bytes

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    @classmethod
    def of(cls, text: str) -> "Copy":
        """Read LOCAL[:REMOTE]; raises `UsageError`. REMOTE is LOCAL's last part where there is none."""
        local, _, remote = text.partition(":")
        content, mode = _read(local, "--copy", limits.COPIED_FILE)
        path = _remote(remote or Path(local).name, text)
        private = PurePosixPath(path).name.startswith(".env")
        return cls(path, _PRIVATE if private else mode, content)


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What follows a push; nothing in it has been checked by anybody but the user's own shell."""

    #: What the login shell is to run, or a script, if `is_script`; nothing where only files are copied.
    command: bytes = b""
    is_script: bool = False
    copies: tuple[Copy, ...] = ()
    #: What compose brings up, after the files are there and before the command; None where it does not.
    up: "Project | None" = None
    after: After = After.EACH
    #: The hosts that it runs on, where the target is a registry.
    on: tuple[str, ...] = ()
    #: Seconds that the command may last.
    seconds: float = 600.0

    @property
    def title(self) -> str:
        """The command in a few words."""
        first = self.command.decode(errors="replace").strip().partition("\n")[0]
        return "the script of --then-file" if self.is_script else first

    @property
    def lines(self) -> list[str]:
        """What would be done, in lines, for a dry run."""
        told = [f"copy {file.path} ({len(file.content)} bytes, mode {file.mode:04o})" for file in self.copies]
        return [*told, *([self.up.title] if self.up else []), *([self.title] if self.command else [])]

    @classmethod
    def read(
        cls,
        then: str,
        then_file: Path | None,
        copies: Sequence[str],
        *,
        after: str,
        on: Sequence[str],
        seconds: float,
        up: "Project | None" = None,
    ) -> "FollowUp | None":
        """Read what the settings say; None where nothing follows. Raises `UsageError`."""
        if then and then_file:
            raise UsageError("--then and --then-file are two commands", hint="Say one of them.")
        command = _read(str(then_file), "--then-file", limits.SCRIPT)[0] if then_file else _command(then)
        if not command and not copies and not up:
            if on:
                raise UsageError("--then-on says where, and nothing says what", hint="Say --then COMMAND, too.")
            return None
        if b"\0" in command:
            raise UsageError(f"{then_file} is no script: it has a NUL in it", hint="--then-file takes a text.")
        if len(copies) > limits.COPIED_FILES:
            raise UsageError(f"--copy takes {limits.COPIED_FILES} files", hint="Put them into the image.")
        files = tuple(map(Copy.of, copies))
        if len({file.path for file in files}) < len(files):
            raise UsageError("two files of --copy are to have the same path", hint="Write LOCAL:REMOTE.")
        return cls(command, then_file is not None, files, up, After(after), tuple(on), seconds)


def check_places(registries: Sequence[str], wanted: FollowUp) -> None:
    """Check that it is said where it is done; raises `UsageError`."""
    if registries and wanted.up:
        raise UsageError(
            f"{registries[0]} is a registry, where compose brings nothing up",
            hint="Let its nodes do it: --then 'docker compose up --detach --wait' --then-on deploy@node1.",
        )
    if registries and not wanted.on:
        raise UsageError(
            f"{registries[0]} is a registry, which runs no command and takes no file",
            hint="Say on which hosts it is to be done, once the registry has the image: --then-on deploy@node1.",
        )
    if wanted.on and not registries:
        raise UsageError(
            "--then-on is for registries: what follows a push to a host is done on that host", hint="Leave it out."
        )
    if any(map(is_registry, wanted.on)):
        raise UsageError("--then-on takes hosts", hint="Say the hosts that pull from the registry.")


def _command(text: str) -> bytes:
    data = os.fsencode(text)
    if len(data) > limits.COMMAND:
        raise UsageError(f"--then has more than {limits.COMMAND} bytes", hint="Send a script: --then-file FILE.")
    return data if text.strip() else b""


def _read(path: str, option: str, most: int) -> tuple[bytes, int]:
    """The content of a regular file, of at most so many bytes, and its permissions."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            content = file.read(most + 1) if stat.S_ISREG(found.st_mode) else b""
    except (OSError, ValueError) as error:
        raise UsageError(f"{option}: {path} cannot be read: {getattr(error, 'strerror', error)}") from None
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{option}: {path} is no file", hint="Name files one by one.")
    if len(content) > most:
        raise UsageError(f"{option}: {path} has more than {most} bytes", hint="Put it into the image.")
    return content, found.st_mode & _PERMISSIONS


def _remote(path: str, text: str) -> str:
    """A path on the target; a relative one, or one with `~/`, begins at the home folder."""
    path = path.removeprefix("~/")
    parts = path.split("/")
    if not path.isprintable() or ".." in parts or parts[-1] in {"", "."} or path.startswith("~"):
        raise UsageError(
            f"--copy: {text!r} names no file on the target",
            hint="Write LOCAL:REMOTE; REMOTE is a path of a file, without .., from the home folder or from / on.",
        )
    if len(os.fsencode(path)) > limits.COPIED_PATH:
        raise UsageError(f"--copy: a path on the target has more than {limits.COPIED_PATH} bytes")
    return path
