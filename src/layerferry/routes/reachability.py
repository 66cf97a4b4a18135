"""The registries of this job that a daemon reaches: it is asked about each of their addresses."""

import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from layerferry import ci, log
from layerferry.ci.services import Certainty, ServiceContainer, split_address
from layerferry.ci.topology import DaemonName, Topology
from layerferry.embedded_registry import Registry
from layerferry.embedded_registry.credentials import Credentials
from layerferry.embedded_registry.http_server import Request, Response
from layerferry.errors import LayerferryError, RouteError
from layerferry.routes import ngrok as ngrok_tunnel
from layerferry.sources.daemon.api import Daemon
from layerferry.sources.daemon.ssh_transport import ssh_target
from layerferry.targets.conduit import SshConduit
from layerferry.temporary import TemporaryFolder

#: The realm of our registry's challenge; an edge that shows it has let a request without credentials through.
_REALM = "layerferry"
#: The tag that a daemon is asked for.
_PROBE = "probe"
#: What a daemon says of a registry that it has reached, and which is no insecure one to it (Go, net/http; docker 20.10
#: to 28.5). Only of loopback addresses it asks no TLS by itself (moby, registry/config.go).
_WANTS_TLS = "server gave HTTP response to HTTPS client"


@dataclass(frozen=True, slots=True)
class Ngrok:
    """The settings of a tunnel. With an empty token, the agent's own configuration has it."""

    token: str = field(default="", repr=False)
    domain: str = ""
    install: bool = False


@dataclass(frozen=True, slots=True)
class RegistryEndpoint:
    """A registry of ours, and the address by which the daemon pushes to it."""

    route: str
    registry: Registry
    address: str
    credentials: Credentials = field(repr=False)

    @property
    def auth(self) -> dict[str, str]:
        """The credentials as the docker SDK takes them, for one request."""
        return {"username": self.credentials.user, "password": self.credentials.password}


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """A registry service: `address` is its name on the daemon's side, `url` with its scheme on ours."""

    address: str
    url: str
    repository: str
    environ: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An address that the daemon was asked about. `trouble` is why it reaches no registry of this job there, if so.

    `hint` is what the user can do about that, where the trouble does not tell it.
    """

    name: DaemonName
    trouble: str
    seconds: float
    endpoint: RegistryEndpoint | ServiceEndpoint | None = None
    #: Whether the daemon would reach us there, if it were told that there is no TLS.
    wants_tls: bool = False
    hint: str = ""
    #: Whether it was asked about the job's service.
    of_service: bool = False


class Reachability:
    """The registries of ours, until `close`; all of them ask for the same `credentials`.

    `warn` gets a sentence on each error of ours in them, in whichever thread.
    """

    def __init__(
        self,
        daemon: Daemon,
        topology: Topology,
        environ: Mapping[str, str],
        ngrok: Ngrok | None = None,
        credentials: Credentials | None = None,
        *,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._environ = environ
        self._daemon = daemon
        self._topology = topology
        self._ngrok = ngrok
        self._stack = ExitStack()
        self._registries: dict[str, Registry] = {}
        #: The repository that the daemon is asked about, whose name nobody else knows, and whether it was asked for.
        self._awaited = ""
        self._tunnel: ngrok_tunnel.Tunnel | None = None
        self._heard = False
        self._credentials = credentials or Credentials.generate()
        self._warn = warn
        log.mask(*self._credentials.secrets)

    def close(self) -> None:
        self._stack.close()

    def trouble(self) -> RouteError | None:
        """What ngrok's edge says of the tunnel, where it lets nothing through any more."""
        return ngrok_tunnel.edge_trouble(self._tunnel.url, self._credentials) if self._tunnel else None

    @property
    def has_ngrok(self) -> bool:
        return self._ngrok is not None

    @property
    def ngrok(self) -> Ngrok:
        """The settings of a tunnel. Raises `RouteError` where none is allowed."""
        if self._ngrok is None:
            raise RouteError(
                "the route ngrok has no token", hint="Set LAYERFERRY_NGROK_AUTHTOKEN, or DOCKER_REGISTRY_NGROK=true."
            )
        return self._ngrok

    def attempts(self) -> Iterator[Attempt]:
        """Ask the daemon about our addresses, one after the other in the order to try them (layerferry.ci.topology)."""
        return map(_noted, self._attempts())

    def _attempts(self) -> Iterator[Attempt]:
        loopback = self._registry("127.0.0.1")
        for name in self._topology.own_names(loopback.port):
            start = time.monotonic()
            try:
                endpoint = self._endpoint_at(name, loopback)
                trouble = self._ask(endpoint)
            except LayerferryError as error:
                yield Attempt(name, error.message, time.monotonic() - start)
            else:
                shown = DaemonName(endpoint.address, name.reason, name.forward)
                wants_tls = _WANTS_TLS in trouble
                if wants_tls:
                    mend = f'"insecure-registries": ["{self._topology.plain_network(endpoint.address)}"]'
                    trouble = f"it wants TLS there; {mend} in its daemon.json lets it push to us"
                yield Attempt(shown, trouble, time.monotonic() - start, None if trouble else endpoint, wants_tls)

    @property
    def is_far(self) -> bool:
        """Whether what is read of the daemon crosses a line."""
        return self._daemon.host is not None

    @property
    def service_is_set(self) -> bool:
        """Whether the user named a registry service."""
        return any(service.certainty is Certainty.SET for service in self._topology.services)

    @property
    def service_is_known(self) -> bool:
        """Whether the job has a registry service, as far as that can be told without asking there."""
        return any(service.certainty is not Certainty.GUESSED for service in self._topology.services)

    def service_attempts(self) -> Iterator[Attempt]:
        """Ask the daemon about the job's registry services, those that we reach, by each of their names."""
        for service in self._topology.services:
            answer = ci.probe(service.address)
            log.note("route", f"registry service at {service.address} ({service.reason}): {answer.answer}")
            if answer.answer.is_registry:
                names = [name for name in self._topology.daemon_names(service) if not name.forward]
                yield from map(_noted, self._try_service(service, answer.url, names) if names else ())

    def _try_service(self, service: ServiceContainer, url: str, names: Sequence[DaemonName]) -> list[Attempt]:
        """Whatever has one of the names on the daemon's side counts as the service once it is proved to be that."""
        from layerferry.routes.service_proof import open_proof  # noqa: PLC0415 - few jobs have a service

        repository = f"layerferry/{secrets.token_hex(8)}"
        made: list[Attempt] = []
        start = time.monotonic()
        try:
            with open_proof(url, repository, _PROBE, self._environ) as digest:
                for name in names:
                    endpoint = ServiceEndpoint(name.address, url, repository, self._environ)
                    made.append(self._try_service_name(name, endpoint, digest))
                    if made[-1].endpoint:
                        break
        except RouteError as error:
            name = DaemonName(service.address, service.reason)
            made.append(Attempt(name, error.message, time.monotonic() - start, hint=error.hint, of_service=True))
        return made

    def _try_service_name(self, name: DaemonName, endpoint: ServiceEndpoint, digest: str) -> Attempt:
        start = time.monotonic()
        try:
            trouble, hint = self._ask_for_proof(endpoint, digest), ""
        except RouteError as error:
            trouble, hint = error.message, error.hint
        reached = None if trouble else endpoint
        return Attempt(name, trouble, time.monotonic() - start, reached, hint=hint, of_service=True)

    def _ask_for_proof(self, endpoint: ServiceEndpoint, digest: str) -> str:
        """Why the daemon does not reach a service, or an empty string; raises `RouteError` where it reaches another."""
        found, trouble = self._daemon.find(f"{endpoint.address}/{endpoint.repository}:{_PROBE}")
        if not trouble and found != digest:
            raise RouteError(
                f"another registry than the job's service answers the daemon at {endpoint.address}",
                hint="Let the service listen on a port that nothing else has on the daemon's machine, publish it there "
                "under the same number, and name it: LAYERFERRY_REGISTRY=HOST:PORT.",
            )
        return trouble

    def tunnel(self) -> RegistryEndpoint:
        """Open an ngrok tunnel to our registry, and ask the daemon whether it reaches that. Raises `RouteError`."""
        chosen = self.ngrok
        registry = self._registry("127.0.0.1")
        tunnel = self._tunnel = self._stack.enter_context(
            ngrok_tunnel.open_tunnel(
                f"127.0.0.1:{registry.port}",
                env=self._environ,
                token=chosen.token or None,
                domain=chosen.domain,
                credentials=self._credentials,
                own_realm=_REALM,
                install=chosen.install,
            )
        )
        endpoint = RegistryEndpoint("ngrok", registry, tunnel.host, self._credentials)
        if trouble := self._ask(endpoint):
            raise self.trouble() or RouteError(f"the daemon does not reach the tunnel: {trouble}")
        return endpoint

    def _registry(self, host: str) -> Registry:
        """The registry on one address of ours; each address has its own, since none listens on more than it has to."""
        if host not in self._registries:
            spool = Path(self._stack.enter_context(TemporaryFolder()))
            self._registries[host] = self._stack.enter_context(
                Registry(
                    spool=spool,
                    limit=shutil.disk_usage(spool).free * 9 // 10,
                    address=(host, 0),
                    credentials=(self._credentials.user, self._credentials.password),
                    observe=self._observe,
                    fault=self._fault,
                )
            )
        return self._registries[host]

    def _observe(self, request: Request, response: Response) -> None:
        log.served(request, response)
        self._heard = self._heard or self._awaited in request.path

    def _fault(self, error: Exception) -> None:
        self._warn(log.fault("our registry", error))

    def _endpoint_at(self, name: DaemonName, loopback: Registry) -> RegistryEndpoint:
        host, _ = split_address(name.address)
        if name.forward:
            port = self._forward(loopback.port)
            return RegistryEndpoint("registry", loopback, f"127.0.0.1:{port}", self._credentials)
        if host in self._topology.addresses:
            registry = self._registry(host)
            return RegistryEndpoint("registry", registry, f"{host}:{registry.port}", self._credentials)
        return RegistryEndpoint("registry", loopback, name.address, self._credentials)

    def _forward(self, port: int) -> int:
        """Forward a port of the daemon's loopback to ours, through an ssh session to its host; that port."""
        host = self._daemon.host or self._connect_host()
        forwarded = host.reverse(port)
        if forwarded is None:
            raise RouteError(f"{host.name} forwards no port back to us")
        return forwarded

    def _connect_host(self) -> SshConduit:
        url = self._topology.daemon.url
        to_host = SshConduit(ssh_target(url), **self._daemon.ssh.arguments, command="exec cat")
        conduit = self._stack.enter_context(to_host)
        conduit.wait_until_up()
        return conduit

    def _ask(self, endpoint: RegistryEndpoint) -> str:
        """Why the daemon does not reach a registry of ours, or an empty string. It must be ours that it has reached."""
        self._awaited, self._heard = endpoint.registry.repository().name, False
        name = self._awaited
        _, trouble = self._daemon.find(f"{endpoint.address}/{name}:{_PROBE}", endpoint.auth)
        if not trouble and not self._heard:
            return "another registry answers there"
        return trouble


def _noted(attempt: Attempt) -> Attempt:
    outcome = f"not reached: {attempt.trouble}" if attempt.trouble else "reached"
    name = attempt.name
    log.note("route", f"registry at {name.address} ({name.reason}), {outcome}, {attempt.seconds:.3f} s")
    return attempt
