"""The places of this job, its daemon and a registry service, and the name that each has for the others.

Everything here is a pure function of the environment and of facts about the machine; `probes` and the routes find out
what really reaches what. One registry often needs two names: the job's, and the daemon's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from layerferry.ci import providers
from layerferry.ci.daemon_address import check_daemon_url, wants_tls
from layerferry.ci.machine import Machine
from layerferry.ci.providers import Provider
from layerferry.ci.services import ServiceContainer, find_services, is_loopback, split_address

_PLAIN_PORT, _TLS_PORT = 2375, 2376
#: The providers whose `docker` service is an engine of the job's own, at the host where docker's image looks for it.
_DIND_PROVIDERS = (providers.GITLAB, providers.WOODPECKER, providers.DRONE)
#: The providers whose jobs are pods where they need an engine of their own, which is on the job's own loopback then
#: (Harness' "Run Docker-in-Docker in a Build stage").
_POD_PROVIDERS = (providers.HARNESS,)
_CONTAINER_FILES = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
_MOST_ADDRESSES = 4


class Reach(StrEnum):
    """The kind of connection to the daemon."""

    SOCKET = "unix socket"
    LOOPBACK = "loopback"
    REMOTE = "another host"
    SSH = "ssh"
    NONE = "nowhere"


@dataclass(frozen=True, slots=True)
class Container:
    """The container that we run in. `id` is "" where it is not known."""

    runtime: str
    id: str = ""

    def __str__(self) -> str:
        return f"{self.runtime} container {self.id[:12]}".rstrip()


@dataclass(frozen=True, slots=True)
class DaemonLocation:
    """The docker daemon's address. `host` is our name for it, "" for a socket; `certificates` a folder or ""."""

    reach: Reach
    url: str
    host: str = ""
    tls: bool = False
    certificates: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which docker's clients connect to it (docker-py's `from_env(environment=…)`)."""
        tls = {"DOCKER_TLS_VERIFY": "1"} if self.tls else {}
        path = {"DOCKER_CERT_PATH": self.certificates} if self.tls and self.certificates else {}
        return {"DOCKER_HOST": self.url, **tls, **path}


@dataclass(frozen=True, slots=True)
class DaemonName:
    """An address by which the daemon may reach a registry. With `forward`, an `ssh -R` has to make it true first."""

    address: str
    reason: str
    forward: bool = False


@dataclass(frozen=True, slots=True)
class _VirtualMachine:
    """A virtual machine with a daemon: what its socket's path has, and this machine's name and network in it."""

    sign: str
    of: str
    name: str
    network: str


_DOCKER_DESKTOP = _VirtualMachine("", "Docker Desktop's", "host.docker.internal", "192.168.65.0/24")
#: lima's gateway leads to our loopback (lima-vm.io, network; abiosoft/colima, release v0.6.2), as Docker Desktop's and
#: OrbStack's do (docs.orbstack.dev, docker/network).
_VIRTUAL_MACHINES = (
    *(
        _VirtualMachine(sign, "lima's", "host.lima.internal", "192.168.5.0/24")
        for sign in ("colima", ".lima/", "/.rd/")
    ),
    _VirtualMachine(".orbstack/", "OrbStack's", "host.docker.internal", "0.250.250.0/24"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The topology; each value stands beside the reason for it. `services` are in the order to probe them."""

    provider: Provider
    provider_reason: str
    container: Container | None
    container_reason: str
    daemon: DaemonLocation
    daemon_reason: str
    services: tuple[ServiceContainer, ...]
    addresses: tuple[str, ...] = ()

    def own_names(self, port: int) -> tuple[DaemonName, ...]:
        """The addresses by which the daemon may reach a port of ours, in the order to try them."""
        if self.daemon.reach is Reach.SSH:
            return (_forwarded(port),)
        loopback = DaemonName(f"127.0.0.1:{port}", "the daemon shares our loopback, or the port is published there")
        ours = (DaemonName(f"{address}:{port}", "an address of this job") for address in self._addresses())
        machine = DaemonName(f"{self._machine.name}:{port}", f"the name of this machine in {self._machine.of}")
        return (loopback, *ours, machine)

    @property
    def _machine(self) -> "_VirtualMachine":
        return next((vm for vm in _VIRTUAL_MACHINES if vm.sign in self.daemon.url), _DOCKER_DESKTOP)

    def plain_network(self, address: str) -> str:
        """The network that `insecure-registries` has to name, so that the daemon speaks HTTP to `address`."""
        host, _ = split_address(address)
        return self._machine.network if host == self._machine.name else f"{host}/32"

    def daemon_names(self, service: ServiceContainer) -> tuple[DaemonName, ...]:
        """The addresses by which the daemon may reach `service`, in the order to try them.

        A literal 127.0.0.1 first, for loopback alone gets plain HTTP without being configured (moby,
        registry/config.go); an alias that resolves to loopback is probed well and then not pulled from (moby 28.5.2).
        """
        host, port = split_address(service.address)
        if is_loopback(host):
            return self.own_names(port)
        direct = DaemonName(service.address, "the registry as the job names it")
        if service.is_public:
            return (direct,)
        if self.daemon.reach is Reach.SSH:
            return (_forwarded(port), direct)
        near = "the registry runs beside the daemon" if host == self.daemon.host else "the registry's port is published"
        names = [DaemonName(f"127.0.0.1:{port}", f"{near}, on the daemon's loopback"), direct]
        if service.resolved:
            names.append(DaemonName(f"{service.resolved}:{port}", f"the address of {host}"))
        return tuple(dict.fromkeys(names))

    def _addresses(self) -> tuple[str, ...]:
        """The addresses of this machine, the one nearest to the daemon's first."""
        try:
            daemon = IPv4Address(self.daemon.host)
        except ValueError:
            return self.addresses[:_MOST_ADDRESSES]
        near = sorted(self.addresses, key=lambda address: int(IPv4Address(address)) ^ int(daemon))
        return tuple(near[:_MOST_ADDRESSES])


def detect(
    env: Mapping[str, str], machine: Machine, *, registry: str = "", port: int | None = None, ci: str = ""
) -> Topology:
    """The topology that `env` and `machine` show.

    `registry` (host:port), `port` (of a registry on 127.0.0.1) and `ci` (a provider's key) are settings. Raises
    `UsageError` on a `registry` or a `ci` that cannot be read.
    """
    provider, provider_reason = providers.detect(env, override=ci, folders=machine.folders)
    container, container_reason = find_container(env, machine)
    daemon, daemon_reason = find_daemon(env, machine, provider, container)
    return Topology(
        provider=provider,
        provider_reason=provider_reason,
        container=container,
        container_reason=container_reason,
        daemon=daemon,
        daemon_reason=daemon_reason,
        services=find_services(
            env,
            machine,
            provider,
            registry=registry,
            port=port,
            in_container=container is not None,
            daemon_host=daemon.host if daemon.reach is Reach.REMOTE else "",
        ),
        addresses=machine.addresses,
    )


def find_container(env: Mapping[str, str], machine: Machine) -> tuple[Container | None, str]:
    """The container that we run in, or None, and the reason."""
    by_mount = _container_by_mounts(machine.mountinfo)
    if by_mount:
        return by_mount, "the mount table: /etc/hostname comes from an engine's folder"
    by_cgroup = _container_by_cgroup(machine.cgroup)
    if by_cgroup:
        return by_cgroup, "/proc/self/cgroup"
    for mark, runtime in (("/.dockerenv", "docker"), ("/run/.containerenv", "podman")):
        if mark in machine.marks:
            return Container(runtime), f"{mark} exists"
    if env.get("KUBERNETES_SERVICE_HOST"):
        return Container("kubernetes"), "KUBERNETES_SERVICE_HOST is set"
    if env.get("container"):
        return Container(env["container"]), f"container={env['container']}"
    return None, "no mark of a container"


def _container_by_mounts(mountinfo: str) -> Container | None:
    """Find the engine's folder behind our name files, which shows under cgroup v2 too.

    Fields as in proc(5): root is the fourth, mount point the fifth. jenkinsci/docker-workflow-plugin finds its own
    container's id in the same way.
    """
    rules = (
        ("podman", r"/overlay-containers/([0-9a-f]{64})/userdata/"),
        ("docker", r"/containers/([0-9a-f]{64})/(?:hostname|hosts|resolv\.conf)$"),
        ("kubernetes", r"/pods/([0-9a-f-]{36})/etc-hosts$"),
        ("containerd", r"/sandboxes/([0-9a-f]{64})/"),
    )
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) > 4 and fields[4] in _CONTAINER_FILES:  # noqa: PLR2004  proc(5) counts the fields
            for runtime, pattern in rules:
                match = re.search(pattern, fields[3])
                if match:
                    return Container(runtime, match[1])
    return None


def _container_by_cgroup(cgroup: str) -> Container | None:
    rules = (
        ("kubernetes", r"/kubepods[./].*?([0-9a-f]{64})?(?:\.scope)?$"),
        ("docker", r"/docker[/-]([0-9a-f]{64})(?:\.scope)?$"),
        ("podman", r"/libpod-([0-9a-f]{64})(?:\.scope)?(?:/container)?$"),
        ("lxc", r"/lxc(?:\.payload)?[/.]()[^/]+"),
    )
    for line in cgroup.splitlines():
        for runtime, pattern in rules:
            match = re.search(pattern, line)
            if match:
                return Container(runtime, match[1] or "")
    return None


def find_daemon(
    env: Mapping[str, str], machine: Machine, provider: Provider, container: Container | None
) -> tuple[DaemonLocation, str]:
    """The daemon's address, and the reason: DOCKER_HOST, docker's context, a socket, a `docker` service, in order."""
    if env.get("DOCKER_HOST"):
        url = check_daemon_url(env["DOCKER_HOST"], "DOCKER_HOST")
        return _daemon(url, env, machine), f"DOCKER_HOST={url}"
    if machine.context or machine.context_host:
        url = check_daemon_url(machine.context_host, "docker's current context")
        return _daemon(url, env, machine), "docker's current context"
    if machine.sockets:
        return DaemonLocation(Reach.SOCKET, f"unix://{machine.sockets[0]}"), f"{machine.sockets[0]} exists"
    linked = "DOCKER_PORT_2375_TCP" in env or "DOCKER_PORT_2376_TCP" in env
    in_pod = provider in _POD_PROVIDERS
    if linked or (container is not None and (in_pod or provider in _DIND_PROVIDERS)):
        tls = wants_tls(env) or _certificates(env, machine) != ""
        host = "docker" if linked or not in_pod else "localhost"
        url = f"tcp://{host}:{_TLS_PORT if tls else _PLAIN_PORT}"
        assumed = f"no socket: docker beside this job, on {host}, is assumed"
        certain = "a linked docker service" if linked else assumed
        return _daemon(url, env, machine), f"{certain}, {'with' if tls else 'without'} TLS"
    return DaemonLocation(Reach.NONE, "unix:///var/run/docker.sock"), "neither DOCKER_HOST nor a socket"


def _daemon(url: str, env: Mapping[str, str], machine: Machine) -> DaemonLocation:
    """Read a DOCKER_HOST: a bare host:port is tcp, as docker takes it."""
    parts = urlsplit(url if "://" in url else f"tcp://{url}")
    if parts.scheme == "unix":
        return DaemonLocation(Reach.SOCKET, url)
    host = parts.hostname or ""
    if parts.scheme == "ssh":
        return DaemonLocation(Reach.SSH, url, host)
    if parts.scheme not in {"tcp", "http", "https"}:
        return DaemonLocation(Reach.NONE, url)
    certificates = _certificates(env, machine)
    tls = wants_tls(env) or parts.scheme == "https" or certificates != ""
    local = is_loopback(host) or is_loopback(machine.resolve(host))
    folder = certificates or env.get("DOCKER_CERT_PATH", "")
    return DaemonLocation(Reach.LOOPBACK if local else Reach.REMOTE, url, host, tls, folder if tls else "")


def _certificates(env: Mapping[str, str], machine: Machine) -> str:
    """The folder of client certificates that docker's images look for: $DOCKER_TLS_CERTDIR/client, if it is whole.

    Not where the user has named another one.
    """
    if env.get("DOCKER_CERT_PATH"):
        return ""
    folder = f"{env['DOCKER_TLS_CERTDIR']}/client" if env.get("DOCKER_TLS_CERTDIR") else ""
    return folder if folder in machine.tls_folders else ""


def _forwarded(port: int) -> DaemonName:
    return DaemonName(
        f"127.0.0.1:{port}", "the daemon's host is reached over ssh, which forwards the port back", forward=True
    )
