"""A large push that breaks off on its way to a real end, and the same push again: no byte goes twice.

Both together have at most 1.03 times the bytes of one push that nothing disturbs; what arrived is nowhere afterwards.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from engines.test_push_scene import APP, Scene, our_ssh
from faults.cells import API, BLOBS, COMMAND, CTR, PODMAN, RECEIVER, End
from faults.happenings import HAPPENINGS
from faults.line import Line
from faults.stage import STAGES, Stage
from rig import Engine, Rig
from rig.command import Layerferry
from rig.processes import wait_until

MB = 1_000_000
#: Of noise, so that as many bytes go.
USUAL, LARGE, SLOW = 100 * MB, 1000 * MB, 64 * MB
TWICE = 1.03
#: Seconds, many times what it takes.
ENDS = 300.0


@dataclass(frozen=True, slots=True)
class Break:
    """What happens to which end, when so much of so many bytes has gone; `retries` of the first push."""

    fault: str
    end: End
    share: float
    size: int = USUAL
    retries: int = 0
    #: Bytes a second of a line on which it pays to look at what the target has: the layer goes as a recipe.
    rate: float = 0.0

    @property
    def name(self) -> str:
        again = "-tried-again" if self.retries else ""
        again += "-recipe" if self.rate else ""
        return f"{self.fault}{again}-{self.share:.0%}-{self.end[0]}-{self.size // MB}MB".replace(" ", "-")


SHORT = (
    Break("session killed", API, 0.5),
    Break("line cut", BLOBS, 0.95, retries=2),
    Break("SIGKILL", RECEIVER, 0.1),
    Break("line cut", API, 0.5, SLOW, rate=6e6),
    Break("SIGKILL", RECEIVER, 0.5, SLOW, rate=6e6),
)
LONG = tuple(
    Break(fault, end, share, LARGE)
    for end in (COMMAND, API, BLOBS, CTR, PODMAN, RECEIVER)
    for fault, share in (
        ("line cut", 0.1),
        ("line cut", 0.5),
        ("line cut", 0.95),
        ("SIGKILL", 0.5),
        ("session killed", 0.5),
    )
)


def _parameters() -> Iterator[ParameterSet]:
    for each in (*SHORT, *LONG):
        marks = [] if each in SHORT else [pytest.mark.slow]
        yield pytest.param(each, each.end[1], id=f"{each.name}-{each.end[1]}", marks=marks)


@pytest.fixture
def stage(broken: Break, rig: Rig, layerferry: Layerferry, source: Engine, tmp_path: Path) -> Iterator[Stage]:
    target = rig.engine(broken.end[1], name=f"faults-{broken.end[1]}")
    scene = Scene(rig, layerferry, source, target, broken.name)
    stage = STAGES[broken.end[0]](scene, tmp_path)
    with target.machine.python() if broken.rate else contextlib.nullcontext():
        yield stage
        stage.close()
    scene.close()
    target.clear()


def push(stage: Stage) -> tuple[int, str]:
    """Start a push, and wait for its end: its exit code, and what it says."""
    process = stage.process or stage.start()
    stdout, stderr = process.communicate(timeout=ENDS)
    stage.process = None
    assert b"Traceback" not in stderr
    return process.returncode, (stdout + stderr).decode()


@pytest.mark.kinds(source="docker28-overlay2")
@pytest.mark.parametrize(("broken", "kind"), [*_parameters()])
def test_a_large_push_goes_on_behind_what_has_arrived(broken: Break, kind: str, stage: Stage) -> None:
    stage.old()
    stage.new(broken.size)
    before, old = stage.seen(), stage.shown()
    new = stage.scene.source.diff_ids(APP)
    stage.retries = broken.retries
    stage.line = Line(stage.port, at=int(broken.share * broken.size), rate=broken.rate)
    process = stage.start()
    wait_until(stage.line.reached.is_set, "the push does not come so far", seconds=ENDS)
    HAPPENINGS[broken.fault](stage, process)
    stage.line.go_on()
    code, said = push(stage)
    went = stage.line.up
    if broken.retries:
        assert code == 0, said
    else:
        assert code != 0, said
        assert stage.shown() == old
        # What ssh and the line hold still arrives, unless that is what was cut: to close the line would lose it.
        wait_until(lambda: not our_ssh(stage.scene.rig), "the first push's ssh goes on", seconds=ENDS)
        stage.line.close()
        stage.line = Line(stage.port, rate=broken.rate)
        code, said = push(stage)
        went += stage.line.up
    assert (code, stage.shown()) == (0, new), said
    assert "left by an earlier try" in said
    assert not broken.rate or "patched: " in said, said
    assert went <= TWICE * broken.size, f"{went / broken.size:.4f} of it went"
    stage.line.close()
    wait_until(lambda: not stage.left(before), f"this is left: {stage.left(before)}", seconds=40)
