from layerferry.oci.image import MEDIA_TYPE_LAYER_GZIP, Descriptor, Image, Layer, Platform
from layerferry.oci.plan import Action, Inventory, plan

IDS = tuple(f"sha256:{letter * 64}" for letter in "abcd")


def image(*diff_ids: str) -> Image:
    return Image("app:1", IDS[0], Platform("linux", "amd64"), Layer.chain(diff_ids, [10] * len(diff_ids)))


def actions(of: Image, inventory: Inventory) -> str:
    return "".join("r" if step.action is Action.REUSE else "s" for step in plan(of, inventory).steps)


def chains(of: Image, depth: int) -> Inventory:
    return Inventory(chain_ids=frozenset(layer.chain_id for layer in of.layers[:depth]))


def test_an_empty_target_gets_everything() -> None:
    assert actions(image(*IDS), Inventory()) == "ssss"


def test_a_prefix_of_the_chain_is_reused() -> None:
    app = image(*IDS)
    assert [actions(app, chains(app, depth)) for depth in (1, 3, 4)] == ["rsss", "rrrs", "rrrr"]


def test_a_chain_store_reuses_nothing_above_the_first_layer_that_it_lacks() -> None:
    app = image(*IDS)
    gap = Inventory(chain_ids=frozenset(layer.chain_id for layer in (app.layers[0], app.layers[2], app.layers[3])))
    assert actions(app, gap) == "rsss"


def test_the_same_layer_in_another_chain_is_no_reuse_on_a_chain_store() -> None:
    other = image(IDS[1], IDS[0])
    assert actions(image(*IDS[:2]), chains(other, 2)) == "ss"


def test_a_store_by_diff_id_reuses_a_layer_wherever_it_is() -> None:
    assert actions(image(*IDS), Inventory(diff_ids=frozenset({IDS[0], IDS[2]}))) == "rsrs"


def test_a_blob_store_reuses_only_what_it_can_be_named_by() -> None:
    blob = Descriptor(MEDIA_TYPE_LAYER_GZIP, IDS[3], 7)
    inventory = Inventory(blobs={IDS[1]: blob}, unnamed=frozenset(IDS[:2]))
    planned = plan(image(*IDS[:3]), inventory)
    assert [step.action for step in planned.steps] == [Action.SEND, Action.REUSE, Action.SEND]
    assert "not the digest of its blob" in planned.steps[0].reason
    assert IDS[3] in planned.steps[1].reason


def test_a_layer_that_comes_twice_is_sent_and_counted_once() -> None:
    twice = plan(image(IDS[0], IDS[1], IDS[1]), Inventory())
    assert [layer.diff_id for layer in twice.sent] == [IDS[0], IDS[1]]
    assert twice.delta == 20


def test_a_layer_whose_second_place_is_new_is_sent_though_its_first_is_there() -> None:
    app = image(IDS[0], IDS[1], IDS[0])
    planned = plan(app, chains(app, 2))
    assert planned.wanted == {IDS[0]}
    assert [step.action for step in planned.steps] == [Action.REUSE, Action.REUSE, Action.SEND]


def test_an_image_without_layers_needs_nothing() -> None:
    assert plan(image(), Inventory()).steps == ()
