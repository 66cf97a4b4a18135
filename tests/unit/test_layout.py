"""OCI layouts on disk: which image is meant, and that nothing outside is read."""

import os
from pathlib import Path

import pytest

from layerferry.errors import SourceError
from layerferry.sources.layout import LayoutSource, split_path
from packed import Picture, descriptor, dumps, layout_files, named_entry, write_folder

ONE, TWO = Picture.of("one", "gzip"), Picture.of("two", "zstd")


def two_images(folder: Path, first: str = "docker.io/library/app:1", second: str = "docker.io/library/web:2") -> str:
    entries = [named_entry(ONE, first), named_entry(TWO, second)]
    write_folder(folder, layout_files(entries, ONE.documents | TWO.documents))
    return f"oci:{folder}"


@pytest.mark.parametrize(
    ("text", "path", "selector"),
    [
        ("{}/app", "app", ""),
        ("{}/app:1", "app", "1"),
        ("{}/app:localhost:5000/app:1", "app", "localhost:5000/app:1"),
        ("{}/with:colon", "with:colon", ""),
        ("{}/with:colon:1", "with:colon", "1"),
        ("{}/app@sha256:" + "a" * 64, "app", "sha256:" + "a" * 64),
    ],
)
def test_the_longest_path_that_is_there_goes(tmp_path: Path, text: str, path: str, selector: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "with:colon").mkdir()
    assert split_path(text.format(tmp_path)) == (tmp_path / path, selector)


@pytest.mark.parametrize("selector", ["1", "app:1", "docker.io/library/app:1"])
def test_an_image_goes_by_its_tag_and_by_its_name(tmp_path: Path, selector: str) -> None:
    assert LayoutSource().inspect(f"{two_images(tmp_path)}:{selector}").id == ONE.id


def test_an_image_goes_by_its_digest(tmp_path: Path) -> None:
    digest = descriptor("", TWO.manifest)["digest"]
    assert LayoutSource().inspect(f"{two_images(tmp_path)}@{digest}").id == TWO.id


def test_several_images_need_a_tag(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has several images") as caught:
        LayoutSource().inspect(two_images(tmp_path))
    assert "docker.io/library/app:1, docker.io/library/web:2" in caught.value.hint


def test_a_tag_that_two_images_have_is_not_enough(tmp_path: Path) -> None:
    reference = two_images(tmp_path, second="docker.io/library/web:1")
    with pytest.raises(SourceError, match="has several images"):
        LayoutSource().inspect(f"{reference}:1")
    assert LayoutSource().inspect(f"{reference}:web:1").id == TWO.id


def test_an_unknown_tag_tells_the_others(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no '3'") as caught:
        LayoutSource().inspect(f"{two_images(tmp_path)}:3")
    assert "web:2" in caught.value.hint


def test_two_names_of_one_image_are_no_choice(tmp_path: Path) -> None:
    entries = [named_entry(ONE, "docker.io/library/app:1"), named_entry(ONE, "docker.io/library/app:latest")]
    write_folder(tmp_path, layout_files(entries, ONE.documents))
    assert LayoutSource().inspect(f"oci:{tmp_path}").id == ONE.id


def test_podmans_name_is_a_whole_one(tmp_path: Path) -> None:
    entry = descriptor(ONE.manifest_type, ONE.manifest, annotations={"org.opencontainers.image.ref.name": "app:1"})
    write_folder(tmp_path, layout_files([entry], ONE.documents))
    source = LayoutSource()
    assert source.names(source.inspect(f"oci:{tmp_path}:1")) == ("docker.io/library/app:1",)


def test_a_bare_tag_is_no_name(tmp_path: Path) -> None:
    entry = descriptor(ONE.manifest_type, ONE.manifest, annotations={"org.opencontainers.image.ref.name": "1"})
    write_folder(tmp_path, layout_files([entry], ONE.documents))
    source = LayoutSource()
    assert source.names(source.inspect(f"oci:{tmp_path}:1")) == ()


@pytest.mark.parametrize("reference", ["oci:{}/nowhere", "oci:{}/nowhere:1"])
def test_there_is_no_layout(tmp_path: Path, reference: str) -> None:
    with pytest.raises(SourceError, match=r"there is no OCI layout|is no OCI layout"):
        LayoutSource().inspect(reference.format(tmp_path))


@pytest.mark.parametrize(
    "index",
    [b"", b"[]", b"{", b"[" * 100_000, b'{"manifests": 5}', b'{"manifests": [{}]}', b'{"manifests": [{"digest": 1}]}'],
)
def test_an_index_that_is_none(tmp_path: Path, index: bytes) -> None:
    (tmp_path / "index.json").write_bytes(index)
    with pytest.raises(SourceError, match=r"damaged|no image"):
        LayoutSource().inspect(f"oci:{tmp_path}")


@pytest.mark.parametrize(
    ("digest", "message"),
    [
        ("sha256:../../../../etc/passwd", "is no descriptor"),
        ("sha256:" + "A" * 64, "is no descriptor"),
        ("../sha256:" + "a" * 64, "is no descriptor"),
        ("sha512:" + "a" * 128, "uses sha512 digests"),
    ],
)
def test_a_digest_leads_nowhere_else(tmp_path: Path, digest: str, message: str) -> None:
    entry = {"mediaType": ONE.manifest_type, "digest": digest, "size": 3}
    write_folder(tmp_path, layout_files([entry], ONE.documents))
    with pytest.raises(SourceError, match=message):
        LayoutSource().inspect(f"oci:{tmp_path}")


@pytest.mark.parametrize("what", ["index.json", "blob", "folder"])
def test_a_link_that_leads_out_is_refused(tmp_path: Path, what: str) -> None:
    inside, outside = tmp_path / "layout", tmp_path / "outside"
    write_folder(inside, layout_files([named_entry(ONE, "app:1")], ONE.documents))
    name = {"index.json": "index.json", "folder": "blobs"}.get(what, f"blobs/sha256/{ONE.id.removeprefix('sha256:')}")
    (inside / name).rename(outside)
    (inside / name).symlink_to(outside)
    with pytest.raises(SourceError, match="is refused"):
        LayoutSource().inspect(f"oci:{inside}")


def test_a_link_within_is_followed(tmp_path: Path) -> None:
    write_folder(tmp_path, layout_files([named_entry(ONE, "app:1")], ONE.documents))
    (tmp_path / "blobs").rename(tmp_path / "kept")
    (tmp_path / "blobs").symlink_to("kept")
    assert LayoutSource().inspect(f"oci:{tmp_path}").id == ONE.id


def test_a_pipe_is_no_blob(tmp_path: Path) -> None:
    write_folder(tmp_path, layout_files([named_entry(ONE, "app:1")], ONE.documents))
    blob = tmp_path / f"blobs/sha256/{ONE.id.removeprefix('sha256:')}"
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(SourceError, match="is refused"):
        LayoutSource().inspect(f"oci:{tmp_path}")


def test_encrypted_layers_are_refused(tmp_path: Path) -> None:
    manifest = dumps(
        {
            "schemaVersion": 2,
            "config": descriptor("application/vnd.oci.image.config.v1+json", ONE.config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", ONE.layers[0])],
        }
    )
    entry = descriptor(ONE.manifest_type, manifest)
    write_folder(tmp_path, layout_files([entry], ONE.documents | {entry["digest"]: manifest}))
    with pytest.raises(SourceError, match="encrypted"):
        LayoutSource().inspect(f"oci:{tmp_path}")


def test_a_config_that_names_other_layers_is_damaged(tmp_path: Path) -> None:
    manifest = dumps({"config": descriptor("", ONE.config), "layers": []})
    entry = descriptor(ONE.manifest_type, manifest)
    write_folder(tmp_path, layout_files([entry], ONE.documents | {entry["digest"]: manifest}))
    with pytest.raises(SourceError, match="names 1 layers, it has 0"):
        LayoutSource().inspect(f"oci:{tmp_path}")
