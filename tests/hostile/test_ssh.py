"""ssh that shouts, and several targets of which one is hostile: the good one has its image, and is told of."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hostile import fake_ssh, layouts
from hostile.claims import clean_json, one_sentence, only_asked, within_bounds
from hostile.command import HERE, Command, Outcome

SECRET = "tok-sesame-and-more"


class Ssh:
    """Pushes through a `ssh` of ours that stands first on PATH."""

    def __init__(self, folder: Path, layerferry: Command) -> None:
        self._layerferry = layerferry
        self.heard = folder / "heard"
        self._images = layouts.ImageFolder(folder / "images")
        self._bin = folder / "bin"
        self._bin.mkdir()
        script = self._bin / "ssh"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {HERE / "fake_ssh.py"} "$@"\n')
        script.chmod(0o755)

    def __call__(self, *words: str, size: int = 3000, shell: str = "", **env: str) -> Outcome:
        around = {"PATH": f"{self._bin}:/usr/local/bin:/usr/bin:/bin", "HEARD": str(self.heard), **env}
        return self._layerferry("push", self._images.of(size), "--name", "app:1", *words, env=around, shell=shell)


@pytest.fixture
def ssh(tmp_path: Path, layerferry: Command) -> Ssh:
    return Ssh(tmp_path, layerferry)


@pytest.mark.parametrize("host", fake_ssh.SAYS)
def test_what_ssh_says_is_told_in_one_sentence(host: str, ssh: Ssh) -> None:
    one_sentence(ssh(host), (4,))


def test_a_banner_for_ever(ssh: Ssh) -> None:
    one_sentence(ssh("for-ever", "--timeout", "3"), (4, 5))


def test_an_honest_host_is_believed(ssh: Ssh) -> None:
    one_sentence(ssh("good"), (0,), "verified")


@pytest.mark.parametrize(
    "case", ["slow: it never answers after the archive", "slow: it never reads", "slow: it says nothing"]
)
def test_a_host_that_hangs_does_not_silence_a_good_one(case: str, ssh: Ssh) -> None:
    size = 4_000_000 if "reads" in case else 3000
    run = ssh("good", "--to", "hangs", "--timeout", "4", "--json", size=size, CASE=case)
    within_bounds(run, (4, 5))
    results = {result["target"]: result for result in clean_json(run)["results"]}
    assert results["good"]["verified"]
    assert results["hangs"]["error"]


def test_nor_do_plain_lines_leave_the_good_one_out(ssh: Ssh) -> None:
    run = ssh("good", "--to", "hangs", "--timeout", "4", CASE="slow: it never answers after the archive")
    assert "verified on good" in within_bounds(run, (4, 5))


@pytest.mark.parametrize("host", ["painted", "bytes", "long"])
def test_a_host_that_shouts_does_not_paint_the_good_one_s_lines(host: str, ssh: Ssh) -> None:
    assert "verified on good" in within_bounds(ssh("good", "--to", host), (4,))


@pytest.mark.parametrize("targets", [("good",), ("good", "--to", "good")], ids=["one", "two"])
def test_a_full_disk_ends_a_push(targets: tuple[str, ...], ssh: Ssh, tmp_path: Path) -> None:
    """A write that is cut short and then refused, as by a disk that is full (setrlimit(2), RLIMIT_FSIZE)."""
    run = ssh(*targets, size=8_000_000, shell='ulimit -f 2000; exec "$@"')
    within_bounds(run, (0,) if len(targets) == 1 else (3,))
    if len(targets) > 1:
        assert b"cannot be kept" in run.stdout + run.stderr
        only_asked(ssh.heard, sent=True)


def test_children_do_not_inherit_secrets(ssh: Ssh, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    ssh("env", LAYERFERRY_SSH_KEY=key.read_text(), LAYERFERRY_NGROK_AUTHTOKEN=SECRET, NGROK_AUTHTOKEN=SECRET)
    inherited = json.loads(ssh.heard.read_text())
    assert [name for name, value in inherited.items() if SECRET in value or "PRIVATE KEY" in value] == []
    assert [name for name in inherited if name.startswith("LAYERFERRY_")] == []
