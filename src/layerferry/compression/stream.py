"""Compression of the delta archive as one stream, for the wire. Several threads where the format has them."""

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import zstandard

from layerferry.errors import UsageError
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


def compress(pieces: Iterable[ArchiveBytes], method: Method, level: int | None = None) -> Iterator[bytes]:
    """The pieces as one stream of concatenated frames (zstd) or members (gzip).

    Pieces that are compressed already go into frames of their own, at the format's cheapest setting; what is packed is
    part of a zstd stream as it is.
    """
    if method is Method.NONE:
        yield from (piece.data for piece in pieces)
        return
    chosen = _LEVELS[method][0] if level is None else level
    stored: bool | None = None
    frame: _Frame | None = None
    for piece in pieces:
        if piece.packed:
            if frame is not None:
                yield frame.flush()
            frame = None
            yield piece.data
            continue
        if frame is None or piece.compressed is not stored:
            if frame is not None:
                yield frame.flush()
            stored = piece.compressed
            frame = _OPEN[method](chosen, stored)
        if data := frame.compress(piece.data):
            yield data
    if frame is not None:
        yield frame.flush()


def in_blocks(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The bytes of `chunks` in blocks of `size`; the last one may be shorter."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= size:
            yield bytes(memoryview(held)[:size])
            del held[:size]
    if held:
        yield bytes(held)


@dataclass(frozen=True, slots=True)
class _Frame:
    compress: Callable[[bytes], bytes]
    flush: Callable[[], bytes]


def _zstd(level: int, stored: bool) -> _Frame:  # noqa: FBT001
    threads = 0 if stored else min(os.cpu_count() or 1, _THREADS)
    jobs = {"threads": threads, "job_size": _JOB, "overlap_log": _WHOLE_WINDOW} if threads else {}
    parameters = zstandard.ZstdCompressionParameters.from_level(-50 if stored else level, **jobs)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return _Frame(stream.compress, stream.flush)


def _gzip(level: int, stored: bool) -> _Frame:  # noqa: FBT001
    stream = zlib.compressobj(0 if stored else level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return _Frame(stream.compress, stream.flush)


_OPEN: dict[Method, Callable[[int, bool], _Frame]] = {Method.ZSTD: _zstd, Method.GZIP: _gzip}
