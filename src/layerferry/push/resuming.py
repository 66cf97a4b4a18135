"""Large layers, or their recipes, in pieces that a target keeps until it has loaded all.

A push that broke off goes on behind them.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby

from layerferry.compression.adaptive_level import AdaptiveLevel, Passed
from layerferry.compression.stream import Flow, Method, compress, in_blocks, packed
from layerferry.oci.content import WORTH_KEEPING, Blob, Content, Piece, Summary
from layerferry.oci.delta_archive import ArchiveBytes, ArchivedImage
from layerferry.oci.piece import SMALLEST_LAYER, content_of, key_of, name_of, piece_size, recipe_id
from layerferry.push.delivery import Item
from layerferry.targets.conversation import Conversation
from layerferry.targets.kept_pieces import find_kept

_THREADS = 4


@dataclass(slots=True)
class Kept:
    """What a target has of layers in pieces, by what each is known by, and the bytes that it keeps of further ones."""

    layers: frozenset[str]
    pieces: Mapping[str, str]
    room: int
    #: By diff ID, bytes of the layers that were there.
    resumed: dict[str, int] = field(default_factory=dict)

    def _has(self, ids: Iterable[str]) -> bool:
        return not {key_of(one) for one in ids}.isdisjoint(content.partition(".")[0] for content in self.pieces)

    @property
    def begun_whole(self) -> bool:
        """Whether there is a part of a layer as it is."""
        return self._has(self.layers)

    @property
    def begun_as_recipe(self) -> bool:
        """Whether there is a part of a layer's recipe."""
        return self._has(map(recipe_id, self.layers))


def ask_kept(conversation: Conversation, items: Sequence[Item], *, recipes: bool) -> Kept | None:
    """Ask the target, where there is so much to send that it pays; None where there is not, or nothing comes of it.

    Layers may come as `recipes`.
    """
    sent = [layer for item in items for layer in item.plan.sent]
    layers = {layer.diff_id: layer.size for layer in sent if layer.size >= SMALLEST_LAYER}
    needed = sum(layers.values())
    if needed < WORTH_KEEPING:
        return None
    pieces, room = find_kept(conversation, needed, [*layers, *(map(recipe_id, layers) if recipes else ())])
    return Kept(frozenset(layers), pieces, room) if pieces or room else None


class ContentInPieces:
    """A content, of an image of `size` bytes, whose large layers or recipes come in pieces, compressed by `method`."""

    def __init__(self, content: Content, size: int, kept: Kept, method: Method, level: int | None) -> None:
        self._content = content
        self._image = size
        self._kept = kept
        self._method = method
        self._level = level
        self._threads = min(os.cpu_count() or 1, _THREADS)
        self._adaptive = AdaptiveLevel(self._threads)

    def blobs(self) -> Iterator[Blob]:
        for blob in self._content.blobs():
            if blob.diff_id not in self._kept.layers:
                yield blob
            elif blob.recipe is not None:
                yield replace(blob, pieces=self._compressed(blob, blob.recipe, self._of_recipe))
            elif blob.packed is not None and self._method is Method.ZSTD:
                yield replace(blob, pieces=self._cut(blob, blob.packed))
            else:
                yield replace(blob, pieces=self._whole(blob))

    def finish(self) -> Summary:
        return self._content.finish()

    def _size(self, blob: Blob) -> int:
        return piece_size(blob.descriptor.size, self._image)

    def _cut(self, blob: Blob, stream: Iterable[bytes]) -> Iterator[Piece]:
        """The pieces of a layer that somebody has compressed already: of that stream, as it is."""
        for block in in_blocks(stream, self._size(blob)):
            content = content_of(blob.diff_id, "stream", block)
            yield self._there(blob, content, len(block)) or _new(content, block, 0)

    def _whole(self, blob: Blob) -> Iterator[Piece]:
        size = 0
        for piece in self._compressed(blob, blob.chunks, self._of_layer):
            size += piece.size
            yield piece
        if size != blob.descriptor.size:
            raise ValueError(f"layer {blob.diff_id} has {size} bytes, not {blob.descriptor.size}")

    def _of_layer(self, blob: Blob, number: int, block: bytes) -> str:
        """What a part of a blob is known by: its place says all, for a digest has but one blob."""
        place = f"{number} of {self._size(blob)}, {len(block)}"
        return content_of(blob.diff_id, f"{self._method} {blob.descriptor.digest} {place}")

    def _of_recipe(self, blob: Blob, number: int, block: bytes) -> str:
        """What a part of a recipe is known by: it is another one where the target has other files."""
        del number
        return content_of(recipe_id(blob.diff_id), self._method, block)

    def _compressed(
        self, blob: Blob, chunks: Iterable[bytes], known_by: Callable[[Blob, int, bytes], str]
    ) -> Iterator[Piece]:
        """The pieces of a layer or its recipe, some compressed ahead."""
        size = self._size(blob)
        waiting: deque[Piece | Future[_Packed]] = deque()
        began = time.monotonic()
        with ThreadPoolExecutor(self._threads) as pool:
            for number, block in enumerate(in_blocks(chunks, size)):
                content = known_by(blob, number, block)
                there = self._there(blob, content, len(block))
                stored = blob.descriptor.is_compressed
                waiting.append(there or pool.submit(self._pack, content, block, self._level_of(size), stored))
                if len(waiting) > self._threads:
                    began = yield from self._pass(waiting.popleft(), began)
            while waiting:
                began = yield from self._pass(waiting.popleft(), began)

    def _level_of(self, size: int) -> int | None:
        adapts = self._method is Method.ZSTD and self._level is None
        return self._adaptive.of(size) if adapts else self._level

    def _pack(self, content: str, block: bytes, level: int | None, stored: bool) -> "_Packed":  # noqa: FBT001
        began = time.monotonic()
        data = packed(block, self._method, level, stored=stored)
        return _Packed(_new(content, data, len(block)), time.monotonic() - began)

    def _pass(self, piece: "Piece | Future[_Packed]", began: float) -> Generator[Piece, None, float]:
        """Give a piece away, and tell what that took, since `began`; when it was over."""
        if isinstance(piece, Piece):
            yield piece
            return time.monotonic()
        asked = time.monotonic()
        done = piece.result()
        given = time.monotonic()
        yield done.piece
        over = time.monotonic()
        size = len(done.piece.data)
        passed = Passed(size, done.piece.size, done.seconds, given - asked, over - given, over - began)
        self._adaptive.passed(passed)
        return over

    def _there(self, blob: Blob, content: str, size: int) -> Piece | None:
        name = self._kept.pieces.get(content)
        if name is None:
            return None
        self._kept.resumed[blob.diff_id] = self._kept.resumed.get(blob.diff_id, 0) + size
        return Piece(name, b"", size)


@dataclass(frozen=True, slots=True)
class _Packed:
    """A piece, and what it took a thread to pack it."""

    piece: Piece
    seconds: float


def _new(content: str, data: bytes, size: int) -> Piece:
    return Piece(name_of(content, data), data, size)


def in_pieces(images: Sequence[ArchivedImage], kept: Kept, method: Method, level: int | None) -> list[ArchivedImage]:
    """The images, whose large layers come in pieces."""
    return [
        replace(image, content=ContentInPieces(image.content, image.plan.image.size, kept, method, level))
        for image in images
    ]


def wire(
    pieces: Iterable[ArchiveBytes], kept: Kept, method: Method, level: int | None, flow: Flow
) -> Iterator[bytes | Piece]:
    """An archive as it goes out: what is no piece is compressed as one stream, up to the next piece.

    Pieces for which the target has no room go without their names.
    """
    room = kept.room
    for named, run in groupby(pieces, lambda piece: bool(piece.name)):
        flow.ended = False
        if not named:
            yield from compress(run, method, level, flow)
            continue
        for piece in run:
            flow.pass_on(piece)
            room -= len(piece.data)
            if piece.data and room < 0:
                yield piece.data
            else:
                yield Piece(piece.name, piece.data, piece.stands_for)
    flow.ended = True
