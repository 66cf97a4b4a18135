"""Archives on disk: names, links, and tars that are something else."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard

from layerferry.chunks import CHUNK
from layerferry.errors import SourceError
from layerferry.oci import limits
from layerferry.sources.digest_store import Stored
from layerferry.sources.files import image_archive
from layerferry.sources.files.image_archive import ArchiveSource
from layerferry.sources.files.tar_index import Tarball
from packed import Picture, docker20, dumps, layout_files, named_entry, podman, tar_of
from ustar import header, member, octal

PICTURE = Picture.of("app", "", "")


def written(folder: Path, data: bytes) -> Path:
    path = folder / "image.tar"
    path.write_bytes(data)
    return path


def tarball(folder: Path, data: bytes) -> Tarball:
    return Tarball(written(folder, data))


def inspect(folder: Path, data: bytes, name: str = "") -> str:
    return ArchiveSource().open(f"archive:{written(folder, data)}{name}").image.id


def records(*layers: str, config: str = "config.json", names: tuple[str, ...] = ("app:1",)) -> bytes:
    return dumps([{"Config": config, "RepoTags": list(names), "Layers": list(layers)}])


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_links_are_followed_inside(tmp_path: Path, pack: type[bytes]) -> None:
    tar = tarball(tmp_path, pack(tar_of({"a/data": b"{1}"}, {"b/one": "../a/data", "two": "b/one"})))
    assert tar.document("two") == b"{1}"
    assert tar.document("./b/../two") == b"{1}"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "two", "missing", ".", ""])
def test_links_lead_nowhere_else(tmp_path: Path, target: str) -> None:
    tar = tarball(tmp_path, tar_of({"a/data": b"{1}"}, {"one": target, "two": "one"}))
    assert tar.member("one") is None
    with pytest.raises(SourceError, match="lacks one"):
        tar.document("one")


@pytest.mark.parametrize("name", ["/etc/hostname", "../../../../../../etc/hostname", "a/../../etc/hostname"])
def test_a_layer_is_not_read_from_the_disk(tmp_path: Path, name: str) -> None:
    data = tar_of({"config.json": PICTURE.config, "manifest.json": records(name, name)})
    with pytest.raises(SourceError, match="lacks"):
        inspect(tmp_path, data)


def test_hard_links_are_files(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("a/data")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"{1}"))
        link = tarfile.TarInfo("b")
        link.type, link.linkname = tarfile.LNKTYPE, "a/data"
        tar.addfile(link)
    assert tarball(tmp_path, out.getvalue()).document("b") == b"{1}"


def test_of_files_with_one_name_the_last_counts(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for data in (b"{1}", b"{2}"):
            info = tarfile.TarInfo("data")
            info.size = 3
            tar.addfile(info, io.BytesIO(data))
    for data in (out.getvalue(), gzip.compress(out.getvalue())):
        assert tarball(tmp_path, data).document("data") == b"{2}"


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_xz_and_bzip2_are_read_too(tmp_path: Path, pack: type[bytes]) -> None:
    """skopeo, podman and docker read them; `tar cJ` writes one, and pixz many streams."""
    data = docker20(PICTURE, "app:1")
    half = len(data) // 2
    for packed in (pack(data), pack(data[:half]) + pack(data[half:])):
        assert inspect(tmp_path, packed) == PICTURE.id
    packed = pack(data)
    with pytest.raises(SourceError, match="damaged or cut short"):
        inspect(tmp_path, packed[: len(packed) // 2])


def test_padding_between_streams_of_xz_is_none_and_rubbish_is(tmp_path: Path) -> None:
    data = docker20(PICTURE, "app:1")
    assert inspect(tmp_path, lzma.compress(data[:99]) + bytes(8) + lzma.compress(data[99:]) + bytes(4)) == PICTURE.id
    with pytest.raises(SourceError, match="damaged or cut short"):
        inspect(tmp_path, lzma.compress(data[:2000]) + b"rubbish")
    assert inspect(tmp_path, lzma.compress(data) + bytes(CHUNK + 8)) == PICTURE.id  # padding that takes two reads


def test_a_window_that_takes_too_much_memory_is_refused_and_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`zstd --long=31`: 2 GiB, where `zstd -d` by itself takes 128 MiB."""
    data = docker20(PICTURE, "app:1")
    for log, fits in ((27, True), (31, False)):
        parameters = zstandard.ZstdCompressionParameters(window_log=log, enable_ldm=True)
        packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        packed = packer.compress(data) + packer.flush()
        if fits:
            assert inspect(tmp_path, packed) == PICTURE.id
            continue
        with pytest.raises(SourceError, match=r"is refused: to unpack it takes more than 128 MiB") as caught:
            inspect(tmp_path, packed)
        assert "--long" in caught.value.hint
    monkeypatch.setattr(limits, "XZ_MEMORY", 1 << 20)
    with pytest.raises(SourceError, match=r"is refused: to unpack it takes more than 128 MiB"):
        inspect(tmp_path, lzma.compress(data))


@pytest.mark.parametrize(
    "data", [b"", b"no tar at all", bytes(10240), b"\x1f\x8b", b"\x28\xb5\x2f\xfd", bytes(range(256)) * 9]
)
def test_what_is_no_tar(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SourceError, match=r"damaged or cut short|is no image archive"):
        inspect(tmp_path, data)


def test_a_root_filesystem_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"neither an index.json nor a manifest.json"):
        inspect(tmp_path, tar_of({"etc/hostname": b"x", "bin/sh": b"y"}))


def test_a_tar_of_very_many_files_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ARCHIVE_MEMBERS", 3)
    with pytest.raises(SourceError, match="more than 3 members"):
        inspect(tmp_path, tar_of(dict.fromkeys("abcde", b"")))


def test_a_compressed_tar_of_many_documents_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DOCUMENTS", 100)
    with pytest.raises(SourceError, match="too many documents"):
        inspect(tmp_path, gzip.compress(tar_of(dict.fromkeys("abcde", b"{" * 60))))


def test_there_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no archive"):
        ArchiveSource().open(f"archive:{tmp_path}/nothing.tar")
    with pytest.raises(SourceError, match="there is no archive"):
        ArchiveSource().open(f"archive:{tmp_path}")


def two_images() -> tuple[Picture, bytes]:
    other = Picture.of("other", "")
    files = {"1.json": PICTURE.config, "2.json": other.config, "a": PICTURE.tars[0], "b": PICTURE.tars[1]}
    listed = [
        {"Config": "1.json", "RepoTags": ["app:1", "app:latest"], "Layers": ["a", "b"]},
        {"Config": "2.json", "RepoTags": ["host:5000/web:1"], "Layers": ["c"]},
    ]
    return other, tar_of(files | {"c": other.tars[0], "manifest.json": dumps(listed)})


def test_several_images_need_a_name(tmp_path: Path) -> None:
    other, data = two_images()
    with pytest.raises(SourceError, match="several images") as caught:
        inspect(tmp_path, data)
    assert "docker.io/library/app:1" in caught.value.hint
    with pytest.raises(SourceError, match="several images"):
        inspect(tmp_path, data, ":1")
    assert inspect(tmp_path, data, ":app:1") == PICTURE.id
    assert inspect(tmp_path, data, ":host:5000/web:1") == other.id
    with pytest.raises(SourceError, match="has no 'app:3'"):
        inspect(tmp_path, data, ":app:3")


@pytest.mark.parametrize("manifest", [b"", b"{}", b"[{}]", b"[1]", b'[{"Config": "x", "Layers": 3}]', b"5", b"[]"])
def test_a_manifest_that_is_none(tmp_path: Path, manifest: bytes) -> None:
    with pytest.raises(SourceError, match=r"damaged|has no image|lacks"):
        inspect(tmp_path, tar_of({"manifest.json": manifest}))


@pytest.mark.parametrize("second", ["a", "./a", "link"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_one_file_is_no_two_layers(tmp_path: Path, second: str, pack: type[bytes]) -> None:
    files = {"config.json": PICTURE.config, "a": PICTURE.tars[0], "manifest.json": records("a", second)}
    with pytest.raises(SourceError, match=r"is damaged: it has one blob for two layers, "):
        inspect(tmp_path, pack(tar_of(files, {"link": "a"})))


def test_a_config_is_what_its_name_says(tmp_path: Path) -> None:
    name = f"{'0' * 64}.json"
    data = tar_of({name: PICTURE.config, "manifest.json": records("a", "b", config=name), "a": b"", "b": b""})
    with pytest.raises(SourceError, match=f"damaged: {name} is {PICTURE.id}"):
        inspect(tmp_path, data)


def test_an_image_without_a_name(tmp_path: Path) -> None:
    data = podman(PICTURE, "app:1").replace(b'"RepoTags": ["app:1"]', b'"RepoTags": null     ')
    source = ArchiveSource()
    assert source.open(f"archive:{written(tmp_path, data)}").names == ()


def test_an_image_without_layers(tmp_path: Path) -> None:
    empty = Picture.of("none")
    assert inspect(tmp_path, podman(empty, "app:1")) == empty.id
    assert inspect(tmp_path, tar_of(layout_files([named_entry(empty, "app:1")], empty.documents))) == empty.id


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (header(b"long", octal(100), b"L") + b"a" * 90, "it ends in the middle of a header"),
        (member(b"p", b"a=b\n", b"x") + member(b"a", b"x"), "it has a pax header that is none"),
        (member(b"p", b"a\0", b"L") * limits.ARCHIVE_EXTENSIONS, "it has more than [0-9]+ headers for one file"),
        (header(b"a", octal(0), b"S"), "it has sparse files: write it without them"),
    ],
)
def test_what_is_wrong_with_a_header_is_told(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(SourceError, match=f"^the archive .* is damaged or cut short: {says}$"):
        inspect(tmp_path, data)


def test_an_archive_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = docker20(PICTURE, "app:1")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path, data)
    says = f"^the archive {path} cannot be read: Permission denied$"
    with monkeypatch.context() as changed:
        changed.setattr(Path, "open", refuse)
        with pytest.raises(SourceError, match=says):
            ArchiveSource().open(f"archive:{path}")


def test_an_archive_unpacks_to_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ARCHIVE_AT_LEAST", 100)
    monkeypatch.setattr(limits, "SPOOLED_AT_LEAST", 100)
    monkeypatch.setattr(limits, "RATIO", 1)
    with pytest.raises(SourceError, match=r"is refused: it unpacks to more than [0-9]+ bytes"):
        inspect(tmp_path, gzip.compress(docker20(PICTURE, "app:1")))


def test_a_layer_is_no_document(tmp_path: Path) -> None:
    tar = tarball(tmp_path, gzip.compress(tar_of({"manifest.json": b"layer"})))
    with pytest.raises(SourceError, match=r"is damaged: manifest\.json is no document"):
        tar.document("manifest.json")


def test_a_terminal_is_no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    monkeypatch.setattr(image_archive, "_stream", lambda *_: (os.fdopen(theirs, "rb", buffering=0), b""))
    with contextlib.closing(ArchiveSource()) as source, pytest.raises(SourceError) as caught:
        source.open("archive:-")
    os.close(ours)
    assert caught.value.message == "stdin is a terminal, and no archive"


def test_a_layer_that_is_there_no_more_is_told(tmp_path: Path) -> None:
    files = layout_files([named_entry(PICTURE, "app:1")], PICTURE.documents)
    found = ArchiveSource().open(f"archive:{written(tmp_path, tar_of(files))}")
    store: Any = SimpleNamespace(place="the archive", stream=lambda _: ())
    content = Stored(found._found, frozenset(PICTURE.diff_ids), store)  # type: ignore[attr-defined]
    with pytest.raises(SourceError, match=r"^the archive lacks layer sha256:[0-9a-f]{64} of archive:"):
        list(content.blobs())
