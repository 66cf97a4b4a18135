"""Many targets and many images in one command: what is read once, what is sent once, and what one failure costs."""

import time

import pytest

from engines.test_push_scene import APP, Scene, assert_complete, look, our_ssh, running
from rig import Engine
from rig.processes import wait_until

pytestmark = pytest.mark.kinds(source=("docker28-overlay2",), target=("docker28-overlay2",))


def to(engines: list[Engine]) -> list[str]:
    """The words that make them targets too."""
    return [word for engine in engines for word in ("--to", engine.ssh_alias)]


def events(engine: Engine, since: float, action: str) -> int:
    """How often a daemon has done something to an image since then; not in the same second before that."""
    lines = engine.docker("events", "--since", f"{since:.9f}", "--until", str(int(time.time()) + 1), "--format",
                          "{{.Type}} {{.Action}}").splitlines()  # fmt: skip
    return lines.count(f"image {action}")


@pytest.mark.parametrize("route", ["export", "registry"])
def test_an_image_is_read_once_for_all_targets(scene: Scene, others: list[Engine], route: str) -> None:
    scene.load([scene.layer(3_000_000, "a"), scene.layer(300_000, "b")])
    targets = [scene.target, *others]
    began = time.time()
    run = scene.push(APP, *to(others), "--route", route)
    assert [result["verified"] for result in run.json["results"]] == [True] * len(targets)
    assert {result["route"]["name"] for result in run.json["results"]} == {route}
    assert {result["bytes"]["received"] for result in run.json["results"]} <= set(range(3_300_000, 3_500_000))
    assert events(scene.source, began, "save") == (1 if route == "export" else 0)
    for engine in targets:
        assert_complete(engine, APP, scene.source.diff_ids(APP))


def test_each_target_gets_only_what_it_lacks(scene: Scene, others: list[Engine]) -> None:
    """What one of them lacks is read; who has it already is not sent it."""
    scene.load([scene.layer(2_000_000, "a")])
    scene.push(APP)
    scene.load([scene.layer(2_000_000, "a"), scene.layer(10_000, "b")])
    first, *rest = scene.push(APP, *to(others), "--compression", "none").json["results"]
    assert first["bytes"]["sent"] < 100_000
    assert all(result["bytes"]["sent"] > 2_000_000 for result in rest)
    for engine in (scene.target, *others):
        assert_complete(engine, APP, scene.source.diff_ids(APP))


@pytest.mark.kinds(target=("docker20-overlay2",))
@pytest.mark.parametrize("jobs", [1, 2])
def test_some_at_a_time_and_whoever_comes_later_finds_the_layers_kept(
    scene: Scene, others: list[Engine], jobs: int
) -> None:
    """docker 20 takes no zstd, and gets gzip of what is kept as zstd for the others."""
    scene.load([scene.layer(2_000_000, "a"), scene.layer(10_000, "b")])
    began = time.time()
    run = scene.push(APP, *to(others), "--jobs", str(jobs), "--route", "export")
    assert all(result["verified"] for result in run.json["results"])
    assert events(scene.source, began, "save") == 1
    for engine in (scene.target, *others):
        assert_complete(engine, APP, scene.source.diff_ids(APP))


def test_one_that_is_unreachable_costs_the_others_nothing(scene: Scene, others: list[Engine]) -> None:
    scene.load([scene.layer(100_000)])
    run = scene.push(APP, *to(others), "--to", "no-such-host.invalid", code=4)
    *good, bad = run.json["results"]
    assert all(result["verified"] for result in good)
    assert bad["error"]["exit_code"] == 4


def test_an_image_that_is_not_there_is_told_once_for_each_target_and_changes_none(
    scene: Scene, others: list[Engine]
) -> None:
    before = [look(engine) for engine in others]
    run = scene.push("push-test/no-such:1", *to(others), code=3)
    assert [result["error"]["exit_code"] for result in run.json["results"]] == [3] * (1 + len(others))
    assert [look(engine) for engine in others] == before


def test_an_interrupt_ends_every_push_and_leaves_nothing(scene: Scene, others: list[Engine]) -> None:
    scene.load([scene.layer(30_000_000, "a")])
    before, processes = [look(engine) for engine in others], [running(engine) for engine in others]
    process = scene.layerferry.start(
        "push", APP, scene.target.ssh_alias, *to(others), "--route", "export", source=scene.source
    )
    wait_until(lambda: len(our_ssh(scene.rig)) == 1 + len(others), "they do not connect", seconds=30)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 130
    for engine, images, lines in zip(others, before, processes, strict=True):
        wait_until(lambda: running(engine) <= lines, "what runs on the target does not end", seconds=15)  # noqa: B023
        assert look(engine) == images
    assert our_ssh(scene.rig) == []
