"""The recipe of a layer: its tar as bytes that a target lacks, and references to files that it has.

One pass reads the layer, and keeps what no file of the target is, as far as it has told: in a private file, since
whether a part of it is there is asked in one go for all of them, which costs one round trip, and a second one for files
in which something has moved.
"""

import hashlib
import zlib
from array import array
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, Protocol

from layerferry.chunks import CHUNK, ChunkReader, Hashed
from layerferry.disk import KeptFile
from layerferry.errors import TargetError
from layerferry.oci import limits
from layerferry.patch import target_program as program
from layerferry.patch.tar_segments import Segment, segments

#: Bytes of a file that is held in memory until it is known whether the target has it.
_SMALL = 1 << 20
#: Bytes of a file in which the target may have a part.
_WORTHWHILE = 256
#: Its pieces are asked for where its blocks leave so many bytes of it to be sent, and more than a third: then something
#: has moved in it. Elsewhere the digests of pieces, 1.4 bytes of a hundred, cost more than they find.
_MOVED = 4 << 10
#: Bytes of all that is new in such files, from which on they are worth one more round trip: a line of 10 mbit and 40 ms
#: carries that much meanwhile (seen: 0.18 s with what both ends do for it).
_A_ROUND = 96 << 10
#: Bytes of the largest of which they are: in a file of so many there are 100,000, which take 20 MB to look them up.
_SEARCHED = 64 << 20

#: Bytes that are kept while the target has not told of all of its files: more are kept of what it lacks alone.
_AHEAD = 64 << 20

#: Asks the target for the `blocks` or the `pieces` of its files, by zlib of the paths, separated by NUL.
Ask = Callable[[str, bytes], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class _Part:
    """So many bytes: at `start` of the kept file, or of the target's file of that number."""

    start: int
    size: int
    file: int | None = None


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A file of the layer that is kept, of which the target may have parts; or all, where it had not told of it yet."""

    path: bytes
    start: int
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class _Whole:
    """A file that the target has under that number."""

    file: int


class FileNumbers(Protocol):
    """The numbers of a target's files by their digests: as far as it has told. After `wait` it has told of all."""

    def get(self, digest: bytes, /) -> int | None: ...

    def wait(self) -> None: ...


class Recipe:
    """A layer's recipe. `known` may grow while the layer is read.

    Read the layer, then `resolve`; `size`, `digest` and `encoded` are known then. Raises
    `TargetError` where the target's answers are none.
    """

    def __init__(self, known: FileNumbers, path: Path) -> None:
        self._known = known
        self._path = path
        self._parts: list[_Part | _Unknown | _Whole] = []
        self.size = 0
        self.digest = ""
        #: Bytes that the target lacks.
        self.literal = 0

    def read(self, chunks: Iterable[bytes], size: int) -> None:
        """Read the layer, of some `size` bytes, to its end."""
        layer = Hashed(chunks)
        file = BufferedReader(ChunkReader(layer), CHUNK)
        with KeptFile(self._path, size, exact=False) as kept:
            for segment, begun in segments(file):
                self._take(segment, begun, file, kept)
        self.size, self.digest = layer.size, layer.digest

    def _take(self, segment: Segment, begun: bytes, file: IO[bytes], kept: KeptFile) -> None:
        if segment.path and segment.size is not None and segment.size >= program.SMALLEST:
            self._take_file(segment.path, segment.size, file, kept)
            return
        start = kept.written
        kept.write(begun)
        left = None if segment.size is None else segment.size - len(begun)
        while data := file.read(CHUNK if left is None else min(left, CHUNK)):
            kept.write(data)
            left = None if left is None else left - len(data)
        self._add(_Part(start, kept.written - start))

    def _take_file(self, path: bytes, size: int, file: IO[bytes], kept: KeptFile) -> None:
        start, whole = kept.written, hashlib.blake2b(digest_size=program.DIGEST)
        held, left = [], size
        while left and (data := file.read(min(left, CHUNK))):
            whole.update(data)
            left -= len(data)
            if size <= _SMALL:
                held.append(data)
            else:
                kept.write(data)
        if kept.written > _AHEAD:
            self._known.wait()
        digest = whole.digest()
        number = None if left else self._known.get(digest)
        if number is not None:
            kept.truncate(start)
            self._parts.append(_Whole(number))
            return
        for data in held:
            kept.write(data)
        if left:
            self._add(_Part(start, kept.written - start))
        else:
            self._parts.append(_Unknown(path, start, size, digest))

    def _add(self, part: _Part) -> None:
        """Put what is kept behind what is kept into one part."""
        last = self._parts[-1] if self._parts else None
        if isinstance(last, _Part) and last.file is part.file is None and last.start + last.size == part.start:
            self._parts[-1] = _Part(last.start, last.size + part.size)
        elif part.size:
            self._parts.append(part)

    def resolve(self, ask: Ask) -> None:
        """Ask for blocks of the files that the target has under the same path, then for pieces where these are few."""
        self._know()
        unknown = [part for part in self._parts if isinstance(part, _Unknown)]
        found: dict[int, list[_Part]] = {}
        if unknown:
            self._ask(ask, "blocks", unknown, found)
            moved = [part for part in unknown if _is_moved(part, found.get(part.start))]
            if sum(_kept(found[part.start]) for part in moved) > _A_ROUND:
                self._ask(ask, "pieces", moved, found)
        parts, self._parts = self._parts, []
        for part in parts:
            if isinstance(part, _Unknown):
                for piece in found.get(part.start, [_Part(part.start, part.size)]):
                    if piece.file is None:
                        self._add(piece)
                    else:
                        self._parts.append(piece)
            else:
                self._parts.append(part)
        self.literal = _kept(self._parts)

    def _know(self) -> None:
        """Look once more for the files that were read before the target had told of all of its own."""
        self._known.wait()
        parts, self._parts = self._parts, []
        for part in parts:
            number = self._known.get(part.digest) if isinstance(part, _Unknown) else None
            if number is not None:
                self._parts.append(_Whole(number))
            elif isinstance(part, _Part) or (isinstance(part, _Unknown) and part.size < _WORTHWHILE):
                self._add(_Part(part.start, part.size))
            else:
                self._parts.append(part)

    def _ask(self, ask: Ask, what: str, files: Sequence[_Unknown], found: dict[int, list[_Part]]) -> None:
        answer = _Told(ask(what, zlib.compress(b"\0".join(part.path for part in files), 9)))
        with self._path.open("rb") as kept:
            for part in files:
                number = answer.number() - 1
                if number < 0:
                    continue
                size = answer.number()
                if what == "blocks":
                    parts = _blocks(_content(kept, part), part.start, number, size, answer.blocks(size))
                else:
                    cut = [*_cut(_content(kept, part))]
                    parts = _pieces(cut, part.start, number, answer.pieces(size, {digest for _, _, digest in cut}))
                better = _merged(parts)
                if part.start not in found or _kept(better) < _kept(found[part.start]):
                    found[part.start] = better
        answer.end()

    def encoded(self) -> Iterator[bytes]:
        """The recipe, as the target's program reads it; what was kept is read from its file."""
        yield bytes((program.BEGIN,))
        before = -1
        with self._path.open("rb") as file:
            for part in self._parts:
                if isinstance(part, _Whole):
                    yield bytes((program.WHOLE,)) + _step(before, part.file)
                    before = part.file
                elif isinstance(part, _Part) and part.file is not None:
                    yield bytes((program.PART,)) + _step(before, part.file)
                    yield program.varint(part.start) + program.varint(part.size)
                    before = part.file
                else:
                    yield literal(part.size)
                    file.seek(part.start)
                    left = part.size
                    while left:
                        data = file.read(min(left, CHUNK))
                        left -= len(data)
                        yield data
        yield bytes((program.CHECK,)) + bytes.fromhex(self.digest.removeprefix("sha256:"))


def _content(kept: IO[bytes], part: _Unknown) -> Any:
    """A file that is kept; of a large one no more is in memory than is looked at."""
    if part.size > _SMALL:
        return program.Large(kept, part.size, part.start)
    kept.seek(part.start)
    return kept.read(part.size)


def literal(size: int) -> bytes:
    """What says that so many bytes follow."""
    return bytes((program.LITERAL,)) + program.varint(size)


def _step(before: int, file: int) -> bytes:
    step = file - before
    return program.varint(step << 1 if step >= 0 else (-step << 1) - 1)


def _kept(parts: Iterable[object]) -> int:
    return sum(part.size for part in parts if isinstance(part, _Part) and part.file is None)


def _is_moved(part: _Unknown, found: list[_Part] | None) -> bool:
    return found is not None and part.size <= _SEARCHED and _kept(found) > max(_MOVED, part.size // 3)


def _merged(parts: Iterable[_Part]) -> list[_Part]:
    """Parts that follow one another, in the layer and in their file, as one."""
    merged: list[_Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if last is not None and last.file == part.file and last.start + last.size == part.start:
            merged[-1] = _Part(last.start, last.size + part.size, part.file)
        else:
            merged.append(part)
    return merged


def _count(size: int) -> int:
    """How many blocks a file of `size` bytes has: as `program.blocks` gives them."""
    end = program.FIRST
    found = 1 if size else 0
    while end < size and end < program.LONGEST:
        end, found = end * 2, found + 1
    return found + max(0, -(-(size - end) // program.LONGEST))


def _blocks(data: Any, kept: int, number: int, size: int, digests: bytes) -> Iterator[_Part]:
    """The blocks of a file that are the same at the same place of the old one, which has `size` bytes."""
    for index, (new, old) in enumerate(zip_longest(program.blocks(len(data)), program.blocks(size))):
        if new is None:
            return
        start, end = new
        told = digests[index * program.SHORT : (index + 1) * program.SHORT]
        if new == old and told == program.digest(data[start:end]):
            yield _Part(start, end - start, number)
        else:
            yield _Part(kept + start, end - start)


def _cut(data: Any) -> Iterator[tuple[int, int, bytes]]:
    """Where the pieces of a file begin and end, and their digests."""
    for start, end in program.pieces(data):
        yield start, end, program.digest(data[start:end])


def _pieces(
    cut: Iterable[tuple[int, int, bytes]], kept: int, number: int, old: Mapping[bytes, tuple[int, int]]
) -> Iterator[_Part]:
    """The pieces of a file that are somewhere in the old one."""
    for start, end, digest in cut:
        there = old.get(digest)
        if there is not None and there[1] == end - start:
            yield _Part(there[0], end - start, number)
        else:
            yield _Part(kept + start, end - start)


class _Told:
    """Reads what a target says of its files; raises `TargetError` where it is cut short."""

    def __init__(self, told: Iterable[bytes]) -> None:
        self._told = BufferedReader(ChunkReader(told))

    def take(self, size: int) -> bytes:
        taken = self._told.read(size) if size <= limits.FILES else b""
        if len(taken) < size:
            raise TargetError("the target's answer about its files is cut short")
        return taken

    def end(self) -> None:
        """Hear the rest of it, before anything else is asked."""
        while self._told.read(CHUNK):
            pass

    def number(self) -> int:
        try:
            return program.number(self.take)
        except ValueError:
            raise TargetError("the target's answer about its files is none") from None

    def blocks(self, size: int) -> bytes:
        """The digests of all."""
        if size > limits.SIZE:
            raise TargetError("the target's answer about its files is none")
        return self.take(program.SHORT * _count(size))

    def pieces(self, size: int, wanted: Container[bytes]) -> dict[bytes, tuple[int, int]]:
        """Where those are that are wanted: of an old file there may be any number."""
        count = self.number()
        try:
            lengths = array("H", (self.number() for _ in range(min(count, size))))
        except OverflowError:
            raise TargetError("the target's answer about its files is none") from None
        if sum(lengths) != size:
            raise TargetError("the target's answer about its files is none")
        found, start = {}, 0
        for length in lengths:
            if (digest := self.take(program.SHORT)) in wanted:
                found[digest] = start, length
            start += length
        return found
