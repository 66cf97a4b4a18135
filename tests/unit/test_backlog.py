"""What ssh still holds is told by what the system says of it, and by a guess where that is nothing."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

import layerferry.targets.backlog
from layerferry.targets.backlog import Backlog, _text

SSH, PROXY = 4711, 4712
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


class System:
    """A folder as proc(5) has it, of an ssh that has one socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 0.0
        for process in (SSH, PROXY):
            (folder / str(process) / "fd").mkdir(parents=True)
            (folder / str(process) / "net").mkdir()
            (folder / str(process) / "task" / str(process)).mkdir(parents=True)
            (folder / str(process) / "fd" / "3").symlink_to(f"socket:[{process}]")
            (folder / str(process) / "fd" / "4").symlink_to("pipe:[9]")
        self.has(SSH, written=2_000, queued=0)

    def clock(self) -> float:
        return self.now

    def has(self, process: int, *, written: int, queued: int) -> None:
        (self.folder / str(process) / "io").write_text(f"rchar: 5\nwchar: {written}\nsyscr: 1\n")
        others = "   1: 0100007F:0016 00000000:0000 0A 0000FFFF:00000000 00:00000000 00000000     0        0 1 1\n"
        own = f"   0: 0100007F:9C40 0100007F:0016 01 {queued:08X}:00000000 00:00000000 00000000  1000 0 {process} 1\n"
        (self.folder / str(process) / "net" / "tcp").write_text(HEAD + others + own)

    def children(self, process: int, *children: int) -> None:
        words = "".join(f"{child} " for child in children)
        (self.folder / str(process) / "task" / str(process) / "children").write_text(words)


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


@pytest.fixture
def pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as far, os.fdopen(writing, "wb", 0) as near:
        yield near, far


def test_what_is_in_the_pipe_has_not_gone(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    near, far = pipe
    backlog = Backlog(near, None)
    backlog.measure(0)
    assert backlog.held(0) == 0
    near.write(b"x" * 1000)
    assert backlog.held(1000) == 1000
    far.read(600)
    assert backlog.held(1000) == 400
    near.close()
    assert backlog.held(1000) == 0


def test_nor_has_what_ssh_has_read_and_not_written_and_what_its_socket_waits_to_send(
    pipe: tuple[IO[bytes], IO[bytes]], system: System
) -> None:
    backlog = Backlog(pipe[0], SSH, system.folder, system.clock)
    backlog.measure(500)
    assert backlog.held(500) == 0
    system.has(SSH, written=2_000 + 70_000, queued=30_000)
    assert backlog.held(500 + 100_000) == 100_000 - 70_000 + 30_000
    pipe[0].write(b"x" * 10)
    assert backlog.held(500 + 100_010) == 60_010
    system.has(SSH, written=2_000 + 100_100, queued=0)
    pipe[1].read(10)
    assert backlog.held(500 + 100_010) == 0, "a little more is written than was read: the encryption"


def test_behind_a_jump_host_it_is_the_last_process_that_counts(
    pipe: tuple[IO[bytes], IO[bytes]], system: System
) -> None:
    system.children(SSH, PROXY)
    (system.folder / str(PROXY) / "comm").write_text("ssh\n")
    system.has(PROXY, written=9_000, queued=0)
    backlog = Backlog(pipe[0], SSH, system.folder, system.clock)
    backlog.measure(0)
    system.has(SSH, written=2_000 + 100_000, queued=0)
    system.has(PROXY, written=9_000 + 40_000, queued=1_000)
    assert backlog.held(100_000) == 61_000
    system.has(SSH, written=2_000 + 2_100_000, queued=0)
    system.has(PROXY, written=9_000 + 40_000, queued=1_000)
    assert backlog.held(2_100_000) == 2_061_000, "it has a window"


def test_behind_a_proxy_whose_writes_do_not_count_it_is_what_ssh_has_written(
    pipe: tuple[IO[bytes], IO[bytes]], system: System
) -> None:
    """It uses send(2), of which proc(5) tells nothing; answers, which it writes to ssh, count."""
    system.children(SSH, PROXY)
    system.has(PROXY, written=9_000, queued=0)
    backlog = Backlog(pipe[0], SSH, system.folder, system.clock)
    backlog.measure(500)
    for read in range(0, 30_000_000, 500_000):
        system.has(SSH, written=2_000 + read, queued=0)
        system.has(PROXY, written=9_000 + read // 1000, queued=60_000)
        assert 0 <= backlog.held(500 + read) <= min(read, 1_000_000), read
    assert backlog.held(500 + read + 300) == 300


def test_no_more_is_held_than_was_read_since_the_beginning(pipe: tuple[IO[bytes], IO[bytes]], system: System) -> None:
    backlog = Backlog(pipe[0], SSH, system.folder, system.clock)
    backlog.measure(500)
    system.has(SSH, written=2_000, queued=400_000)
    assert backlog.held(500 + 177) == 177


def test_an_ssh_that_writes_nothing_holds_a_window_while_it_takes_no_more(
    pipe: tuple[IO[bytes], IO[bytes]], system: System
) -> None:
    """What goes through a shared connection is written by the process that has it."""
    backlog = Backlog(pipe[0], SSH, system.folder, system.clock)
    backlog.measure(0)
    assert backlog.held(30_000_000) == 0
    pipe[0].write(b"x" * 40_000)
    assert backlog.held(30_040_000) == 40_000 + (2 << 20)


def test_of_the_tables_of_all_sockets_only_the_one_that_has_its_own_is_read_again(
    pipe: tuple[IO[bytes], IO[bytes]], system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = system.folder / str(SSH) / "net" / "tcp"
    (table.parent / "tcp6").write_text(table.read_text().replace(f" {SSH} 1", " 5 1"))
    (system.folder / str(SSH) / "fd" / "5").symlink_to("socket:[77]")  # of another family, in none of the tables
    read: list[str] = []

    def text(path: Path) -> str:
        read.append(path.name)
        return _text(path)

    monkeypatch.setattr(layerferry.targets.backlog, "_text", text)
    backlog = Backlog(pipe[0], SSH, system.folder, system.clock)
    backlog.measure(0)
    read.clear()
    for _ in range(3):
        system.has(SSH, written=2_000 + 50_000, queued=7_000)
        assert backlog.held(50_000) == 7_000
    assert read == ["io", "tcp"] * 3


def test_what_nobody_writes_is_an_error_of_measurement(pipe: tuple[IO[bytes], IO[bytes]], system: System) -> None:
    """ssh may compress, or hand all of it to a shared connection: then it writes less than it reads."""
    backlog = Backlog(pipe[0], SSH, system.folder, system.clock)
    backlog.measure(0)
    assert backlog.held(100_000) == 100_000
    system.now += 0.9
    assert backlog.held(100_000) == 100_000
    system.now += 0.2
    assert backlog.held(100_000) == 0


def test_where_the_system_tells_nothing_a_full_pipe_means_a_full_window(
    pipe: tuple[IO[bytes], IO[bytes]], tmp_path: Path
) -> None:
    backlog = Backlog(pipe[0], SSH, tmp_path / "none")
    backlog.measure(0)
    assert backlog.held(5_000_000) == 0
    pipe[0].write(b"x" * 40_000)
    assert backlog.held(5_000_000) == 40_000 + (2 << 20)
    assert backlog.held(50_000) == 50_000


@pytest.mark.parametrize("text", ["", "wchar: x\n", "wchar: 1", "²", "-1"])
def test_a_table_that_cannot_be_read_does_no_harm(pipe: tuple[IO[bytes], IO[bytes]], system: System, text: str) -> None:
    for name in ("io", "net/tcp", f"task/{SSH}/children"):
        (system.folder / str(SSH) / name).write_text(text)
    backlog = Backlog(pipe[0], SSH, system.folder, system.clock)
    backlog.measure(0)
    assert backlog.held(100) >= 0
