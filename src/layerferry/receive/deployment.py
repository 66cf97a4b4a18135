"""The steps after a verified push: the names, and the policy's command."""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from layerferry.oci.image import Name
from layerferry.protocol import VerdictKind
from layerferry.receive import command, locks
from layerferry.receive.command import Bounds, OverrunError
from layerferry.receive.engine import Engine
from layerferry.receive.policy import Policy
from layerferry.receive.refusal import Refusal

_TOLD = 2000


@contextlib.contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    """Hold the lock under which a name is looked at and given; raises `Refusal` where it cannot be taken."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "names.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        raise _no_lock() from None
    try:
        try:
            locks.hold(descriptor, "the lock on names")
        except OSError:
            raise _no_lock() from None
        yield
    finally:
        os.close(descriptor)


def _no_lock() -> Refusal:
    return Refusal("the lock on names cannot be taken")


def settle(engine: Engine, tags: Sequence[tuple[str, Name]], *, immutable: bool) -> dict[str, str]:
    """The image ID that each name is to get; `tags` has the engine's name or ID of an image with each name.

    With `immutable`, no name moves from one image to another, and none is given if one of them would.
    """
    ids: dict[str, str] = {}
    for image, name in tags:
        shown = engine.inspect(image)
        if shown is None:
            raise Refusal("the image has gone", kind=VerdictKind.TAG)
        if ids.setdefault(name.tagged, shown.id) != shown.id:
            raise Refusal(f"{name.familiar} is to name two images")
        before = engine.inspect(name.tagged) if immutable else None
        if before is not None and before.id != shown.id:
            raise Refusal(f"{name.familiar} is taken, and names do not move here")
    return ids


def give(engine: Engine, tags: Sequence[tuple[str, Name]]) -> None:
    """Give the names, and see that each is its image then. A `Refusal` tells the last that was given before it."""
    given = ""
    try:
        for image, name in tags:
            engine.tag(image, name.tagged)
            given = name.tagged
        confirm(engine, tags)
    except Refusal as error:
        error.message = f"after {given}: {error.message}" if given else error.message
        raise


def confirm(engine: Engine, tags: Sequence[tuple[str, Name]]) -> None:
    """See that each name is its image now, as the engine shows both: somebody else may have moved one meanwhile."""
    moved = []
    for image, name in tags:
        wanted, shown = engine.inspect(image), engine.inspect(name.tagged)
        if wanted is None or shown is None or wanted.id != shown.id:
            moved.append(f"{name.tagged}={shown.id if shown else ''}")
    if moved:
        raise Refusal(f"moved {' '.join(moved)}", kind=VerdictKind.VERIFY)


def resolve(
    engine: Engine, names: Sequence[Name], visible: Collection[str], offered: MutableMapping[str, str]
) -> list[tuple[str, str]]:
    """The full names that are there, each with what the client calls its image, which is `offered` then."""
    found = []
    for name in names:
        shown = engine.inspect(name.tagged)
        if shown is not None and shown.id in visible:
            told = next((asked for asked, here in offered.items() if here == shown.id), shown.id)
            offered[told] = shown.id
            found.append((name.tagged, told))
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """The exit status of a command, None where it took too long, and the end of its output."""

    status: int | None
    told: str

    def __str__(self) -> str:
        return "no end in time" if self.status is None else f"status {self.status}"


def run_command(argv: Sequence[str], environment: Mapping[str, str], patience: float) -> Outcome:
    """Run the policy's command, which neither reads from the client nor writes to it."""
    try:
        done = command.run(argv, environment, Bounds(seconds=patience, tail=_TOLD), folder="/")
    except OverrunError:
        return Outcome(None, "")
    except OSError as error:
        return Outcome(127, error.strerror or "")
    return Outcome(done.status, (done.out + done.err)[-_TOLD:].decode(errors="replace"))


def run_commands(
    policy: Policy, environment: Mapping[str, str], given: Mapping[str, str], note: Callable[..., None]
) -> None:
    """Run the policy's command for each name that was given, with the image ID; `note` logs an event.

    Raises `Refusal` where it fails.
    """
    for name, image_id in given.items():
        facts = {"LAYERFERRY_IMAGE": name, "LAYERFERRY_IMAGE_ID": image_id}
        note("running", image=name)
        outcome = run_command(policy.run, {**environment, **facts}, policy.run_timeout)
        note("ran", image=name, status=outcome.status, text=outcome.told)
        if outcome.status != 0:
            raise Refusal(f"{name} is named, but what should follow ended with {outcome}", kind=VerdictKind.RUN)
