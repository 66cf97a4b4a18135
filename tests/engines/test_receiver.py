"""The receiver as a forced command under a real sshd, in front of real engines; the client has no flag for it."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.lock import Lock, script
from engines.test_push_scene import APP, EACH_STORE, SMALL, Scene, actions, assert_arrived, assert_complete, id_of
from rig import ENGINES, Rig
from rig.processes import wait_until
from rig.ssh import answers, free_port


@pytest.fixture
def lock(scene: Scene, tmp_path: Path) -> Iterator[Lock]:
    lock = Lock(tmp_path, scene.rig, scene.target)
    yield lock
    lock.stop()


@pytest.mark.kinds(target=ENGINES)
def test_the_client_pushes_as_to_any_host_and_only_the_delta(scene: Scene, lock: Lock) -> None:
    base = scene.base()
    lock.allow("--allow", "push-test/app:*", "--reuse", base)
    scene.build(base)
    result = scene.layerferry("push", APP, lock.alias, "--json", source=scene.source).result
    assert actions(result) == ["reuse", "reuse", "send"]
    assert result["bytes"]["sent"] < SMALL
    assert result["verified"] is True
    assert scene.target.diff_ids(APP) == scene.source.diff_ids(APP)
    assert_complete(scene.target, APP, scene.source.diff_ids(APP))
    assert not scene.strays({})
    again = scene.layerferry("push", APP, lock.alias, "--json", source=scene.source).result
    assert set(actions(again)) == {"reuse"}


@pytest.mark.kinds(target=EACH_STORE)
def test_what_the_policy_does_not_name_is_neither_shown_nor_taken(scene: Scene, lock: Lock) -> None:
    base = scene.base()
    scene.build(base)
    lock.allow("--allow", "push-test/app:*")
    result = scene.layerferry("push", APP, lock.alias, "--json", "--dry-run", source=scene.source).result
    assert set(actions(result)) == {"send"}
    lock.allow("--allow", "other:*", "--reuse", base)
    before = scene.target.images()
    run = scene.layerferry("push", APP, lock.alias, source=scene.source, code=5)
    assert "the name push-test/app:1 is not allowed here" in run.stderr
    assert scene.target.images().keys() == before.keys()


@pytest.mark.kinds(target=EACH_STORE)
def test_a_push_that_a_policy_cuts_short_leaves_the_old_image(scene: Scene, lock: Lock) -> None:
    lock.allow("--allow", "push-test/app:*", "--max-bytes", "1M")
    scene.load([scene.layer(100_000, "small")])
    first = scene.layerferry("push", APP, lock.alias, "--json", source=scene.source).result
    assert_arrived(scene, first)
    scene.load([scene.layer(30_000_000, "large")])
    run = scene.layerferry("push", APP, lock.alias, source=scene.source, code=5)
    assert "a push may have 1048576 bytes here" in run.stderr
    assert id_of(scene.target, APP) == first["image_id"]
    assert not scene.strays({})


# What a key that has `restrict,command=` reaches besides.


@pytest.fixture
def closed(rig: Rig, tmp_path: Path) -> Iterator[Lock]:
    lock = Lock(tmp_path, rig, None)
    lock.allow("--allow", "app:*", "--idle", "2")
    yield lock
    lock.stop()


@pytest.mark.parametrize(
    "command", ["id", "sh -c 'touch {file}'", "layerferry receive --allow '**:*'; touch {file}", ""]
)
def test_no_other_command_runs(closed: Lock, tmp_path: Path, command: str) -> None:
    file = tmp_path / "made"
    done = closed.ssh(closed.alias, command.format(file=file), stdin=b"touch %b\nid\n" % os.fsencode(file))
    assert done.stdout == b"failed refused here is `layerferry receive`, and nothing else\n"
    assert not file.exists()


def test_no_terminal_is_given(closed: Lock) -> None:
    done = closed.ssh("-tt", closed.alias)
    assert b"PTY allocation request failed" in done.stderr


def test_no_file_is_reached(closed: Lock, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for old in ([], ["-O"]):
        copy = ["scp", *old, "-F", str(closed.rig.ssh.config)]
        for pair in (
            [str(tmp_path / "mine"), f"{closed.alias}:{tmp_path}/theirs"],
            [f"{closed.alias}:/etc/hostname", str(tmp_path / "theirs")],
        ):
            assert subprocess.run([*copy, *pair], capture_output=True, check=False, timeout=60).returncode != 0
    assert not (tmp_path / "theirs").exists()
    done = closed.ssh("-s", closed.alias, "sftp", stdin=b"\0\0\0\5\1\0\0\0\3")
    assert done.stdout == b"failed refused a line holds more than printable ASCII\n"


def test_no_forward_is_given_from_here_to_there(closed: Lock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1)
        port = server.getsockname()[1]
        done = closed.ssh("-W", f"127.0.0.1:{port}", closed.alias, stdin=b"hello")
        assert b"administratively prohibited" in done.stderr
        with pytest.raises(TimeoutError):
            server.accept()


def test_no_forward_is_given_to_a_socket_there(closed: Lock, tmp_path: Path) -> None:
    path, port = tmp_path / "engine.sock", free_port()
    forward = ["ssh", "-F", str(closed.rig.ssh.config), "-N", "-L", f"127.0.0.1:{port}:{path}", closed.alias]
    with socket.socket(socket.AF_UNIX) as server, subprocess.Popen(forward, stderr=subprocess.DEVNULL) as ssh:
        server.bind(str(path))
        server.listen()
        server.settimeout(1)
        wait_until(lambda: answers("127.0.0.1", port), "ssh does not listen")
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            assert client.recv(1) == b""
        with pytest.raises(TimeoutError):
            server.accept()
        ssh.terminate()


@pytest.mark.parametrize("kind", ["port", "socket"])
def test_no_forward_is_given_from_there_to_here(closed: Lock, tmp_path: Path, kind: str) -> None:
    there = str(free_port()) if kind == "port" else str(tmp_path / "there.sock")
    done = closed.ssh("-N", "-o", "ExitOnForwardFailure=yes", "-R", f"{there}:127.0.0.1:9", closed.alias)
    assert b"remote port forwarding failed" in done.stderr
    assert not (tmp_path / "there.sock").exists()


def test_no_tunnel_is_given(closed: Lock) -> None:
    done = closed.ssh(
        "-N", "-o", "ExitOnForwardFailure=yes", "-o", "Tunnel=point-to-point", "-w", "97:97", closed.alias
    )
    assert done.returncode != 0
    assert not Path("/sys/class/net/tun97").exists() or b"Tunnel" in done.stderr


def test_no_agent_and_no_display_is_passed_on(closed: Lock, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script(tmp_path / "layerferry", f"env >{seen}")
    closed.ssh("-A", "-X", "-o", "SetEnv=LAYERFERRY_X=1", closed.alias)
    environment = seen.read_text()
    assert "SSH_CONNECTION" in environment
    assert not [name for name in ("SSH_AUTH_SOCK", "DISPLAY", "LAYERFERRY_X", "SSH_TTY") if f"{name}=" in environment]
