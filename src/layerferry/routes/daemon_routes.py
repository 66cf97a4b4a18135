"""The routes out of a docker daemon: whichever suits; where that fails, another one goes on."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Self

from layerferry.errors import LayerferryError, RouteError, SourceError
from layerferry.events import Emit, Route, Warned
from layerferry.oci.delta_archive import Blob, Content
from layerferry.oci.image import Descriptor, Image
from layerferry.oci.plan import Plan
from layerferry.oci.store_kind import StoreKind
from layerferry.routes.choose import RATES, Reached, choose, costs
from layerferry.routes.reachability import Reachability, RegistryEndpoint
from layerferry.routes.service_registry import Served, ServiceEndpoint
from layerferry.sources.daemon.api import Daemon
from layerferry.sources.daemon.push_capture import Pushed

#: Bytes of manifests, configs and small layers that a push may upload beyond what the plan wants.
_SLACK = 4 << 20
#: Seconds of regret that a route may cost which was asked for by name, or through a tunnel that was asked for.
_NEVER = 24 * 3600.0


class DaemonRoutes:
    """What leads out of a daemon, a `sources.daemon.source.Routes`. `asked` is `auto` or a route's name."""

    def __init__(self, daemon: Daemon, reachability: Reachability, asked: str, emit: Emit) -> None:
        self._daemon = daemon
        self._reachability = reachability
        self._asked = asked
        self._emit = emit
        self._landing: RegistryEndpoint | ServiceEndpoint | None = None
        self._reached: Reached | None = None
        self._learned: dict[str, Pushed] = {}

    def choose(self, plan: Plan) -> Route:
        image = plan.image
        reached = self._reach_once(image)
        return choose(self._asked, plan, self._daemon.store(image), self._daemon.known(image), reached)

    def config_id(self, image: Image) -> str:
        """The digest of the image's config, as a push of no layer tells it; empty where that does not work."""
        # What is wrong will be told when the image is fetched.
        with suppress(LayerferryError), ExitStack() as stack:
            self._reach_once(image)
            if isinstance(self._landing, RegistryEndpoint):
                pushed = stack.enter_context(self._pushed(self._landing, image))
                config = pushed.learn()
                stack.pop_all()
                self._learned[image.id] = pushed
                return config
        return ""

    def fetch(self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path) -> AbstractContextManager[Content]:
        if route.name == "export":
            return self._daemon.export(plan.image, wanted, spool)
        assert self._landing is not None, "choose() comes before fetch()"
        if isinstance(self._landing, ServiceEndpoint):
            content: Pushed | Served = Served(self._daemon, self._landing, plan.image, wanted, spool)
        else:
            content = self._learned.pop(plan.image.id, None) or self._pushed(self._landing, plan.image)
            content.want(wanted, self._budget(plan))
        return Routed(content, partial(self._instead, plan.image, route, spool))

    def close(self) -> None:
        for pushed in self._learned.values():
            with pushed:
                pass
        self._reachability.close()
        if self._landing is not None and (said := self._daemon.sweep()):
            self._emit(Warned("the docker daemon", said))

    def _reach_once(self, image: Image) -> Reached:
        if self._reached is None:
            self._reached = self._reach(image)
        return self._reached

    def _reach(self, image: Image) -> Reached:
        """Find the best landing: a registry of ours, the job's service registry, a tunnel where one is allowed."""
        if self._asked == "export":
            return Reached()
        trouble = ""
        if self._asked != "ngrok":
            ours_first = self._asked == "auto" or not self._reachability.service_is_set
            for find in (
                (self._reach_ours, self._reach_service) if ours_first else (self._reach_service, self._reach_ours)
            ):
                reached = find()
                if reached.route:
                    return reached
                trouble = trouble or reached.trouble
        if self._asked == "ngrok" or (self._asked == "auto" and self._reachability.has_ngrok):
            return self._reach_through_ngrok(image, trouble)
        return Reached(trouble=trouble)

    def _reach_ours(self) -> Reached:
        trouble = ""
        for attempt in self._reachability.attempts():
            if attempt.landing:
                self._landing = attempt.landing
                return Reached("registry", attempt.landing.address)
            trouble = trouble or f"the daemon does not reach {attempt.name.address} ({attempt.trouble})"
        return Reached(trouble=trouble)

    def _reach_service(self) -> Reached:
        self._landing = self._reachability.service()
        return Reached("registry", self._landing.address, whole=True) if self._landing else Reached()

    def _reach_through_ngrok(self, image: Image, trouble: str) -> Reached:
        try:
            self._landing = self._reachability.tunnel()
        except RouteError as failure:
            if self._asked == "ngrok":
                raise
            self._emit(Warned(image.reference, f"no tunnel: {failure.message}. {failure.hint}".strip()))
            return Reached(trouble=f"{trouble}, and the tunnel failed")
        return Reached("ngrok", self._landing.address, trouble)

    def _pushed(self, landing: RegistryEndpoint, image: Image) -> Pushed:
        repository = landing.registry.repository()
        return Pushed(
            image,
            repository,
            self._daemon.pushing(image, f"{landing.address}/{repository.name}", landing.auth),
            budget=_SLACK,
            classic=self._daemon.store(image) is StoreKind.CHAIN,
        )

    def _budget(self, plan: Plan) -> int:
        """Bytes that a push may upload before another route would have been the better choice."""
        store = self._daemon.store(plan.image)
        bounded = (
            self._asked == "auto" and isinstance(self._landing, RegistryEndpoint) and self._landing.route == "registry"
        )
        regret = costs(plan, store, self._daemon.known(plan.image)).regret if bounded else _NEVER
        return int(plan.delta + _SLACK + regret * RATES[store].upload)

    def _instead(
        self, image: Image, route: Route, spool: Path, failure: SourceError, rest: frozenset[str]
    ) -> AbstractContextManager[Content]:
        """What takes a failed push's place: `export` in auto, an error where the route was asked for by name."""
        if self._asked != "auto":
            raise RouteError(f"the route {route.name} failed: {failure.message}", hint=failure.hint) from None
        self._emit(Warned(image.reference, f"the route {route.name} failed, export goes on: {failure.message}"))
        return self._daemon.export(image, rest, spool)


class Routed:
    """A push's content; where the push fails, what is pending comes another way. A `delta_archive.Content`."""

    def __init__(
        self, pushed: Pushed | Served, instead: Callable[[SourceError, frozenset[str]], AbstractContextManager[Content]]
    ) -> None:
        self._stack = ExitStack()
        self._pushed = pushed
        self._instead = instead
        self._content: Content = pushed
        #: The route that took the place of the one that was chosen, if one had to.
        self.route: Route | None = None

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
            self.route = Route("export", f"another route failed: {failure.message}")
        if self._content is not self._pushed:
            yield from self._content.blobs()
