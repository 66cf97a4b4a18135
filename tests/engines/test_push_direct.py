"""Layers that root reads where the source's daemon keeps them, on the same machine."""

import time

import pytest

from engines.test_push_many import events, to
from engines.test_push_scene import APP, NEWEST, Scene, actions, assert_arrived, assert_complete
from rig import OVERLAY2, Engine

pytestmark = pytest.mark.kinds(target=NEWEST)

LARGE = 40_000_000


@pytest.mark.kinds(source=OVERLAY2)
def test_large_layers_are_read_in_their_folders_and_the_daemon_neither_saves_nor_pushes(scene: Scene) -> None:
    scene.load([scene.layer(LARGE, "a"), None, scene.layer(10_000, "b")])
    began = time.time()
    result = scene.push(APP, "--whole-layers").result
    assert result["route"]["name"] == "direct"
    assert "/var/lib/docker/overlay2" in result["route"]["reason"]
    assert LARGE < result["bytes"]["received"] < LARGE + 100_000
    assert events(scene.source, began, "save") + events(scene.source, began, "push") == 0
    assert_arrived(scene, result)


@pytest.mark.kinds(source=OVERLAY2)
def test_what_a_target_has_is_not_read(scene: Scene) -> None:
    below = scene.layer(LARGE, "a")
    scene.load([below, scene.layer(LARGE, "b")])
    scene.push(APP)
    scene.load([below, scene.layer(LARGE, "c")])
    result = scene.push(APP).result
    assert (result["route"]["name"], actions(result)) == ("direct", ["reuse", "send"])
    assert LARGE < result["bytes"]["received"] < LARGE + 100_000
    assert_arrived(scene, result)


@pytest.mark.kinds(source=NEWEST)
def test_they_are_read_once_for_all_targets(scene: Scene, others: list[Engine]) -> None:
    scene.load([scene.layer(LARGE, "a"), scene.layer(10_000, "b")])
    results = scene.push(APP, *to(others)).json["results"]
    assert {result["route"]["name"] for result in results} == {"direct"}
    for engine in (scene.target, *others):
        assert_complete(engine, APP, scene.source.diff_ids(APP))


@pytest.mark.kinds(source=NEWEST)
def test_a_folder_that_cannot_be_read_is_told_and_the_daemon_is_asked(scene: Scene) -> None:
    """The daemon itself knows the folder's name since its start."""
    scene.load([scene.layer(LARGE, "a"), scene.layer(LARGE, "b")])
    names = scene.source.machine.run("find", "/var/lib/docker/image/overlay2/layerdb/sha256", "-name", "cache-id")
    for name in names.split():
        scene.source.machine.run("mv", name, f"{name}-away")
    try:
        run = scene.push(APP)
    finally:
        for name in names.split():
            scene.source.machine.run("mv", f"{name}-away", name)
    assert "the route direct failed, export goes on: layer sha256:" in run.stderr
    assert run.result["route"]["name"] == "export"
    assert_arrived(scene, run.result)


@pytest.mark.kinds(source=NEWEST)
def test_a_layer_that_somebody_has_altered_there_arrives_nowhere(scene: Scene) -> None:
    scene.load([scene.layer(LARGE, "a")])
    upper = scene.source.inspect(APP)["GraphDriver"]["Data"]["UpperDir"]
    scene.source.machine.run("sh", "-c", f"printf x | dd of={upper}/a conv=notrunc bs=1 seek=1000 2>/dev/null")
    before = scene.target.images()
    run = scene.push(APP, code=3)
    assert "is damaged: what should be sha256:" in run.stderr
    assert scene.target.images() == before


@pytest.mark.kinds(source=NEWEST)
def test_a_route_that_is_named_is_another(scene: Scene) -> None:
    scene.load([scene.layer(LARGE, "a")])
    assert scene.push(APP, "--route", "export").result["route"]["name"] == "export"
