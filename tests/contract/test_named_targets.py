"""Names of a project's file on real command lines: with an ssh that is a stand-in and says whom it was to call."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = """\
[images]
app = "oci:image"
[targets.prod]
to = ["deploy@web1.example", "deploy@web2.example"]
keep-previous = "before"
retries = 0
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    (project / "below").mkdir()
    (project / "layerferry.toml").write_text(FILE)
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\necho "Permission denied (publickey)." >&2\nexit 255\n')
    ssh.chmod(0o755)
    source = Path(__file__).parents[2] / "src"
    return {
        "PATH": f"{ssh.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PWD": str(project / "below"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(source), os.environ.get("PYTHONPATH", "")))),
        "DOCKER_HOST": f"unix://{tmp_path}/none.sock",
        "LANG": "C.UTF-8",
    }


def layerferry(env: dict[str, str], *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "layerferry", *words],
        env={**env, **more},
        cwd=env["PWD"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def called(env: dict[str, str]) -> set[str]:
    calls = Path(env["HOME"], "calls")
    lines = calls.read_text().splitlines() if calls.exists() else []
    return {host for host in ("web1", "web2", " prod") if any(host in line for line in lines)}


def test_push_calls_all_hosts_of_a_name_and_says_what_it_stands_for(env: dict[str, str]) -> None:
    done = layerferry(env, "push", "app", "prod", "--name", "app:2")
    assert called(env) == {"web1", "web2"}, done.stderr
    assert "prod is deploy@web1.example, deploy@web2.example (../layerferry.toml)" in done.stderr
    assert "app is oci:../image (../layerferry.toml)" in done.stderr


def test_print_config_shows_each_origin_and_calls_nobody(env: dict[str, str]) -> None:
    done = layerferry(env, "push", "app", "prod", "--jobs", "3", "--print-config", LAYERFERRY_RETRIES="2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "LAYERFERRY_KEEP_PREVIOUS=before  # ../layerferry.toml, targets.prod.keep-previous" in lines
    assert "LAYERFERRY_RETRIES=2  # LAYERFERRY_RETRIES" in lines
    assert "LAYERFERRY_JOBS=3  # command line" in lines
    assert "LAYERFERRY_TIMEOUT=0.0  # default" in lines
    assert any(line.startswith("LAYERFERRY_TARGETS=deploy@web1.example deploy@web2.example  #") for line in lines)
    assert called(env) == set()


@pytest.mark.parametrize("words", [("rollback", "prod", "app:1"), ("gc", "prod"), ("doctor", "prod")])
def test_other_commands_know_the_names(env: dict[str, str], words: tuple[str, ...]) -> None:
    (Path(env["PWD"]).parent / "layerferry.toml").write_text(FILE.replace("oci:image", "team/app"))
    done = layerferry(env, *words)
    assert called(env) == {"web1", "web2"}, done.stderr


def test_ssh_has_the_last_word_on_a_host_that_is_written_out(env: dict[str, str]) -> None:
    layerferry(env, "push", "oci:image", "ssh://prod", "--name", "app:2")
    assert called(env) == {" prod"}


def test_run_reads_the_file_that_a_variable_names_and_no_other(env: dict[str, str]) -> None:
    wanted = {"LAYERFERRY_IMAGES": "app", "LAYERFERRY_TARGETS": "prod", "LAYERFERRY_NAMES": "app:2"}
    layerferry(env, "run", **wanted)
    assert called(env) == {" prod"}
    done = layerferry(env, "run", **wanted, LAYERFERRY_CONFIG="../layerferry.toml")
    assert called(env) == {" prod", "web1", "web2"}, done.stdout + done.stderr


def test_a_shell_is_offered_the_names(env: dict[str, str]) -> None:
    line = "layerferry push app pr"
    done = layerferry(env, _LAYERFERRY_COMPLETE="fish_complete", COMP_WORDS=line, COMP_CWORD="pr")
    assert "prod" in done.stdout
    line = "layerferry push ap"
    done = layerferry(env, _LAYERFERRY_COMPLETE="fish_complete", COMP_WORDS=line, COMP_CWORD="ap")
    assert "app" in done.stdout
