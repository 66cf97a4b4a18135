"""The frames of a zstd stream, followed by their headers (RFC 8878, 3.1): what else `zstd -d` reads is refused.

Debian's `zstd -d` goes on with gzip, xz, lz4 and lzma where a frame has ended, and an xz dictionary may have 4 GiB.
Of zstd itself no skippable frame is taken, whose bytes nothing checks, no dictionary, and no window above
`limits.ZSTD_WINDOW`.
"""

from collections.abc import Generator

from layerferry.oci import limits
from layerferry.receive.refusal import Refusal

MAGIC = b"\x28\xb5\x2f\xfd"
_LARGEST_BLOCK = 128 << 10
_RLE, _RESERVED = 1, 3
#: Bytes of the frame's content size, by its flag (section 3.1.1.1.4).
_CONTENT_SIZE = (0, 2, 4, 8)
#: It yields how many of the next bytes it wants, and whether these are only to be passed over.
_Walk = Generator[tuple[int, bool], bytes, None]


class Walker:
    """The reader of a stream that comes in pieces; raises `Refusal` at the first byte that is of no zstd frame."""

    def __init__(self) -> None:
        self._held = b""
        self._between = True
        self._frames = 0
        self._walk = self._stream()
        self._wanted, self._skipped = next(self._walk)

    def feed(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            end = min(len(data), start + self._wanted)
            if not self._skipped:
                self._held += data[start:end]
                if self._between and not MAGIC.startswith(self._held):
                    raise Refusal("what follows here is no zstd frame" if self._frames else "this is no zstd stream")
            self._wanted -= end - start
            start = end
            while not self._wanted:
                held, self._held = self._held, b""
                self._wanted, self._skipped = self._walk.send(held)

    def finish(self) -> None:
        """Raise `Refusal` unless the stream may end here."""
        if not self._frames or not self._between or self._held:
            raise Refusal("the zstd stream breaks off")

    def _stream(self) -> _Walk:
        while True:
            self._between = True
            yield len(MAGIC), False
            self._between = False
            yield from self._frame()
            self._frames += 1

    def _frame(self) -> _Walk:
        (descriptor,) = yield 1, False
        single = bool(descriptor & 0x20)
        if descriptor & 0x08:
            raise Refusal("a zstd frame is of a kind that does not exist")
        if descriptor & 0x03:
            raise Refusal("a zstd frame needs a dictionary")
        window = 0 if single else _window((yield 1, False)[0])
        size = _CONTENT_SIZE[descriptor >> 6] or (1 if single else 0)
        content = yield size, False
        if single:
            window = int.from_bytes(content, "little") + (256 if size == 2 else 0)  # noqa: PLR2004 - section 3.1.1.1.4
        if window > limits.ZSTD_WINDOW:
            raise Refusal(f"a zstd frame has a window of more than {limits.ZSTD_WINDOW} bytes")
        while not (yield from self._block()):
            pass
        if descriptor & 0x04:
            yield 4, True  # the checksum: zstd looks at it

    def _block(self) -> Generator[tuple[int, bool], bytes, bool]:
        """Pass over a block (section 3.1.1.2); whether it is the last of its frame."""
        header = int.from_bytes((yield 3, False), "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        if kind == _RESERVED or size > _LARGEST_BLOCK:
            raise Refusal("a zstd block is of a kind that does not exist")
        yield (1 if kind == _RLE else size), True
        return last


def _window(descriptor: int) -> int:
    """Bytes of a window (section 3.1.1.1.2)."""
    base: int = 1 << 10 + (descriptor >> 3)
    return base + (base >> 3) * (descriptor & 7)
