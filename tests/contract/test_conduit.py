"""A command as the other side, which does what it should not: says too much, takes nothing, ends by a signal."""

import subprocess
import sys
from pathlib import Path

import pytest

from layerferry.errors import ConnectError, LayerferryError, TargetError
from layerferry.oci import limits
from layerferry.targets.conduit import CommandConduit, SilenceError


def says(code: str) -> CommandConduit:
    return CommandConduit([sys.executable, "-c", f"import os, signal, sys, time\n{code}"])


def test_who_takes_nothing_is_given_up_and_what_went_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TAKEN", 0.2)
    with says("time.sleep(60)") as conduit:
        with pytest.raises(ConnectError, match=r"has taken nothing for 0\.2 s; [0-9]+ bytes had gone"):
            conduit.write(bytes(1 << 20))
        assert 0 < conduit.sent < 1 << 20
        conduit.close(hurry=True)


def test_who_takes_slowly_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TAKEN", 20.0)
    code = "n = 0\nwhile data := os.read(0, 4096):\n n += len(data)\n time.sleep(0.001)\nprint(n)"
    with says(code) as conduit:
        conduit.write(bytes(300_000))
        conduit.write(b"")
        assert conduit.sent == 300_000
        process = conduit._process
        assert process.stdin is not None
        process.stdin.close()
        assert conduit.read_line(20) == "300000"


def test_a_line_without_end_ends_the_session() -> None:
    with says("while True: sys.stdout.write('x' * 65536)") as conduit:
        with pytest.raises(TargetError, match="says a line of more than 65536 bytes"):
            conduit.read_line(20)
        with pytest.raises(TargetError, match="says a line of more than 65536 bytes"):
            conduit.read_line(20)
        conduit.close(hurry=True)


def test_lines_without_end_wait_until_they_are_read() -> None:
    with says("while True: print('x' * 100, flush=True)") as conduit:
        assert conduit.read_line(20) == "x" * 100
        for _ in range(10 * limits.LINES_WAITING):
            conduit.read_line(20)
        assert conduit._lines.qsize() <= limits.LINES_WAITING
        conduit.close(hurry=True)


def test_of_stderr_the_end_is_kept() -> None:
    with says("sys.stderr.write('x' * 10_000_000 + '\\nlast words\\n'); sys.exit(3)") as conduit:
        with pytest.raises(TargetError, match="ended with status 3: last words"):
            conduit.read_line(20)
        assert len(conduit._stderr) <= limits.STDERR


def test_a_command_of_ours_that_a_signal_ended_is_not_the_targets_fault() -> None:
    with says("os.kill(os.getpid(), signal.SIGKILL)") as conduit, pytest.raises(ConnectError) as caught:
        conduit.read_line(20)
    assert "here, was ended by signal 9" in caught.value.message
    assert "POSIX" not in caught.value.hint


def test_silence_is_an_error_of_its_own() -> None:
    with says("time.sleep(60)") as conduit:
        with pytest.raises(SilenceError) as caught:
            conduit.read_line(0.1)
        assert isinstance(caught.value, LayerferryError)
        conduit.close(hurry=True)


def test_who_says_much_before_it_listens_is_heard() -> None:
    says_much = "for _ in range(20_000): print('hello', flush=True)"
    code = f"{says_much}\nn = 0\nwhile n < 500_000: n += len(os.read(0, 65536))\nprint(n)"
    with says(code) as conduit:
        heard = []

        def listen() -> None:
            while conduit.answered:
                heard.append(conduit.read_line(20))

        conduit.write(bytes(500_000), listen)
        while heard[-1:] != ["500000"]:
            heard.append(conduit.read_line(20))
        assert heard.count("hello") == 20_000


def test_a_command_that_is_not_there_or_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match=r"^nope: there is no command 'nope' here$"):
        CommandConduit(["nope"])
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF, but no more")
    program.chmod(0o755)
    with pytest.raises(ConnectError, match=f": cannot start '{program}': Exec format error$"):
        CommandConduit([str(program)])


def test_who_closes_its_output_and_stays_has_closed_the_connection() -> None:
    with says("os.close(1); time.sleep(60)") as conduit:
        assert conduit._process.stdout is not None
        conduit._process.wait = ends_never  # type: ignore[method-assign]
        with pytest.raises(ConnectError, match=r"closed the connection after 0 bytes$"):
            conduit.read_line(20)
        del conduit._process.wait
        conduit.close(hurry=True)


def ends_never(timeout: float | None = None) -> int:
    raise subprocess.TimeoutExpired("command", timeout or 0)
