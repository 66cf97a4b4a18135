"""The client's archive, in a file without a name until it is checked, and the archive that the engine gets.

Of the client's archive the engine gets blobs whose digests were checked, and nothing else: headers, index.json,
manifest.json and the throw-away names are ours.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import IO, Protocol

from layerferry.oci.image import MEDIA_TYPE_INDEX, Descriptor, Platform, digest_of
from layerferry.receive import strict_json
from layerferry.receive.byte_limits import Meter
from layerferry.receive.decompression import MAGIC_LENGTH, Decoder, Expander, sniff
from layerferry.receive.refusal import Refusal
from layerferry.receive.strict_tar import BLOCK, StrictTar, TarEntry, write_header
from layerferry.receive.throw_away_names import new_name

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_STEP = 1 << 20
#: What a recipe stands for.
Expand = Callable[[Iterator[bytes]], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class SpooledArchiveBlob:
    """A blob whose bytes have the digest that it goes by. `diff_id` is the digest of what it unpacks to."""

    digest: str
    diff_id: str
    compression: str
    size: int
    offset: int


class ArchiveSpool:
    """The files of an archive. Memory is flat: blobs go to `spool`, a file that is ours alone."""

    def __init__(self, spool: IO[bytes], expander: Expander, meter: Meter) -> None:
        self.blobs: dict[str, SpooledArchiveBlob] = {}
        self.texts: dict[str, bytes] = {}
        self._spool = spool
        self._expander = expander
        self._meter = meter
        self._end = 0

    def take(self, frames: Iterable[bytes], method: str, expand: Expand | None = None) -> None:
        """Read an archive, compressed as `method`; raises `Refusal` at the first byte out of order.

        With `expand`, what comes is a recipe of it.
        """
        decoder = self._expander.open(method)
        try:
            pieces = self._decoded(frames, decoder)
            for entry in StrictTar(self._counted(expand(pieces) if expand else pieces)).entries():
                if entry.name.startswith("blobs/"):
                    self._keep(entry)
                else:
                    self.texts[entry.name] = _whole(entry)
        finally:
            decoder.close()
        self._spool.flush()

    def _decoded(self, frames: Iterable[bytes], decoder: Decoder) -> Iterator[bytes]:
        for frame in frames:
            self._meter.sent(len(frame))
            yield from decoder.feed(frame)
        yield from decoder.finish()

    def _counted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._meter.archived(len(piece))
            yield piece

    def _keep(self, entry: TarEntry) -> None:
        digest = "sha256:" + entry.name.removeprefix("blobs/sha256/")
        start, rest = _peek(entry.content)
        compression = sniff(start)
        decoder = self._expander.open(compression)
        stored, plain = hashlib.sha256(), hashlib.sha256()
        try:
            for piece in chain([start], rest):
                self._spool.write(piece)
                stored.update(piece)
                self._unpack(decoder.feed(piece), plain)
            self._unpack(decoder.finish(), plain)
        finally:
            decoder.close()
        if "sha256:" + stored.hexdigest() != digest:
            raise Refusal(f"{entry.name} has another digest")
        self.blobs[digest] = SpooledArchiveBlob(
            digest, "sha256:" + plain.hexdigest(), compression, entry.size, self._end
        )
        self._end += entry.size

    def _unpack(self, pieces: Iterable[bytes], plain: "hashlib._Hash") -> None:
        for piece in pieces:
            self._meter.unpacked(len(piece))
            plain.update(piece)

    def read(self, descriptor: Descriptor, what: str) -> bytes:
        """A blob that is a document; raises `Refusal` unless it is here, in its size."""
        blob = self.blobs.get(descriptor.digest)
        if blob is None or blob.size != descriptor.size:
            raise Refusal(f"{what} is not in the archive")
        if blob.size > strict_json.LARGEST_DOCUMENT:
            raise Refusal(f"{what} is larger than {strict_json.LARGEST_DOCUMENT} bytes")
        return b"".join(self.content(blob))

    def content(self, blob: SpooledArchiveBlob) -> Iterator[bytes]:
        for start in range(0, blob.size, _STEP):
            yield os.pread(self._spool.fileno(), min(_STEP, blob.size - start), blob.offset + start)


def _peek(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, as many as it takes to know a compression, and an iterator of the rest."""
    start = b""
    for piece in pieces:
        start += piece
        if len(start) >= MAGIC_LENGTH:
            break
    return start, pieces


def _whole(entry: TarEntry) -> bytes:
    if entry.size > strict_json.LARGEST_DOCUMENT:
        raise Refusal(f"{entry.name} is larger than {strict_json.LARGEST_DOCUMENT} bytes")
    return b"".join(entry.content)


class Known(Protocol):
    """The layers that may be left out of an archive."""

    def stand_in(self, layer: Descriptor, diff_ids: Sequence[str], position: int) -> Descriptor | None:
        """The blob that a manifest names for a layer that is not in the archive; None unless the client may know it."""


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An image that was checked. `incoming` is the client's throw-away name for it, `name` our own, for the engine."""

    incoming: str
    name: str
    media_type: str
    manifest: bytes
    config: bytes
    platform: Platform
    diff_ids: tuple[str, ...]
    layers: tuple[Descriptor, ...]
    #: Layers that the archive holds.
    sent: tuple[SpooledArchiveBlob, ...]
    #: What the client may call this image: its config's digest, and its manifest's as the client wrote it.
    ids: tuple[str, str]

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, digest_of(self.manifest), len(self.manifest))


@dataclass(frozen=True, slots=True)
class _Claim:
    """The claims of the archive and its header on one image."""

    incoming: str
    diff_ids: tuple[str, ...]
    described: Descriptor
    docker: tuple[str, list[str]]


def check(spooled: ArchiveSpool, expected: Mapping[str, Sequence[str]], known: Known) -> tuple[CheckedImage, ...]:
    """Check an archive against `expected`, diff IDs by throw-away name; raises `Refusal`."""
    for name in ("oci-layout", "index.json", "manifest.json"):
        if name not in spooled.texts:
            raise Refusal(f"{name} is not in the archive")
    strict_json.read_layout(spooled.texts["oci-layout"])
    index = strict_json.read_index(spooled.texts["index.json"])
    docker = strict_json.read_docker_manifest(spooled.texts["manifest.json"])
    if set(index) != set(expected) or set(docker) != set(expected):
        raise Refusal("the archive does not hold just the images that were announced")
    found = tuple(
        _check_one(spooled, _Claim(incoming, tuple(diff_ids), index[incoming], docker[incoming]), known)
        for incoming, diff_ids in expected.items()
    )
    named = {digest for image in found for digest in (*image.ids, *(blob.digest for blob in image.sent))}
    if named != set(spooled.blobs):
        raise Refusal("the archive holds a blob that no image names")
    return found


def _check_one(spooled: ArchiveSpool, claim: _Claim, known: Known) -> CheckedImage:
    data = spooled.read(claim.described, "the image's manifest")
    manifest = strict_json.read_manifest(data)
    config_data = spooled.read(manifest.config, "the image's config")
    config = strict_json.read_config(config_data)
    if manifest.media_type != claim.described.media_type:
        raise Refusal("index.json and the image's manifest differ")
    if claim.docker != (_path(manifest.config.digest), [_path(layer.digest) for layer in manifest.layers]):
        raise Refusal("manifest.json and the image's manifest differ")
    if config.diff_ids != claim.diff_ids or len(manifest.layers) != len(claim.diff_ids):
        raise Refusal("the image has other layers than were announced")
    ids = (manifest.config.digest, claim.described.digest)
    if set(ids) & {layer.digest for layer in manifest.layers}:
        raise Refusal("a document of the image is one of its layers, too")
    layers = tuple(
        _settled(spooled, layer, claim.diff_ids, position, known) for position, layer in enumerate(manifest.layers)
    )
    return CheckedImage(
        incoming=claim.incoming,
        name=new_name(),
        media_type=manifest.media_type,
        manifest=data if layers == manifest.layers else _retold(manifest, layers),
        config=config_data,
        platform=config.platform,
        diff_ids=claim.diff_ids,
        layers=layers,
        sent=tuple(
            {layer.digest: spooled.blobs[layer.digest] for layer in layers if layer.digest in spooled.blobs}.values()
        ),
        ids=ids,
    )


def _settled(
    spooled: ArchiveSpool, layer: Descriptor, diff_ids: Sequence[str], position: int, known: Known
) -> Descriptor:
    """The blob that the engine's manifest names for a layer: the one of the archive, or one that is here."""
    blob = spooled.blobs.get(layer.digest)
    if blob is not None:
        return _sent(layer, blob, diff_ids[position])
    stand_in = known.stand_in(layer, diff_ids, position)
    if stand_in is None:
        raise Refusal(f"layer {diff_ids[position]} is neither in the archive nor known here")
    return stand_in


def _sent(layer: Descriptor, blob: SpooledArchiveBlob, diff_id: str) -> Descriptor:
    if blob.diff_id != diff_id:
        raise Refusal(f"layer {blob.digest} is not {diff_id} when it is unpacked")
    if blob.size != layer.size or blob.compression != strict_json.compression_of(layer):
        raise Refusal(f"layer {blob.digest} is not what the image's manifest says of it")
    return layer


def _retold(manifest: strict_json.StrictManifest, layers: Sequence[Descriptor]) -> bytes:
    """The manifest with other blobs for the same layers, and nothing else changed."""
    retold = [
        told if new == old else new.to_json()
        for told, old, new in zip(manifest.document["layers"], manifest.layers, layers, strict=True)
    ]
    return _json({**manifest.document, "layers": retold})


def archive(spooled: ArchiveSpool, images: Sequence[CheckedImage]) -> Iterator[bytes]:
    """The checked images as an archive for the engine: an OCI layout and a docker archive at once."""
    yield from _file("oci-layout", [_LAYOUT], len(_LAYOUT))
    for blob in {blob.digest: blob for image in images for blob in image.sent}.values():
        yield from _file(_path(blob.digest), spooled.content(blob), blob.size)
    texts = {_path(digest_of(data)): data for image in images for data in (image.config, image.manifest)}
    texts["index.json"] = _json(
        {"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": [_entry(image) for image in images]}
    )
    texts["manifest.json"] = _json(
        [
            {
                "Config": _path(image.ids[0]),
                "RepoTags": [image.name],
                "Layers": [_path(layer.digest) for layer in image.layers],
            }
            for image in images
        ]
    )
    for name, data in texts.items():
        yield from _file(name, [data], len(data))
    yield bytes(2 * BLOCK)


def _entry(image: CheckedImage) -> dict[str, object]:
    return {
        **image.descriptor.to_json(),
        "annotations": {
            "io.containerd.image.name": image.name,
            "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
        },
    }


def _file(name: str, content: Iterable[bytes], size: int) -> Iterator[bytes]:
    yield write_header(name, size)
    yield from content
    yield bytes(-size % BLOCK)


def _path(digest: str) -> str:
    """Where an OCI layout keeps a blob (OCI image-spec, image-layout.md)."""
    return "blobs/" + digest.replace(":", "/", 1)


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
