"""No room and no right: folders that cannot be written or read, or hold no socket. One sentence names them."""

import os
import shutil
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from hostile.claims import one_sentence, within_bounds
from hostile.command import Command
from hostile.conduits import honest
from hostile.test_ssh import Ssh
from layerferry import temporary
from layerferry.ci.ssh_key import keep_in_agent
from layerferry.errors import ConnectError
from layerferry.targets.bastion import Bastion
from layerferry.targets.conduit import SshConduit
from layerferry.targets.ssh_target import SshTarget
from packed import Picture, docker20, layout_files, named_entry, oci_archive, packed, write_folder

ROOT = os.geteuid() == 0
#: A file system that is read-only as a whole, with what `sh` does before.
READ_ONLY = f"""
exec unshare -{"" if ROOT else "r"}m sh -ec '
    %s
    mount --rbind / /
    mount -o remount,bind,ro /
    exec "$@"
' sh "$@"
"""
NO_ROOM = {
    "a read-only root": READ_ONLY % "",
    "a full folder": READ_ONLY % 'mount -t tmpfs -o size=4k none "$TMPDIR"; head -c 4096 /dev/zero >"$TMPDIR/x"',
    "a folder without an inode left": READ_ONLY % 'mount -t tmpfs -o nr_inodes=1 none "$TMPDIR"',
}
#: root reads everything, unless it has let go of the capabilities for that.
NO_RIGHT = 'exec setpriv --bounding-set=-dac_override,-dac_read_search "$@"' if ROOT else ""
PICTURE = Picture.of("app", "gzip", "gzip")


def layout(folder: Path) -> str:
    files = layout_files([named_entry(PICTURE, "docker.io/library/app:1")], PICTURE.documents)
    return f"oci:{write_folder(folder / 'layout', files)}"


def archive(folder: Path) -> str:
    (folder / "app.tar").write_bytes(oci_archive(PICTURE, "docker.io/library/app:1"))
    return f"archive:{folder}/app.tar"


def packed_archive(folder: Path) -> str:
    plain = Picture(PICTURE.tars, ("", ""))
    (folder / "app.tar.gz").write_bytes(packed(docker20(plain, "docker.io/library/app:1"), "gzip"))
    return f"archive:{folder}/app.tar.gz"


# Folders that cannot be written.


@pytest.mark.parametrize("what", NO_ROOM)
@pytest.mark.parametrize("source", [layout, packed_archive])
def test_where_nothing_can_be_written_one_sentence_names_the_folders_and_the_variable(
    layerferry: Command, tmp_path: Path, source: Callable[[Path], str], what: str
) -> None:
    run = layerferry("push", source(tmp_path), "--", *honest(Path("/dev/null")), shell=NO_ROOM[what])
    one_sentence(run, (3,), f"no folder for temporary files can be written: neither of {layerferry.spool}, /tmp, ")
    assert b"TMPDIR" in run.stderr


def test_so_it_does_for_ssh_for_a_daemon_behind_it_and_for_doctor(tmp_path: Path, layerferry: Command) -> None:
    ssh, shell = Ssh(tmp_path, layerferry), NO_ROOM["a read-only root"]
    one_sentence(ssh("good", shell=shell), (4,), "no folder for temporary files can be written")
    far = {"DOCKER_HOST": "ssh://x", "PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HEARD": "/dev/null"}
    behind = layerferry("push", "app:1", "--", *honest(Path("/dev/null")), shell=shell, env=far)
    assert b"temporary" not in behind.stderr, "what ssh says there needs no disk"
    assert b"does not answer" in behind.stderr


# Folders and files that cannot be read.


def lock(path: Path) -> None:
    path.chmod(0)


def locked_folder(folder: Path, opened: Callable[[Path], str]) -> str:
    inside = folder / "locked"
    inside.mkdir()
    reference = opened(inside)
    lock(inside)
    return reference


def locked(folder: Path, opened: Callable[[Path], str], name: str) -> str:
    reference = opened(folder)
    lock(folder / name)
    return reference


UNREADABLE: dict[str, Callable[[Path], str]] = {
    "an archive": lambda folder: locked(folder, archive, "app.tar"),
    "an archive's folder": lambda folder: locked_folder(folder, archive),
    "a layout": lambda folder: locked(folder, layout, "layout"),
    "a layout's index": lambda folder: locked(folder, layout, "layout/index.json"),
    "a layout's blobs": lambda folder: locked(folder, layout, "layout/blobs/sha256"),
    "a layout's config": lambda folder: locked(folder, layout, f"layout/blobs/sha256/{PICTURE.id[7:]}"),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_may_not_be_read_is_not_called_damaged(layerferry: Command, tmp_path: Path, what: str) -> None:
    (tmp_path / "own").mkdir()
    reference = UNREADABLE[what](tmp_path / "own")
    run = layerferry("push", reference, "--name", "app:1", "--", *honest(tmp_path / "heard"), shell=NO_RIGHT)
    one_sentence(run, (3,), "cannot be read: .*Permission denied")
    assert b"damaged" not in run.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *((name, "locked") for name in ("HOME", "TMPDIR", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME")),
        *(("HOME", value) for value in ("missing", "a file", "")),
        ("TMPDIR", "a file"),
    ],
)
def test_a_folder_of_a_variable_that_is_none_stops_no_push(
    layerferry: Command, tmp_path: Path, variable: str, value: str
) -> None:
    """HOME is /root in many a container whose user is another one."""
    (tmp_path / "locked").mkdir()
    lock(tmp_path / "locked")
    (tmp_path / "a file").touch()
    env = {variable: str(tmp_path / value) if value else ""}
    run = layerferry("push", layout(tmp_path), "--", *honest(tmp_path / "heard"), shell=NO_RIGHT, env=env)
    one_sentence(run, (0,), "verified")
    doctor = layerferry("doctor", shell=NO_RIGHT, env={**env, "DOCKER_HOST": "tcp://127.0.0.1:1"})
    assert "127.0.0.1:1 does not answer" in within_bounds(doctor, (3,))


# Folders that hold no socket.


@pytest.fixture
def no_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files on a file system without sockets: bind(2) says so of vfat and 9p."""
    bind = socket.socket.bind

    def refuse(own: socket.socket, address: str) -> None:
        if str(address).startswith(str(tmp_path)):
            raise PermissionError(1, "Operation not permitted")
        bind(own, address)

    monkeypatch.setattr(socket.socket, "bind", refuse)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin/ssh"
    ssh.write_text(
        f'#!/bin/sh\ncase "$*" in *" -G "*|*" -O "*) exit 1 ;; esac\necho "$*" >>{tmp_path}/asked\nexec cat\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    return tmp_path


def test_sockets_go_where_there_can_be_one(no_sockets: Path) -> None:
    with SshConduit(SshTarget("h")) as conduit:
        conduit.write(b"x\n")
        assert conduit.read_line(10) == "x"
        asked = (no_sockets / "asked").read_text()
    assert "-S /tmp/layerferry-run-" in asked
    assert [path.name for path in no_sockets.glob("layerferry-*")] == []


def test_a_session_goes_on_without_one(no_sockets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "_lacks_sockets", lambda _: "Operation not permitted")
    with SshConduit(SshTarget("h")) as conduit:
        conduit.write(b"x\n")
        assert conduit.read_line(10) == "x"
        assert conduit.reverse(1) is None
    assert "ControlMaster" not in (no_sockets / "asked").read_text()


def test_what_needs_one_says_so(no_sockets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "_lacks_sockets", lambda _: "Operation not permitted")
    with pytest.raises(ConnectError, match=r"/\S+ can hold no socket: Operation not permitted") as caught:
        Bastion(SshTarget("h"))
    assert "TMPDIR" in caught.value.hint
    with ExitStack() as stack, pytest.raises(ConnectError, match="can hold no socket"):
        keep_in_agent(stack, "key", {"PATH": os.environ["PATH"]})
    assert list(no_sockets.glob("layerferry-*")) == []


def test_a_path_that_is_too_long_is_one_of_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    folder, trouble = temporary.socket_folder()
    assert (folder.path.parent, trouble) == (Path("/tmp"), "")
    folder.cleanup()
    shutil.rmtree(long)
