"""The files in a tar, read in place: a plain one by random access, a compressed one as it passes.

Nothing is unpacked to disk, so no name and no link can lead anywhere; one that would is a file that is not there.
"""

import contextlib
import posixpath
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from io import SEEK_CUR, BufferedReader
from pathlib import Path
from typing import IO

from layerferry.chunks import (
    CHUNK,
    HEAD,
    ChunkReader,
    at_most,
    chunks_of,
    damage,
    layer_type,
    most_of,
    unpacked,
)
from layerferry.errors import SourceError
from layerferry.oci import limits
from layerferry.oci.image import MEDIA_TYPE_LAYER
from layerferry.tar_headers import Headers, Part

_MOST_LINKS = 8


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar: its place among all members, where its `size` bytes begin, and the first few of them."""

    number: int
    offset: int
    size: int
    head: bytes


class Tarball:
    """A tar's regular files by name. Raises `SourceError` where it is none, or damaged."""

    def __init__(self, path: Path, place: str = "") -> None:
        """`place` is what people call it."""
        self.place = place or f"the archive {path}"
        self._path = path
        self._members: dict[str, Member] = {}
        self._links: dict[str, str] = {}
        self._documents: dict[int, bytes] = {}
        self._compression = self._sniff()
        with self._open() as tar:
            self._scan(tar)

    @property
    def is_compressed(self) -> bool:
        return self._compression != MEDIA_TYPE_LAYER

    def member(self, name: str) -> Member | None:
        """The file of that name, links followed; None where there is none, or a link leads out or in a circle."""
        path = posixpath.normpath(name)
        for _ in range(_MOST_LINKS):
            if path in self._members:
                return self._members[path]
            if path not in self._links:
                break
            path = self._links[path]
        return None

    def document(self, name: str) -> bytes:
        """A small file, whole. Raises `SourceError` where there is none of that name."""
        member = self.member(name)
        if member is None:
            raise SourceError(f"{self.place} lacks {name}: it is incomplete, or cut short")
        if self.is_compressed and member.number in self._documents:
            return self._documents[member.number]
        if self.is_compressed or member.size > limits.DOCUMENT:
            raise SourceError(f"{self.place} is damaged: {name} is no document")
        return b"".join(self._read(member))

    def stream(self, names: Collection[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The bytes of each named file that is there, in the tar's order; each is read to its end before the next."""
        wanted = {member.number: (name, member) for name in names if (member := self.member(name))}
        if self.is_compressed:
            yield from self._pass({number: name for number, (name, _) in wanted.items()})
        else:
            for _, (name, member) in sorted(wanted.items()):
                yield name, self._read(member)

    def _sniff(self) -> str:
        with damage(self.place):
            if not self._path.is_file():
                raise SourceError(f"there is no archive {self._path}", hint="Write it as archive:PATH.")
            with self._path.open("rb") as file:
                head = file.read(HEAD)
        return layer_type(head)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Headers]:
        with damage(self.place), self._path.open("rb") as file:
            if self.is_compressed:
                most = max(limits.ARCHIVE_AT_LEAST, most_of(self._path.stat().st_size))
                with contextlib.closing(unpacked(file, self._compression)) as plain:
                    chunks = at_most(chunks_of(plain), most, self.place)
                    yield Headers(BufferedReader(ChunkReader(chunks), CHUNK))
            else:
                yield Headers(file, partial(_seek, file))

    def _scan(self, headers: Headers) -> None:
        """Learn what is there. Of a compressed tar the documents are kept: to read them later would be a pass more."""
        kept = 0
        for number, (header, part) in enumerate(headers):
            name = posixpath.normpath(header.name)
            if header.kind == tarfile.SYMTYPE:
                self._links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), header.link))
            elif header.kind == tarfile.LNKTYPE:
                self._links[name] = posixpath.normpath(header.link)
            elif header.is_file:
                head = part.read(HEAD)
                self._members[name] = Member(number, header.offset, header.size, head)
                if self.is_compressed and head[:1] in {b"{", b"["} and header.size <= limits.DOCUMENT:
                    self._documents[number] = head + b"".join(chunks_of(part))
                    kept += header.size
                    if kept > limits.DOCUMENTS:
                        raise SourceError(f"{self.place} is no image archive: it holds too many documents")

    def _read(self, member: Member) -> Iterator[bytes]:
        with damage(self.place), self._path.open("rb") as file:
            file.seek(member.offset)
            left = member.size
            while left:
                chunk = file.read(min(left, CHUNK))
                if not chunk:
                    raise EOFError("it ends in the middle of a file")
                left -= len(chunk)
                yield chunk

    def _pass(self, wanted: dict[int, str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        if not wanted:
            return
        with self._open() as headers:
            for number, (_, part) in enumerate(headers):
                if name := wanted.pop(number, ""):
                    yield name, self._guarded(part)
                if not wanted:
                    return
        raise SourceError(f"{self.place} lacks {min(wanted.values())}: it is incomplete, or cut short")

    def _guarded(self, part: Part) -> Iterator[bytes]:
        with damage(self.place):
            yield from chunks_of(part)


def _seek(file: IO[bytes], count: int) -> None:
    """Leave so many bytes out. Behind the end of a file a seek leads as well; its last byte tells."""
    if count:
        file.seek(count - 1, SEEK_CUR)
        if not file.read(1):
            raise EOFError("it ends in the middle of a file")
