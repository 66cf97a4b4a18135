"""What a registry does to whoever pushes to it: tokens that run out, uploads that break, mounts that it refuses."""

import contextlib
import json
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from fake_registry import PASSWORD, USER, FakeRegistry, fake_registry
from layerferry import rollback
from layerferry.compression.stream import Compression
from layerferry.errors import ConnectError, SourceError, TargetError, UsageError, VerificationError
from layerferry.events import Event, Planned, Warned
from layerferry.oci import limits
from layerferry.oci.image import digest_of
from layerferry.push.delivery import Delivery
from layerferry.push.request import Options, Wanted
from layerferry.push.to_registry import connect_registry
from layerferry.push.way_back import NamesBefore
from layerferry.registry_client import endpoint
from layerferry.result import Result
from layerferry.sources import Source, kind_of
from layerferry.sources.digest_store import Stored
from layerferry.sources.files.image_archive import ArchiveSource
from layerferry.sources.files.layout import LayoutSource
from layerferry.sources.registry import RemoteSource
from layerferry.targets.link import Link
from layerferry.targets.registry_address import Address, Direct, RegistryTarget
from packed import (
    ARCHIVES,
    Picture,
    descriptor,
    dumps,
    layer_tar,
    layout_files,
    named_entry,
    packed,
    unpacked,
    write_folder,
)
from packed import Compression as How

BASE, CHANGE = layer_tar("base", 30_000), layer_tar("change", 2_000)


pytestmark = pytest.mark.usefixtures("hurry")


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry(scope="repository:app:pull,push") as running:
        yield running


def layout(folder: Path, *layers: tuple[bytes, How], name: str = "app:1") -> str:
    picture = Picture(tuple(tar for tar, _ in layers), tuple(how for _, how in layers))
    files = layout_files([named_entry(picture, f"docker.io/library/{name}")], picture.documents)
    return f"oci:{write_folder(folder / name.replace(':', '-'), files)}"


def push(
    registry: FakeRegistry,
    folder: Path,
    *references: str,
    names: Sequence[str] = (),
    prefix: str = "",
    events: list[Event] | None = None,
    options: Options | None = None,
    direct: Direct | None = None,
) -> list[Result]:
    """Push to the registry by the name of `localhost`, where plain HTTP is looked for."""
    (folder / "config.json").write_text(
        json.dumps({"auths": {registry.address: {"username": USER, "password": PASSWORD}}})
    )
    environ = {"DOCKER_CONFIG": str(folder), "HOME": str(folder)}
    address = Address.parse(f"registry://{registry.address}{prefix}")

    def opened() -> Source:
        match kind_of(references[0]):
            case "registry":
                return RemoteSource(environ)
            case "archive":
                return ArchiveSource()
        return LayoutSource()

    emit = (lambda _: None) if events is None else events.append
    wanted = [Wanted.of(reference, names) for reference in references]
    with contextlib.ExitStack() as stack:
        target = RegistryTarget(str(address), address, Link(stack, False, lambda: direct or Direct()), environ)
        delivery = Delivery(wanted, options or Options(), emit)
        return delivery.run(lambda: connect_registry(target, delivery.options, emit, NamesBefore()), opened)


def layers(registry: FakeRegistry, name: str) -> list[dict[str, Any]]:
    return list(json.loads(registry.tags[name][1])["layers"])


def puts(registry: FakeRegistry) -> list[str]:
    """What went up: digests of blobs, names of manifests."""
    paths = [path for method, path, _ in registry.seen if method == "PUT"]
    return [path.rpartition("digest=")[2].replace("%3A", ":") if "digest=" in path else path for path in paths]


def actions(result: Result) -> list[str]:
    return [str(step.action) for step in result.steps]


# What is sent, and under which digests.


def test_blobs_go_up_as_the_source_has_them_and_the_manifest_comes_last(registry: FakeRegistry, tmp_path: Path) -> None:
    reference = layout(tmp_path, (BASE, "gzip"), (CHANGE, "zstd"))
    (result,) = push(registry, tmp_path, reference)
    picture = Picture((BASE, CHANGE), ("gzip", "zstd"))
    assert registry.tags["app:1"] == (picture.manifest_type, picture.manifest)
    assert sorted(puts(registry)[:2]) == sorted(map(digest_of, picture.layers))
    assert puts(registry)[2:] == [picture.id, "/v2/app/manifests/1"]
    assert (result.image_id, result.verified) == (digest_of(picture.manifest), True)
    assert result.bytes.sent == sum(map(len, (*picture.layers, picture.config, picture.manifest)))


def test_a_registry_that_takes_no_manifest_of_dockers_gets_ocis(registry: FakeRegistry, tmp_path: Path) -> None:
    """zot: 415, MANIFEST_INVALID."""
    picture = Picture((BASE, CHANGE), ("gzip", "gzip"), docker=True)
    files = layout_files([named_entry(picture, "docker.io/library/app:1")], picture.documents)
    reference = f"oci:{write_folder(tmp_path / 'app', files)}"
    push(registry, tmp_path, reference)
    assert registry.tags["app:1"] == (picture.manifest_type, picture.manifest)
    registry.takes_dockers = False
    (result,) = push(registry, tmp_path, reference, names=["zot:1", "zot:2"])
    media_type, manifest = registry.tags["zot:1"]
    assert registry.tags["zot:2"] == (media_type, manifest)
    assert media_type == "application/vnd.oci.image.manifest.v1+json"
    assert b"docker" not in manifest
    assert [layer["digest"] for layer in layers(registry, "zot:1")] == list(map(digest_of, picture.layers))
    assert (result.image_id, result.verified) == (digest_of(manifest), True)


def test_a_plain_layer_is_compressed_always_to_the_same_bytes(registry: FakeRegistry, tmp_path: Path) -> None:
    reference = layout(tmp_path, (BASE, ""))
    push(registry, tmp_path, reference)
    push(registry, tmp_path, reference, names=["other:1"])
    assert layers(registry, "app:1") == layers(registry, "other:1")
    assert layers(registry, "app:1")[0]["mediaType"].endswith("tar+gzip")
    push(registry, tmp_path, reference, names=["plain:1"], options=Options(Compression.parse("none")))
    assert layers(registry, "plain:1")[0]["digest"] == digest_of(BASE)


@pytest.mark.parametrize("media_type", ["oci.image.layer.v1.tar+xz", "docker.image.rootfs.diff.tar.xz"])
def test_what_no_engine_is_sure_to_unpack_goes_up_as_what_each_does(
    registry: FakeRegistry, tmp_path: Path, media_type: str
) -> None:
    """Nor is it taken over where the registry has it, or mounted from where the source has it."""
    picture, layer = Picture((BASE,), ("gzip",)), lzma.compress(BASE)
    manifest = json.loads(picture.manifest) | {"layers": [descriptor(f"application/vnd.{media_type}", layer)]}
    documents = picture.documents | {digest_of(data): data for data in (layer, dumps(manifest))}
    entry = descriptor(picture.manifest_type, dumps(manifest))
    reference = f"oci:{write_folder(tmp_path / 'xz', layout_files([entry], documents))}"
    registry.repositories["app"] = {digest_of(layer): layer}
    for name in ("app:1", "app:2"):
        (result,) = push(registry, tmp_path, reference, names=[name])
        assert [blob["mediaType"] for blob in layers(registry, name)] == ["application/vnd.oci.image.layer.v1.tar+gzip"]
    assert actions(result) == ["reuse"]
    registry.add("other:1", picture.manifest_type, dumps(manifest), documents)
    push(registry, tmp_path, f"registry:{registry.address}/other:1", names=["third:1"])
    assert layers(registry, "third:1") == layers(registry, "app:1")


@pytest.mark.parametrize("tool", ["docker20", "podman", "kaniko", "nix", "oci-archive"])
@pytest.mark.parametrize("compression", ["", "gzip"])
def test_archives_of_every_tool_go_up(registry: FakeRegistry, tmp_path: Path, tool: str, compression: How) -> None:
    picture = Picture((BASE, CHANGE), ("gzip", "gzip") if tool in {"kaniko", "oci-archive"} else ("", ""))
    path = tmp_path / "app.tar"
    path.write_bytes(packed(ARCHIVES[tool](picture, "docker.io/library/app:1"), compression))
    (result,) = push(registry, tmp_path, f"archive:{path}", names=["app:1"])
    assert result.verified
    diff_ids = [unpacked(registry.repositories["app"][layer["digest"]]) for layer in layers(registry, "app:1")]
    assert [digest_of(tar) for tar in diff_ids] == list(picture.diff_ids)
    (result,) = push(registry, tmp_path, f"archive:{path}", names=["app:2"])
    assert actions(result) == ["reuse", "reuse"]


def test_a_base_is_known_by_its_diff_id_whoever_compressed_it(registry: FakeRegistry, tmp_path: Path) -> None:
    push(registry, tmp_path, layout(tmp_path, (BASE, "zstd"), name="app:0"))
    registry.seen.clear()
    (result,) = push(registry, tmp_path, layout(tmp_path, (BASE, "gzip"), (CHANGE, "gzip")))
    assert actions(result) == ["reuse", "send"]
    assert [layer["digest"] for layer in layers(registry, "app:1")] == [
        digest_of(packed(BASE, "zstd")),
        digest_of(packed(CHANGE, "gzip")),
    ]
    assert result.bytes.sent < 5_000


def test_a_manifest_that_outlived_its_blobs_is_not_believed(registry: FakeRegistry, tmp_path: Path) -> None:
    push(registry, tmp_path, layout(tmp_path, (BASE, "zstd"), name="app:0"))
    del registry.repositories["app"][digest_of(packed(BASE, "zstd"))]
    (result,) = push(registry, tmp_path, layout(tmp_path, (BASE, "gzip"), (CHANGE, "gzip")))
    assert actions(result) == ["send", "send"]


def test_a_damaged_image_in_the_repository_is_passed_over(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.tags["app:latest"] = registry.tags["app:0"] = ("application/json", b"nonsense")
    (result,) = push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")))
    assert result.verified


def test_of_an_image_that_is_there_nothing_is_read(registry: FakeRegistry, tmp_path: Path) -> None:
    reference = layout(tmp_path, (BASE, "gzip"))
    push(registry, tmp_path, reference)
    registry.seen.clear()
    (result,) = push(registry, tmp_path, reference)
    assert puts(registry) == []
    assert (actions(result), result.route.name, result.bytes.sent) == (["reuse"], "none", 0)
    (result,) = push(registry, tmp_path, reference, names=["app:2"])
    assert puts(registry) == ["/v2/app/manifests/2"]
    assert result.verified


def test_a_dry_run_only_looks(registry: FakeRegistry, tmp_path: Path) -> None:
    events: list[Event] = []
    options = Options(dry_run=True)
    (result,) = push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")), events=events, options=options)
    assert (puts(registry), registry.uploads, result.verified) == ([], 0, False)
    assert any(isinstance(event, Planned) for event in events)


@pytest.mark.parametrize("mounts", [True, False])
def test_a_second_repository_gets_its_blobs_from_the_first(
    registry: FakeRegistry, tmp_path: Path, *, mounts: bool
) -> None:
    registry.mounts = mounts
    reference = layout(tmp_path, (BASE, "gzip"))
    push(registry, tmp_path, reference, names=["one:1", "two:1"])
    assert registry.repositories["one"] == registry.repositories["two"]
    assert puts(registry).count(digest_of(packed(BASE, "gzip"))) == (1 if mounts else 2)
    assert registry.tags["one:1"] == registry.tags["two:1"]
    assert registry.cancelled == (0 if mounts else 2)


def test_images_of_one_push_share_a_layer(registry: FakeRegistry, tmp_path: Path) -> None:
    references = [
        layout(tmp_path, (BASE, "gzip"), name="one:1"),
        layout(tmp_path, (BASE, "gzip"), (CHANGE, "gzip"), name="two:1"),
    ]
    push(registry, tmp_path, *references)
    assert puts(registry).count(digest_of(packed(BASE, "gzip"))) == 1
    assert len(registry.repositories["two"]) == 3


def test_from_one_repository_to_another_of_the_registry_nothing_is_sent(registry: FakeRegistry, tmp_path: Path) -> None:
    push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")))
    (result,) = push(registry, tmp_path, f"registry:{registry.address}/app:1", names=["production/app:1"])
    assert actions(result) == ["reuse"]
    assert result.bytes.sent < 2_000
    assert registry.tags["production/app:1"] == registry.tags["app:1"]


def test_a_mount_that_the_registry_declines_leaves_no_upload_behind(registry: FakeRegistry, tmp_path: Path) -> None:
    """It begins one instead, beside that which was begun for the first blob."""
    push(registry, tmp_path, layout(tmp_path, (BASE, "gzip"), (CHANGE, "gzip")))
    registry.mounts, registry.uploads = False, 0
    (result,) = push(registry, tmp_path, f"registry:{registry.address}/app:1", names=["production/app:1"])
    assert result.verified
    assert len(registry.repositories["production/app"]) == 3
    assert (registry.uploads, registry.cancelled) == (5, 2)


# Logins.


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_a_login_is_given_when_it_is_asked_for(registry: FakeRegistry, tmp_path: Path, auth: str) -> None:
    registry.auth = auth  # type: ignore[assignment]
    assert push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")))[0].verified


def test_a_token_that_runs_out_is_renewed_even_in_the_midst_of_an_upload(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    for lifetime in range(2, 8):
        registry.auth, registry.lifetime = "token", lifetime
        name = f"app:{lifetime}"
        change = layer_tar(name, 2_000)
        assert push(registry, tmp_path, layout(tmp_path, (change, "gzip"), (CHANGE, ""), name=name))[0].verified


def test_a_wrong_login_is_told_with_its_place_and_without_the_secret(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.auth = "basic"
    monkeypatch.setitem(globals(), "PASSWORD", "hunter2")
    with pytest.raises(TargetError, match="does not let this login push to app") as caught:
        push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")))
    assert f"docker login {registry.address}" in caught.value.hint
    assert "hunter2" not in caught.value.hint + caught.value.message


# Uploads.


@pytest.mark.parametrize("location", ["/uploads/{number}", "http://{address}/uploads/{number}"])
def test_an_upload_goes_on_where_the_registry_says(registry: FakeRegistry, tmp_path: Path, location: str) -> None:
    registry.auth, registry.location = "basic", location
    assert push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")))[0].verified


@pytest.mark.parametrize("place", ["", "http://localhost:{port}", "http://LOCALHOST:{port}"])
@pytest.mark.parametrize("auth", ["basic", "token"])
def test_a_registrys_host_may_be_written_in_capitals(
    registry: FakeRegistry, tmp_path: Path, auth: Literal["basic", "token"], place: str
) -> None:
    port = registry.address.rpartition(":")[2]
    registry.auth, registry.address = auth, f"LocalHost:{port}"
    registry.location = place.format(port=port) + registry.location
    assert push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")))[0].verified


def test_an_upload_elsewhere_gets_no_login(registry: FakeRegistry, tmp_path: Path) -> None:
    with fake_registry() as elsewhere:
        registry.auth, registry.location = "basic", f"http://localhost:{elsewhere.address.rpartition(':')[2]}/up"
        push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")))
        assert len(elsewhere.seen) == 2
        assert not any("Authorization" in headers for _, _, headers in elsewhere.seen)


def test_an_upload_that_broke_is_made_again(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.break_after, registry.breaks = 1_000, 2
    reference = layout(tmp_path, (BASE, "gzip"))
    events: list[Event] = []
    (result,) = push(registry, tmp_path, reference, events=events)
    assert result.verified
    assert registry.uploads == 4  # three for the layer, one for the config
    told = [event.message for event in events if isinstance(event, Warned)]
    assert [line.rpartition("; ")[2] for line in told] == [f"this is try {number} of 4" for number in (2, 3)]
    assert all(digest_of(packed(BASE, "gzip"))[:19] in line for line in told)
    registry.breaks, registry.uploads, registry.cancelled = 100, 0, 0
    with pytest.raises(ConnectError, match="does not answer"):
        push(registry, tmp_path, layout(tmp_path, (CHANGE, "gzip"), name="app:2"))
    assert registry.uploads == registry.cancelled == 4
    assert "app:2" not in registry.tags


def test_an_upload_whose_answer_was_lost_is_not_made_again(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.silent_ends = 1
    (result,) = push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")))
    assert result.verified
    assert puts(registry).count(digest_of(packed(BASE, "gzip"))) == 1
    methods = [method for method, _, _ in registry.seen]
    last_asked = methods[: methods.index("DELETE")][-1]
    assert last_asked == "HEAD", "an upload may still be stored, and is not cancelled before that is known"


@pytest.mark.parametrize("reads", [0, 1 << 30])
def test_an_upload_that_nothing_is_heard_of_ends_and_each_try_is_told(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    """Whether the registry takes nothing more, or takes all and says nothing. What sockets hold is less than 16 MiB."""
    monkeypatch.setattr(limits, "SILENCE", 1.0)
    registry.stalls_after = reads
    events: list[Event] = []
    large = layer_tar("large", 16 << 20)
    options = Options(compression=Compression.parse("none"))
    with pytest.raises(ConnectError, match=r"does not answer: .*timed out"):
        push(registry, tmp_path, layout(tmp_path, (large, "")), events=events, options=options)
    told = [event.message for event in events if isinstance(event, Warned)]
    assert [line.rpartition("; ")[2] for line in told] == [f"this is try {number} of 4" for number in (2, 3, 4)]
    assert all("could not be sent" in line and "timed out" in line for line in told)
    assert registry.uploads == 4
    assert registry.tags == {}


def test_no_other_try_is_made_once_the_push_is_broken_off(registry: FakeRegistry, tmp_path: Path) -> None:
    direct = Direct()

    class Events(list[Event]):
        def append(self, event: Event) -> None:
            super().append(event)
            if isinstance(event, Planned):
                registry.break_after, registry.breaks = 1_000, 100
            if isinstance(event, Warned):
                direct.close()

    events = Events()
    with pytest.raises(ConnectError, match="was broken off"):
        push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")), events=events, direct=direct)
    assert len([event for event in events if isinstance(event, Warned)]) == 1


def test_how_long_a_registry_may_be_silent_follows_from_what_it_has_to_store() -> None:
    assert [endpoint._patience(size)[1] for size in (0, 1 << 20, 16 << 30)] == [60, 60, 60 + 1024]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "has no place for app (DENIED quota exceeded)"),
        (413, "takes nothing that large"),
        (403, "does not let this login push to app (DENIED quota exceeded)"),
        (412, "answers with HTTP 412 (DENIED quota exceeded)"),
    ],
)
def test_a_refusal_is_told_in_the_registrys_words_and_the_old_image_keeps_its_name(
    registry: FakeRegistry, tmp_path: Path, status: int, message: str
) -> None:
    push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")))
    old = registry.tags["app:1"]
    reference = layout(tmp_path, (CHANGE, "gzip"), name="app:2")
    events: list[Event] = []

    def emit_and_refuse() -> None:
        registry.statuses = [status] * 4

    class Events(list[Event]):
        def append(self, event: Event) -> None:
            super().append(event)
            if type(event).__name__ == "Loading":
                emit_and_refuse()

    events = Events()
    with pytest.raises(TargetError) as caught:
        push(registry, tmp_path, reference, names=["app:1"], events=events)
    assert message in caught.value.message
    assert registry.tags["app:1"] == old


def test_a_registry_that_does_not_show_what_it_was_given_is_told(registry: FakeRegistry, tmp_path: Path) -> None:
    push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")))
    registry.forgets_tags = True
    with pytest.raises(VerificationError, match="as something else than was sent"):
        push(registry, tmp_path, layout(tmp_path, (CHANGE, "gzip"), name="app:2"), names=["app:1"])


def test_a_layer_that_is_not_its_diff_id_is_not_sent(registry: FakeRegistry, tmp_path: Path) -> None:
    """Nobody behind a registry would notice: to it, a blob is what its digest says."""
    reference = layout(tmp_path, (BASE, ""))
    blob = tmp_path / "app-1/blobs/sha256" / digest_of(BASE).removeprefix("sha256:")
    blob.write_bytes(BASE.replace(BASE[2000:2010], bytes(10)))
    with pytest.raises(SourceError, match="damaged"):
        push(registry, tmp_path, reference)
    assert puts(registry) == []


def test_nor_is_an_image_whose_source_gives_too_little(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stored, "blobs", lambda _: iter(()))
    with pytest.raises(SourceError, match=f"has not given its layer {digest_of(BASE)}"):
        push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")))
    assert puts(registry) == []


def test_an_image_without_a_name_needs_one(registry: FakeRegistry, tmp_path: Path) -> None:
    picture = Picture.of("nameless", "gzip")
    entry = {"mediaType": picture.manifest_type, "digest": digest_of(picture.manifest), "size": len(picture.manifest)}
    folder = write_folder(tmp_path / "nameless", layout_files([entry], picture.documents))
    with pytest.raises(UsageError, match="no name"):
        push(registry, tmp_path, f"oci:{folder}")
    (result,) = push(registry, tmp_path, f"oci:{folder}", names=["x:1"], prefix="/team/one")
    assert result.names == (f"{registry.address}/team/one/x:1",)
    assert "team/one/x:1" in registry.tags


# What a name pointed to before.


def test_what_a_name_pointed_to_before_keeps_another_tag(registry: FakeRegistry, tmp_path: Path) -> None:
    """The very bytes, and before the name moves."""
    keeping = Options(keep_previous="previous")
    (first,) = push(registry, tmp_path, layout(tmp_path / "a", (BASE, "gzip")), options=keeping)
    old = registry.tags["app:1"]
    assert (first.kept, "app:previous" in registry.tags) == ((), False)
    new = layout(tmp_path / "b", (BASE, "gzip"), (CHANGE, "gzip"))
    (second,) = push(registry, tmp_path, new, options=keeping)
    assert registry.tags["app:previous"] == old
    assert [(image.image_id, image.names) for image in second.kept] == [
        (first.image_id, (f"{registry.address}/app:previous",))
    ]
    assert [path for path in puts(registry) if "manifests" in path][-2:] == [
        "/v2/app/manifests/previous",
        "/v2/app/manifests/1",
    ]
    (again,) = push(registry, tmp_path, new, options=keeping)
    assert (again.kept, registry.tags["app:previous"]) == ((), old)


def test_a_name_in_a_registry_goes_back_and_forward_again(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.auth = "none"
    for number, layers in enumerate([[(BASE, "gzip")], [(BASE, "gzip"), (CHANGE, "gzip")]]):
        reference = layout(tmp_path / str(number), *layers)  # type: ignore[arg-type]
        push(registry, tmp_path, reference, options=Options(keep_previous="previous"))
    new, old = registry.tags["app:1"], registry.tags["app:previous"]
    address = Address.parse(f"registry://{registry.address}")
    names = rollback.wanted("app:1", "previous")
    for now, before in ((old, new), (new, old)):
        with contextlib.ExitStack() as stack:
            target = RegistryTarget(str(address), address, Link(stack, False, Direct), {"HOME": str(tmp_path)})
            done = rollback.exchange(target, names, rollback.How())
        assert done.error is None
        assert (registry.tags["app:1"], registry.tags["app:previous"]) == (now, before)
        assert (done.image_id, done.verified) == (digest_of(now[1]), True)
    assert done.kept[0].image_id == digest_of(old[1])


def test_an_index_is_kept_as_what_it_is(registry: FakeRegistry, tmp_path: Path) -> None:
    media_type = "application/vnd.oci.image.index.v1+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": []}).encode()
    registry.tags["app:1"] = media_type, index
    push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")), options=Options(keep_previous="previous"))
    assert registry.tags["app:previous"] == (media_type, index)


def test_a_registry_removes_images_by_its_own_rules(registry: FakeRegistry, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="removes images by rules of its own"):
        push(registry, tmp_path, layout(tmp_path, (BASE, "gzip")), options=Options(prune=3))
    assert registry.tags == {}
