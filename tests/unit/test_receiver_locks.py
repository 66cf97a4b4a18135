"""Locks that another session keeps, and a log that takes half a line."""

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerferry.oci import limits
from layerferry.receive import locks
from layerferry.receive.byte_limits import Day
from layerferry.receive.decision_log import DecisionLog
from layerferry.receive.deployment import exclusively
from layerferry.receive.refusal import Refusal, one_line


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """Hold the lock of a file, as another session does."""
    descriptors = []

    def hold(name: str) -> int:
        descriptors.append(os.open(tmp_path / name, os.O_RDWR | os.O_CREAT, 0o600))
        fcntl.flock(descriptors[-1], fcntl.LOCK_EX)
        return descriptors[-1]

    yield hold
    for descriptor in descriptors:
        os.close(descriptor)


def _name(folder: Path) -> None:
    with exclusively(folder):
        pytest.fail("two sessions give names at once")


_WAITING: dict[str, tuple[Callable[[Path], None], str]] = {
    "names.lock": (_name, "the lock on names"),
    "x.day": (lambda folder: Day(folder / "x.day", 9).charge(1), "the count of today's bytes"),
    "log": (lambda folder: DecisionLog(str(folder / "log")).write("start"), "the receiver's log"),
}


@pytest.mark.parametrize("name", _WAITING)
def test_another_sessions_lock_is_not_waited_for_without_end(
    name: str, tmp_path: Path, held: Callable[[str], int], pauses: list[float]
) -> None:
    held(name)
    act, what = _WAITING[name]
    with pytest.raises(Refusal, match=f"another session holds {what}, and does not let go of it"):
        act(tmp_path)
    assert len(pauses) == limits.LOCK_ATTEMPTS - 1
    assert sum(pauses) <= 60


def test_a_lock_that_is_let_go_of_is_taken(
    tmp_path: Path, held: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = held("names.lock")
    monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(other, fcntl.LOCK_UN))
    with exclusively(tmp_path):
        assert (tmp_path / "names.lock").exists()


def test_a_lock_ends_with_its_session(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusively(tmp_path):
            pass
    descriptor = os.open(tmp_path / "names.lock", os.O_RDWR)
    locks.hold(descriptor, "it")
    os.close(descriptor)


# --- the log


def short(limit: int, room: list[int]) -> Callable[[int, bytes], int]:
    """A write(2) that takes `limit` bytes at most, until there is no room left."""
    write = os.write

    def writes(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(descriptor, data[: min(limit, room[0])])
        room[0] -= taken
        return taken

    return writes


def test_a_line_is_written_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decisions = DecisionLog(str(tmp_path / "log"), key="x")
    monkeypatch.setattr(os, "write", short(7, [10_000]))
    decisions.write("start", text="y" * 300)
    assert json.loads((tmp_path / "log").read_text())["text"] == "y" * 300


def test_of_a_line_that_does_not_fit_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decisions = DecisionLog(str(tmp_path / "log"), key="x")
    decisions.write("start")
    before = (tmp_path / "log").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short(7, [50]))
        with pytest.raises(Refusal, match="log cannot be written"):
            decisions.write("naming", images={})
    assert (tmp_path / "log").read_bytes() == before
    decisions.write("end")
    assert [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()] == ["start", "end"]


def test_a_write_that_takes_nothing_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decisions = DecisionLog(str(tmp_path / "log"))
    monkeypatch.setattr(os, "write", lambda *_: 0)
    with pytest.raises(Refusal):
        decisions.write("start")


def test_a_count_that_is_written_in_part_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda *_: 3)
    with pytest.raises(Refusal, match="cannot be kept"):
        Day(tmp_path / "x.day", 100).charge(1)


@pytest.mark.parametrize(
    "nasty", ["\x1b[2J", "\x07", "\x9b31m", "\u202e", "\u2066", "\x7f", "\u2028", "\r\n", "\0", "\ud800"]
)
def test_what_others_say_is_printable_in_the_log_and_to_the_client(nasty: str, tmp_path: Path) -> None:
    DecisionLog(str(tmp_path / "log"), user=nasty).write("failed", text=f"a{nasty}b")
    line = (tmp_path / "log").read_bytes()
    assert line[:-1].decode("ascii").isprintable()
    assert json.loads(line)["text"] == f"a{nasty}b"
    assert one_line(f"a{nasty}b").isprintable()
    assert len(one_line(nasty * 9999 + "x" * 9999)) <= 2000


def test_a_lock_that_cannot_be_taken_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(Refusal, match=r"^the lock on names cannot be taken$"), exclusively(tmp_path / "state"):
        pass
