"""Compression of the delta archive as one stream, for the wire. Several threads where the format has them."""

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from typing import Self

import zstandard

from layerferry.errors import UsageError
from layerferry.oci.content import Piece
from layerferry.oci.delta_archive import ArchiveBytes


class Method(StrEnum):
    ZSTD = "zstd"
    GZIP = "gzip"
    NONE = "none"


#: zstd 3 is what `zstd` itself takes; gzip 1 since zlib has one thread: at 6 it would be slower than most links.
_LEVELS = {Method.ZSTD: (3, range(-50, 20)), Method.GZIP: (1, range(1, 10))}
_THREADS = 4
#: zstd's threads work on jobs, by default of 8 MiB, and hold a dozen of them: 85 MB. Jobs of 2 MiB that see a whole
#: window of what came before take a third of that, and make no more bytes (186 MB of libraries: 73.01 for 73.05 MB).
_JOB = 2 << 20
_WHOLE_WINDOW = 9


@dataclass(frozen=True, slots=True)
class Compression:
    """The compression asked for: `method` None is the best that the target takes, `level` None our default."""

    method: Method | None = None
    level: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `auto|zstd|gzip|none[:LEVEL]`; raises `UsageError`."""
        name, _, level = text.strip().lower().partition(":")
        hint = "Write it as auto, zstd, gzip or none, with a level if you like: zstd:9."
        if name != "auto" and name not in set(Method):
            raise UsageError(f"{text!r} is not a compression", hint=hint)
        method = None if name == "auto" else Method(name)
        if not level:
            return cls(method)
        try:
            allowed = _LEVELS[method][1] if method in _LEVELS else range(0)
            number = int(level)
        except ValueError:
            raise UsageError(f"{level!r} is not a compression level", hint=hint) from None
        if number not in allowed:
            bounds = f"{allowed[0]} to {allowed[-1]}" if allowed else "none at all"
            raise UsageError(f"{name} takes the levels {bounds}, not {number}", hint=hint)
        return cls(method, number)

    def choose(self, accepted: Iterable[str]) -> Method | None:
        """The method for a target that takes `accepted`; None when it does not take the one asked for."""
        takes = {*accepted, Method.NONE}
        if self.method is not None:
            return self.method if self.method in takes else None
        return next(method for method in Method if method in takes)


@dataclass(slots=True)
class Tally:
    """Bytes that a compressor has worked off, and what it has made of them."""

    consumed: int = 0
    produced: int = 0

    def add(self, consumed: int, produced: int) -> None:
        self.consumed += consumed
        self.produced += produced


class Flow:
    """What goes through `compress`, to be looked at in between, by the thread that reads the stream.

    `stored` is of pieces that were compressed already, `plain` of all others. `pending` are bytes of `plain` that were
    produced, and of which it is not told yet what they stand for; `spared` are bytes that need not go. A compressor
    that has threads holds many bytes that are in none of them.
    """

    def __init__(self) -> None:
        self._tallies = {False: Tally(), True: Tally()}
        self._frame: _Frame | None = None
        self._stored = False
        self.pending = 0
        self.spared = 0
        self.ended = False

    @property
    def plain(self) -> Tally:
        return self._tally(stored=False)

    @property
    def stored(self) -> Tally:
        return self._tally(stored=True)

    @property
    def produced(self) -> int:
        return self.plain.produced + self.stored.produced

    def _tally(self, *, stored: bool) -> Tally:
        now = replace(self._tallies[stored])
        if self._frame is not None and self._stored is stored:
            now.add(*self._frame.progress())
        return now

    def put(self, piece: ArchiveBytes, open_frame: "Callable[[bool], _Frame]") -> Iterator[bytes]:
        """What comes out when a piece goes in."""
        if piece.packed:
            yield from self.close()
            self.pass_on(piece)
            yield piece.data
            return
        if self._frame is None or piece.compressed is not self._stored:
            yield from self.close()
            self._stored = piece.compressed
            self._frame = open_frame(self._stored)
        if data := self._frame.compress(piece.data):
            yield data

    def pass_on(self, piece: ArchiveBytes) -> None:
        """Count a piece that goes by itself, or that need not go."""
        if piece.data:
            self.pending = 0 if piece.stands_for else self.pending + len(piece.data)
            self._tallies[False].add(piece.stands_for, len(piece.data))
        else:
            self.spared += piece.stands_for

    def close(self) -> Iterator[bytes]:
        """The end of the frame that is open, if one is."""
        if self._frame is not None:
            data = self._frame.flush()
            self._tallies[self._stored].add(*self._frame.progress())
            self._frame = None
            yield data


def compress(
    pieces: Iterable[ArchiveBytes], method: Method, level: int | None = None, flow: Flow | None = None
) -> Iterator[bytes]:
    """The pieces as one stream of concatenated frames (zstd) or members (gzip).

    Pieces that are compressed already go into frames of their own, at the format's cheapest setting; what is packed is
    part of a zstd stream as it is.
    """
    flow = flow or Flow()
    chosen = _LEVELS[method][0] if level is None and method in _LEVELS else level or 0
    for piece in pieces:
        yield from flow.put(piece, lambda stored: _OPEN[method](chosen, stored))
    yield from flow.close()
    flow.ended = True


def packed(data: bytes, method: Method, level: int | None, *, stored: bool) -> bytes:
    """All of `data` as a stream of its own, made in this thread alone; `stored` where it is compressed already."""
    chosen = _LEVELS[method][0] if level is None and method in _LEVELS else level or 0
    match method:
        case Method.ZSTD:
            return zstandard.ZstdCompressor(level=-50 if stored else chosen).compress(data)
        case Method.GZIP:
            return zlib.compress(data, 0 if stored else chosen, 16 + zlib.MAX_WBITS)
    return data


def zstd_memory(level: int, size: int) -> int:
    """Bytes that a compressor takes which packs `size` bytes at once."""
    parameters = zstandard.ZstdCompressionParameters.from_level(level, source_size=size)
    return int(parameters.estimated_compression_context_size())


def in_blocks(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The bytes of `chunks` in blocks of `size`; the last one may be shorter."""
    held: list[bytes | memoryview] = []
    count = 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while count + len(rest) >= size:
            held.append(rest[: size - count])
            rest = rest[size - count :]
            yield b"".join(held)
            held, count = [], 0
        if rest:
            held.append(rest)
            count += len(rest)
    if held:
        yield b"".join(held)


def in_frames(stream: Iterable[bytes | Piece], size: int) -> Iterator[Piece]:
    """A stream in frames: what is no piece in those of `size`, without a name."""
    for named, parts in groupby(stream, lambda part: isinstance(part, Piece)):
        if named:
            yield from (part for part in parts if isinstance(part, Piece))
        else:
            blocks = in_blocks((part for part in parts if not isinstance(part, Piece)), size)
            yield from (Piece("", block, len(block)) for block in blocks)


@dataclass(frozen=True, slots=True)
class _Frame:
    compress: Callable[[bytes], bytes]
    flush: Callable[[], bytes]
    #: Bytes that were worked off, and those that were made of them.
    progress: Callable[[], tuple[int, int]]


def _counted(compress: Callable[[bytes], bytes], flush: Callable[[], bytes]) -> _Frame:
    """A frame of a compressor that holds little, and does not count itself."""
    tally = Tally()

    def through(data: bytes) -> bytes:
        packed = compress(data)
        tally.add(len(data), len(packed))
        return packed

    def last() -> bytes:
        packed = flush()
        tally.add(0, len(packed))
        return packed

    return _Frame(through, last, lambda: (tally.consumed, tally.produced))


def _zstd(level: int, stored: bool) -> _Frame:  # noqa: FBT001
    threads = 0 if stored else min(os.cpu_count() or 1, _THREADS)
    jobs = {"threads": threads, "job_size": _JOB, "overlap_log": _WHOLE_WINDOW} if threads else {}
    parameters = zstandard.ZstdCompressionParameters.from_level(-50 if stored else level, **jobs)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    stream = compressor.compressobj()
    return _Frame(stream.compress, stream.flush, lambda: compressor.frame_progression()[1:])


def _gzip(level: int, stored: bool) -> _Frame:  # noqa: FBT001
    stream = zlib.compressobj(0 if stored else level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return _counted(stream.compress, stream.flush)


def _none(level: int, stored: bool) -> _Frame:  # noqa: FBT001
    del level, stored
    return _counted(lambda data: data, bytes)


_OPEN: dict[Method, Callable[[int, bool], _Frame]] = {Method.ZSTD: _zstd, Method.GZIP: _gzip, Method.NONE: _none}
