"""`archive:PATH[:NAME]`: a tar that holds an OCI layout or a docker archive; plain, gzip or zstd.

A plain tar is read by random access: its headers, then just the blobs that are wanted. A compressed one knows no such
order: it passes once, to learn what it holds, and once more, as far as it must, for what is wanted of it.
"""

from collections.abc import Iterator, Sequence

from layerferry.errors import SourceError
from layerferry.oci.delta_archive import blob_path
from layerferry.oci.image import Descriptor, Platform
from layerferry.oci.manifest import find, parse_index
from layerferry.sources import Source, SourceImage
from layerferry.sources.digest_store import DirectImage
from layerferry.sources.files import docker_archive
from layerferry.sources.files.layout import select, split_path
from layerferry.sources.files.tar_index import Tarball


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
    """A source for references of the form `archive:PATH[:NAME]`."""

    def __init__(self) -> None:
        self._tarballs: dict[str, Tarball] = {}

    def open(self, reference: str, platform: Platform | None = None) -> SourceImage:
        path, selector = split_path(reference.removeprefix("archive:"))
        tarball = self._tarballs.get(str(path)) or self._tarballs.setdefault(str(path), Tarball(path))
        # docker 25 and later, and buildx, write both; the layout tells digests and platforms.
        if tarball.member("index.json"):
            return _layout(tarball, reference, selector, platform)
        if tarball.member("manifest.json"):
            return _docker(tarball, reference, selector, platform)
        raise SourceError(
            f"{path} is no image archive: it has neither an index.json nor a manifest.json",
            hint="`docker save`, `podman save`, `buildx build --output type=oci` and others write one.",
        )


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
