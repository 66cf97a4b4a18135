"""Where job, daemon and registry stand to each other, out of network namespaces: the route taken, and what it costs.

    near    the job shares the daemon's loopback: a machine executor, a runner's own docker
    far     the daemon, with TLS, knows the job only by the address of a router that lets nothing in: remote docker
    back    far, and an address of the job is routed to, which the daemon was told to take for an insecure registry
    ssh     DOCKER_HOST=ssh://: what forwards a port back is the ssh session itself

The job has a network of its own, as a container has: its loopback, and `INSIDE`. The rest of the world sees it as
`ROUTER`. `PUBLIC` is where the stand-in for ngrok's edge listens, and the daemon reaches it as it reaches any server.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rig import DOCKERS, Engine, Layer, Noise, Rig, RigError
from rig.processes import Process, command_lines, wait_until
from rig.registry import Registry

INSIDE, ROUTER, PUBLIC = "10.214.7.1", "198.51.100.7", "203.0.113.10"
SERVICE_PORT = 5000
AGENT = Path(__file__).parents[1] / "rig" / "ngrok"
ENVIRONMENTS = Path(__file__).parents[1] / "unit" / "env"
TOKEN = "2aBcDeFgHiJkLmNoPqRsTuVwXyZ_4Topology5Token6Only"
#: One of each way to store images; they push in different ways.
STORES = ("docker20-overlay2", "docker28-containerd")
TARGET = "docker28-overlay2"
BASE_SIZE = 30_000_000
DELTA = 20_000
#: Bytes beyond the layer itself that a delivery may cost: config, manifests, frames, the archive's headers.
OVERHEAD = 40_000

#: What a classic store would take for a push of all, and for an export.
DEAR = "reading 30.0 MB takes about 0.4 s, a push 2.6 s"

Json = dict[str, Any]


def environment_of(provider: str) -> dict[str, str]:
    """A job's environment as its provider sets it, without what says where daemon and registry are."""
    lines = (ENVIRONMENTS / f"{provider}.env").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    ours = ("DOCKER_", "LOCAL_", "HOME", "BASH_ENV", "XDG_", "NGROK", "GITHUB_OUTPUT", "GITHUB_STEP", "GITHUB_ENV")
    return {name: value for name, value in pairs if not name.startswith(ours)}


# What a run was like.


@dataclass(frozen=True)
class Outcome:
    """A run that ended; `argv` is every command line that any process of the machine had meanwhile."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    argv: frozenset[bytes] = field(repr=False)

    @property
    def log(self) -> str:
        """Both streams, as a CI's log has them."""
        return self.stdout + self.stderr

    @property
    def result(self) -> Json:
        (only,) = json.loads(self.stdout)["results"]
        return dict(only)

    @property
    def route(self) -> str:
        return str(self.result["route"]["name"])

    @property
    def why(self) -> str:
        return str(self.result["route"]["reason"])


class Watch:
    """Samples every process's command line, from the start until `stop`."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._done.is_set():
            self.seen.update(line for _, line in command_lines())
            self._done.wait(0.02)

    def stop(self) -> frozenset[bytes]:
        self._done.set()
        self._thread.join()
        return frozenset(self.seen)


class Running:
    """`layerferry run` on its way."""

    def __init__(self, job: "Job", process: "subprocess.Popen[bytes]") -> None:
        self.job = job
        self.process = process
        self._watch = Watch()
        self._begin = time.monotonic()

    def end(self, timeout: float = 120) -> Outcome:
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        finally:
            argv = self._watch.stop()
        return Outcome(
            self.process.returncode, out.decode(), err.decode(), time.monotonic() - self._begin, frozenset(argv)
        )


@dataclass
class Job:
    """A job: an environment, a folder of its own, and a network, the machine's own where `network` is None."""

    folder: Path
    env: dict[str, str]
    network: Process | None = None
    #: The registry service in the same network, and where it listens.
    service: Process | None = None
    service_ports: frozenset[str] = frozenset()

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> Running:
        return Running(self, self.spawn(layerferry(), *(arguments or ("run", "--json")), env=env))

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, code: int | None = 0) -> Outcome:
        """Run it to its end, and check what must hold after any run."""
        return self.check(self.start(*arguments, env=env).end(), code)

    def check(self, outcome: Outcome, code: int | None = 0) -> Outcome:
        assert code in {None, outcome.code}, f"exit code {outcome.code}\n{outcome.stdout}{outcome.stderr}"
        assert "Traceback" not in outcome.stderr
        self.assert_clean()
        self.assert_secret(outcome)
        return outcome

    def spawn(self, *command: str, env: Mapping[str, str] | None = None, **options: Any) -> "subprocess.Popen[bytes]":
        """Start any command where the job runs."""
        return subprocess.Popen(
            [*self._entry, *command],
            env=self.env | dict(env or {}),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
            **options,
        )

    @property
    def _entry(self) -> list[str]:
        return ["nsenter", "--target", str(self.network.pid), "--net", "--"] if self.network else []

    def processes(self) -> dict[int, bytes]:
        """What runs in the job's network, apart from what holds it."""
        if self.network is None:
            return {}
        mine = network_of(self.network.pid)
        known = {self.network.pid, *([self.service.pid] if self.service else [])}
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                pid = int(folder.name)
                if network_of(pid) == mine and pid not in known:
                    found[pid] = (folder / "cmdline").read_bytes()
        return {pid: line for pid, line in found.items() if line}

    def ports(self) -> set[str]:
        """What listens in the job's network, as the kernel writes it, apart from the registry service."""
        return set(listening(self.network.pid)) - self.service_ports if self.network else set()

    def files(self) -> list[str]:
        """What lies in the folder for temporary files."""
        return sorted(path.name for path in (self.folder / "tmp").rglob("*"))

    def assert_clean(self) -> None:
        """No process, no listening port and no file is left."""
        assert self.processes() == {}
        assert self.ports() == set()
        assert self.files() == []

    def assert_secret(self, outcome: Outcome, *more: str) -> None:
        """No secret of the job stands in an argument, in what was said, or in a file that is left."""
        said = b"".join(outcome.argv) + (outcome.stdout + outcome.stderr).encode()
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name != "key.pem"]
        said += b"".join(path.read_bytes() for path in files)
        for secret in (*self.secrets, *more):
            assert secret.encode() not in said

    @property
    def secrets(self) -> list[str]:
        """The token, and every line of the key that no other key has too."""
        key = [line for line in self.env["LAYERFERRY_SSH_KEY"].splitlines() if line and not line.startswith("---")]
        return [TOKEN, *key[2:]]


def network_of(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def layerferry() -> str:
    return str(Path(sys.executable).with_name("layerferry"))


def listening(pid: int) -> Iterator[str]:
    """Addresses, as the kernel writes them, that something listens on in the network of `pid`."""
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                yield fields[1]


# The places.


@dataclass
class Place:
    """A daemon, the job that uses it, and the target; both have the base image already."""

    daemon: Engine
    target: Engine
    job: Job
    base: str
    name: str
    rig: Rig

    @property
    def unreached(self) -> str:
        """The reason where nothing leads back from the daemon; one with a classic store is asked about no service."""
        if self.daemon.kind.store == "containerd":
            return "the daemon reaches no registry of this job"
        return f"the daemon reaches no registry of ours, and a registry service would get all of it: {DEAR}"

    def build(self, label: str = "", *, size: int = DELTA) -> str:
        """Build an image on the daemon: one new layer on the base, which the target holds."""
        name = f"topology/{self.name}{label}:1".lower()
        content = b"".join(Noise(size, f"{self.name}{label}").chunks())
        self.daemon.build(name, f"FROM {self.base}\nCOPY new /new\n", {"new": content})
        return name

    def foresee(self, code: int = 0, **env: str) -> tuple[str, str]:
        """The route and its reason, as `doctor` tells them."""
        route = json.loads(self.job.run("doctor", "--json", env=env, code=code).stdout)["route"]
        return route["name"], route["reason"].replace("reading 100.0 MB takes about 1.1 s, a push 8.5 s", DEAR)

    def deliver(self, route: str, *, env: Mapping[str, str] | None = None) -> Outcome:
        """Build an image, push it with nothing but the environment; it must arrive by `route`, and only its delta."""
        name = self.build()
        outcome = self.job.run(env={"LAYERFERRY_IMAGES": name, **(env or {})})
        assert outcome.route == route, outcome.stderr
        self.assert_arrived(name, outcome)
        return outcome

    def assert_arrived(self, name: str, outcome: Outcome) -> None:
        result = outcome.result
        assert result["error"] is None
        assert result["verified"] is True
        assert self.target.diff_ids(name) == self.daemon.diff_ids(name)
        assert result["image_id"] == self.target.inspect(name)["Id"]
        assert [layer["action"] for layer in result["layers"]] == ["reuse", "send"]
        assert DELTA <= result["bytes"]["sent"] < DELTA + OVERHEAD
        if outcome.route != "export":
            assert DELTA <= result["bytes"]["received"] < DELTA + OVERHEAD
        # Both the object and the log say which way was taken, and why.
        assert outcome.why
        assert f"route: {outcome.route} ({outcome.why})" in outcome.stderr


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key that no ssh configuration names, and that the target alone takes."""
    path = tmp_path_factory.mktemp("key") / "deploy"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "deploy", "-f", path], check=True)
    return path


@pytest.fixture(scope="session")
def host(rig: Rig, key: Path) -> Engine:
    """The target's engine, in a network of its own; its sshd knows the deploy key only."""
    engine = rig.engine(TARGET, name="topology-target", isolated=True)
    (engine.machine.run_folder / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
    return engine


@pytest.fixture(scope="session")
def network(rig: Rig, host: Engine) -> Process:
    """The job's network, from which the target is reached."""
    holder = rig._ledger.start(["unshare", "--net", "sleep", "infinity"], log=rig.state / "job.log")
    wait_until(lambda: network_of(holder.pid) != network_of(os.getpid()), "the job has no network")
    for command in (
        ("link", "set", "lo", "up"),
        ("address", "add", f"{INSIDE}/32", "dev", "lo"),
        # Addresses that it answers to and does not know to be its own: the router's, and the edge's.
        ("route", "add", "local", "198.51.100.0/24", "dev", "lo"),
        ("route", "add", "local", "203.0.113.0/24", "dev", "lo"),
    ):
        ip(holder.pid, *command)
    cable(holder, host)
    return holder


def ip(pid: int, *arguments: str) -> None:
    subprocess.run(["nsenter", "--target", str(pid), "--net", "ip", *arguments], check=True)


def cable(network: Process, engine: Engine) -> None:
    """Join the job's network to an engine's machine, which sees the job as `ROUTER`, and `PUBLIC` behind it."""
    there, device = engine.machine.init.pid, f"to{engine.machine.init.pid}"
    ip(network.pid, "link", "add", device, "type", "veth", "peer", "name", "job0", "netns", str(there))
    ip(network.pid, "link", "set", device, "up")
    ip(there, "link", "set", "job0", "up")
    ip(network.pid, "route", "add", f"{engine.machine.address}/32", "dev", device, "src", ROUTER)
    ip(there, "route", "add", "198.51.100.0/24", "dev", "job0")
    ip(there, "route", "add", "203.0.113.0/24", "dev", "job0")


def pull_base(rig: Rig, engine: Engine, layer: Layer) -> str:
    """Let an engine pull the base from a registry in its own network; returns its name there."""
    registry = rig.registry()
    name = registry.push("topology-base:1", rig.workshop.image([layer]), compression="gzip-0")
    beside = None
    if engine.machine.network:
        enter = ["nsenter", "--target", str(engine.machine.init.pid), "--net", "--"]
        command = [*enter, "docker-registry", "serve", str(registry.state / "config.yml")]
        beside = rig._ledger.start(command, log=registry.state / "log-beside")
        pid, port = engine.machine.init.pid, f":{registry.port:04X}"
        wait_until(lambda: any(one.endswith(port) for one in listening(pid)), "no registry beside the daemon")
    engine.docker("pull", "--quiet", name)
    registry.stop()
    if beside:
        beside.send(signal.SIGTERM)
    return name


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The edge's certificate, for `PUBLIC`."""
    folder = tmp_path_factory.mktemp("edge")
    request = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"]
    request += ["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=stand-in"]
    request += ["-addext", f"subjectAltName=IP:{PUBLIC}", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(request, check=True, capture_output=True, cwd=folder)
    return folder


@dataclass(frozen=True)
class World:
    """What is started once: the target, the job's network, and by kind the far daemons, each with its base's name."""

    rig: Rig
    host: Engine
    network: Process
    service: Process
    fars: Mapping[str, tuple[Engine, str]]
    base: Layer

    def job(self, folder: Path, env: dict[str, str]) -> Job:
        """A job in the network, beside the registry service."""
        ports = frozenset(one for one in listening(self.network.pid) if one.endswith(f":{SERVICE_PORT:04X}"))
        assert ports
        return Job(folder, env, self.network, self.service, ports)


@pytest.fixture(scope="session")
def service(rig: Rig, network: Process) -> Process:
    """The job's registry service, on the job's loopback, as `registry:2` beside a primary container."""
    folder = rig.state / "service"
    folder.mkdir()
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{SERVICE_PORT}"},
    }
    (folder / "config.yml").write_text(json.dumps(config))
    enter = ["nsenter", "--target", str(network.pid), "--net", "--"]
    started = rig._ledger.start([*enter, "docker-registry", "serve", folder / "config.yml"], log=folder / "log")
    wait_until(lambda: any(True for _ in listening(network.pid)), "no registry service")
    return started


@pytest.fixture(scope="session")
def world(rig: Rig, host: Engine, network: Process, service: Process, edge: Path) -> World:
    """Daemons in networks of their own, API over TLS, that trust the edge as everybody trusts ngrok's."""
    base_layer = rig.workshop.layer({"base": Noise(BASE_SIZE, "topology")})
    host.load(rig.workshop.archive({"topology-base:1": rig.workshop.image([base_layer])}))
    found = {}
    for kind in STORES:
        engine = rig.engine(kind, name=f"topology-{kind}", listen="tls", isolated=True)
        with engine.machine.path("/etc/ssl/certs/ca-certificates.crt").open("a") as file:
            file.write((edge / "cert.pem").read_text())
        engine.stop()
        engine.start()
        cable(network, engine)
        found[kind] = engine, pull_base(rig, engine, base_layer)
    return World(rig, host, network, service, found, base_layer)


@pytest.fixture
def folder() -> Iterator[Path]:
    """The job's own folder, under a name as short as a CI's: ssh's sockets in it have a bound on theirs."""
    with tempfile.TemporaryDirectory(prefix="topology-") as name:
        yield Path(name)


@pytest.fixture
def environment(folder: Path, key: Path, host: Engine) -> dict[str, str]:
    """All that the job is told: what a pipeline's variables would be, and an ssh that knows no host and no key."""
    for name in ("bin", "home", "tmp", "edge"):
        (folder / name).mkdir()
    config = folder / "home" / "ssh_config"
    config.write_text(
        f"Host *\n  IdentityFile {folder}/missing\n  IdentityAgent none\n  GlobalKnownHostsFile /dev/null\n"
        f"  UserKnownHostsFile {folder}/missing\n"
    )
    (folder / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
    (folder / "bin" / "ssh").chmod(0o755)
    return {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        "LAYERFERRY_TARGETS": f"root@{host.machine.address}",
        "LAYERFERRY_SSH_KEY": key.read_text(),
        "LAYERFERRY_SSH_KNOWN_HOSTS": f"{host.machine.address} {host_key(host)}\n",
    }


def host_key(engine: Engine) -> str:
    return " ".join(Path(engine.client.folder, "hostkey.pub").read_text().split()[:2])


def test_name(request: pytest.FixtureRequest) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[-60:].strip("-")


test_name.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture(params=STORES)
def far(request: pytest.FixtureRequest, world: World, environment: dict[str, str], folder: Path) -> Place:
    """The classic CircleCI: remote docker, which sees nothing of the job."""
    engine, base = world.fars[request.param]
    env = environment_of("circleci-classic") | environment | engine.env
    env["LOCAL_DOCKER_REGISTRY_PORT"] = str(SERVICE_PORT)
    return Place(engine, world.host, world.job(folder, env), base, test_name(request), world.rig)


@pytest.fixture
def tunnels(far: Place, edge: Path, folder: Path) -> Place:
    """The same, and a stand-in for ngrok's agent on the job's PATH."""
    (folder / "bin" / "ngrok").symlink_to(AGENT)
    for name in ("cert.pem", "key.pem"):
        shutil.copy(edge / name, folder / "edge")
    far.job.env |= {
        "DOCKER_REGISTRY_NGROK": TOKEN,
        "STANDIN_NGROK_EDGE": PUBLIC,
        "STANDIN_NGROK_STATE": str(folder / "edge"),
        "STANDIN_NGROK_RECORD": str(folder / "record"),
        "SSL_CERT_FILE": str(folder / "edge" / "cert.pem"),
    }
    return far


# near: the registry of our own, by the loopback.


@pytest.mark.kinds(source=STORES)
def test_a_daemon_on_the_jobs_loopback_pushes_to_us(
    request: pytest.FixtureRequest, world: World, source: Engine, environment: dict[str, str], folder: Path
) -> None:
    env = environment_of("circleci-machine") | environment | {"DOCKER_HOST": source.host}
    base = pull_base(world.rig, source, world.base)
    place = Place(source, world.host, Job(folder, env), base, test_name(request), world.rig)
    outcome = place.deliver("registry")
    assert outcome.why.startswith("the daemon reaches 127.0.0.1:")


@pytest.mark.kinds(source=DOCKERS)
def test_a_registry_service_that_both_reach_serves_what_is_missing(
    request: pytest.FixtureRequest, world: World, source: Engine, environment: dict[str, str], folder: Path
) -> None:
    registry = world.rig.registry()
    base = pull_base(world.rig, source, world.base)
    env = environment_of("circleci-machine") | environment | {"DOCKER_HOST": source.host}
    env |= {"LOCAL_DOCKER_REGISTRY_PORT": str(registry.port), "LAYERFERRY_ROUTE": "registry"}
    place = Place(source, world.host, Job(folder, env), base, test_name(request), world.rig)
    outcome = place.deliver("registry")
    assert outcome.why == f"the daemon reaches the registry service as {registry.address}"
    (repository,) = registry.repositories
    (pushed,) = json.loads(registry.get(f"/v2/{repository}/tags/list"))["tags"]
    assert pushed.startswith("layerferry-")
    assert place.foresee() == ("registry", f"LAYERFERRY_ROUTE says so; {outcome.why}")
    registry.stop()


# far: nothing leads back.


def test_a_daemon_that_does_not_reach_the_job_is_read_from(far: Place) -> None:
    outcome = far.deliver("export")
    assert outcome.why == far.unreached
    assert "connection refused" not in outcome.stderr
    assert "CI: CircleCI" in outcome.stderr
    assert "daemon: another host (DOCKER_HOST=tcp://" in outcome.stderr


@pytest.mark.parametrize("far", STORES[:1], indirect=True)
def test_a_registry_that_was_asked_for_and_is_not_reached_is_an_error(far: Place) -> None:
    outcome = far.job.run(env={"LAYERFERRY_IMAGES": far.build(), "LAYERFERRY_ROUTE": "registry"}, code=7)
    says = "the route registry cannot be taken: the daemon reaches no registry of this job"
    assert says in outcome.result["error"]["message"]
    assert "layerferry doctor" in outcome.stderr


CANNOT = "the route registry cannot be taken: "


@contextlib.contextmanager
def foreign_registry(far: Place) -> Iterator[Registry]:
    """Somebody else's registry, at the address of the daemon's loopback where it would look for the job's service."""
    registry = far.rig.hidden_registry(far.daemon.machine)
    assert registry.port == SERVICE_PORT
    try:
        yield registry
    finally:
        registry.stop()


def test_nothing_goes_into_another_registry_that_answers_in_place_of_the_service(far: Place) -> None:
    """A service whose port is not published, and a host with a registry of its own."""
    told = f"another registry than the job's service answers the daemon at 127.0.0.1:{SERVICE_PORT}"
    with foreign_registry(far) as foreign:
        outcome = far.deliver("export")
        asked = far.job.run(env={"LAYERFERRY_IMAGES": far.build("-asked"), "LAYERFERRY_ROUTE": "registry"}, code=7)
        foreseen = far.foresee()
        assert far.foresee(code=7, LAYERFERRY_ROUTE="registry")[1].endswith(f"a push fails: {CANNOT}{told}")
        assert not any(path.is_file() for path in (foreign.state / "data").rglob("*"))
    assert outcome.why == (told if far.daemon.kind.store == "containerd" else far.unreached)
    assert foreseen == ("export", outcome.why)
    error = asked.result["error"]
    assert error["message"] == f"{CANNOT}{told}"
    assert error["hint"].endswith("name it: LAYERFERRY_REGISTRY=HOST:PORT.")
    assert error["hint"] in asked.stderr


# back: an address of the job is reached.


#: Docker Desktop's name for the machine that its own runs on, and where that leads in it.
DESKTOP, GATEWAY, DESKTOPS = "host.docker.internal", "192.168.65.254", "192.168.65.0/24"


@contextlib.contextmanager
def virtual_machine(far: "Place") -> Iterator[None]:
    """As in a virtual machine of Docker Desktop's: our loopback is behind a gateway, whatever the port."""
    machine = far.daemon.machine
    device, hosts = f"to{machine.init.pid}", machine.path("/etc/hosts")
    before = hosts.read_text()
    assert far.job.network is not None
    inside = ["nsenter", "--target", str(far.job.network.pid), "--net", "--"]
    rule = ["PREROUTING", "-t", "nat", "-d", GATEWAY, "-p", "tcp", "-j", "DNAT", "--to-destination", "127.0.0.1"]
    hosts.write_text(f"{before}\n{GATEWAY} {DESKTOP}\n")
    ip(machine.init.pid, "route", "add", DESKTOPS, "dev", "job0")
    shown = subprocess.run([*inside, "ip", "-o", "link", "show", device], check=True, capture_output=True, text=True)
    mac = shown.stdout.partition("link/ether ")[2].split()[0]
    ip(machine.init.pid, "neighbour", "add", GATEWAY, "lladdr", mac, "dev", "job0")
    subprocess.run([*inside, "sh", "-c", f"echo 1 >/proc/sys/net/ipv4/conf/{device}/route_localnet"], check=True)
    subprocess.run([*inside, "iptables", "-A", *rule], check=True)
    wait_until(lambda: resolves(far.daemon, DESKTOP), "the daemon does not read its hosts anew")
    try:
        yield
    finally:
        subprocess.run([*inside, "iptables", "-D", *rule], check=True)
        ip(machine.init.pid, "neighbour", "del", GATEWAY, "dev", "job0")
        ip(machine.init.pid, "route", "del", DESKTOPS, "dev", "job0")
        hosts.write_text(before)


def resolves(engine: Engine, name: str) -> bool:
    """Whether a daemon finds a name; it looks into /etc/hosts again when 5 s have passed (Go, net/hosts.go)."""
    try:
        engine.api.get(f"/distribution/{name}:1/x/json")
    except RigError as error:
        return "lookup" not in str(error)
    return True


@contextlib.contextmanager
def route_back(engine: Engine, network: str = "") -> Iterator[None]:
    """Let the daemon reach the job's own address, and take what answers there for an insecure registry.

    Or only the latter, of another network.
    """
    config = engine.machine.run_folder / "daemon.json"
    before, pid = config.read_text(), engine.machine.init.pid
    dockerd = engine._daemons[0]

    def insecure() -> bool:
        return plain in engine.api.get("/info")["RegistryConfig"]["InsecureRegistryCIDRs"]

    plain = network or f"{INSIDE}/32"
    if not network:
        ip(pid, "route", "add", plain, "dev", "job0")
    config.write_text(json.dumps(json.loads(before) | {"insecure-registries": [plain]}))
    dockerd.send(signal.SIGHUP)
    wait_until(insecure, "the daemon does not take its new configuration")
    try:
        yield
    finally:
        # An empty list: what is not named at all, dockerd leaves as it is.
        config.write_text(json.dumps(json.loads(before) | {"insecure-registries": []}))
        dockerd.send(signal.SIGHUP)
        if not network:
            ip(pid, "route", "del", plain, "dev", "job0")
        wait_until(lambda: not insecure(), "the daemon does not take its old configuration")


def test_a_daemon_that_reaches_an_address_of_the_job_pushes_there(far: Place) -> None:
    with route_back(far.daemon):
        outcome = far.deliver("registry")
    assert outcome.why.startswith(f"the daemon reaches {INSIDE}:")


def test_a_daemon_in_a_virtual_machine_is_read_from_and_what_would_mend_that_is_told(far: Place) -> None:
    """Most Macs: 127.0.0.1 is the virtual machine's, and docker asks TLS of everybody else."""
    with virtual_machine(far):
        outcome = far.deliver("export")
    assert f"the daemon does not reach {DESKTOP}:" in outcome.why
    assert f'"insecure-registries": ["{DESKTOPS}"] in its daemon.json lets it push to us' in outcome.why
    assert outcome.why.endswith(", so all of the image is read")


def test_a_daemon_in_a_virtual_machine_pushes_to_our_loopback_once_it_knows_that_there_is_no_tls(far: Place) -> None:
    with virtual_machine(far), route_back(far.daemon, DESKTOPS):
        outcome = far.deliver("registry")
    assert outcome.why.startswith(f"the daemon reaches {DESKTOP}:")


@pytest.mark.parametrize("far", STORES[:1], indirect=True)
def test_an_address_that_the_daemon_takes_for_a_secure_registry_is_none(far: Place) -> None:
    """Routed to, but not configured: docker would have TLS there, and our registry speaks none."""
    ip(far.daemon.machine.init.pid, "route", "add", f"{INSIDE}/32", "dev", "job0")
    try:
        outcome = far.deliver("export")
        assert f'"insecure-registries": ["{INSIDE}/32"]' in outcome.why
        assert outcome.why.endswith(", so all of the image is read")
    finally:
        ip(far.daemon.machine.init.pid, "route", "del", f"{INSIDE}/32", "dev", "job0")


# ssh: the session forwards a port back.


@pytest.fixture
def ssh_place(far: Place, folder: Path) -> Iterator[Place]:
    """The daemon's host by ssh, with a key that the user's own ssh_config names and the target does not take.

    Docker's client reaches the daemon with that key or not at all; the deploy key is for targets, and of no use there.
    """
    own, machine = folder / "home" / "builder", far.daemon.machine
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "builder", "-f", own], check=True)
    authorized = machine.run_folder / "authorized_keys"
    before = authorized.read_text()
    authorized.write_text(own.with_suffix(".pub").read_text())
    known = folder / "home" / "known_hosts"
    known.write_text(f"{machine.address} {host_key(far.daemon)}\n")
    config = folder / "home" / "ssh_config"
    lines = f"Host {machine.address}\n  IdentityFile {own}\n  UserKnownHostsFile {known}\n"
    config.write_text(lines + config.read_text())
    for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        del far.job.env[name]
    far.job.env["DOCKER_HOST"] = f"ssh://root@{machine.address}"
    yield far
    authorized.write_text(before)


def test_a_daemon_behind_ssh_pushes_through_a_port_that_ssh_forwards(ssh_place: Place) -> None:
    outcome = ssh_place.deliver("registry")
    assert outcome.why.startswith("the daemon reaches 127.0.0.1:")
    assert "daemon: ssh (DOCKER_HOST=ssh://root@" in outcome.stderr


@pytest.mark.parametrize("far", STORES[:1], indirect=True)
def test_an_sshd_that_forwards_nothing_leaves_export(ssh_place: Place) -> None:
    sshd = ssh_place.daemon.sshd
    assert sshd is not None
    with sshd.reconfigured("AllowTcpForwarding no"):
        outcome = ssh_place.deliver("export")
    assert "forwards no port back" in outcome.why


# ngrok: through the stand-in's edge.

PROBER = """
import http.client, ssl, sys, time
context = ssl._create_unverified_context()
port = int(sys.stdin.readline())
deadline = time.monotonic() + float(sys.argv[2])
while time.monotonic() < deadline:
    try:
        for headers in ({}, {"Authorization": "Basic bGF5ZXJmZXJyeTp3cm9uZy1wYXNzd29yZA=="}):
            connection = http.client.HTTPSConnection(sys.argv[1], port, timeout=5, context=context)
            connection.request("GET", "/v2/", headers=headers)
            print(connection.getresponse().status, flush=True)
    except OSError:
        print("closed", flush=True)
        break
    time.sleep(0.05)
"""


def find_edge(job: Job) -> int:
    """The port of the edge, 0 where none listens."""
    address = "".join(f"{int(part):02X}" for part in reversed(PUBLIC.split(".")))
    return next((int(one[9:], 16) for one in job.ports() if one.startswith(f"{address}:")), 0)


def intrude(place: Place) -> "subprocess.Popen[bytes]":
    """Somebody out there, beside the daemon, who asks for what is behind an edge for as long as it stands.

    Started before there is one, so as not to come late; it wants to hear its port.
    """
    enter = ["nsenter", "--target", str(place.daemon.machine.init.pid), "--net", "--"]
    command = [*enter, sys.executable, "-c", PROBER, PUBLIC, "30"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def recorded(place: Place) -> list[Json]:
    """What passed the edge."""
    file = place.job.folder / "record"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_token_opens_a_tunnel_through_which_only_the_missing_layers_come(tunnels: Place) -> None:
    name = tunnels.build()
    intruder = intrude(tunnels)
    running = tunnels.job.start(env={"LAYERFERRY_IMAGES": name})
    wait_until(lambda: find_edge(tunnels.job) > 0, "no edge", seconds=30)
    assert intruder.stdin is not None
    intruder.stdin.write(b"%d\n" % find_edge(tunnels.job))
    intruder.stdin.flush()
    outcome = tunnels.job.check(running.end())
    statuses = intruder.communicate(timeout=30)[0].decode().split()
    tunnels.assert_arrived(name, outcome)
    assert outcome.route == "ngrok"
    assert f"the daemon reaches {PUBLIC}:" in outcome.why
    assert outcome.why.endswith(f"; {tunnels.unreached}")
    opened, *requests = recorded(tunnels)
    assert opened["opened"] == "endpoints"
    assert DELTA <= sum(request["received"] for request in requests) < DELTA + OVERHEAD
    assert not any(request["method"] == "GET" and "/blobs/sha" in request["path"] for request in requests)
    # Nobody else came in, and what they asked did not get past the edge.
    assert statuses[-1] == "closed"
    assert statuses[:-1]
    assert set(statuses[:-1]) == {"401"}
    assert len([line for line in outcome.argv if b"--config" in line and b"ngrok" in line]) >= 1
    assert tunnels.daemon.images().keys() >= {name}
    assert not any(PUBLIC in image for image in tunnels.daemon.images())


#: A registry beside the daemon, which both it and the job reach at this address.
BESIDE = "10.99.0.1"


@contextlib.contextmanager
def registry_beside(far: Place) -> Iterator[Registry]:
    registry = far.rig.hidden_registry(far.daemon.machine, "registry.beside")
    assert far.job.network is not None
    ip(far.job.network.pid, "route", "add", f"{BESIDE}/32", "dev", f"to{far.daemon.machine.init.pid}", "src", ROUTER)
    far.job.env |= {"LAYERFERRY_REGISTRY": f"{BESIDE}:{registry.port}"}
    try:
        with route_back(far.daemon, f"{BESIDE}/32"):
            yield registry
    finally:
        registry.stop()
        ip(far.job.network.pid, "route", "del", f"{BESIDE}/32")
        # The machine would go on to call from there.
        ip(far.daemon.machine.init.pid, "address", "del", f"{BESIDE}/32", "dev", "lo")


def test_a_tunnel_is_opened_where_a_service_would_take_longer_than_export(tunnels: Place) -> None:
    """It brings the delta; to the service, a classic store would gzip all of the image."""
    classic = tunnels.daemon.kind.store != "containerd"
    with registry_beside(tunnels) as registry:
        outcome = tunnels.deliver("ngrok" if classic else "registry")
        foreseen, reason = tunnels.foresee()
        pushed = [path for path in (registry.state / "data").rglob("*") if path.is_file()]
    assert outcome.why.endswith(f"; {tunnels.unreached}" if classic else f"the registry service as {BESIDE}:5000")
    assert (pushed == []) is classic
    assert foreseen == outcome.route
    assert reason.startswith(tunnels.unreached if classic else outcome.why)


FAILURES = {
    "offline": "no such host",
    "badtoken": "ngrok refuses the token (ERR_NGROK_107)",
    "limit": "the ngrok account has no agent session left (ERR_NGROK_108)",
    "nopolicy": "the tunnel would be open to everybody",
}
ADVICE = {
    "offline": "connect.ngrok-agent.com",
    "badtoken": "take a new one from https://dashboard.ngrok.com",
    "limit": "run fewer jobs at a time",
    "nopolicy": "or use another route",
}


@pytest.mark.parametrize("far", STORES[:1], indirect=True)
@pytest.mark.parametrize("mode", FAILURES)
def test_a_tunnel_that_fails_costs_a_warning_in_auto_and_is_an_error_where_it_was_asked_for(
    tunnels: Place, mode: str
) -> None:
    knob = {"STANDIN_NGROK_MODE": mode}
    name, other = tunnels.build(), tunnels.build("-asked")
    auto = tunnels.job.start(env={"LAYERFERRY_IMAGES": name, **knob})
    asked = tunnels.job.start(env={"LAYERFERRY_IMAGES": other, "LAYERFERRY_ROUTE": "ngrok", **knob})
    endings = auto.end(), asked.end()
    outcome = tunnels.job.check(endings[0])
    tunnels.assert_arrived(name, outcome)
    assert outcome.route == "export"
    assert outcome.why == f"{tunnels.unreached}, and the tunnel failed"
    (warning,) = (line for line in outcome.stderr.splitlines() if line.startswith("warning: "))
    assert FAILURES[mode] in warning
    failed = tunnels.job.check(endings[1], code=7)
    assert FAILURES[mode] in failed.result["error"]["message"]
    assert ADVICE[mode] in failed.result["error"]["hint"]
    assert ADVICE[mode] in failed.stderr
    assert not tunnels.target.has(other)
    # The daemon was told of no address.
    assert {row["path"] for row in recorded(tunnels) if "path" in row} <= {"/v2/"}


@pytest.mark.parametrize("far", STORES[:1], indirect=True)
def test_without_an_agent_a_token_alone_opens_nothing(tunnels: Place) -> None:
    (tunnels.job.folder / "bin" / "ngrok").unlink()
    outcome = tunnels.deliver("export")
    assert "LAYERFERRY_NGROK_INSTALL" in outcome.stderr


@pytest.mark.parametrize("far", STORES[:1], indirect=True)
@pytest.mark.parametrize(
    ("moment", "number"),
    [("open", signal.SIGKILL), ("uploading", signal.SIGKILL), ("uploading", signal.SIGTERM)],
    ids=["open-SIGKILL", "uploading-SIGKILL", "uploading-SIGTERM"],
)
def test_the_tunnel_is_gone_with_us_however_we_end(tunnels: Place, moment: str, number: signal.Signals) -> None:
    name = tunnels.build(size=15_000_000 if moment == "uploading" else DELTA)
    running = tunnels.job.start(env={"LAYERFERRY_IMAGES": name})
    wait_until(lambda: find_edge(tunnels.job) > 0, "no edge", seconds=30)
    if moment == "uploading":
        wait_until(
            lambda: any("/uploads/" in row.get("path", "") for row in recorded(tunnels)), "no upload", seconds=30
        )
    running.process.send_signal(number)
    outcome = running.end(timeout=20)
    assert outcome.code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    wait_until(lambda: not tunnels.job.processes() and not tunnels.job.ports(), "something is left", seconds=15)
    assert not [file for file in tunnels.job.files() if "ngrok" in file]
    assert not tunnels.target.has(name)
    if number == signal.SIGTERM:
        tunnels.job.check(outcome, code=130)


@pytest.mark.slow
@pytest.mark.parametrize("far", STORES, indirect=True)
def test_a_tunnel_that_breaks_while_layers_come_is_replaced_by_export(tunnels: Place) -> None:
    """The daemon tries again for a while, as it does with any registry, before it gives up."""
    name = tunnels.build(size=15_000_000)
    running = tunnels.job.start(env={"LAYERFERRY_IMAGES": name})
    wait_until(lambda: any("/uploads/" in row.get("path", "") for row in recorded(tunnels)), "no upload", seconds=30)
    (agent,) = (pid for pid, line in tunnels.job.processes().items() if b"ngrok\0start" in line)
    os.kill(agent, signal.SIGKILL)
    outcome = tunnels.job.check(running.end(timeout=180))
    assert outcome.result["verified"] is True
    assert tunnels.target.diff_ids(name) == tunnels.daemon.diff_ids(name)
    assert "the route ngrok failed, export goes on" in outcome.stderr


@pytest.mark.parametrize("far", STORES[:1], indirect=True)
def test_a_quota_that_is_used_up_in_the_midst_of_a_push_is_told_for_what_it_is(tunnels: Place) -> None:
    """The daemon itself finds a page of HTML where it wants JSON."""
    name = tunnels.build(size=15_000_000)
    outcome = tunnels.job.check(
        tunnels.job.start(env={"LAYERFERRY_IMAGES": name, "STANDIN_NGROK_QUOTA": "1"}).end(timeout=180)
    )
    assert outcome.result["verified"] is True
    (warning,) = (line for line in outcome.stderr.splitlines() if line.startswith("warning: "))
    assert "the ngrok account has used up its bandwidth of this month (ERR_NGROK_725)" in warning
    assert "invalid character" not in outcome.stderr
    assert "ERR_NGROK_725" in outcome.why


# Secrets.


@pytest.mark.parametrize("far", STORES[:1], indirect=True)
@pytest.mark.parametrize("mode", ["", "badtoken", "rude", "nopolicy"])
def test_secrets_are_masked_first_and_stand_nowhere(tunnels: Place, mode: str) -> None:
    """On GitHub, where the masks themselves tell which secrets there are, the generated password among them."""
    job, machine = tunnels.job, tunnels.daemon.machine
    job.env = {name: value for name, value in job.env.items() if not name.startswith("CIRCLE")}
    job.env |= environment_of("github-vm") | {"STANDIN_NGROK_MODE": mode, "LAYERFERRY_IMAGES": tunnels.build()}
    job.env |= {name: str(job.folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    begun = {path: path.stat().st_size for path in logs(machine.run_folder)}
    running = job.start("run")
    outcome = running.end()
    lines = outcome.stdout.splitlines()
    masks = [line.removeprefix("::add-mask::") for line in lines if line.startswith("::add-mask::")]
    assert [line for line in lines[: len(masks)] if not line.startswith("::add-mask::")] == []
    assert set(job.secrets) <= set(masks)
    passwords = set(masks) - set(job.secrets) - set(job.env["LAYERFERRY_SSH_KEY"].splitlines())
    assert len(passwords) == 2
    rest = "\n".join(lines[len(masks) :])
    for path in logs(machine.run_folder):
        rest += path.read_bytes()[begun.get(path, 0) :].decode(errors="replace")
    rest += "".join(path.read_text() for path in logs(tunnels.target.machine.run_folder))
    quiet = Outcome(outcome.code, rest, outcome.stderr, outcome.seconds, outcome.argv)
    job.check(quiet)
    job.assert_secret(quiet, *masks)
    # The sampler has seen what would have held them.
    for word in (b"ngrok\0start", b"layerferry.routes.ngrok.tunnel", b"IdentityFile="):
        assert any(word in line for line in outcome.argv)
    assert job.env["GITHUB_STEP_SUMMARY"]
    assert "ngrok" in Path(job.env["GITHUB_STEP_SUMMARY"]).read_text() or mode


def logs(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix in {".log", ".out"}]
