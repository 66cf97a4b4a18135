"""From what a target says that it holds of an image to the inventory that a plan is made of."""

from collections.abc import Mapping

from layerferry.image import Descriptor, Image
from layerferry.plan import Inventory
from layerferry.targets.conversation import Holding


def inventory(image: Image, holding: Holding, store: str, blobs: Mapping[str, Descriptor]) -> Inventory:
    """What `image`'s plan may count on. `blobs` are the target's own, by diff ID, as far as they are known."""
    below = image.layers[: holding.depth]
    there = frozenset(layer.diff_id for layer in below) | frozenset(holding.loose)
    if store == "blob":
        return Inventory(blobs={diff_id: blobs[diff_id] for diff_id in there if diff_id in blobs}, unnamed=there)
    if store == "layer":
        return Inventory(diff_ids=there)
    return Inventory(chain_ids=frozenset(layer.chain_id for layer in below))


def holders(image: Image, holding: Holding) -> list[str]:
    """The target's images that hold something of `image`, the one with most of it first."""
    found = [holding.holder] if holding.depth else []
    return list(dict.fromkeys([*found, *holding.loose.values()]))
