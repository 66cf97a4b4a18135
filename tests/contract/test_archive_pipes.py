"""What comes through a pipe, and layers that are packed otherwise than is said of them, or as no engine takes them."""

import bz2
import json
import lzma
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from hostile.conduits import honest
from layerferry.chunks import LAYER_BZIP2, LAYER_XZ, UNSURE
from layerferry.oci.plan import Inventory, plan
from layerferry.sources.files.layout import LayoutSource
from layerferry.sources.unpacked import Unpacked
from packed import Picture, descriptor, digest_of, docker20, dumps, layout_files, nix, oci_archive, packed, write_folder

PICTURE = Picture.of("app", "gzip", "gzip")
PLAIN = Picture(PICTURE.tars, ("", ""))
NAME = "docker.io/library/app:1"


def push(
    folder: Path, *words: str, data: bytes | None = None, conduit: bool = True
) -> tuple[int, str, subprocess.CompletedProcess[bytes]]:
    done = subprocess.run(
        [sys.executable, "-m", "layerferry", "push", *words, *(("--", *honest(folder / "heard")) if conduit else ())],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"},
        input=data,
        capture_output=True,
        check=False,
    )
    assert list(folder.glob("layerferry-*")) == []
    return done.returncode, (done.stdout + done.stderr).decode(), done


@pytest.mark.parametrize("write", [oci_archive, docker20, nix])
@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_an_archive_comes_through_stdin(
    tmp_path: Path, write: Callable[[Picture, str], bytes], compression: Any
) -> None:
    data = packed(write(PLAIN, NAME), compression)
    code, said, _ = push(tmp_path, "archive:-", data=data)
    assert (code, "verified" in said) == (0, True), said


def test_a_name_may_follow_and_two_references_read_it_once(tmp_path: Path) -> None:
    code, said, _ = push(tmp_path, "archive:-:1", "archive:-:app:1", "--dry-run", data=oci_archive(PICTURE, NAME))
    assert code == 0, said
    code, said, _ = push(tmp_path, "archive:-:2", data=oci_archive(PICTURE, NAME))
    assert (code, "the archive on stdin has no '2'" in said) == (3, True), said


def test_an_archive_comes_through_a_named_pipe(tmp_path: Path) -> None:
    """`layerferry push archive:<(nix-build)`."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(oci_archive(PICTURE, NAME),))
    writer.start()
    code, said, _ = push(tmp_path, f"archive:{tmp_path}/pipe")
    writer.join()
    assert (code, "verified" in said) == (0, True), said


@pytest.mark.parametrize("data", [b"", b"error: attribute missing\n"])
def test_a_pipe_whose_writer_has_failed_is_told_of(tmp_path: Path, data: bytes) -> None:
    code, said, _ = push(tmp_path, "archive:-", data=data)
    assert code == 3, said
    assert "the archive on stdin is " in said


# Layers.


def layout(folder: Path, stored: Mapping[int, bytes], media_types: Mapping[int, str]) -> LayoutSource:
    """A layout of PICTURE whose layers are stored as they are told to be."""
    blobs = {digest_of(data): data for data in stored.values()}
    layers = [descriptor(media_types[number], data) for number, data in sorted(stored.items())]
    config = descriptor("application/vnd.oci.image.config.v1+json", PICTURE.config)
    manifest = dumps({"schemaVersion": 2, "config": config, "layers": layers})
    files = layout_files(
        [descriptor("application/vnd.oci.image.manifest.v1+json", manifest)],
        {**blobs, digest_of(manifest): manifest, PICTURE.id: PICTURE.config},
    )
    write_folder(folder, files)
    return LayoutSource()


TAR = "application/vnd.oci.image.layer.v1.tar"


def fetched(folder: Path, source: LayoutSource, unpack: Collection[str] = ()) -> dict[str, tuple[str, bytes]]:
    opened = source.open(f"oci:{folder}")
    planned = plan(opened.image, Inventory())
    with opened.fetch(planned, opened.choose(planned), frozenset(PICTURE.diff_ids), folder) as content:
        taken = Unpacked(content, unpack, folder)
        found = {blob.diff_id: (blob.descriptor.media_type, b"".join(blob.chunks)) for blob in taken.blobs()}
        told = taken.finish().descriptors
    assert {diff_id: told[diff_id].media_type for diff_id in found} == {key: kind for key, (kind, _) in found.items()}
    assert {diff_id: told[diff_id].digest for diff_id in found} == {
        key: digest_of(data) for key, (_, data) in found.items()
    }
    return {diff_id: found[diff_id] for diff_id in PICTURE.diff_ids}


def test_a_media_type_that_lies_is_told_by_the_content(tmp_path: Path) -> None:
    first, second = PICTURE.tars
    source = layout(tmp_path, {0: packed(first, "zstd"), 1: second}, {0: f"{TAR}+gzip", 1: f"{TAR}+zstd"})
    assert [kind for kind, _ in fetched(tmp_path, source).values()] == [f"{TAR}+zstd", TAR]


def test_a_media_type_of_another_family_stays(tmp_path: Path) -> None:
    first, second = PICTURE.layers
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    source = layout(tmp_path, {0: first, 1: second}, {0: foreign, 1: f"{TAR}+gzip"})
    assert [kind for kind, _ in fetched(tmp_path, source).values()] == [foreign, f"{TAR}+gzip"]


@pytest.mark.parametrize(("pack", "kind"), [(lzma.compress, LAYER_XZ), (bz2.compress, LAYER_BZIP2)])
def test_layers_that_no_engine_is_sure_to_take_come_unpacked(
    tmp_path: Path, pack: Callable[[bytes], bytes], kind: str
) -> None:
    first, second = PICTURE.tars
    source = layout(tmp_path, {0: pack(first), 1: packed(second, "gzip")}, {0: TAR, 1: f"{TAR}+gzip"})
    assert [kind for kind, _ in fetched(tmp_path, source).values()] == [kind, f"{TAR}+gzip"]
    plain = fetched(tmp_path, source, UNSURE)
    assert plain[PICTURE.diff_ids[0]] == (TAR, first)
    code, said, _ = push(tmp_path, f"oci:{tmp_path}", "--name", "app:1")
    assert (code, "verified" in said) == (0, True), said


def test_an_image_of_no_layers_goes(tmp_path: Path) -> None:
    """`FROM scratch` with labels alone."""
    empty = Picture((), ())
    (tmp_path / "oci.tar").write_bytes(oci_archive(empty, NAME))
    (tmp_path / "docker.tar").write_bytes(docker20(empty, NAME))
    for name in ("oci.tar", "docker.tar"):
        code, said, done = push(tmp_path, f"archive:{tmp_path}/{name}", "--json")
        assert code == 0, said
        (result,) = json.loads(done.stdout)["results"]
        assert (result["verified"], result["layers"]) == (True, [])
