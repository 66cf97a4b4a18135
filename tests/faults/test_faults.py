"""Each cell of the table, with real engines: done and verified, or failed with the right code, the old image there
under its name, and nothing of ours left on either side; and then the next push is done, and has swept what is left.
"""

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from engines.moments import assert_one_sentence
from engines.test_push_scene import APP, SMALL, Scene
from faults.cells import CELLS, Cell
from faults.happenings import FULL, HAPPENINGS, HURRIED, resume, tidy
from faults.stage import NEW, STAGES, UNREAD, Stage
from rig import Engine, Rig
from rig.command import Layerferry
from rig.processes import RigError, wait_until

#: Seconds in which a push that is broken has to end, and in which nothing of it may be left; many times what they take.
ENDS = 90.0
#: The same where somebody has told it to end; a CI kills it then after some ten.
ENDS_AT_ONCE = 20.0
GONE = 40.0
#: The exit code where the source, or what is kept of it, fails.
SOURCE = 3
SLOW = "line of 64 kbit/s"
FULL_ENGINE = "disk of the engine full"
#: After these nobody was left who could tidy up: the next push has to.
ORPHANED = (
    "SIGKILL",
    "script killed",
    "engine killed",
    "engine restarted",
    "source killed",
    "engine stopped",
    "source stopped and SIGTERM",
)


def _parameters() -> Iterator[ParameterSet]:
    for cell in CELLS:
        marks = [] if cell.short else [pytest.mark.slow]
        yield pytest.param(cell, cell.kind, id=f"{cell.name} {cell.kind}".replace(", ", "-"), marks=marks)


@pytest.fixture
def stage(cell: Cell, rig: Rig, layerferry: Layerferry, source: Engine, tmp_path: Path) -> Iterator[Stage]:
    start = _small if cell.fault == FULL_ENGINE else _usual
    target = start(rig, cell.kind)
    scene = Scene(rig, layerferry, source, target, cell.name)
    stage = STAGES[cell.way](scene, tmp_path)
    yield stage
    resume(stage)
    stage.close()
    scene.close()
    target.clear()
    for path in rig.scratch.iterdir():  # of a cell that failed
        shutil.rmtree(path)


def _usual(rig: Rig, kind: str) -> Engine:
    return rig.engine(kind, name=f"faults-{kind}")


def _small(rig: Rig, kind: str) -> Engine:
    """A host whose engine keeps its images on 10 MB."""
    engine = rig.engine(kind, name=f"small-{kind}")
    store = "containers" if engine.kind.store == "podman" else "docker"
    if f" /var/lib/{store} tmpfs" not in engine.machine.run("cat", "/proc/mounts"):
        engine.stop()
        engine.machine.run("mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", f"/var/lib/{store}")
        engine.start()
    return engine


@pytest.mark.kinds(source="docker28-overlay2")
@pytest.mark.parametrize(("cell", "kind"), [*_parameters()])
def test_a_push_that_is_broken(
    cell: Cell, kind: str, stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    fault, _, how = cell.fault.partition(", ")
    stage.old()
    stage.new({SLOW: SMALL, "source killed": UNREAD}.get(fault, NEW))
    if fault == "base pruned":
        stage.base()
    before, old = stage.seen(), stage.shown()
    new = stage.scene.source.diff_ids(APP)
    with stage.quick_ticks() if fault in {"line dead", "engine stopped"} else contextlib.nullcontext():
        code, said = _push(stage, cell, before, fault, how)
        record_property("cell", [cell.fault, cell.station, f"{cell.way} ({cell.kind})", code, said])
    assert code in cell.ends, said
    if fault == FULL_ENGINE:
        assert re.search("[0-9]+ bytes free .*, [0-9]+ needed", said), "it is refused before the first byte"
    tidy(stage, fault)
    shown = stage.shown()
    if stage.line is not None:
        stage.line.close()
    if code == 0:
        assert shown == new
    elif not cell.named and fault != "name moved":
        assert shown == old
    else:
        assert shown in (old, new)
    if fault not in ORPHANED:
        _gone(stage, before)
    if fault != FULL_ENGINE:
        _again(stage, before, new)


def _push(stage: Stage, cell: Cell, before: dict[str, object], fault: str, how: str) -> tuple[int, str]:
    """The exit code, and what the push has to say."""
    stage.hurried = fault != SLOW
    stage.retries = 2 if how == "tried again" else 0
    if how == "export":
        stage.words = ["--route", "export", "--whole-layers"]  # a recipe is made of all of the source
    if "pushed" in how:
        stage.words = ["--route", "registry"]
    stage.twice = "two targets" in how
    if fault == "TMPDIR full":
        stage.before = ["sh", "-c", FULL, "sh"]
    rate = 8_000.0 if fault == SLOW else 0.0
    with stage.at("none" if rate else cell.station, rate) as held:
        process = stage.start(HURRIED.get(fault))
        if not rate and cell.station != "none":
            held.wait()
        HAPPENINGS[fault](stage, process)
        if fault != "line dead" or cell.station not in {"connecting", "sending"}:
            held.go_on()
        stdout, stderr = process.communicate(timeout=ENDS_AT_ONCE if "SIGTERM" in fault else ENDS)
        resume(stage)
        if fault == "line dead" and stage.line is not None:  # sshd itself waits for its kernel to give up
            _gone(stage, before, but="sshd")
            stage.line.close()
    text = stderr.decode()
    assert "Traceback" not in text + stdout.decode()
    if process.returncode > 0 and not stage.twice:
        assert_one_sentence(text, "")
    if process.returncode > 0 and fault == "TMPDIR full":
        assert re.search(r"layers cannot be kept in \S+: .* needed", text)
        assert "TMPDIR names the folder" in text
    said = text.strip().splitlines() or stdout.decode().strip().splitlines()[-1:] or [""]
    return process.returncode, said[0].removeprefix("layerferry: ")


def _gone(stage: Stage, before: dict[str, object], but: str = " ") -> None:
    """Nothing of ours is left, in a while; of processes that start with `but` some may be."""
    left: list[str] = []

    def nothing() -> bool:
        left[:] = [each for each in stage.left(before) if not each.startswith(but)]
        return not left

    try:
        wait_until(nothing, "", seconds=GONE)
    except RigError:
        pytest.fail(f"this is left: {left}")


def _again(stage: Stage, before: dict[str, object], new: list[str]) -> None:
    """The next push is done, and has swept what a dead one has left."""
    stage.words, stage.before, stage.retries = [], [], 0
    with stage.at("none"):
        process = stage.start()
        stdout, stderr = process.communicate(timeout=ENDS)
    assert process.returncode == 0, f"the next push: {stderr.decode()}"
    assert "verified" in stdout.decode()
    assert stage.shown() == new
    _gone(stage, before)


def test_the_table_has_all_that_it_should() -> None:
    """At least 80 cells, each once; a short form that has each kind of end."""
    assert len(CELLS) >= 80
    assert len({(cell.name, cell.kind) for cell in CELLS}) == len(CELLS)
    assert {cell.way for cell in CELLS if cell.short} == set(STAGES)
