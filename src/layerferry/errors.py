"""The errors of layerferry, in one tree.

LayerferryError
├── UsageError          2  usage or settings
├── SourceError         3  daemon, image, archive
│   └── MissingImageError
├── ConnectError        4  name, refused, host key, authentication, no ssh client
│   ├── UnknownHostKeyError
│   └── DeadlineError
├── TargetError         5  no engine, no permission, disk full, load refused
│   ├── PatchError
│   └── ArchiveError
│       └── ResumeError
├── VerificationError   6  the target shows something else than we sent
├── RouteError          7  a route that the user asked for by name failed
├── FollowError         8  the image is there, but what was to follow it failed
├── OutputError         1  what was asked for on stdout could not be written
└── Interrupted       130  Ctrl-C, SIGTERM
"""

from collections.abc import Sequence
from typing import ClassVar, Final


class LayerferryError(Exception):
    """An error: one sentence that says what failed and where, and `hint`, what to do about it.

    `transient` tells that the same may well work in a moment: a line that broke, not a key that was refused. `image` is
    the one that it is about, where it is about one of several; `because` the error that has kept us from this one.
    `sent` is in bytes: what had gone to the target when it ended a push. `named` is a sentence: which names had the new
    image by then; `hint` has it too.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", transient: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.transient = transient
        self.image = ""
        self.sent = 0
        self.named = ""
        self.because: LayerferryError | None = None

    def after(self, name: str) -> str:
        """The message as it stands after the name of a target, with which most messages begin."""
        return self.message.removeprefix(f"{name}: ")


#: Seconds that the main thread waits at once: of a signal that comes just before a wait it hears after that (CPython
#: looks for one before it blocks).
SIGNALS_WAIT: Final = 0.5


class Halt(BaseException):
    """The exception of a signal, which is no `Exception`, since libraries wrap those in errors of their own.

    It has the error that it stands for.
    """

    #: How many there were, by which others see that all ends: a handler may be in the midst of what has locks.
    count: ClassVar[int] = 0

    def __init__(self, error: LayerferryError) -> None:
        super().__init__(error.message)
        self.error = error
        Halt.count += 1


class UsageError(LayerferryError):
    exit_code = 2
    #: The word that stands where another kind is wanted: a command knows in which order they come.
    misplaced: str = ""


class SourceError(LayerferryError):
    exit_code = 3


class MissingImageError(SourceError):
    """A daemon has no image of that name; `tags` are the familiar names that it has with other tags."""

    tags: Sequence[str] = ()


class ConnectError(LayerferryError):
    exit_code = 4


class UnknownHostKeyError(ConnectError):
    """The host's key is not in known_hosts; `hop` is the jump host that it is the key of, if not the target's."""

    hop: str = ""


class DeadlineError(ConnectError):
    """The time that `--timeout` gave is over."""


class TargetError(LayerferryError):
    exit_code = 5


class PatchError(TargetError):
    """A recipe did not make the layer: old files have gone, or have changed. The whole layer will do."""


class ArchiveError(TargetError):
    """What was sent was refused; the engine's words do not tell that the host is to blame."""


class ResumeError(ArchiveError):
    """What earlier tries have left did not make the layer. All of it goes again."""


class VerificationError(LayerferryError):
    exit_code = 6


class RouteError(LayerferryError):
    exit_code = 7


class FollowError(LayerferryError):
    """The image is there under its names; a command after it, or the files that go with it, failed."""

    exit_code = 8


class OutputError(LayerferryError):
    exit_code = 1


class Interrupted(LayerferryError):  # noqa: N818 - what happened is no error
    exit_code = 130

    def __init__(self, message: str = "interrupted") -> None:
        super().__init__(message)


#: The errors of what ends all that is not done yet: a signal, and the time that is over.
HALTED: Final = (Interrupted, DeadlineError)


def interruption(error: BaseException | None) -> LayerferryError | None:
    """The error of a signal, if `error` comes from one; Python may wrap it while a module is being loaded."""
    while error is not None and not isinstance(error, (Halt, KeyboardInterrupt)):
        error = error.__cause__ or error.__context__
    return error.error if isinstance(error, Halt) else Interrupted() if error is not None else None
