"""The command as a process with bounds: it is killed where it holds too much memory or disk, or does not end."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import fork_server

MOST_MEMORY = 200_000_000
#: Bytes in its temporary folder. No case has a layer as large.
MOST_SPOOLED = 600_000_000
SECONDS = 30.0
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that ended. `broke` is the bound for which it was killed, or empty; `left` what stayed in TMPDIR."""

    code: int
    stdout: bytes
    stderr: bytes
    broke: str
    left: tuple[str, ...]
    seconds: float
    peak: int


class Command:
    """`folder` is its own: home, temporary files, what it prints. `shell` may redirect: `exec "$@" <&-`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.spool = folder / "spool"
        for path in (self.home, self.spool):
            path.mkdir(parents=True)

    def __call__(self, *words: str | bytes, env: Mapping[str, str] | None = None, shell: str = "") -> Outcome:
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.home), "TMPDIR": str(self.spool)}
        environment["LAYERFERRY_RETRIES"] = "0"  # who lies once is not asked again
        argv = fork_server.command(*words)
        start: Callable[..., subprocess.Popen[bytes]] = fork_server.start
        if shell:
            argv, start = ["sh", "-c", shell, "sh", *argv], subprocess.Popen
        out, err = self.folder / "stdout", self.folder / "stderr"
        began = time.monotonic()
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = start(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment | dict(env or {}),
                cwd=self.folder,
                start_new_session=True,
            )
            peak, broke = self._watch(process, began + SECONDS * load())
        left = tuple(sorted(path.name for path in self.spool.iterdir()))
        return Outcome(
            process.returncode, out.read_bytes(), err.read_bytes(), broke, left, time.monotonic() - began, peak
        )

    def _watch(self, process: "subprocess.Popen[bytes]", deadline: float) -> tuple[int, str]:
        peak, broke = 0, ""
        try:
            while process.poll() is None and not broke:
                peak = max(peak, _held(process.pid))
                if peak > MOST_MEMORY:
                    broke = f"it held {peak} bytes of memory"
                elif (spooled := _size(self.spool)) > MOST_SPOOLED:
                    broke = f"it spooled {spooled} bytes"
                elif time.monotonic() > deadline:
                    broke = "it did not end"
                time.sleep(0.01)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            _end_group(process.pid)
        return peak, broke


def load() -> float:
    """By how much this machine is busier than one on which a second is a second; at most 3."""
    return min(3.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


def _held(pid: int) -> int:
    """The most memory that a process has held so far (VmHWM); 0 where it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def _size(folder: Path) -> int:
    total = 0
    for top, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(top, name)).st_blocks * 512  # noqa: PTH118 - a hundred times a second
            except OSError:
                continue
    return total


def _end_group(group: int) -> None:
    """Conduits that outlive the command; a target that will not end is one of the cases."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
