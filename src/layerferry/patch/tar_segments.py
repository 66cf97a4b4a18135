"""A tar in segments, in their order: the contents of files, which may be elsewhere too, and all that is between them.

The segments are the tar, byte for byte, whatever is in it. What cannot be read as a tar is a segment without a path; so
a mistake here costs bytes, and never a wrong layer. Formats: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar,
"Basic Tar Format".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from layerferry.tar_headers import number

_BLOCK = 512
#: Bytes of a pax header or a long name that is read for the path in it.
_EXTENSION = 1 << 20
_REGULAR = b"\x0007"
_PAX_PATH = re.compile(rb"(?:^|\n)[0-9]+ path=([^\n]*)\n")
_PAX_SIZE = re.compile(rb"(?:^|\n)[0-9]+ (?:size|GNU\.sparse\.[a-z]+)=")


@dataclass(frozen=True, slots=True)
class Segment:
    """So many bytes, which follow in the file; `path` is of the file that they are the content of, or empty.

    Without a size it is all that is left.
    """

    size: int | None
    path: bytes = b""


def segments(file: IO[bytes]) -> Iterator[tuple[Segment, bytes]]:
    """Each segment, with what has been read of it already; the rest is to be read by who takes it, before the next."""
    path, odd = b"", False
    while header := file.read(_BLOCK):
        size = None if odd else _size(header)
        if size is None:
            yield Segment(None), header
            return
        yield Segment(len(header)), header
        kind = header[156:157]
        if kind in b"xL" and kind and size <= _EXTENSION:
            data = file.read(_padded(size))
            yield Segment(len(data)), data
            path, odd = _extended(kind, data[:size], path, odd=odd)
        elif kind in b"123456" and kind:
            path = b""
        elif kind and kind in _REGULAR:
            yield Segment(size, path or _path(header)), b""
            yield Segment(_padded(size) - size), b""
            path = b""
        elif kind == b"g":
            yield Segment(_padded(size)), b""
        else:
            odd = True  # sparse files of old, and what nobody knows: how much follows is not for sure


def _padded(size: int) -> int:
    return size + -size % _BLOCK


def _size(header: bytes) -> int | None:
    """What the header says of the bytes behind it; None where it is no header."""
    if len(header) < _BLOCK:
        return None
    whole = 256 + sum(header[:148]) + sum(header[156:])
    return number(header[124:136]) if number(header[148:156]) == whole else None


def _path(header: bytes) -> bytes:
    name, prefix = header[:100].rstrip(b"\0"), b""
    if header[257:262] == b"ustar" and header[263:265] == b"00":
        prefix = header[345:500].rstrip(b"\0")
    return _plain(prefix + b"/" + name if prefix else name)


def _plain(path: bytes) -> bytes:
    return path.removeprefix(b"./").lstrip(b"/")


def _extended(kind: bytes, data: bytes, path: bytes, *, odd: bool) -> tuple[bytes, bool]:
    """The path that a long name or a pax header gives to what follows, and whether its size is another one."""
    if kind == b"L":
        return _plain(data.rstrip(b"\0")), odd
    found = _PAX_PATH.search(data)
    return (_plain(found[1]) if found else path), odd or bool(_PAX_SIZE.search(data))
