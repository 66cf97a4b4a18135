"""The ways to a target: commands, jumps, shared connections, sudo, odd places of docker, and two pushes at once."""

import functools
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from engines.test_push_scene import APP, EACH_STORE, NEWEST, SMALL, Scene, actions, assert_arrived, assert_complete
from rig import OVERLAY2, Engine, Rig

pytestmark = pytest.mark.kinds(target=NEWEST)


# Any command that leads to a sh.


@pytest.mark.kinds(target=EACH_STORE)
def test_a_command_that_is_a_shell_on_the_host(scene: Scene) -> None:
    """As `kubectl exec -i pod -- sh` is. There is no way back through it, and none is needed."""
    scene.build(scene.base())
    result = scene.push(APP, "--", *scene.shell(), to="").result
    assert actions(result) == ["reuse", "reuse", "send"]
    assert_arrived(scene, result)


@pytest.mark.kinds(target=OVERLAY2)
def test_a_daemon_beside_us_through_a_local_shell(scene: Scene) -> None:
    scene.build(scene.base())
    command = ["env", f"DOCKER_HOST={scene.target.host}", "sh"]
    result = scene.push(APP, "--", *command, to="").result
    assert actions(result) == ["reuse", "reuse", "send"]
    assert_arrived(scene, result)


def test_ssh_itself_as_the_command(scene: Scene) -> None:
    scene.load([scene.layer()])
    result = scene.push(APP, "--", "ssh", scene.target.ssh_alias, "sh", to="").result
    assert_arrived(scene, result)


def test_a_command_that_ends_at_once_is_named(scene: Scene) -> None:
    scene.load([scene.layer()])
    run = scene.push(APP, "--", "sh", "-c", "echo no such pod >&2; exit 3", to="", code=5)
    assert "no such pod" in run.stderr


def test_a_command_that_does_not_exist(scene: Scene) -> None:
    scene.load([scene.layer()])
    run = scene.push(APP, "--", "no-such-command", to="", code=4)
    assert "no command 'no-such-command'" in run.stderr


# ssh, as the user has set it up.


def test_a_jump_host(scene: Scene, rig: Rig) -> None:
    sshd = scene.target.sshd
    assert sshd is not None
    jump = rig.engine("podman4", name="jump-host").ssh_alias
    alias = sshd.with_user("root", alias=f"{sshd.alias}-behind-{os.urandom(3).hex()}", options=[f"ProxyJump {jump}"])
    scene.build(scene.base())
    result = scene.push(APP, to=alias).result
    assert result["target"] == alias
    assert_arrived(scene, result)


def listening(engine: Engine) -> set[str]:
    """The inodes of sockets on which the machine's processes listen."""
    inodes = {
        fields[9]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for fields in (line.split() for line in Path(table).read_text().splitlines()[1:])
        if fields[3] == "0A"
    }
    found = set()
    for pid in engine.machine.processes():
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                name = str(link.readlink())
            except OSError:
                continue
            found.add(name.removeprefix("socket:[").removesuffix("]"))
    return found & inodes


@pytest.mark.kinds(target=("docker28-containerd",))
def test_a_connection_that_the_user_shares_stays_and_no_forward_is_left_in_it(scene: Scene) -> None:
    sshd = scene.target.sshd
    assert sshd is not None
    options = ["ControlMaster auto", f"ControlPath {scene.rig.ssh.folder}/%C", "ControlPersist 120"]
    alias = sshd.with_user("root", alias=f"{sshd.alias}-shared-{os.urandom(3).hex()}", options=options)
    scene.rig.ssh.run(alias, "true")
    ssh = ["ssh", "-F", str(scene.rig.ssh.config)]
    scene.build(scene.base())
    before = listening(scene.target)
    try:
        words = ["push", APP, alias, "--json"]
        result = scene.layerferry(*words, source=scene.source).result
        assert listening(scene.target) == before
        subprocess.run([*ssh, "-O", "check", alias], check=True, capture_output=True)
        assert scene.rig.ssh.run(alias, "echo usable") == "usable"
    finally:
        subprocess.run([*ssh, "-O", "exit", alias], check=True, capture_output=True)
    assert actions(result) == ["reuse", "reuse", "send"]
    assert result["bytes"]["sent"] < SMALL
    assert_arrived(scene, result)


#: What people have in their ssh_config for sessions of their own. PORT is taken, as by a session that is up.
SETTINGS = {
    "a command": ["RemoteCommand tmux new -A -s main", "RequestTTY force"],
    "no session": ["SessionType none"],
    "a session in the background": ["ForkAfterAuthentication yes", "StdinNull yes"],
    "forwards": ["LocalForward 127.0.0.1:PORT 127.0.0.1:1", "ExitOnForwardFailure yes"],
    "a tunnel": ["Tunnel yes", "ExitOnForwardFailure yes"],
    "silence": ["LogLevel QUIET"],
    "a question each time": ["ControlMaster ask", "ControlPath FOLDER/%C", "ControlPersist yes"],
    "a path to what is not shared": ["ControlPath FOLDER/none-%C"],
    "sessions that stay": ["ControlPersist 60"],
}
SETTINGS["all"] = [line for lines in SETTINGS.values() for line in lines]


def of_ssh(alias: str) -> list[str]:
    """The processes of ssh that have to do with an alias."""
    lines = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout.splitlines()
    return [line for line in lines if alias in line and line.startswith("ssh ")]


@pytest.mark.kinds(target=("docker28-containerd",))
@pytest.mark.parametrize("name", SETTINGS)
def test_what_people_have_set_for_their_own_sessions_stops_no_push(scene: Scene, name: str) -> None:
    """Nor the way back through the session, and nothing of it is left."""
    sshd = scene.target.sshd
    assert sshd is not None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = {"PORT": str(taken.getsockname()[1]), "FOLDER": str(scene.rig.ssh.folder)}
        options = [
            functools.reduce(lambda text, word: text.replace(word, words[word]), words, line) for line in SETTINGS[name]
        ]
        alias = sshd.with_user("root", alias=f"{sshd.alias}-set-{os.urandom(3).hex()}", options=options)
        scene.build(scene.base())
        result = scene.push(APP, to=alias).result
    assert actions(result) == ["reuse", "reuse", "send"]
    assert result["bytes"]["sent"] < SMALL
    assert_arrived(scene, result)
    assert of_ssh(alias) == []


def test_an_ssh_that_was_told_to_be_silent_says_why_it_fails(scene: Scene) -> None:
    sshd = scene.target.sshd
    assert sshd is not None
    alias = sshd.with_user("nobody-such", alias=f"{sshd.alias}-quiet", options=["LogLevel QUIET"])
    scene.load([scene.layer()])
    assert "it refused our authentication (" in scene.push(APP, to=alias, code=4).stderr


def test_a_user_of_a_domain(scene: Scene) -> None:
    sshd = scene.target.sshd
    assert sshd is not None
    if "CORP" not in scene.target.machine.path("/etc/passwd").read_text():
        scene.target.machine.add_user("CORP\\ana")
    scene.load([scene.layer()])
    for target in (f"CORP\\ana@{sshd.alias}", f"ssh://CORP%5Cana@{sshd.alias}"):
        result = scene.push(APP, to=target).result
        assert result["target"] == f"CORP\\ana@{sshd.alias}"
        assert_arrived(scene, result)


def test_an_option_for_ssh_is_passed_on(scene: Scene) -> None:
    sshd = scene.target.sshd
    assert sshd is not None
    scene.load([scene.layer()])
    result = scene.push(APP, "--ssh-option", f"HostName={scene.target.machine.address}", to=sshd.alias).result
    assert_arrived(scene, result)
    run = scene.push(APP, "--ssh-option", "NoSuchOption=1", to=sshd.alias, code=4)
    assert "ssh does not understand an option" in run.stderr


# Where docker is, and who may use it.


def login(scene: Scene, user: str, uid: int, *, sudo: bool) -> str:
    sshd = scene.target.sshd
    assert sshd is not None
    machine = scene.target.machine
    if not machine.path(f"/home/{user}").exists():
        machine.add_user(user, uid=uid, sudo=sudo)
        sshd.with_user(user)
        machine.run("chmod", "644", "/run/rig/authorized_keys")
    return f"{sshd.alias}-{user}"


def test_a_user_without_the_right_to_docker_goes_through_sudo(scene: Scene) -> None:
    scene.build(scene.base())
    result = scene.push(APP, to=login(scene, "sudoer", 2101, sudo=True)).result
    assert actions(result) == ["reuse", "reuse", "send"]
    assert_arrived(scene, result)


@pytest.mark.parametrize("place", ["/snap/bin", "/opt/bin", "/var/packages/ContainerManager/target/usr/bin"])
def test_docker_is_found_outside_of_the_path_of_a_session(scene: Scene, place: str) -> None:
    scene.load([scene.layer()])
    machine = scene.target.machine
    machine.run("mkdir", "-p", place)
    machine.run("mv", "/usr/bin/docker", f"{place}/docker")
    try:
        result = scene.push(APP).result
    finally:
        machine.run("mv", f"{place}/docker", "/usr/bin/docker")
    assert_arrived(scene, result)


@pytest.mark.kinds(target=("podman5",))
def test_the_engine_can_be_named(scene: Scene) -> None:
    scene.load([scene.layer()])
    assert_arrived(scene, scene.push(APP, "--engine", "podman").result)
    run = scene.push(APP, "--engine", "docker", code=5)
    assert "there is no container engine" in run.stderr


# At once.


@pytest.mark.kinds(target=EACH_STORE)
def test_two_pushes_at_once_to_one_host_both_arrive(scene: Scene) -> None:
    """Of two images that share their base, and both get one more name that only one of them can keep.

    Who sees last that it has lost that name again and again says so, and has its image there all the same.
    """
    base = scene.base()
    names = ["push-test/first:1", "push-test/second:1"]
    for name in names:
        scene.build(base, name, size=300_000)
    words = ("--name", "push-test/both:latest")
    runs = [
        scene.layerferry.start("push", name, scene.target.ssh_alias, "--name", name, *words, source=scene.source)
        for name in names
    ]
    said = [run.communicate(timeout=120)[1].decode() for run in runs]
    lost = [text for run, text in zip(runs, said, strict=True) if run.returncode == 6]
    assert sorted(run.returncode for run in runs) in ([0, 0], [0, 6]), said
    assert all("somebody else has moved a name meanwhile (push-test/both:latest shows sha256:" in text for text in lost)
    assert all(re.search("The new image is already under push-test/(first|second):1", text) for text in lost)
    for name in names:
        assert_complete(scene.target, name, scene.source.diff_ids(name))
    images = scene.target.images()
    assert images["push-test/both:latest"] in {images[name] for name in names}
    assert not [name for name in images if "layerferry" in name]


@pytest.mark.kinds(target=EACH_STORE)
def test_two_pushes_of_the_same_image_at_once_agree(scene: Scene) -> None:
    scene.load([scene.layer(2_000_000, "a"), scene.layer(name="b")])
    runs = [scene.layerferry.start("push", APP, scene.target.ssh_alias, source=scene.source) for _ in range(2)]
    for run in runs:
        _, stderr = run.communicate(timeout=120)
        assert run.returncode == 0, stderr.decode()
    assert len(scene.target.images()) == 1
    assert_complete(scene.target, APP, scene.source.diff_ids(APP))


def test_several_targets_are_served_and_one_that_fails_does_not_stop_the_others(scene: Scene, rig: Rig) -> None:
    other = rig.engine("podman5")
    scene.load([scene.layer()])
    try:
        words = [APP, scene.target.ssh_alias, "--to", "no-such-host.invalid", "--to", other.ssh_alias]
        run = scene.push(*words, to="", code=4)
        by_target = {result["target"]: result for result in run.json["results"]}
        assert list(by_target) == [scene.target.ssh_alias, "no-such-host.invalid", other.ssh_alias]
        assert by_target["no-such-host.invalid"]["error"]["exit_code"] == 4
        assert by_target[scene.target.ssh_alias]["verified"]
        assert by_target[other.ssh_alias]["verified"]
        assert other.diff_ids(APP) == scene.target.diff_ids(APP) == scene.source.diff_ids(APP)
    finally:
        other.clear()
