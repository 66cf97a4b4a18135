"""Files that are copied after a push: each arrives whole under its path, or all stay as they were."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from contract.target_ends import KINDS, Pushed, TargetEnd, pictures

NAME = "docker.io/library/app:2"


@pytest.fixture(params=[kind for kind in KINDS if not KINDS[kind].receiver])
def end(request: pytest.FixtureRequest, tmp_path: Path) -> TargetEnd:
    return TargetEnd(KINDS[request.param], tmp_path)


@pytest.fixture
def docker(tmp_path: Path) -> TargetEnd:
    return TargetEnd(KINDS["docker's command"], tmp_path)


def push(end: TargetEnd, *words: str) -> Pushed:
    return end.push(end.layout(pictures("a", "b")), "--name", "app:2", *words)


def test_files_arrive_with_their_modes_before_the_command(end: TargetEnd) -> None:
    home = end.folder / "home"
    (home / "etc").mkdir()
    (end.folder / ".env").write_text("SECRET=1\n")
    (end.folder / ".env").chmod(0o644)
    (end.folder / "run").write_bytes(bytes(range(256)) * 20)
    (end.folder / "run").chmod(0o750)
    copies = (
        "--copy",
        f"{end.folder}/.env",
        "--copy",
        f"{end.folder}/run:etc/run",
        "--copy",
        f"{end.folder}/run:{home}/b",
    )
    run = push(end, *copies, "--then", "cat .env; ls etc")
    assert run.code == 0, run.stderr
    assert "env | SECRET=1\nenv | run\n" in run.stderr
    assert {path.name for path in (*home.iterdir(), *(home / "etc").iterdir())} == {".env", "b", "etc", "run"}
    assert stat.S_IMODE((home / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "etc/run").stat().st_mode) == 0o750
    assert (home / "b").read_bytes() == (end.folder / "run").read_bytes()


@pytest.mark.parametrize("name", ["a b", "'q'", '"$(touch owned)"', "-n", "x;y", "*", "\u00e9", "a\\b", "%s"])
def test_a_name_is_a_name_whatever_stands_in_it(docker: TargetEnd, name: str) -> None:
    home = docker.folder / "home"
    (docker.folder / "conf").write_text("new")
    (home / name).write_text("old")
    assert push(docker, "--copy", f"{docker.folder}/conf:{name}").code == 0
    assert [path.name for path in home.iterdir()] == [name]
    assert (home / name).read_text() == "new"


@pytest.mark.parametrize("remote", ["../x", "a/../../x", "/etc/../x", "x/", "a\nb", "~root/x", "..", ".", "x" * 1100])
def test_a_path_that_leads_elsewhere_is_refused_before_anything_is_sent(docker: TargetEnd, remote: str) -> None:
    (docker.folder / "conf").write_text("x")
    run = push(docker, "--copy", f"{docker.folder}/conf:{remote}")
    assert run.code == 2, run.stderr
    assert "Traceback" not in run.stderr
    assert docker.names == {}


def refused(docker: TargetEnd, word: str) -> None:
    run = push(
        docker, *("--copy", f"{docker.folder}/conf:first"), "--copy", f"{docker.folder}/conf:at", "--then", "touch ran"
    )
    assert run.code == 8, run.stderr
    assert word in run.results[0]["error"]["message"]
    home = docker.folder / "home"
    assert not {path.name for path in home.iterdir()} - {"at", "first"}
    assert (home / "first").read_text() == "old"
    assert docker.names == {NAME: docker.id(pictures("a", "b"))}
    assert docker.is_tidy()


@pytest.fixture
def old(docker: TargetEnd) -> Path:
    """A home with a file that is to be replaced; ours."""
    (docker.folder / "conf").write_text("new")
    (docker.folder / "home/first").write_text("old")
    return docker.folder / "home"


def test_a_link_is_not_followed_and_not_replaced(docker: TargetEnd, old: Path) -> None:
    (docker.folder / "elsewhere").write_text("safe")
    (old / "at").symlink_to(docker.folder / "elsewhere")
    refused(docker, "it is a link there")
    assert (docker.folder / "elsewhere").read_text() == "safe"


def test_a_folder_and_a_pipe_are_no_files(docker: TargetEnd, old: Path) -> None:
    (old / "at").mkdir()
    refused(docker, "it is no file there")
    (old / "at").rmdir()
    os.mkfifo(old / "at")
    refused(docker, "it is no file there")


def test_a_folder_that_is_not_there_is_not_made(docker: TargetEnd, old: Path) -> None:
    del old
    run = push(docker, "--copy", f"{docker.folder}/conf:no/conf")
    assert run.code == 8
    assert "no/conf: its folder is not there" in run.results[0]["error"]["message"]


def test_what_a_killed_session_has_left_beside_goes_with_the_next(docker: TargetEnd, old: Path) -> None:
    mine = subprocess.Popen(["sleep", "0"])
    mine.wait()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().partition("-")[0]
    space = str(Path("/proc/self/ns/pid").readlink()).removeprefix("pid:[").removesuffix("]")
    left = old / f".layerferry-{'0' * 16}-{mine.pid}-1-{boot}-{space}-{os.getuid()}"
    other = old / f".layerferry-{'1' * 16}-{mine.pid}-1-{boot}-{space}-4321"
    for path in (left, other):
        path.touch()
    assert push(docker, "--copy", f"{docker.folder}/conf:first").code == 0
    assert {path.name for path in old.iterdir()} == {"first", other.name}


def test_a_file_that_is_too_large_or_none_is_refused(docker: TargetEnd) -> None:
    (docker.folder / "large").write_bytes(bytes((1 << 20) + 1))
    for local, word in (
        ("large", "more than 1048576 bytes"),
        ("missing", "cannot be read"),
        ("home", "Is a directory"),
    ):
        run = push(docker, "--copy", f"{docker.folder}/{local}")
        assert (run.code, docker.names) == (2, {})
        assert word in run.stderr
