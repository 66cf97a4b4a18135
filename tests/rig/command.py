"""The `layerferry` command in a process of its own that knows the rig's hosts, and nothing else."""

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fork_server
from rig.engine import Engine
from rig.rig import Rig


@dataclass(frozen=True, slots=True)
class Run:
    """A run that ended. `peak` is the most memory that the process itself held, in bytes."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    peak: int

    @property
    def json(self) -> dict[str, Any]:
        """What `--json` printed, which has to be all of stdout."""
        return dict(json.loads(self.stdout))

    @property
    def result(self) -> dict[str, Any]:
        """The one result of a push of one image to one target."""
        (only,) = self.json["results"]
        return dict(only)


class Layerferry:
    """Runs the command with the rig's environment."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def __call__(
        self,
        *arguments: str,
        source: Engine | None = None,
        env: Mapping[str, str] | None = None,
        code: int | None = 0,
        stdin: IO[bytes] | None = None,
        cwd: Path | None = None,
        timeout: float = 600,
    ) -> Run:
        """Run it to its end, `source` being its daemon. Another exit code than `code`, unless None, fails the test."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            began = time.monotonic()
            process = self.start(*arguments, source=source, env=env, stdin=stdin, stdout=out, stderr=err, cwd=cwd)
            peak = _watch(process, began + timeout)
            run = Run(process.returncode, _text(out), _text(err), time.monotonic() - began, peak)
        command = f"layerferry {' '.join(arguments)}"
        assert code in {None, run.code}, f"{command}: exit code {run.code}\n{run.stdout}{run.stderr}"
        return run

    def start(
        self,
        *arguments: str,
        source: Engine | None = None,
        env: Mapping[str, str] | None = None,
        stdin: IO[bytes] | int | None = None,
        stdout: IO[bytes] | int = subprocess.PIPE,
        stderr: IO[bytes] | int = subprocess.PIPE,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start it in `cwd` or the home folder, in a process group of its own, so that it can be interrupted as a
        terminal does.
        """
        environment = self._rig.environment | self.source_environment(source) | dict(env or {})
        return fork_server.start(
            fork_server.command(*arguments),
            stdin=stdin or subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            cwd=cwd or self._rig.home,
            process_group=0,
        )

    @staticmethod
    def source_environment(source: Engine | None) -> dict[str, str]:
        if source is None:
            return {}
        return source.env or {"DOCKER_HOST": source.host}


def _watch(process: subprocess.Popen[bytes], deadline: float) -> int:
    """Wait for the end, and return the highest VmHWM seen.

    Not ru_maxrss: that one counts what this process held when it forked.
    """
    peak = 0
    status = Path(f"/proc/{process.pid}/status")
    ended = select.poll()
    ended.register(handle := os.pidfd_open(process.pid), select.POLLIN)
    while not ended.poll(20):
        try:
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak = max(peak, int(line.split()[1]) * 1024)
        except OSError:
            continue
        if time.monotonic() > deadline:
            os.killpg(process.pid, 9)
            process.wait()
            raise TimeoutError(f"{process.args!r} did not end")
    os.close(handle)
    process.wait()
    return peak


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
