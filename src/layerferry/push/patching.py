"""Layers of a push that go as recipes: which of them, and how their contents become that.

A layer goes as a recipe where that is quicker, by what the line was seen to carry: the target reads its old files once,
and the layer is matched against them, before the first byte of an archive goes.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from layerferry.chunks import at_most, bytes_of, checked, copied, damage, exhaust, most_of, plain_chunks
from layerferry.disk import KeptFile
from layerferry.errors import SourceError
from layerferry.oci.content import Blob, Content, Summary
from layerferry.oci.delta_archive import ArchiveBytes
from layerferry.oci.image import MEDIA_TYPE_LAYER, Descriptor, Layer
from layerferry.oci.plan import Action, Plan, Step
from layerferry.patch import target_program as program
from layerferry.patch.recipe import Recipe, literal
from layerferry.patch.text import word
from layerferry.push.delivery import Item
from layerferry.targets.conversation import Conversation

#: Bytes of a layer, as its source counts them, from which on a recipe may be worth its round trips.
_SMALLEST = 2 << 20
#: Bytes that are sent to see what the line carries, and more of them where it carries much.
_PROBES = (64 << 10, 256 << 10)
#: Bytes a second from which on the first probe tells too little: what it takes are processes there.
_QUICK = 3e6
#: Bytes of layers that a target's python3 reads and hashes in a second, and that we match; medians on 2 cores, which
#: have to be right to a factor of two.
_READ = 120e6
_MATCHED = 60e6
#: zstd's, where the user says none: a recipe is small, and its line slow.
LEVEL = 12
#: What layers shrink to on the wire, where they are not compressed already.
_PACKED = 0.35
#: Seconds that the round trips and the start of python3 take, beyond the line's own.
_START = 0.4


@dataclass(frozen=True, slots=True)
class Patches:
    """The layers that go as recipes, by diff ID, and by their digests the numbers of the target's files."""

    layers: frozenset[str]
    known: Mapping[bytes, int]


def find_patches(conversation: Conversation, items: Sequence[Item], holders: Iterable[str]) -> Patches | None:
    """Ask the target for its old files, where layers are large enough, and the line slow enough, for that.

    `holders` are images there that have some of the layers; those that the names stand for now are looked at first.
    """
    layers = {layer.diff_id: layer for item in items for layer in item.plan.sent if layer.size >= _SMALLEST}
    if not layers:
        return None
    start = time.monotonic()
    if not conversation.prepare(word()):
        return None
    trip = time.monotonic() - start
    if not _pays(layers.values(), _rate(conversation, trip), trip):
        return None
    most = max(items, key=lambda item: item.plan.delta)
    candidates = dict.fromkeys([name for item in items for name in item.names] + [one for one in holders if one])
    told = conversation.files(most.image.id, candidates)
    known: dict[bytes, int] = {}
    for number, start in enumerate(range(0, len(told) - program.DIGEST + 1, program.DIGEST)):
        known.setdefault(told[start : start + program.DIGEST], number)
    return Patches(frozenset(layers), known) if known else None


def _seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _rate(conversation: Conversation, trip: float) -> float:
    """Bytes a second that the line carries, as far as a probe tells, beyond its round trip."""
    rate = 0.0
    for size in _PROBES:
        probe = bytes(size)
        rate = size / max(_seconds(lambda: conversation.probe(probe)) - trip, 1e-4)  # noqa: B023 - called at once
        if rate < _QUICK:
            break
    return rate


def _pays(layers: Iterable[Layer], rate: float, trip: float) -> bool:
    """Whether recipes of the layers are quicker than the layers at that rate."""
    size = sum(layer.size for layer in layers)
    return _START + 4 * trip + size / _READ + size / _MATCHED < size * _PACKED / rate


class PatchedContent:
    """A content some of whose layers are recipes. All of it is read and matched before the first blob is given.

    `ask` asks the target (`layerferry.patch.recipe.Ask`). What it lacks is kept in `folder` meanwhile.
    """

    def __init__(self, content: Content, patches: Patches, ask: Callable[[str, bytes], bytes], folder: Path) -> None:
        self._folder = folder
        self.recipes: dict[str, Recipe] = {}
        self._blobs = [
            self._match(blob, patches, ask) if blob.diff_id in patches.layers else self._keep(blob)
            for blob in content.blobs()
        ]
        summary = content.finish()
        changed = {blob.diff_id: blob.descriptor for blob in self._blobs if blob.recipe is not None}
        self._summary = replace(summary, descriptors={**summary.descriptors, **changed})

    def blobs(self) -> Iterator[Blob]:
        return iter(self._blobs)

    def finish(self) -> Summary:
        return self._summary

    def _match(self, blob: Blob, patches: Patches, ask: Callable[[str, bytes], bytes]) -> Blob:
        recipe = Recipe(patches.known, self._folder / f"{blob.diff_id.removeprefix('sha256:')}.new")
        stored, size, place = iter(blob.chunks), blob.descriptor.size, f"layer {blob.descriptor.digest}"
        if blob.descriptor.is_compressed:
            with damage(place):
                plain = plain_chunks(stored, blob.descriptor.media_type)
                recipe.read(at_most(plain, most_of(size), place), most_of(size))
            exhaust(stored)
        else:
            recipe.read(at_most(stored, size, place), size)
        if recipe.digest != blob.diff_id:
            raise SourceError(f"{place} is not {blob.diff_id}, but {recipe.digest}")
        recipe.resolve(ask)
        self.recipes[blob.diff_id] = recipe
        descriptor = Descriptor(MEDIA_TYPE_LAYER, recipe.digest, recipe.size)
        return Blob(blob.diff_id, descriptor, (), recipe=recipe.encoded())

    def _keep(self, blob: Blob) -> Blob:
        path = self._folder / f"{blob.diff_id.removeprefix('sha256:')}.whole"
        with KeptFile(path, blob.descriptor.size) as file:
            exhaust(copied(checked(blob.chunks, blob.descriptor, "what the source gave"), file))
        return Blob(blob.diff_id, blob.descriptor, bytes_of(path))


def as_recipe(pieces: Iterable[ArchiveBytes]) -> Iterator[ArchiveBytes]:
    """An archive as a recipe of it: what is no recipe goes literally."""
    for piece in pieces:
        if piece.data and not piece.recipe:
            yield ArchiveBytes(literal(len(piece.data)), compressed=piece.compressed)
        yield piece
    yield ArchiveBytes(bytes((program.END,)))


def patched(plan: Plan, recipes: Mapping[str, Recipe]) -> Plan:
    """The plan, with what became of the layers that went as recipes."""

    def step(before: Step) -> Step:
        recipe = recipes.get(before.layer.diff_id)
        if recipe is None or before.action is not Action.SEND:
            return before
        reason = f"patched: the target lacked {recipe.literal} bytes of it"
        return replace(before, action=Action.PATCH, reason=reason, new=recipe.literal)

    return replace(plan, steps=tuple(map(step, plan.steps)))
