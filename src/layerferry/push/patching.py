"""Layers of a push that go as recipes: which of them, and how their contents become that.

A layer goes as a recipe where that is quicker, by what the line was seen to carry: the target reads its old files once,
while we read the layer and match it against them, before the first byte of an archive goes.
"""

import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Self

from layerferry import log
from layerferry.chunks import at_most, bytes_of, checked, copied, damage, exhaust, most_of, plain_chunks
from layerferry.disk import KeptFile
from layerferry.errors import SIGNALS_WAIT, SourceError
from layerferry.oci.content import Blob, Content, Summary
from layerferry.oci.delta_archive import ArchiveBytes
from layerferry.oci.image import MEDIA_TYPE_LAYER, Descriptor, Layer
from layerferry.oci.plan import Action, Plan, Step
from layerferry.patch import target_program as program
from layerferry.patch.recipe import Ask, Recipe, literal
from layerferry.patch.text import word
from layerferry.push.delivery import Item
from layerferry.result import size
from layerferry.targets.conversation import Conversation

#: Bytes that are sent to see what the line carries, and more of them where it carries much.
_PROBES = (64 << 10, 256 << 10)
#: Bytes a second from which on the first probe tells too little: what it takes are processes there.
_QUICK = 3e6
#: Bytes of layers that we match in a second, while the target's python3 reads and hashes twice as many; medians on 2
#: cores, which have to be right to a factor of two.
_MATCHED = 60e6
#: Bytes of an image that an engine exports in a second, for who may not read its folders.
_EXPORTED = 60e6
#: zstd's, where the user says none: a recipe is small, and its line slow. Each thread of level 12 takes 42 MB, of 9 11.
LEVEL = 9
#: What a layer shrinks to when it is compressed: on the wire, or in its source.
_PACKED = 0.35
#: How many times as long a layer has to take whole: a patch may find nothing, and all goes after it has looked. At 100
#: mbit, 40 MB that were new took 3.7 s with a look and 3.0 s without one.
_HOPED = 1.4
#: Seconds that the round trips and the start of python3 take, beyond the line's own.
_START = 0.4


class ToldFiles:
    """The files that a target has, by their digests, as it tells of them: in a thread, which begins at once.

    `told` are digests one after the other, cut anywhere, in the order in which the target counts its files. Each method
    raises what they have raised.
    """

    def __init__(self, told: Iterable[bytes]) -> None:
        self._numbers: dict[bytes, int] = {}
        self._failed: BaseException | None = None
        self._begun, self._ended = threading.Event(), threading.Event()
        threading.Thread(target=self._hear, args=(told,), daemon=True).start()

    def get(self, digest: bytes, /) -> int | None:
        """The number of a file of that digest; None where there is none, or where it was not told yet."""
        if self._failed:
            raise self._failed
        return self._numbers.get(digest)

    def any(self) -> bool:
        """Wait until the target has told of a file, or of all; whether there is one."""
        self._until(self._begun)
        return bool(self._numbers)

    def wait(self) -> None:
        """Wait until the target has told of all."""
        self._until(self._ended)

    def _until(self, event: threading.Event) -> None:
        while not event.wait(SIGNALS_WAIT):
            pass
        if self._failed:
            raise self._failed

    def _hear(self, told: Iterable[bytes]) -> None:
        rest, count = b"", 0
        try:
            for data in told:
                rest += data
                whole = len(rest) - len(rest) % program.DIGEST
                for start in range(0, whole, program.DIGEST):
                    self._numbers.setdefault(rest[start : start + program.DIGEST], count)
                    count += 1
                rest = rest[whole:]
                if count:
                    self._begun.set()
        except BaseException as error:  # noqa: BLE001 - it is raised again where the files are wanted
            self._failed = error
        self._begun.set()
        self._ended.set()


@dataclass(frozen=True, slots=True)
class Patches:
    """The layers that go as recipes, by diff ID, and the target's files. Where there are none, `why` says so."""

    layers: frozenset[str] = frozenset()
    known: ToldFiles | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What some layers take in seconds: whole, and as recipes. `rate` is in bytes a second, `trip` in seconds."""

    whole: float
    patch: float
    rate: float

    @classmethod
    def of(cls, layers: Iterable[Layer], rate: float, trip: float, exported: Iterable[Layer] = ()) -> Self:
        """By the sizes that their sources tell, of which some are those of compressed blobs: these go as they are.

        `exported` are the layers of an image all of which the target has to read for it.
        """
        layers = list(layers)
        wire = sum(layer.size * (1 if layer.packed else _PACKED) for layer in layers)
        plain, whole = _unpacked(layers), _unpacked(exported)
        reading = whole / _EXPORTED + plain / _MATCHED
        return cls(wire / rate, _START + 4 * trip + reading, rate)

    @property
    def pays(self) -> bool:
        return self.patch * _HOPED < self.whole

    def __str__(self) -> str:
        return f"which takes {self.whole:.1f} s at {size(self.rate)}/s, and as a patch {self.patch:.1f} s"


def _unpacked(layers: Iterable[Layer]) -> float:
    return sum(layer.size / (_PACKED if layer.packed else 1) for layer in layers)


def find_patches(
    conversation: Conversation,
    items: Sequence[Item],
    large: Sequence[Layer],
    holders: Iterable[str],
    folder: Path,
    *,
    begun: bool,
) -> Patches:
    """Let the target begin to tell of its old files, where the line is slow enough for the `large` layers.

    So it does where recipes are `begun`, of which the target has a part. `holders` are images there that have some of
    the layers; those that the names stand for now are looked at first. `folder` is where what is new will be kept.
    """
    if not (reads := conversation.prepare(word())):
        return Patches(why="for nothing on the target may read older files of it")
    rate, trip = _line(conversation)
    most = max(items, key=lambda item: item.plan.delta)
    exported = most.image.layers if any(reads) else ()
    estimate = Estimate.of(large, rate, trip, exported)
    if not estimate.pays and not begun:
        return Patches(why=str(estimate))
    needed = int(_unpacked(large))
    if (free := shutil.disk_usage(folder).free) < needed:
        return Patches(why=f"for a patch may keep {size(needed)} in TMPDIR, which has {size(free)} free")
    log.note("patch", f"keeps up to {needed} bytes in {folder}, of {free} free")
    candidates = dict.fromkeys([name for item in items for name in item.names] + [one for one in holders if one])
    known = ToldFiles(conversation.files(most.image.id, candidates))
    if not known.any():
        return Patches(why="for the target has no older files of it")
    return Patches(frozenset(layer.diff_id for layer in large), known)


def _line(conversation: Conversation) -> tuple[float, float]:
    """Bytes a second that the line carries, as far as probes tell, and seconds of its round trip.

    Both ends may be busy: a probe that takes no longer than an empty one tells of the line no more than that it is as
    quick as four such probes.
    """
    trip = _seconds(conversation, 0)
    rate = 0.0
    for count in _PROBES:
        passed = _seconds(conversation, count)
        rate = count / max(passed - trip, passed / 4, 1e-6)
        if rate < _QUICK:
            break
    return rate, trip


def _seconds(conversation: Conversation, count: int) -> float:
    """What it takes until so many bytes are there, and we know."""
    start = time.monotonic()
    conversation.probe(bytes(count))
    return time.monotonic() - start


class PatchedContent:
    """A content some of whose layers are recipes. All of it is read and matched before the first blob is given.

    `ask` asks the target (`layerferry.patch.recipe.Ask`). What it lacks is kept in `folder` meanwhile.
    """

    def __init__(self, content: Content, patches: Patches, ask: Ask, folder: Path) -> None:
        assert patches.known is not None  # there are layers, then
        self._folder = folder
        self.recipes: dict[str, Recipe] = {}
        self._blobs = [
            self._match(blob, patches.known, ask) if blob.diff_id in patches.layers else self._keep(blob)
            for blob in content.blobs()
        ]
        patches.known.wait()  # nothing else is said meanwhile
        summary = content.finish()
        changed = {blob.diff_id: blob.descriptor for blob in self._blobs if blob.recipe is not None}
        self._summary = replace(summary, descriptors={**summary.descriptors, **changed})

    def blobs(self) -> Iterator[Blob]:
        return iter(self._blobs)

    def finish(self) -> Summary:
        return self._summary

    def _match(self, blob: Blob, known: ToldFiles, ask: Ask) -> Blob:
        recipe = Recipe(known, self._folder / f"{blob.diff_id.removeprefix('sha256:')}.new")
        stored, count, place = iter(blob.chunks), blob.descriptor.size, f"layer {blob.descriptor.digest}"
        if blob.descriptor.is_compressed:
            with damage(place):
                plain = plain_chunks(stored, blob.descriptor.media_type)
                recipe.read(at_most(plain, most_of(count), place), most_of(count))
            exhaust(stored)
        else:
            recipe.read(at_most(stored, count, place), count)
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
        return Blob(blob.diff_id, blob.descriptor, (), recipe=chain((literal(blob.descriptor.size),), bytes_of(path)))


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
