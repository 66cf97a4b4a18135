"""Hostile streams: one compression behind another, and what a reader of zstd would take besides."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from typing import Any

from fuzz.shipment import LAYER, Shipment
from fuzz.trick import TRICKS, Trick

MAGIC = b"\x28\xb5\x2f\xfd"
LZ4 = bytes.fromhex("04224d186440a7000000000500000068656c6c6f00000000")[:-4] + bytes(4)
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0skip"


def frame(data: bytes, *, descriptor: int = 0, window: int = 0x38, extra: bytes = b"") -> bytes:
    """A zstd frame of raw blocks (RFC 8878, section 3.1.1), by default with a window of 128 KiB."""
    cut = [data[start : start + (64 << 10)] for start in range(0, len(data), 64 << 10)] or [b""]
    blocks = [
        (len(piece) << 3 | (number == len(cut) - 1)).to_bytes(3, "little") + piece for number, piece in enumerate(cut)
    ]
    head = b"" if descriptor & 0x20 else bytes([window])
    return MAGIC + bytes([descriptor]) + head + extra + b"".join(blocks)


def xz(data: bytes, dictionary: int = 40) -> bytes:
    """An xz stream whose header wants a dictionary of 4 GiB (The .xz File Format, sections 3.1 and 5.3.1)."""
    stream = lzma.compress(data)
    size = (stream[12] + 1) * 4
    head = bytearray(stream[12 : 12 + size - 4])
    place = head.index(b"\x21\x01") + 2
    head[place] = dictionary
    return stream[:12] + head + zlib.crc32(head).to_bytes(4, "little") + stream[12 + size :]


_NO = "|compression zstd is not taken"
_BROKEN = r"the gzip stream is broken"
#: What is done to honest bytes, as which method, and what is heard.
_STREAMS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "xz behind zstd": ("zstd", lambda data: frame(data) + xz(bytes(1 << 20)), "no zstd frame" + _NO),
    "xz behind nothing of zstd": ("zstd", lambda data: frame(b"") + xz(data), "no zstd frame" + _NO),
    "xz of a small dictionary behind zstd": ("zstd", lambda data: frame(data) + xz(b"x", 0), "no zstd frame" + _NO),
    "lzma behind zstd": (
        "zstd",
        lambda data: frame(b"") + lzma.compress(data, format=lzma.FORMAT_ALONE),
        "no zstd frame" + _NO,
    ),
    "gzip behind zstd": ("zstd", lambda data: frame(b"") + gzip.compress(data), "no zstd frame" + _NO),
    "bzip2 behind zstd": ("zstd", lambda data: frame(b"") + bz2.compress(data), "no zstd frame" + _NO),
    "lz4 behind zstd": ("zstd", lambda data: frame(data) + LZ4, "no zstd frame" + _NO),
    "zeros behind zstd": ("zstd", lambda data: frame(data) + bytes(4), "no zstd frame" + _NO),
    "old zstd behind zstd": ("zstd", lambda data: frame(data) + b"\x27\xb5\x2f\xfd" + bytes(9), "no zstd frame" + _NO),
    "skippable frame behind zstd": ("zstd", lambda data: frame(data) + SKIPPABLE, "no zstd frame" + _NO),
    "skippable frame before zstd": ("zstd", lambda data: SKIPPABLE + frame(data), "no zstd stream" + _NO),
    "half a frame of zstd": ("zstd", lambda data: frame(data)[:-9], "breaks off" + _NO),
    "half a magic of zstd": ("zstd", lambda data: frame(data) + MAGIC[:2], "breaks off" + _NO),
    "window of a gigabyte": ("zstd", lambda data: frame(data, window=0xA0), "a window of more than" + _NO),
    "window of four terabytes": ("zstd", lambda data: frame(data, window=0xFF), "a window of more than" + _NO),
    "second window of a gigabyte": ("zstd", lambda data: frame(b"") + frame(data, window=0xA0), "a window of" + _NO),
    "single segment of a gigabyte": (
        "zstd",
        lambda data: frame(data, descriptor=0xA0, extra=(1 << 30).to_bytes(4, "little")),
        "a window of more than" + _NO,
    ),
    "dictionary": ("zstd", lambda data: frame(data, descriptor=1, extra=b"\1"), "needs a dictionary" + _NO),
    "reserved bit": ("zstd", lambda data: frame(data, descriptor=8), "does not exist" + _NO),
    "block of a reserved kind": ("zstd", lambda _: frame(b"")[:-3] + b"\7\0\0", "does not exist" + _NO),
    "block of two megabytes": ("zstd", lambda _: frame(b"")[:-3] + b"\1\0\xff", "does not exist" + _NO),
    "zstd that has other content than its header says": (
        "zstd",
        lambda data: frame(data, descriptor=0x80, extra=(7).to_bytes(4, "little")),
        "the zstd stream is broken" + _NO,
    ),
    "xz behind gzip": ("gzip", lambda data: gzip.compress(data) + xz(bytes(1 << 20)), _BROKEN),
    "zstd behind gzip": ("gzip", lambda data: gzip.compress(data) + frame(b""), _BROKEN),
    "bzip2 behind gzip": ("gzip", lambda data: gzip.compress(data) + bz2.compress(b""), _BROKEN),
    "lz4 behind gzip": ("gzip", lambda data: gzip.compress(data) + LZ4, _BROKEN),
    "zeros behind gzip": ("gzip", lambda data: gzip.compress(data) + bytes(512), _BROKEN),
    "zlib behind gzip": ("gzip", lambda data: gzip.compress(data) + zlib.compress(b""), _BROKEN),
}


def _as_stream(method: str, store: Callable[[bytes], bytes]) -> Callable[[Shipment], Any]:
    def play(shipment: Shipment) -> None:
        shipment.load, shipment.encode = f"load {method}", store

    return play


def _as_layer(method: str, store: Callable[[bytes], bytes]) -> Callable[[Shipment], Any]:
    def play(shipment: Shipment) -> None:
        shipment.images[0].store, shipment.images[0].media_type = store, f"{LAYER}+{method}"

    return play


for _name, (_method, _store, _expected) in _STREAMS.items():
    TRICKS.append(Trick(f"{_name}, as a stream", _expected, _as_stream(_method, _store)))
    TRICKS.append(Trick(f"{_name}, as a layer", _expected, _as_layer(_method, _store)))
