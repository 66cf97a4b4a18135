"""A docker daemon as a source; what leads out of it takes a while to load, and is opened while the target answers."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from layerferry.events import Route
from layerferry.oci.delta_archive import Content
from layerferry.oci.image import Descriptor, Image, Platform
from layerferry.oci.plan import Plan
from layerferry.oci.store_kind import StoreKind
from layerferry.sources.daemon.api import Daemon


class Routes(Protocol):
    """The routes that lead out of a daemon."""

    def choose(self, plan: Plan) -> Route: ...

    def config_id(self, image: Image) -> str: ...

    def fetch(
        self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path
    ) -> AbstractContextManager[Content]: ...

    def close(self) -> None: ...


class DaemonSource:
    """A `sources.Source`: the daemon tells of its images, and the routes that `open_routes` gives bring them."""

    def __init__(self, daemon: Daemon, open_routes: Callable[[Daemon], Routes]) -> None:
        self._daemon = daemon
        self._open_routes = open_routes
        self._opened: Routes | None = None

    def inspect(self, reference: str, platform: Platform | None = None) -> Image:
        return self._daemon.inspect(reference, platform)

    def names(self, image: Image) -> tuple[str, ...]:
        """None: a daemon's image is called what the user called it."""
        del image
        return ()

    def held(self, image: Image) -> Mapping[str, Descriptor]:
        """None: a daemon knows what it pushes only when it has."""
        del image
        return {}

    def config_id(self, image: Image) -> str:
        """A containerd store's image ID is another one; then a push that moves nothing tells it."""
        return image.id if self._daemon.store(image) is StoreKind.CHAIN else self._routes.config_id(image)

    def expect(self, plans: Sequence[Plan]) -> None:
        """Nothing is read ahead."""

    def prepare(self) -> None:
        self._opened = self._opened or self._open_routes(self._daemon)

    @property
    def _routes(self) -> Routes:
        self.prepare()
        assert self._opened is not None
        return self._opened

    def choose(self, plan: Plan) -> Route:
        return self._routes.choose(plan)

    def fetch(self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path) -> AbstractContextManager[Content]:
        return self._routes.fetch(plan, route, wanted, spool)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
        self._daemon.close()
