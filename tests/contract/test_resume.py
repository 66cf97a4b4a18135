"""A push that broke off goes on where it was, at every end that keeps what has arrived; and nothing of it stays."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contract.target_ends import KINDS, Pushed, TargetEnd
from packed import Picture, digest_of, layer_tar

NAME = "docker.io/library/app:2"
SIZE = 36 << 20
#: Bytes that may be sent twice: a piece, and what lies in pipes.
TWICE = 1 << 20


@pytest.fixture(scope="module")
def app() -> Picture:
    return Picture((layer_tar("small"), layer_tar("large", SIZE)), ("", ""))


#: The ends of most tests: what is kept does not depend on the engine.
ENDS = pytest.mark.parametrize("kind", ["docker's API", "the receiver, docker"])


@pytest.fixture
def kind() -> str:
    return "docker's API"


@pytest.fixture
def end(kind: str, tmp_path: Path) -> TargetEnd:
    return TargetEnd(KINDS[kind], tmp_path)


def spool(end: TargetEnd) -> Path:
    if end.kind.receiver:
        return end.folder / "home" / ".local" / "state" / "layerferry" / "arrived"
    return end.folder / "home" / ".cache" / "layerferry" / "arrived"


def kept(end: TargetEnd) -> list[Path]:
    """The files of the spool."""
    return sorted(path for path in spool(end).rglob("*") if path.is_file())


def push(end: TargetEnd, layout: str, limit: int = -1) -> tuple[Pushed, int]:
    """Push through a line that breaks behind `limit` bytes; the bytes that it carried."""
    log = end.folder / "bytes"
    pipe = [sys.executable, str(Path(__file__).with_name("cutting_pipe.py")), str(limit), str(log)]
    done = end.push(layout, "--name", "app:2", before=pipe)
    return done, int(log.read_text().splitlines()[-1])


def gc(end: TargetEnd) -> tuple[int, dict[str, object]]:
    """Run `layerferry gc`: its exit code, and what it tells of the one target."""
    engine = ["--engine", end.kind.engine] if end.kind.engine else []
    words = [sys.executable, "-m", "layerferry", "gc", "--json", *engine, "--", *end.command]
    environment = {"PATH": os.environ["PATH"], "HOME": str(end.folder), "TMPDIR": str(end.folder / "scratch")}
    done = subprocess.run(words, stdout=subprocess.PIPE, env=environment, check=False, timeout=120)
    (told,) = json.loads(done.stdout)["collected"]
    return done.returncode, told


@pytest.mark.parametrize(
    ("kind", "share"),
    [("docker's API", 0.1), ("docker's API", 0.95), *((kind, 0.5) for kind in KINDS)],
)
def test_a_push_that_broke_off_costs_no_byte_twice(end: TargetEnd, app: Picture, share: float) -> None:
    layout = end.layout(app)
    limit = int(SIZE * share)
    broken, first = push(end, layout, limit)
    assert broken.code in {4, 5}, broken.stderr
    assert first == limit
    assert end.names == end.before
    assert kept(end), "what has arrived is there"
    assert oct(kept(end)[0].parent.stat().st_mode & 0o777) == "0o700"

    done, second = push(end, layout)
    assert (done.code, end.names) == (0, {NAME: end.id(app)}), done.stderr
    assert first + second < SIZE + 2 * TWICE
    told = done.results[0]["bytes"]
    assert abs(told["resumed"] - limit) < 2 * TWICE
    assert told["sent"] == second
    assert end.is_tidy()
    assert not spool(end).exists(), "nothing of it is left"


def test_it_goes_on_in_every_shell(shell: list[str], end: TargetEnd, app: Picture) -> None:
    path = shutil.which(shell[0])
    assert path
    end.shell = [path, *shell[1:]]
    layout = end.layout(app)
    push(end, layout, SIZE // 2)
    done, second = push(end, layout)
    assert (done.code, end.names) == (0, {NAME: end.id(app)}), done.stderr
    assert second < SIZE // 2 + 2 * TWICE
    assert not spool(end).exists()


@ENDS
def test_of_a_push_that_was_not_disturbed_nothing_is_left(end: TargetEnd, app: Picture) -> None:
    done, _ = push(end, end.layout(app))
    assert done.code == 0, done.stderr
    assert done.results[0]["bytes"]["resumed"] == 0
    assert not list((end.folder / "home").iterdir()) or end.kind.receiver
    assert not spool(end).exists()


@ENDS
def test_what_is_damaged_there_is_sent_again(end: TargetEnd, app: Picture) -> None:
    layout = end.layout(app)
    push(end, layout, SIZE // 2)
    for number, path in enumerate(kept(end)):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data if number % 2 else data[:100])
    done, second = push(end, layout)
    assert (done.code, end.names) == (0, {NAME: end.id(app)}), done.stderr
    assert second > SIZE
    assert not spool(end).exists()


@ENDS
def test_what_was_never_that_piece_is_refused_and_all_goes_again(end: TargetEnd, app: Picture) -> None:
    """The digest in its name is that of the file, and the file another: whoever wrote it has lied."""
    layout = end.layout(app)
    push(end, layout, SIZE // 2)
    one, two, *_ = (path for path in kept(end) if digest_of(path.read_bytes())[7:39] == path.name.split(".")[2])
    (one_name, two_name) = (one.name.split("."), two.name.split("."))
    one.write_bytes(two.read_bytes())
    one.rename(one.with_name(".".join([*one_name[:2], two_name[2], *one_name[3:]])))
    done, _ = push(end, layout)
    assert (done.code, end.names) == (0, {NAME: end.id(app)}), done.stderr
    if not end.kind.receiver:
        assert end.calls.count("load") == 3, "the one that broke off, the one that was refused, and that of all"
    assert done.results[0]["bytes"]["resumed"] == 0
    assert not spool(end).exists()


@pytest.mark.parametrize("what", ["link", "open to others", "a link above", "a file"])
def test_a_folder_that_is_not_ours_alone_is_not_used(end: TargetEnd, app: Picture, what: str) -> None:
    elsewhere = end.folder / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    place = spool(end) if what != "a link above" else spool(end).parent
    place.parent.mkdir(parents=True)
    match what:
        case "open to others":
            place.mkdir(mode=0o755)
            elsewhere = place
        case "a file":
            place.touch()
        case _:
            place.symlink_to(elsewhere)
    layout = end.layout(app)
    push(end, layout, SIZE // 2)
    assert not list(elsewhere.iterdir())
    done, second = push(end, layout)
    assert done.code == 0, done.stderr
    assert second > SIZE


def test_a_session_that_was_killed_leaves_what_the_next_one_takes(end: TargetEnd, app: Picture) -> None:
    layout = end.layout(app)
    push(end, layout, SIZE // 2)
    orphan = spool(end) / "c.999999999-1-0-0-0"
    orphan.mkdir()
    os.link(kept(end)[0], orphan / "x")
    done, second = push(end, layout)
    assert done.code == 0, done.stderr
    assert second < SIZE // 2 + 2 * TWICE


@ENDS
def test_what_is_too_old_goes_with_the_next_push(end: TargetEnd, app: Picture) -> None:
    push(end, end.layout(app), SIZE // 2)
    for path in kept(end):
        os.utime(path, (0, 0))
    other = Picture((layer_tar("other"),), ("",))
    assert end.push(end.layout(other), "--name", "app:3").code == 0
    assert not kept(end)


@ENDS
def test_two_pushes_of_the_same_at_once_do_not_harm_each_other(end: TargetEnd, app: Picture) -> None:
    layout = end.layout(app)
    push(end, layout, SIZE // 2)
    words = [sys.executable, "-m", "layerferry", "push", layout, "--name", "app:2", "--json"]
    engine = ["--engine", end.kind.engine] if end.kind.engine else []
    both = [
        subprocess.Popen(
            [*words, *engine, "--", *end.command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(end.folder), "LAYERFERRY_RETRIES": "0",
                 "TMPDIR": str(end.folder / "scratch")},
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in both:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr.decode()
    assert end.names == {NAME: end.id(app)}
    assert not spool(end).exists()


def test_a_small_push_says_no_word_of_it(end: TargetEnd) -> None:
    log = end.folder / "log-of-push"
    picture = Picture((layer_tar("large", 3 << 20),), ("",))
    assert end.push(end.layout(picture), "--name", "app:2", "--log", str(log)).code == 0
    assert "resume" not in log.read_text().replace("idle login parts resume", "")


@pytest.mark.parametrize("kind", KINDS)
def test_gc_removes_all_that_dead_sessions_have_left(end: TargetEnd) -> None:
    piece = f"{'a' * 16}.{'b' * 32}.{'c' * 32}" + ("" if end.kind.receiver else ".999999999-1-0-0-0")
    picture = Picture((layer_tar("small"),), ("",))
    end.hold("docker.io/library/old:1", picture)
    if not end.kind.receiver:  # what a receiver has left is in a folder of its policy
        spool(end).mkdir(parents=True, mode=0o700)
        (spool(end) / piece).write_bytes(bytes(1000))
    code, told = gc(end)
    assert code == 0
    assert told["names"] == 0
    assert told["bytes"] == (0 if end.kind.receiver else 1000)
    assert not spool(end).exists()
    assert end.is_tidy()


def test_gc_is_done_where_nothing_is_left(shell: list[str], end: TargetEnd) -> None:
    path = shutil.which(shell[0])
    assert path
    end.shell = [path, *shell[1:]]
    code, told = gc(end)
    assert (code, told["names"], told["bytes"]) == (0, 0, 0)


def test_gc_frees_what_a_push_has_left_at_a_receiver(app: Picture, tmp_path: Path) -> None:
    end = TargetEnd(KINDS["the receiver, docker"], tmp_path)
    push(end, end.layout(app), SIZE // 2)
    there = sum(path.stat().st_size for path in kept(end))
    assert there > SIZE // 3
    assert gc(end) == (0, {"target": "env", "names": 0, "bytes": there})
    assert not spool(end).exists()
