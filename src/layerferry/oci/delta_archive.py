"""The delta archive: one tar stream that every engine can load, holding only the blobs that a plan sends.

It is an OCI layout (read by containerd stores and podman) and a docker archive (`manifest.json`, read by classic
docker) at once. The blobs come first, in whatever order the source yields them, and what describes them comes last:
engines look at the descriptions only when the stream has ended, and a source may learn sizes and digests while it
reads. An engine that has a layer never opens its blob, so the blob may be absent.
"""

import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from layerferry.oci.content import Blob, Content, Summary, check_given
from layerferry.oci.image import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    Layer,
    digest_of,
)
from layerferry.oci.plan import Plan

_BLOCK = 512
_END = bytes(2 * _BLOCK)


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """One image in an archive: its plan, its content and the throw-away name that it is loaded under."""

    plan: Plan
    content: Content
    incoming: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive says of one image. An engine's image ID is one of `ids`, whatever its store."""

    incoming: str
    media_type: str
    data: bytes
    config: bytes
    layers: tuple[Descriptor, ...]

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, digest_of(self.data), len(self.data))

    @property
    def ids(self) -> tuple[str, str]:
        """The config's digest (classic docker, podman), and the manifest's (docker's containerd image store)."""
        return digest_of(self.config), self.descriptor.digest


@dataclass(frozen=True, slots=True)
class ArchiveBytes:
    """A run of archive bytes; `compressed` tells that compressing it again would be in vain.

    A `packed` one is compressed as the archive is, and `stands_for` so many bytes of the run; a `recipe` is what a
    target makes it of; a `name` is that of a piece, whose bytes are none where the target has it.
    """

    data: bytes
    compressed: bool = False
    packed: bool = False
    recipe: bool = False
    stands_for: int = 0
    name: str = ""


def describe(plan: Plan, summary: Summary, sent: Mapping[str, Descriptor], incoming: str = "") -> Manifest:
    """The OCI manifest of an image whose sent layers are `sent`, by diff ID.

    A reused layer goes by the target's own blob where its store keys on blobs. Elsewhere it goes by its diff ID:
    podman finds a layer by that, and classic docker does not look.
    """
    layers = tuple(
        sent.get(layer.diff_id)
        or plan.inventory.blobs.get(layer.diff_id)
        or _plain(layer, summary.descriptors.get(layer.diff_id))
        for layer in plan.image.layers
    )
    config = summary.config
    if own := _own(summary.manifest, layers):
        return Manifest(incoming, *own, config, layers)
    described = Descriptor(MEDIA_TYPE_CONFIG, digest_of(config), len(config))
    return Manifest(incoming, MEDIA_TYPE_MANIFEST, manifest_of(described, layers), config, layers)


def manifest_of(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """An OCI manifest (image-spec, manifest.md)."""
    document = {
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE_MANIFEST,
        "config": replace(config, media_type=MEDIA_TYPE_CONFIG).to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    return _json(document)


def _own(manifest: tuple[str, bytes] | None, layers: Sequence[Descriptor]) -> tuple[str, bytes] | None:
    """The source's own manifest, if it names just the blobs that the target will have: the image keeps its digest."""
    if manifest is None:
        return None
    named = [(layer["digest"], layer.get("size")) for layer in json.loads(manifest[1]).get("layers") or ()]
    return manifest if named == [(layer.digest, layer.size) for layer in layers] else None


def _plain(layer: Layer, held: Descriptor | None) -> Descriptor:
    size = held.size if held is not None and held.digest == layer.diff_id else layer.size
    return Descriptor(MEDIA_TYPE_LAYER, layer.diff_id, size)


class Archive:
    """The delta archive of some images. Read `pieces` to its end; `manifests` and `summaries` are known then.

    `packed` tells that it goes out as zstd, so that what is packed already may be taken as it is.
    """

    def __init__(self, images: Sequence[ArchivedImage], *, packed: bool = False) -> None:
        self._images = images
        self._packed = packed
        self.manifests: tuple[Manifest, ...] = ()
        self.summaries: tuple[Summary, ...] = ()
        #: By diff ID, what the archive holds.
        self.sent: dict[str, Descriptor] = {}

    def pieces(self) -> Iterator[ArchiveBytes]:
        yield ArchiveBytes(_header("oci-layout", len(_LAYOUT)) + _padded(_LAYOUT))
        for image in self._images:
            for blob in image.content.blobs():
                if blob.diff_id in self.sent:
                    raise AssertionError(f"{blob.diff_id} comes twice")
                yield from _blob(blob, blob.packed if self._packed else None)
                self.sent[blob.diff_id] = blob.descriptor
            check_given(image.plan.wanted, self.sent.keys(), image.plan.image.reference)
        self.summaries = tuple(image.content.finish() for image in self._images)
        self.manifests = tuple(
            describe(image.plan, summary, self.sent, image.incoming)
            for image, summary in zip(self._images, self.summaries, strict=True)
        )
        yield ArchiveBytes(b"".join(self._descriptions()) + _END)

    def _descriptions(self) -> Iterator[bytes]:
        blobs = {digest_of(data): data for manifest in self.manifests for data in (manifest.config, manifest.data)}
        for digest, data in blobs.items():
            yield _header(blob_path(digest), len(data)) + _padded(data)
        for name, document in (("index.json", self._index()), ("manifest.json", self._docker_manifest())):
            yield _header(name, len(document)) + _padded(document)

    def _index(self) -> bytes:
        entries = [
            {
                **manifest.descriptor.to_json(),
                "annotations": {
                    "io.containerd.image.name": manifest.incoming,
                    "org.opencontainers.image.ref.name": manifest.incoming.rpartition(":")[2],
                },
            }
            for manifest in self.manifests
        ]
        return _json({"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": entries})

    def _docker_manifest(self) -> bytes:
        return _json(
            [
                {
                    "Config": blob_path(manifest.ids[0]),
                    "RepoTags": [manifest.incoming],
                    "Layers": [blob_path(layer.digest) for layer in manifest.layers],
                }
                for manifest in self.manifests
            ]
        )


_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def _blob(blob: Blob, packed: Iterable[bytes] | None) -> Iterator[ArchiveBytes]:
    """A layer between its header and its padding; how much of a packed one has passed is known at its end."""
    size = blob.descriptor.size
    yield ArchiveBytes(_header(blob_path(blob.descriptor.digest), size))
    if blob.pieces is not None:
        passed, is_recipe = 0, blob.recipe is not None
        for piece in blob.pieces:
            yield ArchiveBytes(piece.data, packed=True, recipe=is_recipe, stands_for=piece.size, name=piece.name)
            passed += piece.size
        if not is_recipe:
            yield ArchiveBytes(b"", packed=True, stands_for=size - passed)
    elif blob.recipe is not None:
        yield from (ArchiveBytes(chunk, recipe=True) for chunk in blob.recipe)
    elif packed is not None:
        yield from (ArchiveBytes(chunk, packed=True) for chunk in packed)
        yield ArchiveBytes(b"", packed=True, stands_for=size)
    else:
        count = 0
        for chunk in blob.chunks:
            count += len(chunk)
            yield ArchiveBytes(chunk, compressed=blob.descriptor.is_compressed)
        if count != size:
            raise ValueError(f"layer {blob.diff_id} has {count} bytes, not {size}")
    if size % _BLOCK:
        yield ArchiveBytes(bytes(-size % _BLOCK))


def blob_path(digest: str) -> str:
    """Where an OCI layout keeps a blob (OCI image-spec, image-layout.md)."""
    return "blobs/" + digest.replace(":", "/", 1)


def _header(name: str, size: int) -> bytes:
    """A tar header; GNU format, so that a blob may pass 8 GiB, with all that could differ between two runs left out."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _BLOCK)


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
