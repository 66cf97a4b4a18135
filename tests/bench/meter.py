"""What a command takes: seconds, bytes on the links, CPU on all sides, memory."""

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rig import Engine
from rig.processes import children

#: Seconds between two looks at the memory.
_PAUSE = 0.04


@dataclass(frozen=True, slots=True)
class Measured:
    """A command that has ended. CPU is that of the client's processes, and of all on the source's and target's machine.

    `memory` is the most that the client's processes held together, `memory_target` that of what sshd started there.
    """

    code: int
    stderr: str
    seconds: float
    sent: int
    heard: int
    cpu: float
    cpu_source: float
    cpu_target: float
    memory: int
    memory_target: int


def measure(
    script: str, environment: Mapping[str, str], source: Engine, targets: Sequence[Engine], patience: float
) -> Measured:
    """Run a script of bash to its end; raises `TimeoutError` when that does not come in so many seconds."""
    cpu_source, cpu_target, passed = _cpu([source]), _cpu(targets), _passed(targets)
    bash = shutil.which("bash") or "/bin/bash"
    with tempfile.TemporaryFile() as err:
        began = time.monotonic()
        process = subprocess.Popen(
            [bash, "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=err,
            env=dict(environment),
            start_new_session=True,
        )
        memory, memory_target = _watch(process.pid, targets, began + patience)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        err.seek(0)
        complained = err.read().decode(errors="replace")
    sent, heard = (now - then for now, then in zip(_passed(targets), passed, strict=True))
    return Measured(
        process.returncode,
        complained,
        seconds,
        sent,
        heard,
        usage.ru_utime + usage.ru_stime,
        _cpu([source]) - cpu_source,
        _cpu(targets) - cpu_target,
        memory,
        memory_target,
    )


def _watch(pid: int, targets: Sequence[Engine], deadline: float) -> tuple[int, int]:
    """Wait for the end; returns the peaks of memory."""
    here = there = 0
    ended = select.poll()
    handle = os.pidfd_open(pid)
    try:
        ended.register(handle, select.POLLIN)
        sshds = [target.sshd.process.pid for target in targets if target.sshd]
        while not ended.poll(_PAUSE * 1000):
            here = max(here, _held(_tree([pid])))
            there = max(there, _held(_tree(sshds)[len(sshds) :]))
            if time.monotonic() > deadline:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise TimeoutError("it did not end in time")
    finally:
        os.close(handle)
    return here, there


def _tree(roots: Sequence[int]) -> list[int]:
    """Processes, and all below them."""
    found = list(roots)
    for pid in found:  # which grows meanwhile
        found += children(pid)
    return found


def _held(pids: Iterable[int]) -> int:
    """The sum of what each has held at most, so that a short peak between two looks counts."""
    return sum(map(_peak, pids))


def _peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def _passed(targets: Iterable[Engine]) -> tuple[int, int]:
    """Bytes to and from the targets since they started, by the counters of their interfaces."""
    sent = heard = 0
    for target in targets:
        assert target.machine.network
        counters = Path("/sys/class/net", target.machine.network.device, "statistics")
        sent += int((counters / "tx_bytes").read_text())
        heard += int((counters / "rx_bytes").read_text())
    return sent, heard


def _cpu(engines: Iterable[Engine]) -> float:
    """Seconds of CPU of all processes of some machines, and of those that they have waited for."""
    ticks = 0
    for engine in engines:
        for pid in engine.machine.processes():
            try:
                ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
            except OSError:  # gone meanwhile
                continue
    return ticks / os.sysconf("SC_CLK_TCK")
