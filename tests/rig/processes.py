"""Processes of a rig: each is written down when it starts, and ended by its pid, never by a name."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class RigError(Exception):
    """Something that the rig needs did not come up."""


@dataclass(frozen=True, slots=True)
class Process:
    """A pid with its start time, so that a pid which was given away again is never mistaken for ours."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        return started_at(self.pid) == self.started

    def send(self, number: signal.Signals) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def started_at(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot; None when it is gone, or dead and only not yet waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def pids() -> list[int]:
    """Those of every process."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - a Path for each is slow


def command_lines() -> Iterator[tuple[int, bytes]]:
    """Every process with its words, each with a NUL behind it."""
    for pid in pids():
        try:
            with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:  # noqa: PTH123 - a Path for each is slow
                line = file.read()
        except OSError:  # gone meanwhile
            continue
        yield pid, line


def children(pid: int) -> list[int]:
    """The pids whose parent is `pid`; none of a process that is gone."""
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def stop(processes: Iterable[Process], *, grace: float = 10) -> None:
    """End `processes`: SIGTERM to all, then SIGKILL to those that are still there after `grace` seconds."""
    mine = [process for process in processes if process.alive]
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        for process in mine:
            process.send(number)
        deadline = time.monotonic() + seconds
        while mine and time.monotonic() < deadline:
            time.sleep(0.02)
            mine = [process for process in mine if process.alive]


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 60) -> None:
    """Return as soon as `condition` holds; raises `RigError` that names `what` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RigError(f"{what} after {seconds:.0f} seconds")
        time.sleep(0.02)


class Ledger:
    """What a rig has started, in memory and in a file, so that another process can end it all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._popen: list[subprocess.Popen[bytes]] = []

    def start(
        self, argv: Sequence[str | os.PathLike[str]], *, log: Path, env: Mapping[str, str] | None = None
    ) -> Process:
        """Start `argv` in a session of its own, with its output in `log`, and write it down."""
        with log.open("ab") as out:
            popen = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env=env
            )
        process = Process(popen.pid, started_at(popen.pid) or 0)
        self.note(process)
        with self._lock:
            self._popen.append(popen)
        return process

    def note(self, process: Process) -> None:
        with self._lock, self.path.open("a") as file:
            file.write(json.dumps([process.pid, process.started]) + "\n")

    def processes(self) -> list[Process]:
        if not self.path.exists():
            return []
        return [Process(*json.loads(line)) for line in self.path.read_text().splitlines()]

    def stop_all(self) -> None:
        """End everything that is written down, last one first, and wait for those that this process started."""
        stop(reversed(self.processes()))
        with self._lock:
            for popen in self._popen:
                popen.wait(timeout=10)
            self._popen.clear()
