"""The part of a patch that the target's python3 plays: it tells what files it has, and expands a recipe.

It goes through the session and is run by `python3 -c`, so it is of Python 3.6 and the standard library alone; it goes
without docstrings and annotations (`layerferry.patch.text`). The client cuts files as it does here, with these very
functions. `python3 -c PROGRAM MODE FOLDER...`: the folders hold the layers of one image, as overlayfs has them.

- `sign`: prints the digests of all files, in the order of `files`, in lines of base85.
- `blocks`: reads paths from stdin, and prints the blocks of the file of each path.
- `pieces`: the same, and the pieces.
- `expand`: reads a recipe from stdin, and writes what it stands for.
"""

import base64
import hashlib
import mmap
import os
import re
import stat
import sys
import zlib
from typing import Any, Callable, Iterator, Tuple  # noqa: UP035 - 3.6 has no others

#: Bytes of a file that is worth a digest; a smaller one is sent.
SMALLEST = 64
#: Bytes of a file's digest, and of a block's or piece's.
DIGEST = 16
SHORT = 8
#: Bytes of the first block of a file, and of the longest. Blocks double: a head that has changed, as that of each .pyc
#: has (it holds the time of its source), costs one of the first, and a file of 30 kB has ten blocks.
FIRST = 64
LONGEST = 4 << 10
#: Bytes of a piece: at least, and at most. It ends where three bytes in a row are of three sets of 32: of random bytes
#: that is one place of 512. Both sides end pieces in the same places, wherever these are in their files.
LEAST = 128
MOST = 8 << 10
#: Bytes that are read of a file at a time.
CHUNK = 1 << 20
#: Bytes of a line of an answer.
LINE = 3000
#: What a recipe says: so many bytes literally; a whole file, or a part of one; a layer begins, and has that digest.
LITERAL, WHOLE, PART, BEGIN, CHECK, END = range(6)


def _set(name: bytes) -> bytes:
    """A set of 32 bytes for a regular expression, drawn by a digest."""
    order = sorted(range(256), key=lambda byte: hashlib.sha256(name + bytes((byte,))).digest())
    return b"[" + b"".join(b"\\x%02x" % byte for byte in order[:32]) + b"]"


ENDS = re.compile(_set(b"1") + _set(b"2") + _set(b"3"), re.DOTALL)


def digest(data: Any) -> bytes:
    return hashlib.blake2b(data, digest_size=SHORT).digest()


def blocks(size: int) -> Iterator[Tuple[int, int]]:  # noqa: UP006
    """Where the blocks of a file of `size` bytes begin and end."""
    start, length = 0, FIRST
    while start < size:
        yield start, min(start + length, size)
        start, length = start + length, min(max(start + length, FIRST), LONGEST)


def pieces(data: Any) -> Iterator[Tuple[int, int]]:  # noqa: UP006
    """Where the pieces of a file begin and end."""
    start, size = 0, len(data)
    while start < size:
        most = min(start + MOST, size)
        found = ENDS.search(data, min(start + LEAST, most), most)
        end = found.end() if found else most
        yield start, end
        start = end


def varint(number: int) -> bytes:
    """A number as 7 bits a byte, the lowest first; the last byte is below 128."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def number(take: "Callable[[int], bytes]") -> int:
    """Read a number as `varint` writes it; `take` gives so many bytes. Raises `ValueError`."""
    value = shift = 0
    while shift < 63:
        (byte,) = take(1)
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value
    raise ValueError("a number is too long")


def files(folders: "list[str]") -> "list[tuple[bytes, bytes]]":
    """The files below the folders, in an order that does not change: the path in its layer, and the whole path."""
    found = []
    for folder in dict.fromkeys(folders):
        root = os.fsencode(folder)
        for path, below, names in os.walk(root):
            below.sort()
            for name in sorted(names):
                whole = os.path.join(path, name)
                status = os.lstat(whole)
                if stat.S_ISREG(status.st_mode) and status.st_size >= SMALLEST:
                    found.append((whole[len(root) :].lstrip(b"/"), whole))
    return found


def say(parts: "Iterator[bytes]") -> None:
    """Print bytes as lines, as they come."""
    held = b""
    for part in parts:
        held += part
        while len(held) >= LINE:
            say_line(held[:LINE])
            held = held[LINE:]
    if held:
        say_line(held)


def say_line(data: bytes) -> None:
    sys.stdout.write("data " + base64.b85encode(data).decode() + "\n")
    sys.stdout.flush()


def sign(here: "list[tuple[bytes, bytes]]") -> "Iterator[bytes]":
    """The digest of each file."""
    for _, path in here:
        whole = hashlib.blake2b(digest_size=DIGEST)
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(CHUNK), b""):
                whole.update(chunk)
        yield whole.digest()


def cut(here: "list[tuple[bytes, bytes]]", by: "Callable[[Any], Iterator[tuple[int, int]]]") -> "Iterator[bytes]":
    """Of the file of each path that stdin has: its number and one more, its size, and its parts' digests."""
    paths = {path: number for number, (path, _) in reversed(list(enumerate(here)))}
    for path in zlib.decompress(sys.stdin.buffer.read()).split(b"\0"):
        place = paths.get(path)
        if place is None:
            yield varint(0)
            continue
        with open(here[place][1], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            parts = list(by(data))
            yield varint(place + 1) + varint(len(data))
            if by is pieces:
                yield varint(len(parts)) + b"".join(varint(end - start) for start, end in parts)
            yield b"".join(digest(data[start:end]) for start, end in parts)


class Expansion:
    """A recipe on its way to what it stands for."""

    def __init__(self, here: "list[tuple[bytes, bytes]]", source: Any, sink: "Callable[[bytes], Any]") -> None:
        self.here = here
        self.source = source
        self.sink = sink
        self.layer: Any | None = None
        self.last = -1
        self.open = (-1, None)  # type: Any

    def take(self, size: int) -> bytes:
        data: bytes = self.source.read(size)
        if len(data) < size:
            raise ValueError("the recipe is cut short")
        return data

    def put(self, data: bytes) -> None:
        if self.layer is not None:
            self.layer.update(data)
        self.sink(data)

    def copy(self, file: Any, left: int) -> None:
        while left:
            data = file.read(min(left, CHUNK))
            if not data:
                raise ValueError("a file, or the recipe, is shorter than it should be")
            self.put(data)
            left -= len(data)

    def file(self) -> Any:
        """The file that the recipe names by the way from the one before."""
        step = number(self.take)
        self.last += (step >> 1) ^ -(step & 1)
        if not 0 <= self.last < len(self.here):
            raise ValueError("the recipe names a file that is not here")
        if self.open[0] != self.last:
            if self.open[1]:
                self.open[1].close()
            self.open = self.last, open(self.here[self.last][1], "rb")  # noqa: SIM115
        return self.open[1]

    def expand(self) -> None:
        try:
            self.follow()
        finally:
            if self.open[1]:
                self.open[1].close()

    def follow(self) -> None:
        while True:
            (kind,) = self.take(1)
            if kind == LITERAL:
                self.copy(self.source, number(self.take))
            elif kind == WHOLE:
                file = self.file()
                file.seek(0)
                self.copy(file, os.fstat(file.fileno()).st_size)
            elif kind == PART:
                file = self.file()
                file.seek(number(self.take))
                self.copy(file, number(self.take))
            elif kind == BEGIN:
                self.layer = hashlib.sha256()
            elif kind == CHECK and self.layer is not None:
                if self.layer.digest() != self.take(32):
                    raise ValueError("the old files have changed: a layer that was made of them is another one")
                self.layer = None
            elif kind == END:
                return
            else:
                raise ValueError("the recipe is none")


def main(mode: str, folders: "list[str]") -> None:
    here = files(folders)
    if mode == "sign":
        say(sign(here))
    elif mode == "expand":
        try:
            Expansion(here, sys.stdin.buffer, sys.stdout.buffer.write).expand()
            sys.stdout.buffer.flush()
        except (ValueError, OSError) as error:
            sys.exit("patch: " + str(error))
    else:
        say(cut(here, pieces if mode == "pieces" else lambda data: blocks(len(data))))


if __name__ == "__main__" and len(sys.argv) > 1:
    main(sys.argv[1], sys.argv[2:])
