"""The plugin as a process, with a stand-in for docker's socket, and an ssh that never answers."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.processes import wait_until


class Plugin:
    """`docker-ferry ferry gc`, which has called ssh and waits, and docker's end of its socket."""

    def __init__(self, folder: Path, address: str) -> None:
        self.called = folder / "called"
        ssh = folder / "bin" / "ssh"
        ssh.parent.mkdir()
        ssh.write_text(f"#!/bin/sh\nenv >{self.called}.new\nmv {self.called}.new {self.called}\nexec cat >/dev/null\n")
        ssh.chmod(0o755)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(address.replace("@", "\0"))
        self._server.listen()
        self._server.settimeout(60)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "layerferry", "docker-plugin", "ferry", "gc", "host"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                "PATH": f"{ssh.parent}:/usr/bin:/bin",
                "HOME": str(folder),
                "TMPDIR": str(folder),
                "LANG": "C.UTF-8",
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
                "DOCKER_CLI_PLUGIN_SOCKET": address,
            },
            text=True,
            process_group=0,
        )
        self._connection, _ = self._server.accept()

    def hang_up(self) -> None:
        self._connection.close()
        self._server.close()

    def wait(self) -> None:
        wait_until(self.called.exists, "ssh is not called")

    def ended(self) -> tuple[int, str]:
        _, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stderr.strip()


@pytest.fixture(params=["abstract", "path"] if sys.platform == "linux" else ["path"])
def plugin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plugin]:
    """Linux has abstract names for sockets; elsewhere docker's is a file."""
    plugin = Plugin(tmp_path, f"@docker_cli_{os.urandom(8).hex()}" if request.param == "abstract" else f"{tmp_path}/s")
    plugin.wait()
    yield plugin
    plugin.hang_up()
    plugin.process.kill()
    plugin.process.communicate()


def test_it_ends_where_docker_closes_its_socket(plugin: Plugin) -> None:
    plugin.hang_up()
    code, told = plugin.ended()
    assert (code, told.splitlines()[0]) == (130, "layerferry: interrupted")


@pytest.mark.parametrize("first", ["signal", "socket"])
def test_a_ctrl_c_that_comes_by_both_ways_is_one(plugin: Plugin, first: str) -> None:
    acts = [lambda: os.killpg(plugin.process.pid, signal.SIGINT), plugin.hang_up]
    for act in acts if first == "signal" else reversed(acts):
        act()
    code, told = plugin.ended()
    assert (code, told.splitlines()[0]) == (130, "layerferry: interrupted")
    assert "Traceback" not in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_too(plugin: Plugin, number: signal.Signals) -> None:
    plugin.process.send_signal(number)
    assert plugin.ended()[0] == 130


def test_ssh_gets_no_socket_of_dockers(plugin: Plugin) -> None:
    assert "DOCKER_CLI_PLUGIN_SOCKET=" in plugin.called.read_text().splitlines()


def test_a_socket_that_is_none_is_no_obstacle(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "layerferry", "docker-plugin", "ferry", "--version"],
        env={"PATH": "/usr/bin:/bin", "DOCKER_CLI_PLUGIN_SOCKET": f"{tmp_path}/gone", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("layerferry, version ")
