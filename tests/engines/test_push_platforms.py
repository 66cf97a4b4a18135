"""`--platform` of a daemon's image: a containerd store has several variants of one, and the one asked for goes."""

from pathlib import Path

import pytest

from packed import Compression, Picture, descriptor, docker25, index_of, layer_tar, layout_files, tar_of
from rig import Engine
from rig.command import Layerferry

NAME = "platforms-test/app"
HERE, OTHER = "amd64", "arm64"
_STORES = ("docker28-overlay2", "docker28-containerd")


def load_several(source: Engine, folder: Path, *variants: Picture) -> None:
    """An image that is there for several platforms, as `docker buildx build --platform` leaves it."""
    index, blobs = index_of(list(variants))
    entry = descriptor(
        "application/vnd.oci.image.index.v1+json",
        index,
        annotations={"io.containerd.image.name": f"docker.io/{NAME}:1", "org.opencontainers.image.ref.name": "1"},
    )
    path = folder / "several.tar"
    path.write_bytes(tar_of(layout_files([entry], blobs)))
    source.load(path)


def variant(architecture: str, compression: Compression = "gzip", own: str = "") -> Picture:
    tars = (layer_tar("shared by both", 200_000), layer_tar(f"{own or architecture}'s own", 20_000))
    return Picture(tars, (compression, compression), architecture=architecture)


@pytest.mark.kinds(source="docker28-containerd", target=_STORES)
@pytest.mark.parametrize("route", ["registry", "export"])
def test_the_variant_that_is_asked_for_goes(
    layerferry: Layerferry, source: Engine, target: Engine, tmp_path: Path, route: str
) -> None:
    mine, other = variant(HERE), variant(OTHER)
    load_several(source, tmp_path, other, mine)
    options = ("--route", route, "--json", "--allow-platform-mismatch")
    for platform, picture in ((OTHER, other), (HERE, mine)):
        words = (f"{NAME}:1", target.ssh_alias, "--platform", f"linux/{platform}", *options)
        run = layerferry("push", *words, source=source)
        assert run.result["verified"] is True
        assert target.diff_ids(f"{NAME}:1") == list(picture.diff_ids)
        assert target.inspect(f"{NAME}:1")["Architecture"] == platform
    assert [layer["action"] for layer in run.result["layers"]] == ["reuse", "send"]


@pytest.mark.kinds(
    source=("docker28-containerd", "docker28-overlay2", "docker26-containerd"), target="docker28-overlay2"
)
def test_a_variant_that_is_not_there_is_refused(
    layerferry: Layerferry, source: Engine, target: Engine, tmp_path: Path
) -> None:
    (tmp_path / "one.tar").write_bytes(docker25(variant(HERE, ""), f"docker.io/{NAME}:1"))
    source.load(tmp_path / "one.tar")
    for asked in ("linux/arm64", "linux/arm/v6", "windows/amd64"):
        run = layerferry("push", f"{NAME}:1", target.ssh_alias, "--platform", asked, source=source, code=3)
        assert f"{NAME}:1 is for linux/{HERE}, not for {asked}" in run.stderr
    assert target.images() == {}


@pytest.mark.kinds(source="docker28-containerd", target="docker28-overlay2")
def test_the_variants_of_arm_are_told_apart(
    layerferry: Layerferry, source: Engine, target: Engine, tmp_path: Path
) -> None:
    six, seven = (
        Picture(variant("arm", own=f"{level}").tars, ("gzip", "gzip"), architecture="arm", variant=level)
        for level in ("v6", "v7")
    )
    load_several(source, tmp_path, seven, six)
    for level, picture in (("v6", six), ("v7", seven)):
        words = (f"{NAME}:1", target.ssh_alias, "--platform", f"linux/arm/{level}", "--allow-platform-mismatch")
        layerferry("push", *words, source=source)
        assert target.diff_ids(f"{NAME}:1") == list(picture.diff_ids)
