"""Tars of others, header by header: what tools write is read; what is announced is bounded before it is read."""

import io
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from layerferry.chunks import chunks_of
from layerferry.oci import limits
from layerferry.tar_headers import Header, Headers, number
from ustar import header, member, octal

LONG = "a/" * 60 + "b" * 90


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    size = next(size for size in range(len(body), len(body) + 9) if len(str(size)) + len(body) == size)
    return b"%d" % size + body


class Counting(io.RawIOBase):
    """A file that counts what is read of it, and begins again at its end where it is endless."""

    def __init__(self, *parts: bytes, endless: bytes = b"") -> None:
        self._file = io.BytesIO(b"".join(parts))
        self._endless = endless
        self.count = 0
        self.largest = 0

    def read(self, size: int = -1, /) -> bytes:
        self.largest = max(self.largest, size)
        data = self._file.read(size)
        if not data and self._endless:
            self._file = io.BytesIO(self._endless)
            data = self._file.read(size)
        self.count += len(data)
        return data


def read(data: bytes, skip: Callable[[int], None] | None = None) -> list[tuple[Header, bytes]]:
    return [(found, b"".join(chunks_of(part))) for found, part in Headers(io.BytesIO(data), skip)]


def refused(file: Any) -> str:
    with pytest.raises(tarfile.ReadError) as caught:
        for _ in Headers(file):
            pass
    return str(caught.value)


@pytest.mark.parametrize("how", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_tools_write_is_read(how: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=how, pax_headers={"comment": "of a commit"}) as tar:
        for name, data in ((LONG, b"x" * 513), ("empty", b""), ("ü/n", b"y")):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5 if how == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(data))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, LONG if how != tarfile.USTAR_FORMAT else "short"
        tar.addfile(link)
    found = read(out.getvalue())
    assert [(one.name, one.is_file, data) for one, data in found] == [
        *((LONG, True, b"x" * 513), ("empty", True, b""), ("ü/n", True, b"y")),
        *(("folder", False, b""), ("link", False, b"")),
    ]
    assert found[-1][0].link == (LONG if how != tarfile.USTAR_FORMAT else "short")
    for one, data in found:
        assert out.getvalue()[one.offset : one.offset + one.size] == data


def test_a_member_that_nobody_reads_is_skipped() -> None:
    data = member(b"a", b"x" * 5000) + member(b"b", b"y") + bytes(1024)
    file = io.BytesIO(data)
    skipped: list[int] = []

    def skip(count: int) -> None:
        skipped.append(count)
        file.seek(count, io.SEEK_CUR)

    assert [one.name for one, _ in Headers(file, skip)] == ["a", "b"]
    assert skipped == [5120, 512]


def test_a_tar_may_end_without_a_mark() -> None:
    assert [one.name for one, _ in read(member(b"a", b"x"))] == ["a"]


def test_a_size_of_a_pax_header_goes_before_the_headers_own() -> None:
    pax = member(b"p", record(b"size", b"3"), b"x")
    (one, data), (two, _) = read(pax + header(b"a", octal(0)) + b"xyz".ljust(512, b"\0") + member(b"b", b""))
    assert (one.size, data, two.name) == (3, b"xyz", "b")


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"X", b"g"])
@pytest.mark.parametrize(
    "size", [octal(limits.ARCHIVE_EXTENSION + 1), octal(1 << 30), b"\x80" + bytes(6) + b"\x01" * 5]
)
def test_a_header_is_not_read_whole_before_it_is_bounded(kind: bytes, size: bytes) -> None:
    file = Counting(member(b"a", b"x"), header(b"long", size, kind), endless=b"a" * 4096)
    assert "too long" in refused(file)
    assert file.count == 3 * 512
    assert file.largest < limits.ARCHIVE_EXTENSION


ENDLESS = {
    "names": member(b"././@LongLink", b"a\0", b"L"),
    "links": member(b"././@LongLink", b"a\0", b"K"),
    "pax headers": member(b"pax", record(b"a", b"b"), b"x"),
    "global headers": member(b"pax", record(b"a", b"b"), b"g"),
    "empty members": header(b"a", octal(0)),
    "empty members with long names": member(b"././@LongLink", b"a" * 60_000, b"L") + header(b"a", octal(0)),
    "sparse maps": header(b"a", octal(0), b"S"),
}


@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS)
def test_there_is_an_end_to_headers(endless: bytes) -> None:
    file = Counting(endless=endless)
    assert refused(file)
    assert file.count <= limits.ARCHIVE_MEMBERS * 512


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no tar",
        b"x" * 512,
        header(b"a", b"\xff" * 12),
        header(b"a", b"\x80" + b"\xff" * 11),
        header(b"a", b"12x\x1b45678901"),
        header(b"a", b"-0000000001\0"),
        header(b"a", b"0_000000001\0"),
        member(b"a", b"x") + b"y" * 512,
        member(b"a", b"x") + b"y" * 100,
        member(b"a", b"x" * 600)[:-300],
        member(b"a", b"x" * 600)[:600],
        header(b"long", octal(100), b"L") + b"a" * 90,
    ],
)
def test_what_is_damaged_is_told_so(data: bytes) -> None:
    assert refused(io.BytesIO(data))


@pytest.mark.parametrize(
    ("field", "told"),
    [
        (b"00000000017\0", 15),
        (b"  17 \0x", 15),
        (b"17", 15),
        (bytes(12), 0),
        (b" " * 12, 0),
        (b"\x80" + bytes(10) + b"\x0f", 15),
        (b"\x80" + b"\xff" * 11, (1 << 88) - 1),
        (b"-0000000017\0", None),
        (b"+0000000017\0", None),
        (b"0_000000017\0", None),
        (b"0o17", None),
        (b"18", None),
        (b"\t17", None),
        ("\u0661\u0667".encode(), None),
        (b"\xff" * 12, None),
        (b"\x81" + bytes(11), None),
    ],
)
def test_a_number_is_what_every_reader_of_tars_takes_for_it(field: bytes, told: int | None) -> None:
    assert number(field) == told


@pytest.mark.parametrize(
    "records",
    [
        record(b"size", b"9" * 5000),
        record(b"size", b"9" * 20),
        record(b"size", b"-5"),
        record(b"size", "\u0665".encode()),
        b"9" * 400 + b" a=b\n",
        b"0 a=b\n",
        b"-6 a=b\n",
        b"7 a=b\n",
        b"5 a=b\n",
        b"99 a=b\n",
        b" a=b\n",
        b"a=b\n",
        record(b"GNU.sparse.major", b"1"),
        record(b"GNU.sparse.map", b"1,2,x"),
    ],
)
def test_a_pax_header_that_is_none_is_told_so(records: bytes) -> None:
    assert refused(io.BytesIO(member(b"p", records, b"x") + member(b"a", b"x")))


def test_a_name_in_no_encoding_is_a_name() -> None:
    pax = member(b"p", record(b"path", b"\xff\xfe"), b"x")
    assert [one.name for one, _ in read(pax + member(b"a", b"x"))] == ["\udcff\udcfe"]


def test_digits_cost_their_length_and_not_the_square_of_it() -> None:
    """Python's patterns take minutes for as many: see the module. Each record is looked at once."""

    class Once(bytes):
        looks = 0

        def find(self, *arguments: Any) -> int:
            Once.looks += 1
            return super().find(*arguments)

    from layerferry.tar_headers import _records  # noqa: PLC0415

    with pytest.raises(tarfile.ReadError):
        _records(Once(b"9" * limits.ARCHIVE_EXTENSION))
    assert Once.looks == 1
