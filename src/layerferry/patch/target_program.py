"""The part of a patch that the target's python3 plays: it tells what files it has, and expands a recipe.

It goes through the session and is run by `python3 -c`, so it is of Python 3.6 and the standard library alone; it goes
without docstrings and annotations (`layerferry.patch.text`). The client cuts files as it does here, with these very
functions. `python3 -c PROGRAM MODE FOLDER...`: the folders hold the layers of images, as overlayfs has them; `-` is
for a tar of an image's files, on descriptor 7.

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
import tarfile
import zlib
from typing import Any, Callable, Iterable, Iterator, Tuple  # noqa: UP035 - 3.6 has no others

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
#: Its steps: as many, and four for each `SMALLEST` bytes that it has made, which is what a block has at least.
STEPS = 10000


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
    """Where the pieces of a file begin and end; it is looked at a part at a time, each behind the one before."""
    start, size = 0, len(data)
    while start < size:
        part = data[start : min(start + CHUNK, size)]
        at, last = 0, start + len(part) == size
        while at < len(part) and (last or at + MOST <= len(part)):
            most = min(at + MOST, len(part))
            found = ENDS.search(part, min(at + LEAST, most), most)
            end = found.end() if found else most
            yield start + at, start + end
            at = end
        if not at:
            return
        start += at


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


def files(folders: "list[str]") -> "list[tuple[bytes, Any]]":
    """The files below the folders, in an order that does not change: the path in its layer, and where it is."""
    if folders == ["-"]:
        return exported(7)
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


def exported(descriptor: int) -> "list[tuple[bytes, Any]]":
    """The files of a tar, as views of it."""
    if not os.fstat(descriptor).st_size:
        return []
    data = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    found = []
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for one in tar:
                if one.isreg() and one.size >= SMALLEST:
                    view = data[one.offset_data : one.offset_data + one.size]
                    found.append((os.fsencode(one.name), view))
                # It would keep a kilobyte of each, of those too that are not worth a digest.
                tar.members = []  # type: ignore[attr-defined]
    return found


class Large:
    """The bytes of a large file, or of a part of one: no more is in memory than is looked at."""

    def __init__(self, file: Any, size: int, start: int = 0) -> None:
        self.file = file
        self.size = size
        self.start = start

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> bytes:
        return os.pread(self.file.fileno(), part.stop - part.start, self.start + part.start)


def content(place: Any) -> Any:
    """The bytes of a file."""
    if isinstance(place, memoryview):
        return place
    file = open(place, "rb") if isinstance(place, bytes) else place.open()  # noqa: SIM115 - one that is large stays open
    size = os.fstat(file.fileno()).st_size
    if size > CHUNK:
        return Large(file, size)
    with file:
        return file.read()


def whole_digest(data: Any) -> bytes:
    whole = hashlib.blake2b(digest_size=DIGEST)
    for start in range(0, len(data), CHUNK):
        whole.update(data[start : min(start + CHUNK, len(data))])
    return whole.digest()


def lines(parts: "Iterable[bytes]") -> "Iterator[bytes]":
    """Bytes in lines' worth, as they come."""
    held = b""
    for part in parts:
        held += part
        while len(held) >= LINE:
            yield held[:LINE]
            held = held[LINE:]
    if held:
        yield held


def say(parts: "Iterable[bytes]") -> None:
    """Print bytes as lines."""
    for data in lines(parts):
        sys.stdout.write("data " + base64.b85encode(data).decode() + "\n")
        sys.stdout.flush()


def sign(here: "list[tuple[bytes, Any]]") -> "Iterator[bytes]":
    """The digest of each file; zeros for one that may not be read."""
    for _, place in here:
        try:
            yield whole_digest(content(place))
        except OSError:
            yield bytes(DIGEST)


def parts(here: "list[tuple[bytes, Any]]", names: "Iterable[bytes]", by: str) -> "Iterator[bytes]":
    """Of the file of each path: its number and one more, its size, and its blocks' or pieces' digests."""
    paths = {path: number for number, (path, _) in reversed(list(enumerate(here)))}
    for path in names:
        place = paths.get(path)
        try:
            data = content(here[place][1]) if place is not None else b""
        except OSError:
            data = b""
        if place is None or not data:
            yield varint(0)
            continue
        yield varint(place + 1) + varint(len(data))
        if by == "pieces":
            found = list(pieces(data))
            yield varint(len(found)) + b"".join(varint(end - start) for start, end in found)
        else:
            found = list(blocks(len(data)))
        yield b"".join(digest(data[start:end]) for start, end in found)


class Expansion:
    """A recipe on its way to what it stands for."""

    def __init__(self, here: "list[tuple[bytes, Any]]", source: Any) -> None:
        self.here = here
        self.source = source
        self.layer: Any | None = None
        self.last = -1
        self.open = (-1, b"")  # type: Any
        self.made = self.steps = 0

    def take(self, size: int) -> bytes:
        data: bytes = self.source.read(size)
        if len(data) < size:
            raise ValueError("the recipe is cut short")
        return data

    def put(self, data: Any) -> Any:
        if self.layer is not None:
            self.layer.update(data)
        self.made += len(data)
        return data

    def file(self) -> Any:
        """The file that the recipe names by the way from the one before."""
        step = number(self.take)
        self.last += (step >> 1) ^ -(step & 1)
        if not 0 <= self.last < len(self.here):
            raise ValueError("the recipe names a file that is not here")
        if self.open[0] != self.last:
            self.open = self.last, content(self.here[self.last][1])
        return self.open[1]

    def expand(self) -> "Iterator[Any]":
        """What the recipe stands for. Raises `ValueError`, and `OSError` where an old file cannot be read."""
        while True:
            (kind,) = self.take(1)
            self.steps += 1
            if self.steps > STEPS + self.made // SMALLEST * 4:
                raise ValueError("the recipe has too many steps")
            if kind == LITERAL:
                yield from self.literal(number(self.take))
            elif kind in (WHOLE, PART):
                yield from self.reference(kind)
            elif kind == BEGIN:
                self.layer, self.last = hashlib.sha256(), -1
            elif kind == CHECK and self.layer is not None:
                if self.layer.digest() != self.take(32):
                    raise ValueError("the old files have changed: a layer that was made of them is another one")
                self.layer = None
            elif kind == END:
                return
            else:
                raise ValueError("the recipe is none")

    def literal(self, left: int) -> "Iterator[Any]":
        while left:
            yield self.put(self.take(min(left, CHUNK)))
            left -= min(left, CHUNK)

    def reference(self, kind: int) -> "Iterator[Any]":
        file = self.file()
        start = number(self.take) if kind == PART else 0
        end = start + number(self.take) if kind == PART else len(file)
        if end > len(file):
            raise ValueError("a file is shorter than the recipe says")
        for at in range(start, end, CHUNK):
            yield self.put(file[at : min(at + CHUNK, end)])


def main(mode: str, folders: "list[str]") -> None:
    here = files(folders)
    if mode == "sign":
        say(sign(here))
    elif mode == "expand":
        try:
            for data in Expansion(here, sys.stdin.buffer).expand():
                sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except (ValueError, OSError) as error:
            sys.exit("patch: " + str(error))
    else:
        say(parts(here, zlib.decompress(sys.stdin.buffer.read()).split(b"\0"), mode))


if __name__ == "__main__" and len(sys.argv) > 1:
    main(sys.argv[1], sys.argv[2:])
