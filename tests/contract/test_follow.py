"""What follows a push, through real shells: a command runs as the login shell would run it, and files arrive."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.target_ends import KINDS, Pushed, TargetEnd, pictures
from rig.processes import wait_until

NAME = "docker.io/library/app:2"
LOGIN_SHELLS = ("bash", "dash", "zsh", "fish", "tcsh", "busybox")
#: Each of these would do something else where a shell read it once too often, or where it was cut.
HOSTILE = (
    "'\"`$(touch owned)` $HOME \\ \\\\ %s %d ! * ? ~ {a,b} ;&| <> #",
    "two\nlines\n\n  and a third ",
    "-n",
    "--",
    "ran 0",
    "failed load",
    "EOF\nSCRIPT\nLINE",
    "\u00e9\u4e2d\u202e\x1b[31m",
)


@pytest.fixture(params=[kind for kind in KINDS if not KINDS[kind].receiver])
def end(request: pytest.FixtureRequest, tmp_path: Path) -> TargetEnd:
    return TargetEnd(KINDS[request.param], tmp_path)


@pytest.fixture
def docker(tmp_path: Path) -> TargetEnd:
    return TargetEnd(KINDS["docker's command"], tmp_path)


def app(end: TargetEnd) -> str:
    return end.layout(pictures("a", "b"))


def push(end: TargetEnd, *words: str) -> Pushed:
    return end.push(app(end), "--name", "app:2", *words)


def said(run: Pushed) -> list[str]:
    """What the command has said; a line lacks the blanks at its end."""
    return [line.removeprefix("env |")[1:] for line in run.stderr.splitlines() if line.startswith("env |")]


# The command.


def test_it_knows_the_image_its_id_and_the_one_before(end: TargetEnd) -> None:
    old, new = pictures("a", "x"), pictures("a", "b")
    end.hold(NAME, old)
    told = 'echo "$LAYERFERRY_IMAGE $LAYERFERRY_IMAGE_ID $LAYERFERRY_PREVIOUS_ID"; pwd; echo "in: $(cat)"; echo err >&2'
    run = push(end, "--then", told)
    assert run.code == 0, run.stderr
    assert said(run) == [f"{NAME} {end.id(new)} {end.id(old)}", str(end.folder / "home"), "in:", "err"]
    assert run.results[0]["then"][0] | {"seconds": 0} == {"on": "env", "status": 0, "seconds": 0}
    assert run.results[0]["verified"]
    assert end.is_tidy()


def test_it_runs_where_the_image_was_there_already_and_where_there_was_none_before(docker: TargetEnd) -> None:
    told = 'echo "[$LAYERFERRY_PREVIOUS_ID]"'
    assert said(push(docker, "--then", told)) == ["[]"]
    assert said(push(docker, "--then", told)) == [f"[{docker.id(pictures('a', 'b'))}]"]
    assert docker.calls.count("load") == 1


def test_of_several_images_it_has_a_line_for_each_name(docker: TargetEnd) -> None:
    one, two = pictures("a", "b"), pictures("a", "c")
    old = "docker.io/library/app:3"
    docker.hold(old, one)
    images = [docker.layout(one, name=NAME), docker.layout(two, name=old)]
    run = docker.push(*images, "--then", 'printf "%s\\n" "$LAYERFERRY_IMAGE" "$LAYERFERRY_PREVIOUS_ID"')
    assert said(run) == [NAME, old, "", docker.id(one)]
    assert [result["then"][0]["status"] for result in run.results] == [0, 0]


def test_one_that_fails_is_told_with_its_last_lines_and_the_way_back(end: TargetEnd) -> None:
    old = pictures("a", "x")
    end.hold(NAME, old)
    run = push(end, "--then", "seq 1 20; printf unfinished >&2; exit 3")
    assert run.code == 8
    assert end.names == {NAME: end.id(pictures("a", "b"))}
    (result,) = run.results
    assert result["verified"]
    assert result["then"][0]["status"] == 3
    assert result["error"]["message"] == "env: the image is there, but the command after it ended with status 3"
    assert "14 15 16 17 18 19 20 unfinished " in result["error"]["hint"]
    assert end.id(old) in result["error"]["hint"]
    assert end.is_tidy()


@pytest.mark.parametrize("line", HOSTILE)
def test_no_line_that_it_says_is_taken_for_ours(docker: TargetEnd, line: str) -> None:
    run = push(docker, "--then", f"printf '%s' {shell_quoted(line)}")
    assert run.code == 0, run.stderr
    assert run.results[0]["then"][0]["status"] == 0
    assert "\x1b" not in run.stderr
    assert "\u202e" not in run.stderr


def test_a_token_that_is_not_ours_ends_nothing(docker: TargetEnd) -> None:
    run = push(docker, "--then", "echo 0123456789abcdef0123456789abcdef 0; echo ran 0; exit 5")
    assert run.results[0]["then"][0]["status"] == 5


def test_it_is_ended_with_all_that_it_started_when_its_time_is_over(docker: TargetEnd) -> None:
    run = push(docker, "--then-timeout", "1", "--then", "sleep 4321 & echo $! >pid; wait; wait")
    assert run.code == 8
    assert run.results[0]["then"][0]["status"] is None
    assert "did not end within 1 s" in run.results[0]["error"]["message"]
    assert not lives(docker)


def test_one_that_does_not_heed_a_signal_and_talks_all_the_time_is_killed(docker: TargetEnd) -> None:
    run = push(
        docker, "--then-timeout", "1", "--then", "echo $$ >pid; trap '' TERM; while :; do echo x; sleep 0.1; done"
    )
    assert run.code == 8
    assert run.results[0]["then"][0]["status"] is None
    assert not lives(docker)


def test_what_it_leaves_in_the_background_goes_on(docker: TargetEnd) -> None:
    run = push(docker, "--then", "sleep 30 >/dev/null 2>&1 & echo $! >pid")
    assert run.code == 0, run.stderr
    assert run.results[0]["then"][0]["seconds"] < 25
    assert lives(docker)
    os.kill(pid(docker), signal.SIGKILL)


def test_much_output_comes_whole_and_a_long_line_in_parts(docker: TargetEnd) -> None:
    run = push(docker, "--then", "seq 1 3000; head -c 50000 /dev/zero | tr '\\0' x; echo; echo end")
    lines = said(run)
    assert lines[:3000] == [str(number) for number in range(1, 3001)]
    assert lines[-1] == "end"
    assert set(lines[3001]) <= {"x", "\u2026"}


def test_a_client_that_is_killed_ends_it(docker: TargetEnd) -> None:
    with pushing(docker, "--then", "echo $$ >pid; sleep 4321") as client:
        wait_until((docker.folder / "home/pid").exists, "it goes on", seconds=60)
        client.kill()
        wait_until(lambda: not lives(docker), "it goes on", seconds=60)
    wait_until(docker.is_tidy, "it goes on", seconds=60)


def test_a_signal_ends_it_and_is_told_as_one_and_the_image_is_there(docker: TargetEnd) -> None:
    with pushing(docker, "--then", "echo $$ >pid; sleep 4321") as client:
        wait_until((docker.folder / "home/pid").exists, "it goes on", seconds=60)
        client.send_signal(signal.SIGTERM)
        out, _ = client.communicate(timeout=60)
    assert client.returncode == 130
    (result,) = json.loads(out)["results"]
    assert result["error"]["exit_code"] == 130
    assert result["image_id"] == docker.id(pictures("a", "b"))
    wait_until(lambda: not lives(docker), "it goes on", seconds=60)


def test_a_connection_that_breaks_meanwhile_runs_it_no_second_time(docker: TargetEnd) -> None:
    """The shell that is our end there is killed; a retry would find the image, and begin anew."""
    kill = (
        "echo x >>runs; main=$(ps -o ppid= -p $(ps -o ppid= -p $$)); outer=$(ps -o ppid= -p $main);"
        "kill -9 $(pgrep -P $main) $(pgrep -P $outer) $outer"
    )
    run = push(docker, "--retries", "3", "--then", kill)
    assert run.code == 8, run.stderr
    assert (docker.folder / "home/runs").read_text() == "x\n"
    assert "may have done some of its work, or all" in run.results[0]["error"]["message"]
    assert docker.names == {NAME: docker.id(pictures("a", "b"))}


def test_a_dry_run_tells_what_it_would_do_and_does_nothing(docker: TargetEnd) -> None:
    (docker.folder / "conf").write_text("x")
    run = push(docker, "--dry-run", "--then", "touch owned", "--copy", f"{docker.folder}/conf:etc/conf")
    assert run.code == 0, run.stderr
    assert "env  would follow: touch owned" in run.stderr
    assert "env  would follow: copy etc/conf (1 bytes, mode 0" in run.stderr
    assert list((docker.folder / "home").iterdir()) == []
    assert docker.names == {}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].receiver])
@pytest.mark.parametrize("words", [("--then", "touch owned"), ("--copy", "/etc/hostname")])
def test_a_receiver_gets_neither_image_nor_command(tmp_path: Path, kind: str, words: tuple[str, ...]) -> None:
    end = TargetEnd(KINDS[kind], tmp_path)
    run = push(end, *words)
    assert run.code == 2
    assert "a receiver, which takes images, and no commands" in run.stderr
    assert end.names == {}


# Scripts.


def test_a_script_goes_to_the_program_that_its_first_line_names(docker: TargetEnd) -> None:
    script = docker.folder / "deploy"
    script.write_text(
        f"#!{sys.executable} -I\nimport os\nprint('it\\'s $(x)', os.environ['LAYERFERRY_IMAGE'])\nexit(4)\n"
    )
    run = push(docker, "--then-file", str(script))
    assert (run.code, said(run)) == (8, [f"it's $(x) {NAME}"])


def test_one_without_such_a_line_goes_to_sh_and_may_be_long(docker: TargetEnd) -> None:
    script = docker.folder / "deploy.sh"
    script.write_text("x=1\n" * 100_000 + "echo $((x + 1))\n")
    assert said(push(docker, "--then-file", str(script))) == ["2"]


# Login shells.


def over_ssh(end: TargetEnd, shell: str, *words: str) -> Pushed:
    """Push through a stand-in for ssh, which starts `shell` as sshd does."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} here")
    here = end.folder / "here"
    here.mkdir(exist_ok=True)
    login = end.bin / "login"
    login.write_text(f'#!/bin/sh\nexec {program} {"sh" if shell == "busybox" else ""} "$@"\n')
    environment = " ".join(f"'{word}'" for word in (*end.command[2:-1], f"SHELL={login}", "USERS=own"))
    (here / "ssh").write_text(
        '#!/bin/sh\ncase " $* " in *" -G "*) exit ;; esac\nfor last; do :; done\n'
        f'exec env -i {environment} {login} -c "$last"\n'
    )
    for path in (login, here / "ssh"):
        path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "layerferry", "push", app(end), "host", "--name", "app:2", "--json", *words],
        capture_output=True, check=False, timeout=120, text=True,
        env={"PATH": f"{here}:{os.environ['PATH']}", "HOME": str(end.folder), "TMPDIR": str(end.folder / "scratch"),
             "LAYERFERRY_RETRIES": "0"},
    )  # fmt: skip
    return Pushed(done.returncode, json.loads(done.stdout)["results"] if done.stdout else [], done.stderr)


def shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_every_login_shell_gets_the_command_as_it_is(docker: TargetEnd, shell: str) -> None:
    """As `ssh HOST COMMAND` would: with that shell's own words, and the environment of a login."""
    own = {"fish": "string upper (pwd)", "tcsh": "echo $cwd:t"}.get(shell, 'echo "${PWD##*/}"')
    command = f"{own}; printf '%s|' $LAYERFERRY_IMAGE $USERS \"$PATH\"; printenv LC_ALL; printenv DOCKER_HOST; cat"
    run = over_ssh(docker, shell, "--then", command)
    assert run.code == 0, run.stderr
    first, second = (line.removeprefix("host | ") for line in run.stderr.splitlines() if line.startswith("host | "))
    assert first == {"fish": str(docker.folder / "home").upper()}.get(shell, "home")
    assert second == f"{NAME}|own|{docker.bin}:{os.defpath}|"


@pytest.mark.parametrize("shell", LOGIN_SHELLS)
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_values_arrive_as_they_are(docker: TargetEnd, shell: str, text: str) -> None:
    """In a command, in a script, in a path and in a file; nothing is cut, and nothing is done of it."""
    if shell == "tcsh" and ("\n" in text or "!" in text):
        pytest.skip("tcsh has no such words, and says so")
    quoted = text.replace("\\", "\\\\") if shell == "fish" else text
    quoted = shell_quoted(quoted) if shell != "fish" else "'" + quoted.replace("'", "\\'") + "'"
    (docker.folder / "content").write_text(text)
    path = text.partition("\n")[0].replace("/", "_") if text.isprintable() else "plain"
    run = over_ssh(docker, shell, "--then", f"printf %s {quoted} >said", "--copy", f"{docker.folder}/content:{path}")
    home = docker.folder / "home"
    assert run.code == 0, run.stderr
    assert (home / "said").read_text() == text
    assert (home / path).read_text() == text
    assert {entry.name for entry in home.iterdir()} - {".config", ".local", ".cache"} == {"said", path}


# Helpers.


def pid(end: TargetEnd) -> int:
    return int((end.folder / "home/pid").read_text())


def lives(end: TargetEnd) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid(end)}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ValueError):
        return False


@contextlib.contextmanager
def pushing(end: TargetEnd, *words: str) -> Iterator["subprocess.Popen[str]"]:
    command = [
        sys.executable,
        "-m",
        "layerferry",
        "push",
        app(end),
        "--name",
        "app:2",
        "--json",
        *words,
        "--",
        *end.command,
    ]
    env = {"PATH": os.environ["PATH"], "HOME": str(end.folder), "TMPDIR": str(end.folder / "scratch")}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        try:
            yield client
        finally:
            client.kill()
