"""Hosts of containerd alone, a node of Kubernetes among them; and docker's own containerd, which tells its blobs."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engines.moments import Gate, assert_interrupted, interrupt, safe, start, wrapped
from engines.test_failures import fails
from engines.test_push_scene import APP, SMALL, Scene, actions, assert_arrived, id_of, without_ctr
from layerferry.oci.image import chain_ids
from rig import BARE, CONTAINERD, Containerd, Engine
from rig.processes import wait_until

pytestmark = pytest.mark.kinds(target=BARE)
OLD = "push-test/old:1"


# A push, found without a word about the engine.


def test_a_whole_image_then_a_delta_then_nothing(scene: Scene) -> None:
    scene.load([scene.layer(1_000_000, "a"), scene.layer(50_000, "b")])
    first = scene.push(APP).result
    assert actions(first) == ["send", "send"]
    assert_arrived(scene, first)
    again = scene.push(APP, "--name", "push-test/again:2").result
    assert actions(again) == ["reuse", "reuse"]
    assert again["route"]["name"] == "none"
    assert again["image_id"] == first["image_id"] == id_of(scene.target, "push-test/again:2")
    scene.load([scene.layer(1_000_000, "a"), scene.layer(50_000, "b"), scene.layer(10_000, "c")])
    result = scene.push(APP).result
    assert actions(result) == ["reuse", "reuse", "send"]
    assert result["bytes"]["sent"] < SMALL
    assert_arrived(scene, result)


def test_of_a_small_layer_on_a_pulled_base_that_layer_alone_is_sent(scene: Scene) -> None:
    """The base is there as gzip that is not docker's: its own blobs are named."""
    scene.build(scene.base())
    result = scene.push(APP).result
    assert actions(result) == ["reuse", "reuse", "send"]
    assert result["bytes"]["sent"] < SMALL
    assert_arrived(scene, result)
    assert scene.push(APP).result["image_id"] == result["image_id"]


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_it_is_unpacked_with_the_nodes_own_snapshotter(scene: Scene, snapshotter: str) -> None:
    """So that the first start does not pay for it. A node may have another snapshotter than containerd itself."""
    target = scene.target
    assert isinstance(target, Containerd)
    base, new = scene.layer(80_000), scene.layer(name="new")
    scene.load([base], OLD)
    scene.push(OLD)
    if snapshotter != "overlayfs":
        target.ctr("images", "export", "--local", "/run/old.tar", f"docker.io/{OLD}")
        target.ctr("images", "rm", "--sync", *target.images())
        target.ctr("images", "import", "--local", "--snapshotter", snapshotter, "/run/old.tar")
    scene.load([base, new])
    result = scene.push(APP).result
    assert actions(result) == ["reuse", "send"]
    assert_arrived(scene, result)
    (*_, top) = chain_ids(scene.source.diff_ids(APP))
    assert top in target.ctr("snapshots", "--snapshotter", snapshotter, "ls")


def test_a_pinned_name_is_told_to_kubernetes_and_moves_without_its_pin(scene: Scene) -> None:
    target = scene.target
    assert isinstance(target, Containerd)
    pinned = f'name==docker.io/{APP},labels."io.cri-containerd.pinned"==pinned'
    for number, query in enumerate(["?pin=yes", "?pin=yes", ""]):
        scene.load([scene.layer(name=str(number))])
        assert_arrived(scene, scene.push(APP, to=f"{target.ssh_alias}{query}").result)
        assert (APP in target.ctr("images", "ls", pinned)) == bool(query)


def test_layers_of_several_images_are_reused_in_another_order(scene: Scene) -> None:
    first, second, third = (scene.layer(80_000, name) for name in "abc")
    scene.load([first], OLD)
    scene.load([second], "push-test/other:1")
    scene.load([second, third, first])
    scene.push(OLD)
    scene.push("push-test/other:1")
    result = scene.push(APP).result
    assert actions(result) == ["reuse", "send", "reuse"]
    assert_arrived(scene, result)


def test_a_layer_that_no_image_keeps_is_not_built_upon(scene: Scene) -> None:
    """A name that is removed leaves its blobs to the garbage collector, which comes when it likes."""
    target = scene.target
    assert isinstance(target, Containerd)
    layer = scene.layer(80_000)
    scene.load([layer], OLD)
    scene.push(OLD)
    target.ctr("leases", "create", "--id", "holds", "--expires", "1h")
    try:
        target.ctr("images", "rm", f"docker.io/{OLD}", *(name for name in target.images() if name.startswith("sha256")))
        scene.load([layer, scene.layer(name="new")])
        result = scene.push(APP).result
    finally:
        target.ctr("leases", "rm", "holds")
    assert actions(result) == ["send", "send"]
    assert_arrived(scene, result)


def test_the_same_image_out_of_a_registry_is_recognised_by_its_config(scene: Scene) -> None:
    base = scene.base()
    name = scene.push(base, "--name", APP).result
    assert actions(name) == ["reuse", "reuse"]
    assert name["bytes"]["delta"] == name["bytes"]["received"] == 0
    assert id_of(scene.target, APP) == id_of(scene.target, base) == name["image_id"]


@pytest.mark.parametrize("method", ["none", "gzip", "zstd"])
@pytest.mark.kinds(target=("containerd1", "containerd2"))
def test_a_stream_is_taken_however_it_is_compressed(scene: Scene, method: str) -> None:
    """containerd 1 does not detect any compression; the host has tools."""
    scene.load([scene.layer()])
    assert_arrived(scene, scene.push(APP, "--compression", method).result)


@pytest.mark.kinds(target=("k3s",))
def test_kubernetes_sees_the_image_at_once(scene: Scene) -> None:
    """As one of its own, under the name and under the config's digest, unpacked."""
    target = scene.target
    assert isinstance(target, Containerd)
    scene.load([scene.layer()])
    scene.push(APP)
    wait_until(lambda: len(target.images()) == 2, "Kubernetes' part does not notice")
    assert {row["name"] for row in target.rows()} == {f"docker.io/{APP}", id_of(scene.source, APP)}
    assert all("io.cri-containerd.image=managed" in row["labels"] for row in target.rows())
    assert target.ctr("images", "check", "-q").split().count(f"docker.io/{APP}") == 1


@pytest.mark.kinds(target=("containerd2",))
def test_a_namespace_that_is_said_is_the_one_that_is_used(scene: Scene) -> None:
    target = scene.target
    assert isinstance(target, Containerd)
    scene.load([scene.layer()])
    host = f"{target.ssh_alias}?engine=ctr&namespace=elsewhere"
    run = scene.push(APP, to=host)
    assert run.result["target"] == host
    assert "namespace elsewhere" in run.result["engine"]
    assert actions(scene.push(APP, "--engine", "ctr:elsewhere").result) == ["reuse"]
    assert target.images() == {}
    names = target.machine.run("ctr", "-n", "elsewhere", "images", "ls", "-q").split()
    target.machine.run("ctr", "-n", "elsewhere", "images", "rm", "--sync", *names)
    assert names == [f"docker.io/{APP}"]
    missing = scene.push(APP, "--engine", "k3s", code=5)
    assert "no container engine (looked for k3s)" in missing.stderr


@pytest.mark.kinds(target=("k3s", "containerd1"))
def test_a_user_who_needs_sudo(scene: Scene) -> None:
    target = scene.target
    assert target.sshd is not None
    if not target.machine.path("/home/deploy").exists():
        target.machine.add_user("deploy", uid=2002, sudo=True)
        target.machine.run("chmod", "644", "/run/rig/authorized_keys")
        target.sshd.with_user("deploy")
    scene.load([scene.layer()])
    assert_arrived(scene, scene.push(APP, to=f"{target.ssh_alias}-deploy").result)


# What fails, and what is interrupted, leaves the old image and nothing else: no name, no lease.


@contextmanager
def old_image(scene: Scene) -> Iterator[None]:
    """An old image is there under the name that the new one is to get."""
    scene.load([scene.layer(name="old")])
    scene.push(APP)
    scene.source.docker("rmi", APP)
    scene.load([scene.layer(name="base"), scene.layer(4_000_000, name="new")])
    if scene.target.kind.program == "k3s":
        wait_until(lambda: len(scene.target.images()) == 2, "Kubernetes' part does not notice")
    yield


@contextmanager
def gated(target: Engine, body: str) -> Iterator[None]:
    """As `wrapped`, with the stand-in of k3s moved aside."""
    if target.kind.program != "k3s":
        with wrapped(target, body):
            yield
        return
    target.machine.run("mv", "/usr/local/bin/k3s", "/usr/bin/k3s")
    try:
        with wrapped(target, body):
            yield
    finally:
        target.machine.run("mv", "/usr/bin/k3s", "/usr/local/bin/k3s")


@pytest.mark.parametrize("moment", ["list", "load", "loaded", "verify", "tag", "drop"])
@pytest.mark.kinds(target=("k3s", "containerd1"))
def test_an_interrupt_while_the_target_is_at_it(scene: Scene, moment: str) -> None:
    target = scene.target
    gate = Gate(target, gated)
    with old_image(scene), safe(scene, committed=moment in {"tag", "drop"}), gate.at(moment):
        process = start(scene)
        gate.wait()
        interrupt(process, signal.SIGTERM)
        assert_interrupted(process)
    assert isinstance(target, Containerd)
    assert target.leases == []


def test_a_load_that_is_refused(scene: Scene) -> None:
    body = 'case $verb in load) cat >/dev/null; refuse "not now" ;; *) go "$@" ;; esac'
    with old_image(scene), gated(scene.target, body):
        fails(scene, code=5, says=f"{scene.target.ssh_alias}.*refused the image.*not now")


def test_an_image_that_lacks_a_layer_is_not_believed(scene: Scene) -> None:
    """Its blob is gone between the answer and the load, as when somebody removes the image that keeps it."""
    target = scene.target
    assert isinstance(target, Containerd)
    base, new = scene.layer(name="base"), scene.layer(name="new")
    scene.load([base], OLD)
    scene.push(OLD)
    scene.load([base, new])
    k3s = target.kind.program == "k3s"
    refs = f"docker.io/{OLD} {id_of(scene.source, OLD)}" if k3s else f"docker.io/{OLD}"
    words = "ctr -n k8s.io" if k3s else "-n default"
    body = f'[ "$verb" != load ] || $real {words} images rm --sync {refs} >/dev/null 2>&1; go "$@"'
    with gated(target, body):
        run = scene.layerferry("push", APP, target.ssh_alias, "--json", source=scene.source, code=None)
    assert run.code in {5, 6}
    assert run.result["verified"] is False
    assert target.images() == {}
    assert target.leases == []
    assert_arrived(scene, scene.push(APP).result)


# docker's own containerd.


@pytest.mark.kinds(target=CONTAINERD)
def test_docker_hosts_tell_their_blobs_where_nothing_can_be_forwarded(scene: Scene) -> None:
    """Nothing has to be pushed to us where docker's own containerd answers."""
    host = scene.sshd("AllowTcpForwarding no")
    scene.build(scene.base())
    result = scene.push(APP, to=host).result
    assert actions(result) == ["reuse", "reuse", "send"]
    assert_arrived(scene, result)
    again = scene.push(APP, to=host).result
    assert again["bytes"]["received"] == 0
    assert again["image_id"] == result["image_id"]


@pytest.mark.kinds(target=("docker28-containerd",))
def test_where_ctr_is_not_there_blobs_are_learned_as_ever(scene: Scene) -> None:
    scene.build(scene.base())
    with without_ctr(scene.target):
        result = scene.push(APP).result
        assert actions(result) == ["reuse", "reuse", "send"]
    assert_arrived(scene, result)


@pytest.mark.kinds(target=("docker28-containerd",))
def test_a_user_of_the_docker_group_learns_as_ever_and_sudo_is_not_tried(scene: Scene) -> None:
    """An admin would be told of an attempt."""
    target = scene.target
    assert target.sshd is not None
    if not target.machine.path("/home/member").exists():
        target.machine.add_user("member", uid=2003)
        target.machine.run("chmod", "644", "/run/rig/authorized_keys")
        target.machine.run("chmod", "666", "/run/docker.sock")
        target.sshd.with_user("member")
    target.machine.write("/usr/local/bin/sudo", "#!/bin/sh\n: >/tmp/sudo-was-tried\nexit 1\n", mode=0o755)
    try:
        scene.build(scene.base())
        result = scene.push(APP, to=f"{target.ssh_alias}-member").result
        assert not target.machine.path("/tmp/sudo-was-tried").exists()
    finally:
        target.machine.run("rm", "/usr/local/bin/sudo")
    assert actions(result) == ["reuse", "reuse", "send"]
    assert_arrived(scene, result)


@pytest.mark.kinds(target=("docker28-containerd",))
def test_a_docker_that_does_not_run_is_no_reason_to_load_into_its_containerd(scene: Scene) -> None:
    target = scene.target
    scene.load([scene.layer()])
    dockerd = target._daemons[0]
    dockerd.send(signal.SIGTERM)
    wait_until(lambda: not dockerd.alive, "dockerd does not end")
    try:
        run = scene.layerferry("push", APP, target.ssh_alias, source=scene.source, code=5)
    finally:
        target.stop()
        target.start()
    assert "engine does not run" in run.stderr
