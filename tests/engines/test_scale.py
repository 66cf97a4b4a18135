"""How many images a host has shows neither in the bytes nor in the number of questions to its engine."""

import pytest

from engines.test_push_scene import Scene, actions, asked_with, assert_arrived
from rig import Rig

COUNTER = """\
#!/bin/sh
printf '%s\\n' "$*" >>/run/rig/calls
exec /usr/bin/{program} "$@"
"""


def measured(scene: Scene, name: str, expected: list[str]) -> tuple[int, int, list[str]]:
    """Push `name`, of whose layers that becomes what is `expected`: bytes that we sent, bytes that the target answered,
    and what its engine was asked."""
    machine, program = scene.target.machine, asked_with(scene.target)
    answer, calls = scene.rig.home / "answer", machine.run_folder / "calls"
    calls.write_text("")
    machine.write(f"/usr/local/bin/{program}", COUNTER.format(program=program), mode=0o755)
    try:
        command = ["sh", "-c", f"{' '.join(scene.shell())} | tee {answer}"]
        result = scene.push(name, "--", *command, to="").result
        assert actions(result) == expected
        assert_arrived(scene, result, name)
        return result["bytes"]["sent"], answer.stat().st_size, calls.read_text().splitlines()
    finally:
        machine.run("rm", f"/usr/local/bin/{program}")
        answer.unlink()


def compare(scene: Scene, rig: Rig) -> None:
    """Push to a host with no image, with one, and with 2,000 more, of which one has a layer that is wanted.

    podman takes 25 s of CPU to show so many; it is asked once.
    """
    names = [f"push-test/scale:{number}" for number in range(3)]
    for name, below in zip(names, ([], [], [rig.workshop.crowd_layer()]), strict=True):
        scene.load([*below, scene.layer(30_000, name)], name)
    none = measured(scene, names[0], ["send"])
    one = measured(scene, names[1], ["send"])
    if scene.target.kind.store == "podman":
        scene.target.clear()  # its crowd moves in only where nobody is
    scene.target.crowd(rig.workshop, 2000)
    assert len(scene.target.images()) >= 2000
    many = measured(scene, names[2], ["reuse", "send"])
    for sent, answered, calls in (one, many):
        assert abs(sent - none[0]) < 1000
        assert abs(answered - none[1]) < 200
        assert len(calls) <= len(none[2]) + 4  # `xargs` splits 2,000 IDs into a few lots
    assert max(map(len, many[2])) < 1 << 17


@pytest.mark.kinds(target=("docker28-overlay2", "podman5"))
def test_2000_images_cost_no_more_bytes_and_no_more_questions_than_one(scene: Scene, rig: Rig) -> None:
    compare(scene, rig)


@pytest.mark.slow
@pytest.mark.kinds(target=("docker28-containerd",))
def test_2000_images_in_a_containerd_store_cost_no_more_bytes_either(scene: Scene, rig: Rig) -> None:
    """Its engine takes some 30 ms to show one image."""
    compare(scene, rig)
