"""Which route an image's bytes take out of a daemon: pure, from what is known before anything is read."""

from dataclasses import dataclass

from layerferry.errors import RouteError
from layerferry.oci.content import Route
from layerferry.oci.plan import Plan
from layerferry.oci.store_kind import StoreKind


@dataclass(frozen=True, slots=True)
class Rates:
    """What a daemon's image store manages, in bytes a second; seconds for a push that uploads nothing.

    Medians of tests/bench/rates.py on 2 cores. They only have to be right to a factor of two.
    """

    save: float
    upload: float
    push: float

    def exporting(self, size: int) -> float:
        """Seconds until all of an image of so many bytes is read."""
        return self.push + size / self.save

    def pushing(self, uploaded: float) -> float:
        """Seconds for a push that tells what there is, and another that uploads so many bytes."""
        return 2 * self.push + uploaded / self.upload


#: A classic store reads fast and gzips what it uploads; the containerd store uploads blobs as they are.
RATES = {
    StoreKind.CHAIN: Rates(save=100e6, upload=12e6, push=0.06),
    StoreKind.BLOB: Rates(save=28e6, upload=90e6, push=0.12),
}
#: Bytes a second of layers that are read in their daemon's folders, in the same words.
_DIRECT = 300e6
#: Seconds that this has to save: the daemon's API is what others have tested, too.
_WORTH = 0.3


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that each route would take until the last byte is here."""

    registry: float
    export: float
    direct: float

    @property
    def regret(self) -> float:
        """Seconds that `registry` may waste before `export` would have been the better choice."""
        return max(0.0, self.export - self.registry)


def costs(plan: Plan, store: StoreKind, known: frozenset[str], *, whole: bool = False) -> Costs:
    """Estimate both routes for a daemon whose store is `CHAIN` or `BLOB`, and knows a digest for the layers `known`.

    A registry that is not ours has nothing yet: the daemon pushes the `whole` image there. To ours it uploads what is
    sent, and what it knows no digest for, since it cannot ask about that: also what comes with another image.
    """
    rates = RATES[store]
    uploaded: float = plan.image.size
    if not whole:
        counted = known | (plan.wanted - plan.shared)
        unknown = {layer.diff_id: layer.size for layer in plan.image.layers if layer.diff_id not in counted}
        uploaded = plan.delta + sum(unknown.values())
    return Costs(
        registry=rates.pushing(uploaded),
        export=rates.exporting(plan.image.size),
        direct=plan.delta / _DIRECT,
    )


def too_dear(size: int, store: StoreKind) -> str:
    """Why no image of so many bytes is pushed to a registry service: to read it is quicker. Empty where it is not."""
    export, push = RATES[store].exporting(size), RATES[store].pushing(size)
    if not size or push <= export:
        return ""
    seconds = f"reading {size / 1e6:.1f} MB takes about {export:.1f} s, a push {push:.1f} s"
    return f"a registry service would get all of it: {seconds}"


@dataclass(frozen=True, slots=True)
class Reached:
    """By which route the daemon reaches a registry, and at which address; `trouble` why by no better one.

    `hint` is what the user can do about the trouble, where there is something.
    `whole` where it is the job's service registry, which gets the whole image; `far` where what is read of the daemon
    crosses a line, beside which its own pace counts for nothing.
    """

    route: str = ""
    address: str = ""
    trouble: str = ""
    hint: str = ""
    whole: bool = False
    far: bool = False

    def __str__(self) -> str:
        return f"the daemon reaches {'the registry service as ' if self.whole else ''}{self.address}"


def check(asked: str, reached: Reached) -> None:
    """Raise `RouteError` where a route that leads to a registry was asked for by name, and cannot be taken."""
    if asked not in {"auto", reached.route}:
        raise RouteError(
            f"the route {asked} cannot be taken: {reached.trouble}",
            hint=reached.hint
            or "`layerferry doctor` shows what reaches what; --route auto takes the best way that works.",
        )


def choose(
    asked: str, plan: Plan, store: StoreKind, known: frozenset[str], reached: Reached, *, folders: str = ""
) -> Route:
    """The route, and why. Raises `RouteError` where one that was asked for by name cannot be taken.

    `folders` says where the daemon keeps all layers that are wanted, if they can be read there.
    """
    if asked == "export":
        return Route("export", "as asked")
    check(asked, reached)
    cost = costs(plan, store, known, whole=reached.whole)
    others = min(cost.registry, cost.export) if reached.route else cost.export
    if asked == "auto" and folders and others - cost.direct > _WORTH:
        return Route("direct", f"root reads its layers in {folders}; another way takes about {others:.1f} s")
    if not reached.route:
        return Route("export", reached.trouble)
    if reached.route == "ngrok":
        return Route("ngrok", f"{reached}; {reached.trouble or 'as asked'}")
    # A graph driver's docker saves no image without layers ("empty export - not implemented", 20.10 to 28.5).
    if asked == "auto" and not reached.far and plan.image.layers and cost.export < cost.registry:
        return Route("export", f"reading it all takes about {cost.export:.1f} s, a push {cost.registry:.1f} s")
    return Route("registry", str(reached))
