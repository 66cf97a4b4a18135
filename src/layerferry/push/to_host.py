"""A host as the destination of a push: one conversation, one delta archive, a load, a look at what the engine shows."""

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from layerferry import log
from layerferry.compression.stream import Compression, Method
from layerferry.errors import LayerferryError, TargetError
from layerferry.events import Emit, Greeted, Stalled, Warned
from layerferry.oci.image import Image, Platform
from layerferry.oci.manifest import pick
from layerferry.oci.plan import complete, plan
from layerferry.oci.store_kind import StoreKind
from layerferry.protocol import Capability
from layerferry.push.delivery import Item
from layerferry.push.host_load import HostLoad
from layerferry.push.request import Options, Wanted
from layerferry.push.way_back import NamesBefore
from layerferry.result import NamedImage
from layerferry.sources import SourceImage
from layerferry.targets.address import Target
from layerferry.targets.conduit import Conduit
from layerferry.targets.conversation import Conversation
from layerferry.targets.greeting import Holding
from layerferry.targets.host.script import FOLLOWING, UPKEEP
from layerferry.targets.inventory import Knowledge, inventory, learn
from layerferry.targets.link import Link

if TYPE_CHECKING:
    from layerferry.push.compose_up import ComposeUp
    from layerferry.push.follow_up import FollowUp
    from layerferry.push.following import Followed
    from layerferry.push.upkeep import Upkeep

# What few pushes need is loaded where it is needed: hence the imports inside functions.
# ruff: noqa: PLC0415


@contextlib.contextmanager
def connect_host(target: Target, options: Options, emit: Emit, before: NamesBefore) -> Iterator["HostDestination"]:
    """`before` is what earlier tries know of its names."""
    with target.connect() as conduit:
        yield HostDestination(conduit, options, emit, target.connect, before)


class HostDestination:
    """A host: an engine behind a conduit."""

    has_platform = True

    def __init__(
        self, conduit: Conduit, options: Options, emit: Emit, link: Link[Conduit], before: NamesBefore
    ) -> None:
        self._conduit = conduit
        self._link = link
        self._options = options
        self._emit = emit
        self._before = before
        self._conversation = Conversation(
            conduit,
            options.engine,
            dry_run=options.dry_run,
            told=lambda text: emit(Stalled(conduit.name, text)),
            also=(*(UPKEEP if options.has_upkeep else ()), *(FOLLOWING if options.follow_up else ())),
        )
        self._upkeep = self._open_upkeep() if options.has_upkeep else None

    def _open_upkeep(self) -> "Upkeep":
        from layerferry.push.upkeep import Upkeep

        return Upkeep(self._conversation, self._options, self._emit, self._before)

    def _open_up(self, wanted: "FollowUp | None") -> "ComposeUp | None":
        """What brings services up; raises `TargetError` where the target is none for it."""
        if wanted is None or wanted.up is None:
            return None
        from layerferry.push.compose_up import ComposeUp, dial

        words = dial(self._conduit, self._greeting, self._options.engine)
        return ComposeUp(self._conduit, words, wanted.up, wanted.seconds)

    @property
    def sent(self) -> int:
        return self._conduit.sent

    @property
    def _target(self) -> str:
        return self._conversation.target

    def ask(self, wanted: Sequence[Wanted], candidates: Sequence[Sequence[SourceImage]]) -> None:
        named = [wish.names or images[0].names for wish, images in zip(wanted, candidates, strict=True)]
        images = [candidate.image for images in candidates for candidate in images]
        self._conversation.ask(images, self._upkeep.announced(named) if self._upkeep else ())

    def greet(self) -> Greeted:
        self._greeting = self._conversation.greeting()
        if self._upkeep:
            self._upkeep.check(self._greeting)
        self._up = self._open_up(self._options.follow_up)
        hint = "" if self._conversation.pins else self._greeting.hint
        return Greeted(self._target, str(self._greeting), str(self._greeting.platform), hint)

    def plan(self, wanted: Sequence[Wanted], candidates: Sequence[Sequence[SourceImage]]) -> list[Item]:
        platform = self._greeting.platform
        images = [_for(platform, choices) for choices in candidates]
        chosen = [source.image for source in images]
        for image in chosen:
            if image.id not in self._greeting.holdings:
                raise TargetError(f"{self._target} does not say what it has of {image.reference}")
        knowledge = learn(self._conversation, self._conduit, self._greeting, chosen, self._fault)
        items = [self._plan(*pair, knowledge) for pair in zip(wanted, images, strict=True)]
        self._check_room(items)
        return items

    def _check_room(self, items: Sequence[Item]) -> None:
        """A layer takes no less room than it has bytes: an engine keeps it as files, and most as a tar before that."""
        layers = {step.diff_id: step.size for item in items if not item.present for step in item.plan.sent}
        needed, free = sum(layers.values()), self._greeting.free
        if free is not None and free < needed:
            raise TargetError(
                f"{self._target}: its disk is full ({free} bytes free where its engine keeps layers, {needed} needed)",
                hint="Free some space there, with `docker image prune` for one.",
            )

    def _plan(self, wanted: Wanted, source: SourceImage, knowledge: Knowledge) -> Item:
        image, store = source.image, self._greeting.store
        self._check_platform(image)
        names = wanted.names or source.names
        holding = self._greeting.holdings[image.id]
        there = image.id if holding.present else knowledge.same(image, holding)
        if there or (store is not StoreKind.BLOB and (there := _under_another_id(source, holding))):
            return Item(wanted, source, complete(image), names, present=True, image_id=there)
        return Item(wanted, source, plan(image, inventory(image, holding, store, knowledge)), names)

    def _fault(self, error: Exception) -> None:
        self._emit(Warned("this machine", log.fault("layerferry", error)))

    def _check_platform(self, image: Image) -> None:
        platform = self._greeting.platform
        if not self._options.allow_platform_mismatch and not platform.runs(image.platform):
            raise TargetError(
                f"{image.reference} is for {image.platform}, {self._target} runs {platform}",
                hint="Build it for the target's platform, or say --allow-platform-mismatch.",
            )

    def resolve(self, items: Sequence[Item]) -> None:
        if not self._conversation.takes(Capability.NAMES):
            return
        from layerferry.targets.named_images import resolve

        there = resolve(self._conversation, [name for item in items for name in item.names])
        for item in items:
            ids = dict.fromkeys(there[name] for name in item.names if name in there)
            item.before = tuple(
                NamedImage(one, tuple(name for name in item.names if there.get(name) == one)) for one in ids
            )

    def rate(self) -> float | None:
        if not (self._conduit.is_ssh and self._conversation.takes_any_line):
            return None
        from layerferry.targets.line_rate import line_rate

        with contextlib.suppress(LayerferryError):  # who hangs up on it has answered all that a dry run asks
            return line_rate(self._conduit)
        return None

    def deliver(self, items: Sequence[Item]) -> None:
        """One archive holds all that is missing. What it was loaded as is verified before any name is given."""
        compression = Compression(Method.NONE) if self._conduit.is_here else self._options.compression
        method = compression.choose(self._greeting.accept)
        if method is None:
            raise TargetError(
                f"{self._target} does not take {self._options.compression.method}",
                hint=f"It takes {', '.join(self._greeting.accept)}.",
            )
        self._show_signatures(items)
        absent = [item for item in items if not item.present]
        loading = HostLoad(self._conversation, self._conduit, self._greeting, self._options, self._emit)
        loaded = iter(loading.load(absent, method) if absent else ())
        names = [(item.image_id if item.present else next(loaded), item.names) for item in items]
        if self._upkeep or self._options.follow_up or not all(map(self._is_named, items)):
            self._commit(names, items)
        shares = _shares(self.sent, [item.plan.delta for item in items])
        for item, share in zip(items, shares, strict=True):
            item.sent = share

    def _commit(self, names: Sequence[tuple[str, Sequence[str]]], items: Sequence[Item]) -> None:
        """Give the names. What they stood for is told meanwhile, and known to the next try where this one fails."""
        kept = self._upkeep.keep(items) if self._upkeep else ()
        try:
            self._conversation.commit(names, kept)
        except BaseException:
            self._learn(items, self._conversation.was)
            self._before.broke_off(name for item in items for name in item.names)
            raise

    def _learn(self, items: Sequence[Item], told: Collection[str]) -> dict[str, str]:
        """The image IDs that the names among `told` stood for before the push."""
        found: dict[str, str] = {}
        for item in items:
            found |= self._before.of(
                [name for name in item.names if name in told], item.image_id, self._conversation.was
            )
        return found

    def _is_named(self, item: Item) -> bool:
        """Whether the target has told, in this session, that it has the image under all of its names already."""
        return item.present and self._greeting.holdings[item.image.id].names.issuperset(item.names)

    def prune(self, items: Sequence[Item]) -> None:
        if self._upkeep and self._options.follow_up and not self._options.dry_run:
            self._prune_anew(self._upkeep, items)
        elif self._upkeep:
            self._upkeep.prune(items)

    def _prune_anew(self, upkeep: "Upkeep", items: Sequence[Item]) -> None:
        """In a session of its own: what guards a command there has read on in this one."""
        try:
            self._link.renew()
            with self._link() as conduit:
                conversation = Conversation(conduit, self._options.engine, also=UPKEEP)
                conversation.ask(())
                conversation.greeting()
                conversation.commit(())
                upkeep.prune(items, conversation)
        except LayerferryError as error:
            self._emit(Warned(self._target, f"no image was removed: {error.after(self._target)}"))

    def follow(self, wanted: "FollowUp", items: Sequence[Item]) -> "Followed":
        """In the same session, whose connection may break from now on without the push being tried again."""
        from layerferry.push.following import Named, follow, not_known, way_back

        names = {name: item.image_id for item in items for name in item.names}
        before = self._learn(items, names)
        named = [Named(name, image_id, before.get(name, "")) for name, image_id in names.items()]

        def back() -> str:
            kept = {image.image_id for item in items for image in item.kept} if self._conduit.is_ssh else ()
            told = way_back(self._target, self._greeting.engine, named, kept, self._options.keep_previous)
            return not_known(self._target, self._before.unknown & names.keys()) or told

        return follow(self._conversation, wanted, named, self._emit, back, up=self._up)

    def _show_signatures(self, items: Sequence[Item]) -> None:
        """Show who has signed the images, where the target wants to know."""
        offer, required = self._options.offer, self._greeting.signers
        if not required:
            if offer is not None:
                self._emit(Warned(self._target, "it does not ask for signatures: nothing there checks them"))
            return
        for item in items:
            signed = offer.on(item.image, item.source.fetch_config_id(), item.names) if offer is not None else []
            if len(signed) < required:
                raise TargetError(
                    f"{self._target} takes {item.wanted.reference} with the signatures of {required} signers, "
                    f"and there are {len(signed)} here",
                    hint="Sign it, `layerferry sign IMAGE --key KEY --output FILE`, and push it with --signature FILE; "
                    "or push it with --sign-key KEY.",
                )
            self._conversation.show(one.words for one in signed)


def _under_another_id(source: SourceImage, holding: Holding) -> str:
    """The target's image ID of this very image, if it has all of its layers in one; docker's stores differ in IDs."""
    whole = bool(holding.holder) and holding.depth == len(source.image.layers)
    return holding.holder if whole and source.fetch_config_id() == holding.holder else ""


def _for(platform: Platform, images: Sequence[SourceImage]) -> SourceImage:
    """The image for a target's platform; any, where there is none for it: that is told later."""
    return pick([(source.image.platform, source) for source in images], platform) or images[0]


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """Divide the bytes of a session among its images by the sizes of their deltas; they add up to `total`."""
    whole = sum(weights)
    shares = [total * weight // whole if whole else total // len(weights) for weight in weights]
    shares[0] += total - sum(shares)
    return shares
