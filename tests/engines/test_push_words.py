"""What one says to `layerferry push`, and what it says: names, dry runs, JSON, platforms, compression."""

import pytest

from engines.test_push_scene import (
    APP,
    EACH_STORE,
    NEWEST,
    SMALL,
    Scene,
    actions,
    assert_arrived,
    assert_complete,
    id_of,
    look,
)
from rig import Noise, Text

pytestmark = pytest.mark.kinds(target=NEWEST)
OTHER = "push-test/other:2"


# Names.


@pytest.mark.kinds(target=EACH_STORE)
def test_a_name_without_a_tag_is_latest_on_both_sides(scene: Scene) -> None:
    scene.load([scene.layer()], "push-test/app:latest")
    scene.load([scene.layer(name="other")], APP)
    assert_arrived(scene, scene.push("push-test/app").result, "push-test/app:latest")
    assert len(scene.target.images()) == 1


def test_a_registrys_name_keeps_its_registry(scene: Scene) -> None:
    name = "registry.example:5000/team/app:v1"
    scene.load([scene.layer()], name)
    assert_arrived(scene, scene.push(name).result, name)


@pytest.mark.parametrize("reference", ["full", "hex", "short"])
def test_an_image_id_goes_under_the_name_that_is_given(scene: Scene, reference: str) -> None:
    scene.load([scene.layer()])
    image = id_of(scene.source, APP)
    word = {"full": image, "hex": image.removeprefix("sha256:"), "short": image.removeprefix("sha256:")[:12]}[reference]
    result = scene.push(word, "--name", OTHER).result
    assert result["image"] == word
    assert list(scene.target.images()) == [OTHER]
    assert result["image_id"] == image


def test_a_digest_names_an_image_that_was_pulled(scene: Scene) -> None:
    base = scene.base()
    scene.target.clear()
    (reference,) = scene.source.inspect(base)["RepoDigests"]
    assert "@sha256:" in reference
    result = scene.push(reference, "--name", OTHER).result
    assert scene.target.images() == {OTHER: result["image_id"]}
    assert_complete(scene.target, OTHER, scene.source.diff_ids(base))


@pytest.mark.kinds(target=EACH_STORE)
def test_an_image_gets_all_names_that_are_given(scene: Scene) -> None:
    scene.load([scene.layer()])
    names = ["push-test/app:1.2", "push-test/app:1", "ghcr.io/team/app:latest"]
    scene.push(APP, *(word for name in names for word in ("--name", name)))
    assert sorted(scene.target.images()) == sorted(names)
    assert len(set(scene.target.images().values())) == 1


# Several images.


@pytest.mark.kinds(target=EACH_STORE)
def test_several_images_go_in_one_session_and_what_they_share_goes_once(scene: Scene) -> None:
    shared = scene.layer(400_000, "shared")
    names = [f"push-test/several:{number}" for number in range(3)]
    for name in names:
        scene.load([shared, scene.layer(20_000, name)], name)
    results = scene.push(*names, scene.target.ssh_alias, to="").json["results"]
    assert [result["image"] for result in results] == names
    assert 400_000 < sum(result["bytes"]["sent"] for result in results) < 600_000
    for name, result in zip(names, results, strict=True):
        assert_arrived(scene, result, name)


def test_of_several_images_one_may_be_there_already(scene: Scene) -> None:
    shared = scene.layer(200_000, "shared")
    scene.load([shared])
    scene.push(APP)
    scene.load([shared, scene.layer(name="new")], OTHER)
    first, second = scene.push(APP, OTHER, scene.target.ssh_alias, to="").json["results"]
    assert (actions(first), actions(second)) == (["reuse"], ["reuse", "send"])
    assert first["route"]["name"] == "none"
    assert_arrived(scene, first)
    assert_arrived(scene, second, OTHER)


@pytest.mark.kinds(target=EACH_STORE)
def test_one_image_under_two_names_goes_once(scene: Scene) -> None:
    scene.load([scene.layer(300_000)])
    scene.source.docker("tag", APP, OTHER)
    results = scene.push(APP, OTHER, scene.target.ssh_alias, to="").json["results"]
    assert sum(result["bytes"]["sent"] for result in results) < 400_000
    for name, result in zip((APP, OTHER), results, strict=True):
        assert_arrived(scene, result, name)


def test_where_one_of_several_images_is_missing_none_is_pushed(scene: Scene) -> None:
    scene.load([scene.layer()])
    run = scene.push(APP, "push-test/missing:1", scene.target.ssh_alias, to="", code=3)
    assert {result["error"]["exit_code"] for result in run.json["results"]} == {3}
    assert scene.target.images() == {}


# A dry run.


@pytest.mark.kinds(target=EACH_STORE)
def test_a_dry_run_shows_the_plan_and_changes_nothing(scene: Scene) -> None:
    scene.build(scene.base())
    before = look(scene.target)
    dry = scene.push(APP, "--dry-run").result
    assert look(scene.target) == before
    assert actions(dry) == ["reuse", "reuse", "send"]
    assert dry["bytes"]["received"] == 0
    assert 0 < dry["bytes"]["delta"] < SMALL
    assert dry["verified"] is False
    result = scene.push(APP).result
    assert result["layers"] == dry["layers"]
    assert result["bytes"]["delta"] == dry["bytes"]["delta"]


# JSON, and lines.


def test_json_is_the_documented_object_and_nothing_else(scene: Scene) -> None:
    scene.load([scene.layer(70_000)])
    run = scene.push(APP)
    assert list(run.json) == ["version", "results", "seconds"]
    result = run.result
    told = "image target source names platform dry_run estimate before route engine layers bytes sizes seconds image_id"
    assert list(result) == [*told.split(), "verified", "kept", "pruned", "then", "up", "error"]
    assert (result["image"], result["target"]) == (APP, scene.target.ssh_alias)
    assert list(result["route"]) == ["name", "reason"]
    assert result["engine"].startswith("docker 28.")
    (layer,) = result["layers"]
    assert list(layer) == ["diff_id", "size", "action", "bytes", "reason", "created_by"]
    assert [layer["diff_id"]] == scene.source.diff_ids(APP)
    assert abs(layer["size"] - 70_000) < 10_000
    assert list(result["bytes"]) == ["image", "delta", "sent", "received", "resumed"]
    assert 70_000 < result["bytes"]["sent"] < 200_000
    assert 0 < result["seconds"] <= run.json["seconds"] + 0.001
    assert run.stderr == ""


def test_bytes_sent_is_what_went_into_the_conduit(scene: Scene) -> None:
    """Counted by a command in between."""
    scene.load([scene.layer(150_000)])
    count = scene.rig.home / "sent"
    command = ["sh", "-c", f"tee {count} | {' '.join(scene.shell())}"]
    result = scene.push(APP, "--", *command, to="").result
    assert result["bytes"]["sent"] == count.stat().st_size
    count.unlink()


def test_a_log_gets_plain_lines_that_name_route_engine_and_savings(scene: Scene) -> None:
    scene.build(scene.base())
    run = scene.layerferry("push", APP, scene.target.ssh_alias, source=scene.source)
    assert "\r" not in run.stdout
    assert "\x1b" not in run.stdout
    for words in (
        scene.target.ssh_alias,
        "docker 28.",
        "1 layer to send",
        "route: ",
        " there",
        "% saved",
    ):
        assert words in run.stdout
    assert run.stderr == ""


# Platforms.


@pytest.mark.kinds(target=EACH_STORE)
def test_an_image_for_another_platform_is_refused_unless_it_is_allowed(scene: Scene) -> None:
    scene.load([scene.layer()], architecture="s390x")
    run = scene.push(APP, code=5)
    assert f"{APP} is for linux/s390x, {scene.target.ssh_alias} runs linux/" in run.stderr
    assert scene.target.images() == {}
    result = scene.push(APP, "--allow-platform-mismatch").result
    assert_arrived(scene, result)
    assert scene.target.inspect(APP)["Architecture"] == "s390x"


# Compression.


@pytest.mark.kinds(target=("docker20-overlay2", *EACH_STORE))
@pytest.mark.parametrize("method", ["zstd", "gzip", "none", "zstd:19", "gzip:9"])
def test_every_compression_arrives_on_every_store(scene: Scene, method: str) -> None:
    shop = scene.rig.workshop
    scene.load([shop.layer({"text": Text(1_000_000, scene.seed)})])
    result = scene.push(APP, "--compression", method).result
    sent = result["bytes"]["sent"]
    assert (sent > 1_000_000) if method == "none" else (SMALL < sent < 600_000)
    assert scene.target.diff_ids(APP) == scene.source.diff_ids(APP)


@pytest.mark.kinds(target=("docker20-overlay2",))
def test_an_old_docker_on_a_host_without_zstd_gets_gzip(scene: Scene) -> None:
    scene.load([scene.layer()])
    scene.target.machine.run("mv", "/usr/bin/zstd", "/usr/bin/zstd-is-away")
    try:
        assert_arrived(scene, scene.push(APP).result)
        run = scene.push(APP, "--compression", "zstd", "--name", OTHER, code=5)
    finally:
        scene.target.machine.run("mv", "/usr/bin/zstd-is-away", "/usr/bin/zstd")
    assert "does not take zstd" in run.stderr


@pytest.mark.kinds(source=("docker28-containerd",), target=("docker28-overlay2", "docker28-containerd"))
def test_layers_that_are_compressed_already_are_not_compressed_twice(scene: Scene) -> None:
    """A containerd store gives the gzip blobs that it pulled: about as many bytes go on the wire."""
    shop = scene.rig.workshop
    image = shop.image([shop.layer({"noise": Noise(1_500_000, scene.seed)})])
    name = scene.registry().push("base:1", image, compression="gzip-9")
    scene.source.docker("pull", "--quiet", name)
    result = scene.push(name, "--name", APP).result
    assert 1_500_000 < result["bytes"]["sent"] < 1_530_000
    assert_complete(scene.target, APP, scene.source.diff_ids(name))
