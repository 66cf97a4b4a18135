"""What happens to a push that is held: to its client, its line, the processes on its way, the engine, the source."""

import signal
from collections.abc import Callable, Mapping
from subprocess import Popen

from engines.moments import interrupt
from engines.test_push_scene import APP
from faults.stage import OTHER, RegistryEnd, Stage
from rig.processes import Process, wait_until

Happen = Callable[[Stage, "Popen[bytes]"], None]


def _signal(number: signal.Signals) -> Happen:
    return lambda _stage, process: interrupt(process, number)


def _cut(stage: Stage, process: Popen[bytes]) -> None:
    assert stage.line is not None
    stage.line.cut()


def _hold(stage: Stage, process: Popen[bytes]) -> None:
    assert stage.line is not None
    stage.line.hold()


def _send(found: "list[Process]", number: signal.Signals) -> "list[Process]":
    assert found, f"there is nobody for {number.name}"
    for each in found:
        each.send(number)
    return found


def _kill(who: Callable[[Stage], "list[Process]"]) -> Happen:
    def kill(stage: Stage, process: Popen[bytes]) -> None:
        found = _send(who(stage), signal.SIGKILL)
        wait_until(lambda: not any(each.alive for each in found), "what was killed does not end")

    return kill


def _stop(who: Callable[[Stage], "list[Process]"]) -> Happen:
    def stop(stage: Stage, process: Popen[bytes]) -> None:
        stage.stopped = _send(who(stage), signal.SIGSTOP)

    return stop


def _restart(stage: Stage, process: Popen[bytes]) -> None:
    _kill(Stage.engine)(stage, process)
    stage.restart()


def _source(stage: Stage) -> list[Process]:
    return list(stage.scene.source.daemons)


def _interrupt_stopped(stage: Stage, process: Popen[bytes]) -> None:
    _stop(_source)(stage, process)
    interrupt(process, signal.SIGTERM)


def _registry(stage: Stage) -> list[Process]:
    assert isinstance(stage, RegistryEnd)
    return [stage.registry.process]


def _prune(stage: Stage, process: Popen[bytes]) -> None:
    """Take away every image that a push may build on, as `docker image prune --all` does."""
    target = stage.target
    for name in [name for name in target.images() if name.startswith("push-test/base")]:
        if target.kind.program in {"docker", "podman"}:
            target.docker("rmi", "--force", name)
        else:
            target.machine.run("ctr", "--namespace", "default", "images", "rm", "--sync", f"docker.io/{name}")


def _move(stage: Stage, process: Popen[bytes]) -> None:
    target = stage.target
    if target.kind.program in {"docker", "podman"}:
        target.docker("tag", OTHER, APP)
    else:
        names = ("docker.io/" + OTHER, "docker.io/" + APP)
        target.machine.run("ctr", "--namespace", "default", "images", "tag", "--force", *names)


def _nothing(stage: Stage, process: Popen[bytes]) -> None:
    """It was there before the push began."""


HAPPENINGS: Mapping[str, Happen] = {
    **{f"SIG{name}": _signal(getattr(signal, f"SIG{name}")) for name in ("INT", "TERM", "HUP", "KILL")},
    "line cut": _cut,
    "line dead": _hold,
    "line of 64 kbit/s": _nothing,
    "ssh killed": _kill(lambda stage: stage.ssh()),
    "session killed": _kill(lambda stage: stage.session()),
    "script killed": _kill(lambda stage: stage.script()),
    "engine killed": _kill(lambda stage: stage.engine()),
    "engine stopped": _stop(lambda stage: stage.engine()),
    "engine restarted": _restart,
    "base pruned": _prune,
    "name moved": _move,
    "disk of the engine full": _nothing,
    "source killed": _kill(_source),
    "source stopped": _stop(_source),
    "source stopped and SIGTERM": _interrupt_stopped,
    "TMPDIR full": _nothing,
    "registry killed": _kill(_registry),
    "registry stopped": _stop(_registry),
}

#: Bounds of `layerferry.oci.limits` where one would have to wait for its end: the same waits, some seconds long.
_SOON = 4.0
HURRIED: Mapping[str, Mapping[str, float]] = {
    "line dead": {"HELLO": 8.0, "SILENCE": 3, "ANSWER_BEGINS": 3.0},
    "engine stopped": {"LOADED": _SOON, "ANSWER": _SOON, "NAMED": _SOON, "TAKEN": _SOON},
    "source stopped": {"SAVED": _SOON, "DAEMON": _SOON},
    "registry stopped": {"SILENCE": 3, "ANSWER_BEGINS": 3.0},
    "registry killed": {"SILENCE": 3, "ANSWER_BEGINS": 3.0},
}
#: Full disks, and a shell that gives a process one.
FULL = 'exec unshare -m sh -c \'mount -t tmpfs -o size=4m none "$TMPDIR" && exec "$@"\' sh "$@"'


def resume(stage: Stage) -> None:
    for each in stage.stopped:
        each.send(signal.SIGCONT)
    stage.stopped = []


def tidy(stage: Stage, fault: str) -> None:
    """Put what was broken in order again, as somebody does who then pushes once more."""
    resume(stage)
    if fault == "engine killed":
        stage.restart()
    if fault == "source killed":
        stage.scene.source.stop()
        stage.scene.source.start()
    if fault == "registry killed" and isinstance(stage, RegistryEnd):
        stage.registry.start(stage.target.machine.ledger)
