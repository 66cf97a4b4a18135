"""Temporary folders: private, gone at the end, told apart from those of the dead, and refused in one sentence."""

import fcntl
import os
import stat
import tempfile
import time
from pathlib import Path

import pytest

from layerferry import temporary
from layerferry.errors import ConnectError, LayerferryError, SourceError
from layerferry.temporary import TemporaryFolder, sweep


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(temporary, "socket_parent", lambda: None)
    return tmp_path


def leave(parent: Path, name: str, mode: int = 0o700) -> Path:
    """A folder as a killed run leaves it."""
    folder = parent / name
    folder.mkdir()
    folder.chmod(mode)
    (folder / "file").write_text("x", encoding="utf-8")
    return folder


def test_a_folder_is_private_and_gone_afterwards(scratch: Path) -> None:
    with TemporaryFolder() as name:
        assert Path(name).parent == scratch
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o700
        Path(name, "file").write_text("x", encoding="utf-8")
    assert list(scratch.iterdir()) == []


def test_a_folder_that_is_let_go_of_is_gone_too(scratch: Path) -> None:
    folder = TemporaryFolder()
    folder.cleanup()
    folder.cleanup()
    TemporaryFolder()
    assert list(scratch.iterdir()) == []


def test_what_the_dead_have_left_is_swept_and_told_of_in_one_line(scratch: Path) -> None:
    leave(scratch, "layerferry-run-abcd_123")
    assert sweep() == f"removed a temporary folder that earlier runs, which were killed, had left in {scratch}"
    leave(scratch, "layerferry-run-abcd_123")
    leave(scratch, "layerferry-run-abcd_124")
    assert sweep().startswith("removed 2 temporary folders ")
    assert list(scratch.iterdir()) == []
    assert sweep() == ""


def test_what_lives_stays(scratch: Path) -> None:
    with TemporaryFolder() as name:
        leave(scratch, "layerferry-run-abcd_123")
        assert "a temporary folder" in sweep()
        assert [str(path) for path in scratch.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("layerferry-checkout", 0o700),
        ("layerferry-run-checkout1", 0o700),
        ("layerferry-run-abcd_123.bak", 0o700),
        ("layerferry-run-ABCD_123", 0o700),
        ("a-layerferry-run-abcd_123", 0o700),
        ("layerferry-run-abcd_123", 0o755),
    ],
)
def test_what_others_call_so_stays(name: str, mode: int, scratch: Path) -> None:
    folder = leave(scratch, name, mode)
    assert sweep() == ""
    assert (folder / "file").exists()


def test_links_and_files_and_other_users_folders_stay(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = leave(scratch, "elsewhere")
    (scratch / "layerferry-run-abcd_123").symlink_to(elsewhere)
    (scratch / "layerferry-run-abcd_124").touch(mode=0o700)
    assert sweep() == ""
    theirs = leave(scratch, "layerferry-run-abcd_125")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert sweep() == ""
    assert (theirs / "file").exists()
    assert (elsewhere / "file").exists()


def test_a_folder_has_no_name_to_be_swept_by_before_it_is_locked(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        assert sweep() == ""
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with TemporaryFolder() as name:
        assert [str(path) for path in scratch.iterdir()] == [name]


def test_what_was_killed_before_its_folder_had_a_name_is_swept_a_minute_later(scratch: Path) -> None:
    new = leave(scratch, "layerferry-new-abcd_123")
    assert sweep() == ""
    os.utime(new, (0, time.time() - 61))
    assert "a temporary folder" in sweep()
    assert list(scratch.iterdir()) == []


def test_without_locks_a_folder_serves_and_is_never_swept(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with TemporaryFolder() as name:
        assert sweep() == ""
        assert Path(name).is_dir()
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("error", [SourceError, ConnectError])
def test_where_none_can_be_made_one_sentence_says_so(
    error: type[LayerferryError], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = str(scratch / "gone")
    monkeypatch.setattr(tempfile, "tempdir", gone)
    with pytest.raises(error) as caught:
        TemporaryFolder(error=error)
    assert gone in caught.value.message
    assert "No such file or directory" in caught.value.message
    assert "TMPDIR" in caught.value.hint
    assert sweep() == ""


def test_so_it_does_where_no_folder_can_be_written_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(SourceError, match="no folder for temporary files can be written"):
        TemporaryFolder()
    assert sweep() == ""


@pytest.mark.parametrize(("folder", "parent"), [("/tmp", None), ("/var/" + "x" * 70, "/tmp")])
def test_a_socket_gets_a_folder_whose_path_is_short(
    folder: str, parent: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", folder)
    assert temporary.socket_parent() == parent
