"""A docker daemon as a source; what leads out of it takes a while to load, and is opened while the target answers."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Protocol

from layerferry.oci.content import Content, Route
from layerferry.oci.image import Descriptor, Image, Platform
from layerferry.oci.plan import Plan
from layerferry.oci.store_kind import StoreKind
from layerferry.sources import Source, SourceImage
from layerferry.sources.daemon.api import Daemon, Inspected


class ImageRoutes(Protocol):
    """The routes that lead one image out of a daemon: of a `SourceImage` what needs them."""

    def fetch_config_id(self) -> str: ...

    def choose(self, plan: Plan) -> Route: ...

    def fetch(
        self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path
    ) -> AbstractContextManager[Content]: ...


class Routes(Protocol):
    """The routes that lead out of a daemon."""

    def of(self, inspected: Inspected) -> ImageRoutes: ...

    def close(self) -> None: ...


class DaemonImage(SourceImage):
    """An image in a daemon. Its blobs are known when it was pushed."""

    held: Mapping[str, Descriptor] = {}

    def __init__(self, inspected: Inspected, routes: Callable[[], Routes]) -> None:
        self._inspected = inspected
        self._open_routes = routes
        self._opened: ImageRoutes | None = None

    @property
    def image(self) -> Image:
        return self._inspected.image

    @property
    def names(self) -> tuple[str, ...]:
        """What the user called it, unless that was the beginning of its ID."""
        return self._inspected.names

    @property
    def _routes(self) -> ImageRoutes:
        self._opened = self._opened or self._open_routes().of(self._inspected)
        return self._opened

    def fetch_config_id(self) -> str:
        """A containerd store's image ID is another one; then a push that moves nothing tells it."""
        return self.image.id if self._inspected.store is StoreKind.CHAIN else self._routes.fetch_config_id()

    def choose(self, plan: Plan) -> Route:
        return self._routes.choose(plan)

    def fetch(self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path) -> AbstractContextManager[Content]:
        return self._routes.fetch(plan, route, wanted, spool)


class DaemonSource(Source):
    """A docker daemon: it shows its images, and the routes that `open_routes` gives bring them."""

    def __init__(self, daemon: Daemon, open_routes: Callable[[Daemon], Routes]) -> None:
        self._daemon = daemon
        self._open_routes = open_routes
        self._routes: Routes | None = None

    def open(self, reference: str, platform: Platform | None = None) -> SourceImage:
        return DaemonImage(self._daemon.inspect(reference, platform), self._opened)

    def prepare(self) -> None:
        self._opened()

    def _opened(self) -> Routes:
        self._routes = self._routes or self._open_routes(self._daemon)
        return self._routes

    def break_off(self) -> None:
        self._daemon.break_off()

    def close(self) -> None:
        with closing(self._daemon):
            if self._routes is not None:
                self._routes.close()
