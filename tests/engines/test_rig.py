"""The rig itself: what it promises to the other tests is real, and nothing of it stays."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rig import (
    CONTAINERD,
    DOCKERS,
    EMPTY_TAR,
    KINDS,
    SHELLS,
    Engine,
    Image,
    Noise,
    Rig,
    RigError,
    Sshd,
    Text,
    packages,
)
from rig.processes import Process, wait_until
from rig.ssh import start_sshd

TESTS = Path(__file__).parents[1]
#: A shell and what it is linked against, as a build context.
SHELL = (
    "cp -L --parents /bin/dash $(ldd /bin/dash | grep -o '/[^ ]*') . && printf 'FROM scratch\\nCOPY . /\\n' >Dockerfile"
)


@pytest.fixture(scope="session")
def image(rig: Rig) -> Image:
    """A big layer, an empty one, the same layer twice, and a step without a layer."""
    work = rig.workshop
    big = work.layer({"big": Noise(3_000_000), "text": Text(1_000_000)})
    twice = work.layer({"twice": b"twice"})
    return work.image([big, work.raw_layer(EMPTY_TAR), twice, None, twice], env={"A": "b"})


@pytest.fixture(scope="session")
def host(rig: Rig) -> Engine:
    return rig.engine("docker20-overlay2", name="rig-host")


def mentions_of(state: Path) -> list[str]:
    """What of the system still speaks of `state`: processes, mounts and cgroups."""
    lines = Path("/proc/mounts").read_text().splitlines()
    lines += [f"{state} {folder}" for folder in Path("/sys/fs/cgroup").glob(f"**/{state.name}-*")]
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(command.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if str(state) in line and "pytest" not in line]


def test_every_host_has_the_engine_of_its_kind_and_only_that(engine: Engine, rig: Rig) -> None:
    program, other = sorted(["docker", "podman"], key=lambda name: name != engine.kind.program)
    version = rig.ssh.run(engine.ssh_alias, f"{program} version --format '{{{{.Client.Version}}}}'")
    assert version.startswith(engine.kind.version)
    assert rig.ssh.run(engine.ssh_alias, f"command -v {other} || echo none") == "none"
    assert rig.ssh.run(engine.ssh_alias, "hostname 2>/dev/null || cat /proc/sys/kernel/hostname") == engine.name


def test_every_engine_has_the_store_of_its_kind(engine: Engine) -> None:
    if engine.kind.program == "docker":
        driver = engine.docker("info", "--format", "{{.Driver}} {{.DriverStatus}}")
        assert ("io.containerd.snapshotter.v1" in driver) == (engine.name in CONTAINERD)
        assert driver.startswith("overlay")
    else:
        assert engine.docker("info", "--format", "{{.Store.GraphDriverName}}") == "overlay"


def test_every_engine_loads_what_the_workshop_makes(engine: Engine, rig: Rig, image: Image) -> None:
    for name, compression in (("plain:1", "none"), ("gzip:1", "gzip-9")):
        engine.load(rig.workshop.archive({name: image}, compression=compression))  # type: ignore[arg-type]
        assert engine.diff_ids(name) == image.diff_ids
        assert engine.has(name)
    if engine.kind.store in {"overlay2", "podman"}:
        assert set(engine.images().values()) == {image.id}
    engine.docker("create", "--network", "none", "plain:1")
    engine.clear()
    assert engine.images() == {}


def test_every_engine_builds(engine: Engine) -> None:
    identity = engine.build("built:1", "FROM scratch\nCOPY a b/ /\nENV X=y\n", {"a": b"1", "b/c": b"2"})
    (name,) = engine.images()
    assert name.removeprefix("localhost/") == "built:1"
    assert len(engine.diff_ids(name)) == 1
    assert identity


def test_every_engine_pulls_a_base_with_the_gzip_of_a_registry(engine: Engine, rig: Rig, image: Image) -> None:
    registry = rig.registry()
    name = registry.push("base:1", image, compression="gzip-9")
    engine.docker("pull", *(["--tls-verify=false"] if engine.kind.program == "podman" else []), name)
    assert engine.diff_ids(name) == image.diff_ids
    registry.stop()


@pytest.mark.kinds(engine=["docker20-overlay2", "docker28-containerd", "podman5"])
def test_a_crowd_is_many_images_and_goes_away(engine: Engine, rig: Rig) -> None:
    engine.crowd(rig.workshop, 40)
    assert len(engine.images()) == 40
    assert engine.has("crowd:00039") or engine.has("localhost/crowd:00039")
    engine.clear()
    assert engine.images() == {}


@pytest.mark.kinds(engine=DOCKERS)
def test_every_docker_runs_containers(engine: Engine, rig: Rig) -> None:
    assert rig.ssh.run(engine.ssh_alias, f"mkdir /tmp/c && cd /tmp/c && {SHELL} && docker build -qt sh . >&2") == ""
    assert engine.docker("run", "--rm", "--network", "none", "sh", "/bin/dash", "-c", "echo $((6*7))") == "42"
    engine.machine.run("rm", "-r", "/tmp/c")


@pytest.mark.kinds(engine=DOCKERS)
def test_an_engine_can_die_and_come_back(engine: Engine) -> None:
    engine.stop()
    with pytest.raises(RigError, match="docker"):
        engine.docker("version")
    engine.reset()
    assert engine.images() == {}


@pytest.mark.parametrize("shell", SHELLS)
def test_sshd_runs_commands_in_each_login_shell(shell: str, rig: Rig, host: Engine) -> None:
    assert isinstance(host.sshd, Sshd)
    alias = host.sshd.with_shell(shell)
    process = "$fish_pid" if shell == "fish" else "$$"
    assert rig.ssh.run(alias, f"cat /proc/{process}/cmdline; true").split("\0")[:2] == [shell, "-c"]
    assert rig.ssh.run(alias, "id -u") == "0"
    assert rig.ssh.run(alias, "cat", stdin=b"\0\xc3\xa9") == "\0é"


def test_a_user_may_have_no_engine_but_sudo(rig: Rig, host: Engine) -> None:
    assert host.sshd
    host.machine.add_user("erin", uid=4711, shell="/bin/bash", sudo=True)
    alias = host.sshd.with_user("erin")
    with pytest.raises(RigError, match="permission denied"):
        rig.ssh.run(alias, "docker images")
    assert rig.ssh.run(alias, "sudo -n docker images --quiet") == ""
    assert "erin" not in Path("/etc/passwd").read_text()


def test_sshd_takes_options_and_variables(rig: Rig, host: Engine) -> None:
    sshd = start_sshd(
        host.machine,
        rig.ssh,
        "forced",
        options=["ForceCommand echo $WHAT $SSH_ORIGINAL_COMMAND"],
        environment={"WHAT": "a b"},
    )
    assert rig.ssh.run("forced", "anything") == "a b anything"
    sshd.stop()
    with pytest.raises(RigError, match="refused"):
        rig.ssh.run("forced", "anything")


def test_hidden_commands_are_hidden_on_that_machine_alone(rig: Rig) -> None:
    bare = rig.engine("docker20-overlay2", name="bare")
    bare.machine.hide("/usr/bin/zstd", "/usr/bin/docker")
    bare.machine.write("/snap/bin/docker", "#!/bin/sh\necho snap\n", mode=0o755)
    assert rig.ssh.run(bare.ssh_alias, "command -v zstd docker || /snap/bin/docker") == "snap"
    assert Path("/usr/bin/zstd").exists()
    assert not Path("/snap/bin/docker").exists()


def test_a_registry_can_ask_for_a_password(rig: Rig, image: Image) -> None:
    registry = rig.registry(user="erin", password="s3cret")
    registry.push("base:1", image)
    assert registry.repositories == ["base"]
    registry.password = "wrong"
    with pytest.raises(RigError, match="401"):
        registry.push("base:2", image)


@pytest.mark.parametrize("kind", ["docker20-overlay2", "docker28-containerd"])
def test_an_engine_listens_with_tls(kind: str, rig: Rig) -> None:
    engine = rig.engine(kind, name=f"tls-{kind}", listen="tls", ssh=False)
    client = rig.engine("docker28-overlay2")
    folder = Path(engine.env["DOCKER_CERT_PATH"])
    client.machine.path("/root/certs").mkdir(exist_ok=True)
    for file in folder.glob("*.pem"):
        client.machine.write(f"/root/certs/{file.name}", file.read_text())
    env = engine.env | {"DOCKER_CERT_PATH": "/root/certs"}
    version = client.machine.run("docker", "version", "--format", "{{.Server.Version}}", env=env)
    assert version.startswith(KINDS[kind].version)
    with pytest.raises(RigError, match="HTTPS"):
        client.machine.run("docker", "version", env=env | {"DOCKER_CERT_PATH": "/missing", "DOCKER_TLS_VERIFY": ""})


def test_a_machine_can_be_far_away(rig: Rig) -> None:
    far = rig.engine("docker20-overlay2", name="far", rate="8mbit")
    network = far.machine.network
    assert network

    def limits() -> list[dict[str, Any]]:
        """What the kernel tells of each end's limit: the bytes that passed, and how often it let somebody wait."""
        show = ["tc", "-s", "-j", "qdisc", "show"]
        here = subprocess.run([*show, "dev", network.device], check=True, capture_output=True).stdout
        ends = (far.machine.run(*show, "dev", "eth0"), here)
        return [row for end in ends for row in json.loads(end) if row["kind"] == "tbf"]

    rig.ssh.run(far.ssh_alias, "cat >/dev/null", stdin=os.urandom(1_500_000))
    there, here = limits()
    assert {there["options"]["rate"], here["options"]["rate"]} == {8_000_000 // 8}
    assert here["bytes"] > 1_500_000 > there["bytes"]
    assert here["overlimits"] > 10
    network.shape(None)
    assert limits() == []
    rig.ssh.run(far.ssh_alias, "cat >/dev/null", stdin=os.urandom(1_500_000))


def test_machines_can_share_a_network_and_pull_through_a_mirror_there(rig: Rig, image: Image) -> None:
    one = rig.engine("docker28-overlay2", name="rig-site", isolated=True)
    other = rig.engine("docker28-overlay2", name="rig-neighbour", beside=one.machine)
    assert other.machine.address == one.machine.address
    assert rig.ssh.run(other.ssh_alias, "hostname") == "rig-neighbour"
    registry = rig.hidden_registry(one.machine, "registry.site", encrypted=True)
    mirror = rig.hidden_registry(one.machine, "mirror.site", encrypted=True, mirrored=registry)
    for engine in (one, other):
        engine.machine.write("/etc/hosts", one.machine.path("/etc/hosts").read_text())
        for place in (registry, mirror):
            authority = (place.state / "tls/ca.pem").read_text()
            engine.machine.write(f"/etc/docker/certs.d/{place.address}/ca.crt", authority)
    one.load(rig.workshop.archive({f"{registry.address}/app:1": image}))
    one.docker("push", "--quiet", f"{registry.address}/app:1")
    other.pull(f"{mirror.address}/app:1")
    assert other.inspect(f"{mirror.address}/app:1")["Id"] == image.id
    registry.stop()  # the mirror has the layers by now
    other.clear()
    other.pull(f"{mirror.address}/app:1")
    mirror.stop()


def test_two_rigs_live_beside_each_other_and_leave_nothing() -> None:
    users = Path("/etc/passwd").read_text()
    with Rig() as one, Rig() as other:
        first, second = one.engine("docker20-overlay2"), other.engine("docker20-overlay2")
        one.registry()
        first.crowd(one.workshop, 3)
        assert (len(first.images()), len(second.images())) == (3, 0)
        states, inits = [one.state, other.state], [first.machine.init, second.machine.init]
    assert [line for state in states for line in mentions_of(state)] == []
    assert not any(init.alive for init in inits)
    assert not any(state.exists() for state in states)
    assert Path("/etc/passwd").read_text() == users


def test_a_rig_whose_owner_is_killed_takes_itself_down() -> None:
    program = """if True:
        from rig import Rig
        rig = Rig()
        rig.engine("docker20-overlay2").sshd.with_shell("dash")
        rig.registry()
        print(rig.state, flush=True)
        input()
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", program], cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdin
    assert owner.stdout
    with owner, owner.stdin, owner.stdout:
        state = Path(owner.stdout.readline().strip())
        assert mentions_of(state) != []
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not state.exists() and not mentions_of(state), f"{state} is still there", seconds=20)


def test_the_rig_is_usable_by_hand(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In a folder with a short name: a unix socket's path may have 108 bytes."""
    state = tmp_path_factory.mktemp("by") / "hand"

    def by_hand(*words: str) -> str:
        command = [sys.executable, str(TESTS / "rig"), *words, "--state", str(state)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert "docker20-overlay2" in by_hand("up", "docker20-overlay2")
    assert '"kind": "docker20-overlay2"' in by_hand("list")
    on = [
        sys.executable,
        str(TESTS / "rig"),
        "--state",
        str(state),
        "on",
        "docker20-overlay2",
        "docker",
        "images",
        "-q",
    ]
    assert subprocess.run(on, check=True, capture_output=True, text=True).stdout == ""
    by_hand("down")
    assert mentions_of(state) == []


def test_a_skipped_engine_test_fails(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.engine\n"
        "def test_it(): pytest.skip('no time')\n"
        "def test_other(): pytest.skip('fine')\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "conftest",
        "-c",
        str(TESTS.parent / "pyproject.toml"),
        str(tmp_path),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(TESTS)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "1 failed, 1 skipped" in done.stdout


def test_a_process_is_not_mistaken_for_a_later_one_with_its_pid() -> None:
    me = Process(os.getpid(), 1)
    assert not me.alive
    me.send(signal.SIGKILL)


def test_services_stay_off_while_packages_are_installed() -> None:
    policy = Path("/usr/sbin/policy-rc.d")
    before = policy.read_text() if policy.exists() else None
    with packages.no_services():
        assert subprocess.run([policy], check=False).returncode == 101
    assert (policy.read_text() if policy.exists() else None) == before
