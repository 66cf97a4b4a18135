"""Every kind of source to every kind of target: all arrives, and of a change only the change is sent."""

import json
import lzma
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from layerferry.oci.image import Platform
from layerferry.oci.plan import Inventory, plan
from layerferry.sources.files.image_archive import ArchiveSource
from packed import (
    ARCHIVES,
    Compression,
    Picture,
    descriptor,
    digest_of,
    dumps,
    index_of,
    layer_tar,
    layout_files,
    named_entry,
    packed,
    unpacked,
    write_folder,
)
from rig import ENGINES, Engine, Registry, Rig
from rig.command import Layerferry
from rig.images import Image, Layer

NAME = "sources-test/app"
HERE = Platform.parse(f"linux/{platform.machine()}")
OTHER = "s390x"
_BASE, _CHANGE = 300_000, 20_000
#: What an archive, two manifests and a conversation add to the layers, in bytes.
_OVERHEAD = 40_000

Put = Callable[[Picture, int], str]


def picture(seed: str, layers: int, compression: Compression) -> Picture:
    """An image of two layers, and of more: each number of layers has all of those below."""
    tars = [layer_tar(f"{seed} {number}", _BASE if number < 2 else _CHANGE) for number in range(layers)]
    return Picture(tuple(tars), (compression,) * layers, architecture=HERE.architecture)


def layout(folder: Path) -> Put:
    def put(image: Picture, tag: int) -> str:
        files = layout_files([named_entry(image, f"docker.io/{NAME}:{tag}")], image.documents)
        return f"oci:{write_folder(folder / str(tag), files)}:{tag}"

    return put


def archive(folder: Path, tool: str, compression: Compression = "") -> Put:
    def put(image: Picture, tag: int) -> str:
        path = folder / f"{tag}.tar"
        path.write_bytes(packed(ARCHIVES[tool](image, f"docker.io/{NAME}:{tag}"), compression))
        return f"archive:{path}"

    return put


def registry(folder: Path, running: Registry) -> Put:
    def put(image: Picture, tag: int) -> str:
        layers = []
        for tar, diff_id in zip(image.tars, image.diff_ids, strict=True):
            path = folder / diff_id.removeprefix("sha256:")
            path.write_bytes(tar)
            layers.append(Layer(path, diff_id, len(tar)))
        return f"registry:{running.push(f'{NAME}:{tag}', Image(image.config, tuple(layers)), compression='gzip-1')}"

    return put


#: By name: how it stores layers, and what puts an image there.
SOURCES: dict[str, tuple[Compression, Callable[[Path], Put]]] = {
    "layout-gzip": ("gzip", layout),
    "layout-zstd": ("zstd", layout),
    "oci-archive-zstd": ("gzip", lambda folder: archive(folder, "oci-archive", "zstd")),
    "docker-save-20-gzip": ("", lambda folder: archive(folder, "docker20", "gzip")),
    "docker-save-25": ("", lambda folder: archive(folder, "docker25")),
    "podman-save": ("", lambda folder: archive(folder, "podman")),
    "kaniko": ("gzip", lambda folder: archive(folder, "kaniko")),
    "nix-gzip": ("", lambda folder: archive(folder, "nix", "gzip")),
}
_PASSWORD = "only for this run"


@pytest.fixture(scope="module")
def guarded(rig: Rig) -> Iterator[Registry]:
    """A registry that asks for a login."""
    running = rig.registry(user="anna", password=_PASSWORD)
    yield running
    running.stop()


def assert_whole(target: Engine, name: str, image: Picture, folder: Path) -> None:
    """The target shows the image, and gives all of its layers back."""
    assert target.diff_ids(name) == list(image.diff_ids)
    path = folder / "back.tar"
    if target.kind.program == "podman":
        # podman 4 writes no docker archive of an image with zstd layers, wherever it came from.
        saved = target.machine.run_bytes("podman", "save", "--format", "oci-archive", name)
    else:
        saved = target.save(name)
    path.write_bytes(saved)
    found = ArchiveSource().open(f"archive:{path}")
    planned = plan(found.image, Inventory())
    with found.fetch(planned, found.choose(planned), frozenset(image.diff_ids), folder) as content:
        tars = {blob.diff_id: unpacked(b"".join(blob.chunks)) for blob in content.blobs()}
    assert [digest_of(tars[diff_id]) for diff_id in image.diff_ids] == list(image.diff_ids)


def push_twice(layerferry: Layerferry, target: Engine, put: Put, images: list[Picture], **options: Any) -> None:
    """Push an image, and one with a layer more."""
    for tag, image in enumerate(images, 1):
        name = f"{NAME}:{tag}"
        run = layerferry("push", put(image, tag), target.ssh_alias, "--name", name, "--json", **options)
        result = run.result
        expected = ["send", "send"] if tag == 1 else ["reuse", "reuse", "send"]
        assert [layer["action"] for layer in result["layers"]] == expected
        assert result["verified"] is True
        assert result["route"]["name"] == "direct"
        assert target.images()[name] == result["image_id"]
        if tag == 2:
            assert result["bytes"]["sent"] < _CHANGE + _OVERHEAD
            assert result["bytes"]["received"] < _CHANGE + _OVERHEAD


@pytest.mark.kinds(target=ENGINES)
@pytest.mark.parametrize("kind", SOURCES)
def test_arrives_whole_and_then_only_what_changed(
    layerferry: Layerferry, target: Engine, tmp_path: Path, kind: str
) -> None:
    compression, opened = SOURCES[kind]
    images = [picture(f"{kind} {target.kind.name}", layers, compression) for layers in (2, 3)]
    push_twice(layerferry, target, opened(tmp_path), images)
    assert_whole(target, f"{NAME}:2", images[1], tmp_path)


@pytest.mark.kinds(target=ENGINES)
def test_of_a_registry_only_the_missing_blob_is_read(
    layerferry: Layerferry, target: Engine, tmp_path: Path, guarded: Registry
) -> None:
    images = [picture(f"registry {target.kind.name}", layers, "gzip") for layers in (2, 3)]
    login = {"auths": {guarded.address: {"username": guarded.user, "password": guarded.password}}}
    (tmp_path / "config.json").write_text(json.dumps(login))
    put = registry(tmp_path, guarded)
    push_twice(layerferry, target, put, images, env={"DOCKER_CONFIG": str(tmp_path)})
    assert_whole(target, f"{NAME}:2", images[1], tmp_path)


@pytest.mark.kinds(target=("docker20-overlay2", "docker28-containerd", "podman5"))
def test_the_targets_platform_is_picked(layerferry: Layerferry, target: Engine, tmp_path: Path) -> None:
    mine = picture("platforms", 2, "gzip")
    other = Picture(mine.tars[:1], ("gzip",), architecture=OTHER)
    index, blobs = index_of([other, mine])
    entry = descriptor("application/vnd.oci.image.index.v1+json", index)
    write_folder(tmp_path / "layout", layout_files([entry], blobs))
    reference = f"oci:{tmp_path}/layout"
    run = layerferry("push", reference, target.ssh_alias, "--name", f"{NAME}:1", "--json")
    assert run.result["verified"] is True
    assert_whole(target, f"{NAME}:1", mine, tmp_path)
    run = layerferry("push", reference, target.ssh_alias, "--name", f"{NAME}:1", "--platform", f"linux/{OTHER}", code=5)
    assert f"is for linux/{OTHER}" in run.stderr


@pytest.mark.kinds(target=ENGINES)
def test_an_image_of_no_layers_goes_too(layerferry: Layerferry, target: Engine, tmp_path: Path) -> None:
    """`FROM scratch` with labels alone; also when it is there already."""
    image = Picture((), (), architecture=HERE.architecture)
    (tmp_path / "empty.tar").write_bytes(ARCHIVES["oci-archive"](image, f"docker.io/{NAME}:1"))
    for _ in range(2):
        run = layerferry("push", f"archive:{tmp_path}/empty.tar", target.ssh_alias, "--json")
        assert (run.result["verified"], run.result["layers"]) == (True, [])
        assert target.diff_ids(f"{NAME}:1") == []


@pytest.mark.kinds(source=ENGINES, target=("docker28-overlay2",))
def test_so_it_does_out_of_every_store(layerferry: Layerferry, source: Engine, target: Engine, tmp_path: Path) -> None:
    """docker saves none out of a graph driver, so that it has to push it; podman, which reaches no registry, does."""
    image = Picture((), (), architecture=HERE.architecture)
    (tmp_path / "empty.tar").write_bytes(ARCHIVES["docker25"](image, f"docker.io/{NAME}:1"))
    source.load(tmp_path / "empty.tar")
    run = layerferry("push", f"{NAME}:1", target.ssh_alias, "--json", source=source)
    assert (run.result["verified"], run.result["layers"]) == (True, [])
    assert target.diff_ids(f"{NAME}:1") == []


@pytest.mark.kinds(target=("docker20-overlay2", "docker28-containerd", "podman5"))
def test_layers_of_xz_come_unpacked_and_lying_ones_as_they_are(
    layerferry: Layerferry, target: Engine, tmp_path: Path
) -> None:
    image = picture(f"xz {target.kind.name}", 2, "")
    stored = (lzma.compress(image.tars[0], preset=0), packed(image.tars[1], "zstd"))
    config = descriptor("application/vnd.oci.image.config.v1+json", image.config)
    layers = [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", data) for data in stored]
    manifest = dumps({"schemaVersion": 2, "config": config, "layers": layers})
    entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    blobs = {digest_of(data): data for data in (*stored, manifest, image.config)}
    write_folder(tmp_path / "layout", layout_files([entry], blobs))
    run = layerferry("push", f"oci:{tmp_path}/layout", target.ssh_alias, "--name", f"{NAME}:1", "--json")
    assert run.result["verified"] is True
    assert_whole(target, f"{NAME}:1", image, tmp_path)


@pytest.mark.kinds(target=("docker28-overlay2",))
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_damaged_source_leaves_nothing(layerferry: Layerferry, target: Engine, tmp_path: Path, share: float) -> None:
    image = picture("damaged", 2, "")
    data = ARCHIVES["podman"](image, f"{NAME}:1")
    needle = image.tars[1][_BASE // 2 : _BASE // 2 + 20]
    (tmp_path / "1.tar").write_bytes(data[: int(len(data) * share)])
    (tmp_path / "2.tar").write_bytes(data.replace(needle, bytes(20)))
    before = target.images()
    for name in ("1.tar", "2.tar"):
        run = layerferry("push", f"archive:{tmp_path}/{name}", target.ssh_alias, "--name", f"{NAME}:1", code=3)
        assert "damaged" in run.stderr
    assert target.images() == before
