"""Services of a compose file that come up on a real docker, by a real compose here, through ssh."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.test_push_scene import Json, Scene, our_ssh
from rig import packages
from rig.command import Run

WEB, WORKER = "push-test/web:1", "push-test/worker:1"
#: No test waits for the wall clock: the first look at a service's health is a second after its start.
COMPOSE = """\
name: push-test
services:
  web:
    image: {web}
    network_mode: none
    command: ["/bin/busybox", "sleep", "1000"]
    stop_grace_period: 0s
    healthcheck: {{test: ["CMD", "/bin/busybox", "test", "-e", "/healthy"], interval: 1s, retries: 3}}
    environment: {{KEY: "${{LAYERFERRY_SSH_KEY:-none}}", TOLD: "${{TOLD}}"}}
  worker:
    image: {worker}
    network_mode: none
    command: ["/bin/busybox", "sleep", "1000"]
    stop_grace_period: 0s
"""


def busybox() -> dict[str, bytes]:
    """A busybox and what it is linked against, by their paths in a layer."""
    packages.install(("busybox",))
    linked = subprocess.run(["ldd", "/bin/busybox"], capture_output=True, text=True, check=True).stdout
    paths = ["/bin/busybox", *(word for word in linked.split() if word.startswith("/"))]
    return {path.lstrip("/"): Path(path).read_bytes() for path in paths}


class Site:
    """The scene, a compose file, and a compose on PATH."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene, self.folder, self.file = scene, folder, folder / "compose.yaml"
        (folder / "bin").mkdir()
        (folder / "tmp").mkdir()
        (folder / "bin/docker-compose").symlink_to(packages.compose())
        (folder / "bin/docker").symlink_to("/bin/false")
        self.file.write_text(COMPOSE.format(web=WEB, worker=WORKER))
        self.base = scene.rig.workshop.layer(busybox())

    def load(self, name: str, *, healthy: bool = True, text: str = "") -> None:
        files = {"healthy" if healthy else "ill": f"{name} {text}".encode()}
        self.scene.load([self.base, self.scene.rig.workshop.layer(files)], name)

    def up(self, *words: str, code: int = 0) -> Run:
        path = f"{self.folder / 'bin'}:{self.scene.rig.ssh.bin}:{os.environ['PATH']}"
        env = {"PATH": path, "TOLD": "of the job", "TMPDIR": str(self.folder / "tmp")}
        target = self.scene.target.ssh_alias
        words = ("push", "--compose", str(self.file), "--up", "--json", *words, target)
        run = self.scene.layerferry(*words, source=self.scene.source, env=env, code=code)
        assert our_ssh(self.scene.rig) == []
        assert list((self.folder / "tmp").iterdir()) == []
        assert "Traceback" not in run.stderr
        return run

    def containers(self) -> dict[str, Json]:
        """The target's containers, by service."""
        rows: list[Json] = self.scene.target.api.get("/containers/json?all=1")
        return {row["Labels"]["com.docker.compose.service"]: row for row in rows}


@pytest.fixture
def site(scene: Scene, tmp_path: Path) -> Iterator[Site]:
    site = Site(scene, tmp_path)
    yield site
    if ids := [row["Id"] for row in site.containers().values()]:
        scene.target.docker("rm", "--force", *ids)


def changes(run: Run) -> dict[str, tuple[str, str]]:
    (up,) = {json.dumps(result["up"]) for result in run.json["results"]}
    return {one["service"]: (one["change"], one["state"]) for one in json.loads(up)}


@pytest.mark.kinds(target=("docker28-overlay2",))
def test_services_come_up_and_one_whose_image_has_changed_is_made_anew(site: Site) -> None:
    site.load(WEB)
    site.load(WORKER)
    foreseen = site.up("--dry-run")
    assert "would follow: compose up: web, worker" in foreseen.stderr
    assert site.containers() == {}
    first = site.up()
    assert changes(first) == {"web": ("created", "healthy"), "worker": ("created", "running")}
    before = site.containers()
    told = site.scene.target.docker("inspect", "--format", "{{json .Config.Env}}", before["web"]["Id"])
    assert {"KEY=none", "TOLD=of the job"} <= {*json.loads(told)}
    site.scene.source.clear()
    site.load(WEB, text="changed")
    site.load(WORKER)
    second = site.up("--then", "docker ps --quiet | wc -l")
    assert changes(second) == {"web": ("recreated", "healthy"), "worker": ("unchanged", "running")}
    assert "web: recreated, healthy" in second.stderr
    after = site.containers()
    assert after["worker"]["Id"] == before["worker"]["Id"]
    assert after["web"]["ImageID"] == next(r["image_id"] for r in second.json["results"] if r["image"] == WEB)
    assert {result["then"][0]["status"] for result in second.json["results"]} == {0}


@pytest.mark.kinds(target=("docker28-overlay2",))
def test_an_unhealthy_one_is_told_with_the_last_lines_and_the_way_back(site: Site) -> None:
    site.load(WEB)
    site.load(WORKER)
    old = next(result["image_id"] for result in site.up("--service", "web").json["results"])
    assert set(site.containers()) == {"web"}
    site.scene.source.clear()
    site.load(WEB, healthy=False)
    failed = site.up("--service", "web", "--then", "touch not-done", code=8)
    (result,) = failed.json["results"]
    assert result["verified"]
    assert result["then"] == []
    assert changes(failed) == {"web": ("recreated", "unhealthy")}
    assert "`docker compose up` ended with status 1" in result["error"]["message"]
    assert "unhealthy" in result["error"]["hint"]
    assert f"docker tag {old} {WEB}" in result["error"]["hint"]


@pytest.mark.kinds(target=("podman5",))
def test_a_podman_is_refused_before_anything_is_sent(site: Site) -> None:
    site.load(WEB)
    site.load(WORKER)
    images = site.scene.target.images()
    refused = site.up(code=5)
    assert "has podman, and --up needs docker" in refused.stderr
    assert site.scene.target.images() == images
