"""The files in a tar, read in place: a plain one by random access, a gzip or zstd one as it passes.

Nothing is unpacked to disk, so no name and no link can lead anywhere; one that would is a file that is not there.
"""

import contextlib
import posixpath
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from layerferry import limits
from layerferry.errors import SourceError
from layerferry.image import MEDIA_TYPE_LAYER
from layerferry.sources.streams import CHUNK, HEAD, chunks_of, damage, layer_type, unpacked

#: An archive has a few members a layer; a tar with more than this is something else, a root filesystem for one.
_MOST_MEMBERS = 50_000
#: Bytes of all documents that are kept of a compressed tar.
_MOST_DOCUMENTS = 64 << 20
_MOST_LINKS = 8
_UNKNOWN = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar: its place among all members, where its `size` bytes begin, and the first few of them."""

    number: int
    offset: int
    size: int
    head: bytes


class Tarball:
    """A tar's regular files by name. Raises `SourceError` where it is none, or damaged."""

    def __init__(self, path: Path) -> None:
        self.place = f"the archive {path}"
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
        if not self._path.is_file():
            raise SourceError(f"there is no archive {self._path}", hint="Write it as archive:PATH.")
        with damage(self.place), self._path.open("rb") as file:
            head = file.read(HEAD)
        for magic, name in _UNKNOWN.items():
            if head.startswith(magic):
                raise SourceError(f"{self.place} is compressed with {name}", hint="Compress it with gzip or zstd.")
        return layer_type(head)

    @contextlib.contextmanager
    def _open(self) -> Iterator[tarfile.TarFile]:
        with damage(self.place), self._path.open("rb") as file:
            if self.is_compressed:
                with (
                    contextlib.closing(unpacked(file, self._compression)) as plain,
                    tarfile.open(fileobj=plain, mode="r|", bufsize=CHUNK) as tar,
                ):
                    yield tar
            else:
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    yield tar

    def _scan(self, tar: tarfile.TarFile) -> None:
        """Learn what is there. Of a compressed tar the documents are kept: to read them later would be a pass more."""
        kept = 0
        for number, info in enumerate(tar):
            if number >= _MOST_MEMBERS:
                raise SourceError(f"{self.place} is no image archive: it has more than {_MOST_MEMBERS} members")
            name = posixpath.normpath(info.name)
            if info.issym():
                self._links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), info.linkname))
            elif info.islnk():
                self._links[name] = posixpath.normpath(info.linkname)
            elif info.isreg() and not info.issparse():
                file = tar.extractfile(info)
                assert file is not None, "it is a regular file"
                head = file.read(HEAD)
                self._members[name] = Member(number, info.offset_data, info.size, head)
                if self.is_compressed and head[:1] in {b"{", b"["} and info.size <= limits.DOCUMENT:
                    self._documents[number] = head + file.read()
                    kept += info.size
                    if kept > _MOST_DOCUMENTS:
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
        with self._open() as tar:
            for number, info in enumerate(tar):
                if name := wanted.pop(number, ""):
                    file = tar.extractfile(info)
                    assert file is not None, "only regular files are members"
                    yield name, self._guarded(file)
                if not wanted:
                    return
        raise SourceError(f"{self.place} lacks {min(wanted.values())}: it is incomplete, or cut short")

    def _guarded(self, file: IO[bytes]) -> Iterator[bytes]:
        with damage(self.place):
            yield from chunks_of(file)
