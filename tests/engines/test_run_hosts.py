"""`layerferry run` and `doctor` with a real sshd and real engines, on one machine: host keys, keys, several targets."""

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engines.test_topologies import Job, Outcome, environment_of, host_key
from rig import Engine, Noise, Rig
from rig.processes import wait_until
from rig.ssh import start_sshd

TARGET = ("docker28-overlay2",)
SOURCE = ("docker28-containerd",)
pytestmark = pytest.mark.kinds(target=TARGET, source=SOURCE)


@dataclass
class Desk:
    """A job on the machine where daemon and target are, that knows no host and no key but by its variables."""

    rig: Rig
    daemon: Engine
    target: Engine
    job: Job

    def load(self, name: str, *, size: int = 30_000) -> str:
        shop = self.rig.workshop
        self.daemon.load(shop.archive({name: shop.image([shop.layer({"file": Noise(size, name)})])}))
        return name

    def run(self, *arguments: str, code: int = 0, **env: str) -> Outcome:
        outcome = self.job.start(*(arguments or ("run",)), env=env).end()
        assert outcome.code == code, outcome.log
        assert "Traceback" not in outcome.stderr
        assert self.job.files() == []
        return outcome

    @property
    def address(self) -> str:
        """The target as known_hosts names it."""
        assert self.target.sshd is not None
        return f"[{self.target.machine.address}]:{self.target.sshd.port}"

    @property
    def known_hosts(self) -> str:
        return f"{self.address} {host_key(self.target)}\n"


@pytest.fixture
def desk(rig: Rig, source: Engine, target: Engine) -> Iterator[Desk]:
    with tempfile.TemporaryDirectory(prefix="desk-") as name:
        folder = Path(name)
        for part in ("bin", "tmp"):
            (folder / part).mkdir()
        config = folder / "ssh_config"
        config.write_text(
            f"Host *\n  IdentityFile {folder}/missing\n  IdentityAgent none\n  GlobalKnownHostsFile /dev/null\n"
            f"  UserKnownHostsFile {folder / 'known_hosts'}\n"
        )
        (folder / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
        (folder / "bin" / "ssh").chmod(0o755)
        assert target.sshd is not None
        env = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "HOME": name,
            "TMPDIR": str(folder / "tmp"),
            "DOCKER_HOST": source.host,
            "LAYERFERRY_TARGETS": f"root@{target.machine.address}:{target.sshd.port}",
            "LAYERFERRY_SSH_KEY": rig.ssh.key.read_text(),
        }
        desk = Desk(rig, source, target, Job(folder, env))
        env["LAYERFERRY_SSH_KNOWN_HOSTS"] = desk.known_hosts
        env["LAYERFERRY_IMAGES"] = desk.load("run-test-app:1")
        yield desk


def another_key(folder: Path) -> Path:
    path = folder / "another"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "another", "-f", path], check=True)
    return path


# The host's key.


def test_an_unknown_host_key_is_refused_with_the_line_that_makes_it_known(desk: Desk) -> None:
    del desk.job.env["LAYERFERRY_SSH_KNOWN_HOSTS"]
    outcome = desk.run(code=4)
    assert "its host key is not known here" in outcome.log
    assert "add to LAYERFERRY_SSH_KNOWN_HOSTS:" in outcome.log
    (line,) = (line for line in map(str.strip, outcome.log.splitlines()) if line.startswith(desk.address))
    assert line == desk.known_hosts.strip()
    assert not desk.target.has("run-test-app:1")
    desk.run(LAYERFERRY_SSH_KNOWN_HOSTS=line)
    assert desk.target.has("run-test-app:1")


def test_the_line_is_in_the_annotation_on_github(desk: Desk) -> None:
    del desk.job.env["LAYERFERRY_SSH_KNOWN_HOSTS"]
    desk.job.env |= environment_of("github-vm")
    outcome = desk.run(code=4)
    (line,) = (line for line in outcome.log.splitlines() if line.startswith("::error "))
    assert f"%0A{desk.known_hosts.strip()}" in line


def test_a_new_host_key_is_accepted_only_where_that_is_said(desk: Desk) -> None:
    del desk.job.env["LAYERFERRY_SSH_KNOWN_HOSTS"]
    desk.run(LAYERFERRY_SSH_ACCEPT_NEW_HOST_KEY="true")
    assert desk.target.has("run-test-app:1")


@pytest.mark.parametrize("accept", ["false", "true"])
def test_a_changed_host_key_is_refused_whatever_is_said(desk: Desk, accept: str) -> None:
    other = another_key(desk.job.folder).with_suffix(".pub").read_text().split()[:2]
    known = f"{desk.address} {' '.join(other)}"
    outcome = desk.run(code=4, LAYERFERRY_SSH_KNOWN_HOSTS=known, LAYERFERRY_SSH_ACCEPT_NEW_HOST_KEY=accept)
    assert "its host key is not the one we know" in outcome.log
    assert "add to LAYERFERRY_SSH_KNOWN_HOSTS" not in outcome.log
    assert not desk.target.has("run-test-app:1")


# Jump hosts.


@dataclass
class Jump:
    """A jump host of ssh_config, by which `behind` is reached, and another one that lies behind it."""

    engine: Engine

    @property
    def place(self) -> str:
        assert self.engine.sshd is not None
        return f"{self.engine.machine.address}:{self.engine.sshd.port}"

    @property
    def known_hosts(self) -> str:
        address, _, port = self.place.partition(":")
        return f"[{address}]:{port} {host_key(self.engine)}\n"

    def entries(self) -> int:
        """How often it has let somebody in."""
        log = self.engine.machine.run_folder / f"sshd-{self.engine.ssh_alias}.log"
        return log.read_text(errors="replace").count("Accepted publickey")


@pytest.fixture
def jump(desk: Desk, rig: Rig) -> Jump:
    found = Jump(rig.engine("podman4", name="jump-host"))
    sshd = desk.target.sshd
    assert sshd is not None
    host = f"  HostName {desk.target.machine.address}\n  Port {sshd.port}\n  User root\n"
    (address, _, port), config = found.place.partition(":"), desk.job.folder / "ssh_config"
    config.write_text(
        f"Host jump\n  HostName {address}\n  Port {port}\n  User root\n"
        f"Host behind\n{host}  ProxyJump jump\n"
        f"Host second\n  HostName {address}\n  Port {port}\n  User root\n  ProxyJump jump\n"
        f"Host far\n{host}  ProxyJump second\n"
        f"Host farther\n{host}  ProxyJump jump,root@{found.place}\n" + config.read_text()
    )
    desk.job.env["LAYERFERRY_TARGETS"] = "behind"
    desk.job.env["LAYERFERRY_SSH_KNOWN_HOSTS"] += found.known_hosts
    return found


@pytest.mark.parametrize(("alias", "hops"), [("behind", 1), ("far", 2), ("farther", 2)])
def test_key_and_known_hosts_count_at_each_jump_host(desk: Desk, jump: Jump, alias: str, hops: int) -> None:
    before = jump.entries()
    outcome = desk.run(LAYERFERRY_TARGETS=alias)
    desk.job.assert_secret(outcome)
    assert jump.entries() - before == hops
    assert desk.target.has("run-test-app:1")


def test_a_key_in_an_agent_of_ours_counts_at_a_jump_host(desk: Desk, jump: Jump) -> None:
    odd = desk.job.folder / "odd"
    odd.mkdir()
    (odd / "sitecustomize.py").write_text("import os\ndel os.memfd_create\n")
    before = jump.entries()
    desk.run(PYTHONPATH=str(odd))
    assert jump.entries() == before + 1


def test_a_jump_host_that_the_users_own_ssh_reaches_is_reached_as_before(desk: Desk, jump: Jump) -> None:
    """By a key and known hosts of its own, of which the variables say nothing."""
    config, other = desk.job.folder / "ssh_config", another_key(desk.job.folder)
    config.write_text(f"Host jump\n  IdentityFile {other}\n" + config.read_text())
    (desk.job.folder / "known_hosts").write_text(jump.known_hosts)
    keys = jump.engine.machine.run_folder / "authorized_keys"
    ours = keys.read_text()
    keys.write_text(other.with_suffix(".pub").read_text())
    try:
        desk.run(LAYERFERRY_SSH_KNOWN_HOSTS=desk.known_hosts)
    finally:
        keys.write_text(ours)
    assert desk.target.has("run-test-app:1")


def test_a_jump_host_that_refuses_us_is_named_with_the_keys_that_there_were(desk: Desk, jump: Jump) -> None:
    outcome = desk.run(code=4, LAYERFERRY_SSH_KEY=another_key(desk.job.folder).read_text())
    assert "cannot connect to jump, a jump host on the way to behind: it refused our authentication" in outcome.log
    assert "ssh had LAYERFERRY_SSH_KEY (ED25519 SHA256:" in outcome.log


def test_an_unknown_jump_host_comes_with_its_line(desk: Desk, jump: Jump) -> None:
    outcome = desk.run(code=4, LAYERFERRY_SSH_KNOWN_HOSTS=desk.known_hosts)
    assert "cannot connect to jump, a jump host on the way to behind: its host key is not known here" in outcome.log
    assert jump.known_hosts.strip() in map(str.strip, outcome.log.splitlines())


def test_a_new_host_key_of_a_jump_host_is_accepted_where_that_is_said(desk: Desk, jump: Jump) -> None:
    del desk.job.env["LAYERFERRY_SSH_KNOWN_HOSTS"]
    desk.run(LAYERFERRY_SSH_ACCEPT_NEW_HOST_KEY="true")
    known = (desk.job.folder / "known_hosts").read_text()
    assert jump.place.partition(":")[2] in known
    assert desk.target.has("run-test-app:1")


def test_a_target_that_a_jump_host_does_not_reach(desk: Desk, jump: Jump) -> None:
    config = desk.job.folder / "ssh_config"
    config.write_text(f"Host nobody\n  HostName 127.0.0.1\n  Port 1\n  ProxyJump jump\n{config.read_text()}")
    outcome = desk.run(code=4, LAYERFERRY_TARGETS="nobody")
    assert "jump, a jump host on the way to nobody, reached nobody at nobody" in outcome.log
    assert jump.entries() > 0


def test_a_daemon_behind_a_jump_host_is_reached_by_the_jobs_key(desk: Desk, jump: Jump) -> None:
    before = jump.entries()
    document = json.loads(desk.run("doctor", "--json", DOCKER_HOST="ssh://behind").stdout)
    (found,) = (item for item in document["findings"] if item["what"] == "daemon answers")
    assert found["good"] is True
    assert jump.entries() > before


# Our key.


def test_a_key_in_base64_without_its_last_newline_opens_the_host(desk: Desk) -> None:
    packed = base64.b64encode(desk.job.env["LAYERFERRY_SSH_KEY"].strip().encode()).decode()
    outcome = desk.run(LAYERFERRY_SSH_KEY=packed)
    assert packed.encode() not in b"".join(outcome.argv)
    assert desk.target.has("run-test-app:1")


def test_a_key_and_known_hosts_in_files_as_gitlab_gives_them(desk: Desk) -> None:
    files = {"LAYERFERRY_SSH_KEY": "key", "LAYERFERRY_SSH_KNOWN_HOSTS": "hosts"}
    for name, file in files.items():
        path = desk.job.folder / file
        path.write_text(desk.job.env[name].replace("\n", "\r\n"))
        path.chmod(0o666)
        desk.job.env[name] = str(path)
    desk.run()
    assert desk.target.has("run-test-app:1")


def test_a_key_that_the_host_does_not_know_is_an_error_of_the_connection(desk: Desk) -> None:
    outcome = desk.run(code=4, LAYERFERRY_SSH_KEY=another_key(desk.job.folder).read_text())
    assert "it refused our authentication" in outcome.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_push_that_is_stopped_leaves_no_key_and_no_image(desk: Desk, number: signal.Signals) -> None:
    name = desk.load("run-test-large:1", size=60_000_000)
    running = desk.job.start("run", env={"LAYERFERRY_IMAGES": name})
    wait_until(lambda: is_loading(desk.target), "the target's engine is not fed", seconds=30)
    running.process.send_signal(number)
    outcome = running.end(timeout=30)
    assert outcome.code == 130, outcome.log
    assert desk.job.files() == []
    desk.job.assert_secret(outcome)
    assert not [image for image in desk.target.images() if "layerferry" in image or "large" in image]


def test_a_push_that_is_killed_leaves_no_key_and_the_next_one_takes_away_the_rest(desk: Desk) -> None:
    name = desk.load("run-test-large:1", size=60_000_000)
    running = desk.job.start("run", env={"LAYERFERRY_IMAGES": name, "LAYERFERRY_ROUTE": "registry"})
    wait_until(lambda: names_of_pushes(desk.daemon) != [], "the daemon does not push", seconds=30)
    running.process.kill()
    running.end(timeout=30)
    left = [path for path in (desk.job.folder / "tmp").rglob("*") if path.is_file()]
    assert "known_hosts" in {path.name for path in left}
    assert not [path for path in left if b"PRIVATE KEY" in path.read_bytes()[: 1 << 16]]
    assert len(names_of_pushes(desk.daemon)) == 1
    outcome = desk.run(LAYERFERRY_ROUTE="registry")
    assert "that earlier runs, which were killed, had left in " in outcome.log
    assert "removed 1 name that earlier runs, which were killed, had left there" in outcome.log
    assert names_of_pushes(desk.daemon) == []
    assert desk.daemon.has(name)
    assert desk.target.has("run-test-app:1")


def names_of_pushes(daemon: Engine) -> list[str]:
    return [name for name in daemon.images() if "/layerferry/" in name]


def test_a_key_in_an_agent_of_ours_opens_the_host_and_no_other_key_is_tried(desk: Desk) -> None:
    """Where there are no files in memory, as on a system that is not Linux."""
    odd = desk.job.folder / "odd"
    odd.mkdir()
    (odd / "sitecustomize.py").write_text("import os\ndel os.memfd_create\n")
    desk.run(PYTHONPATH=str(odd))
    assert desk.target.has("run-test-app:1")
    outcome = desk.run(code=4, PYTHONPATH=str(odd), LAYERFERRY_SSH_KEY=another_key(desk.job.folder).read_text())
    assert "it refused our authentication" in outcome.log


def test_no_secret_arrives_on_a_host_whatever_ssh_may_send_and_sshd_accept(desk: Desk) -> None:
    told = "/var/lib/told"
    config = desk.job.folder / "ssh_config"
    config.write_text(f"SendEnv *\n{config.read_text()}")
    force = f'ForceCommand env >>{told}; eval "$SSH_ORIGINAL_COMMAND"'
    sshd = start_sshd(desk.target.machine, desk.rig.ssh, "open-to-variables", options=["AcceptEnv *", force])
    try:
        key = desk.job.env["LAYERFERRY_SSH_KEY"]
        desk.run(
            LAYERFERRY_TARGETS=f"root@{desk.target.machine.address}:{sshd.port}",
            LAYERFERRY_SSH_KNOWN_HOSTS=f"[{desk.target.machine.address}]:{sshd.port} {host_key(desk.target)}",
            DEPLOY_KEY=key,
            NGROK_AUTHTOKEN="2aToken_of_these_tests_alone",
            DOCKER_AUTH_CONFIG='{"auths": {}}',
            HARMLESS="it arrives",
        )
        arrived = desk.target.machine.run("cat", told)
    finally:
        sshd.stop()
        desk.target.machine.run("rm", "-f", told)
    assert "HARMLESS=it arrives" in arrived
    for secret in (key.splitlines()[1], "LAYERFERRY_", "2aToken", "DOCKER_AUTH_CONFIG", "DEPLOY_KEY"):
        assert secret not in arrived


def is_loading(target: Engine) -> bool:
    """Whether its engine is being fed, by its command or through its API."""
    return any("docker load" in line or "/images/load" in line for line in target.machine.processes().values())


# More than one.


def test_one_target_that_fails_does_not_stop_the_other(desk: Desk) -> None:
    both = f"root@127.0.0.1:1 {desk.job.env['LAYERFERRY_TARGETS']}"
    known = f"{desk.known_hosts}[127.0.0.1]:1 {host_key(desk.target)}\n"
    outcome = desk.run("run", "--json", code=4, LAYERFERRY_TARGETS=both, LAYERFERRY_SSH_KNOWN_HOSTS=known)
    failed, arrived = json.loads(outcome.stdout)["results"]
    assert failed["error"]["exit_code"] == 4
    assert "refused the connection" in failed["error"]["message"]
    assert arrived["error"] is None
    assert arrived["verified"] is True
    assert desk.target.has("run-test-app:1")
    assert "1 of 2 done" in outcome.stderr


def test_two_images_go_in_one_run(desk: Desk) -> None:
    images = f"run-test-app:1\n{desk.load('run-test-other:2')}"
    outcome = desk.run("run", "--json", LAYERFERRY_IMAGES=images)
    assert [result["image"] for result in json.loads(outcome.stdout)["results"]] == images.split()
    assert desk.target.has("run-test-app:1")
    assert desk.target.has("run-test-other:2")


# doctor


@pytest.mark.kinds(target=TARGET, source=("docker20-overlay2", "docker28-containerd", "podman4", "podman5"))
def test_doctor_foresees_the_route_that_run_takes(desk: Desk) -> None:
    """With a podman for a daemon too, whose API has no answer to what it reaches."""
    podman = desk.daemon.kind.program == "podman"
    desk.job.env |= environment_of("github-vm")
    outcome = desk.run("doctor", "--json", desk.job.env["LAYERFERRY_TARGETS"])
    document = json.loads(outcome.stdout)
    findings = {item["what"]: item for item in document["findings"]}
    assert findings["CI"]["value"] == "GitHub Actions"
    assert findings["daemon answers"]["good"] is True
    assert desk.daemon.kind.version in findings["daemon answers"]["value"]
    assert findings[f"target {desk.job.env['LAYERFERRY_TARGETS']}"]["good"] is True
    assert document["route"]["name"] == ("export" if podman else "registry")
    assert findings["daemon reaches us"]["good"] is not podman
    assert not desk.target.has("run-test-app:1")
    name = desk.load("run-test-large:1", size=20_000_000) if podman else ""
    if podman:
        delivered = desk.run("run", "--json", LAYERFERRY_IMAGES=name)
        assert delivered.route == "export"
        assert desk.target.has(name)


@pytest.mark.kinds(target=TARGET, source=("podman5",))
def test_a_podman_socket_is_found_without_being_named(desk: Desk) -> None:
    """As on a runner with podman alone: XDG_RUNTIME_DIR/podman/podman.sock."""
    if Path("/var/run/docker.sock").exists():
        pytest.fail("this machine runs a docker of its own, which would be found first")
    socket = Path(desk.job.env.pop("DOCKER_HOST").removeprefix("unix://"))
    desk.job.env["XDG_RUNTIME_DIR"] = str(socket.parents[1])
    document = json.loads(desk.run("doctor", "--json").stdout)
    findings = {item["what"]: item for item in document["findings"]}
    assert findings["daemon"]["value"] == f"unix socket: unix://{socket}"
    assert findings["daemon answers"]["good"] is True
