"""Engines that belong to the user who logs in, not to root."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engines.test_push_scene import APP, Scene, actions
from rig import Engine

UID = 2100


def user_of(target: Engine) -> str:
    """A user with subordinate IDs and a runtime folder, as logind makes one; the alias to log in as."""
    machine = target.machine
    assert target.sshd is not None
    if not machine.path("/home/rootless").exists():
        machine.add_user("rootless", uid=UID)
        for file in ("/etc/subuid", "/etc/subgid"):
            machine.write(file, "rootless:200000:65536\n")
        machine.run("install", "-d", "-o", str(UID), "-m", "700", f"/run/user/{UID}")
        machine.run("chmod", "644", "/run/rig/authorized_keys")
        target.sshd.with_user("rootless")
    return f"{target.ssh_alias}-rootless"


@contextmanager
def socket_moved(target: Engine) -> Iterator[None]:
    """The engine's socket is where a rootless docker has it, and nowhere else. The daemon itself stays root's."""
    theirs = f"/run/user/{UID}/docker.sock"
    target.machine.run("chown", str(UID), "/run/docker.sock")
    target.machine.run("mv", "/run/docker.sock", theirs)
    try:
        yield
    finally:
        target.machine.run("mv", theirs, "/run/docker.sock")
        target.machine.run("chown", "0", "/run/docker.sock")


@pytest.mark.kinds(target=("docker28-overlay2", "docker28-containerd"))
def test_a_rootless_docker_is_found_by_its_socket(scene: Scene) -> None:
    """No DOCKER_HOST is set in a session that is no login."""
    alias = user_of(scene.target)
    scene.load([scene.layer()])
    with socket_moved(scene.target):
        run = scene.layerferry("push", APP, alias, "--json", source=scene.source)
        again = scene.layerferry("push", APP, alias, "--json", source=scene.source)
    assert actions(run.result) == ["send"]
    assert actions(again.result) == ["reuse"]
    assert scene.target.diff_ids(APP) == scene.source.diff_ids(APP)


@pytest.mark.kinds(target=("podman4",))
def test_a_rootless_podman_gets_a_delta(scene: Scene) -> None:
    """In the user's own store; root's is as it was. The namespace's process that podman leaves is podman's."""
    alias = user_of(scene.target)
    base = scene.layer()
    scene.load([base])
    words = ("push", APP, alias, "--json")
    assert actions(scene.layerferry(*words, source=scene.source).result) == ["send"]
    scene.load([base, scene.layer(name="new")])
    result = scene.layerferry(*words, source=scene.source).result
    assert actions(result) == ["reuse", "send"]
    shown = scene.rig.ssh.run(alias, f"podman image inspect --format '{{{{.RootFS.Layers}}}}' {APP}")
    assert shown.strip("[]").split() == scene.source.diff_ids(APP)
    assert scene.target.images() == {}
    scene.rig.ssh.run(alias, "podman rmi --all --force && podman system migrate")


@pytest.mark.kinds(target=("podman4",))
def test_roots_podman_is_reached_by_who_has_one_of_his_own(scene: Scene) -> None:
    """Through `sudo -n`, where it is asked for; each push tells whose storage it went to."""
    alias = user_of(scene.target)
    scene.load([scene.layer()])
    machine = scene.target.machine
    machine.run("sh", "-c", "echo 'rootless ALL=(root) NOPASSWD: ALL' >/etc/sudoers.d/rootless")
    try:
        own = scene.layerferry("push", APP, alias, "--json", source=scene.source)
        assert own.result["engine"].endswith(", rootless of rootless)")
        assert scene.target.images() == {}
        roots = scene.layerferry("push", APP, f"{alias}?engine=podman&as=root", "--json", source=scene.source)
        assert roots.result["engine"].endswith(", root's)")
        assert scene.target.diff_ids(APP) == scene.source.diff_ids(APP)
    finally:
        machine.run("rm", "/etc/sudoers.d/rootless")
    refused = scene.layerferry("push", APP, alias, "--engine", "root@podman", source=scene.source, code=5)
    assert "its images are those of rootless" in refused.stderr
    scene.rig.ssh.run(alias, "podman rmi --all --force && podman system migrate")
