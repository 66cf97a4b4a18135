"""Layers that are unpacked on their way, for engines that cannot."""

import bz2
import lzma
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import zstandard

from layerferry import disk
from layerferry.errors import SourceError
from layerferry.oci import limits
from layerferry.oci.content import Blob, Summary
from layerferry.oci.image import MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_LAYER_ZSTD, Descriptor
from layerferry.sources.unpacked import Unpacked
from packed import Picture, digest_of

PICTURE = Picture.of("app", "zstd", "gzip", "")
TYPES = (MEDIA_TYPE_LAYER_ZSTD, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_LAYER)


class Content:
    """Gives the picture's layers, chunk by chunk."""

    config = PICTURE.config
    manifest = PICTURE.manifest_type, PICTURE.manifest
    received = 7

    def __init__(self, *layers: bytes, types: Sequence[str] = TYPES) -> None:
        self._layers = layers or PICTURE.layers
        self._types = types

    def finish(self) -> Summary:
        descriptors = {blob.diff_id: blob.descriptor for blob in self.blobs()}
        return Summary(self.config, descriptors, self.manifest, self.received)

    def blobs(self) -> Iterator[Blob]:
        for diff_id, media_type, layer in zip(PICTURE.diff_ids, self._types, self._layers, strict=True):
            chunks = (layer[start : start + 1000] for start in range(0, len(layer), 1000))
            yield Blob(diff_id, Descriptor(media_type, digest_of(layer), len(layer)), chunks)


def test_unpacks_what_is_packed_so_and_nothing_else(tmp_path: Path) -> None:
    content = Unpacked(Content(), {"zstd"}, tmp_path)
    blobs = [(blob.descriptor, b"".join(blob.chunks)) for blob in content.blobs()]
    assert [data for _, data in blobs] == [PICTURE.tars[0], *PICTURE.layers[1:]]
    assert blobs[0][0] == Descriptor(MEDIA_TYPE_LAYER, PICTURE.diff_ids[0], len(PICTURE.tars[0]))
    summary = content.finish()
    assert list(summary.descriptors.values()) == [descriptor for descriptor, _ in blobs]
    assert (summary.config, summary.manifest, summary.received) == (Content.config, Content.manifest, 7)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("packing", "media_type", "layer"),
    [
        ("zstd", "application/vnd.docker.image.rootfs.diff.tar.zstd", PICTURE.layers[0]),
        ("zstd", "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", PICTURE.layers[0]),
        ("xz", "application/vnd.docker.image.rootfs.diff.tar.xz", lzma.compress(PICTURE.tars[0])),
        ("bzip2", "application/vnd.docker.image.rootfs.diff.tar.bzip2", bz2.compress(PICTURE.tars[0])),
    ],
)
def test_a_packing_is_known_in_whoevers_words(packing: str, media_type: str, layer: bytes, tmp_path: Path) -> None:
    source = Content(layer, *PICTURE.layers[1:], types=(media_type, *TYPES[1:]))
    blob = next(Unpacked(source, {packing}, tmp_path).blobs())
    assert b"".join(blob.chunks) == PICTURE.tars[0]
    assert blob.descriptor == Descriptor(MEDIA_TYPE_LAYER, PICTURE.diff_ids[0], len(PICTURE.tars[0]))


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-500], lambda data: data[:50], lambda data: data[:100] + bytes(len(data) - 100)]
)
def test_a_damaged_layer_is_not_sent(tmp_path: Path, damage: type[bytes]) -> None:
    content = Unpacked(Content(damage(PICTURE.layers[0]), *PICTURE.layers[1:]), {"zstd"}, tmp_path)
    with pytest.raises(SourceError, match=r"damaged|is not"):
        next(content.blobs())


def test_another_layer_is_not_sent(tmp_path: Path) -> None:
    other = Picture.of("other", "zstd").layers[0]
    content = Unpacked(Content(other, *PICTURE.layers[1:]), {"zstd"}, tmp_path)
    with pytest.raises(SourceError, match=f"is not {PICTURE.diff_ids[0]}"):
        next(content.blobs())


def unpacked(layer: bytes, folder: Path) -> None:
    for blob in Unpacked(Content(layer, *PICTURE.layers[1:]), {"zstd"}, folder).blobs():
        for _ in blob.chunks:
            pass


def test_a_layer_that_unpacks_to_no_end_is_not_unpacked_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SPOOLED_AT_LEAST", 4 << 20)
    frame = zstandard.ZstdCompressor().compress(bytes(1 << 20))
    with pytest.raises(SourceError, match=r"is refused: its \d+ bytes unpack to more than 4194304"):
        unpacked(frame * 100, tmp_path)
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [4 << 20]


def test_nor_is_one_that_the_disk_has_no_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_LOOK_EVERY", 1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 900, 100))
    frame = zstandard.ZstdCompressor().compress(bytes(1 << 20))
    with pytest.raises(
        SourceError, match=rf"layers cannot be kept in {tmp_path}: 100 bytes free, more needed for a layer of"
    ):
        unpacked(frame * 100, tmp_path)


def test_a_layer_that_wants_a_gigabyte_of_memory_does_not_get_it(tmp_path: Path) -> None:
    wide = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    layer = zstandard.ZstdCompressor(compression_params=wide).compressobj(size=1 << 32).compress(b"x" * (1 << 21))
    with pytest.raises(SourceError, match=r"is refused: to unpack it takes more than 128 MiB"):
        unpacked(layer, tmp_path)
