"""A docker daemon as a source, by whichever route suits; where that fails, another one goes on."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Self

from layerferry.archive import Blob, Content
from layerferry.errors import RouteError, SourceError
from layerferry.events import Emit, Route, Warned
from layerferry.image import Descriptor, Image, Platform
from layerferry.plan import Plan
from layerferry.registry import Registry
from layerferry.routes.choose import RATES, choose, costs
from layerferry.sources.daemon import Daemon
from layerferry.sources.pushed import Pushed

#: Bytes of manifests, configs and small layers that a push may upload beyond what the plan wants.
_SLACK = 4 << 20
#: Seconds of regret that a route may cost which was asked for by name.
_NEVER = 24 * 3600.0


class DaemonRoutes:
    """A `sources.Source`: a docker daemon, and the routes that lead out of it. `asked` is `auto` or a route's name."""

    def __init__(self, daemon: Daemon, asked: str, emit: Emit) -> None:
        self._daemon = daemon
        self._asked = asked
        self._emit = emit
        self._stack = ExitStack()
        self._registry: Registry | None = None
        self._address: str | None = None
        self._trouble = ""

    def inspect(self, reference: str, platform: Platform | None = None) -> Image:
        return self._daemon.inspect(reference, platform)

    def choose(self, plan: Plan) -> Route:
        if self._asked in {"auto", "registry"}:
            self._reach()
        return choose(self._asked, plan, self._daemon.store(plan.image), self._address, self._trouble)

    def fetch(self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path) -> AbstractContextManager[Content]:
        if route.name == "export":
            return self._daemon.export(plan.image, wanted, spool)
        return Routed(self._pushed(plan, wanted), partial(self._instead, plan.image, spool))

    def _pushed(self, plan: Plan, wanted: frozenset[str]) -> Pushed:
        assert self._registry is not None, "choose() comes before fetch()"
        image = plan.image
        repository = self._registry.repository()
        address = f"{self._address}/{repository.name}"
        store = self._daemon.store(image)
        regret = costs(plan, store).regret if self._asked == "auto" else _NEVER
        return Pushed(
            image,
            wanted,
            repository,
            lambda: self._daemon.push(image, address),
            budget=int(plan.delta + _SLACK + regret * RATES[store].upload),
            classic=store == "chain",
        )

    def _instead(
        self, image: Image, spool: Path, failure: SourceError, rest: frozenset[str]
    ) -> AbstractContextManager[Content]:
        """What takes a failed push's place: `export` in auto, an error where the route was asked for by name."""
        if self._asked != "auto":
            raise RouteError(f"the route registry failed: {failure.message}", hint=failure.hint) from None
        self._emit(Warned(image.reference, f"the route registry failed, export goes on: {failure.message}"))
        return self._daemon.export(image, rest, spool)

    def close(self) -> None:
        self._stack.close()
        self._daemon.close()

    def _reach(self) -> None:
        """Start our registry, once, and ask the daemon whether it reaches it."""
        if self._registry is not None:
            return
        spool = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="layerferry-")))
        self._registry = self._stack.enter_context(Registry(spool=spool, limit=shutil.disk_usage(spool).free * 9 // 10))
        address = f"127.0.0.1:{self._registry.port}"
        trouble = self._daemon.reaches(f"{address}/{self._registry.repository().name}:probe")
        if trouble:
            self._trouble = f"the daemon does not reach {address}: {trouble}"
        else:
            self._address = address


class Routed:
    """A push's content; where the push fails, what is pending comes another way. An `archive.Content`."""

    def __init__(
        self, pushed: Pushed, instead: Callable[[SourceError, frozenset[str]], AbstractContextManager[Content]]
    ) -> None:
        self._stack = ExitStack()
        self._pushed = pushed
        self._instead = instead
        self._content: Content = pushed

    def __enter__(self) -> Self:
        self._stack.enter_context(self._pushed)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def config(self) -> bytes:
        return self._content.config

    @property
    def descriptors(self) -> Mapping[str, Descriptor]:
        return {**self._pushed.descriptors, **self._content.descriptors}

    @property
    def manifest(self) -> tuple[str, bytes] | None:
        return self._content.manifest

    @property
    def received(self) -> int:
        other = self._content.received if self._content is not self._pushed else 0
        return self._pushed.received + other

    def blobs(self) -> Iterator[Blob]:
        try:
            yield from self._pushed.blobs()
        except SourceError as failure:
            self._content = self._stack.enter_context(self._instead(failure, frozenset(self._pushed.pending)))
        if self._content is not self._pushed:
            yield from self._content.blobs()
