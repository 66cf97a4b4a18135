"""`layerferry rollback`: a name goes back to the image that it pointed to before, and that one to where it was kept.

The two are exchanged, so that the same command once more rolls forward.
"""

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from layerferry.errors import LayerferryError, TargetError, UsageError, interruption
from layerferry.events import Emit
from layerferry.oci.image import Name, digest_of
from layerferry.oci.manifest import media_type_of
from layerferry.protocol import Capability
from layerferry.push.follow_up import FollowUp
from layerferry.push.following import Named, follow
from layerferry.push.host_load import throw_away_name
from layerferry.push.to_registry import give_name, open_endpoint
from layerferry.push.way_back import KEEPING, previous_name, rollback_command
from layerferry.registry_client.pusher import RepositoryPusher
from layerferry.result import NamedImage, Ran
from layerferry.targets.address import AnyTarget, Target
from layerferry.targets.conversation import Conversation
from layerferry.targets.host.script import FOLLOWING, UPKEEP
from layerferry.targets.named_images import resolve
from layerferry.targets.registry_address import RegistryTarget

#: A second exchange would bring back what the first has taken away.
_UNKNOWN = (
    "Whether {name} has gone back is not known: look there first, for to do it again exchanges the two once more."
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What became of a name on one target: the image that it has now; and the one before, with the name it keeps."""

    target: str
    name: str
    engine: str = ""
    image_id: str = ""
    kept: tuple[NamedImage, ...] = ()
    verified: bool = False
    seconds: float = 0.0
    error: LayerferryError | None = None
    ran: tuple[Ran, ...] = ()

    def to_json(self) -> dict[str, Any]:
        error = self.error
        return {
            "target": self.target,
            "name": self.name,
            "engine": self.engine,
            "image_id": self.image_id,
            "kept": [image.to_json() for image in self.kept],
            "verified": self.verified,
            "seconds": round(self.seconds, 3),
            "then": [{"on": ran.on, "status": ran.status, "seconds": round(ran.seconds, 3)} for ran in self.ran],
            "error": error and {"message": error.message, "hint": error.hint, "exit_code": error.exit_code},
        }


def wanted(text: str, tag: str) -> tuple[str, str]:
    """The full name that goes back, and the one that keeps the image before; raises `UsageError`."""
    name = Name.parse(text)
    if name.digest:
        raise UsageError(f"{text} names one image for good", hint="Write the name that goes back: app:latest.")
    return name.tagged, previous_name(name.tagged, tag)


@dataclass(frozen=True, slots=True)
class How:
    """How to exchange: with which engine, what follows, and who hears of that."""

    engine: str = ""
    follow_up: FollowUp | None = None
    emit: Emit = lambda _: None
    dry_run: bool = False


def exchange(target: AnyTarget, names: tuple[str, str], how: How) -> Exchange:
    """Exchange the images of two names on a target; what fails is told. A command may follow, as after a push."""
    begun = time.monotonic()
    try:
        done = _exchange(target, names, how)
    except BaseException as raised:
        error = interruption(raised) or raised
        if not isinstance(error, LayerferryError):
            raise
        done = Exchange(target.name, names[0], error=error)
    return replace(done, seconds=time.monotonic() - begun)


def _exchange(target: AnyTarget, names: tuple[str, str], how: How) -> Exchange:
    if isinstance(target, Target):
        return _on_host(target, names, how)
    if how.follow_up:
        raise UsageError(f"{target.name} is a registry, which runs nothing", hint="Leave --then out.")
    return _in_registry(target, names, dry_run=how.dry_run)


def _on_host(target: Target, names: tuple[str, str], how: How) -> Exchange:
    name, keeper = names
    with target.connect() as conduit:
        also = (*(FOLLOWING if how.follow_up else ()), *UPKEEP)
        conversation = Conversation(conduit, how.engine, dry_run=how.dry_run, also=also)
        conversation.ask((), names)
        greeting = conversation.greeting()
        if not conversation.takes(Capability.NAMES):
            raise TargetError(
                f"{target.name} names only images that are pushed to it",
                hint="A receiver that wants signed images takes the older image with its signature: push it once more.",
            )
        there = resolve(conversation, names)
        before, back = there.get(name, ""), _found(target.name, there, names)
        kept = [(before, keeper)] if before else []
        if greeting.engine not in KEEPING:
            # Without a name, a containerd would collect it as soon as another image has that.
            kept.insert(0, (back, throw_away_name(greeting.maker)))
        moved = (NamedImage(before, (keeper,)),) if before else ()
        done = Exchange(target.name, name, str(greeting), back, moved, verified=not how.dry_run)
        if how.dry_run:
            return done
        try:
            conversation.commit([(back, [name])], kept)
        except LayerferryError as error:
            if error.named:
                error.hint = error.hint.replace(error.named, _UNKNOWN.format(name=Name.parse(name).familiar))
            raise
        if how.follow_up is None:
            return done
        forward = f"Forward again: {rollback_command(target.name, name, Name.parse(keeper).tag)}"
        named = [Named(name, back, before)]
        followed = follow(conversation, how.follow_up, named, how.emit, lambda: forward)
        return replace(done, ran=followed.ran, error=followed.error)


def _found(place: str, there: Mapping[str, str], names: tuple[str, str]) -> str:
    """The ID of the image to go back to."""
    name, keeper = (Name.parse(each).familiar for each in names)
    if names[1] not in there:
        raise TargetError(
            f"{place} has no {keeper} to go back to",
            hint="A push keeps one with --keep-previous; rollback --to TAG goes back to another.",
        )
    if there.get(names[0]) == there[names[1]]:
        raise TargetError(f"{place} has one image as {name} and as {keeper}: there is nothing to go back to")
    return there[names[1]]


def _in_registry(target: RegistryTarget, names: tuple[str, str], *, dry_run: bool) -> Exchange:
    """The name gets the older manifest first: whatever comes then, it is the one that was asked for."""
    with contextlib.closing(open_endpoint(target)) as endpoint:
        name, keeper = (target.address.name(each) for each in names)
        pusher = RepositoryPusher(endpoint, name)
        found = {each: pusher.named(each.tag) for each in (name, keeper)}
        ids = {each.tagged: digest_of(document[1]) for each, document in found.items() if document is not None}
        back = _found(target.name, ids, (name.tagged, keeper.tagged))
        for each, document in ((name, found[keeper]), (keeper, found[name])):
            if document is not None and not dry_run:
                told, data = document
                give_name(pusher, each, media_type_of(data, told, target.name), data)
    before = ids.get(name.tagged)
    kept = (NamedImage(before, (keeper.tagged,)),) if before else ()
    return Exchange(target.name, name.tagged, f"registry ({endpoint.scheme})", back, kept, verified=not dry_run)
