"""Whose folders a daemon's layers lie in: the process behind its socket tells, where that is root's, and we are."""

import os
import socket
from pathlib import Path

import pytest

from layerferry.sources.daemon.layer_folders import LayerFolders

UPPER = "/var/lib/docker/overlay2/abc/diff"


def test_a_socket_of_root_leads_to_the_root_of_who_listens(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        found = LayerFolders.find(f"unix://{path}", UPPER)
    assert (found and found.shown) == (None if os.geteuid() else "/var/lib/docker/overlay2")


def test_who_is_not_root_reads_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "docker.sock"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert LayerFolders.find(f"unix://{path}", UPPER) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_socket_of_another_user_leads_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        child = os.fork()
        if not child:
            try:
                os.setuid(65534)
                listener.listen()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert LayerFolders.find(f"unix://{path}", UPPER) is None


def test_no_socket_leads_nowhere(tmp_path: Path) -> None:
    assert LayerFolders.find(f"unix://{tmp_path}/docker.sock", UPPER) is None
