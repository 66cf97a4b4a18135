"""What every source that is no daemon keeps to: one suite, for each kind of layout, archive and registry."""

import contextlib
import hashlib
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from fake_registry import PASSWORD, USER, fake_registry
from layerferry.errors import SourceError
from layerferry.oci.content import Content, Route
from layerferry.oci.delta_archive import Archive, ArchivedImage
from layerferry.oci.image import Platform
from layerferry.oci.manifest import SeveralPlatformsError
from layerferry.oci.plan import Inventory, plan
from layerferry.registry_client import tries
from layerferry.sources import Source
from layerferry.sources.files.image_archive import ArchiveSource
from layerferry.sources.files.layout import LayoutSource
from layerferry.sources.registry import RemoteSource
from packed import (
    ARCHIVES,
    Picture,
    descriptor,
    digest_of,
    dumps,
    index_of,
    layout_files,
    named_entry,
    packed,
    tar_of,
    unpacked,
    write_folder,
)

NAME = "docker.io/library/app:1"
AMD64, ARM64, ARM = Platform("linux", "amd64"), Platform("linux", "arm64"), Platform("linux", "arm")
_INDEX = "application/vnd.oci.image.index.v1+json"


def _unchanged(data: bytes) -> bytes:
    return data


@dataclass
class Place:
    """Where images are put for one kind of source. `change` is done to all that is stored."""

    folder: Path
    kind: str
    stack: contextlib.ExitStack
    change: Callable[[bytes], bytes] = _unchanged

    def put(self, picture: Picture) -> tuple[Source, str]:
        """Store a picture as app:1; a source of it, and its reference."""
        if self.kind.startswith("archive"):
            _, tool, compression = (*self.kind.split(), "")[:3]
            path = self.folder / "image.tar"
            path.write_bytes(self.change(packed(ARCHIVES[tool](picture, "app:1"), compression)))
            return ArchiveSource(), f"archive:{path}"
        entry = named_entry(picture, NAME)
        return self._store(entry, picture.manifest_type, picture.manifest, picture.documents)

    def put_index(self, index: bytes, blobs: Mapping[str, bytes]) -> tuple[Source, str]:
        """Store an index as app:1."""
        entry = descriptor(_INDEX, index, annotations={"org.opencontainers.image.ref.name": "1"})
        if self.kind.startswith("archive"):
            path = self.folder / "image.tar"
            path.write_bytes(packed(tar_of(layout_files([entry], blobs)), self.kind.split()[-1]))
            return ArchiveSource(), f"archive:{path}"
        return self._store(entry, _INDEX, index, blobs)

    def _store(
        self, entry: Mapping[str, object], media_type: str, manifest: bytes, blobs: Mapping[str, bytes]
    ) -> tuple[Source, str]:
        kept = {digest: data if data.startswith(b"{") else self.change(data) for digest, data in blobs.items()}
        if self.kind == "layout":
            write_folder(self.folder / "layout", layout_files([entry], kept))
            return LayoutSource(), f"oci:{self.folder}/layout:1"
        auth = self.kind.partition(" ")[2]
        registry = self.stack.enter_context(fake_registry(auth=auth))
        login = {"auths": {registry.address: {"username": USER, "password": PASSWORD}}}
        if auth == "identity":
            login = {"auths": {registry.address: {"identitytoken": PASSWORD}}}
        (self.folder / "config.json").write_text(json.dumps(login))
        source = RemoteSource({"DOCKER_CONFIG": str(self.folder), "HOME": str(self.folder)})
        self.stack.callback(source.close)
        return source, registry.add("app:1", media_type, manifest, kept)


_ARCHIVE_KINDS = [f"archive {tool}{compression}" for tool in ARCHIVES for compression in ("", " gzip", " zstd")]
_REGISTRY_KINDS = ["registry none", "registry basic", "registry token", "registry identity"]
ALL = ["layout", *_ARCHIVE_KINDS, *_REGISTRY_KINDS]
#: Those that hold several platforms of an image.
INDEXED = ["layout", "archive oci-archive none", "archive oci-archive gzip", "registry none"]
#: Those that tell a blob's digest before it is read.
BY_DIGEST = ["layout", "archive docker25", "archive oci-archive", "archive oci-archive zstd", "registry token"]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(tries, "_pause", lambda *_: None)
    with contextlib.ExitStack() as stack:
        yield Place(tmp_path, request.param, stack)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


def kinds(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", names, indirect=True)


def picture_for(place: Place) -> Picture:
    """Three layers, stored as that tool stores them."""
    if any(tool in place.kind for tool in ("docker20", "podman", "nix")):
        return Picture.of("app", "", "", "")
    return Picture.of("app", "gzip", "", "zstd")


@contextlib.contextmanager
def opened(source: Source, reference: str, wanted: frozenset[str], spool: Path) -> Iterator[Content]:
    found = source.open(reference)
    planned = plan(found.image, Inventory())
    with found.fetch(planned, found.choose(planned), wanted, spool) as content:
        yield content


def read(content: Content) -> dict[str, bytes]:
    """By diff ID, the bytes of each blob, which are those that its descriptor says."""
    found, told = {}, {}
    for blob in content.blobs():
        data = b"".join(blob.chunks)
        assert (len(data), digest_of(data)) == (blob.descriptor.size, blob.descriptor.digest)
        assert blob.diff_id not in found
        found[blob.diff_id] = data
        told[blob.diff_id] = blob.descriptor
    assert told.items() <= dict(content.finish().descriptors).items()
    return found


@kinds(*ALL)
def test_describes_the_image(place: Place) -> None:
    picture = picture_for(place)
    source, reference = place.put(picture)
    image = source.open(reference).image
    assert (image.reference, image.id, image.platform) == (reference, picture.id, AMD64)
    assert image.diff_ids == picture.diff_ids
    assert [layer.size for layer in image.layers] == [len(layer) for layer in picture.layers]


@kinds(*ALL)
def test_knows_the_name_that_the_source_gives(place: Place) -> None:
    source, reference = place.put(picture_for(place))
    assert source.open(reference).names == (
        (reference.removeprefix("registry:"),) if "registry" in place.kind else (NAME,)
    )


@kinds(*ALL)
def test_gives_the_wanted_layers_as_they_are_stored(place: Place, spool: Path) -> None:
    picture = picture_for(place)
    source, reference = place.put(picture)
    wanted = frozenset((picture.diff_ids[0], picture.diff_ids[2]))
    with opened(source, reference, wanted, spool) as content:
        assert read(content) == {picture.diff_ids[number]: picture.layers[number] for number in (0, 2)}
        summary = content.finish()
        assert summary.received == len(picture.layers[0]) + len(picture.layers[2])
        assert (summary.config, summary.route) == (picture.config, None)
    assert list(spool.iterdir()) == []


@kinds(*ALL)
def test_gives_its_content_as_often_as_it_is_asked(place: Place, spool: Path) -> None:
    picture = picture_for(place)
    source, reference = place.put(picture)
    for _ in range(2):
        with opened(source, reference, frozenset(picture.diff_ids), spool) as content:
            assert len(read(content)) == 3


@kinds(*ALL)
def test_reads_no_layer_where_none_is_wanted(place: Place, spool: Path) -> None:
    source, reference = place.put(picture_for(place))
    with opened(source, reference, frozenset(), spool) as content:
        assert read(content) == {}
        assert content.finish().received == 0
        assert content.finish().config


@kinds(*BY_DIGEST)
def test_keeps_the_manifest(place: Place, spool: Path) -> None:
    picture = picture_for(place)
    source, reference = place.put(picture)
    with opened(source, reference, frozenset(picture.diff_ids), spool) as content:
        image = source.open(reference).image
        archive = Archive([ArchivedImage(plan(image, Inventory()), content, "localhost/layerferry:in")])
        for _ in archive.pieces():
            pass
    assert archive.manifests[0].data == picture.manifest


@kinds(*ALL)
def test_gives_a_layer_once_that_the_image_has_twice(place: Place, spool: Path) -> None:
    picture = picture_for(place)
    doubled = Picture(picture.tars + picture.tars[:1], picture.compressions + picture.compressions[:1])
    source, reference = place.put(doubled)
    with opened(source, reference, frozenset(doubled.diff_ids), spool) as content:
        assert len(read(content)) == 3


@kinds(*ALL)
def test_says_so_where_a_layer_is_damaged(place: Place, spool: Path) -> None:
    """One byte of the noise in the top layer is another: in a plain tar only its digest tells."""
    picture = picture_for(place)
    needle = picture.layers[2][1500:1540]

    def change(data: bytes) -> bytes:
        plain = unpacked(data) if "archive" in place.kind else data
        assert needle in plain or "archive" not in place.kind
        compression = place.kind.split()[-1] if "archive" in place.kind and plain is not data else ""
        return packed(plain.replace(needle, bytes(40)), compression)

    place.change = change
    source, reference = place.put(picture)
    with (
        pytest.raises(SourceError, match="damaged"),
        opened(source, reference, frozenset(picture.diff_ids), spool) as content,
    ):
        read(content)


@kinds(*ALL)
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_says_so_where_it_is_cut_short(place: Place, spool: Path, share: float) -> None:
    picture = picture_for(place)
    place.change = lambda data: data[: int(len(data.rstrip(b"\0")) * share)]
    source, reference = place.put(picture)
    with pytest.raises(SourceError) as caught, opened(source, reference, frozenset(picture.diff_ids), spool) as content:
        read(content)
    assert caught.value.message


@kinds("layout", "archive podman", "archive oci-archive zstd", "archive kaniko", "archive kaniko gzip", "registry none")
def test_holds_no_layer_in_memory(place: Place, spool: Path) -> None:
    noise = random.Random(1).randbytes(1 << 20)
    tar = tar_of({"large": noise * 48})
    picture = Picture((tar,), ("gzip" if "kaniko" in place.kind else "",))
    source, reference = place.put(picture)
    sha256 = hashlib.sha256()
    tracemalloc.start()
    try:
        with opened(source, reference, frozenset(picture.diff_ids), spool) as content:
            for blob in content.blobs():
                for chunk in blob.chunks:
                    sha256.update(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sha256.hexdigest() == hashlib.sha256(picture.layers[0]).hexdigest()
    allowed = 12 << 20
    if place.kind.startswith("registry"):
        allowed += len(tar)  # the fake registry is in this process, and may send a copy
    assert peak < allowed


@kinds(*INDEXED)
def test_picks_the_platform(place: Place, spool: Path) -> None:
    amd64 = Picture.of("amd", "gzip")
    arm64 = Picture.of("arm", "gzip", architecture="arm64", variant="v8")
    source, reference = place.put_index(*index_of([amd64, arm64]))
    found = source.open(reference, ARM64)
    assert (found.image.id, found.image.diff_ids) == (arm64.id, arm64.diff_ids)
    planned = plan(found.image, Inventory())
    with found.fetch(planned, Route("direct", ""), frozenset(found.image.diff_ids), spool) as content:
        assert read(content) == {arm64.diff_ids[0]: arm64.layers[0]}
        assert content.finish().manifest == (arm64.manifest_type, arm64.manifest)
    assert source.open(reference, AMD64).image.id == amd64.id


@kinds(*INDEXED)
def test_asks_for_a_platform_where_there_are_several(place: Place) -> None:
    pictures = [Picture.of("amd", "gzip"), Picture.of("arm", "gzip", architecture="arm64")]
    source, reference = place.put_index(*index_of(pictures))
    with pytest.raises(SeveralPlatformsError) as caught:
        source.open(reference)
    assert caught.value.choices == (AMD64, ARM64)
    assert "linux/amd64, linux/arm64" in caught.value.message
    assert "--platform" in caught.value.hint


@kinds(*INDEXED)
def test_takes_the_only_platform_beside_its_attestation(place: Place) -> None:
    picture = Picture.of("arm", "gzip", architecture="arm64")
    source, reference = place.put_index(*index_of([picture]))
    assert source.open(reference).image.id == picture.id


@kinds(*INDEXED)
def test_reads_the_config_where_the_index_tells_no_platform(place: Place) -> None:
    arm64 = Picture.of("arm", "gzip", architecture="arm64")
    source, reference = place.put_index(*index_of([Picture.of("amd", ""), arm64], platforms=False))
    assert source.open(reference, ARM64).image.id == arm64.id


@kinds(*ALL)
def test_tells_the_choices_where_there_is_no_such_platform(place: Place) -> None:
    source, reference = place.put(picture_for(place))
    with pytest.raises(SourceError, match="is not there for linux/arm") as caught:
        source.open(reference, ARM)
    assert "linux/amd64" in caught.value.hint


@kinds("layout", "archive oci-archive none", "archive oci-archive gzip")
def test_passes_over_platforms_that_are_not_there(place: Place) -> None:
    """A containerd store saves an image with the whole index, and the blobs of the platform that it has."""
    arm64 = Picture.of("arm", "gzip", architecture="arm64")
    index, blobs = index_of([Picture.of("amd", ""), arm64])
    source, reference = place.put_index(index, {digest_of(index): index} | arm64.documents)
    assert source.open(reference).image.id == arm64.id
    assert blobs


@kinds("layout", "registry none")
def test_reads_dockers_media_types(place: Place, spool: Path) -> None:
    picture = Picture.of("app", "gzip", "", docker=True)
    source, reference = place.put(picture)
    with opened(source, reference, frozenset(picture.diff_ids), spool) as content:
        read(content)
        types = [content.finish().descriptors[diff_id].media_type for diff_id in picture.diff_ids]
    assert types == ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar"]


@kinds("layout", "registry none")
def test_refuses_what_is_no_image(place: Place) -> None:
    """A helm chart, say: a manifest with a config of its own kind."""
    config, chart = dumps({"name": "chart"}), b"a tar"
    kind = "application/vnd.cncf.helm.config.v1+json"
    manifest = dumps({"schemaVersion": 2, "config": descriptor(kind, config), "layers": [descriptor("x/y", chart)]})
    blobs = {digest_of(data): data for data in (manifest, config, chart)}
    entry = descriptor(Picture.of().manifest_type, manifest)
    source, reference = place._store(entry, Picture.of().manifest_type, manifest, blobs)
    with pytest.raises(SourceError, match=r"no container image, but application/vnd\.cncf\.helm"):
        source.open(reference.removesuffix(":1") if place.kind == "layout" else reference)
