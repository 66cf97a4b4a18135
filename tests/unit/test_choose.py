import pytest

from layerferry.errors import RouteError
from layerferry.oci.image import Image, Layer, Platform
from layerferry.oci.plan import Inventory, Plan, plan
from layerferry.oci.store_kind import StoreKind
from layerferry.routes.choose import Reached, choose, costs, too_dear

IDS = [f"sha256:{letter * 64}" for letter in "abcde"]


KNOWN = frozenset(IDS)
HERE = Reached("registry", "127.0.0.1:5")


def planned(*sizes: int, there: int = 0) -> Plan:
    image = Image("app:1", IDS[0], Platform("linux", "amd64"), Layer.chain(IDS[: len(sizes)], sizes))
    return plan(image, Inventory(chain_ids=frozenset(layer.chain_id for layer in image.layers[:there])))


@pytest.mark.parametrize("store", [StoreKind.CHAIN, StoreKind.BLOB])
def test_a_small_delta_is_pushed(store: StoreKind) -> None:
    route = choose("auto", planned(700_000_000, 10_000, there=1), store, KNOWN, HERE)
    assert (route.name, route.reason) == ("registry", "the daemon reaches 127.0.0.1:5")


def test_a_classic_store_gzips_what_it_pushes_so_a_cold_image_is_exported() -> None:
    route = choose("auto", planned(700_000_000, 10_000), StoreKind.CHAIN, KNOWN, HERE)
    assert route.name == "export"
    assert "takes about" in route.reason


def test_a_containerd_store_pushes_its_blobs_faster_than_it_exports_them() -> None:
    assert choose("auto", planned(700_000_000, 10_000), StoreKind.BLOB, KNOWN, HERE).name == "registry"


@pytest.mark.parametrize("store", [StoreKind.CHAIN, StoreKind.BLOB])
def test_an_image_without_layers_is_pushed(store: StoreKind) -> None:
    """docker saves none out of a graph driver: "empty export - not implemented"."""
    assert choose("auto", planned(), store, KNOWN, HERE).name == "registry"


def test_an_unreachable_registry_leaves_export_and_tells_why() -> None:
    route = choose(
        "auto", planned(700_000_000, there=0), StoreKind.BLOB, KNOWN, Reached(trouble="the daemon does not reach us")
    )
    assert (route.name, route.reason) == ("export", "the daemon does not reach us")


def test_a_route_asked_for_by_name_is_taken_whatever_it_costs() -> None:
    cold = planned(700_000_000)
    assert choose("registry", cold, StoreKind.CHAIN, KNOWN, HERE).name == "registry"
    assert choose("export", cold, StoreKind.BLOB, KNOWN, HERE).name == "export"


def test_a_route_asked_for_by_name_is_used_or_fails() -> None:
    with pytest.raises(RouteError, match="refused") as caught:
        choose("registry", planned(1), StoreKind.CHAIN, KNOWN, Reached(trouble="connection refused"))
    assert caught.value.exit_code == 7


def test_regret_is_what_export_would_have_cost_more() -> None:
    cost = costs(planned(700_000_000, 10_000, there=1), StoreKind.CHAIN, KNOWN)
    assert cost.regret == pytest.approx(cost.export - cost.registry)
    assert costs(planned(10_000), StoreKind.CHAIN, KNOWN).regret >= 0


def test_what_comes_with_another_image_is_uploaded_too_where_its_digest_is_unknown() -> None:
    """Seen: of eight images that share 200 MB seven were pushed, and the daemon gzipped it (8.9 s, not 3.0)."""
    second = planned(200_000_000, 2_000_000).after([planned(200_000_000)])
    assert second.delta == 2_000_000
    assert choose("auto", second, StoreKind.CHAIN, KNOWN, HERE, folders="/docker").name == "registry"
    unknown = KNOWN - {IDS[0]}
    assert choose("auto", second, StoreKind.CHAIN, unknown, HERE, folders="/docker").name == "direct"
    assert choose("auto", second, StoreKind.CHAIN, unknown, HERE).name == "export"


def test_a_tunnel_is_told_apart_and_tells_why_nothing_nearer_would_do() -> None:
    reached = Reached("ngrok", "a.ngrok.app", "the daemon does not reach 127.0.0.1:5")
    route = choose("auto", planned(700_000_000), StoreKind.CHAIN, KNOWN, reached)
    assert (route.name, route.reason) == (
        "ngrok",
        "the daemon reaches a.ngrok.app; the daemon does not reach 127.0.0.1:5",
    )


def test_another_route_than_the_one_asked_for_is_no_answer() -> None:
    with pytest.raises(RouteError):
        choose("ngrok", planned(1), StoreKind.CHAIN, KNOWN, HERE)


def test_layers_without_a_known_digest_would_be_uploaded_for_nothing() -> None:
    built_here = planned(700_000_000, 10_000, there=1)
    route = choose("auto", built_here, StoreKind.CHAIN, frozenset(), HERE)
    assert route.name == "export"


@pytest.mark.parametrize(
    ("store", "size", "dear"),
    [
        (StoreKind.CHAIN, 10_000, True),
        (StoreKind.CHAIN, 700_000_000, True),
        (StoreKind.BLOB, 3_000_000, True),
        (StoreKind.BLOB, 7_000_000, False),
        (StoreKind.BLOB, 700_000_000, False),
        (StoreKind.CHAIN, 0, False),
    ],
)
def test_a_service_which_gets_all_of_an_image_is_worth_it_for_a_containerd_store(
    store: StoreKind, size: int, dear: bool
) -> None:
    """The route is the same, once it is known what the service is."""
    assert bool(too_dear(size, store)) is dear
    service = Reached("registry", "127.0.0.1:5000", whole=True)
    built = planned(size, there=1) if size else planned()
    assert choose("auto", built, store, KNOWN, service).name == ("export" if dear else "registry")
    assert choose("registry", built, store, KNOWN, service).name == "registry"


def test_what_a_service_would_cost_is_told() -> None:
    told = "a registry service would get all of it: reading 700.0 MB takes about 7.1 s, a push 58.5 s"
    assert too_dear(700_000_000, StoreKind.CHAIN) == told


FOLDERS = "/var/lib/docker/overlay2"


@pytest.mark.parametrize("reached", [HERE, Reached("ngrok", "a.ngrok.app"), Reached(trouble="connection refused")])
def test_large_layers_are_read_in_their_folders_where_these_can_be(reached: Reached) -> None:
    cold = planned(700_000_000, 10_000)
    route = choose("auto", cold, StoreKind.CHAIN, KNOWN, reached, folders=FOLDERS)
    assert (route.name, FOLDERS in route.reason) == ("direct", True)
    assert choose("auto", cold, StoreKind.CHAIN, KNOWN, reached).name != "direct"


@pytest.mark.parametrize("asked", ["registry", "export"])
def test_folders_are_left_alone_where_another_route_was_asked_for(asked: str) -> None:
    assert choose(asked, planned(700_000_000), StoreKind.CHAIN, KNOWN, HERE, folders=FOLDERS).name == asked


def test_folders_are_left_alone_where_the_daemon_is_as_quick() -> None:
    small = planned(700_000_000, 10_000, there=1)
    assert choose("auto", small, StoreKind.CHAIN, KNOWN, HERE, folders=FOLDERS).name == "registry"
