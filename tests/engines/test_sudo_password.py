"""A host whose sudo asks for a password: it is told where it asks, once, and seen by nobody else."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engines.test_passwords import WRONG, Watch
from rig import Engine, Rig
from rig.command import Layerferry

#: Its own, since tests of ssh's may run at the same time, and are watched for theirs.
WORDS = "sudo horse 'battery\" staple $(id)"
#: It need be no UTF-8: a variable has bytes.
PASSWORD = WORDS + os.fsdecode(b" caf\xe9")
TARGET = "docker28-overlay2"

pytestmark = pytest.mark.kinds(source=["docker28-containerd"], target=[TARGET])


@dataclass(frozen=True)
class Admin:
    """A user who may use docker through sudo, which asks for a password."""

    name: str
    alias: str
    engine: Engine

    def rule(self, rule: str) -> None:
        self.engine.machine.write(f"/etc/sudoers.d/{self.name}", f"{rule}\n", mode=0o440)

    def asked(self) -> int:
        """How often sudo has refused a password: it counts its attempts."""
        return sum(map(int, re.findall(r"(\d+) incorrect password attempt", self._log())))

    def _log(self) -> str:
        file = self.engine.machine.path(f"/var/log/sudo-{self.name}")
        return file.read_text() if file.exists() else ""


@pytest.fixture
def admin(target: Engine) -> Iterator[Admin]:
    assert target.sshd
    name, machine = "sudo-asks", target.machine
    if name not in machine.path("/etc/passwd").read_text():
        machine.add_user(name, uid=2777)
        machine.run("chpasswd", stdin=os.fsencode(f"{name}:{PASSWORD}\n"))
        target.sshd.with_user(name, alias=f"{name}-{target.name}")
        machine.run("chmod", "644", "/run/rig/authorized_keys")
    admin = Admin(name, f"{name}-{target.name}", target)
    admin.rule(f"Defaults:{name} logfile=/var/log/sudo-{name}\n{name} ALL=(ALL) ALL")
    yield admin
    machine.path(f"/var/log/sudo-{name}").unlink(missing_ok=True)
    machine.path(f"/etc/sudoers.d/{name}").unlink()


@pytest.fixture
def image(source: Engine) -> str:
    name = "sudo-test/app:1"
    source.build(name, "FROM scratch\nCOPY content /content\n", {"content": os.urandom(1000)})
    return name


def left(engine: Engine) -> list[str]:
    return [str(path) for path in engine.machine.path("/dev/shm").glob("layerferry*")]


def test_it_is_told_to_sudo_and_seen_by_nobody(
    rig: Rig, layerferry: Layerferry, source: Engine, admin: Admin, *, image: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    given = {"LAYERFERRY_SUDO_PASSWORD": PASSWORD, "LAYERFERRY_LOG": str(log)}
    then = "env; ls -l /proc/self/fd; ps -ef ww"
    with Watch(PASSWORD) as watch:
        run = layerferry("push", image, admin.alias, "--debug", "--then", then, source=source, env=given)
    assert admin.engine.diff_ids(image) == source.diff_ids(image)
    assert watch.seen
    # The command's own environment, which the user made, is the only one that has it.
    assert all("layerferry" in line and "ssh" not in line.split()[0] for line in watch.found)
    assert WORDS not in run.stdout + run.stderr + log.read_text()
    assert "SUDO_ASKPASS" not in run.stdout
    assert "(deleted)" not in run.stdout
    assert "NOPASSWD" in run.stderr
    assert not [file for file in rig.scratch.rglob("*") if file.is_file() and WORDS.encode() in file.read_bytes()]
    assert not left(admin.engine)
    assert admin.asked() == 0


def test_a_wrong_one_is_tried_once_and_told_in_a_sentence(
    layerferry: Layerferry, source: Engine, admin: Admin, image: str
) -> None:
    given = {"LAYERFERRY_SUDO_PASSWORD": WRONG, "LAYERFERRY_RETRIES": "3"}
    run = layerferry("push", image, admin.alias, source=source, env=given, code=5)
    assert "it refused the password of LAYERFERRY_SUDO_PASSWORD" in run.stderr
    assert WRONG not in run.stderr
    assert admin.asked() == 1
    assert not left(admin.engine)


def test_none_is_sent_where_sudo_does_not_ask(
    layerferry: Layerferry, source: Engine, admin: Admin, *, image: str, tmp_path: Path
) -> None:
    """It is a wrong one, which sudo would refuse."""
    admin.rule(f"Defaults:{admin.name} logfile=/var/log/sudo-{admin.name}\n{admin.name} ALL=(ALL) NOPASSWD: ALL")
    log = tmp_path / "log"
    given = {"LAYERFERRY_SUDO_PASSWORD": WRONG, "LAYERFERRY_LOG": str(log)}
    layerferry("push", image, admin.alias, source=source, env=given)
    assert admin.engine.diff_ids(image) == source.diff_ids(image)
    assert not re.search(r"^.*< \S+:? sudo$", log.read_text(), re.MULTILINE)


def test_without_one_a_host_that_asks_is_told_of_both_ways(
    layerferry: Layerferry, source: Engine, admin: Admin, image: str
) -> None:
    run = layerferry("push", image, admin.alias, source=source, code=5)
    assert "the user may not use the engine" in run.stderr
    assert "LAYERFERRY_SUDO_PASSWORD" in run.stderr
    assert "NOPASSWD" in run.stderr


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("Defaults:{0} targetpw\n{0} ALL=(ALL) ALL", "it refused the password of LAYERFERRY_SUDO_PASSWORD"),
        ("Defaults:{0} requiretty\n{0} ALL=(ALL) ALL", "must have a tty"),
        ("{0} ALL=(ALL) /usr/bin/true", "the user may not use the engine"),
        ("# nothing", "the user may not use the engine"),
    ],
    ids=["targetpw", "requiretty", "another-command", "no-rule"],
)
def test_rules_that_do_not_let_it_are_told_in_a_sentence(
    layerferry: Layerferry, source: Engine, admin: Admin, *, image: str, rule: str, said: str
) -> None:
    admin.rule(rule.format(admin.name))
    given = {"LAYERFERRY_SUDO_PASSWORD": PASSWORD}
    run = layerferry("push", image, admin.alias, source=source, env=given, code=5)
    assert said in run.stderr
    assert not left(admin.engine)
