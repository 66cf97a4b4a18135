"""The server that most tests start the command from: what comes out of it is what an interpreter's start leads to."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fork_server
from rig.processes import wait_until

ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/", "DOCKER_HOST": "unix:///missing.sock", "LANG": "C.UTF-8"}

Start = Callable[..., "subprocess.Popen[Any]"]


@pytest.fixture(params=["forked", "started"])
def start(request: pytest.FixtureRequest) -> Start:
    """Both must pass all of it."""
    return fork_server.start if request.param == "forked" else subprocess.Popen


@pytest.mark.parametrize("words", ["--version", "push", "push --help", "push app:1", "receive", "run"])
def test_streams_and_exit_code_are_the_same(tmp_path: Path, words: str) -> None:
    argv = fork_server.command(*words.split())
    forked = fork_server.run(argv, env=ENVIRONMENT, cwd=tmp_path)
    started = subprocess.run(
        argv, env=ENVIRONMENT, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)
    assert forked.stdout or forked.stderr


def test_environment_folder_files_and_groups_are_the_childs_own(start: Start, tmp_path: Path) -> None:
    """Seen by what the command starts, and ends when it finds no daemon: so that does not listen."""
    tell = "trap '' TERM; env | sort; pwd; ls /proc/self/fd | wc -l; umask; cat /proc/$PPID/stat; exit 9"
    (tmp_path / "here").mkdir()
    env = ENVIRONMENT | {"ONLY": "here"}
    words = ["push", "app:1", "--", "sh", "-c", f"{{ {tell}; }} >told"]
    process = start(
        fork_server.command(*words),
        env=env,
        cwd=tmp_path / "here",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    with process:
        process.wait(timeout=60)
    told = (tmp_path / "here/told").read_text().splitlines()
    assert "ONLY=here" in told
    assert not [line for line in told if line.startswith("PYTEST")]
    assert str(tmp_path / "here") in told
    stat = told[-1].rpartition(")")[2].split()
    assert (int(stat[1]), int(stat[2])) == (os.getpid(), process.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_it(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    process = start(
        fork_server.command("push", "app:1", "--", "sh", "-c", "echo >here; exec sleep 60"),
        env=ENVIRONMENT,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        wait_until(lambda: (tmp_path / "here").exists() or process.poll() is not None, "it does not start")
        os.killpg(process.pid, number)
        process.communicate(timeout=20)
    assert process.returncode in {130, 3, -number}


def test_an_interpreters_own_variables_get_an_interpreter() -> None:
    forked = fork_server.start(fork_server.command("--version"), env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    started = fork_server.start(
        fork_server.command("--version"), env=ENVIRONMENT | {"PYTHONUTF8": "0"}, stdout=subprocess.DEVNULL
    )
    with forked, started:
        assert type(forked) is not type(started)
