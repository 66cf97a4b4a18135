"""What real engines keep of the images that they had before a push, and what goes."""

import os
from pathlib import Path

import pytest

from engines.test_push_scene import APP, Json, Scene, actions
from rig import BARE, ENGINES, Containerd, Engine

LATEST, PREVIOUS = "push-test/app:latest", "push-test/app:previous"


def release(scene: Scene, number: int, *words: str) -> Json:
    """Push a release as app:latest and app:vN, built in the year 2020 + N; the result."""
    scene.source.clear()
    scene.load([scene.layer(name="base"), scene.layer(20_000, f"v{number}")], created=f"202{number}-01-01T00:00:00Z")
    names = ["--name", LATEST, "--name", f"push-test/app:v{number}"]
    result: Json = scene.push(APP, *names, "--keep-previous", "previous", *words).result
    assert result["verified"] is True
    return result


def make_container(target: Engine, name: str) -> None:
    """A container that never ran, of what the name stands for now."""
    if isinstance(target, Containerd):
        target.ctr("containers", "create", f"docker.io/{name}", "keeps", "/app")
    else:
        target.docker("create", "--name", "keeps", f"docker.io/{name}", "/app")


def remove_container(target: Engine) -> None:
    if isinstance(target, Containerd):
        target.ctr("containers", "rm", "keeps")
    else:
        target.docker("rm", "keeps")


def tags(target: Engine) -> dict[str, str]:
    """The image IDs by tag; none is without a name."""
    found = {name: image for name, image in target.images().items() if not name.startswith("sha256:")}
    assert {name.rpartition(":")[0] for name in found} == {"push-test/app"}
    return {name.rpartition(":")[2]: image for name, image in found.items()}


@pytest.mark.kinds(target=(*ENGINES, *BARE))
def test_a_name_keeps_a_way_back_and_what_nobody_needs_goes(scene: Scene) -> None:
    target = scene.target
    first = release(scene, 1)
    assert first["kept"] == []
    # It is made of a name that moves: the engine has to tell which image it is of.
    make_container(target, LATEST)
    try:
        second = release(scene, 2)
        assert [image["image_id"] for image in second["kept"]] == [first["image_id"]]
        assert tags(target)["previous"] == first["image_id"]
        again = scene.push(APP, "--name", LATEST, "--keep-previous", "previous").result
        assert (again["kept"], again["image_id"]) == ([], second["image_id"])
        assert tags(target)["previous"] == first["image_id"]
        third = release(scene, 3)
        fourth = release(scene, 4, "--prune", "1")
        assert actions(fourth) == ["reuse", "send"]
        pruned = [(image["image_id"], image["names"]) for image in fourth["pruned"]]
        assert pruned == [(second["image_id"], ["docker.io/push-test/app:v2"])]
        assert tags(target) == {
            "v1": first["image_id"],
            "v3": third["image_id"],
            "previous": third["image_id"],
            "v4": fourth["image_id"],
            "latest": fourth["image_id"],
        }
        for before, after in ((fourth, third), (third, fourth)):
            back = scene.layerferry("rollback", target.ssh_alias, LATEST, "--json").result
            assert (back["image_id"], back["verified"]) == (after["image_id"], True)
            now = tags(target)
            assert (now["latest"], now["previous"]) == (after["image_id"], before["image_id"])
        assert len(now) == 5, "no throw-away name is left"
    finally:
        remove_container(target)


@pytest.mark.kinds(target=("docker28-overlay2", "docker28-containerd", "podman5"))
def test_an_image_that_lost_its_last_name_goes_and_others_without_a_name_stay(scene: Scene) -> None:
    target = scene.target
    # Somebody else's, on an image that is somebody else's too.
    scene.load([scene.layer(name="theirs")], "push-test/theirs:1")
    scene.push("push-test/theirs:1")
    target.docker("create", "--name", "keeps", "docker.io/push-test/theirs:1", "/app")
    target.docker("commit", "keeps")
    target.docker("rm", "keeps")
    others = target.images()
    assert len([name for name in others if name.startswith("<none>")]) == 1
    scene.load([scene.layer(name="old")])
    old = scene.push(APP).result["image_id"]
    scene.source.clear()
    scene.load([scene.layer(name="new")])
    result = scene.push(APP, "--prune", "5").result
    assert result["pruned"] == [{"image_id": old, "names": []}]
    assert target.images() == {**others, APP: result["image_id"]}


@pytest.mark.kinds(target=(*ENGINES, *BARE))
def test_an_old_image_that_has_two_tags_goes(scene: Scene) -> None:
    """By its ID no docker takes it."""
    first = release(scene, 1)
    scene.push(APP, "--name", "push-test/app:also", "--name", "push-test/app:v1")
    second = release(scene, 2)
    third = release(scene, 3, "--prune", "1")
    gone = {image["image_id"]: sorted(image["names"]) for image in third["pruned"]}
    assert gone == {first["image_id"]: ["docker.io/push-test/app:also", "docker.io/push-test/app:v1"]}
    assert tags(scene.target) == {
        "v2": second["image_id"],
        "previous": second["image_id"],
        "v3": third["image_id"],
        "latest": third["image_id"],
    }


@pytest.mark.kinds(target=("docker28-overlay2",))
def test_a_dry_run_tells_what_would_go(scene: Scene) -> None:
    ids = [release(scene, number)["image_id"] for number in (1, 2, 3)]
    before = scene.target.images()
    result = scene.push(APP, "--name", LATEST, "--prune", "1", "--dry-run").result
    assert [image["image_id"] for image in result["pruned"]] == ids[:1], "the second has the way back"
    assert scene.target.images() == before


@pytest.mark.kinds(target=("docker28-overlay2",))
def test_the_images_of_a_compose_file_go_over_as_far_as_the_daemon_has_them(scene: Scene, tmp_path: Path) -> None:
    """A stand-in for compose, which prints what the file has."""
    (tmp_path / "docker-compose").write_text(
        '#!/bin/sh\n[ "$1" = --file ] || { echo 2.26.1; exit; }\nsed "s/TAG/$TAG/" "$2"\n'
    )
    (tmp_path / "docker-compose").chmod(0o755)
    (tmp_path / "docker").symlink_to("/bin/false")
    file = tmp_path / "compose.yaml"
    file.write_text("push-test/app:TAG\npush-test/web:TAG\npostgres:16\n")
    for name in ("push-test/app:7", "push-test/web:7"):
        scene.load([scene.layer(name=name)], name)
    env = {"PATH": f"{tmp_path}:{scene.rig.ssh.bin}:{os.environ['PATH']}", "TAG": "7"}
    run = scene.push("--compose", str(file), env=env)
    assert [result["image"] for result in run.json["results"]] == ["push-test/app:7", "push-test/web:7"]
    assert set(scene.target.images()) == {"push-test/app:7", "push-test/web:7"}
    assert "left to the host, since this job's daemon has not it: postgres:16" in run.stderr
