import gzip
import io
import os
import zlib

import pytest
import zstandard

from layerferry.compression.stream import Compression, Method, compress
from layerferry.errors import UsageError
from layerferry.oci.delta_archive import ArchiveBytes

PLAIN = b"all work and no play " * 20_000
DENSE = os.urandom(300_000)
PIECES = [
    ArchiveBytes(PLAIN),
    ArchiveBytes(DENSE, compressed=True),
    ArchiveBytes(PLAIN),
    ArchiveBytes(b"", compressed=True),
]
WHOLE = PLAIN + DENSE + PLAIN


def unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()


@pytest.mark.parametrize(
    ("method", "expand"), [(Method.ZSTD, unzstd), (Method.GZIP, gzip.decompress), (Method.NONE, bytes)]
)
def test_what_goes_in_comes_out(method: Method, expand: object) -> None:
    assert expand(b"".join(compress(PIECES, method))) == WHOLE  # type: ignore[operator]


@pytest.mark.parametrize("method", [Method.ZSTD, Method.GZIP])
def test_what_is_compressed_already_is_only_wrapped(method: Method) -> None:
    wrapped = b"".join(compress([ArchiveBytes(DENSE, compressed=True)], method))
    assert len(DENSE) < len(wrapped) < len(DENSE) + 200
    assert DENSE[:1000] in wrapped


def test_a_level_is_heeded() -> None:
    text = [ArchiveBytes(bytes(number * number % 251 for number in range(200_000)) + PLAIN)]
    assert len(b"".join(compress(text, Method.GZIP, 9))) < len(b"".join(compress(text, Method.GZIP, 1)))


def test_gzip_members_make_one_gzip_file() -> None:
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    data = b"".join(compress(PIECES, Method.GZIP))
    assert stream.decompress(data) == PLAIN
    assert stream.unused_data[:2] == b"\x1f\x8b"


@pytest.mark.parametrize(
    ("text", "method", "level"),
    [
        ("auto", None, None),
        ("zstd", Method.ZSTD, None),
        ("zstd:19", Method.ZSTD, 19),
        ("ZSTD:-5", Method.ZSTD, -5),
        ("gzip:9", Method.GZIP, 9),
        ("none", Method.NONE, None),
    ],
)
def test_what_users_write_is_understood(text: str, method: Method | None, level: int | None) -> None:
    assert Compression.parse(text) == Compression(method, level)


@pytest.mark.parametrize("text", ["xz", "zstd:99", "gzip:0", "gzip:x", "none:1", "auto:3", ""])
def test_what_is_no_compression_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Compression.parse(text)


def test_auto_takes_the_best_that_the_target_takes() -> None:
    assert Compression().choose(["gzip", "zstd"]) is Method.ZSTD
    assert Compression().choose(["gzip"]) is Method.GZIP
    assert Compression().choose([]) is Method.NONE


def test_what_the_target_does_not_take_is_not_chosen() -> None:
    assert Compression(Method.ZSTD).choose(["gzip"]) is None
    assert Compression(Method.NONE).choose([]) is Method.NONE
