"""One source for many targets: each layer is read once, and kept in a file until the last target has it.

The targets that are at work say what they lack before the first layer is read; what all of them lack together is read
in one go, and each takes a layer from its file while that still grows. Who comes later finds most of it there.
"""

import contextlib
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from layerferry.compression.stream import Compression
from layerferry.errors import LayerferryError, SourceError
from layerferry.events import Route
from layerferry.oci.delta_archive import Blob, Content
from layerferry.oci.image import Descriptor, Image, Platform
from layerferry.oci.plan import Action, Inventory, Plan, Step
from layerferry.push.kept_layers import KeptLayers
from layerferry.sources import Source
from layerferry.temporary import TemporaryFolder

#: Seconds that targets which know what they lack wait for those that still connect.
_PATIENCE = 3.0
#: Seconds that an interrupted read has to end by itself.
_LAST_BREATH = 15.0


@dataclass(frozen=True, slots=True)
class _KnownContent:
    """What is known of an image that was read."""

    config: bytes
    descriptors: Mapping[str, Descriptor]
    manifest: tuple[str, bytes] | None
    received: int
    route: Route | None


@dataclass(slots=True)
class _Round:
    """What some targets lack together, and how it comes."""

    #: When the first of them has joined.
    began: float = math.inf
    plans: dict[str, Plan] = field(default_factory=dict)
    routes: dict[str, Route | LayerferryError] = field(default_factory=dict)
    closed: bool = False
    started: bool = False
    error: LayerferryError | None = None

    def add(self, plan: Plan) -> None:
        before = self.plans.get(plan.image.id)
        self.plans[plan.image.id] = _wanting(plan.image, plan.wanted | (before.wanted if before else frozenset()))


def _wanting(image: Image, wanted: frozenset[str]) -> Plan:
    """A plan that has just `wanted` sent. It is of no one target, so that no inventory is known."""
    steps = (Step(layer, Action.SEND if layer.diff_id in wanted else Action.REUSE, "") for layer in image.layers)
    return Plan(image, tuple(steps), Inventory())


class Shared:
    """Opens one source for `at_once` targets at a time; each has a `seat`. Safe to be used from several threads."""

    def __init__(self, open_source: Callable[[], Source], compression: Compression, at_once: int) -> None:
        self._stack = contextlib.ExitStack()
        self._open_source = open_source
        self._source: Source | None = None
        #: Held while the source is used.
        self._use = threading.RLock()
        #: Guards everything below, and tells of its changes.
        self._news = threading.Condition()
        self._compression = compression
        self._inspected: dict[tuple[str, Platform | None], Image | LayerferryError] = {}
        self._names: dict[tuple[str, str], tuple[str, ...]] = {}
        self._prepared = False
        self._at_once = self._undecided = at_once
        self._seated = 0
        self._round = _Round()
        self._known: dict[str, _KnownContent] = {}
        self._reading: contextlib.ExitStack | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def __enter__(self) -> Self:
        self._spool = Path(self._stack.enter_context(TemporaryFolder()))
        self._layers = KeptLayers(self._spool, self._compression, self._news)
        return self

    def break_off(self) -> None:
        """Whoever still waits for a layer gets an error, and a read that goes on ends."""
        with self._news:
            self._closed = True
            self._news.notify_all()
            reading = self._reading
        if reading is not None:
            reading.close()

    def __exit__(self, *exception: object) -> None:
        self.break_off()
        if self._thread is not None:
            self._thread.join(_LAST_BREATH)
        if self._source is not None:
            self._source.close()
        self._stack.close()

    def seat(self) -> "SharedReader":
        """A target's view of the source. Close it: others wait for who has one and does not say what it lacks."""
        with self._news:
            self._seated += 1
            if self._seated > self._at_once:
                self._undecided += 1
        return SharedReader(self)

    # What the seats ask for.

    def _opened(self) -> Source:
        """The one source; hold `_use` while it is used."""
        self._source = self._source or self._open_source()
        return self._source

    def inspect(self, reference: str, platform: Platform | None) -> Image:
        key = reference, platform
        if key not in self._inspected:  # who comes while a layer is read need not wait for it
            with self._use:
                if key not in self._inspected:
                    try:
                        self._inspected[key] = self._opened().inspect(reference, platform)
                    except LayerferryError as error:
                        self._inspected[key] = error
        found = self._inspected[key]
        if isinstance(found, LayerferryError):
            raise found
        return found

    def names(self, image: Image) -> tuple[str, ...]:
        key = image.reference, image.id
        if key not in self._names:
            with self._use:
                self._names[key] = self._opened().names(image)
        return self._names[key]

    def held(self, image: Image) -> Mapping[str, Descriptor]:
        with self._use:
            return self._opened().held(image)

    def config_id(self, image: Image) -> str:
        with self._use:
            return self._opened().config_id(image)

    def prepare(self) -> None:
        if not self._prepared:
            with self._use:
                self._opened().prepare()
                self._prepared = True

    def join(self, plans: Sequence[Plan]) -> _Round:
        """Say what one target lacks, and wait for the others that are at work."""
        with self._news:
            here = self._round
            here.began = min(here.began, time.monotonic())
            for plan in plans:
                here.add(plan)
            self._undecided -= 1
            self._news.notify_all()
            while self._undecided > 0 and not here.closed and not self._closed:
                if not self._news.wait(max(0.0, here.began + _PATIENCE - time.monotonic())):
                    break
            if not here.closed:
                here.closed = True
                self._round = _Round()
                self._news.notify_all()
        return here

    def leave(self) -> None:
        """Somebody will not say what it lacks."""
        with self._news:
            self._undecided -= 1
            self._news.notify_all()

    def route(self, here: _Round, image: Image) -> Route:
        with self._use:
            for plan in here.plans.values():
                if plan.image.id not in here.routes:
                    try:
                        here.routes[plan.image.id] = self._opened().choose(self._lacking(plan))
                    except LayerferryError as error:
                        here.routes[plan.image.id] = error
        route = here.routes[image.id]
        if isinstance(route, LayerferryError):
            raise route
        return route

    def start(self, here: _Round) -> None:
        """Read what a round lacks, in a thread of its own."""
        with self._news:
            if here.started:
                return
            here.started = True
            before = self._thread
            self._thread = threading.Thread(target=self._read, args=(here, before), daemon=True)
            self._thread.start()

    def blobs(self, here: _Round, wanted: frozenset[str]) -> Iterator[Blob]:
        return self._layers.blobs(wanted, lambda: self._wait(here))

    def known(self, here: _Round, image: Image) -> _KnownContent:
        """What reading an image has told; waits until it has been read."""
        with self._news:
            while image.id not in self._known:
                self._wait(here)
            return self._known[image.id]

    def _wait(self, here: _Round) -> None:
        if here.error is not None:
            raise here.error
        self._go_on()
        self._news.wait()

    # The thread that reads.

    def _lacking(self, plan: Plan) -> Plan:
        return _wanting(plan.image, plan.wanted - self._layers.here)

    def _go_on(self) -> None:
        if self._closed:
            raise SourceError("reading was broken off")

    def _read(self, here: _Round, before: threading.Thread | None) -> None:
        try:
            if before is not None:
                before.join()
            with self._use:
                for plan in here.plans.values():
                    if not self._closed:
                        self._read_image(self._lacking(plan), here.routes[plan.image.id])
        except LayerferryError as error:
            here.error = error
        except OSError as error:
            here.error = SourceError(f"layers cannot be kept in {self._spool}: {error.strerror or error}")
        except BaseException as error:  # noqa: BLE001 - the targets wait for it
            here.error = SourceError(f"reading failed: {error!r}")
        finally:
            with self._news:
                self._layers.forget_parts(here.error)
                self._news.notify_all()

    def _read_image(self, plan: Plan, route: Route | LayerferryError) -> None:
        image = plan.image
        if isinstance(route, LayerferryError) or (image.id in self._known and not plan.wanted):
            return
        folder = Path(tempfile.mkdtemp(dir=self._spool))
        with contextlib.ExitStack() as stack:
            with self._news:
                self._reading = stack
            content = stack.enter_context(self._opened().fetch(plan, route, plan.wanted, folder))
            for blob in content.blobs():
                self._layers.keep(blob, self._go_on)
            known = self._known.get(image.id)
            received = content.received + (known.received if known else 0)
            descriptors = {**(known.descriptors if known else {}), **content.descriptors}
            instead = getattr(content, "route", None)
            told = _KnownContent(content.config, descriptors, content.manifest, received, instead)
            with self._news:
                self._reading = None
                self._known[image.id] = told
                self._news.notify_all()


class SharedReader:
    """One target's view of a shared source. A `sources.Source`."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._round: _Round | None = None
        self._left = False

    def inspect(self, reference: str, platform: Platform | None = None) -> Image:
        return self._shared.inspect(reference, platform)

    def names(self, image: Image) -> tuple[str, ...]:
        return self._shared.names(image)

    def held(self, image: Image) -> Mapping[str, Descriptor]:
        return self._shared.held(image)

    def config_id(self, image: Image) -> str:
        return self._shared.config_id(image)

    def prepare(self) -> None:
        self._shared.prepare()

    def expect(self, plans: Sequence[Plan]) -> None:
        if not self._left:
            self._left = True
            self._round = self._shared.join(plans)

    def choose(self, plan: Plan) -> Route:
        assert self._round is not None, "expect() comes before choose()"
        return self._shared.route(self._round, plan.image)

    def fetch(self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path) -> AbstractContextManager[Content]:
        del route, spool
        assert self._round is not None, "expect() comes before fetch()"
        self._shared.start(self._round)
        return contextlib.nullcontext(_Taken(self._shared, self._round, plan.image, wanted))

    def close(self) -> None:
        if not self._left:
            self._left = True
            self._shared.leave()


class _Taken:
    """The content of one image, for one target. A `delta_archive.Content`."""

    def __init__(self, shared: Shared, here: _Round, image: Image, wanted: frozenset[str]) -> None:
        self._shared = shared
        self._round = here
        self._image = image
        self._wanted = wanted

    def blobs(self) -> Iterator[Blob]:
        return self._shared.blobs(self._round, self._wanted)

    @property
    def _known(self) -> _KnownContent:
        return self._shared.known(self._round, self._image)

    @property
    def config(self) -> bytes:
        return self._known.config

    @property
    def descriptors(self) -> Mapping[str, Descriptor]:
        return self._known.descriptors

    @property
    def manifest(self) -> tuple[str, bytes] | None:
        return self._known.manifest

    @property
    def received(self) -> int:
        return self._known.received

    @property
    def route(self) -> Route | None:
        return self._known.route
