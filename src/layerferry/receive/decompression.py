"""Decompression of the client's archive and blobs, in steps, so that bytes can be counted and refused at each.

gzip is zlib's, with several members as RFC 1952 allows them. zstd is a `zstd` binary's, where the host has one; it gets
no byte that is not of a zstd frame, and little memory. What follows the end of a stream is refused: engines differ in
what they make of it.
"""

import os
import resource
import select
import subprocess
import zlib
from collections.abc import Iterator, Mapping
from typing import Protocol

from layerferry.oci import limits
from layerferry.receive import zstd_frames
from layerferry.receive.refusal import Refusal

_STEP = 256 << 10
_PATIENCE = 60.0
#: What a stream starts with (RFC 1952; RFC 8878, 3.1; and the two others that docker looks for: moby, pkg/archive).
_MAGIC = {"gzip": b"\x1f\x8b", "zstd": zstd_frames.MAGIC, "bzip2": b"BZh", "xz": b"\xfd7zXZ\x00"}
MAGIC_LENGTH = max(map(len, _MAGIC.values()))


def sniff(start: bytes) -> str:
    """The compression of a stream, by its first bytes: `none`, `gzip`, `zstd`, `bzip2` or `xz`."""
    if start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50:  # noqa: PLR2004 - a skippable frame (RFC 8878, 3.1.2)
        return "zstd"
    return next((name for name, magic in _MAGIC.items() if start.startswith(magic)), "none")


class Decoder(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the output for `data`."""

    def finish(self) -> Iterator[bytes]:
        """Yield the rest of the output; raises `Refusal` unless the stream is complete."""

    def close(self) -> None:
        """Release what the decoder holds, at whatever point."""


class PlainDecoder:
    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> Iterator[bytes]:
        yield from ()

    def close(self) -> None:
        pass


class GzipDecoder:
    def __init__(self) -> None:
        self._member: zlib._Decompress | None = None
        self._members = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        full = False
        while data or full:
            if self._member is None:
                self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
                self._members += 1
            try:
                piece = self._member.decompress(data, _STEP)
            except zlib.error:
                raise Refusal("the gzip stream is broken") from None
            if piece:
                yield piece
            full = len(piece) == _STEP
            data = self._member.unconsumed_tail
            if self._member.eof:
                data, full = self._member.unused_data, False
                self._member = None

    def finish(self) -> Iterator[bytes]:
        if self._member is not None or not self._members:
            raise Refusal("the gzip stream breaks off")
        yield from ()

    def close(self) -> None:
        self._member = None


class ZstdDecoder:
    """A pipe through `zstd`, which gets checked frames alone. Its memory is bounded, should the check fail."""

    def __init__(self, binary: str, environment: Mapping[str, str]) -> None:
        self._walker = zstd_frames.Walker()
        self._process = subprocess.Popen(
            [binary, "-dcq"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        _bound_memory(self._process.pid)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._in.fileno(), False)

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._walker.feed(data)
        view = memoryview(data)
        while view:
            for descriptor in self._ready(writing=True):
                if descriptor == self._out.fileno():
                    yield self._read()
                else:
                    view = view[self._write(view) :]

    def finish(self) -> Iterator[bytes]:
        self._walker.finish()
        self._in.close()
        while self._ready(writing=False):
            piece = os.read(self._out.fileno(), _STEP)
            if not piece:
                break
            yield piece
        if self._process.wait(_PATIENCE) != 0:
            raise Refusal("the zstd stream is broken")

    def _ready(self, *, writing: bool) -> list[int]:
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        if writing:
            poll.register(self._in, select.POLLOUT)
        ready = [descriptor for descriptor, _ in poll.poll(_PATIENCE * 1000)]
        if not ready:
            raise Refusal("zstd does not get on")
        return ready

    def _read(self) -> bytes:
        piece = os.read(self._out.fileno(), _STEP)
        if not piece:
            raise Refusal("the zstd stream is broken")
        return piece

    def _write(self, view: memoryview) -> int:
        try:
            return os.write(self._in.fileno(), view[:_STEP])
        except BlockingIOError:
            return 0
        except OSError:
            raise Refusal("the zstd stream is broken") from None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._out.close()
        self._in.close()


def _bound_memory(pid: int) -> None:
    """Bound a process's address space before it has been given a byte; where a lower bound stands already, leave it."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or hard > limits.ZSTD_MEMORY:
        resource.prlimit(pid, resource.RLIMIT_AS, (limits.ZSTD_MEMORY, limits.ZSTD_MEMORY))


class Expander:
    """The maker of decoders. `zstd` is the path of a binary, or empty.

    It is used where its memory can be bounded: macOS has no prlimit(2).
    """

    def __init__(self, zstd: str, environment: Mapping[str, str]) -> None:
        self._zstd = zstd if hasattr(resource, "prlimit") else ""
        self._environment = environment

    @property
    def methods(self) -> tuple[str, ...]:
        return ("none", "gzip", "zstd") if self._zstd else ("none", "gzip")

    def open(self, method: str) -> Decoder:
        """A decoder for `none`, `gzip` or `zstd`; raises `Refusal` for any other."""
        if method not in self.methods:
            raise Refusal(f"compression {method[:20]} is not taken here")
        if method == "zstd":
            return ZstdDecoder(self._zstd, self._environment)
        return GzipDecoder() if method == "gzip" else PlainDecoder()
