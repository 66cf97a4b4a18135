import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerferry.errors import SourceError
from layerferry.oci import limits
from layerferry.oci.image import Image, Layer, Platform, digest_of
from layerferry.sources.daemon.save_stream import Save, legacy_ids

LAYERS = [bytes([65 + number]) * 2000 for number in range(3)]
IDS = [digest_of(data) for data in LAYERS]
CONFIG = json.dumps({"rootfs": {"type": "layers", "diff_ids": IDS}}).encode()


def image(image_id: str = digest_of(CONFIG)) -> Image:
    return Image("app:1", image_id, Platform("linux", "amd64"), Layer.chain(IDS, map(len, LAYERS)))


def tar(files: dict[str, bytes]) -> Iterator[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    data = buffer.getvalue()
    return iter([data[start : start + 777] for start in range(0, len(data), 777)])


def legacy(names: tuple[str, ...] = legacy_ids(IDS)) -> dict[str, bytes]:
    """What docker before 25 writes; the top layer's folder is named by what only docker knows."""
    folders = [*names[:-1], "e" * 64]
    files: dict[str, bytes] = {}
    for number, folder in enumerate(folders):
        parent = {"parent": folders[number - 1]} if number else {}
        files[f"{folder}/VERSION"] = b"1.0"
        files[f"{folder}/json"] = json.dumps({"id": folder, **parent}).encode()
        files[f"{folder}/layer.tar"] = LAYERS[number]
    files[f"{digest_of(CONFIG)[7:]}.json"] = CONFIG
    layers = [f"{folder}/layer.tar" for folder in folders]
    files["manifest.json"] = json.dumps([{"Config": f"{digest_of(CONFIG)[7:]}.json", "Layers": layers}]).encode()
    return dict(sorted(files.items()))


def layout(blobs: list[bytes], media_type: str) -> dict[str, bytes]:
    """What docker 25 and later, and the containerd store, write: blobs, sorted by digest, and the index after."""
    layers = [{"mediaType": media_type, "digest": digest_of(blob), "size": len(blob)} for blob in blobs]
    manifest = json.dumps({"config": {"digest": digest_of(CONFIG)}, "layers": layers}).encode()
    files = {f"blobs/sha256/{digest_of(blob)[7:]}": blob for blob in [*blobs, CONFIG, manifest]}
    return {**dict(sorted(files.items())), "index.json": b'{"manifests":[]}', "oci-layout": b"{}"}


def read(save: Save) -> dict[str, bytes]:
    return {blob.diff_id: b"".join(blob.chunks) for blob in save.blobs()}


SHAPES = {
    "legacy": legacy(),
    "legacy, unforetold": legacy(("1" * 64, "2" * 64, "3" * 64)),
    "layout, plain": layout(LAYERS, "application/vnd.oci.image.layer.v1.tar"),
}


@pytest.mark.parametrize("files", SHAPES.values(), ids=SHAPES)
def test_wanted_layers_come_out_and_others_do_not(files: dict[str, bytes], tmp_path: Path) -> None:
    save = Save(image(), frozenset(IDS[1:]), tar(files), tmp_path)
    assert read(save) == dict(zip(IDS[1:], LAYERS[1:], strict=True))
    assert save.finish().config == CONFIG
    assert list(tmp_path.iterdir()) == []


def test_foretold_layers_are_not_spooled(tmp_path: Path) -> None:
    save = Save(image(), frozenset(IDS), tar(legacy()), tmp_path / "missing")
    assert set(read(save)) == set(IDS)


@pytest.mark.parametrize(
    "kind", ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip"]
)
def test_compressed_blobs_keep_their_digest_and_learn_their_diff_id(kind: str, tmp_path: Path) -> None:
    blobs = [gzip.compress(data, mtime=0) for data in LAYERS]
    save = Save(image("sha256:" + "9" * 64), frozenset(IDS[:2]), tar(layout(blobs, kind)), tmp_path)
    assert read(save) == dict(zip(IDS[:2], blobs[:2], strict=True))
    descriptor = save.finish().descriptors[IDS[0]]
    assert descriptor.digest == digest_of(blobs[0])
    assert descriptor.media_type == "application/vnd.oci.image.layer.v1.tar+gzip"
    assert save.finish().config == CONFIG


def test_the_stream_is_left_when_all_has_come(tmp_path: Path) -> None:
    files = dict(
        sorted(layout(LAYERS, "application/vnd.oci.image.layer.v1.tar").items(), key=lambda file: file[1] != CONFIG)
    )
    stream = tar({**files, "zzz": bytes(50_000)})
    assert read(Save(image(), frozenset(), stream, tmp_path)) == {}
    assert len(b"".join(stream)) > 40_000


def test_a_layer_that_does_not_come_is_an_error(tmp_path: Path) -> None:
    files = {name: data for name, data in SHAPES["layout, plain"].items() if data != LAYERS[1]}
    with pytest.raises(SourceError, match="lacks layer"):
        read(Save(image(), frozenset(IDS), tar(files), tmp_path))


@pytest.mark.parametrize(
    ("blobs", "says"),
    [
        ([*LAYERS, b"one more" * 9], "its config names 3 layers, it has 4"),
        (LAYERS[:2], "its config names 3 layers, it has 2"),
        ([LAYERS[0], *LAYERS[:2]], f"it has one blob for two layers, {IDS[0]} and {IDS[1]}"),
    ],
)
def test_a_manifest_of_other_layers_is_damaged(blobs: list[bytes], says: str, tmp_path: Path) -> None:
    packed = [gzip.compress(data, mtime=0) for data in blobs]
    files = layout(packed, "application/vnd.oci.image.layer.v1.tar+gzip")
    with pytest.raises(SourceError, match=f"^the daemon's archive of app:1 is damaged: {says}$"):
        read(Save(image("sha256:" + "9" * 64), frozenset(IDS), tar(files), tmp_path))


def test_a_stream_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    broken = b"".join(tar(legacy()))[:3000]
    with pytest.raises(SourceError):
        read(Save(image(), frozenset(IDS), iter([broken]), tmp_path))


def test_a_stream_without_a_config_is_an_error(tmp_path: Path) -> None:
    files = {name: data for name, data in legacy().items() if data != CONFIG}
    save = Save(image(), frozenset(IDS), tar(files), tmp_path)
    assert read(save).keys() == set(IDS)
    with pytest.raises(SourceError, match=r"^the daemon's archive of app:1 has no config$"):
        save.finish()


def test_documents_of_a_stream_are_bounded_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DOCUMENTS", 100)
    with pytest.raises(SourceError, match="is refused: it holds more than 100 bytes of documents"):
        read(Save(image(), frozenset(IDS), tar(legacy()), tmp_path))
