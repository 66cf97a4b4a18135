"""Passwords for ssh, and passphrases of keys: told to ssh alone, once, and seen by nobody else."""

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from rig import Engine, Rig
from rig.command import Layerferry
from rig.processes import pids

WORDS = "correct horse 'battery\" staple $(id)"
#: It need be no UTF-8: a variable has bytes.
PASSWORD = WORDS + os.fsdecode(b" caf\xe9")
WRONG = "Tr0ub4dor&3 that is wrong"
TARGET = "docker28-overlay2"

pytestmark = pytest.mark.kinds(source=["docker28-containerd"], target=[TARGET])


class Watch:
    """Looks, while it lasts, for secrets in every process's command line and environment, those of `but` aside."""

    def __init__(self, *secrets: str) -> None:
        self.found: set[str] = set()
        self.seen = 0
        self.but: set[int] = set()
        self._secrets = [os.fsencode(secret) for secret in secrets]
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.01):
            for pid in pids():
                self._look_at(pid)

    def _look_at(self, pid: int) -> None:
        try:
            argv = Path(f"/proc/{pid}/cmdline").read_bytes()
            environ = b"" if pid in self.but else Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return
        self.seen += 1
        if any(secret in argv or secret in environ for secret in self._secrets):
            self.found.add(f"{argv!r}")


@dataclass(frozen=True)
class Host:
    """A host whose sshd takes passwords."""

    alias: str
    engine: Engine

    def refused(self) -> int:
        """How often its sshd has refused a password."""
        assert self.engine.sshd
        log = (self.engine.machine.run_folder / f"sshd-{self.engine.sshd.alias}.log").read_text(errors="replace")
        return len(re.findall("Failed password for|PAM: Authentication failure for", log))


@pytest.fixture(params=["password", "keyboard-interactive"])
def host(request: pytest.FixtureRequest, rig: Rig, target: Engine) -> Iterator[Host]:
    assert target.sshd
    user = f"anna-{request.param[:3]}"
    if user not in target.machine.path("/etc/passwd").read_text():
        target.machine.add_user(user, shell="/bin/sh")
    target.machine.run("chpasswd", stdin=os.fsencode(f"{user}:{PASSWORD}\n"))
    alias = target.sshd.with_user(user, alias=f"{user}-{target.name}")
    pam = request.param == "keyboard-interactive"
    options = ["PasswordAuthentication yes", "PubkeyAuthentication no"]
    options += ["UsePAM yes", "KbdInteractiveAuthentication yes"] if pam else []
    with target.sshd.reconfigured(*options):
        yield Host(alias, target)


@pytest.fixture
def image(source: Engine) -> str:
    name = "password-test/app:1"
    source.build(name, "FROM scratch\nCOPY content /content\n", {"content": os.urandom(1000)})
    return name


def test_a_password_is_told_to_ssh_and_seen_by_nobody(
    rig: Rig, layerferry: Layerferry, source: Engine, host: Host, *, image: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    given = {"LAYERFERRY_SSH_PASSWORD": PASSWORD, "LAYERFERRY_LOG": str(log)}
    with Watch(PASSWORD) as watch:
        run = layerferry("push", image, host.alias, "--debug", source=source, env=given)
    assert host.engine.diff_ids(image) == source.diff_ids(image)
    assert watch.seen
    # The command's own environment, which the user made, is the only one that has it.
    assert all("layerferry" in line and "ssh" not in line.split()[0] for line in watch.found)
    assert WORDS not in run.stdout + run.stderr + log.read_text()
    assert "a key is safer" in run.stderr
    assert not [file for file in rig.scratch.rglob("*") if file.is_file() and WORDS.encode() in file.read_bytes()]


def test_a_wrong_one_is_tried_once_and_told_in_a_sentence(
    layerferry: Layerferry, source: Engine, host: Host, image: str
) -> None:
    before = host.refused()
    given = {"LAYERFERRY_SSH_PASSWORD": WRONG, "LAYERFERRY_RETRIES": "3"}
    run = layerferry("push", image, host.alias, source=source, env=given, code=4)
    assert "it refused the password of LAYERFERRY_SSH_PASSWORD" in run.stderr
    assert WRONG not in run.stderr
    assert host.refused() - before == 1


def test_a_host_that_is_not_known_gets_none(
    layerferry: Layerferry, source: Engine, host: Host, image: str, tmp_path: Path
) -> None:
    empty = tmp_path / "known_hosts"
    empty.touch()
    before = host.refused()
    option = f"UserKnownHostsFile={empty}"
    arguments = ("push", image, host.alias, "--ssh-option", option, "--ssh-option", "StrictHostKeyChecking=ask")
    run = layerferry(*arguments, source=source, env={"LAYERFERRY_SSH_PASSWORD": WRONG}, code=4)
    assert "its host key is not known here" in run.stderr
    assert host.refused() == before


@pytest.mark.parametrize("form", ["content", "path"])
def test_a_key_with_a_passphrase_opens_the_door(
    rig: Rig, layerferry: Layerferry, source: Engine, target: Engine, *, image: str, tmp_path: Path, form: str
) -> None:
    key = tmp_path / "key"
    key.write_bytes((rig.ssh.folder / "id").read_bytes())
    key.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", PASSWORD, "-f", str(key)], check=True)
    config = tmp_path / "config"  # without the rig's own key, which needs no passphrase
    lines = rig.ssh.config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "IdentityFile" not in line))
    push = ("push", image, target.ssh_alias, "--ssh-config", str(config))
    given = {"LAYERFERRY_SSH_KEY": key.read_text() if form == "content" else str(key)}
    given["LAYERFERRY_SSH_PASSPHRASE"] = PASSWORD
    layerferry(*push, source=source, env=given)
    assert target.diff_ids(image) == source.diff_ids(image)
    given["LAYERFERRY_SSH_PASSPHRASE"] = WRONG
    run = layerferry(*push, source=source, env=given, code=4)
    assert "LAYERFERRY_SSH_PASSPHRASE" in run.stderr
    assert WRONG not in run.stderr
