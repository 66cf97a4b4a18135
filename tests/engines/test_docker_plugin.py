"""`docker ferry` with docker's real command lines, from 20.10 on: a push, its end by Ctrl-C, help, completion."""

import os
import pty
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engines.moments import Gate, assert_one_sentence, safe
from engines.test_push_scene import APP, NEWEST, Scene, assert_complete
from rig import packages

pytestmark = pytest.mark.kinds(target=NEWEST)

#: Suites, by their docker: 20.10, 26.1 and 28.5. The oldest has no socket for its plugins.
SUITES = ("bookworm", "trixie", "forky")


class DockerFerry:
    """A docker of a suite, its folder of settings with a context for the source, and the plugin in it."""

    def __init__(self, scene: Scene, folder: Path, suite: str) -> None:
        self.docker = str(packages.suite_root(suite) / "usr/bin/docker")
        self.scene = scene
        self.environment = scene.rig.environment | {"DOCKER_CONFIG": str(folder)}
        scene.layerferry("plugin", "install", env={"DOCKER_CONFIG": str(folder)})
        self.run("context", "create", "there", "--docker", f"host={scene.source.host}")

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [self.docker, *words], env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"{words}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout

    def push(self) -> list[str]:
        return [self.docker, "--context", "there", "ferry", "push", APP, self.scene.target.ssh_alias]


@pytest.fixture(params=SUITES)
def ferry(request: pytest.FixtureRequest, scene: Scene, tmp_path: Path) -> DockerFerry:
    return DockerFerry(scene, tmp_path, request.param)


def test_a_push_takes_dockers_context(ferry: DockerFerry) -> None:
    scene = ferry.scene
    scene.load([scene.layer()])
    told = ferry.run(*ferry.push()[1:])
    assert f"verified on {scene.target.ssh_alias}" in told
    assert_complete(scene.target, APP, scene.source.diff_ids(APP))


def test_docker_knows_it(ferry: DockerFerry) -> None:
    line = next(line for line in ferry.run("--help").splitlines() if line.split()[:1] in (["ferry"], ["ferry*"]))
    assert "send only what they lack" in line
    for words in (("ferry", "push", "--help"), ("help", "ferry", "push"), ("--help", "ferry", "push")):
        assert ferry.run(*words).startswith("Usage: docker ferry push "), words


@pytest.mark.parametrize("ferry", SUITES[1:], indirect=True)
def test_docker_completes_it(ferry: DockerFerry) -> None:
    """Since docker 23. The image is one of the source's, which is the current context here."""
    ferry.scene.load([ferry.scene.layer()])
    ferry.run("context", "use", "there")
    assert "push\t" in ferry.run("__complete", "ferry", "pu")
    assert APP in ferry.run("__complete", "ferry", "push", "push-").splitlines()


@contextmanager
def gated(ferry: DockerFerry) -> Iterator[Gate]:
    """A push of a second image is at its load, and both sides are as they were when it has ended."""
    scene = ferry.scene
    scene.load([scene.layer(name="old")])
    ferry.run(*ferry.push()[1:])
    scene.load([scene.layer(name="new")])
    gate = Gate(scene.target)
    with safe(scene), gate.at("load"):
        yield gate


def test_ctrl_c_at_a_terminal_ends_both(ferry: DockerFerry) -> None:
    """The terminal tells docker and us; docker ends as we do."""
    master, slave = pty.openpty()
    with gated(ferry) as gate:
        process = subprocess.Popen(
            ["setsid", "--ctty", *ferry.push()],
            env=ferry.environment,
            stdin=slave,
            stdout=slave,
            stderr=subprocess.PIPE,
        )
        os.close(slave)
        shown = threading.Thread(target=_drain, args=(master,))
        shown.start()
        gate.wait()
        os.write(master, b"\x03")
        _, stderr = process.communicate(timeout=60)
        shown.join()
        os.close(master)
    assert process.returncode == 130, stderr.decode()
    assert_one_sentence(stderr.decode(), "interrupted")


def _drain(terminal: int) -> None:
    """Read what is shown, until nobody has the terminal any more."""
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        return


@pytest.mark.parametrize("ferry", SUITES[1:], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signal_to_docker_alone_ends_the_push(ferry: DockerFerry, number: signal.Signals) -> None:
    """Without a terminal, as in a CI: docker closes its socket, or the kernel does for it."""
    with gated(ferry) as gate:
        process = subprocess.Popen(
            ferry.push(),
            env=ferry.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        gate.wait()
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == (-9 if number is signal.SIGKILL else 130), stderr.decode()
    assert_one_sentence(stderr.decode(), "interrupted")
