"""Reads what `docker save` streams, and picks the wanted layers out of it as it passes.

Two shapes are about. Docker 25 and later, and every containerd image store, write an OCI layout whose blobs are named
by digest. Earlier docker writes a folder for each layer, named by an ID of docker 1.9's time, which can be foretold
from the chain (moby, image/v1: `CreateID`). Only a layer that cannot be told by its name while it passes is spooled:
a compressed blob, say, whose diff ID is in a manifest that comes later.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader
from itertools import chain
from pathlib import Path

from layerferry.chunks import ChunkReader, Hashed, chunks_of, copied, drain, exhaust
from layerferry.disk import KeptFile
from layerferry.errors import SourceError
from layerferry.oci import limits
from layerferry.oci.content import Blob, Summary
from layerferry.oci.delta_archive import blob_path
from layerferry.oci.documents import Document
from layerferry.oci.image import (
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    Image,
    chain_ids,
)
from layerferry.oci.manifest import check_stored
from layerferry.sources.files.docker_archive import parse_records
from layerferry.tar_headers import Headers, Part

_CHUNK = 256 << 10
#: docker before 25 puts a `VERSION` of 3 bytes beside each layer; a layer is never so small.
_LARGEST_STAMP = 16

#: docker's `container_config` of an image without one, as Go writes it.
_NO_CONFIG = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False,
    "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None, "Cmd": None, "Image": "", "Volumes": None,
    "WorkingDir": "", "Entrypoint": None, "OnBuild": None, "Labels": None,
}  # fmt: skip


def legacy_ids(diff_ids: Iterable[str]) -> tuple[str, ...]:
    """The folder names, bottom first, of all layers in an archive of docker before 25; the top one is another.

    The top layer's ID takes the config in, which is not known before the archive has passed.
    """
    ids: list[str] = []
    for chain_id in chain_ids(diff_ids):
        parent = {"parent": f"sha256:{ids[-1]}"} if ids else {}
        document = {"container_config": _NO_CONFIG, "created": "1970-01-01T00:00:00Z", "layer_id": chain_id, **parent}
        ids.append(hashlib.sha256(json.dumps(document, separators=(",", ":")).encode()).hexdigest())
    return tuple(ids)


class Save:
    """The content of one image, out of a `docker save` stream."""

    def __init__(self, image: Image, wanted: frozenset[str], stream: Iterable[bytes], spool: Path) -> None:
        self._image = image
        self._wanted = wanted
        self._stream = stream
        self._spool = spool
        self._legacy = dict(zip(legacy_ids(image.diff_ids)[:-1], image.diff_ids, strict=False))
        self._spooled: dict[str, Path] = {}
        self._documents: dict[str, bytes] = {}
        self._documented = 0
        self._place = f"the daemon's archive of {image.reference}"
        self._config: bytes | None = None
        self._emitted: set[str] = set()
        self._descriptors: dict[str, Descriptor] = {}
        self._manifest: tuple[str, bytes] | None = None
        #: Bytes; whoever gives the stream counts them.
        self.received = 0

    def blobs(self) -> Iterator[Blob]:
        try:
            for header, part in Headers(BufferedReader(ChunkReader(self._stream), _CHUNK)):
                if header.is_file:
                    yield from self._pass(header.name, header.size, part)
                if self._complete():
                    return
        except tarfile.TarError as error:
            raise SourceError(f"{self._place} is damaged, or broke off: {error}") from None
        yield from self._resolve()
        if lacking := self._wanted - self._emitted:
            raise SourceError(f"{self._place} lacks layer {min(lacking)}")

    def finish(self) -> Summary:
        if self._config is None:
            raise SourceError(f"{self._place} has no config")
        return Summary(self._config, self._descriptors, self._manifest, self.received)

    def _complete(self) -> bool:
        """Whether the rest of the stream can be left: a classic store's image ID names the config."""
        hexes = self._image.id.removeprefix("sha256:")
        config = self._documents.get(f"{hexes}.json") or self._documents.get(f"blobs/sha256/{hexes}")
        if not config or self._wanted - self._emitted or "rootfs" not in self._document(config).members:
            return False
        self._config = config
        return True

    def _pass(self, name: str, size: int, part: Part) -> Iterator[Blob]:
        diff_id = self._identify(name)
        if diff_id is not None:
            yield from self._offer(Blob(diff_id, Descriptor(MEDIA_TYPE_LAYER, diff_id, size), chunks_of(part)))
            return
        start = part.read(1)
        if start in {b"{", b"["} and size <= limits.DOCUMENT:
            self._documented += size
            if self._documented > limits.DOCUMENTS:
                raise SourceError(f"{self._place} is refused: it holds more than {limits.DOCUMENTS} bytes of documents")
            self._documents[name] = start + b"".join(chunks_of(part))
        elif size > _LARGEST_STAMP:
            yield from self._keep(name, size, chain((start,), chunks_of(part)))

    def _identify(self, name: str) -> str | None:
        """The diff ID that a member's name tells, if it tells one."""
        folder, _, base = name.rpartition("/")
        if folder == "blobs/sha256":
            return f"sha256:{base}" if f"sha256:{base}" in self._image.diff_ids else None
        if base != "layer.tar":
            return None
        if folder in self._legacy:
            return self._legacy[folder]
        parent = self._document(self._documents.get(f"{folder}/json", b"{}")).members.get("parent")
        below = next(reversed(self._legacy), None)
        return self._image.diff_ids[-1] if parent == below else None

    def _keep(self, name: str, size: int, chunks: Iterable[bytes]) -> Iterator[Blob]:
        """Spool a member that its name does not identify; a plain layer is known by its digest once it has passed."""
        path = self._spool / hashlib.sha256(name.encode()).hexdigest()
        hashed = Hashed(chunks)
        with KeptFile(path, size) as spool:
            exhaust(copied(hashed, spool))
        if hashed.digest in self._image.diff_ids:
            descriptor = Descriptor(MEDIA_TYPE_LAYER, hashed.digest, hashed.size)
            yield from self._offer(Blob(hashed.digest, descriptor, drain(path)))
            path.unlink(missing_ok=True)
        else:
            self._spooled[name] = path

    def _resolve(self) -> Iterator[Blob]:
        """What the manifest, known at last, tells of the members that their names did not."""
        layers = [
            Descriptor(layer.media_type("mediaType"), layer.digest("digest"), layer.count("size")).in_oci_words
            for layer in self._layers()
        ]
        if self._manifest is None:
            return
        check_stored(self._image.diff_ids, [layer.digest for layer in layers], self._place)
        for diff_id, descriptor in zip(self._image.diff_ids, layers, strict=True):
            path = self._spooled.pop(blob_path(descriptor.digest), None)
            if path is not None:
                yield from self._offer(Blob(diff_id, descriptor, drain(path)))
                path.unlink(missing_ok=True)

    def _layers(self) -> Sequence[Document]:
        """Find the config, and the layers of the OCI manifest for this platform where the archive has one."""
        if docker := self._documents.get("manifest.json"):
            self._config = next(
                (self._documents.get(record.config) for record in parse_records(docker, self._place)), None
            )
        for data in self._documents.values():
            manifest = self._document(data)
            if isinstance(manifest.members.get("layers"), list) and isinstance(manifest.members.get("config"), dict):
                config = self._documents.get(blob_path(manifest.object("config").digest("digest")), b"{}")
                rootfs = self._document(config).object("rootfs")
                if rootfs.members and tuple(rootfs.digests("diff_ids")) == self._image.diff_ids:
                    self._config = config
                    self._manifest = manifest.media_type("mediaType", MEDIA_TYPE_MANIFEST), data
                    return manifest.objects("layers")
        return ()

    def _document(self, data: bytes) -> Document:
        """A document of the archive; without members where it is none."""
        what = f"a document in {self._place}"
        try:
            return Document.parse(data, what)
        except SourceError:
            return Document({}, what)

    def _offer(self, blob: Blob) -> Iterator[Blob]:
        self._descriptors.setdefault(blob.diff_id, blob.descriptor)
        if blob.diff_id in self._wanted and blob.diff_id not in self._emitted:
            self._emitted.add(blob.diff_id)
            yield blob
