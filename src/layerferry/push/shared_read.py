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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from layerferry import log
from layerferry.compression.stream import Compression
from layerferry.errors import LayerferryError, SourceError
from layerferry.oci.content import Blob, Content, Route, Summary, check_given
from layerferry.oci.image import Descriptor, Image, Platform
from layerferry.oci.plan import Action, Inventory, Plan, Step
from layerferry.push.kept_layers import KeptLayers
from layerferry.sources import Source, SourceImage
from layerferry.temporary import TemporaryFolder

#: Seconds that targets which know what they lack wait for those that still connect.
_WAIT_FOR_OTHERS = 3.0
#: Seconds that an interrupted read has to end by itself.
_LAST_WAIT = 15.0


class _SharedImage:
    """An image of the one source, and what has become known of it by reading it."""

    def __init__(self, opened: SourceImage) -> None:
        self.opened = opened
        self.summary: Summary | None = None

    def add(self, summary: Summary) -> None:
        """Take in what a further read of other layers has told."""
        if (before := self.summary) is not None:
            descriptors = {**before.descriptors, **summary.descriptors}
            summary = replace(summary, descriptors=descriptors, received=before.received + summary.received)
        self.summary = summary


@dataclass(slots=True)
class _Round:
    """What some targets lack together, and how it comes."""

    #: When the first of them has joined.
    began: float = math.inf
    plans: dict[_SharedImage, Plan] = field(default_factory=dict)
    routes: dict[_SharedImage, Route | LayerferryError] = field(default_factory=dict)
    closed: bool = False
    started: bool = False
    error: LayerferryError | None = None

    def add(self, image: _SharedImage, plan: Plan) -> None:
        before = self.plans.get(image)
        self.plans[image] = _wanting(plan.image, plan.wanted | (before.wanted if before else frozenset()))


def _wanting(image: Image, wanted: frozenset[str]) -> Plan:
    """A plan that has just `wanted` sent. It is of no one target, so that no inventory is known."""
    steps = (Step(layer, Action.SEND if layer.diff_id in wanted else Action.REUSE, "") for layer in image.layers)
    return Plan(image, tuple(steps), Inventory())


class SharedSource:
    """Opens one source for `at_once` targets at a time; each has a `reader`. Safe to be used from several threads."""

    def __init__(self, open_source: Callable[[], Source], compression: Compression, at_once: int) -> None:
        self._stack = contextlib.ExitStack()
        self._open_source = open_source
        self._source: Source | None = None
        #: Held while the source is used.
        self._use = threading.RLock()
        #: Guards everything below, and tells of its changes.
        self._news = threading.Condition()
        self._compression = compression
        self._images: dict[tuple[str, Platform | None], _SharedImage | LayerferryError] = {}
        self._prepared = False
        self._at_once = self._undecided = at_once
        self._readers = 0
        self._round = _Round()
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
        if self._source is not None:
            self._source.break_off()
        if reading is not None:
            reading.close()

    def __exit__(self, *exception: object) -> None:
        self.break_off()
        if self._thread is not None:
            self._thread.join(_LAST_WAIT)
        if self._source is not None:
            self._source.close()
        self._stack.close()

    def reader(self) -> "SharedReader":
        """A target's view of the source. Close it: others wait for who has one and does not say what it lacks."""
        with self._news:
            self._readers += 1
            if self._readers > self._at_once:
                self._undecided += 1
        return SharedReader(self)

    # What the readers ask for.

    def _opened(self) -> Source:
        """The one source; hold `_use` while it is used."""
        self._source = self._source or self._open_source()
        return self._source

    def open(self, reference: str, platform: Platform | None) -> _SharedImage:
        key = reference, platform
        if key not in self._images:  # who comes while a layer is read need not wait for it
            with self._use:
                if key not in self._images:
                    try:
                        self._images[key] = _SharedImage(self._opened().open(reference, platform))
                    except LayerferryError as error:
                        self._images[key] = error
        found = self._images[key]
        if isinstance(found, LayerferryError):
            raise found
        return found

    def fetch_config_id(self, image: _SharedImage) -> str:
        with self._use:
            return image.opened.fetch_config_id()

    def prepare(self) -> None:
        if not self._prepared:
            with self._use:
                self._opened().prepare()
                self._prepared = True

    def join(self, plans: Sequence[tuple[_SharedImage, Plan]]) -> _Round:
        """Say what one target lacks, and wait for the others that are at work."""
        with self._news:
            here = self._round
            here.began = min(here.began, time.monotonic())
            for image, plan in plans:
                here.add(image, plan)
            self._undecided -= 1
            self._news.notify_all()
            while self._undecided > 0 and not here.closed and not self._closed:
                if not self._news.wait(max(0.0, here.began + _WAIT_FOR_OTHERS - time.monotonic())):
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

    def route(self, here: _Round, image: _SharedImage) -> Route:
        with self._use:
            for other, plan in here.plans.items():
                if other not in here.routes:
                    try:
                        here.routes[other] = other.opened.choose(self._lacking(plan))
                    except LayerferryError as error:
                        here.routes[other] = error
        route = here.routes[image]
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

    def summary(self, here: _Round, image: _SharedImage) -> Summary:
        """What reading an image has told; waits until it has been read."""
        with self._news:
            while image.summary is None:
                self._wait(here)
            return image.summary

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
                for image, plan in here.plans.items():
                    if not self._closed:
                        self._read_image(image, self._lacking(plan), here.routes[image])
        except LayerferryError as error:
            here.error = error
        except OSError as error:
            here.error = SourceError(f"layers cannot be kept in {self._spool}: {error.strerror or error}")
        except BaseException as error:  # noqa: BLE001 - the targets wait for it
            here.error = SourceError(f"reading failed: {log.fault('layerferry', error)}")
        finally:
            with self._news:
                self._layers.forget_parts(here.error)
                self._news.notify_all()

    def _read_image(self, image: _SharedImage, plan: Plan, route: Route | LayerferryError) -> None:
        if isinstance(route, LayerferryError) or (image.summary is not None and not plan.wanted):
            return
        folder = Path(tempfile.mkdtemp(dir=self._spool))
        with contextlib.ExitStack() as stack:
            with self._news:
                self._reading = stack
            content = stack.enter_context(image.opened.fetch(plan, route, plan.wanted, folder))
            for blob in content.blobs():
                self._layers.keep(blob, self._go_on)
            check_given(plan.wanted, self._layers.here, plan.image.reference)
            summary = content.finish()
            with self._news:
                self._reading = None
                image.add(summary)
                self._news.notify_all()


class SharedReader(Source):
    """One target's view of a shared source."""

    def __init__(self, shared: SharedSource) -> None:
        self.shared = shared
        self._round: _Round | None = None
        self._left = False

    def open(self, reference: str, platform: Platform | None = None) -> SourceImage:
        return _ReadersImage(self, self.shared.open(reference, platform))

    def prepare(self) -> None:
        self.shared.prepare()

    def expect(self, plans: Sequence[tuple[SourceImage, Plan]]) -> None:
        self.join([(image.shared, plan) for image, plan in plans if isinstance(image, _ReadersImage)])

    def join(self, plans: Sequence[tuple[_SharedImage, Plan]]) -> _Round:
        """The round that is for all that this target lacks: the first call says what that is."""
        if self._round is None:
            self._left = True
            self._round = self.shared.join(plans)
        return self._round

    def close(self) -> None:
        if not self._left:
            self._left = True
            self.shared.leave()


class _ReadersImage(SourceImage):
    """A shared image, for one target."""

    def __init__(self, reader: SharedReader, shared: _SharedImage) -> None:
        self._reader = reader
        self.shared = shared

    @property
    def image(self) -> Image:
        return self.shared.opened.image

    @property
    def names(self) -> tuple[str, ...]:
        return self.shared.opened.names

    @property
    def held(self) -> Mapping[str, Descriptor]:
        return self.shared.opened.held

    def fetch_config_id(self) -> str:
        return self._reader.shared.fetch_config_id(self.shared)

    def choose(self, plan: Plan) -> Route:
        return self._reader.shared.route(self._reader.join([(self.shared, plan)]), self.shared)

    def fetch(self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path) -> AbstractContextManager[Content]:
        del route, spool
        here = self._reader.join([(self.shared, plan)])
        self._reader.shared.start(here)
        return contextlib.nullcontext(_SharedContent(self._reader.shared, here, self.shared, wanted))


class _SharedContent:
    """The content of one image, for one target."""

    def __init__(self, shared: SharedSource, here: _Round, image: _SharedImage, wanted: frozenset[str]) -> None:
        self._shared = shared
        self._round = here
        self._image = image
        self._wanted = wanted

    def blobs(self) -> Iterator[Blob]:
        return self._shared.blobs(self._round, self._wanted)

    def finish(self) -> Summary:
        return self._shared.summary(self._round, self._image)
