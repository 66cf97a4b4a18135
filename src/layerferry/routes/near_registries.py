"""The registries that a daemon reaches without a tunnel: ours, and the job's service where that is worth it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from layerferry.oci.store_kind import StoreKind
from layerferry.routes.choose import Reached, too_dear
from layerferry.routes.reachability import Attempt, Reachability, RegistryEndpoint, ServiceEndpoint

#: What is told of a daemon that nothing leads back from; `doctor` and the log have each address, and what came of it.
_UNREACHED = "the daemon reaches no registry of this job"


@dataclass(frozen=True, slots=True)
class WayOut:
    """What a daemon reaches, and the registry there; none with the trouble in `reached`."""

    reached: Reached
    endpoint: RegistryEndpoint | ServiceEndpoint | None = None


class NearRegistries:
    """`asked` is `auto` or `registry`. Each address is asked about once, for all images; `seen` hears of it."""

    def __init__(
        self, reachability: Reachability, asked: str, seen: Callable[[Attempt], None] = lambda _: None
    ) -> None:
        self._reachability = reachability
        self._asked = asked
        self._seen = seen

    def find(self, size: int, store: StoreKind) -> WayOut:
        """The best one for an image of `size` bytes in such a store.

        Ours goes first, unless the user has named a service and wants no other route; the first trouble is told.
        """
        ways: list[Callable[[], WayOut]] = [lambda: self.ours, lambda: self._service_for(size, store)]
        if self._asked == "registry" and self._reachability.service_is_set:
            ways.reverse()
        none = WayOut(Reached())
        for way in ways:
            found = way()
            if found.endpoint:
                return found
            none = none if none.reached.trouble else found
        return none if none.reached.trouble else WayOut(Reached(trouble=_UNREACHED))

    @cached_property
    def ours(self) -> WayOut:
        """Of what is in the way, what the user can mend is told, and that ssh forwards nothing."""
        trouble = mendable = ""
        for attempt in self._made(self._reachability.attempts()):
            if attempt.endpoint:
                far = self._reachability.is_far
                return WayOut(Reached("registry", attempt.endpoint.address, far=far), attempt.endpoint)
            if attempt.name.forward and attempt.trouble:
                trouble = trouble or f"{_UNREACHED}: {attempt.trouble}"
            if attempt.wants_tls and not mendable:
                told = f"the daemon does not reach {attempt.name.address} ({attempt.trouble})"
                mendable = f"{told}, so all of the image is read"
        return WayOut(Reached(trouble=mendable or trouble))

    def _service_for(self, size: int, store: StoreKind) -> WayOut:
        dear = too_dear(size, store) if self._asked == "auto" else ""
        if not dear:
            return self._service
        known = self._reachability.service_is_known
        return WayOut(Reached(trouble=f"the daemon reaches no registry of ours, and {dear}" if known else ""))

    @cached_property
    def _service(self) -> WayOut:
        """Of what is in the way, what the user can mend is told."""
        none = WayOut(Reached())
        for attempt in self._made(self._reachability.service_attempts()):
            if attempt.endpoint:
                return WayOut(Reached("registry", attempt.endpoint.address, whole=True), attempt.endpoint)
            if attempt.hint and not none.reached.trouble:
                none = WayOut(Reached(trouble=attempt.trouble, hint=attempt.hint))
        return none

    def _made(self, attempts: Iterable[Attempt]) -> Iterable[Attempt]:
        for attempt in attempts:
            self._seen(attempt)
            yield attempt
