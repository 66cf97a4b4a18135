"""What fails says so in one sentence, with the exit code that belongs to it, and leaves both sides as they were."""

import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from engines.moments import MOMENTS, Gate, assert_interrupted, assert_one_sentence, interrupt, safe, start, wrapped
from engines.test_push_scene import APP, EACH_STORE, NEWEST, Scene, id_of, our_ssh, unchanged, without_ctr
from rig import Engine, Noise, Rig
from rig.command import Run
from rig.processes import wait_until
from rig.ssh import free_port, start_sshd

pytestmark = pytest.mark.kinds(target=NEWEST)
OLD = "push-test/old:1"
OTHER = "push-test/other:1"
#: The rig's environment has none.
DEFAULT_RETRIES = ("--retries", "3")
#: Engines of each store, and dockers that are asked through their command and through curl.
EACH_WAY = (*EACH_STORE, "docker26-overlay2", "docker26-containerd")


@pytest.fixture
def scene(scene: Scene) -> Scene:
    """An old image is on the target under the name that the new one, on the source, is to get."""
    shop = scene.rig.workshop
    scene.target.load(shop.archive({f"docker.io/{APP}": shop.image([scene.layer(name="old")])}))
    scene.load([scene.layer(name="base"), scene.layer(4_000_000, name="new")])
    return scene


def fails(scene: Scene, *arguments: str, code: int, says: str, to: str | None = None, **more: str) -> Run:
    """The push fails with `code` and says what `says` matches; the target and the source are as they were."""
    with unchanged(scene.target):
        run = scene.push(APP, *arguments, to=to, code=code, env=more)
    assert_one_sentence(run.stderr, says)
    error = run.result["error"]
    assert error["exit_code"] == code
    assert run.result["verified"] is False
    assert run.result["image_id"] == ""
    return run


# The way to the target: exit code 4.


def test_a_host_name_that_does_not_resolve(scene: Scene) -> None:
    fails(scene, to="no-such-host.invalid", code=4, says="no-such-host.invalid.*resolve")


def test_a_port_that_nobody_listens_on(scene: Scene) -> None:
    fails(scene, to=f"root@127.0.0.1:{free_port()}", code=4, says="127.0.0.1.*refused")


def test_a_host_key_that_is_not_known(scene: Scene) -> None:
    says = f"{scene.target.ssh_alias}.*host key is not known"
    fails(scene, "--ssh-option", "UserKnownHostsFile=/dev/null", code=4, says=says)


def test_a_host_key_that_has_changed(scene: Scene) -> None:
    other = scene.rig.ssh.folder / "id.pub"
    known = scene.rig.ssh.folder / "other_known_hosts"
    sshd = scene.target.sshd
    assert sshd is not None
    known.write_text(f"[127.0.0.1]:{sshd.port} {' '.join(other.read_text().split()[:2])}\n")
    run = fails(scene, "--ssh-option", f"UserKnownHostsFile={known}", code=4, says="host key is not the one we know")
    assert f"Line 1 of {known} has another key." in run.stderr
    assert f'ssh-keygen -f "{known}" -R "[127.0.0.1]:{sshd.port}"' in run.stderr


def test_a_key_that_the_host_does_not_take(scene: Scene) -> None:
    folder = scene.rig.ssh.folder
    config = folder / "wrong_key_config"
    if not config.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "wrong"], check=True)
        config.write_text(
            scene.rig.ssh.config.read_text().replace(f"IdentityFile {folder}/id", f"IdentityFile {folder}/wrong")
        )
    # Aliases that were added later are not in it, so the target goes by its address.
    sshd = scene.target.sshd
    assert sshd is not None
    fails(
        scene, "--ssh-config", str(config), to=f"root@127.0.0.1:{sshd.port}", code=4, says="refused our authentication"
    )


@pytest.mark.parametrize("entry", ["missing", "empty folder", "file"])
def test_no_ssh_client(scene: Scene, tmp_path: Path, entry: str) -> None:
    (tmp_path / "empty folder").mkdir()
    (tmp_path / "file").touch()
    fails(scene, code=4, says="no command 'ssh'", PATH=str(tmp_path / entry))


def test_a_connection_that_breaks_before_the_greeting(scene: Scene) -> None:
    host = scene.sshd("ForceCommand /bin/false")
    fails(scene, to=host, code=5, says="status 1")


def test_nobody_answers_in_time(scene: Scene) -> None:
    host = scene.sshd("ForceCommand cat >/dev/null")
    fails(scene, "--timeout", "2", to=host, code=4, says="gave up after 2 s")


# The source: exit code 3.


def test_no_daemon_at_the_source(scene: Scene) -> None:
    address = f"unix://{scene.rig.home}/missing.sock"
    fails(scene, code=3, says=f"{address} does not answer", DOCKER_HOST=address)


def test_an_image_that_the_source_does_not_have(scene: Scene) -> None:
    scene.source.docker("rmi", APP)
    fails(scene, code=3, says=f"has no image {APP}")


def test_a_tag_that_was_forgotten(scene: Scene) -> None:
    name, _, tag = APP.rpartition(":")
    assert tag != "latest"
    run = scene.push(name, code=3)
    assert f"has no image {name}, but {name}:{tag}" in run.stderr
    assert f"Say which: layerferry push {name}:{tag}" in run.stderr


def test_of_two_images_the_missing_one_is_blamed(scene: Scene) -> None:
    run = scene.push(APP, "no-such-image:1", scene.target.ssh_alias, to="", code=3)
    assert run.stderr.count("has no image no-such-image:1") == 1
    blamed = {result["image"]: result["error"]["message"] for result in run.json["results"]}
    assert blamed[APP] == "not pushed, for no-such-image:1 could not be"


def test_a_daemon_that_dies_while_it_is_read(scene: Scene, rig: Rig) -> None:
    """A source of its own, stopped as soon as the target has begun to load."""
    source = rig.engine("docker20-overlay2", name="source-that-dies")
    source.load(rig.workshop.archive({APP: rig.workshop.image([rig.workshop.layer({"a": Noise(60_000_000)})])}))
    gate = Gate(scene.target)
    with unchanged(scene.target), gate.at("load"):
        process = scene.layerferry.start("push", APP, scene.target.ssh_alias, "--route", "export", source=source)
        gate.wait()
        source.stop()
        gate.open()
        _, stderr = process.communicate(timeout=60)
    source.start()
    source.clear()
    assert process.returncode == 3
    assert_one_sentence(stderr.decode(), "daemon")


# The target: exit code 5, and 6 where it holds something else than was sent.


def test_no_engine_on_the_host(scene: Scene) -> None:
    scene.target.machine.run("mv", "/usr/bin/docker", "/usr/bin/docker-is-away")
    try:
        with without_ctr(scene.target):
            run = scene.push(APP, code=5)
    finally:
        scene.target.machine.run("mv", "/usr/bin/docker-is-away", "/usr/bin/docker")
    assert_one_sentence(run.stderr, f"{scene.target.ssh_alias}.*no container engine")


def test_a_user_who_may_not_use_the_engine(scene: Scene) -> None:
    assert scene.target.sshd is not None
    if not scene.target.machine.path("/home/plain").exists():
        scene.target.machine.add_user("plain", uid=2001)
        scene.target.sshd.with_user("plain")
        scene.target.machine.run("chmod", "644", "/run/rig/authorized_keys")
    run = fails(scene, to=f"{scene.target.ssh_alias}-plain", code=5, says="may not use the engine")
    assert "docker group" in run.stderr


def test_an_engine_that_does_not_run(scene: Scene) -> None:
    scene.target.stop()
    try:
        run = scene.layerferry("push", APP, scene.target.ssh_alias, source=scene.source, code=5)
    finally:
        scene.target.start()
    assert_one_sentence(run.stderr, f"{scene.target.ssh_alias}.*engine does not run")


@pytest.mark.kinds(target=EACH_WAY)
def test_an_engine_that_refuses_the_load(scene: Scene) -> None:
    body = 'case $verb in load) cat >/dev/null; refuse "load is not for you" ;; *) go "$@" ;; esac'
    with wrapped(scene.target, body):
        fails(scene, code=5, says=f"{scene.target.ssh_alias}.*refused the image.*load is not for you")


def test_an_engine_that_refuses_at_once_is_heard_before_all_is_sent(scene: Scene) -> None:
    scene.load([scene.layer(60_000_000, name="long")])
    body = 'case $verb in load) refuse "enough" ;; *) go "$@" ;; esac'
    with wrapped(scene.target, body):
        fails(scene, code=5, says="enough")


@pytest.mark.kinds(target=EACH_WAY)
def test_an_engine_that_says_ok_and_holds_something_else(scene: Scene) -> None:
    """What a containerd store was seen to do with an archive whose base is missing (docs/design.md, fact 3)."""
    body = f'case $verb in load) cat >/dev/null ;; verify) instead {APP} "$@" ;; *) go "$@" ;; esac'
    with wrapped(scene.target, body):
        fails(scene, code=6, says="what was loaded is not what was sent.*other layers")


@pytest.mark.kinds(target=EACH_WAY)
def test_a_name_that_the_engine_does_not_take(scene: Scene) -> None:
    body = 'case $verb in tag) refuse "no such name here" ;; *) go "$@" ;; esac'
    with wrapped(scene.target, body):
        fails(scene, code=5, says="refused the name.*no such name here")


@pytest.mark.kinds(target=EACH_WAY)
@pytest.mark.parametrize(
    ("body", "code", "says", "given"),
    [
        ("tag*push-test/app*) exit 0", 6, rf"somebody else has moved a name meanwhile \({APP} shows sha256:", OTHER),
        ("tag*push-test/other*) refuse no", 5, r"refused the name \(.*no", APP),
    ],
    ids=["moved", "refused"],
)
def test_names_that_were_given_before_one_failed_are_told(
    scene: Scene, body: str, code: int, says: str, given: str
) -> None:
    """Somebody else gives the first the old image each time; the engine refuses the second."""
    old = id_of(scene.target, APP)
    with wrapped(scene.target, f'case "$verb $*" in {body} ;; *) go "$@" ;; esac'):
        run = scene.push(APP, "--name", APP, "--name", OTHER, code=code)
    assert_one_sentence(run.stderr, says)
    assert f"The new image is already under {given}." in run.stderr
    assert "old image is still there" not in run.stderr
    assert scene.target.diff_ids(given) == scene.source.diff_ids(APP)
    assert given == APP or id_of(scene.target, APP) == old


@pytest.mark.parametrize("target", ["docker28-overlay2", "docker28-containerd", "podman5"], indirect=True)
def test_a_disk_that_is_full(scene: Scene, rig: Rig, target: Engine) -> None:
    """A host whose engine keeps its images on 24 MB."""
    full = rig.engine(target.kind.name, name=f"full-{target.kind.name}")
    store = {"overlay2": "docker", "containerd": "containerd", "podman": "containers"}[full.kind.store]
    if f" /var/lib/{store} tmpfs" not in full.machine.run("cat", "/proc/mounts"):
        full.stop()
        full.machine.run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", f"/var/lib/{store}")
        full.start()
    scene = Scene(rig, scene.layerferry, scene.source, full, scene.seed)
    scene.load([scene.layer(name="small")], OLD)
    scene.push(OLD)
    scene.load([scene.layer(60_000_000, name="large")])
    try:
        run = fails(scene, "--name", OLD, code=5, says=f"{full.ssh_alias}.*disk is full")
        assert "prune" in run.stderr
    finally:
        full.clear()


# At any moment: Ctrl-C, SIGTERM, a broken connection.


@pytest.mark.kinds(target=EACH_WAY)
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_while_the_target_is_at_it(scene: Scene, moment: str) -> None:
    gate = Gate(scene.target)
    number = signal.SIGTERM if MOMENTS.index(moment) % 2 else signal.SIGINT
    with safe(scene, committed=moment in {"tag", "drop"}), gate.at(moment):
        process = start(scene)
        gate.wait()
        interrupt(process, number)
        assert_interrupted(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupt_of_a_push_to_two_targets(scene: Scene, rig: Rig, number: signal.Signals) -> None:
    """One of them is loading, the other one has loaded."""
    other = rig.engine("podman5")
    gates = Gate(scene.target), Gate(other)
    with safe(scene), unchanged(other), gates[0].at("load"), gates[1].at("loaded"):
        process = start(scene, "--to", other.ssh_alias)
        for gate in gates:
            gate.wait()
        interrupt(process, number)
        assert_interrupted(process)
    assert other.images() == {}


@pytest.mark.parametrize("moment", ["list", "load", "loaded", "verify", "tag"])
def test_a_connection_that_breaks_while_the_target_is_at_it(scene: Scene, moment: str) -> None:
    gate = Gate(scene.target)
    assert scene.target.sshd is not None
    with safe(scene, committed=moment == "tag"), gate.at(moment):
        process = start(scene)
        gate.wait()
        scene.target.sshd.drop_sessions()
        gate.open()
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 4
        assert_one_sentence(stderr.decode(), f"{scene.target.ssh_alias}.*closed")


@pytest.mark.parametrize("moment", ["list", "load", "loaded", "tag"])
def test_a_connection_that_breaks_is_made_anew_and_the_push_is_done(scene: Scene, moment: str) -> None:
    gate = Gate(scene.target)
    assert scene.target.sshd is not None
    with unchanged(scene.source), gate.at(moment):
        process = start(scene, "--retries", "2")
        gate.wait()
        scene.target.sshd.drop_sessions()
        gate.open()
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr.decode()
    assert re.search(
        rf"the connection to {scene.target.ssh_alias} broke after about \d+ bytes.*tried again", stdout.decode()
    )
    assert scene.target.diff_ids(APP) == scene.source.diff_ids(APP)
    assert not [name for name in scene.target.images() if "layerferry" in name]


def test_of_a_crowd_before_a_small_door_everybody_gets_through(scene: Scene, rig: Rig) -> None:
    """sshd drops connections beyond its MaxStartups; twenty jobs deploy at the same time."""
    names = [f"push-test/crowd:{number}" for number in range(20)]
    sshd = start_sshd(scene.target.machine, rig.ssh, "crowded", options=["MaxStartups 2:100:2"])
    log = scene.target.machine.run_folder / "sshd-crowded.log"
    # Two that never log in stand in the door until somebody was turned away.
    idle = [socket.create_connection((scene.target.machine.address, sshd.port)) for _ in range(2)]
    try:
        pushes = [
            scene.layerferry.start("push", APP, "crowded", "--name", name, *DEFAULT_RETRIES, source=scene.source)
            for name in names
        ]
        wait_until(lambda: "drop connection" in log.read_text(), "sshd lets all of them in", seconds=60)
        for connection in idle:
            connection.close()
        ends = [(push.communicate(timeout=300), push.returncode) for push in pushes]
    finally:
        sshd.stop()
    assert [code for _, code in ends] == [0] * len(names), ends
    assert any(b"tried again in" in stdout for (stdout, _), _ in ends), "nobody was refused"
    assert len({id_of(scene.target, name) for name in names}) == 1


@pytest.mark.parametrize("moment", ["inspect", "load", "loaded"])
def test_a_push_that_is_killed_outright_leaves_nothing_on_the_target(scene: Scene, moment: str, rig: Rig) -> None:
    """Nothing can be tidied up on this side then."""
    gate = Gate(scene.target)
    with safe(scene), gate.at(moment):
        process = start(scene, "--route", "export")
        gate.wait()
        process.kill()
        process.communicate(timeout=30)
    for path in rig.scratch.iterdir():
        subprocess.run(["rm", "-rf", path], check=True)


@pytest.mark.parametrize("after", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("route", ["registry"])
def test_an_interrupt_at_any_time(scene: Scene, after: float, number: signal.Signals, route: str) -> None:
    """So long after ssh was started. 20 MB are enough to be interrupted; who comes too late finds it done."""
    scene.source.docker("rmi", APP)
    scene.load([scene.layer(20_000_000, name="long"), scene.layer(name="new")])
    with safe(scene, committed=True):
        process = start(scene, "--route", route)
        wait_until(lambda: bool(our_ssh(scene.rig)), "ssh is not started", seconds=30)
        time.sleep(after)
        interrupt(process, number)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode in {0, 130}, stderr.decode()
    if process.returncode:
        assert_one_sentence(stderr.decode(), "interrupted")
    else:
        assert "verified" in stdout.decode()
