"""The reader of a foreign tar, member by member: each header is bounded before its bytes are read.

Python's tarfile reads a long name, a pax header and a sparse map whole, a chain of them by recursion, and searches pax
headers by patterns whose cost is the square of their length (CVE-2024-6232): in a gigabyte of zeros, which gzip makes a
megabyte of, each of them takes the memory. So the loops are ours, and only its reading of one block is used.

Formats: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar, "Basic Tar Format".
"""

import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import IO, Final

from layerferry.oci import limits

_BLOCK: Final = 512
_CHUNK: Final = 1 << 20
_PAX: Final = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG: Final = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_FILES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
#: Digits of a decimal number that a header may have: 2^64 has 20.
_DIGITS: Final = 20
_OCTAL: Final = re.compile(rb"[ \0]*([0-7]*)(?:[ \0].*)?", re.DOTALL)

Skip = Callable[[int], None]


class Part:
    """The content of one member, to be read before the next member is asked for; the rest of it is skipped."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self.left = size

    def read(self, size: int = -1, /) -> bytes:
        """Some of the content. Raises `tarfile.ReadError` where the tar ends in the midst of it."""
        size = self.left if size < 0 else min(size, self.left)
        data = self._file.read(size) if size else b""
        if size and not data:
            raise tarfile.ReadError("it ends in the middle of a file")
        self.left -= len(data)
        return data


@dataclass(frozen=True, slots=True)
class Header:
    """A member: `kind` is tar's type flag, `offset` is where its `size` bytes begin."""

    name: str
    kind: bytes
    link: str
    size: int
    offset: int

    @property
    def is_file(self) -> bool:
        return self.kind in _FILES


class Headers:
    """The members of a tar, in order. Iterating raises `tarfile.TarError` where it is none, damaged or beyond a bound.

    `skip` leaves bytes out; without it they are read.
    """

    def __init__(self, file: IO[bytes], skip: Skip | None = None) -> None:
        self._file = file
        self._skip = skip or self._pass
        self._offset = 0
        self._extensions = 0

    def __iter__(self) -> Iterator[tuple[Header, Part]]:
        for _ in range(limits.ARCHIVE_MEMBERS):
            header = self._next()
            if header is None:
                return
            part = Part(self._file, header.size)
            yield header, part
            self._skip(part.left + -header.size % _BLOCK)
            self._offset = header.offset + header.size + -header.size % _BLOCK
        raise tarfile.ReadError(f"it has more than {limits.ARCHIVE_MEMBERS} members")

    def _next(self) -> Header | None:
        """The next member, with the names and sizes of the headers before its own."""
        told: dict[str, str] = {}
        for _ in range(limits.ARCHIVE_EXTENSIONS):
            header = self._block()
            if header is None:
                return None
            if header.kind == tarfile.XGLTYPE:
                self._payload(header)  # of a git commit, say: nothing of it is a member's
            elif header.kind in _PAX:
                told |= _records(self._payload(header))
            elif header.kind in _LONG:
                name = "path" if header.kind == tarfile.GNUTYPE_LONGNAME else "linkpath"
                told[name] = _text(self._payload(header).partition(b"\0")[0])
            else:
                return _complete(header, told)
        raise tarfile.ReadError(f"it has more than {limits.ARCHIVE_EXTENSIONS} headers for one file")

    def _block(self) -> Header | None:
        """The next header; None at the end, which some tools do not mark."""
        data = self._read(_BLOCK)
        if not data and self._offset:
            return None
        try:
            info = tarfile.TarInfo.frombuf(data, "utf-8", "surrogateescape")
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            return None
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None
        self._offset += _BLOCK
        has_bytes = info.type not in {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
                                      tarfile.CHRTYPE, tarfile.BLKTYPE}  # fmt: skip
        size = _sized(number(data[124:136])) if has_bytes else 0
        return Header(info.name, info.type, info.linkname, size, self._offset)

    def _payload(self, header: Header) -> bytes:
        self._extensions += header.size
        if header.size > limits.ARCHIVE_EXTENSION or self._extensions > limits.ARCHIVE_NAMES:
            raise tarfile.ReadError("it has a name, or a header, that is too long")
        size = header.size + -header.size % _BLOCK
        data = self._read(size)
        if len(data) < size:
            raise tarfile.ReadError("it ends in the middle of a header")
        self._offset += size
        return data[: header.size]

    def _read(self, size: int) -> bytes:
        """The next `size` bytes, or fewer at the end."""
        data = b""
        while len(data) < size and (more := self._file.read(size - len(data))):
            data += more
        return data

    def _pass(self, count: int) -> None:
        while count:
            data = self._file.read(min(count, _CHUNK))
            if not data:
                raise tarfile.ReadError("it ends in the middle of a file")
            count -= len(data)


def number(field: bytes) -> int | None:
    """A number of a header; None where it is none, as one with a sign.

    It has octal digits and a blank or NUL behind them, or, of GNU, a byte 128 and the number in big-endian bytes.
    """
    if field.startswith(b"\x80"):
        return int.from_bytes(field[1:], "big")
    found = _OCTAL.fullmatch(field)
    return int(found[1] or b"0", 8) if found else None


def _complete(header: Header, told: dict[str, str]) -> Header:
    if header.kind == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in told):
        raise tarfile.ReadError("it has sparse files: write it without them")
    size = told.get("size")
    if size is not None and not (size.isascii() and size.isdecimal() and len(size) <= _DIGITS):
        raise tarfile.ReadError("it has a size that is none")
    return replace(
        header,
        name=told.get("path", header.name).rstrip("/"),
        link=told.get("linkpath", header.link),
        size=header.size if size is None or not header.is_file else _sized(int(size)),
    )


def _sized(size: int | None) -> int:
    if size is None or size > limits.SIZE:
        raise tarfile.ReadError("it has a size that is none")
    return size


def _records(data: bytes) -> dict[str, str]:
    """The records of a pax header: `LENGTH KEY=VALUE` and a newline, where LENGTH counts all of it."""
    told: dict[str, str] = {}
    start = 0
    while start < len(data) and data[start]:
        space = data.find(b" ", start, start + _DIGITS)
        digits = data[start:space] if space > start else b""
        end = start + int(digits) if digits.isdigit() else 0
        if not space < end <= len(data) or data[end - 1 : end] != b"\n":
            raise tarfile.ReadError("it has a pax header that is none")
        key, _, value = data[space + 1 : end - 1].partition(b"=")
        told[_text(key)] = _text(value)
        start = end
    return told


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
