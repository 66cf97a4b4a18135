"""The flow of one push: images, what the target has of them, plans, routes, content, verification, names, results.

It is the same for every kind of target; the kinds differ in how a target is asked, and in how content gets there. A
kind is a `Destination`.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from layerferry.errors import LayerferryError
from layerferry.events import Emit, Greeted, Planned
from layerferry.oci.content import Route, Summary
from layerferry.oci.image import Image
from layerferry.oci.manifest import SeveralPlatformsError
from layerferry.oci.plan import Plan
from layerferry.push.progress import wire_bytes
from layerferry.push.request import NO_ROUTE, Options, Wanted, nameless
from layerferry.push.way_back import NamesBefore
from layerferry.result import Bytes, NamedImage, Result, WireEstimate
from layerferry.sources import Source, SourceImage

if TYPE_CHECKING:
    from layerferry.push.follow_up import FollowUp
    from layerferry.push.following import Followed

# What follows a push is loaded where there is something: hence the imports inside functions.
# ruff: noqa: PLC0415


@dataclass(slots=True)
class Item:
    """One image on its way to one target.

    `names` are the full ones that it gets there. `present` tells that the target has this very image, so that nothing
    is fetched; `manifest` is that image's, with its media type, where the target is a registry. `image_id` is what the
    target calls it, once that is certain; `sent` is in bytes. `kept` are the images that its names pointed to before,
    with the names that they keep, `pruned` those of its repositories that went.
    """

    wanted: Wanted
    source: SourceImage
    plan: Plan
    names: tuple[str, ...]
    present: bool = False
    manifest: tuple[str, bytes] | None = None
    route: Route = NO_ROUTE
    image_id: str = ""
    summary: Summary | None = None
    sent: int = 0
    estimate: WireEstimate | None = None
    before: tuple[NamedImage, ...] | None = None
    #: Bytes of the layers that were there from an earlier try.
    resumed: int = 0
    kept: tuple[NamedImage, ...] = ()
    pruned: tuple[NamedImage, ...] = ()

    @property
    def image(self) -> Image:
        return self.source.image


@dataclass(slots=True)
class Tried:
    """What is known of a push that may fail: who has answered, how each image goes there, the bytes of the last try."""

    greeted: Greeted | None = None
    items: Sequence[Item] = ()
    sent: int = 0
    before: NamesBefore = field(default_factory=NamesBefore)


class Destination(Protocol):
    """What a kind of target does in the flow, in this order. Any of it raises `LayerferryError`."""

    #: Whether an image that is there for several platforms goes as the one for the target's.
    has_platform: bool

    @property
    def sent(self) -> int:
        """Bytes that have gone to it so far."""

    def ask(self, wanted: Sequence[Wanted], candidates: Sequence[Sequence[SourceImage]]) -> None:
        """Ask what there is of the images, each of which may come for one of several platforms."""

    def greet(self) -> Greeted:
        """Who answers, which has been connected to meanwhile."""

    def plan(self, wanted: Sequence[Wanted], candidates: Sequence[Sequence[SourceImage]]) -> list[Item]:
        """Take, of each image, the one that suits the target, and tell from what is there what has to be sent."""

    def resolve(self, items: Sequence[Item]) -> None:
        """Tell each item, for a dry run, what its names stand for there now, where that is to be had."""

    def rate(self) -> float | None:
        """Bytes a second that the line to the target carries, for a dry run; None where that is not to be measured."""

    def deliver(self, items: Sequence[Item]) -> None:
        """Fetch and send what is missing, verify it, give the names. Tells each item what came of it."""

    @property
    def follow(self) -> "Callable[[FollowUp, Sequence[Item]], Followed] | None":
        """Does what follows a push, once; what fails of it is told, not raised. None: a registry runs nothing."""

    def prune(self, items: Sequence[Item]) -> None:
        """Remove the images that are needed no longer; in a dry run, tell each item which."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Some images to one target."""

    wanted: Sequence[Wanted]
    options: Options
    emit: Emit
    #: Waits until what follows may be done on this target; why it must not be, or nothing.
    turn: Callable[[], str] = str
    #: Of one target; told while it is delivered to.
    tried: Tried = field(default_factory=Tried)

    def run(
        self, connect: Callable[[], AbstractContextManager[Destination]], open_source: Callable[[], Source]
    ) -> list[Result]:
        """Push, and tell what came of it. The connection is made while the source is still looked at.

        Raises `LayerferryError`; the target then has its old images under their old names, and nothing of ours. Where
        it failed while names were given, its hint says which of them have the new image, or may.
        """
        start = time.monotonic()
        self.tried.sent = 0
        with connect() as destination, self._counting(destination), contextlib.closing(open_source()) as source:
            candidates = [self._open(source, wanted.reference, destination) for wanted in self.wanted]
            destination.ask(self.wanted, candidates)
            source.prepare()
            greeted = self.tried.greeted = destination.greet()
            self.emit(greeted)
            items = self.tried.items = destination.plan(self.wanted, candidates)
            for item in items:
                if not item.names:
                    raise nameless(item.wanted.reference)
            _share(items)
            source.expect([(item.source, item.plan) for item in items if not item.present])
            for item in items:
                if not item.present:
                    item.route = item.source.choose(item.plan)
                self.emit(Planned(greeted.target, item.plan, item.route, self.options.source))
            if self.options.dry_run:
                destination.resolve(items)
                _estimate(items, destination.rate)
            else:
                destination.deliver(items)
            followed = self._follow(destination, items, greeted.target)
            if self.options.prune is not None and not (followed and followed.error):
                destination.prune(items)
        results = [self.result(greeted, item, time.monotonic() - start) for item in items]
        if not followed:
            return results
        return [replace(result, ran=followed.ran, up=followed.up, error=followed.error) for result in results]

    def _follow(self, destination: Destination, items: Sequence[Item], target: str) -> "Followed | None":
        """Do what follows, when it is this target's turn; None where nothing does, or a registry would have to."""
        if self.options.follow_up is None or destination.follow is None:
            return None
        from layerferry.push.following import foresee, not_done

        if self.options.dry_run:
            foresee(self.options, target, self.emit)
            return None
        why_not = self.turn()
        return not_done(target, why_not) if why_not else destination.follow(self.options.follow_up, items)

    @contextlib.contextmanager
    def _counting(self, destination: Destination) -> Iterator[None]:
        """Where it fails, keep how much had been sent; an error tells that, too."""
        try:
            yield
        except BaseException as error:
            self.tried.sent = destination.sent
            if isinstance(error, LayerferryError):
                error.sent = destination.sent
            raise

    def _open(self, source: Source, reference: str, destination: Destination) -> tuple[SourceImage, ...]:
        """The image; where it is there for several platforms, and the target will say which, one for each."""
        try:
            try:
                return (source.open(reference, self.options.platform),)
            except SeveralPlatformsError as several:
                if not destination.has_platform:
                    raise
                return tuple(source.open(reference, platform) for platform in several.choices)
        except LayerferryError as error:
            error.image = reference
            raise

    def result(self, greeted: Greeted, item: Item, seconds: float) -> Result:
        """The result of one image, as far as it is known."""
        route, received = item.route, 0
        if item.summary is not None:
            route, received = item.summary.route or route, item.summary.received
        return Result(
            image=item.wanted.reference,
            target=greeted.target,
            route=route,
            engine=greeted.engine,
            steps=item.plan.steps,
            bytes=Bytes(item.image.size, item.plan.delta, item.sent, received, item.resumed),
            sizes=item.image.sizes_are,
            seconds=seconds,
            image_id=item.image_id,
            verified=bool(item.image_id) and not self.options.dry_run,
            names=item.names,
            platform=str(item.image.platform),
            dry_run=self.options.dry_run,
            kept=item.kept,
            pruned=item.pruned,
            estimate=item.estimate,
            before=item.before,
            source=self.options.source,
        )


def _share(items: Sequence[Item]) -> None:
    """Tell, of each image, which layers come with an earlier one."""
    before: list[Plan] = []
    for item in items:
        if not item.present:
            item.plan = item.plan.after(before)
            before.append(item.plan)


def _estimate(items: Sequence[Item], rate: Callable[[], float | None]) -> None:
    """Tell, of each image, what would go on the wire. The line is only measured where something would."""
    expected = [0 if item.present else wire_bytes(item.plan, item.source.held) for item in items]
    carried = rate() if any(expected) else None
    for item, count in zip(items, expected, strict=True):
        item.estimate = WireEstimate(count, count / carried if carried else None)
