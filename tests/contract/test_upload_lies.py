"""Images in a repository that say what is not so: what is pushed is right all the same, and says how that is known."""

import bz2
import json
import lzma
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from contract.test_upload import BASE, CHANGE, actions, layers, layout, push, puts
from fake_registry import FakeRegistry, fake_registry
from layerferry.errors import SourceError
from layerferry.events import Event, Warned
from layerferry.oci import limits
from layerferry.oci.image import Descriptor, digest_of
from layerferry.push.blob_cache import Memory, Seen
from layerferry.push.request import Options
from layerferry.result import Result
from packed import Compression as How
from packed import Picture, descriptor, dumps, layer_tar, layout_files, named_entry, packed, unpacked, write_folder

EVIL = layer_tar("evil", 2_000)
_CONFIG, _MANIFEST = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.manifest.v1+json"
_GZIP, _ZSTD = (f"application/vnd.oci.image.layer.v1.tar+{how}" for how in ("gzip", "zstd"))
WANTED: tuple[tuple[bytes, How], ...] = ((BASE, "gzip"), (CHANGE, "gzip"))


pytestmark = pytest.mark.usefixtures("hurry")


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as running:
        yield running


def plant(
    registry: FakeRegistry, blobs: Sequence[bytes], *, tag: str = "0", config: bytes = b"", said: Sequence[bytes] = (),
    **lies: Any,
) -> str:  # fmt: skip
    """An image whose config has the diff IDs of `said`, and whose layers are `blobs`; `lies` change each descriptor."""
    config = config or Picture(tuple(said), tuple("" for _ in said)).config
    kinds = [_ZSTD if blob.startswith(b"\x28\xb5") else _GZIP for blob in blobs]
    parts = [{**descriptor(kind, blob), **lies} for kind, blob in zip(kinds, blobs, strict=True)]
    manifest = dumps(
        {"schemaVersion": 2, "mediaType": _MANIFEST, "config": descriptor(_CONFIG, config), "layers": parts}
    )
    repository = registry.repositories.setdefault("app", {})
    repository |= {digest_of(blob): blob for blob in (config, *blobs)}
    registry.tags[f"app:{tag}"] = _MANIFEST, manifest
    return digest_of(manifest)


def pulled(registry: FakeRegistry, name: str = "app:1") -> list[str]:
    """The diff IDs of what whoever pulls the image gets; sizes and media types are those of the blobs."""
    found: list[str] = []
    for layer in layers(registry, name):
        blob = registry.repositories["app"][layer["digest"]]
        assert layer["size"] == len(blob)
        assert layer["mediaType"] == {b"\x1f\x8b": _GZIP, b"\x28\xb5": _ZSTD}[blob[:2]]
        found.append(digest_of(unpacked(blob)))
    return found


def read(registry: FakeRegistry) -> list[str]:
    """The layers that were read, not only asked for."""
    return [path.rpartition("/")[2] for method, path, _ in registry.seen if method == "GET" and "/blobs/" in path]


def reasons(result: Result) -> list[str]:
    return [step.reason for step in result.steps]


RIGHT = [digest_of(BASE), digest_of(CHANGE)]


def test_layers_in_another_order_are_not_believed(registry: FakeRegistry, tmp_path: Path) -> None:
    plant(registry, [packed(CHANGE, "zstd"), packed(BASE, "zstd")], said=[BASE, CHANGE])
    (result,) = push(registry, tmp_path, layout(tmp_path, *WANTED))
    assert pulled(registry) == RIGHT
    assert result.verified


def test_a_diff_id_that_is_claimed_for_another_blob_is_not_believed(registry: FakeRegistry, tmp_path: Path) -> None:
    evil = packed(EVIL, "zstd")
    plant(registry, [evil, packed(CHANGE, "zstd")], said=[BASE, CHANGE])
    (result,) = push(registry, tmp_path, layout(tmp_path, *WANTED))
    assert pulled(registry) == RIGHT
    assert actions(result) == ["send", "reuse"]
    assert reasons(result)[0] == f"another image there says that {digest_of(evil)} is it, and it is not"
    assert reasons(result)[1].endswith(f": {len(packed(CHANGE, 'zstd'))} bytes were read to check")


@pytest.mark.parametrize("tag", ["1", "0"])
@pytest.mark.parametrize("position", [0, 1])
def test_an_image_of_our_own_config_with_another_layer_is_not_ours(
    registry: FakeRegistry, tmp_path: Path, tag: str, position: int
) -> None:
    """Its config is known to all who have seen an earlier push. Not under its tag either, which is to be set."""
    blobs = [packed(BASE, "zstd"), packed(CHANGE, "zstd")]
    blobs[position] = packed(EVIL, "zstd")
    false = plant(registry, blobs, tag=tag, config=Picture((BASE, CHANGE), ("gzip", "gzip")).config)
    (result,) = push(registry, tmp_path, layout(tmp_path, *WANTED))
    assert pulled(registry) == RIGHT
    assert result.image_id not in {false, ""}


def test_a_layer_that_is_there_twice_is_looked_at_twice(registry: FakeRegistry, tmp_path: Path) -> None:
    twice: tuple[tuple[bytes, How], ...] = ((BASE, "gzip"), (BASE, "gzip"))
    config = Picture((BASE, BASE), ("gzip", "gzip")).config
    plant(registry, [packed(BASE, "zstd"), packed(EVIL, "zstd")], tag="1", config=config)
    push(registry, tmp_path, layout(tmp_path, *twice))
    assert pulled(registry) == [digest_of(BASE)] * 2


def test_an_image_of_our_own_config_that_says_more_is_made_anew(registry: FakeRegistry, tmp_path: Path) -> None:
    """podman reads a layer's annotations before the layer: they name the content of a zstd:chunked one."""
    config = Picture((BASE, CHANGE), ("gzip", "gzip")).config
    blobs = [packed(BASE, "zstd"), packed(CHANGE, "zstd")]
    plant(registry, blobs, tag="1", config=config, annotations={"io.github.containers.zstd-chunked.x": "y"})
    (result,) = push(registry, tmp_path, layout(tmp_path, *WANTED))
    assert actions(result) == ["reuse", "reuse"]
    assert "annotations" not in registry.tags["app:1"][1].decode()
    assert pulled(registry) == RIGHT


def test_an_image_of_our_own_config_is_kept_where_it_is_right(registry: FakeRegistry, tmp_path: Path) -> None:
    config = Picture((BASE, CHANGE), ("gzip", "gzip")).config
    right = plant(registry, [packed(BASE, "zstd"), packed(CHANGE, "zstd")], tag="1", config=config)
    (result,) = push(registry, tmp_path, layout(tmp_path, *WANTED))
    assert (result.image_id, puts(registry), actions(result)) == (right, [], ["reuse", "reuse"])
    assert all("were read to check" in reason for reason in reasons(result))


@pytest.mark.parametrize("lie", [{"size": 7}, {"size": 10**9}, {"mediaType": _GZIP}, {"mediaType": "text/plain"}])
def test_sizes_and_media_types_are_looked_at_too(registry: FakeRegistry, tmp_path: Path, lie: dict[str, Any]) -> None:
    plant(registry, [packed(BASE, "zstd"), packed(CHANGE, "zstd")], said=[BASE, CHANGE], **lie)
    (result,) = push(registry, tmp_path, layout(tmp_path, *WANTED))
    assert actions(result) == ["reuse", "reuse"]
    assert pulled(registry) == RIGHT


def test_a_plain_tar_is_known_by_its_digest(registry: FakeRegistry, tmp_path: Path) -> None:
    plant(registry, [BASE], said=[BASE], size=5)
    (result,) = push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")))
    (layer,) = layers(registry, "app:1")
    assert layer == descriptor("application/vnd.oci.image.layer.v1.tar", BASE)
    assert digest_of(BASE) not in read(registry)
    assert actions(result) == ["reuse"]


@pytest.mark.parametrize(("pack", "how"), [(lzma.compress, "xz"), (bz2.compress, "bzip2")])
def test_a_blob_that_not_every_engine_unpacks_is_sent_past(
    registry: FakeRegistry, tmp_path: Path, pack: Callable[[bytes], bytes], how: str
) -> None:
    """One of an image that has nothing to do with ours, too: it is looked at where its config names our layer."""
    large = layer_tar("large", 60_000)
    plant(registry, [pack(BASE), pack(EVIL)], said=[BASE, large])
    (result,) = push(registry, tmp_path, layout(tmp_path, (BASE, ""), (large, "")))
    assert reasons(result) == [
        f"the target has it as {how}, which not every engine unpacks",
        f"another image there says that {digest_of(pack(EVIL))} is it, and it is not",
    ]
    assert pulled(registry) == [digest_of(BASE), digest_of(large)]


def test_what_was_checked_once_is_not_read_again(registry: FakeRegistry, tmp_path: Path) -> None:
    plant(registry, [packed(BASE, "zstd"), packed(EVIL, "zstd")], said=[BASE, CHANGE])
    reference = layout(tmp_path, *WANTED)
    push(registry, tmp_path, reference, names=["app:a"])
    assert {digest_of(packed(tar, "zstd")) for tar in (BASE, EVIL)} <= set(read(registry))
    for tag in ("a", "b"):
        registry.seen.clear()
        del registry.tags["app:a"]
        (result,) = push(registry, tmp_path, reference, names=["app:a"])
        assert actions(result) == ["reuse", "reuse"]
        assert [digest for digest in read(registry) if digest != Picture((BASE, CHANGE), ("", "")).id] == []
        assert pulled(registry, "app:a") == RIGHT, tag


def test_what_we_sent_is_known_without_being_read(registry: FakeRegistry, tmp_path: Path) -> None:
    """A plain layer, as a daemon has it: nobody but our own memory knows the digest that it got."""
    push(registry, tmp_path, layout(tmp_path, (BASE, ""), name="app:0"))
    registry.seen.clear()
    (result,) = push(registry, tmp_path, layout(tmp_path, (BASE, ""), (CHANGE, "")))
    assert actions(result) == ["reuse", "send"]
    assert not set(read(registry)) & {layer["digest"] for layer in layers(registry, "app:0")}
    assert reasons(result)[0] == f"the target has it as {layers(registry, 'app:0')[0]['digest']}"


def test_what_would_cost_more_than_to_send_is_sent(registry: FakeRegistry, tmp_path: Path) -> None:
    large = packed(EVIL * 40, "")
    plant(registry, [large], said=[CHANGE])
    (result,) = push(registry, tmp_path, layout(tmp_path, (CHANGE, "gzip")))
    assert digest_of(large) not in read(registry)
    assert reasons(result) == ["only another image there says that the target has it, and it is less to send"]
    assert pulled(registry) == [digest_of(CHANGE)]


def test_several_false_images_cost_no_more_than_to_send(registry: FakeRegistry, tmp_path: Path) -> None:
    for number in range(5):
        plant(registry, [packed(layer_tar(f"evil{number}", 1_500), "gzip")], said=[CHANGE], tag=f"{number}")
    sent = len(packed(CHANGE, "gzip"))
    push(registry, tmp_path, layout(tmp_path, (CHANGE, "gzip"), name="app:9"))
    false = [digest for digest in read(registry) if digest in registry.repositories["app"]]
    sizes = [len(blob) for digest, blob in registry.repositories["app"].items() if digest in false and blob[:1] != b"{"]
    assert 0 < sum(sizes) <= sent


def test_a_dry_run_reads_nothing_and_says_what_it_would(registry: FakeRegistry, tmp_path: Path) -> None:
    base = packed(BASE, "zstd")
    plant(registry, [base], said=[BASE])
    (result,) = push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")), options=Options(dry_run=True))
    assert digest_of(base) not in read(registry)
    assert reasons(result)[0].endswith(f"another image there says so, and {len(base)} bytes would be read to check")
    assert not (tmp_path / ".cache").exists()


def test_much_to_read_is_told_before(registry: FakeRegistry, tmp_path: Path) -> None:
    large = layer_tar("large", 3_000_000)
    plant(registry, [packed(large, "zstd")], said=[large])
    events: list[Event] = []
    push(registry, tmp_path, layout(tmp_path, (large, "gzip")), events=events)
    (warning,) = [event.message for event in events if isinstance(event, Warned)]
    assert warning.endswith("is only said by other images there: 3 MB are read to check it, this once")


def test_a_bomb_in_the_repository_is_sent_past(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no larger than our layer, and unpacks to a thousand times as much: nobody waits for that."""
    monkeypatch.setattr(limits, "UNPACKED_AT_LEAST", 100_000)
    bomb = packed(bytes(10_000_000), "zstd")
    plant(registry, [bomb], said=[BASE])
    (result,) = push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")))
    assert (actions(result), pulled(registry)) == (["send"], [digest_of(BASE)])


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_a_damaged_blob_in_the_repository_is_sent_past(registry: FakeRegistry, tmp_path: Path, how: How) -> None:
    half = packed(BASE, how)[:10_000]
    plant(registry, [half], said=[BASE])
    (result,) = push(registry, tmp_path, layout(tmp_path, (BASE, "zstd" if how == "gzip" else "gzip")))
    assert (actions(result), pulled(registry)) == (["send"], [digest_of(BASE)])


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_a_source_that_lies_spoils_no_other_image_of_the_push(registry: FakeRegistry, tmp_path: Path, how: How) -> None:
    """An image that has a right digest for a wrong diff ID would give its blob to the next one."""
    picture = Picture((EVIL,), (how,))
    config = Picture((BASE,), (how,)).config
    manifest = json.loads(picture.manifest) | {"config": descriptor(_CONFIG, config)}
    documents = picture.documents | {digest_of(data): data for data in (config, dumps(manifest))}
    entry = {**named_entry(picture, "app:1"), **descriptor(_MANIFEST, dumps(manifest))}
    false = write_folder(tmp_path / "false", layout_files([entry], documents))
    with pytest.raises(SourceError, match=f"what should be layer {digest_of(BASE)} is {digest_of(EVIL)}"):
        push(registry, tmp_path, f"oci:{false}", layout(tmp_path, (BASE, "gzip"), name="good:1"))
    assert puts(registry) == []


# What is remembered.

SEEN = Seen(digest_of(BASE), Descriptor(_GZIP, digest_of(packed(BASE, "gzip")), len(packed(BASE, "gzip"))))


def memory(folder: Path) -> Memory:
    return Memory({"HOME": str(folder)})


def test_the_memory_is_a_file_for_us_alone(tmp_path: Path) -> None:
    memory(tmp_path).add(SEEN)
    path = tmp_path / ".cache/layerferry/layers"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert memory(tmp_path).get(SEEN.blob.digest) == SEEN
    memory(tmp_path).add(SEEN)
    assert len(path.read_text().splitlines()) == 1
    elsewhere = Memory({"XDG_CACHE_HOME": str(tmp_path / ".cache")})
    assert elsewhere.get(SEEN.blob.digest) == SEEN


@pytest.mark.parametrize("change", ["file", "folder", "link", "hard link", "pipe", "folder link"])
def test_a_memory_that_others_may_write_is_none(tmp_path: Path, change: str) -> None:
    memory(tmp_path).add(SEEN)
    folder = tmp_path / ".cache/layerferry"
    path = folder / "layers"
    match change:
        case "file":
            path.chmod(0o620)
        case "folder":
            folder.chmod(0o777)
        case "link":
            path.rename(tmp_path / "other")
            path.symlink_to(tmp_path / "other")
        case "hard link":
            (tmp_path / "other").hardlink_to(path)
        case "pipe":
            path.unlink()
            os.mkfifo(path, 0o600)
        case "folder link":
            folder.rename(tmp_path / "real")
            folder.symlink_to(tmp_path / "real")
    again = memory(tmp_path)
    assert again.get(SEEN.blob.digest) is None
    again.add(SEEN)
    assert again.get(SEEN.blob.digest) == SEEN


def test_without_a_place_it_is_known_until_the_push_ends(tmp_path: Path) -> None:
    for environ in ({}, {"XDG_CACHE_HOME": "relative"}, {"HOME": "/dev/null"}):
        kept = Memory(environ)
        kept.add(SEEN)
        assert kept.get(SEEN.blob.digest) == SEEN


def test_a_line_that_was_cut_short_says_nothing(tmp_path: Path) -> None:
    memory(tmp_path).add(SEEN)
    path = tmp_path / ".cache/layerferry/layers"
    whole = path.read_text()
    for length in range(len(whole)):
        path.write_text(whole[:length])
        assert memory(tmp_path).get(SEEN.blob.digest) is None
    for rubbish in (whole[:-9], "\0" * 100, "nonsense\n", whole.replace("gzip", "xz"), "\xff"):
        path.write_text(rubbish + "\n" + whole)
        assert rubbish == "\xff" or memory(tmp_path).get(SEEN.blob.digest) == SEEN


def test_a_memory_that_has_become_large_loses_its_older_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMORY", 2_000)
    many = [Seen(SEEN.diff_id, Descriptor(_GZIP, digest_of(bytes([number])), number)) for number in range(100)]
    for seen in many:
        memory(tmp_path).add(seen)
    path = tmp_path / ".cache/layerferry/layers"
    assert path.stat().st_size < 2_300
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert memory(tmp_path).get(many[-1].blob.digest) == many[-1]
    assert memory(tmp_path).get(many[0].blob.digest) is None
