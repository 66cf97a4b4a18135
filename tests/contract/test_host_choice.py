"""Which engine the host script takes, and whose: in every POSIX shell here, before engines that play."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from contract import fake_engine
from contract.fake_engine import CONTAINERD, OVERLAY2, PODMAN, FakeEngine, ask, commit, isolate, load
from layerferry.oci.image import Platform
from layerferry.targets.host.script import script

REFUSED = "permission denied while trying to connect to the docker API"
A, ONE = ("sha256:" + hashlib.sha256(name.encode()).hexdigest() for name in ("a", "one"))
INCOMING, NAME = "localhost/layerferry:0123456789abcdef", "docker.io/library/app:1"
#: As docker's command greets where its daemon cannot be asked: its template is filled with nothing.
NOBODY = " / "


class Host:
    """A host with just the commands that a test installs, whose user is ana."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = FakeEngine(folder)
        (self.engine.bin / "docker").unlink()
        self.engine.program = ""
        self.path = isolate(self.engine, monkeypatch)
        (self.engine.bin / "id").unlink()
        self.install("id", "case $1 in -u) echo ${UID_NOW:-1000} ;; -un) echo ana ;; *) echo ana ;; esac")

    def install(self, name: str, body: str) -> None:
        (self.engine.bin / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"$FAKE/tried"\n{body}\n')
        (self.engine.bin / name).chmod(0o755)

    def answers(self, name: str, info: str = "", *, refused: str = "", unless: str = "false") -> None:
        """Install an engine that greets with `info`, or refuses on stderr unless a shell command is true."""
        refuse = f"{unless} || {{ echo '{NOBODY}'; echo '{refused}' >&2; exit 1; }}" if refused else ""
        self.install(name, f"{refuse}\ncase $1 in info) echo '{info}' ;; esac")

    def sudo(self, *, allowed: bool) -> None:
        run = 'shift; SUDO=1 UID_NOW=0 DOCKER_HOST= exec "$@"'
        self.install("sudo", run if allowed else "echo sudo: a password is required >&2; exit 1")

    def greets(self, shell: list[str], *words: str) -> list[str]:
        """What it says between its first line and `accept`, or its verdict."""
        lines = self.engine.talk(shell, ask({}, " ".join(("engine", *words))), path=self.path).lines[2:]
        return lines[: next((n for n, line in enumerate(lines) if line.startswith("accept")), len(lines))]

    @property
    def tried(self) -> str:
        file = self.engine.state / "tried"
        return file.read_text() if file.exists() else ""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


# The first that is installed is the one that is meant.


def test_docker_goes_before_podman_and_podman_is_found_alone(host: Host, shell: list[str]) -> None:
    host.answers("podman", PODMAN)
    assert host.greets(shell)[0] == "engine podman 5.8.6 overlay"
    host.answers("docker", OVERLAY2)
    assert host.greets(shell)[0] == "engine docker 28.5.2 overlay2"
    assert host.greets(shell, "podman")[0] == "engine podman 5.8.6 overlay"


@pytest.mark.parametrize("why", [REFUSED, "Cannot connect to the Docker daemon. Is the docker daemon running?"])
def test_no_podman_stands_in_for_a_docker_that_refuses_or_does_not_run(host: Host, shell: list[str], why: str) -> None:
    """docker/cli#4007: the image was in podman, where nobody looked."""
    host.answers("docker", refused=why)
    host.answers("podman", PODMAN)
    host.answers("nerdctl", "2.1.2 linux/amd64 overlayfs")
    host.sudo(allowed=False)
    (verdict,) = host.greets(shell)
    assert verdict.startswith(f"failed engine docker: {why}; sudo -n docker: sudo: a password is required;")
    assert verdict.endswith("also here: podman nerdctl")
    assert "podman info" not in host.tried


def test_it_is_used_through_sudo_where_that_is_allowed(host: Host, shell: list[str]) -> None:
    host.answers("docker", OVERLAY2, refused=REFUSED, unless='[ "$SUDO" ]')
    host.answers("podman", PODMAN)
    host.sudo(allowed=True)
    assert host.greets(shell)[:2] == ["engine docker 28.5.2 overlay2", "owner root"]
    assert host.greets(shell, "docker", "-", "user")[0].startswith("failed engine")
    assert host.tried.count("sudo -n docker info") == 1


@pytest.mark.parametrize("called", ["podman version 4.3.1", "docker version 5.4.0"])
def test_a_docker_that_is_podman_is_podman(host: Host, shell: list[str], called: str) -> None:
    """By the script of podman-docker, or by a link. podman knows no field that docker's template asks for."""
    host.install(
        "docker", f"case $1 in --version) echo '{called}' ;; *) echo template: no ServerVersion >&2; exit 125 ;; esac"
    )
    host.answers("podman", PODMAN)
    assert host.greets(shell)[:2] == ["engine podman 5.8.6 overlay", "owner ana"]
    assert host.greets(shell, "docker")[0].startswith("failed engine docker: template")


def test_no_other_containerd_stands_in_for_that_of_k3s(host: Host, shell: list[str]) -> None:
    host.install("k3s", "echo k3s is down >&2; exit 1")
    host.install("ctr", "echo; echo Server:; echo '  Version:  2.1.9'")
    (verdict,) = host.greets(shell)
    assert verdict.startswith("failed engine k3s ctr: k3s is down")
    assert verdict.endswith("also here: ctr")
    assert "ctr " not in host.tried.replace("k3s ctr", "")


# Where engines live.


@pytest.mark.parametrize("folder", ["bin", ".local/bin", ".docker/bin", ".orbstack/bin", ".rd/bin", ".nix-profile/bin"])
def test_an_engine_in_the_users_home_is_found(tmp_path: Path, shell: list[str], folder: str) -> None:
    """Rootless docker's installer, Docker Desktop, OrbStack, Rancher Desktop, Nix: a login's PATH leads there."""
    engine = FakeEngine(tmp_path)
    home = tmp_path / "home"
    (home / folder).mkdir(parents=True)
    (engine.bin / "docker").rename(home / folder / "nerdctl")
    engine.say("info", "2.1.2 linux/amd64 overlayfs\n")
    env = engine.environment() | {"HOME": str(home)}
    engine.environment = lambda path="": env  # type: ignore[method-assign]
    assert "engine nerdctl 2.1.2 overlayfs" in engine.talk(shell, ask({}, "engine nerdctl")).lines


def test_each_place_of_an_engine_is_looked_at(tmp_path: Path, shell: list[str]) -> None:
    engine = FakeEngine(tmp_path)
    looked = engine.talk(shell, ask({}, "engine no-such-engine")).stderr.partition("PATH: ")[2].strip().split(":")
    assert {
        "/opt/homebrew/bin", "/run/current-system/sw/bin", "/nix/var/nix/profiles/default/bin", "/snap/bin",
        "/snap/k8s/current/bin", "/var/packages/ContainerManager/target/usr/bin",
    } <= set(looked)  # fmt: skip


def test_qnaps_station_is_found_on_any_volume(
    tmp_path: Path, shell: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(tmp_path)
    station = tmp_path / "share" / "ZFS530_DATA" / ".qpkg" / "container-station" / "bin"
    station.mkdir(parents=True)
    (engine.bin / "docker").rename(station / "nerdctl")
    text = script().replace(b" /share/", f" {tmp_path}/share/".encode())
    monkeypatch.setattr("contract.fake_engine.script", lambda _also=(): text)
    assert "engine nerdctl 28.5.2 overlay2" in engine.talk(shell, ask({}, "engine nerdctl")).lines


#: What each calls its containerd with, and whether it lets ana in.
NODES = {
    "k3s": ("k3s", "[k3s] ctr"),
    "k0s": ("k0s", "[k0s] ctr"),
    "microk8s": ("microk8s", "[microk8s] ctr"),
    "rke2": ("ctr", "[ctr] -a /run/k3s/containerd/containerd.sock"),
}


@pytest.mark.parametrize("name", NODES)
def test_a_node_of_kubernetes_is_known_by_its_own_command(
    host: Host, shell: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It is root's, in Kubernetes' namespace. RKE2's ctr is where nobody's PATH leads, and needs its socket."""
    program, words = NODES[name]
    (host.engine.folder / "rke2").mkdir()
    text = vars(fake_engine)["script"]().replace(b"/var/lib/rancher/rke2/bin", f"{host.engine.folder}/rke2".encode())
    monkeypatch.setattr("contract.fake_engine.script", lambda _also=(): text)
    host.install(name, "exit 1")
    place = host.engine.folder / "rke2" if name == "rke2" else host.engine.bin
    host.install(program, '[ "$SUDO" ] || exit 1\necho; echo Server:; echo "  Version:  v2.1.5-k3s1"')
    (host.engine.bin / program).rename(place / program)
    host.sudo(allowed=True)
    assert host.greets(shell)[:3] == [f"engine {name} 2.1.5-k3s1 k8s.io", "owner root", "store blob"]
    called = words.replace("[", f"{place}/").replace("]", "")
    assert f"sudo -n {called} version\n" in host.tried
    assert host.greets(shell, name, "mine")[0] == f"engine {name} 2.1.5-k3s1 mine"


# A macOS of some years: its dd knows no fullblock.


@pytest.mark.parametrize("tells", [True, False])
def test_a_dd_without_fullblock_reads_what_the_pipe_has(tmp_path: Path, shell: list[str], tells: bool) -> None:
    """BSD's tells how many bytes it has read. POSIX' does not, and then each byte is a read."""
    engine = FakeEngine(tmp_path)
    quiet = "" if tells else " 2>/dev/null"
    dd = engine.bin / "dd"
    dd.write_text(
        f"""#!/bin/sh
echo "$*" >>"$FAKE/dd"
case "$*" in *iflag*) echo "dd: unknown operand iflag" >&2; exit 1 ;; esac
exec {shutil.which("dd")} "$@"{quiet}
"""
    )
    dd.chmod(0o755)
    chunks = (
        [os.urandom(1 << 20), b"\n0\n", os.urandom(70_001), b"out 5 bytes"] if tells else [b"\n0\n", os.urandom(3000)]
    )
    engine.show(INCOMING, ONE, [A])
    answer = engine.talk(shell, ask({ONE: [A]}) + load({INCOMING: [A]}, chunks) + commit({INCOMING: NAME}))
    assert answer.lines[-1] == "done"
    assert engine.loaded == b"".join(chunks)
    after = (engine.state / "dd").read_text().split("count=0\n")[-1].splitlines()
    if tells:
        assert not [words for words in after if words.startswith("bs=1 ")]
        # A pipe holds 64 KiB at most, and gives what it holds.
        assert len(after) < 600
    else:
        assert {words.partition(" ")[0] for words in after} == {"bs=1"}


def test_where_such_a_dd_meets_the_end_the_archive_is_not_whole(tmp_path: Path, shell: list[str]) -> None:
    engine = FakeEngine(tmp_path)
    real = shutil.which("dd")
    (engine.bin / "dd").write_text(f'#!/bin/sh\ncase "$*" in *iflag*) exit 1 ;; esac\nexec {real} "$@"\n')
    (engine.bin / "dd").chmod(0o755)
    said = ask({ONE: [A]}) + load({INCOMING: [A]}, [bytes(70_000)]).removesuffix(bytes(10) + b"0\n")
    answer = engine.talk(shell, said)
    assert "done" not in answer.lines
    assert engine.calls[-1] == f"image rm {INCOMING}"


# Whose images they are.


def test_rootful_podman_is_reached_through_sudo_by_who_has_a_rootless_one(host: Host, shell: list[str]) -> None:
    host.answers("podman", PODMAN)
    host.sudo(allowed=True)
    assert host.greets(shell)[:2] == ["engine podman 5.8.6 overlay", "owner ana"]
    assert "sudo" not in host.tried
    assert host.greets(shell, "podman", "-", "root")[:2] == ["engine podman 5.8.6 overlay", "owner root"]
    assert host.greets(shell, "-", "-", "root")[:2] == ["engine podman 5.8.6 overlay", "owner root"]
    assert host.greets(shell, "podman", "-", "user")[1] == "owner ana"
    host.sudo(allowed=False)
    (verdict,) = host.greets(shell, "podman", "-", "root")
    assert "podman: its images are those of ana; sudo -n podman: sudo: a password is required" in verdict


@pytest.mark.parametrize("info", [OVERLAY2, CONTAINERD])
def test_a_rootless_docker_is_told_as_such(host: Host, shell: list[str], info: str) -> None:
    host.answers("docker", f"{info} [name=seccomp,profile=builtin name=rootless name=cgroupns]")
    assert host.greets(shell)[1] == "owner ana"
    host.answers("docker", f"{info} [name=seccomp,profile=builtin name=cgroupns]")
    assert host.greets(shell)[1] == "owner root"
    assert host.greets(shell, "docker", "-", "user")[0].startswith("failed engine docker: its images are those of root")


def test_an_api_tells_whose_it_is_too(tmp_path: Path, shell: list[str]) -> None:
    engine = FakeEngine(tmp_path, api=True, info=f"{OVERLAY2} name=rootless")
    (engine.bin / "id").write_text("#!/bin/sh\ncase $1 in -u) echo 1000 ;; *) echo ana ;; esac\n")
    (engine.bin / "id").chmod(0o755)
    assert "owner ana" in engine.talk(shell, ask({})).lines
    engine.say("info", f"{OVERLAY2}\n")
    assert "owner root" in engine.talk(shell, ask({})).lines


def test_of_a_users_rootless_docker_and_roots_each_is_reached(host: Host, shell: list[str], tmp_path: Path) -> None:
    """docker's own context leads to the rootless one; its socket would to root's."""
    own = f"echo '{OVERLAY2} [name=rootless]'"
    roots = f"info:*/run/docker.sock) echo '{OVERLAY2}' ;;"
    host.install("docker", f"case $1:${{DOCKER_HOST-}} in {roots} info:*) {own} ;; esac")
    assert host.greets(shell)[1] == "owner ana"
    assert host.greets(shell, "docker", "-", "root")[1] == "owner root"


@pytest.mark.parametrize("user", ["alice", "-x", "root;id", "*"])
def test_a_user_that_is_none_is_refused(host: Host, shell: list[str], user: str) -> None:
    host.answers("podman", PODMAN)
    assert host.greets(shell, "podman", "-", user) == [f"failed protocol engine {user}"]
    assert "podman" not in host.tried


# What it calls itself.


@pytest.mark.parametrize(
    ("version", "takes_zstd"),
    [
        ("dev", True), ("library-import", True), ("v27.5.1", True), ("27.5.1~rc1+dfsg", True), ("4f2c9aa", True),
        ("9f2c41d", True), ("v20.10.24", False), ("19-ce.1", False), ("20.10.5-ce", False),
    ],
)  # fmt: skip
def test_an_engine_may_call_its_version_what_it_wants(
    host: Host, shell: list[str], version: str, takes_zstd: bool
) -> None:
    """Without a number it was built by hand, and is new. There is no zstd on this host."""
    host.answers("docker", f"{version} linux/x86_64 overlay2")
    answer = host.engine.talk(shell, ask({}), path=host.path).lines
    assert f"engine docker {version} overlay2" in answer
    assert f"accept none gzip{' zstd' if takes_zstd else ''}" in answer


@pytest.mark.parametrize("said", [NOBODY, "", "Cannot connect", "27.5.1", "error: a /b x", "x y/ z"])
def test_what_is_no_greeting_of_an_engine_is_none(host: Host, shell: list[str], said: str) -> None:
    host.install("docker", f"echo '{said}'; echo no daemon >&2")
    assert host.greets(shell)[0].startswith("failed engine docker: ")


# Its platform.


def machine(engine: FakeEngine, kernel: str, bits: str) -> None:
    """What the host's kernel calls the machine, and how many bits its programs have, as far as the host tells."""
    for name, said in (
        ("uname", f"case $1 in -sm) echo Linux {kernel} ;; *) echo {kernel} ;; esac"),
        ("getconf", bits),
    ):
        (engine.bin / name).unlink(missing_ok=True)
        (engine.bin / name).write_text(f"#!/bin/sh\n{said}\n")
        (engine.bin / name).chmod(0o755)


PLATFORMS = [
    # The kernel's machine, the bits of programs, the engine's own word; what is said, and what we make of it.
    ("x86_64", "echo 64", "linux/amd64", "linux/x86_64", "linux/amd64"),
    ("aarch64", "echo 32", "linux/arm", "linux/arm/aarch64", "linux/arm/v8"),
    ("x86_64", "echo 32", "linux/386", "linux/386/x86_64", "linux/386"),
    ("aarch64", "exit 1", "linux/arm64", "linux/arm64/aarch64", "linux/arm64"),
    ("aarch64", "exit 1", "Client: ", "linux/aarch64", "linux/arm64"),
    ("armv6l", "echo 32", "linux/arm", "linux/armv6l", "linux/arm/v6"),
    ("armv7l", "echo 32", "linux/arm", "linux/armv7l", "linux/arm/v7"),
    ("loongarch64", "echo 64", "linux/loong64", "linux/loongarch64", "linux/loong64"),
]


@pytest.mark.parametrize("case", PLATFORMS)
def test_an_engine_of_fewer_bits_than_its_kernel_is_taken_at_its_word(
    host: Host, shell: list[str], case: tuple[str, str, str, str, str]
) -> None:
    """A Raspberry Pi's system of 32 bits has a kernel of 64, and docker's `info` tells the kernel's."""
    kernel, bits, own, said, platform = case
    machine(host.engine, kernel, bits)
    kernels, owns = f"echo '28.5.2 linux/{kernel} overlay2'", f"echo '28.5.2 {own}/{kernel} overlay2'"
    info = f'case "$*" in *OSType*) {kernels} ;; *) {owns} ;; esac'
    host.install("docker", f"case $1 in info) {info} ;; version) echo '{own}' ;; esac")
    assert f"platform {said}" in host.greets(shell)
    assert str(Platform.parse(said)) == platform


@pytest.mark.parametrize(
    ("own", "said"), [("arm", "linux/arm/aarch64"), ("amd64", "linux/amd64/aarch64"), ("", "linux/aarch64")]
)
def test_an_api_is_taken_at_its_word_always(tmp_path: Path, shell: list[str], own: str, said: str) -> None:
    """It costs a question in the same call."""
    engine = FakeEngine(tmp_path, api=True, info="28.5.2 linux/aarch64 overlay2")
    engine.say("arch", own)
    assert f"platform {said}" in engine.talk(shell, ask({})).lines


@pytest.mark.parametrize(("kernel", "said"), [("armv6l", "linux/arm/armv6l"), ("aarch64", "linux/arm/aarch64")])
def test_podman_tells_its_own_platform_and_the_kernel_its_variant(
    host: Host, shell: list[str], kernel: str, said: str
) -> None:
    machine(host.engine, kernel, "exit 1")
    host.answers("podman", "5.8.6 linux/arm overlay")
    assert f"platform {said}" in host.greets(shell)


def test_a_containerd_of_fewer_bits_tells_its_platform(host: Host, shell: list[str]) -> None:
    rows = "echo 'io.containerd.content.v1 content - ok'; echo 'io.containerd.snapshotter.v1 native linux/arm/v8 ok'"
    answer = "echo Server:; echo '  Version:  2.1.9'"
    host.install("ctr", f"""case "$1$3" in plugins*) {rows} ;; version*) {answer} ;; esac""")
    for bits, said in (("echo 32", "linux/arm/v8"), ("echo 64", "Linux/aarch64")):
        machine(host.engine, "aarch64", bits)
        assert f"platform {said}" in host.greets(shell)
