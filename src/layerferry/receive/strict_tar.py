"""The reader of the one form of tar that is taken: regular files, plain headers, known names, nothing after the end.

POSIX.1-1988 and GNU headers (tar(5)) agree on every field that is looked at, and what is not looked at must be empty,
save for mode, owner and time, which the engine does not get. So this archive can be read in one way only: no links,
devices or folders, no long names, no pax records, no sparse files, no prefix.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from layerferry.receive.refusal import Refusal

BLOCK = 512
MOST_ENTRIES = 4096
_ZERO = bytes(BLOCK)
_NAME = re.compile(rb"oci-layout|index\.json|manifest\.json|blobs/sha256/[0-9a-f]{64}")
_MAGIC = (b"ustar  \0", b"ustar\00000")
_REGULAR = b"0"
_OCTAL = re.compile(rb" *([0-7]{1,11})[ \0]*")


@dataclass(frozen=True, slots=True)
class TarEntry:
    """A file of an archive. `content` yields exactly `size` bytes; those that are not read are checked all the same."""

    name: str
    size: int
    content: Iterator[bytes]


class StrictTar:
    """The reader of an archive that comes in pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def entries(self) -> Iterator[TarEntry]:
        """Yield each entry once; raises `Refusal` at the first byte that is not of this form."""
        seen: set[str] = set()
        while (block := self._block()) != _ZERO:
            name, size = read_header(block)
            if name in seen:
                raise Refusal(f"{name} stands twice in the archive")
            if len(seen) == MOST_ENTRIES:
                raise Refusal(f"the archive has more than {MOST_ENTRIES} entries")
            seen.add(name)
            content = self._content(size)
            yield TarEntry(name, size, content)
            for _ in content:
                pass
        if self._block() != _ZERO:
            raise Refusal("the archive ends with half an end")
        if self._some():
            raise Refusal("the archive goes on after its end")

    def _content(self, size: int) -> Iterator[bytes]:
        yield from self._exactly(size)
        if any(b"".join(self._exactly(-size % BLOCK))):
            raise Refusal("something stands between two entries of the archive")

    def _block(self) -> bytes:
        return b"".join(self._exactly(BLOCK))

    def _exactly(self, count: int) -> Iterator[bytes]:
        while count:
            if not self._some():
                raise Refusal("the archive breaks off")
            piece, self._held = self._held[:count], self._held[count:]
            count -= len(piece)
            yield piece

    def _some(self) -> bool:
        """Whether any byte is left."""
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._held = piece
        return True


def read_header(block: bytes) -> tuple[str, int]:
    """The name and size, in bytes, of a header of 512 bytes; raises `Refusal` unless it is of the one form."""
    if _octal(block[148:156]) != sum(block[:148]) + 8 * ord(" ") + sum(block[156:]):
        raise Refusal("a header of the archive is broken")
    name = block[:100].rstrip(b"\0")
    if not _NAME.fullmatch(name):
        shown = name[:80].decode("ascii", "backslashreplace")
        raise Refusal(f"the archive holds {shown!r}, which has no place there")
    if block[156:157] != _REGULAR or any(block[157:257]):
        raise Refusal(f"{name.decode()} is not a regular file")
    if block[257:265] not in _MAGIC or any(block[265:]):
        raise Refusal(f"the header of {name.decode()} is of another kind of tar")
    return name.decode(), _size(block[124:136])


def write_header(name: str, size: int) -> bytes:
    """A GNU header for a regular file, which may pass 8 GiB."""
    field = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    numbers = b"0000644\0" + b"0000000\0" * 2 + field + b"%011o\0" % 0
    block = name.encode("ascii").ljust(100, b"\0") + numbers + b" " * 8 + _REGULAR + bytes(100) + _MAGIC[0]
    block = block.ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _octal(field: bytes) -> int:
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise Refusal("a number in the archive is broken")
    return int(match[1], 8)


def _size(field: bytes) -> int:
    if field[0] == 0x80:  # noqa: PLR2004 - GNU: the rest is a big-endian number (tar(5))
        return int.from_bytes(field[1:], "big")
    return _octal(field)
