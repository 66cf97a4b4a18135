"""The images of the engine that the client may know of: those with a name that the policy allows, or lets be reused.

A client may build on these alone. A layer that the client cannot know of must be sent, even though it is here:
else a key that may push one image could reach into every other one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from layerferry.oci.image import Descriptor, chain_ids, is_digest
from layerferry.oci.store_kind import StoreKind
from layerferry.protocol import Reply
from layerferry.receive.engine import Engine
from layerferry.receive.policy import Policy
from layerferry.receive.throw_away_names import left

if TYPE_CHECKING:
    from layerferry.receive.blob_digests import BlobDigests

_MOST_LEARNED = 3


@dataclass(frozen=True, slots=True)
class Ask:
    """An image that the client asks for: what it calls it, and its diff IDs, bottom first."""

    id: str
    diff_ids: tuple[str, ...]


@dataclass(slots=True)
class VisibleImages:
    """The images that the client may know of: `images` has their diff IDs, by the engine's image ID."""

    store: StoreKind
    images: Mapping[str, tuple[str, ...]]
    #: The blobs that a containerd store has of them, by the engine's image ID.
    learned: Mapping[str, "BlobDigests"] = field(default_factory=dict)
    #: Whether an image that is here counts only where its config's digest is known, which signers sign.
    signed: bool = False
    #: Throw-away names that dead sessions have left.
    left: tuple[str, ...] = ()
    #: Names that the client may know of, with the engine's image ID of each, the newest first.
    named: Mapping[str, str] = field(default_factory=dict)
    #: The images that an answer has told as holders of all layers of one that was asked for: the client may know one of
    #: them as that very image, by another ID.
    told: set[str] = field(default_factory=set)
    _blobs: dict[str, Descriptor] = field(default_factory=dict)
    _chains: frozenset[str] = frozenset()
    _layers: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for image_id, digests in self.learned.items():
            self._blobs.update(zip(self.images[image_id], digests.layers, strict=True))
        self._chains = frozenset(chain for layers in self.images.values() for chain in chain_ids(layers))
        self._layers = frozenset(layer for layers in self.images.values() for layer in layers)

    @property
    def told_store(self) -> StoreKind:
        """The kind that the client is told: `LAYER` for a containerd store whose blobs we know by their diff IDs."""
        return StoreKind.LAYER if self._blobs else self.store

    def present(self, image_id: str) -> str:
        """The engine's ID of an image that the client calls by its config's digest, or by that ID; empty for none."""
        if image_id in self.images and (not self.signed or self.config(image_id)):
            return image_id
        return next((here for here, digests in self.learned.items() if digests.config == image_id), "")

    def find(self, word: str) -> str:
        """The engine's ID of an image by an ID or a full name, or of the newest of its repository; empty for none."""
        if is_digest(word):
            return word if word in self.images else self.present(word)
        repository = word.rpartition(":")[0]
        newest = (here for name, here in self.named.items() if name.rpartition(":")[0] == repository)
        found = self.named.get(word) or next(newest, "")
        return found if found in self.images else ""

    def ids(self, image_id: str) -> tuple[str, ...]:
        """The IDs of the image that the engine calls `image_id`: that one, and its config's digest where known."""
        digests = self.learned.get(image_id)
        return (image_id, digests.config) if digests else (image_id,)

    def config(self, image_id: str) -> str:
        """The digest of the config of the image that the engine calls `image_id`; empty where that is not known."""
        if self.store is not StoreKind.BLOB:
            return image_id
        return self.learned[image_id].config if image_id in self.learned else ""

    def answer(self, ask: Ask) -> list[str]:
        """The lines of the answer to `ask`."""
        lines = [f"{Reply.IMAGE} {ask.id}"]
        if self.present(ask.id):
            return [*lines, Reply.PRESENT]
        holder, depth = self._best(ask.diff_ids)
        if self.store is StoreKind.BLOB and self._blobs:
            depth = next((n for n, layer in enumerate(ask.diff_ids[:depth]) if layer not in self._blobs), depth)
        lines.append(f"{Reply.CHAIN} {depth} {holder}".rstrip())
        if holder and depth == len(ask.diff_ids):
            self.told.add(holder)
        if self.store is not StoreKind.CHAIN:
            lines += self._loose(ask.diff_ids[depth:])
        return lines

    def _best(self, diff_ids: Sequence[str]) -> tuple[str, int]:
        """The image that shares the longest run of lower layers, and its length."""
        depths = {image_id: _shared(layers, diff_ids) for image_id, layers in self.images.items()}
        holder = max(depths, key=depths.__getitem__, default="")
        return (holder, depths[holder]) if depths.get(holder) else ("", 0)

    def _loose(self, missing: Sequence[str]) -> list[str]:
        wanted = dict.fromkeys(layer for layer in missing if layer in self._layers)
        if self._blobs:
            wanted = dict.fromkeys(layer for layer in wanted if layer in self._blobs)
        found = []
        for layer in wanted:
            holder = next(image_id for image_id, layers in self.images.items() if layer in layers)
            found.append(f"{Reply.LOOSE} {layer} {self.images[holder].index(layer)} {holder}")
        return found

    def holders(self, asks: Sequence[Ask]) -> list[str]:
        """The images that hold most of what is asked for and not present: the few that are worth learning from."""
        missing = {layer for ask in asks if not self.present(ask.id) for layer in ask.diff_ids} & self._layers
        found: list[str] = []
        while missing and len(found) < _MOST_LEARNED:
            best = max(self.images, key=lambda image_id: len(missing.intersection(self.images[image_id])))
            found.append(best)
            missing -= set(self.images[best])
        return found

    def stand_in(self, layer: Descriptor, diff_ids: Sequence[str], position: int) -> Descriptor | None:
        """The blob that a manifest names for a layer that is not in the archive; None unless the client may know it."""
        diff_id = diff_ids[position]
        if self.store is StoreKind.BLOB:
            return self._blobs.get(diff_id)
        here = (
            diff_id in self._layers if self.store is StoreKind.LAYER else chain_ids(diff_ids)[position] in self._chains
        )
        return layer if here and layer.digest == diff_id else None


def find_visible_images(engine: Engine, policy: Policy, asks: Sequence[Ask], *, signed: bool = False) -> VisibleImages:
    """The images that the client may know of; of a containerd store, with the blobs that it takes to reuse them."""
    names = list(engine.names())
    named = {name.tagged: image_id for image_id, name in names if policy.shows(name, image_id)}
    ids = set(named.values())
    dead = tuple(left(name.tagged for _, name in names))
    visible = VisibleImages(engine.store, engine.layers(ids) if ids else {}, signed=signed, left=dead, named=named)
    if engine.store is not StoreKind.BLOB or not (holders := visible.holders(asks)):
        return visible
    from layerferry.receive.blob_digests import open_registry  # noqa: PLC0415 - most hosts do not need it

    try:
        with open_registry(engine) as registry:
            told = {image_id: registry.learn(image_id, visible.images[image_id]) for image_id in holders}
    except OSError:  # no place for a folder or a port: what is not known must be sent
        return visible
    learned = {here: digests for here, digests in told.items() if digests}
    return replace(visible, learned=learned)


def _shared(layers: Sequence[str], wanted: Sequence[str]) -> int:
    count = 0
    for one, other in zip(layers, wanted, strict=False):
        if one != other:
            break
        count += 1
    return count
