"""The program that keeps pieces on a target with a python3 does what the shell does without it."""

import ast
import errno
import hashlib
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import layerferry.targets.host
from contract.target_ends import KINDS, TargetEnd
from layerferry.targets.host import keeper
from packed import Picture, layer_tar

KEEPER = Path(layerferry.targets.host.__file__).with_name("keeper.py")
NAME = f"{'a' * 16}.{'b' * 32}.{'c' * 32}"
HERE = f"{NAME}.7-7-7-7-7"


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of some frames: what the engine got, what the watch was told, what is left to read, what is kept."""

    code: int
    given: bytes
    marks: list[str]
    rest: bytes
    files: dict[str, bytes]


def keep(folder: Path, said: bytes, *, room: str = "1000", most: int = -1) -> Kept:
    """Let it obey; `most` is the size of the largest file that can be written."""
    (folder / "c.1-2").mkdir()
    (folder / "c.1-2" / HERE).write_bytes(b"here")
    source, marks = folder / "said", folder / "marks"
    source.write_bytes(said)
    words = ["/bin/sh", "-c", 'exec "$@" 8>marks', "sh", sys.executable, "-I", "-S", str(KEEPER), "77", "1-2", room]
    limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))) if most >= 0 else None
    with source.open("rb", 0) as stdin:
        done = subprocess.run(
            words, stdin=stdin, stdout=subprocess.PIPE, cwd=folder, check=False, preexec_fn=limit, timeout=60
        )
        rest = stdin.read()
    told = marks.read_text().splitlines()
    source.unlink()
    marks.unlink()
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return Kept(done.returncode, done.stdout, told, rest, files)


def test_it_is_of_python_3_6() -> None:
    ast.parse(KEEPER.read_text(), feature_version=(3, 6))


def test_frames_are_given_on_and_pieces_kept(tmp_path: Path) -> None:
    large = os.urandom(300_001)
    said = b"- x\n3\nabc300001 %s\n%s-\n+ %s\n0\ndone\n" % (NAME.encode(), large, HERE.encode())
    done = keep(tmp_path, said)
    assert (done.code, done.rest) == (0, b"done\n"), "nothing is read behind the end"
    assert done.given == b"abc" + large + b"here"
    assert done.files == {f"{NAME}.1-2": large}
    assert (tmp_path / f"{NAME}.1-2").stat().st_mode & 0o777 == 0o600
    assert {mark.split()[0] for mark in done.marks} == {"wait", "work"}
    assert done.marks[0].startswith("wait 77 ")


def test_an_engine_that_is_slow_gets_all(tmp_path: Path) -> None:
    """Through a pipe that is full again and again, out of the file and not."""
    large = os.urandom(5_000_000)
    for number, name in enumerate((b"", b" " + NAME.encode())):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "said").write_bytes(b"%d%s\n%s0\n" % (len(large), name, large))
        command = 'exec 8>/dev/null; "$@" <said | { sleep 0.2; sha256sum; }'
        words = ["/bin/sh", "-c", command, "sh", sys.executable, "-I", "-S", str(KEEPER), "7", "1-2", "1"]
        told = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, check=True).stdout
        assert told.split()[0].decode() == hashlib.sha256(large).hexdigest()


@pytest.mark.parametrize(
    ("said", "code", "given"),
    [
        (b"3\nab", 3, b"ab"),
        (b"3", 3, b""),
        (b"3\nabc", 3, b"abc"),
        (b"3 ../x\nabc", 0, b""),
        (b"3 .x\nabc", 0, b""),
        (b"+ ../x\n", 0, b""),
        (b"+ abc\n", 0, b""),
        (b"+\n", 0, b""),
        (b"\n", 0, b""),
        (b"x\n", 0, b""),
        (b"123456789\n", 0, b""),
        (b"- and more\n0\n", 0, b""),
    ],
)
def test_what_is_none_ends_it(tmp_path: Path, said: bytes, code: int, given: bytes) -> None:
    done = keep(tmp_path, said)
    assert (done.code, done.given, done.files) == (code, given, {})


def test_a_piece_that_broke_off_is_not_kept(tmp_path: Path) -> None:
    done = keep(tmp_path, b"3 %s\nab" % NAME.encode())
    assert (done.code, done.given, done.files) == (3, b"ab", {})


def test_where_the_disk_is_full_all_goes_on(tmp_path: Path) -> None:
    large, other = os.urandom(200_000), NAME.replace("a", "d").encode()
    said = b"3 %s\nabc200000 %s\n%s3 %s\nabc0\n" % (NAME.encode(), other, large, NAME.replace("a", "e").encode())
    done = keep(tmp_path, said, most=100_000)
    assert (done.code, done.given) == (0, b"abc" + large + b"abc")
    assert done.files == {f"{NAME}.1-2": b"abc"}, "and nothing further is kept"


@pytest.mark.parametrize("removed", [False, True])
def test_a_disk_that_is_full_at_a_piece_s_end_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    """close(2): a disk of the network's may tell no sooner. Another session may have removed the piece by then."""
    given: list[bytes] = []
    close = os.close

    def fail(file: int) -> None:
        close(file)
        if removed:
            (tmp_path / f"{NAME}.1-2").unlink()
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keeper, "_MARKED", float("inf"))
    monkeypatch.setattr(keeper, "_read", lambda count: b"x" * count)
    one = keeper.Keeper("77", "1-2", "1000")
    monkeypatch.setattr(one, "_pass", lambda *words: given.append(words[-1]))
    with monkeypatch.context() as full:
        full.setattr(os, "close", fail)
        one._frame(3, NAME.encode())
    one._frame(3, NAME.encode())
    assert given == [b"xxx", b"xxx"]
    assert not list(tmp_path.iterdir()), "nor is a further one kept"


def test_without_room_nothing_is_kept(tmp_path: Path) -> None:
    done = keep(tmp_path, b"3 %s\nabc0\n" % NAME.encode(), room="0")
    assert (done.code, done.given, done.files) == (0, b"abc", {})


def test_where_python3_does_not_start_the_shell_does_it(shell: list[str], tmp_path: Path) -> None:
    end = TargetEnd(KINDS["docker's API"], tmp_path)
    path = shutil.which(shell[0])
    assert path
    end.shell = [path, *shell[1:]]
    (end.bin / "python3").write_text("#!/bin/sh\nexit 1\n")
    (end.bin / "python3").chmod(0o755)
    app = Picture((layer_tar("small"), layer_tar("large", 36 << 20)), ("", ""))
    done = end.push(end.layout(app), "--name", "app:2")
    assert (done.code, end.names) == (0, {"docker.io/library/app:2": end.id(app)}), done.stderr
    assert end.is_tidy()
