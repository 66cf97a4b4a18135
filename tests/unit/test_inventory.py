"""What a plan may count on, of what a target has told."""

from layerferry.oci.image import MEDIA_TYPE_LAYER_GZIP, Descriptor, Image, Layer, Platform
from layerferry.oci.plan import Action, plan
from layerferry.oci.store_kind import StoreKind
from layerferry.targets.conduit import Conduit
from layerferry.targets.conversation import Conversation
from layerferry.targets.greeting import Greeting, Holding
from layerferry.targets.inventory import Knowledge, inventory, learn

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")
BLOB = Descriptor(MEDIA_TYPE_LAYER_GZIP, B, 10)
IMAGE = Image("app:1", ONE, Platform("linux", "amd64"), Layer.chain([A, C], [1, 1]))


class Mute(Conversation):
    """One in which nothing is said: a push to us would be."""

    def __init__(self) -> None:
        pass


def greeting(holding: Holding, store: StoreKind = StoreKind.BLOB) -> Greeting:
    takes = ("none",)
    return Greeting("ctr", "2", "k8s.io", store, Platform("linux", "amd64"), takes, takes, {ONE: holding}, {A: BLOB})


def test_what_the_store_tells_of_its_blobs_is_reused_and_nothing_has_to_be_learned() -> None:
    holding = Holding(depth=1, holder=TWO)
    knowledge = learn(Mute(), Conduit.__new__(Conduit), greeting(holding), [IMAGE])
    assert knowledge.blobs(IMAGE, holding) == {A: BLOB}
    steps = plan(IMAGE, inventory(IMAGE, holding, StoreKind.BLOB, knowledge)).steps
    assert [step.action for step in steps] == [Action.REUSE, Action.SEND]


def test_blobs_are_nothing_to_a_store_that_does_not_key_on_them() -> None:
    holding = Holding()
    knowledge = learn(Mute(), Conduit.__new__(Conduit), greeting(holding, StoreKind.CHAIN), [IMAGE])
    assert plan(IMAGE, inventory(IMAGE, holding, StoreKind.CHAIN, knowledge)).wanted == {A, C}


def test_the_same_image_goes_by_the_id_that_the_target_gives_it() -> None:
    assert Knowledge().same(IMAGE, Holding(same=TWO)) == TWO
    assert Knowledge().same(IMAGE, Holding()) == ""
