"""The addresses at which this job may have a registry service, and how certain each is."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from layerferry.ci import providers
from layerferry.ci.machine import Machine
from layerferry.ci.providers import Provider
from layerferry.errors import UsageError

#: The port of docker's own registry image.
REGISTRY_PORT = 5000
_LARGEST_PORT = 65535

#: Providers with GitHub's job model: a job on a machine finds its services published on the loopback.
_GITHUB_LIKE = (providers.GITHUB, providers.GITEA, providers.FORGEJO)
#: Providers whose jobs, in a container, reach a service of theirs by its name.
_NAMED_SERVICES = (
    *_GITHUB_LIKE,
    providers.GITLAB,
    providers.AZURE,
    providers.WOODPECKER,
    providers.DRONE,
    providers.SEMAPHORE,
    providers.CODEFRESH,
    providers.BUDDY,
    providers.ONEDEV,
)
#: Providers whose jobs, in a container, reach a service of theirs on the loopback (docs/environments.md has the pages).
_LOOPBACK_SERVICES = (providers.BITBUCKET, providers.CIRCLECI, providers.CIRRUS, providers.HARNESS)
_LINK = re.compile(r"(?P<alias>[A-Z0-9_]*REGISTRY[A-Z0-9_]*)_PORT_(?P<port>[0-9]+)_TCP")
_AZURE_PORT = re.compile(rf"AGENT_SERVICES_(?P<name>\w*REGISTRY\w*)_PORTS_{REGISTRY_PORT}", re.IGNORECASE)


class Certainty(StrEnum):
    """The source of a service's address."""

    SET = "set by the user"
    SEEN = "seen in the environment"
    GUESSED = "guessed"


@dataclass(frozen=True, slots=True)
class ServiceContainer:
    """A registry service by the job's name for it (`address`, host:port). A guessed one counts once it has answered.

    `resolved` is the address of the name, where /etc/hosts has it.
    """

    address: str
    reason: str
    certainty: Certainty
    resolved: str = ""

    @property
    def is_public(self) -> bool:
        """Whether the name is the same everywhere: a domain name or an address, no alias of this job."""
        host, _ = split_address(self.address)
        return not is_loopback(host) and ("." in host or ":" in host) and not host.endswith((".internal", ".local"))


def find_services(
    env: Mapping[str, str],
    machine: Machine,
    provider: Provider,
    *,
    registry: str = "",
    port: int | None = None,
    in_container: bool = False,
    daemon_host: str = "",
) -> tuple[ServiceContainer, ...]:
    """The registry services to probe, in order. One that the user named, by its address or `port`, is the only one.

    Raises `UsageError` on an address that cannot be read.
    """
    if registry.strip():
        address = read_address(registry, "LAYERFERRY_REGISTRY")
        host, _ = split_address(address)
        return (ServiceContainer(address, f"LAYERFERRY_REGISTRY={address}", Certainty.SET, machine.resolve(host)),)
    if port:
        return (ServiceContainer(f"127.0.0.1:{port}", f"LOCAL_DOCKER_REGISTRY_PORT={port}", Certainty.SET),)
    guessed = _guessed(env, provider, in_container=in_container, daemon_host=daemon_host)
    found: dict[str, ServiceContainer] = {}
    for service in (*_seen(env, machine, provider), *guessed):
        found.setdefault(service.address, service)
    return tuple(found.values())


def _seen(env: Mapping[str, str], machine: Machine, provider: Provider) -> Iterator[ServiceContainer]:
    for name in sorted(env):
        azure = _AZURE_PORT.fullmatch(name) if provider is providers.AZURE else None
        if azure and env[name].isdecimal():
            # Microsoft's service-containers.md: agent.services.<alias>.ports.<port> is the published port.
            yield ServiceContainer(f"127.0.0.1:{env[name]}", f"{name}={env[name]}", Certainty.SEEN)
        link = _LINK.fullmatch(name)
        # Kubernetes sets the same variables for each Service of the namespace: those are not this job's.
        if link and f"{link['alias']}_SERVICE_HOST" not in env and env[name].startswith("tcp://"):
            address = env[name].removeprefix("tcp://")
            yield ServiceContainer(address, f"{name}, a linked container", Certainty.SEEN, split_address(address)[0])
    if provider in _NAMED_SERVICES:
        for name in machine.host_names():
            # GitLab writes docker.io/library/registry as docker.io__library__registry and docker.io-library-registry.
            if re.fullmatch(r"(?:.*(?:__|-))?registry", name):
                address = machine.resolve(name)
                host = "127.0.0.1" if is_loopback(address) else name
                yield ServiceContainer(
                    f"{host}:{REGISTRY_PORT}", f"{name} stands in /etc/hosts", Certainty.SEEN, address
                )


def _guessed(
    env: Mapping[str, str], provider: Provider, *, in_container: bool, daemon_host: str
) -> Iterator[ServiceContainer]:
    if in_container and provider in _LOOPBACK_SERVICES:
        yield ServiceContainer(
            f"127.0.0.1:{REGISTRY_PORT}", f"where a service of a job is on {provider}", Certainty.GUESSED
        )
    if provider not in _NAMED_SERVICES:
        return
    if in_container and env.get("KUBERNETES_SERVICE_HOST"):
        yield ServiceContainer(
            f"127.0.0.1:{REGISTRY_PORT}", "the containers of a pod share a loopback", Certainty.GUESSED
        )
    elif in_container:
        yield ServiceContainer(f"registry:{REGISTRY_PORT}", f"a service's usual name on {provider}", Certainty.GUESSED)
    elif provider in _GITHUB_LIKE:
        yield ServiceContainer(f"127.0.0.1:{REGISTRY_PORT}", f"a service's usual port on {provider}", Certainty.GUESSED)
    if daemon_host == "docker":
        yield ServiceContainer(f"docker:{REGISTRY_PORT}", "a registry run by the job's own daemon", Certainty.GUESSED)


def read_address(text: str, setting: str) -> str:
    """Read `host[:port]`, with or without http://; raises `UsageError` that names `setting`."""
    address = re.sub(r"^https?://", "", text.strip()).rstrip("/")
    host, port = split_address(address)
    if not host or "/" in address or not 0 < port <= _LARGEST_PORT or re.search(r"[\s@]", address):
        raise UsageError(f"{setting} is not an address of a registry", hint="Write it as host:port.")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(address: str) -> tuple[str, int]:
    """The host without brackets, and the port: 5000 where there is none, -1 where it is no number."""
    match = re.fullmatch(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:]*))(?::(?P<port>.*))?", address)
    if match is None:
        return address, REGISTRY_PORT
    port = match["port"]
    if port is None:
        return match["six"] or match["host"], REGISTRY_PORT
    return match["six"] or match["host"], int(port) if port.isascii() and port.isdecimal() else -1


def is_loopback(host: str) -> bool:
    """Whether `host` is localhost or an address of the loopback."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
