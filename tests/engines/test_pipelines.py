"""Pipelines that people have, as ci-examples shows them, from a commit to a container that runs.

Daemons, engines, ssh and compose are real. The CI itself, its package managers, git and dokku are played.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from contract.test_ci_examples_run import expand, given, scripts_of, text_of
from engines.test_topologies import host_key
from rig import Engine, Rig, packages
from rig.programs import program, shell_files

pytestmark = pytest.mark.kinds(source=("docker20-overlay2",), target=("docker28-overlay2",))

#: Package managers have installed what is in PATH already.
STAND_INS = {
    "apk": "",
    "pip": "",
    "pipx": '[ "$1 $2" != "run --spec" ] || { shift 3; exec "$@"; }',
    "git": 'cat "$HOME/commit"',
    "docker": 'exec DOCKER "$@"',
    "ssh": 'exec SSH -F "$HOME/.ssh/config" "$@"',
}
#: Checks what it is given as dokku does, which would start the image in a container of its own.
DOKKU = """#!/bin/sh
[ "$1" = git:from-image ] && docker image inspect "$3" >/dev/null || exit 1
echo "-----> Deploying $3 as $2"
docker run --rm --env "APP=$2" "$3" /app once
"""
#: A program that says its release, and stays.
RELEASE = """case $1 in healthy) exit HEALTH ;; esac
echo "${GREETING:-release} NUMBER ${APP:-}"; [ "$1" = once ] || exec sleep 1000"""
BROKEN = 'echo "release NUMBER does not find its database"; exit 1'
#: In place of the two seconds that deploy/start.sh waits: no time, or until the engine has started it once more.
AT_ONCE = "true"
ONCE_MORE = "until [ \"$(docker inspect --format '{{.RestartCount}}' app)\" != 0 ]; do sleep 0.1; done"


@dataclass
class Ci:
    """A CI that runs the scripts of one example, in a checkout of its own, with real tools."""

    folder: Path
    rig: Rig
    source: Engine
    known_hosts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for part in ("bin", "home/.ssh", "work/root", "tmp"):
            (self.folder / part).mkdir(parents=True, mode=0o700)
        (self.folder / "bin/layerferry").symlink_to(Path(sys.executable).with_name("layerferry"))
        real = {"DOCKER": str(packages.suite_root("bookworm") / "usr/bin/docker"), "SSH": str(shutil.which("ssh"))}
        for name, line in STAND_INS.items():
            text = line.replace("DOCKER", real["DOCKER"]).replace("SSH", real["SSH"])
            (self.folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (self.folder / "bin" / name).chmod(0o755)
        self.config.write_text(f"UserKnownHostsFile {self.folder}/home/.ssh/known_hosts\nIdentityFile /dev/null\n")

    @property
    def values(self) -> dict[str, str]:
        """What the user sets, by the end of a variable's name; where to is for the test to say."""
        key, hosts = self.rig.ssh.key.read_text(), "\n".join(self.known_hosts)
        return {"targets": "", "fleet": "", "key": key, "hosts": f"{hosts}\n", "env": "GREETING=this is my\n"}

    @property
    def config(self) -> Path:
        return self.folder / "home/.ssh/config"

    @property
    def checkout(self) -> Path:
        return self.folder / "work"

    def host(self, name: str, engine: Engine) -> None:
        """Make the engine's machine one that ssh knows under that name, with a user `deploy`."""
        assert engine.sshd is not None
        place = f"  HostName {engine.machine.address}\n  Port {engine.sshd.port}\n  HostKeyAlias {name}\n"
        with self.config.open("a") as file:
            file.write(f"Host {name}\n{place}")
        self.known_hosts.append(f"{name} {host_key(engine)}")
        if "\ndeploy:" not in engine.machine.path("/etc/passwd").read_text():
            engine.machine.add_user("deploy")

    def commit(self, number: int, text: str = RELEASE, *, healthy: bool = True) -> str:
        """A commit whose image has that program; its ID."""
        text = text.replace("HEALTH", "0" if healthy else "1")
        for path, content in {**shell_files(), **program(text.replace("NUMBER", str(number)))}.items():
            file = self.checkout / "root" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(0o755)
        (self.checkout / "Dockerfile").write_text('FROM scratch\nCOPY root /\nCMD ["/app"]\n')
        commit = f"{number:040x}"
        (self.folder / "home/commit").write_text(commit)
        return commit

    def type(self, line: str, **env: str) -> None:
        """What somebody types into the job's shell."""
        subprocess.run(
            ["sh", "-c", line], check=True, env={**self._environment(daemon=False), **env}, timeout=120,
            stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip

    def start_script(self, waits: str) -> None:
        """Put deploy/start.sh into the checkout, with another way to wait for a container that does not last."""
        text = text_of("deploy/start.sh")
        assert "sleep 2" in text
        (self.checkout / "start.sh").write_text(text.replace("sleep 2", waits))

    def run(
        self, name: str, job: str = "", user: Mapping[str, str] | None = None, *, daemon: bool = True, code: int = 0
    ) -> str:
        """Run the scripts of one job of an example; what they say. Only the last one may end with `code`."""
        commit = (self.folder / "home/commit").read_text()
        secrets = self.folder / "secrets"
        shutil.rmtree(secrets, ignore_errors=True)
        secrets.mkdir(0o700)
        user = {**given(name, secrets, self.values), **(user or {})}
        implicit = {} if name.startswith(("github", "Jenkins")) else user
        said, status = "", 0
        for script in (script for script in scripts_of(name) if script.job == job):
            assert status == 0, said
            env = {variable: expand(value, user, commit) for variable, value in script.env.items()}
            done = subprocess.run(
                [script.shell, "-e", "-c", script.text], check=False, cwd=self.checkout, text=True, timeout=120,
                env={**self._environment(daemon=daemon), **implicit, **env}, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            said, status = said + done.stdout, done.returncode
        assert status == code, said
        assert "Traceback" not in said
        assert list((self.folder / "tmp").iterdir()) == []
        return said

    def _environment(self, *, daemon: bool) -> Mapping[str, str]:
        return {
            "PATH": f"{self.folder}/bin:{os.defpath}",
            "HOME": f"{self.folder}/home",
            "TMPDIR": f"{self.folder}/tmp",
            "DOCKER_HOST": self.source.host if daemon else "unix:///none",
            "DOCKER_BUILDKIT": "0",
        }


@pytest.fixture
def ci(tmp_path: Path, rig: Rig, source: Engine) -> Ci:
    return Ci(tmp_path, rig, source)


def logs(engine: Engine, container: str = "app") -> str:
    """What a container that runs has said."""
    assert engine.docker("inspect", "--format", "{{.State.Running}}", container) == "true"
    return engine.docker("logs", container)


def test_circleci_to_dokku_with_staging_and_production(ci: Ci, rig: Rig, target: Engine) -> None:
    """A build goes to staging; another one to both."""
    name, staging = "circleci-dokku.yml", rig.engine("docker28-containerd")
    hosts = {"staging": staging, "production": target}
    for place, engine in hosts.items():
        ci.host(f"{place}.example.com", engine)
        engine.machine.write("/usr/local/bin/dokku", DOKKU, mode=0o755)
    apps = {"staging": "app-staging", "production": "app"}

    def deploy(place: str) -> str:
        to = {"LAYERFERRY_TARGETS": f"deploy@{place}.example.com", "app": apps[place]}
        return ci.run(name, "deploy", to, daemon=False)

    try:
        for number, places in ((1, ["staging"]), (2, ["staging", "production"])):
            commit = ci.commit(number)
            ci.run(name, "build")
            ci.source.clear()
            for place in places:
                said = deploy(place)
                assert f"Deploying docker.io/library/app:{commit} as {apps[place]}" in said
                assert f"release {number} {apps[place]}" in said
        assert len(staging.images()) == 2
        assert set(target.images()) == {f"app:{commit}"}
    finally:
        for engine in hosts.values():
            engine.machine.run("rm", "/usr/local/bin/dokku")
        staging.clear()


def test_gitlab_builds_with_a_daemon_and_deploys_an_archive_without(ci: Ci, target: Engine) -> None:
    name = "gitlab-archive.yml"
    ci.host("host.example.com", target)
    to = {"LAYERFERRY_TARGETS": "deploy@host.example.com"}
    for number in (1, 2):
        ci.commit(number)
        ci.run(name, "build")
        ci.source.clear()
        ci.run(name, "deploy", to, daemon=False)
        assert logs(target) == f"this is my {number} "
    assert set(target.images()) == {"app:latest", "app:previous"}
    assert target.machine.run("stat", "-c", "%a", "/root/.env") == "600"
    target.machine.run("rm", "/root/.env")


def test_jenkins_deploys_to_production_only_after_an_approval(ci: Ci, rig: Rig, target: Engine) -> None:
    name, webs = "Jenkinsfile.approval", [rig.engine(kind) for kind in ("docker28-containerd", "docker26-overlay2")]
    for host, engine in zip(("staging", "web1", "web2"), (target, *webs), strict=True):
        ci.host(f"{host}.example.com", engine)
    ci.start_script(AT_ONCE)
    approval = text_of(name).partition("stage('Production')")[2].partition("steps {")[0]
    assert "input {" in approval, "Jenkins asks before it runs a step of the stage"
    try:
        for number, stages in ((1, ["Build", "Staging", "Production"]), (2, ["Build", "Staging"])):
            ci.commit(number)
            for stage in stages:
                ci.run(name, stage)
        assert [logs(engine) for engine in (target, *webs)] == ["release 2 ", "release 1 ", "release 1 "]
        ci.commit(3, BROKEN)
        ci.start_script(ONCE_MORE)
        ci.run(name, "Build")
        said = ci.run(name, "Staging", code=8)
        assert "release 3 does not find its database" in said
        assert "The way back: layerferry rollback deploy@staging.example.com app:latest" in said
    finally:
        for engine in webs:
            engine.clear()


@pytest.mark.kinds(target=("docker26-overlay2",))
def test_github_to_compose_that_waits_until_it_is_healthy_and_back(ci: Ci, target: Engine) -> None:
    name = "github-compose.yml"
    ci.host("host.example.com", target)
    ports = 'ports:\n      - "80:8080"\n'
    compose = text_of("deploy/compose.yaml")
    assert ports in compose
    (ci.checkout / "compose.yaml").write_text(compose.replace(ports, "network_mode: none\n    stop_grace_period: 0s\n"))
    to = {"LAYERFERRY_TARGETS": "deploy@host.example.com"}
    try:
        for number in (1, 2):
            ci.commit(number)
            assert "Healthy" in ci.run(name, user=to)
            assert logs(target, "app-app-1") == f"release {number} "
        ci.commit(3, healthy=False)
        said = ci.run(name, user=to, code=8)
        assert "app-app-1 is unhealthy" in said
        back = "layerferry rollback deploy@host.example.com app:latest"
        assert f"The way back: {back}" in said
        (script,) = (script for script in scripts_of(name) if script.text == "layerferry run")
        key, hosts = ci.values["key"], ci.values["hosts"]
        ci.type(back, LAYERFERRY_THEN=script.env["LAYERFERRY_THEN"], LAYERFERRY_SSH_KEY=key,
                LAYERFERRY_SSH_KNOWN_HOSTS=hosts)  # fmt: skip
        assert logs(target, "app-app-1") == "release 2 "
    finally:
        target.machine.run("rm", "-f", "/root/compose.yaml")


@pytest.fixture
def fleet(rig: Rig) -> Iterator[list[Engine]]:
    """Eight hosts, each with an engine of its own."""
    engines = [rig.engine("docker28-overlay2", name=f"web{number}") for number in range(1, 9)]
    yield engines
    for engine in engines:  # no other test wants so many
        engine.clear()
        engine.machine.stop()


def test_a_script_for_eight_hosts_goes_back_on_all_where_one_does_not_start_it(ci: Ci, fleet: Sequence[Engine]) -> None:
    names = [f"web{number}.example.com" for number in range(1, 9)]
    for host, engine in zip(names, fleet, strict=True):
        ci.host(host, engine)
    ci.start_script(AT_ONCE)
    user = {"FLEET": " ".join(f"deploy@{host}" for host in names)}
    first = ci.commit(1)
    ci.run("deploy/fleet.sh", user=user)
    assert [logs(engine) for engine in fleet] == ["release 1 "] * 8
    second = ci.commit(2)
    (ci.checkout / "root/app").rename(ci.checkout / "root/other")
    said = ci.run("deploy/fleet.sh", user=user, code=8)
    assert "web1.example.com: the image is there, but the command after it ended with status" in said
    assert "no such file" in said
    assert "it failed on deploy@web1.example.com, which comes before" in said
    assert [logs(engine) for engine in fleet] == ["release 1 "] * 8
    for engine in fleet:
        there = engine.images()
        assert there["app:latest"] == there[f"app:{first}"]
        assert there["app:previous"] == there[f"app:{second}"]
