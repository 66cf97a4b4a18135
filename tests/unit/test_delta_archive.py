import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from layerferry.errors import SourceError
from layerferry.oci.content import Blob, Summary
from layerferry.oci.delta_archive import Archive, ArchivedImage
from layerferry.oci.image import MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP, Descriptor, Image, Layer, Platform, digest_of
from layerferry.oci.plan import Inventory, plan

LAYERS = [bytes([number]) * (500 + number) for number in range(3)]
IDS = [digest_of(data) for data in LAYERS]
INCOMING = "localhost/layerferry:0123"


@dataclass
class Fixed:
    """Content that is known beforehand."""

    wanted: frozenset[str]
    config: bytes = b'{"rootfs":{}}'
    manifest: tuple[str, bytes] | None = None
    received: int = 0
    descriptors: Mapping[str, Descriptor] = field(
        default_factory=lambda: {
            diff_id: Descriptor(MEDIA_TYPE_LAYER, diff_id, len(data)) for diff_id, data in zip(IDS, LAYERS, strict=True)
        }
    )

    def finish(self) -> Summary:
        return Summary(self.config, self.descriptors, self.manifest, self.received)

    def blobs(self) -> Iterator[Blob]:
        for diff_id, data in zip(IDS, LAYERS, strict=True):
            if diff_id in self.wanted:
                yield Blob(diff_id, self.descriptors[diff_id], [data[:100], data[100:]])


def archived(inventory: Inventory, **content: Any) -> ArchivedImage:
    image = Image("app:1", IDS[0], Platform("linux", "amd64"), Layer.chain(IDS, map(len, LAYERS)))
    planned = plan(image, inventory)
    return ArchivedImage(planned, Fixed(planned.wanted, **content), INCOMING)


def unpack(archive: Archive) -> dict[str, bytes]:
    stream = b"".join(piece.data for piece in archive.pieces())
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def first_two(image: Image) -> Inventory:
    return Inventory(chain_ids=frozenset(layer.chain_id for layer in image.layers[:2]))


def test_it_is_an_oci_layout_and_a_docker_archive_at_once() -> None:
    files = unpack(Archive([archived(Inventory())]))
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    [entry] = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"] == {
        "io.containerd.image.name": INCOMING,
        "org.opencontainers.image.ref.name": "0123",
    }
    [docker] = json.loads(files["manifest.json"])
    assert docker["RepoTags"] == [INCOMING]
    assert [files[path] for path in docker["Layers"]] == LAYERS
    assert files[docker["Config"]] == b'{"rootfs":{}}'


def test_every_blob_lies_under_its_digest() -> None:
    files = unpack(Archive([archived(Inventory())]))
    blobs = {name: data for name, data in files.items() if name.startswith("blobs/")}
    assert len(blobs) == 5
    assert all(name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}" for name, data in blobs.items())


def test_reused_layers_are_named_but_not_there() -> None:
    image = archived(Inventory()).plan.image
    files = unpack(Archive([archived(first_two(image))]))
    assert f"blobs/sha256/{IDS[0][7:]}" not in files
    assert f"blobs/sha256/{IDS[2][7:]}" in files
    [docker] = json.loads(files["manifest.json"])
    assert docker["Layers"] == [f"blobs/sha256/{diff_id[7:]}" for diff_id in IDS]


def test_a_blob_store_is_told_its_own_blobs() -> None:
    own = Descriptor(MEDIA_TYPE_LAYER_GZIP, digest_of(b"gzip"), 4)
    archive = Archive([archived(Inventory(blobs={IDS[1]: own}))])
    files = unpack(archive)
    manifest = json.loads(files[f"blobs/sha256/{archive.manifests[0].ids[1][7:]}"])
    assert manifest["layers"][1] == own.to_json()
    assert [layer["digest"] for layer in manifest["layers"]] == [IDS[0], own.digest, IDS[2]]


def test_the_sources_own_manifest_is_kept_where_it_names_the_same_blobs() -> None:
    layers = [{"digest": diff_id, "size": len(data)} for diff_id, data in zip(IDS, LAYERS, strict=True)]
    own = "application/vnd.docker.distribution.manifest.v2+json", json.dumps({"layers": layers}).encode()
    archive = Archive([archived(Inventory(), manifest=own)])
    files = unpack(archive)
    assert archive.manifests[0].data == own[1]
    assert json.loads(files["index.json"])["manifests"][0]["mediaType"] == own[0]


def test_another_manifest_is_not_kept() -> None:
    layers = [{"digest": diff_id, "size": 0} for diff_id in IDS]
    archive = Archive([archived(Inventory(), manifest=("x", json.dumps({"layers": layers}).encode()))])
    unpack(archive)
    assert archive.manifests[0].media_type == "application/vnd.oci.image.manifest.v1+json"


def test_two_images_share_what_the_first_one_sends() -> None:
    first = archived(Inventory())
    second = ArchivedImage(first.plan, Fixed(frozenset(), config=b'{"other":1}'), "localhost/layerferry:4567")
    archive = Archive([first, second])
    files = unpack(archive)
    assert [entry["RepoTags"] for entry in json.loads(files["manifest.json"])] == [[INCOMING], [second.incoming]]
    assert archive.manifests[0].layers == archive.manifests[1].layers


def test_the_same_content_makes_the_same_bytes() -> None:
    one, two = (b"".join(piece.data for piece in Archive([archived(Inventory())]).pieces()) for _ in range(2))
    assert one == two


def test_a_layer_that_does_not_come_is_the_sources_failure() -> None:
    image = ArchivedImage(archived(Inventory()).plan, Fixed(frozenset(IDS[:2])), INCOMING)
    with pytest.raises(SourceError, match=f"^the source of app:1 has not given its layer {IDS[2]}$"):
        unpack(Archive([image]))


def test_a_blob_of_another_size_than_announced_is_an_error() -> None:
    class Short(Fixed):
        def blobs(self) -> Iterator[Blob]:
            yield Blob(IDS[0], self.descriptors[IDS[0]], [b"short"])

    broken = archived(Inventory())
    with pytest.raises(ValueError, match="has 5 bytes, not 500"):
        unpack(Archive([ArchivedImage(broken.plan, Short(broken.plan.wanted), INCOMING)]))
