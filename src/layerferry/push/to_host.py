"""The flow of one push: source and target's inventory, plan, delta archive, conduit, load and verify, names, result."""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from layerferry import log
from layerferry.compression.stream import Method, compress
from layerferry.errors import LayerferryError, TargetError, VerificationError, interruption
from layerferry.events import SENDING_EVERY, Emit, Greeted, Loading, Planned, Route, Sending, Warned
from layerferry.oci.delta_archive import Archive, ArchiveBytes, ArchivedImage, Content, Manifest
from layerferry.oci.image import MEDIA_TYPE_LAYER_ZSTD, Image, Platform
from layerferry.oci.manifest import SeveralPlatformsError, pick
from layerferry.oci.plan import Plan, complete, plan
from layerferry.oci.store_kind import StoreKind
from layerferry.push.request import NO_ROUTE, Options, Wanted, nameless
from layerferry.result import Bytes, Result
from layerferry.sources import Source
from layerferry.sources.unpacked import Unpacked
from layerferry.targets.address import AnyTarget, Target
from layerferry.targets.conduit import Conduit
from layerferry.targets.conversation import Conversation
from layerferry.targets.greeting import Greeting, Holding
from layerferry.targets.inventory import Knowledge, inventory, learn
from layerferry.temporary import TemporaryFolder, sweep

# What most pushes do without is loaded when it is needed: hence the imports inside functions.
# ruff: noqa: PLC0415


#: Seconds. A signal that comes just before a wait is heard of after it (CPython looks for one before it blocks).
_SIGNALS_WAIT = 0.5


@dataclass(slots=True)
class _HostItem:
    """One image on its way to one target."""

    wanted: Wanted
    image: Image
    plan: Plan
    present: bool = False
    route: Route = NO_ROUTE
    incoming: str = ""
    image_id: str = ""
    received: int = 0
    fetched: Content | None = None
    names: tuple[str, ...] = ()


class Delivery:
    """Some images to one target, in one session."""

    def __init__(self, wanted: Sequence[Wanted], options: Options, emit: Emit) -> None:
        self._wanted = wanted
        self._options = options
        self._emit = emit

    def run(self, connect: Callable[[], Conduit], open_source: Callable[[], Source]) -> list[Result]:
        """Push, and tell what came of it. The session starts while the source is still being inspected.

        Raises `LayerferryError`; the target then has its old images under their old names, and nothing of ours.
        """
        start = time.monotonic()
        with connect() as conduit:
            conversation = Conversation(conduit, self._options.engine, dry_run=self._options.dry_run)
            with contextlib.closing(open_source()) as source:
                candidates = [self._inspect(source, wanted.reference) for wanted in self._wanted]
                conversation.ask(image for images in candidates for image in images)
                source.prepare()
                greeting = conversation.greeting()
                self._emit(Greeted(conversation.target, str(greeting), str(greeting.platform)))
                images = [_for(greeting.platform, images) for images in candidates]
                knowledge = learn(conversation, conduit, greeting, images, self._fault)
                items = self._plan(conversation, greeting, source, images, knowledge)
                for item in items:
                    item.names = item.wanted.names or source.names(item.image)
                    if not item.names:
                        raise nameless(item.wanted.reference)
                source.expect([item.plan for item in items if not item.present])
                for item in items:
                    if not item.present:
                        item.route = source.choose(item.plan)
                    self._emit(Planned(conversation.target, item.plan, item.route))
                if not self._options.dry_run:
                    self._deliver(conversation, conduit, greeting, source, items)
        return self._results(conversation.target, greeting, items, conduit.sent, time.monotonic() - start)

    def _fault(self, error: Exception) -> None:
        self._emit(Warned("this machine", log.fault(error)))

    def _inspect(self, source: Source, reference: str) -> tuple[Image, ...]:
        """The image; where it is there for several platforms and none was asked for, one for each."""
        try:
            return (source.inspect(reference, self._options.platform),)
        except SeveralPlatformsError as several:
            return tuple(source.inspect(reference, platform) for platform in several.choices)

    def _plan(
        self,
        conversation: Conversation,
        greeting: Greeting,
        source: Source,
        images: Sequence[Image],
        knowledge: Knowledge,
    ) -> list[_HostItem]:
        items = []
        for wanted, image in zip(self._wanted, images, strict=True):
            self._check_platform(conversation.target, greeting.platform, image)
            holding = greeting.holdings.get(image.id)
            if holding is None:
                raise TargetError(f"{conversation.target} does not say what it has of {image.reference}")
            there = image.id if holding.present else knowledge.same(image, holding)
            if there or (greeting.store is not StoreKind.BLOB and (there := _under_another_id(source, image, holding))):
                items.append(_HostItem(wanted, image, complete(image), present=True, image_id=there))
            else:
                here = inventory(image, holding, greeting.store, knowledge)
                items.append(_HostItem(wanted, image, plan(image, here)))
        return items

    def _check_platform(self, target: str, platform: Platform, image: Image) -> None:
        if not self._options.allow_platform_mismatch and not platform.runs(image.platform):
            raise TargetError(
                f"{image.reference} is for {image.platform}, {target} runs {platform}",
                hint="Build it for the target's platform, or say --allow-platform-mismatch.",
            )

    def _deliver(
        self, conversation: Conversation, conduit: Conduit, greeting: Greeting, source: Source, items: list[_HostItem]
    ) -> None:
        method = self._options.compression.choose(greeting.accept)
        if method is None:
            raise TargetError(
                f"{conversation.target} does not take {self._options.compression.method}",
                hint=f"It takes {', '.join(greeting.accept)}.",
            )
        absent = [item for item in items if not item.present]
        if absent:
            with contextlib.ExitStack() as stack:
                spool = Path(stack.enter_context(TemporaryFolder()))
                parcels = self._parcels(stack, greeting, source, absent, spool)
                archive = Archive(parcels, packed=method is Method.ZSTD)
                expected = {item.incoming: item.image.diff_ids for item in absent}
                stream = self._watched(conversation.target, conduit, archive, absent, method)
                shown = conversation.load(expected, method, stream)
                for item, parcel in zip(absent, archive.parcels, strict=True):
                    item.received = parcel.content.received
                    item.route = getattr(item.fetched, "route", None) or item.route
            for item, manifest in zip(absent, archive.manifests, strict=True):
                item.image_id = _verified(conversation.target, item, manifest, shown[item.incoming])
        conversation.commit({item.incoming or item.image_id: item.names for item in items})

    def _parcels(
        self, stack: contextlib.ExitStack, greeting: Greeting, source: Source, items: Sequence[_HostItem], spool: Path
    ) -> Iterator[ArchivedImage]:
        """A layer that several images want comes with the first of them; in a form that the engine can unpack."""
        coming: set[str] = set()
        for number, item in enumerate(items):
            item.incoming = _throw_away_name()
            wanted = item.plan.wanted - coming
            coming |= wanted
            folder = spool / str(number)
            folder.mkdir()
            content = item.fetched = stack.enter_context(source.fetch(item.plan, item.route, wanted, folder))
            if not greeting.takes_zstd_layers:
                content = Unpacked(content, {MEDIA_TYPE_LAYER_ZSTD}, folder)
            yield ArchivedImage(item.plan, content, item.incoming)

    def _watched(
        self, target: str, conduit: Conduit, archive: Archive, items: Sequence[_HostItem], method: Method
    ) -> Iterator[bytes]:
        """The archive's compressed stream; tells of its progress as it passes."""
        total = sum(item.plan.delta for item in items)
        done, told = 0, 0.0

        def pieces() -> Iterator[ArchiveBytes]:
            nonlocal done, told
            for piece in archive.pieces():
                yield piece
                done += piece.passed
                if time.monotonic() - told > SENDING_EVERY:
                    told = time.monotonic()
                    self._emit(Sending(target, min(done, total), total, conduit.sent))

        yield from compress(pieces(), method, self._options.compression.level)
        self._emit(Loading(target))

    def _results(
        self, target: str, greeting: Greeting, items: Sequence[_HostItem], sent: int, seconds: float
    ) -> list[Result]:
        deltas = [item.plan.delta for item in items]
        return [
            Result(
                image=item.wanted.reference,
                target=target,
                route=item.route,
                engine=str(greeting),
                steps=item.plan.steps,
                bytes=Bytes(item.image.size, item.plan.delta, share, item.received),
                seconds=seconds,
                image_id=item.image_id,
                verified=bool(item.image_id) and not self._options.dry_run,
                names=item.names,
                dry_run=self._options.dry_run,
            )
            for item, share in zip(items, _shares(sent, deltas), strict=True)
        ]


def fan_out(
    wanted: Sequence[Wanted],
    targets: Sequence[AnyTarget],
    options: Options,
    emit: Emit,
    open_source: Callable[[], Source],
    *,
    tell: Callable[[Sequence[Result]], None] = lambda _: None,
) -> list[Result]:
    """Push the images to every target, each in a session of its own, some at a time.

    Each layer is read once. One target's failure does not stop the others; of several, `tell` hears of each one's
    results as soon as they are there. A signal ends what is not done yet: those results have its error.
    """
    if said := sweep():
        emit(Warned("this machine", said))
    if len(targets) == 1:
        return _deliver(wanted, targets[0], options, emit, open_source)
    from layerferry.push.shared_read import Shared

    jobs = min(options.jobs, len(targets))
    fan = _Fan(tell)
    with Shared(open_source, options.compression, jobs) as shared, ThreadPoolExecutor(jobs) as pool:

        def deliver(target: AnyTarget) -> None:
            with contextlib.closing(shared.seat()) as seat:
                fan.add(target, _deliver(wanted, target, options, emit, lambda: seat))

        try:
            _wait({pool.submit(deliver, target) for target in targets})
        except BaseException as raised:
            fan.break_off(interruption(raised))
            pool.shutdown(wait=False, cancel_futures=True)
            shared.break_off()
            for target in targets:
                target.connect.hang_up()
            if fan.error is None:
                raise
    return [result for target in targets for result in fan.of(target) or _failed(wanted, target, fan.error)]


def _wait(deliveries: set[Future[None]]) -> None:
    """Wait for all of them; raises what one of them raised."""
    while deliveries:
        done, deliveries = wait(deliveries, _SIGNALS_WAIT, FIRST_COMPLETED)
        for delivery in done:
            delivery.result()


class _Fan:
    """The results of several targets, each told in the thread that it comes from: no signal cuts it short there."""

    def __init__(self, tell: Callable[[Sequence[Result]], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._results: dict[int, list[Result]] = {}
        #: The signal's, that has ended the push.
        self.error: LayerferryError | None = None

    def add(self, target: AnyTarget, results: list[Result]) -> None:
        """Keep and tell them, unless it is our own hanging up that has made them failures."""
        with self._lock:
            if self.error is None or not any(result.error for result in results):
                self._results[id(target)] = results
                self._tell(results)

    def break_off(self, error: LayerferryError | None) -> None:
        with self._lock:
            self.error = error

    def of(self, target: AnyTarget) -> list[Result] | None:
        return self._results.get(id(target))


def _deliver(
    wanted: Sequence[Wanted], target: AnyTarget, options: Options, emit: Emit, open_source: Callable[[], Source]
) -> list[Result]:
    log.note("step", f"begun: {target.name}")
    try:
        if isinstance(target, Target):
            results = Delivery(wanted, options, emit).run(target.connect, open_source)
        else:
            from layerferry.push.to_registry import RegistryDelivery

            results = RegistryDelivery(wanted, options, emit).run(target, open_source)
    except BaseException as raised:
        log.failure("error", raised)
        error = interruption(raised) or raised
        if not isinstance(error, LayerferryError):
            raise
        return _failed(wanted, target, error)
    for result in results:
        log.note(
            "step", f"done: {target.name}  {result.image} is {result.image_id or 'as it was'}, {result.seconds:.3f} s"
        )
    return results


def _failed(wanted: Sequence[Wanted], target: AnyTarget, error: LayerferryError | None) -> list[Result]:
    return [
        Result(image=item.reference, target=target.name, route=NO_ROUTE, names=item.names, error=error)
        for item in wanted
    ]


def _throw_away_name() -> str:
    """It tells when it was made: the next session takes away what is a day old, where an engine died with ours."""
    return f"localhost/layerferry:{int(time.time()):x}-{secrets.token_hex(8)}"


def _under_another_id(source: Source, image: Image, holding: Holding) -> str:
    """The target's image ID of this very image, if it has all of its layers in one; docker's stores differ in IDs."""
    whole = bool(holding.holder) and holding.depth == len(image.layers)
    return holding.holder if whole and source.config_id(image) == holding.holder else ""


def _for(platform: Platform, images: Sequence[Image]) -> Image:
    """The image for a target's platform; any, where there is none for it: that is told later."""
    return pick([(image.platform, image) for image in images], platform) or images[0]


def _verified(target: str, item: _HostItem, manifest: Manifest, shown: str) -> str:
    """The image ID that the target shows, if it is one of what we sent."""
    if shown not in manifest.ids:
        raise VerificationError(
            f"{target} shows {item.wanted.reference} as {shown}, which is not what was sent",
            hint="The old image is still there under its name.",
        )
    return shown


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """Divide the bytes of a session among its images by the sizes of their deltas; they add up to `total`."""
    whole = sum(weights)
    shares = [total * weight // whole if whole else total // len(weights) for weight in weights]
    shares[0] += total - sum(shares)
    return shares
