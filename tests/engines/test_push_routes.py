"""Which way the bytes leave the source daemon, and what becomes of a push when that way fails."""

import contextlib
import json
import socket
import threading
import time
from pathlib import Path

import pytest

from engines.test_push_scene import APP, NEWEST, SMALL, Scene, actions, assert_arrived
from rig import DOCKERS

pytestmark = pytest.mark.kinds(target=NEWEST)


@pytest.mark.kinds(source=DOCKERS)
@pytest.mark.parametrize("route", ["registry", "export"])
def test_a_route_that_is_named_is_taken_cold_and_for_a_delta(scene: Scene, route: str) -> None:
    base = scene.base()
    scene.build(base)
    delta = scene.push(APP, "--route", route).result
    assert actions(delta) == ["reuse", "reuse", "send"]
    assert delta["route"]["name"] == route
    assert delta["route"]["reason"]
    assert delta["bytes"]["sent"] < SMALL
    if route == "registry":
        assert delta["bytes"]["received"] < SMALL
    assert_arrived(scene, delta)
    scene.target.clear()
    cold = scene.push(APP, "--route", route).result
    assert actions(cold) == ["send", "send", "send"]
    assert_arrived(scene, cold)


@pytest.mark.kinds(source=("docker20-overlay2", "docker28-containerd"))
def test_auto_reads_only_the_delta_where_that_is_cheaper_and_says_why(scene: Scene) -> None:
    scene.build(scene.base(size=40_000_000))
    result = scene.push(APP).result
    assert result["route"]["name"] == "registry"
    assert "reaches" in result["route"]["reason"]
    assert result["bytes"]["received"] < 1 << 20
    assert result["bytes"]["sent"] < SMALL


class Broken:
    """A daemon's socket on which the API's n-th push fails; everything else passes."""

    def __init__(self, daemon: str, folder: Path, nth: int) -> None:
        self._daemon = daemon.removeprefix("unix://")
        self._left = nth
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(folder / "s"))
        self._server.listen(50)
        self.host = f"unix://{folder}/s"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as daemon:
            daemon.connect(self._daemon)
            threading.Thread(target=_copy, args=(daemon, client), daemon=True).start()
            with contextlib.suppress(OSError):
                while data := client.recv(1 << 16):
                    head = data.partition(b"\r\n")[0]
                    if head.startswith(b"POST") and b"/push?" in head:
                        self._left -= 1
                        if self._left == 0:
                            client.sendall(_FAILED)
                            return
                    daemon.sendall(data)

    def close(self) -> None:
        self._server.close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)


_WORDS = json.dumps({"error": "the push broke off, for a test"}).encode() + b"\r\n"
_FAILED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_WORDS),
    _WORDS,
)


@pytest.mark.kinds(source=("docker28-overlay2", "docker28-containerd"))
@pytest.mark.parametrize("nth", [1, 2], ids=["learning", "uploading"])
def test_a_registry_route_that_fails_midway_is_replaced_with_a_warning(scene: Scene, nth: int, tmp_path: Path) -> None:
    scene.build(scene.base(size=20_000_000), size=60_000)
    broken = Broken(scene.source.host, tmp_path, nth)
    try:
        words = ["push", APP, scene.target.ssh_alias]
        run = scene.layerferry(*words, source=scene.source, env={"DOCKER_HOST": broken.host})
    finally:
        broken.close()
    if nth == 1 or scene.source.kind.store == "containerd":  # a classic store has uploaded what is new by then
        assert "warning: " in run.stdout
        assert "the push broke off, for a test" in run.stdout
    assert scene.target.diff_ids(APP) == scene.source.diff_ids(APP)
    assert not [name for name in scene.source.images() if "layerferry" in name]


def test_a_registry_route_that_fails_is_the_end_where_it_was_named(scene: Scene, tmp_path: Path) -> None:
    scene.build(scene.base(), size=60_000)
    before = scene.target.images()
    broken = Broken(scene.source.host, tmp_path, 1)
    try:
        run = scene.push(APP, "--route", "registry", env={"DOCKER_HOST": broken.host}, code=7)
    finally:
        broken.close()
    assert "route registry failed" in run.stderr
    assert "the push broke off, for a test" in run.stderr
    assert scene.target.images() == before


@pytest.mark.kinds(source=DOCKERS)
@pytest.mark.parametrize("route", ["auto", "registry"])
def test_an_image_without_a_name_is_not_lost_with_the_one_that_we_give_it(scene: Scene, route: str) -> None:
    """docker removes an image with its last name; what is pushed by its ID may have none."""
    base = scene.base(size=40_000_000)
    scene.build(base, text="first")
    nameless = scene.source.inspect(APP)["Id"]
    scene.build(base, text="second")
    assert scene.source.inspect(nameless)["RepoTags"] == []
    words = ["push", nameless, scene.target.ssh_alias, "--name", APP, "--route", route]
    run = scene.layerferry(*words, source=scene.source, code=None)
    assert run.code == (0 if route == "auto" else 7), run.stderr
    assert "would be lost" in run.stdout + run.stderr
    assert scene.source.inspect(nameless)["Id"] == nameless
    assert scene.target.has(APP) is (route == "auto")


@pytest.mark.kinds(source=DOCKERS)
def test_the_names_of_killed_runs_go_with_the_next_one_which_says_so(scene: Scene) -> None:
    """The tag of a run that may still live stays, and so does whatever else is called alike."""
    scene.build(scene.base(), size=60_000)
    repository = f"127.0.0.1:9/layerferry/{'a' * 32}"
    dead = f"{repository}:layerferry-60000000-1-0123456789ab"
    kept = [f"{repository}:layerferry-{int(time.time()):08x}-1-0123456789ab", f"{repository}:mine"]
    for name in (dead, *kept):
        scene.source.docker("tag", APP, name)
    run = scene.layerferry("push", APP, scene.target.ssh_alias, "--route", "registry", source=scene.source)
    assert "removed 1 name that earlier runs, which were killed, had left there" in run.stdout
    assert not scene.source.has(dead)
    assert all(scene.source.has(name) for name in kept)
    assert scene.target.diff_ids(APP) == scene.source.diff_ids(APP)
