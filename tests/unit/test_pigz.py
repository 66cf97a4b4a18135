"""gzip on several cores: it unpacks to what went in, as one member, and is the same however it came and went."""

import gzip
import random
import zlib

import pytest

from layerferry.compression import pigz
from layerferry.compression.pigz import gzipped

WORDS = [random.Random(number).randbytes(6).hex().encode() for number in range(500)]
TEXT = b" ".join(random.Random(0).choices(WORDS, k=250_000))
NOISE = random.Random(1).randbytes(1 << 20)


def packed(data: bytes, *, size: int = 1 << 18, level: int = 6) -> bytes:
    return b"".join(gzipped((data[start : start + size] for start in range(0, len(data), size)), level))


@pytest.mark.parametrize("data", [b"", b"a", TEXT, NOISE, NOISE * 2, TEXT[: 1 << 20]], ids=len)
def test_it_unpacks_to_what_went_in_and_is_one_member(data: bytes) -> None:
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert stream.decompress(packed(data)) == data
    assert (stream.eof, stream.unused_data) == (True, b"")


def test_chunks_and_cores_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packed(TEXT)
    assert packed(TEXT, size=1000) == packed(TEXT, size=len(TEXT)) == whole
    monkeypatch.setattr(pigz, "_THREADS", 1)
    assert packed(TEXT) == whole


def test_next_to_nothing_is_lost() -> None:
    assert len(packed(TEXT)) < 1.01 * len(gzip.compress(TEXT, 6))


def test_a_level_is_heeded() -> None:
    assert len(packed(TEXT, level=9)) < len(packed(TEXT, level=1))
