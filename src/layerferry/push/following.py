"""What follows a push, in its session: files go over, a command runs, and its words come back."""

import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from layerferry.errors import HALTED, FollowError, LayerferryError, TargetError, interruption
from layerferry.events import Emit, Following, Said
from layerferry.oci import limits
from layerferry.oci.image import Name
from layerferry.protocol import Reply, Verb
from layerferry.push.follow_up import FollowUp
from layerferry.push.request import Options
from layerferry.push.way_back import KEEPING, rollback_command
from layerferry.result import BroughtUp, Ran
from layerferry.targets.conversation import Conversation

if TYPE_CHECKING:
    from layerferry.push.compose_up import ComposeUp

#: A status of ksh's is this, and the signal's number.
_KSH_SIGNALLED, _SIGNALLED = 256, 128
_MOST_STATUS = 511


@dataclass(frozen=True, slots=True)
class Named:
    """A name that was given on a target, the ID of its image there, and of the one that had it before, or nothing."""

    name: str
    image_id: str
    previous_id: str = ""


@dataclass(frozen=True, slots=True)
class Followed:
    """What became of it: the command, if it has begun, and what failed, if anything has."""

    ran: tuple[Ran, ...] = ()
    error: LayerferryError | None = None
    #: The services that compose brought up.
    up: tuple[BroughtUp, ...] = ()


def foresee(options: Options, target: str, emit: Emit) -> None:
    """Tell, in a dry run, what would be done."""
    for line in options.follow_up.lines if options.follow_up else ():
        emit(Following(target, line, dry_run=True))


def not_done(target: str, why: str) -> Followed:
    """What became of it where it was not begun."""
    return Followed(error=FollowError(f"{target}: the image is there, but what was to follow was not done: {why}"))


@dataclass(slots=True)
class _Output:
    """What a command says: shown up to a bound, its end kept."""

    target: str
    emit: Emit
    last: deque[str] = field(default_factory=lambda: deque(maxlen=limits.LAST_OUTPUT))
    _lines: int = 0
    _bytes: int = 0
    _hidden: int = 0
    _blank: bool = False

    def take(self, text: str) -> None:
        """Hear a line. The last one is what the command has left without an end, mostly nothing."""
        if self._blank:
            self._show("")
        self._blank = not text
        if text:
            self._show(text)

    def _show(self, text: str) -> None:
        self.last.append(text)
        self._lines += 1
        self._bytes += len(text)
        if self._lines > limits.OUTPUT_LINES or self._bytes > limits.OUTPUT:
            self._hidden += 1
        else:
            self.emit(Said(self.target, text))

    def end(self) -> None:
        if self._hidden:
            self.emit(Said(self.target, f"({self._hidden} more lines, which are not shown)"))


def follow(
    conversation: Conversation,
    wanted: FollowUp,
    named: Sequence[Named],
    emit: Emit,
    back: Callable[[], str],
    *,
    up: "ComposeUp | None" = None,
) -> Followed:
    """Copy the files, bring `up` what is to be, and run the command on a target that has the image under its names.

    Nothing of it is ever tried again. `back` tells how the target gets back what was there before.
    """
    target, step = conversation.target, _Step()
    try:
        _copy(conversation, wanted, emit)
        if up and wanted.up:
            emit(Following(target, wanted.up.title))
            _bring_up(up, target, named, emit, back)
        if not wanted.command:
            return Followed(up=up.services if up else ())
        emit(Following(target, wanted.title))
        status, last = _run(conversation, wanted, named, emit, step)
    except BaseException as raised:
        error = interruption(raised) or raised
        if not isinstance(error, LayerferryError):
            raise
        return Followed(step.ran(target), _told(error, target, step), up.services if up else ())
    ran = Ran(target, status, step.seconds)
    return Followed((ran,), _failure(wanted, ran, last, back), up.services if up else ())


def _failure(wanted: FollowUp, ran: Ran, last: Sequence[str], back: Callable[[], str]) -> FollowError | None:
    """What is told of a command that ended, and how; None where it did well."""
    target, status = ran.on, ran.status
    if status != 0:
        ended = f"did not end within {wanted.seconds:g} s" if status is None else f"ended with status {status}"
        hint = "\n".join([*([f"Its last lines on {target}:", *last] if last else ["It said nothing."]), back()])
        return FollowError(f"{target}: the image is there, but the command after it {ended}", hint=hint)
    return None


def _bring_up(up: "ComposeUp", target: str, named: Sequence[Named], emit: Emit, back: Callable[[], str]) -> None:
    from layerferry.push.compose_up import failed  # noqa: PLC0415 - where it is loaded already

    output = _Output(target, emit)
    try:
        up.run([one.image_id for one in named], output.take)
    except LayerferryError as error:
        raise failed(error, list(output.last), back()) from error
    finally:
        output.end()


@dataclass(slots=True)
class _Step:
    """Whether the command has begun, and when."""

    begun: float = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def ran(self, target: str) -> tuple[Ran, ...]:
        return (Ran(target, None, self.seconds),) if self.begun else ()


def _told(error: LayerferryError, target: str, step: _Step) -> LayerferryError:
    """The error for what went wrong meanwhile: it must not look as if nothing had been done."""
    if isinstance(error, (FollowError, *HALTED)):
        return error
    if step.begun:
        what, hint = "the command after it may have done some of its work, or all", f"See what it has done on {target}."
    else:
        what, hint = "what was to follow was not done", error.hint
    return FollowError(f"the image is there, but {what}: {error.message}", hint=hint)


def _copy(conversation: Conversation, wanted: FollowUp, emit: Emit) -> None:
    if not wanted.copies:
        return
    emit(Following(conversation.target, f"copying {', '.join(file.path for file in wanted.copies)}"))
    for file in wanted.copies:
        words = (Verb.COPY, f"{file.mode:04o}", file.digest, secrets.token_hex(8))
        conversation.tell(*words, payloads=(_bytes(file.path), file.content))
    conversation.tell(Verb.PLACE)
    while (line := conversation.hear("it to write the files", limits.ANSWER)) != Reply.END:
        if line != Reply.ALIVE:
            raise TargetError(f"{conversation.target} does not say whether the files were written")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _run(
    conversation: Conversation, wanted: FollowUp, named: Sequence[Named], emit: Emit, step: _Step
) -> tuple[int | None, list[str]]:
    """The status of the command, None where its time was over; and its last lines."""
    words = [word for one in named for word in (one.name, one.image_id, one.previous_id or "-")]
    output = _Output(conversation.target, emit)
    step.begun = time.monotonic()
    kind = "file" if wanted.is_script else "command"
    conversation.tell(Verb.THEN, kind, secrets.token_hex(16), *words, payloads=(wanted.command,))
    until, over = step.begun + wanted.seconds, False
    while True:
        left = until - time.monotonic()
        line = conversation.hear("the command after the push", left) if left > 0 else None
        if line is None and over:
            raise TargetError(f"{conversation.target} does not end the command, whose time is over")
        if line is None:
            until, over = time.monotonic() + limits.ENDED, True
            conversation.tell(Verb.STOP)
        elif line.startswith(f"{Reply.OUTPUT} "):
            output.take(line.removeprefix(f"{Reply.OUTPUT} "))
        elif (status := _status(line)) is not None:
            output.end()
            return None if over else status, list(output.last)
        elif line != Reply.ALIVE:
            raise TargetError(f"{conversation.target} does not say what the command does or how it has ended")


def _status(line: str) -> int | None:
    match line.split():
        case [Reply.RAN, text] if text.isascii() and text.isdecimal() and len(text) <= len(str(_MOST_STATUS)):
            status = int(text)
            return status - _KSH_SIGNALLED + _SIGNALLED if status > _KSH_SIGNALLED else status
    return None


def not_known(target: str, names: Collection[str]) -> str:
    """A line that says of which names nobody knows what they stood for; nothing where there are none."""
    listed = ", ".join(Name.parse(name).familiar for name in sorted(names))
    return (
        f"What {listed} stood for before, on {target}, is not known: an earlier try broke off there." if names else ""
    )


def way_back(target: str, engine: str, named: Sequence[Named], kept: Collection[str] = (), tag: str = "") -> str:
    """A line that says how the names get back to the images that had them before the push.

    Those with the IDs of `kept` have `tag` in their repositories, so that `layerferry rollback` on `target` brings them
    back; of several names in a repository, the first.
    """
    moved = [one for one in named if one.previous_id and one.previous_id != one.image_id]
    if not moved:
        return "Nothing has to be taken back: no name had another image before."
    first = {Name.parse(one.name).repository: one for one in reversed(moved) if one.previous_id in kept}
    commands = [rollback_command(target, one.name, tag) for one in moved if one in first.values()]
    left = [one for one in moved if one not in first.values()]
    if commands:
        commands = [f"The way back: {'; '.join(commands)}"]
    if left and engine not in KEEPING:
        before = ", ".join(f"{Name.parse(one.name).familiar} was {one.previous_id}" for one in left)
        commands.append(
            f"Before, on {target}, {before}; containerd keeps what has a name: push that image again, to go back."
        )
    elif left:
        tags = "; ".join(f"{engine} tag {one.previous_id} {Name.parse(one.name).familiar}" for one in left)
        commands.append(f"The way back, on {target}: {tags}")
    return "\n".join(commands)
