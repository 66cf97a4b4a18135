"""What follows a push to real engines through a real sshd: it runs what has just arrived, and there is a way back."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from engines.test_push_scene import Scene
from rig import Engine, Rig
from rig.command import Run
from rig.programs import program, shell_files

LATEST = "push-test/app:latest"
#: docker's command, or podman's, runs what the name stands for now.
RUN = "run --rm --network none"
#: Each says it on another kind of store.
HOSTS = ("docker28-containerd", "docker20-overlay2")


def release(scene: Scene, number: int, program_text: str = "") -> str:
    """Build a release on the source; its name.

    It does not end at once: of a container that does, docker may lose the words (docker/cli#4338, moby#43121; seen once
    in some thousand on a loaded machine).
    """
    name = f"push-test/app:v{number}"
    layers = [shell_files(), program(f"{program_text or f'echo this is release {number}'}; sleep 0.2")]
    scene.load([scene.rig.workshop.layer(files) for files in layers], name)
    return name


def push(scene: Scene, number: int, *words: str, code: int = 0, text: str = "") -> Run:
    name = release(scene, number, text)
    return scene.push(name, "--name", LATEST, "--keep-previous", "previous", *words, code=code)


def said(run: Run, host: str) -> list[str]:
    return [line.split("|", 1)[1].strip() for line in run.stderr.splitlines() if re.match(rf"{host}\s*\|", line)]


@pytest.mark.kinds(target=("docker28-overlay2", "docker28-containerd", "podman5"))
def test_it_knows_what_has_arrived_and_what_was_there_before(scene: Scene) -> None:
    host = scene.target.ssh_alias
    program = scene.target.kind.program
    first = push(scene, 1, "--then", "env | grep ^LAYERFERRY_ | sort")
    assert said(first, host) == [
        f"LAYERFERRY_IMAGE=docker.io/{LATEST}",
        f"LAYERFERRY_IMAGE_ID={first.result['image_id']}",
        "LAYERFERRY_PREVIOUS_ID=",
    ]
    show = f'{program} image inspect -f "{{{{.Id}}}}" "$LAYERFERRY_IMAGE" 2>/dev/null; echo "$LAYERFERRY_PREVIOUS_ID"'
    second = push(scene, 2, "--then", show)
    ids = [line.removeprefix("sha256:") for line in said(second, host)]
    assert ids == [run.result["image_id"].removeprefix("sha256:") for run in (second, first)]
    assert second.result["then"] == [{"on": host, "status": 0, "seconds": second.result["then"][0]["seconds"]}]


@pytest.mark.kinds(target=("docker28-overlay2", "docker28-containerd"))
def test_it_runs_the_new_image_and_after_a_rollback_the_old_one(scene: Scene) -> None:
    host = scene.target.ssh_alias
    then = ("--then", f'docker {RUN} "$LAYERFERRY_IMAGE"')
    for number in (1, 2):
        assert said(push(scene, number, *then), host) == [f"this is release {number}"]
    assert said(push(scene, 2, *then), host) == ["this is release 2"], "also where nothing had to be sent"
    for number in (1, 2):
        back = scene.layerferry("rollback", host, LATEST, "--json", *then)
        assert f"this is release {number}" in back.stderr
        assert [ran["status"] for ran in back.result["then"]] == [0]


@pytest.mark.kinds(target=("docker28-overlay2",))
def test_it_runs_with_the_files_that_went_along(scene: Scene, tmp_path: Path) -> None:
    target, host = scene.target, scene.target.ssh_alias
    secret, script = tmp_path / "prod.env", tmp_path / "up.sh"
    secret.write_text('GREETING=it\'s me, "quoted" $HOME\n')
    script.write_text(f'#!/bin/sh\nexec docker {RUN} --env-file .env "$LAYERFERRY_IMAGE"\n')
    script.chmod(0o755)
    copies = ("--copy", f"{secret}:.env", "--copy", str(script))
    try:
        run = push(scene, 1, *copies, "--then", "./up.sh", text='echo "$GREETING"')
        assert said(run, host) == ['it\'s me, "quoted" $HOME']
        files = target.machine.run("sh", "-c", "cd /root && stat -c '%a %n' .env up.sh && ls -A")
        assert files.splitlines()[:2] == ["600 .env", "755 up.sh"]
        assert "layerferry" not in files
    finally:
        target.machine.run("rm", "-f", "/root/.env", "/root/up.sh")


@pytest.fixture
def hosts(scene: Scene, rig: Rig) -> Iterator[list[Engine]]:
    """Three hosts: the scene's target first."""
    others = [rig.engine(kind) for kind in HOSTS]
    yield [scene.target, *others]
    for engine in others:
        engine.clear()


def runs(scene: Scene, hosts: Sequence[Engine]) -> list[str]:
    """What runs on each host when its users run app:latest."""
    return [scene.rig.ssh.run(engine.ssh_alias, f"docker {RUN} {LATEST}") for engine in hosts]


@pytest.mark.kinds(target=("docker28-overlay2",))
@pytest.mark.parametrize("keep", [False, True])
def test_where_it_fails_on_one_of_three_hosts_the_way_back_is_told_and_taken(
    scene: Scene, hosts: list[Engine], *, keep: bool
) -> None:
    """The new release does not start on the one; the others are not concerned."""
    bad = hosts[1]
    to = [word for engine in hosts[1:] for word in ("--to", engine.ssh_alias)]
    kept = ("--keep-previous", "previous" if keep else "")
    bad.machine.write("/etc/marked", "")
    then = f'test ! -e /etc/marked || set -- /no-such-program; docker {RUN} "$LAYERFERRY_IMAGE" "$@"'
    try:
        assert push(scene, 1, *to, *kept).code == 0
        run = push(scene, 2, *to, *kept, "--then", then, code=8)
    finally:
        bad.machine.run("rm", "/etc/marked")
    assert [result["then"][0]["status"] for result in run.json["results"]] == [0, 127, 0]
    for engine in (hosts[0], hosts[2]):
        assert said(run, engine.ssh_alias) == ["this is release 2"], run.stderr
    error = run.json["results"][1]["error"]
    assert error["exit_code"] == 8
    assert "no-such-program" in error["hint"]
    assert runs(scene, hosts) == ["this is release 2"] * 3
    if keep:
        way = f"layerferry rollback {bad.ssh_alias} {LATEST}"
        assert way in error["hint"]
        scene.layerferry(*way.split()[1:])
    else:
        (way,) = re.findall(rf"The way back, on {bad.ssh_alias}: (.*)", error["hint"])
        assert way.startswith("docker tag sha256:")
        scene.rig.ssh.run(bad.ssh_alias, way)
    assert runs(scene, hosts) == ["this is release 2", "this is release 1", "this is release 2"]
