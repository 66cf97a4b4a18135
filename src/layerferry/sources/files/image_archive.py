"""`archive:PATH[:NAME]`: a tar that holds an OCI layout or a docker archive; plain, or gzip, zstd, xz or bzip2.

A plain tar is read by random access: its headers, then just the blobs that are wanted. A compressed one knows no such
order: it passes once, to learn what it holds, and once more, as far as it must, for what is wanted of it.
"""

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO

from layerferry.chunks import CHUNK, chunks_of, copied, damage, exhaust
from layerferry.disk import KeptFile, is_there
from layerferry.errors import SourceError
from layerferry.oci.delta_archive import blob_path
from layerferry.oci.image import Descriptor, Platform
from layerferry.oci.manifest import find, parse_index
from layerferry.sources import Source, SourceImage
from layerferry.sources.digest_store import DirectImage
from layerferry.sources.files import docker_archive
from layerferry.sources.files.layout import select, split_path
from layerferry.sources.files.tar_index import Tarball
from layerferry.temporary import TemporaryFolder

#: Looks for somebody who writes to a pipe, and seconds from one to the next.
_LOOKS = 50
_LOOK_EVERY = 0.1
_STDIN = re.compile(r"-(?:[:@]|\Z)")


class ArchivedLayout:
    """A `digest_store.Store`: an OCI layout in a tar."""

    def __init__(self, tarball: Tarball) -> None:
        self._tarball = tarball
        self.place = tarball.place

    def has(self, digest: str) -> bool:
        return self._tarball.member(blob_path(digest)) is not None

    def document(self, descriptor: Descriptor) -> bytes:
        return self._tarball.document(blob_path(descriptor.digest))

    def stream(self, blobs: Sequence[Descriptor]) -> Iterator[tuple[Descriptor, Iterator[bytes]]]:
        by_path = {blob_path(blob.digest): blob for blob in blobs}
        for path, chunks in self._tarball.stream(by_path):
            yield by_path[path], chunks


_REASON = "the archive is on this machine's disk"


class ArchiveSource(Source):
    """A source for references of the form `archive:PATH[:NAME]`. `-` is stdin; that and a pipe are spooled once."""

    def __init__(self) -> None:
        self._tarballs: dict[str, Tarball] = {}
        self._stack = contextlib.ExitStack()

    def close(self) -> None:
        self._stack.close()

    def open(self, reference: str, platform: Platform | None = None) -> SourceImage:
        text = reference.removeprefix("archive:")
        path, selector = (Path("-"), text[2:]) if _STDIN.match(text) else split_path(text)
        tarball = self._tarballs.get(str(path)) or self._tarballs.setdefault(str(path), self._open(path))
        # docker 25 and later, and buildx, write both; the layout tells digests and platforms.
        if tarball.member("index.json"):
            return _layout(tarball, reference, selector, platform)
        if tarball.member("manifest.json"):
            return _docker(tarball, reference, selector, platform)
        raise SourceError(
            f"{tarball.place} is no image archive: it has neither an index.json nor a manifest.json",
            hint="`docker save`, `podman save`, `buildx build --output type=oci` and others write one.",
        )

    def _open(self, path: Path) -> Tarball:
        place = "the archive on stdin" if str(path) == "-" else f"the archive {path}"
        if str(path) != "-" and is_there(path, stat.S_ISCHR):
            raise SourceError(f"the archive {path} is a device", hint="Give a file, a pipe, or `-` for stdin.")
        if str(path) != "-" and not is_there(path, stat.S_ISFIFO):
            return Tarball(path, place)
        spool = Path(self._stack.enter_context(TemporaryFolder()), "archive.tar")
        file, begun = _stream(path, place)
        with damage(place), file, KeptFile(spool, 0, exact=False) as kept:
            if file.isatty():
                raise SourceError(
                    "stdin is a terminal, and no archive", hint="docker save app:1 | layerferry push archive:- HOST"
                )
            exhaust(copied(chain((begun,), chunks_of(file)), kept))
        return Tarball(spool, place)


def _stream(path: Path, place: str) -> tuple[IO[bytes], bytes]:
    """Stdin, or a pipe, and what was read of it. Raises `SourceError` where nobody comes to write to it."""
    if str(path) == "-":
        return open(0, "rb", buffering=0, closefd=False), b""
    pipe = open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    for _ in range(_LOOKS):
        data = pipe.read(CHUNK)
        if data != b"":  # none yet, of who has it open to write, is None; without anybody, it is at its end
            os.set_blocking(pipe.fileno(), True)
            return pipe, data or b""
        time.sleep(_LOOK_EVERY)
    pipe.close()
    raise SourceError(f"{place} is a pipe that nobody writes to")


def _layout(tarball: Tarball, reference: str, selector: str, platform: Platform | None) -> DirectImage:
    store = ArchivedLayout(tarball)
    entries = parse_index(tarball.document("index.json"), tarball.place)
    found = find(store, select(entries, selector, tarball.place), reference, platform)
    return DirectImage.stored(found, _REASON, store)


def _docker(tarball: Tarball, reference: str, selector: str, platform: Platform | None) -> DirectImage:
    found, paths = docker_archive.read(tarball, reference, selector, platform)
    return DirectImage(
        found, _REASON, lambda wanted, spool: docker_archive.Layers(found, paths, wanted, tarball, spool)
    )
