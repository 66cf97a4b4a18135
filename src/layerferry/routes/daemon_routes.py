"""The routes out of a docker daemon: whichever suits; where that fails, another one goes on."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from layerferry import routes
from layerferry.errors import LayerferryError, RouteError, SourceError
from layerferry.events import SENDING_EVERY, Emit, Receiving, Stalled, Warned
from layerferry.oci.content import Blob, Content, Route, Summary
from layerferry.oci.image import Image
from layerferry.oci.plan import Plan
from layerferry.oci.store_kind import StoreKind
from layerferry.routes.choose import RATES, Reached, choose, costs
from layerferry.routes.near_registries import NearRegistries, WayOut
from layerferry.routes.reachability import Reachability, RegistryEndpoint, ServiceEndpoint
from layerferry.sources.daemon.api import Daemon, Inspected
from layerferry.sources.daemon.last_words import Aside
from layerferry.sources.daemon.push_capture import Pushed

if TYPE_CHECKING:
    from layerferry.sources.daemon.layer_folders import FolderContent, LayerFolders

#: Bytes of manifests, configs and small layers that a push may upload beyond what the plan wants.
_SLACK = 4 << 20
#: Seconds of regret that a route may cost which was asked for by name, or through a tunnel that was asked for.
_NEVER = 24 * 3600.0


class DaemonRoutes:
    """What leads out of a daemon. `asked` is `auto` or a route's name.

    What the daemon reaches is found once, and serves all images.
    """

    def __init__(self, daemon: Daemon, reachability: Reachability, asked: str, emit: Emit) -> None:
        self.daemon = daemon
        self.asked = asked
        self.emit = emit
        self._reachability = reachability
        #: Ends the images' pushes, then what the daemon reaches; the daemon's names go last.
        self._stack = ExitStack()
        self._stack.callback(self._sweep)
        self._stack.callback(reachability.close)
        self._near = NearRegistries(reachability, asked)
        self._tunnel: RegistryEndpoint | None = None
        self._no_tunnel = False
        #: Whether the daemon may push, as it may have done in earlier runs.
        self._pushes = False
        self._told = -SENDING_EVERY

    def of(self, inspected: Inspected) -> "RoutesOfImage":
        return self._stack.enter_context(RoutesOfImage(self, inspected))

    def close(self) -> None:
        self._stack.close()

    def _sweep(self) -> None:
        if not self._pushes:
            return
        aside = Aside(self.daemon.last_words)
        swept = aside.submit(self.daemon.sweep)
        if aside.wait(swept) and (said := swept.result()):
            self.emit(Warned("the docker daemon", said))

    def moved(self, done: int, total: int) -> None:
        """Tell how far a pull is, if that was not told just now; in a push, what is sent tells it."""
        now = time.monotonic()
        if self.daemon.host is not None and (now - self._told >= SENDING_EVERY or done >= total > 0):
            self._told = now
            self.emit(Receiving(min(done, total or done), total))

    def reach(self, image: Image, store: StoreKind) -> WayOut:
        """The best way for an image: a registry of ours, the job's service, a tunnel where one is allowed.

        Raises `RouteError` where a tunnel was asked for by name, and there is none.
        """
        if self.asked == "export":
            return WayOut(Reached())
        way = WayOut(Reached()) if self.asked == "ngrok" else self._near.find(image.size, store)
        if self.asked == "ngrok" or (self.asked == "auto" and not way.endpoint and self._reachability.has_ngrok):
            way = self._reach_through_ngrok(image.reference, way.reached.trouble)
        self._pushes = self._pushes or way.endpoint is not None
        return way

    def tunnel_trouble(self) -> RouteError | None:
        return self._reachability.trouble()

    def _reach_through_ngrok(self, reference: str, trouble: str) -> WayOut:
        if self._tunnel is None and not self._no_tunnel:
            try:
                self._tunnel = self._reachability.tunnel()
            except RouteError as failure:
                if self.asked == "ngrok":
                    raise
                self._no_tunnel = True
                self.emit(Warned(reference, f"no tunnel: {failure.message}. {failure.hint}".strip()))
        if self._tunnel is None:
            return WayOut(Reached(trouble=f"{trouble}, and the tunnel failed"))
        return WayOut(Reached("ngrok", self._tunnel.address, trouble), self._tunnel)


class RoutesOfImage:
    """What leads one image out of its daemon. A context: a push that has begun ends with it."""

    def __init__(self, routes: DaemonRoutes, inspected: Inspected) -> None:
        self._routes = routes
        self._inspected = inspected
        self._image = inspected.image
        self._store = inspected.store
        self._known = inspected.known
        #: Where its layers lie, if they can be read there.
        self._folders: LayerFolders | None = None
        #: A push that has told the config's digest, and can go on.
        self._begun: Pushed | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._begun is None:
            return
        try:  # nobody waits for what it moves: where it ends badly, that is told beside what ends the run
            with self._begun:
                self._begun = None
        except LayerferryError as error:
            self._routes.emit(Warned("this machine", error.message))

    def choose(self, plan: Plan) -> Route:
        reached = self._reach().reached
        self._folders = self._find_folders(plan)
        here = self._folders.shown if self._folders else ""
        route = choose(self._routes.asked, plan, self._store, self._known, reached, folders=here)
        if (host := self._routes.daemon.host) and route.name == "export":
            told = f"all of {self._image.reference} comes over the line, {self._image.size} bytes: {route.reason}"
            self._routes.emit(Warned(host.name, told))
        return route

    def _reach(self) -> WayOut:
        return self._routes.reach(self._image, self._store)

    def _find_folders(self, plan: Plan) -> "LayerFolders | None":
        if self._routes.asked != "auto" or not self._inspected.upper:
            return None
        from layerferry.sources.daemon.layer_folders import LayerFolders  # noqa: PLC0415 - few are root here

        found = LayerFolders.find(self._routes.daemon.url, self._inspected.upper)
        return found if found and found.has(plan.sent) else None

    def fetch_config_id(self) -> str:
        """The digest of the image's config, as a push of no layer tells it; empty where that does not work."""
        # What is wrong will be told when the image is fetched.
        with suppress(LayerferryError), ExitStack() as stack:
            if isinstance(endpoint := self._reach().endpoint, RegistryEndpoint):
                pushed = stack.enter_context(self._pushed(endpoint))
                config = pushed.learn()
                stack.pop_all()
                self._begun = pushed
                return config
        return ""

    def fetch(self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path) -> AbstractContextManager[Content]:
        if route.name == "export":
            return self._export(wanted, spool)
        content: Pushed | routes.Served | FolderContent
        if route.name == "direct" and self._folders is not None:
            content = self._folders.content(self._image, wanted)
        elif isinstance(endpoint := self._reach().endpoint, ServiceEndpoint):
            content = routes.Served(self._routes.daemon, endpoint, self._inspected, wanted, spool)
        else:
            assert endpoint is not None  # a route that nothing leads to was not chosen
            content, self._begun = self._begun or self._pushed(endpoint), None
            content.want(wanted, self._budget(plan, endpoint))
        return Routed(content, partial(self._explained, route), partial(self._instead, route, spool))

    def _pushed(self, endpoint: RegistryEndpoint) -> Pushed:
        repository = endpoint.registry.repository()
        return Pushed(
            self._image,
            repository,
            self._routes.daemon.pushing(self._inspected, f"{endpoint.address}/{repository.name}", endpoint.auth),
            budget=_SLACK,
            classic=self._store is StoreKind.CHAIN,
            last_words=self._routes.daemon.last_words,
            told=self._routes.moved,
        )

    def _budget(self, plan: Plan, endpoint: RegistryEndpoint) -> int:
        """Bytes that a push may upload before another route would have been the better choice."""
        near = self._routes.daemon.host is None
        bounded = near and self._routes.asked == "auto" and endpoint.route == "registry"
        regret = costs(plan, self._store, self._known).regret if bounded else _NEVER
        return int(plan.delta + _SLACK + regret * RATES[self._store].upload)

    def _instead(
        self, route: Route, spool: Path, failure: SourceError, rest: frozenset[str]
    ) -> AbstractContextManager[Content]:
        """What takes a failed push's place: `export` in auto, an error where the route was asked for by name."""
        if self._routes.asked != "auto":
            raise RouteError(f"the route {route.name} failed: {failure.message}", hint=failure.hint) from None
        warning = f"the route {route.name} failed, export goes on: {failure.message}"
        self._routes.emit(Warned(self._image.reference, warning))
        return self._export(rest, spool)

    def _explained(self, route: Route, failure: SourceError) -> SourceError:
        """Why a push failed. Of a tunnel that lets nothing through any more its edge knows more than the daemon."""
        trouble = self._routes.tunnel_trouble() if route.name == "ngrok" else None
        return SourceError(trouble.message, hint=trouble.hint) if trouble else failure

    def _export(self, wanted: frozenset[str], spool: Path) -> AbstractContextManager[Content]:
        def told(text: str) -> None:
            self._routes.emit(Stalled("the docker daemon", text))

        return self._routes.daemon.export(self._inspected, wanted, spool, told, self._routes.moved)


class Routed:
    """A content; where it fails, what is pending comes another way."""

    def __init__(
        self,
        content: "Pushed | routes.Served | FolderContent",
        explained: Callable[[SourceError], SourceError],
        instead: Callable[[SourceError, frozenset[str]], AbstractContextManager[Content]],
    ) -> None:
        self._stack = ExitStack()
        self._content = content
        self._explained = explained
        self._instead = instead
        self._other: Content | None = None
        self._failure = ""

    def __enter__(self) -> Self:
        self._stack.enter_context(self._content)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)  # `close` would forget what it was that ended the push

    def blobs(self) -> Iterator[Blob]:
        try:
            yield from self._content.blobs()
        except SourceError as failed:
            failure = self._explained(failed)
            self._failure = failure.message
            self._other = self._stack.enter_context(self._instead(failure, frozenset(self._content.pending)))
        if self._other is not None:
            yield from self._other.blobs()

    def finish(self) -> Summary:
        if self._other is None:
            return self._content.finish()
        summary = self._other.finish()
        return replace(
            summary,
            descriptors={**self._content.descriptors, **summary.descriptors},
            received=self._content.received + summary.received,
            route=Route("export", f"another route failed: {self._failure}"),
        )
