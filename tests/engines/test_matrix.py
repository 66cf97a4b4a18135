"""Every kind of source to every kind of target: the pairs of tests/matrix.py."""

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerferry.oci.image import Platform
from matrix import DAEMONS, PACKED, TARGETS, checked
from packed import (
    ARCHIVES,
    Compression,
    Picture,
    digest_of,
    layer_tar,
    layout_files,
    named_entry,
    packed,
    write_folder,
)
from rig import KINDS, Engine, Registry, Rig
from rig.command import Layerferry
from rig.images import Image, Layer

NAME = "matrix-test/app:1"
FULL = f"docker.io/{NAME}"
_COMPRESSIONS: dict[str, Compression] = {"layout": "zstd", "oci-archive": "gzip", "registry": "gzip"}


@pytest.fixture(scope="module")
def running(rig: Rig) -> Iterator[Registry]:
    running = rig.registry()
    yield running
    running.stop()


def image_of(picture: Picture, folder: Path) -> Image:
    layers = []
    for tar, diff_id in zip(picture.tars, picture.diff_ids, strict=True):
        path = folder / diff_id.removeprefix("sha256:")
        path.write_bytes(tar)
        layers.append(Layer(path, diff_id, len(tar)))
    return Image(picture.config, tuple(layers))


def assert_there(target: Engine, result: dict[str, object], picture: Picture) -> None:
    """The target shows just these layers, under the ID that we told, which is what the matrix says that it is."""
    assert result["verified"] is True
    assert target.diff_ids(NAME) == list(picture.diff_ids)
    there = {image for name, image in target.images().items() if name.endswith("matrix-test/app:1")}
    assert there == {result["image_id"]}
    assert (result["image_id"] == digest_of(picture.config)) is (checked(target.kind) == "ID")


def test_the_matrix_has_every_kind_of_target() -> None:
    assert list(TARGETS) == list(KINDS)


@pytest.mark.kinds(target=tuple(TARGETS))
def test_from_every_daemon(rig: Rig, layerferry: Layerferry, target: Engine, tmp_path: Path) -> None:
    architecture = Platform.parse(f"linux/{platform.machine()}").architecture
    for kind in DAEMONS:
        source = rig.engine(kind, name=f"source-{kind}")
        picture = Picture((layer_tar(f"{kind} {target.name}"), layer_tar(kind)), ("", ""), architecture=architecture)
        source.load(rig.workshop.archive({FULL: image_of(picture, tmp_path)}))
        try:
            run = layerferry("push", NAME, target.ssh_alias, "--json", source=source)
            assert_there(target, run.result, picture)
        finally:
            source.clear()


@pytest.mark.kinds(target=tuple(TARGETS))
def test_without_a_daemon(layerferry: Layerferry, target: Engine, tmp_path: Path, running: Registry) -> None:
    architecture = Platform.parse(f"linux/{platform.machine()}").architecture
    for kind in PACKED:
        tars = layer_tar(f"{kind} {target.name}"), layer_tar(kind)
        compression = _COMPRESSIONS.get(kind, "")
        picture = Picture(tars, (compression, compression), architecture=architecture)
        if kind == "registry":
            pushed = running.push(f"matrix/{target.name}:1", image_of(picture, tmp_path), compression="gzip-1")
            reference = f"registry:{pushed}"
        elif kind == "layout":
            files = layout_files([named_entry(picture, FULL)], picture.documents)
            reference = f"oci:{write_folder(tmp_path / 'layout', files)}"
        else:
            (tmp_path / kind).write_bytes(packed(ARCHIVES[kind](picture, FULL), ""))
            reference = f"archive:{tmp_path / kind}"
        run = layerferry("push", reference, target.ssh_alias, "--name", NAME, "--json")
        assert_there(target, run.result, picture)
