"""Reads what `docker save` streams, and picks the wanted layers out of it as it passes.

Two shapes are about. Docker 25 and later, and every containerd image store, write an OCI layout whose blobs are named
by digest. Earlier docker writes a folder for each layer, named by an ID of docker 1.9's time, which can be foretold
from the chain (moby, image/v1: `CreateID`). Only a layer that cannot be told by its name while it passes is spooled:
a compressed blob, say, whose diff ID is in a manifest that comes later.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any

from layerferry.archive import Blob, blob_path
from layerferry.errors import SourceError
from layerferry.image import (
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    Image,
    chain_ids,
)
from layerferry.sources.streams import chunks_of, drain

CHUNK = 256 << 10
#: A config, a manifest or an index is no larger (moby refuses manifests of over 4 MiB).
_LARGEST_JSON = 4 << 20
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
    """The content of one image, out of a `docker save` stream. An `archive.Content`."""

    def __init__(self, image: Image, wanted: frozenset[str], stream: Iterable[bytes], spool: Path) -> None:
        self._image = image
        self._wanted = wanted
        self._stream = stream
        self._spool = spool
        self._legacy = dict(zip(legacy_ids(image.diff_ids)[:-1], image.diff_ids, strict=False))
        self._spooled: dict[str, Path] = {}
        self._documents: dict[str, bytes] = {}
        self._config: bytes | None = None
        self._emitted: set[str] = set()
        self.descriptors: dict[str, Descriptor] = {}
        self.manifest: tuple[str, bytes] | None = None

    @property
    def config(self) -> bytes:
        if self._config is None:
            raise SourceError(f"the daemon's archive of {self._image.reference} has no config")
        return self._config

    def blobs(self) -> Iterator[Blob]:
        try:
            with tarfile.open(fileobj=_Reader(self._stream), mode="r|", bufsize=CHUNK) as tar:  # type: ignore[call-overload]
                for member in tar:
                    if member.isreg():
                        file = tar.extractfile(member)
                        assert file is not None
                        yield from self._pass(member.name, member.size, file)
                    if self._complete():
                        return
        except (tarfile.TarError, EOFError) as error:
            raise SourceError(f"the daemon's archive of {self._image.reference} broke off: {error}") from None
        yield from self._resolve()
        if lacking := self._wanted - self._emitted:
            raise SourceError(f"the daemon's archive of {self._image.reference} lacks layer {min(lacking)}")

    def _complete(self) -> bool:
        """Whether the rest of the stream can be left: a classic store's image ID names the config."""
        hexes = self._image.id.removeprefix("sha256:")
        config = self._documents.get(f"{hexes}.json") or self._documents.get(f"blobs/sha256/{hexes}")
        if not config or "rootfs" not in _loads(config) or self._wanted - self._emitted:
            return False
        self._config = config
        return True

    def _pass(self, name: str, size: int, file: IO[bytes]) -> Iterator[Blob]:
        diff_id = self._identify(name)
        if diff_id is not None:
            yield from self._offer(Blob(diff_id, Descriptor(MEDIA_TYPE_LAYER, diff_id, size), chunks_of(file)))
            return
        start = file.read(1)
        if start in {b"{", b"["} and size <= _LARGEST_JSON:
            self._documents[name] = start + file.read()
        elif size > _LARGEST_STAMP:
            yield from self._keep(name, start, file)

    def _identify(self, name: str) -> str | None:
        """The diff ID that a member's name tells, if it tells one."""
        folder, _, base = name.rpartition("/")
        if folder == "blobs/sha256":
            return f"sha256:{base}" if f"sha256:{base}" in self._image.diff_ids else None
        if base != "layer.tar":
            return None
        if folder in self._legacy:
            return self._legacy[folder]
        parent = _loads(self._documents.get(f"{folder}/json", b"{}")).get("parent")
        below = next(reversed(self._legacy), None)
        return self._image.diff_ids[-1] if parent == below else None

    def _keep(self, name: str, start: bytes, file: IO[bytes]) -> Iterator[Blob]:
        """Spool a member that its name does not identify; a plain layer is known by its digest once it has passed."""
        path = self._spool / hashlib.sha256(name.encode()).hexdigest()
        sha256, size = hashlib.sha256(), 0
        with path.open("wb") as spool:
            for chunk in chain((start,), chunks_of(file)):
                sha256.update(chunk)
                size += spool.write(chunk)
        digest = f"sha256:{sha256.hexdigest()}"
        if digest in self._image.diff_ids:
            yield from self._offer(Blob(digest, Descriptor(MEDIA_TYPE_LAYER, digest, size), drain(path)))
            path.unlink(missing_ok=True)
        else:
            self._spooled[name] = path

    def _resolve(self) -> Iterator[Blob]:
        """What the manifest, known at last, tells of the members that their names did not."""
        for diff_id, layer in zip(self._image.diff_ids, self._layers(), strict=False):
            descriptor = Descriptor(layer["mediaType"], layer["digest"], layer["size"]).in_oci_words
            path = self._spooled.pop(blob_path(descriptor.digest), None)
            if path is not None:
                yield from self._offer(Blob(diff_id, descriptor, drain(path)))
                path.unlink(missing_ok=True)

    def _layers(self) -> Sequence[Mapping[str, Any]]:
        """Find the config, and the layers of the OCI manifest for this platform where the archive has one."""
        if docker := self._documents.get("manifest.json"):
            self._config = self._documents.get(json.loads(docker)[0]["Config"])
        for data in self._documents.values():
            manifest = _loads(data)
            if isinstance(manifest.get("layers"), list) and isinstance(manifest.get("config"), dict):
                config = self._documents.get(blob_path(manifest["config"]["digest"]), b"{}")
                if _loads(config).get("rootfs", {}).get("diff_ids") == list(self._image.diff_ids):
                    self._config = config
                    self.manifest = str(manifest.get("mediaType", MEDIA_TYPE_MANIFEST)), data
                    return list(manifest["layers"])
        return ()

    def _offer(self, blob: Blob) -> Iterator[Blob]:
        self.descriptors.setdefault(blob.diff_id, blob.descriptor)
        if blob.diff_id in self._wanted and blob.diff_id not in self._emitted:
            self._emitted.add(blob.diff_id)
            yield blob


class _Reader:
    """Chunks as the file that tarfile wants of a stream: it asks for bytes, and takes any number of them."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)

    def read(self, size: int) -> bytes:
        del size
        return next(self._chunks, b"")


def _loads(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
