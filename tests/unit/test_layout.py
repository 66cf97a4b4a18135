"""OCI layouts on disk: which image is meant, and that nothing outside is read."""

import json
import os
from pathlib import Path

import pytest

from layerferry.errors import SourceError
from layerferry.oci import limits
from layerferry.oci.image import Descriptor, Platform
from layerferry.oci.manifest import CONFIG_TYPES
from layerferry.sources.files.layout import Layout, LayoutSource, split_path
from packed import Picture, attestation, descriptor, digest_of, dumps, layout_files, named_entry, write_folder

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
    assert LayoutSource().open(f"{two_images(tmp_path)}:{selector}").image.id == ONE.id


def test_an_image_goes_by_its_digest(tmp_path: Path) -> None:
    digest = descriptor("", TWO.manifest)["digest"]
    assert LayoutSource().open(f"{two_images(tmp_path)}@{digest}").image.id == TWO.id


def test_several_images_need_a_tag(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has several images") as caught:
        LayoutSource().open(two_images(tmp_path))
    assert "docker.io/library/app:1, docker.io/library/web:2" in caught.value.hint


def test_a_tag_that_two_images_have_is_not_enough(tmp_path: Path) -> None:
    reference = two_images(tmp_path, second="docker.io/library/web:1")
    with pytest.raises(SourceError, match="has several images"):
        LayoutSource().open(f"{reference}:1")
    assert LayoutSource().open(f"{reference}:web:1").image.id == TWO.id


def test_an_unknown_tag_tells_the_others(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no '3'") as caught:
        LayoutSource().open(f"{two_images(tmp_path)}:3")
    assert "web:2" in caught.value.hint


def test_two_names_of_one_image_are_no_choice(tmp_path: Path) -> None:
    entries = [named_entry(ONE, "docker.io/library/app:1"), named_entry(ONE, "docker.io/library/app:latest")]
    write_folder(tmp_path, layout_files(entries, ONE.documents))
    opened = LayoutSource().open(f"oci:{tmp_path}")
    assert opened.image.id == ONE.id
    assert opened.names == ("docker.io/library/app:1", "docker.io/library/app:latest")
    assert LayoutSource().open(f"oci:{tmp_path}:latest").names == ("docker.io/library/app:latest",)


@pytest.mark.parametrize("name", ["", "docker.io/library/app:1"])
def test_an_old_image_that_a_tool_has_left_does_not_go_silently(tmp_path: Path, name: str) -> None:
    """BuildKit appends to a layout, and takes away only what has the same name (moby/buildkit, client/ociindex)."""
    entries = [
        named_entry(each, name) if name else descriptor(each.manifest_type, each.manifest) for each in (ONE, TWO)
    ]
    write_folder(tmp_path, layout_files(entries, {**ONE.documents, **TWO.documents}))
    for platform in (None, Platform.parse("linux/amd64")):
        with pytest.raises(SourceError, match="has several images for linux/amd64") as caught:
            LayoutSource().open(f"oci:{tmp_path}", platform)
    assert caught.value.hint.endswith(f"{entries[0]['digest']}, {entries[1]['digest']}.")
    assert LayoutSource().open(f"oci:{tmp_path}@{entries[1]['digest']}").image.id == TWO.id


def test_two_manifests_of_one_image_are_no_choice(tmp_path: Path) -> None:
    """podman's `--add-compression zstd`: the same layers, packed in two ways."""
    other = Picture(ONE.tars, ("zstd",))
    entries = [descriptor(each.manifest_type, each.manifest) for each in (ONE, other)]
    write_folder(tmp_path, layout_files(entries, {**ONE.documents, **other.documents}))
    assert LayoutSource().open(f"oci:{tmp_path}").image.id == ONE.id


def test_nor_is_what_lies_beside_an_image(tmp_path: Path) -> None:
    """cosign's signatures and SBOMs by their tag, an attestation of BuildKit's."""
    entry, blobs = attestation()
    config = b"{}"
    signature = dumps(
        {
            "schemaVersion": 2,
            "config": descriptor("application/vnd.oci.empty.v1+json", config),
            "layers": [descriptor("application/vnd.dev.cosign.simplesigning.v1+json", config)],
        }
    )
    beside = descriptor(ONE.manifest_type, signature, artifactType="application/vnd.dev.cosign.artifact.sig.v1+json")
    entries = [entry, beside, descriptor(ONE.manifest_type, ONE.manifest)]
    more = {digest_of(config): config, digest_of(signature): signature}
    write_folder(tmp_path, layout_files(entries, {**ONE.documents, **blobs, **more}))
    assert LayoutSource().open(f"oci:{tmp_path}").image.id == ONE.id


def test_podmans_name_is_a_whole_one(tmp_path: Path) -> None:
    entry = descriptor(ONE.manifest_type, ONE.manifest, annotations={"org.opencontainers.image.ref.name": "app:1"})
    write_folder(tmp_path, layout_files([entry], ONE.documents))
    source = LayoutSource()
    assert source.open(f"oci:{tmp_path}:1").names == ("docker.io/library/app:1",)


def test_a_bare_tag_is_no_name(tmp_path: Path) -> None:
    entry = descriptor(ONE.manifest_type, ONE.manifest, annotations={"org.opencontainers.image.ref.name": "1"})
    write_folder(tmp_path, layout_files([entry], ONE.documents))
    source = LayoutSource()
    assert source.open(f"oci:{tmp_path}:1").names == ()


@pytest.mark.parametrize("reference", ["oci:{}/nowhere", "oci:{}/nowhere:1"])
def test_there_is_no_layout(tmp_path: Path, reference: str) -> None:
    with pytest.raises(SourceError, match=r"there is no OCI layout|is no OCI layout"):
        LayoutSource().open(reference.format(tmp_path))


@pytest.mark.parametrize(
    "index",
    [b"", b"[]", b"{", b"[" * 100_000, b'{"manifests": 5}', b'{"manifests": [{}]}', b'{"manifests": [{"digest": 1}]}'],
)
def test_an_index_that_is_none(tmp_path: Path, index: bytes) -> None:
    (tmp_path / "index.json").write_bytes(index)
    with pytest.raises(SourceError, match=r"damaged|no image"):
        LayoutSource().open(f"oci:{tmp_path}")


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
        LayoutSource().open(f"oci:{tmp_path}")


@pytest.mark.parametrize("what", ["index.json", "blob", "folder"])
def test_a_link_that_leads_out_is_refused(tmp_path: Path, what: str) -> None:
    inside, outside = tmp_path / "layout", tmp_path / "outside"
    write_folder(inside, layout_files([named_entry(ONE, "app:1")], ONE.documents))
    name = {"index.json": "index.json", "folder": "blobs"}.get(what, f"blobs/sha256/{ONE.id.removeprefix('sha256:')}")
    (inside / name).rename(outside)
    (inside / name).symlink_to(outside)
    with pytest.raises(SourceError, match="is refused"):
        LayoutSource().open(f"oci:{inside}")


def test_a_link_within_is_followed(tmp_path: Path) -> None:
    write_folder(tmp_path, layout_files([named_entry(ONE, "app:1")], ONE.documents))
    (tmp_path / "blobs").rename(tmp_path / "kept")
    (tmp_path / "blobs").symlink_to("kept")
    assert LayoutSource().open(f"oci:{tmp_path}").image.id == ONE.id


def test_a_pipe_is_no_blob(tmp_path: Path) -> None:
    write_folder(tmp_path, layout_files([named_entry(ONE, "app:1")], ONE.documents))
    blob = tmp_path / f"blobs/sha256/{ONE.id.removeprefix('sha256:')}"
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(SourceError, match="is refused"):
        LayoutSource().open(f"oci:{tmp_path}")


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
        LayoutSource().open(f"oci:{tmp_path}")


def test_a_config_that_names_other_layers_is_damaged(tmp_path: Path) -> None:
    manifest = dumps({"config": descriptor("", ONE.config), "layers": []})
    entry = descriptor(ONE.manifest_type, manifest)
    write_folder(tmp_path, layout_files([entry], ONE.documents | {entry["digest"]: manifest}))
    with pytest.raises(SourceError, match="names 1 layers, it has 0"):
        LayoutSource().open(f"oci:{tmp_path}")


def test_one_blob_is_no_two_layers(tmp_path: Path) -> None:
    """Of a layer that is in an image twice it may well be."""
    (layer,) = json.loads(ONE.manifest)["layers"]
    for second, says in ((ONE.tars[0], ""), (TWO.tars[0], "it has one blob for two layers, ")):
        twice = Picture.plain(ONE.tars[0], second)
        layers = {"config": descriptor("", twice.config), "layers": [layer] * 2}
        manifest = dumps(json.loads(ONE.manifest) | layers)
        entry = descriptor(ONE.manifest_type, manifest)
        documents = {digest_of(data): data for data in (*ONE.layers, twice.config, manifest)}
        write_folder(tmp_path, layout_files([entry], documents))
        if not says:
            assert LayoutSource().open(f"oci:{tmp_path}").image.diff_ids == twice.diff_ids
            continue
        with pytest.raises(SourceError, match=f"is damaged: {says}{ONE.diff_ids[0]} and {TWO.diff_ids[0]}$"):
            LayoutSource().open(f"oci:{tmp_path}")


# What is no layout, or none that honest tools write: a sentence each.

#: Is refused wherever it stands; any other document may well have it where nothing is read.
NO_JSON = [b"9" * 5_000, b"[" * 10_000 + b"]" * 10_000]
ODD: list[bytes] = [b"5", b"[]", b'"x"', b"true", b"1e400", b"[5]", b'["x"]', b"-1", *NO_JSON]
_WORDS = ("os", "architecture")
_DESCRIPTOR = ("size", "digest", "mediaType")
_REF_NAME = "org.opencontainers.image.ref.name"
#: What is read of each document; of the rest nothing is.
READ: dict[str, tuple[str, ...]] = {
    "index": ("manifests", "annotations", "platform", "artifactType", "variant", _REF_NAME, *_WORDS, *_DESCRIPTOR),
    "manifest": ("layers", "config", *_DESCRIPTOR),
    "config": ("rootfs", "diff_ids", *_WORDS),
}
MEMBERS = sorted({key for keys in READ.values() for key in keys})
#: Where a string is no wrong shape.
TEXTS = ("variant", _REF_NAME, *_WORDS)


def bent(data: bytes, key: str, value: bytes) -> bytes:
    """A document with another value for each member of that name, however deep."""

    def bend(part: object) -> object:
        if isinstance(part, dict):
            return {name: "BENT" if name == key else bend(child) for name, child in part.items()}
        return list(map(bend, part)) if isinstance(part, list) else part

    return json.dumps(bend(json.loads(data))).encode().replace(b'"BENT"', value)


def a_layout(folder: Path, key: str, value: bytes, where: str) -> str:
    """A layout with one document bent, and every digest right for what it is of."""
    config = bent(ONE.config, key, value) if where == "config" else ONE.config
    manifest = json.loads(ONE.manifest)
    manifest |= {"config": descriptor(manifest["config"]["mediaType"], config), "annotations": {"a": "b"}}
    changed = dumps(manifest)
    changed = bent(changed, key, value) if where == "manifest" else changed
    platform = {"os": "linux", "architecture": "amd64", "variant": "v1"}
    entry = descriptor(
        ONE.manifest_type,
        changed,
        annotations={"org.opencontainers.image.ref.name": "1"},
        platform=platform,
        artifactType="application/vnd.oci.image.config.v1+json",
    )
    files = layout_files([entry], {digest_of(data): data for data in (config, changed, *ONE.layers)})
    if where == "index":
        files["index.json"] = bent(files["index.json"], key, value)
    write_folder(folder, files)
    return f"oci:{folder}"


@pytest.mark.parametrize("where", ["index", "manifest", "config"])
@pytest.mark.parametrize("key", MEMBERS)
@pytest.mark.parametrize("value", ODD, ids=lambda value: value[:8].decode())
def test_a_member_of_a_wrong_shape_is_a_sentence(tmp_path: Path, where: str, key: str, value: bytes) -> None:
    reference = a_layout(tmp_path, key, value, where)
    absent = (where, key) not in {("manifest", "annotations"), ("config", "config")}
    unread = key not in READ[where] and (absent or value not in NO_JSON)
    if unread or (key in TEXTS and value == b'"x"'):
        assert LayoutSource().open(reference).image.diff_ids == ONE.diff_ids
        return
    with pytest.raises(SourceError) as caught:
        LayoutSource().open(reference)
    assert len(caught.value.message) < 2_000
    assert "\n" not in caught.value.message


def entries_of(index: bytes, **others: object) -> dict[str, object]:
    return {**descriptor("application/vnd.oci.image.index.v1+json", index), **others}


def test_indexes_of_indexes_are_bounded_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 wide and 3 deep, each index another one, they would lead to 64 million entries."""
    blobs: dict[str, bytes] = {}

    def index(depth: int, number: int) -> bytes:
        child = index(depth - 1, number) if depth else ONE.manifest
        kind = "application/vnd.oci.image.index.v1+json" if depth else ONE.manifest_type
        blobs[digest_of(child)] = child
        parts = [descriptor(kind, child, annotations={"n": f"{number}.{part}"}) for part in range(400)]
        return dumps({"schemaVersion": 2, "manifests": parts})

    roots = [index(2, number) for number in range(12)]
    blobs |= {digest_of(root): root for root in roots} | ONE.documents
    write_folder(tmp_path, layout_files([entries_of(root) for root in roots], blobs))
    reads: list[str] = []

    original = Layout.document

    def document(layout: Layout, blob: Descriptor) -> bytes:
        reads.append(blob.digest)
        return original(layout, blob)

    monkeypatch.setattr(Layout, "document", document)
    with pytest.raises(SourceError, match="its indexes have more than 4000 entries"):
        LayoutSource().open(f"oci:{tmp_path}")
    assert len(reads) == len(set(reads)) < 40


def test_an_index_that_is_named_often_is_read_once(tmp_path: Path) -> None:
    inner = dumps({"manifests": [descriptor(ONE.manifest_type, ONE.manifest)] * 300})
    outer = dumps({"manifests": [entries_of(inner)] * 300})
    blobs = {digest_of(data): data for data in (inner, outer)} | ONE.documents
    write_folder(tmp_path, layout_files([entries_of(outer)] * 300, blobs))
    assert LayoutSource().open(f"oci:{tmp_path}").image.id == ONE.id


def test_documents_are_bounded_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DOCUMENTS", 2_000)
    pictures = [Picture.of(f"app{number}", "gzip", architecture=f"a{number}") for number in range(5)]
    entries = [descriptor(picture.manifest_type, picture.manifest) for picture in pictures]
    blobs = {digest: data for picture in pictures for digest, data in picture.documents.items()}
    write_folder(tmp_path, layout_files(entries, blobs))
    with pytest.raises(SourceError, match="its documents have more than 2000 bytes"):
        LayoutSource().open(f"oci:{tmp_path}")


def test_platforms_are_bounded(tmp_path: Path) -> None:
    entries = [
        descriptor(ONE.manifest_type, ONE.manifest + b" " * n, platform={"os": "linux", "architecture": f"a{n}"})
        for n in range(limits.PLATFORMS + 1)
    ]
    blobs = {digest_of(ONE.manifest + b" " * n): ONE.manifest + b" " * n for n in range(limits.PLATFORMS + 1)}
    write_folder(tmp_path, layout_files(entries, blobs | ONE.documents))
    with pytest.raises(SourceError, match="is there for 201 platforms"):
        LayoutSource().open(f"oci:{tmp_path}")


def test_many_choices_are_a_short_sentence(tmp_path: Path) -> None:
    entries = [
        descriptor(ONE.manifest_type, ONE.manifest + b" " * n, platform={"os": "o" * 64, "architecture": f"a{n}"})
        for n in range(100)
    ]
    blobs = {digest_of(ONE.manifest + b" " * n): ONE.manifest + b" " * n for n in range(100)}
    write_folder(tmp_path, layout_files(entries, blobs | ONE.documents))
    with pytest.raises(SourceError, match=r" and 88 more$") as caught:
        LayoutSource().open(f"oci:{tmp_path}")
    assert len(caught.value.message) < 2_000


@pytest.mark.parametrize("artifact", sorted(CONFIG_TYPES))
def test_an_artifact_type_that_is_an_images_config_is_an_image(tmp_path: Path, artifact: str) -> None:
    """crane, ko and kaniko copy it from the config's media type."""
    write_folder(tmp_path, layout_files([named_entry(ONE, "app:1") | {"artifactType": artifact}], ONE.documents))
    assert LayoutSource().open(f"oci:{tmp_path}").image.id == ONE.id


def test_an_artifact_of_another_type_is_none(tmp_path: Path) -> None:
    entry = named_entry(ONE, "app:1") | {"artifactType": "application/vnd.cyclonedx+json"}
    write_folder(tmp_path, layout_files([entry], ONE.documents))
    with pytest.raises(SourceError, match="has no image"):
        LayoutSource().open(f"oci:{tmp_path}")


@pytest.mark.parametrize("media_type", ["", "application/json", "application/octet-stream", "text/plain"])
def test_without_a_media_type_the_content_decides(tmp_path: Path, media_type: str) -> None:
    manifest = json.loads(ONE.manifest)
    manifest.pop("mediaType", None)
    data = dumps(manifest)
    index = dumps({"manifests": [{**descriptor("", data), "mediaType": media_type}]})
    entry = {**descriptor("", index), "mediaType": media_type}
    blobs = ONE.documents | {digest_of(data): data, digest_of(index): index}
    write_folder(tmp_path, layout_files([entry], blobs))
    source = LayoutSource()
    assert source.open(f"oci:{tmp_path}").image.id == ONE.id


@pytest.mark.parametrize(
    ("extra", "kind", "message"),
    [
        ({"manifests": []}, "manifest", "is damaged: it is an index as well"),
        ({"manifests": [], "layers": []}, "index", "is damaged: it is a manifest as well"),
        ({"manifests": [], "config": {}}, "index", "is damaged: it is a manifest as well"),
    ],
)
def test_what_two_readers_would_read_in_two_ways_is_refused(
    tmp_path: Path, extra: dict[str, object], kind: str, message: str
) -> None:
    data = dumps(json.loads(ONE.manifest) | extra if kind == "manifest" else extra)
    entry = descriptor(ONE.manifest_type, data) if kind == "manifest" else entries_of(data)
    write_folder(tmp_path, layout_files([entry], ONE.documents | {digest_of(data): data}))
    with pytest.raises(SourceError, match=message):
        LayoutSource().open(f"oci:{tmp_path}")


def test_what_is_wrong_with_a_document_is_told(tmp_path: Path) -> None:
    entry = named_entry(ONE, "app:1")
    size = len(ONE.manifest)
    write_folder(tmp_path, layout_files([entry | {"size": size + 3}], ONE.documents))
    with pytest.raises(SourceError, match=f"{entry['digest']} has {size} bytes, and is said to have {size + 3}$"):
        LayoutSource().open(f"oci:{tmp_path}")
    (tmp_path / "blobs/sha256" / str(entry["digest"]).removeprefix("sha256:")).write_bytes(b"{}")
    with pytest.raises(SourceError, match=f"what should be {entry['digest']} is {digest_of(b'{}')}$"):
        LayoutSource().open(f"oci:{tmp_path}")


@pytest.mark.parametrize("system", [{"os": ""}, {"architecture": ""}])
def test_a_config_that_does_not_say_for_which_system_it_is_is_damaged(tmp_path: Path, system: dict[str, str]) -> None:
    picture = Picture((b"",), ("",), **system)  # type: ignore[arg-type]
    write_folder(tmp_path, layout_files([named_entry(picture, "app:1")], picture.documents))
    with pytest.raises(SourceError, match="does not say for which system and architecture it is"):
        LayoutSource().open(f"oci:{tmp_path}")


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\0b", "loop"])
def test_a_path_that_leads_nowhere_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SourceError, match=r"there is no OCI layout|cannot be read"):
        LayoutSource().open(f"oci:{tmp_path}/{name}")


@pytest.mark.parametrize("what", ["index.json", "blobs/sha256"])
def test_a_link_that_leads_to_itself_is_a_sentence(tmp_path: Path, what: str) -> None:
    write_folder(tmp_path, layout_files([named_entry(ONE, "app:1")], ONE.documents))
    (tmp_path / what).rename(tmp_path / "other")
    (tmp_path / what).symlink_to(tmp_path / what)
    with pytest.raises(SourceError):
        LayoutSource().open(f"oci:{tmp_path}")


def test_an_image_without_layers_may_say_so_in_two_ways(tmp_path: Path) -> None:
    for layers in ("[]", "null"):
        picture = Picture((), ())
        manifest = dumps(json.loads(picture.manifest) | {"layers": json.loads(layers)})
        blobs = picture.documents | {digest_of(manifest): manifest}
        write_folder(tmp_path, layout_files([descriptor(picture.manifest_type, manifest)], blobs))
        image = LayoutSource().open(f"oci:{tmp_path}").image
        assert image.layers == ()


def refused(folder: Path) -> str:
    with pytest.raises(SourceError) as caught:
        LayoutSource().open(f"oci:{folder}")
    return caught.value.message


def test_a_blob_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, layout_files([named_entry(ONE, "app:1")], ONE.documents))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as changed:
        changed.setattr(Path, "open", refuse)
        said = refused(tmp_path)
    assert said == f"the OCI layout {tmp_path} cannot be read: index.json: Permission denied"


def test_an_index_is_bounded(tmp_path: Path) -> None:
    write_folder(tmp_path, layout_files([named_entry(ONE, "app:1")], ONE.documents))
    (tmp_path / "index.json").write_bytes(b" " * (limits.DOCUMENT + 1))
    assert refused(tmp_path) == f"the OCI layout {tmp_path} is damaged: index.json is too large for its kind"


def test_a_document_that_is_said_to_be_large_is_not_read(tmp_path: Path) -> None:
    entry = descriptor(ONE.manifest_type, ONE.manifest) | {"size": limits.DOCUMENT + 1}
    write_folder(tmp_path, layout_files([entry], ONE.documents))
    assert refused(tmp_path).endswith(f"has {limits.DOCUMENT + 1} bytes, more than a document may have")


def test_an_image_has_a_bounded_number_of_layers(tmp_path: Path) -> None:
    layer = descriptor("application/vnd.oci.image.layer.v1.tar", b"")
    manifest = dumps(json.loads(ONE.manifest) | {"layers": [layer] * (limits.LAYERS + 1)})
    entry = descriptor(ONE.manifest_type, manifest)
    write_folder(tmp_path, layout_files([entry], ONE.documents | {entry["digest"]: manifest}))
    assert refused(tmp_path).endswith(f"is damaged: it has more than {limits.LAYERS} layers")


def test_a_config_of_something_else_is_no_image(tmp_path: Path) -> None:
    config = b"{}"
    manifest = dumps(json.loads(ONE.manifest) | {"config": descriptor("", config)})
    entry = descriptor(ONE.manifest_type, manifest)
    write_folder(tmp_path, layout_files([entry], {digest_of(config): config, entry["digest"]: manifest}))
    assert refused(tmp_path).endswith("is no container image")


@pytest.mark.parametrize(
    ("media_type", "says"), [("", ": it does not say its media type"), ("text/plain", ", but text/plain")]
)
def test_a_blob_that_is_neither_index_nor_manifest_is_no_image(tmp_path: Path, media_type: str, says: str) -> None:
    entry = descriptor(media_type, b"{}")
    write_folder(tmp_path, layout_files([entry], {entry["digest"]: b"{}"}))
    assert refused(tmp_path).endswith(f"is no image{says}")


def test_a_blob_that_is_a_link_to_itself_cannot_be_read(tmp_path: Path) -> None:
    write_folder(tmp_path, layout_files([named_entry(ONE, "app:1")], ONE.documents))
    blob = tmp_path / "blobs/sha256" / digest_of(ONE.manifest)[7:]
    blob.unlink()
    blob.symlink_to(blob)
    with pytest.raises(SourceError, match=r"cannot be read: blobs/sha256/[0-9a-f]{64}: Too many levels of symbolic"):
        Layout(tmp_path).document(Descriptor("a/b", digest_of(ONE.manifest), 1))
