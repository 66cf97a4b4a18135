"""In which order a daemon is asked about the registries of a job, and when a tunnel is opened instead."""

from typing import Any
from unittest.mock import Mock

import pytest

from layerferry.ci.topology import DaemonName
from layerferry.errors import RouteError
from layerferry.events import Event, Warned
from layerferry.oci.image import Image, Layer, Platform
from layerferry.oci.store_kind import StoreKind
from layerferry.routes.daemon_routes import DaemonRoutes
from layerferry.routes.near_registries import NearRegistries
from layerferry.routes.reachability import Attempt, RegistryEndpoint, ServiceEndpoint

OURS, SERVICE, TUNNEL = "127.0.0.1:1", "127.0.0.1:5000", "a.ngrok.app"
ID = f"sha256:{'a' * 64}"
REFUSED = "connection refused"
SMALL, LARGE = 1_000_000, 700_000_000
DEAR = "the daemon reaches no registry of ours, and a registry service would get all of it"


def image(size: int) -> Image:
    return Image("app:1", ID, Platform("linux", "amd64"), Layer.chain([ID], [size]) if size else ())


class Around:
    """A job whose daemon reaches what is named; `asked` is what it was asked about, in order."""

    def __init__(self, *reached: str, is_set: bool = False, is_known: bool = True, hint: str = "") -> None:
        self.asked: list[str] = []
        self.events: list[Event] = []
        ours, service = Mock(RegistryEndpoint, address=OURS), Mock(ServiceEndpoint, address=SERVICE)
        self.reachability: Any = Mock(
            service_is_set=is_set, service_is_known=is_known, is_far=False, has_ngrok=TUNNEL in reached
        )
        self.reachability.attempts = lambda: self._tried(OURS, ours if OURS in reached else None)
        self.reachability.service_attempts = lambda: self._tried(
            SERVICE, service if SERVICE in reached else None, hint=hint
        )
        self.reachability.tunnel.return_value = Mock(RegistryEndpoint, address=TUNNEL)

    def _tried(self, address: str, endpoint: Any, hint: str = "") -> Any:
        self.asked.append(address)
        trouble = "" if endpoint else f"{address}: {REFUSED}"
        yield Attempt(DaemonName(address, "as it is"), trouble, 0.0, endpoint, hint=hint)

    def near(self, asked: str) -> NearRegistries:
        return NearRegistries(self.reachability, asked)

    def routes(self, asked: str = "auto") -> DaemonRoutes:
        return DaemonRoutes(Mock(), self.reachability, asked, self.events.append)


@pytest.mark.parametrize(
    ("asked", "is_set", "order"),
    [("auto", True, [OURS, SERVICE]), ("registry", True, [SERVICE, OURS]), ("registry", False, [OURS, SERVICE])],
)
def test_ours_goes_first_unless_a_service_is_named_and_no_other_route_wanted(
    asked: str, is_set: bool, order: list[str]
) -> None:
    around = Around(is_set=is_set)
    near = around.near(asked)
    for _ in range(2):
        found = near.find(LARGE, StoreKind.BLOB)
    assert (found.endpoint, found.reached.trouble) == (None, "the daemon reaches no registry of this job")
    assert around.asked == order, "each is asked once"


def test_a_service_that_is_asked_for_by_name_is_taken_whatever_it_costs() -> None:
    found = Around(SERVICE).near("registry").find(LARGE, StoreKind.CHAIN).reached
    assert (found.route, found.address, found.whole) == ("registry", SERVICE, True)


@pytest.mark.parametrize(("is_known", "told"), [(True, DEAR), (False, "the daemon reaches no registry of this job")])
def test_a_service_that_takes_longer_than_export_is_not_asked(is_known: bool, told: str) -> None:
    """One that is only guessed at is none to speak of."""
    around = Around(SERVICE, is_known=is_known)
    found = around.near("auto").find(LARGE, StoreKind.CHAIN)
    assert found.endpoint is None
    assert found.reached.trouble.startswith(told)
    assert around.asked == [OURS]


def test_what_the_user_can_mend_of_a_service_is_told_with_how() -> None:
    found = Around(hint="mend it").near("auto").find(LARGE, StoreKind.BLOB).reached
    assert (found.trouble, found.hint) == (f"{SERVICE}: {REFUSED}", "mend it")


@pytest.mark.parametrize(
    ("store", "size", "address"),
    [
        (StoreKind.CHAIN, LARGE, TUNNEL),
        (StoreKind.BLOB, SMALL, TUNNEL),
        (StoreKind.BLOB, LARGE, SERVICE),
        (StoreKind.CHAIN, 0, SERVICE),
    ],
)
def test_a_tunnel_is_opened_where_the_service_would_take_longer_than_export(
    store: StoreKind, size: int, address: str
) -> None:
    around = Around(SERVICE, TUNNEL)
    way = around.routes().reach(image(size), store)
    assert way.endpoint is not None
    assert (way.reached.address, way.endpoint.address) == (address, address)
    assert around.reachability.tunnel.called is (address == TUNNEL)
    if address == TUNNEL:
        assert way.reached.trouble.startswith(DEAR)


def test_each_image_has_its_own_way_and_there_is_one_tunnel() -> None:
    around = Around(SERVICE, TUNNEL)
    routes = around.routes()
    ways = [routes.reach(image(size), StoreKind.BLOB).reached for size in (SMALL, LARGE, SMALL, LARGE)]
    assert [way.address for way in ways] == [TUNNEL, SERVICE, TUNNEL, SERVICE]
    around.reachability.tunnel.assert_called_once()
    assert around.asked == [OURS, SERVICE]


def test_a_tunnel_that_fails_is_told_and_tried_once() -> None:
    around = Around(SERVICE, TUNNEL)
    around.reachability.tunnel.side_effect = RouteError("no agent session is left", hint="Run fewer jobs.")
    routes = around.routes()
    found = [routes.reach(image(LARGE), StoreKind.CHAIN).reached for _ in range(2)]
    assert {way.route for way in found} == {""}
    assert all(way.trouble.startswith(DEAR) and way.trouble.endswith(", and the tunnel failed") for way in found)
    assert [event.message for event in around.events if isinstance(event, Warned)] == [
        "no tunnel: no agent session is left. Run fewer jobs."
    ]


def test_a_tunnel_that_is_asked_for_by_name_is_all_that_is_asked_about() -> None:
    around = Around(OURS, SERVICE, TUNNEL)
    assert around.routes("ngrok").reach(image(LARGE), StoreKind.BLOB).reached.address == TUNNEL
    assert around.asked == []
    assert around.routes("export").reach(image(LARGE), StoreKind.BLOB).endpoint is None
