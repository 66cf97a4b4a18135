"""The objects of a run, made from settings and environment: daemon, sources, routes, ssh options, output, the push."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

from layerferry import ci
from layerferry.ci.machine import gather
from layerferry.ci.topology import DaemonLocation, Reach, Topology, detect
from layerferry.embedded_registry.credentials import Credentials
from layerferry.errors import DeadlineError, Halt, UsageError
from layerferry.events import Emit, Warned
from layerferry.push.fan_out import fan_out
from layerferry.push.request import Options, Wanted
from layerferry.report import Report, noted
from layerferry.result import Result
from layerferry.settings import environment, with_variables
from layerferry.settings.values import Settings
from layerferry.sources import Source
from layerferry.sources.by_kind import Sources
from layerferry.targets.address import AnyTarget, Ssh, Target, host_of, start

if TYPE_CHECKING:
    from layerferry.push.compose_up import Project
    from layerferry.routes.daemon_routes import DaemonRoutes
    from layerferry.routes.reachability import Reachability
    from layerferry.signing.offer import Offer
    from layerferry.sources.daemon.api import Daemon

# Each kind of source, and what leads out of a daemon, is loaded when it is needed: hence the imports inside functions.
# ruff: noqa: PLC0415


@dataclass(frozen=True, slots=True)
class Context:
    """The settings, the environment that they come from, and what was found around us.

    `credentials` are for our registries of this run: made beforehand, so that they are masked before anything is said.
    """

    settings: Settings
    environ: Mapping[str, str] = field(repr=False)
    topology: Topology
    ssh: Ssh = field(default_factory=Ssh)
    credentials: Credentials = field(default_factory=Credentials.generate, repr=False)
    #: The host whose docker the images are pulled from; None where they are this job's.
    host: Target | None = None

    @classmethod
    def look(cls, settings: Settings, environ: Mapping[str, str], ssh: Ssh | None = None) -> "Context":
        """Detect the topology; `ssh` is how to call it for a daemon. Raises `UsageError` on a variable's mistake."""
        port = settings.local_docker_registry_port
        topology = detect(environ, gather(environ), registry=settings.registry, port=port, ci=settings.ci)
        return cls(settings, environ, topology, ssh or Ssh())

    def daemon(self) -> "Daemon":
        """The docker daemon: where the docker SDK finds one by itself, it is left to that."""
        from layerferry.sources.daemon.api import Daemon

        if self.host:
            from layerferry.sources.daemon.daemon_host import DaemonHost

            return Daemon(self.environ, host=DaemonHost(self.host.connect()))
        if self.environ.get("DOCKER_HOST") or self.environ.get("DOCKER_CONTEXT"):
            return Daemon(self.environ, self.ssh)
        own = self.topology.daemon.environment if self.topology.daemon_reason != "docker's current context" else {}
        return Daemon({**self.environ, **own}, self.ssh)

    def reachability(self, daemon: "Daemon", warn: Callable[[str], None] = lambda _: None) -> "Reachability":
        """What the daemon reaches of ours, as far as the settings allow it; `warn` hears of faults of our registry."""
        from layerferry.routes.reachability import Ngrok, Reachability

        chosen = self.settings
        ngrok = Ngrok(chosen.ngrok_token, chosen.ngrok_domain, chosen.ngrok_install) if chosen.wants_ngrok else None
        return Reachability(daemon, self.topology, self.environ, ngrok, self.credentials, warn=warn)

    def source(self, emit: Emit) -> Source:
        """The sources of the images, each opened when an image of its kind is asked for."""

        def daemon() -> Source:
            from layerferry.sources.daemon.source import DaemonSource

            return DaemonSource(self.daemon(), lambda daemon: self._routes(daemon, emit))

        def oci() -> Source:
            from layerferry.sources.files.layout import LayoutSource

            return LayoutSource()

        def archive() -> Source:
            from layerferry.sources.files.image_archive import ArchiveSource

            return ArchiveSource()

        def registry() -> Source:
            from layerferry.sources.registry import RemoteSource

            return RemoteSource(self.environ)

        return Sources({"daemon": daemon, "oci": oci, "archive": archive, "registry": registry})

    def composed(self, file: Path, services: Sequence[str], told: Callable[[str], None]) -> list[str]:
        """The images of a compose file that the daemon has; `told` hears of the others. Raises `UsageError`."""
        from layerferry import compose

        named = compose.images(file, services, self.environ)
        with contextlib.closing(self.daemon()) as daemon:
            here, elsewhere = compose.divided(named, daemon.has)
        if elsewhere:
            told(compose.left(elsewhere))
        if not here:
            raise UsageError(
                f"this job's daemon has none of the images that {file} names",
                hint="Build them first: `docker compose build`.",
            )
        return here

    def _project(self, file: Path | None, services: Sequence[str]) -> "Project":
        """What compose brings up; raises `UsageError`."""
        if file is None:
            raise UsageError("--up brings up a compose file's services", hint="Say which file: --compose compose.yaml.")
        from layerferry import compose

        return compose.project(file, services, self.environ)

    def _routes(self, daemon: "Daemon", emit: Emit) -> "DaemonRoutes":
        from layerferry.routes.daemon_routes import DaemonRoutes

        reachability = self.reachability(daemon, lambda told: emit(Warned("this machine", told)))
        return DaemonRoutes(daemon, reachability, self.settings.route, emit)

    def options(self, **chosen: Any) -> Options:
        """How to push, as the settings say, and what the command line alone can say."""
        settings = self.settings
        return Options(
            settings.parsed_compression,
            settings.parsed_platform,
            jobs=settings.jobs,
            retries=settings.retries,
            whole_layers="as asked" if settings.whole_layers else "",
            keep_previous=settings.keep_previous,
            prune=settings.prune,
            **chosen,
        )

    @contextlib.contextmanager
    def following(
        self, targets: Sequence[AnyTarget], file: Path | None, services: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """What follows the push, and the nodes where registries have it done, as options. Raises `UsageError`.

        `file` is a compose file, whose services, or all, may have to be brought up.
        """
        chosen = self.settings
        if not (chosen.then or chosen.then_file or chosen.copy or chosen.then_on or chosen.up):
            yield {}
            return
        from layerferry.push.follow_up import FollowUp, check_places

        wanted = FollowUp.read(
            chosen.then,
            chosen.then_file,
            chosen.copy,
            after=chosen.then_after,
            on=chosen.then_on,
            seconds=chosen.then_timeout,
            up=self._project(file, services) if chosen.up else None,
        )
        if wanted is not None:
            check_places([target.name for target in targets if not isinstance(target, Target)], wanted)
        with contextlib.ExitStack() as stack:
            nodes = [start(stack, host, self.ssh, self.environ, now=False) for host in chosen.then_on]
            yield {"follow_up": wanted, "nodes": tuple(node for node in nodes if isinstance(node, Target))}

    def of_host(self, host: Target) -> "Context":
        """The same for images that are pulled from a host: what stands around this job leads nowhere from there."""
        daemon = DaemonLocation(Reach.SSH, f"ssh://{host.name}")
        topology = replace(self.topology, daemon=daemon, daemon_reason="the host to pull from", services=())
        return replace(self, topology=topology, host=host)

    def push(
        self,
        wanted: Sequence[Wanted],
        targets: Sequence[AnyTarget],
        options: Options,
        report: Report,
        advise: Callable[[Sequence[Result]], None] = lambda _: None,
    ) -> tuple[list[Result], float]:
        """Push within the time limit, and show it; the results, and the seconds that it took.

        `advise` may add to the hints of errors, before anybody is told them.
        """

        def tell(results: Sequence[Result]) -> None:
            advise(results)
            report.delivered(results)

        begin = time.monotonic()
        with bounded(self.settings.timeout):
            emit = noted(report)
            tries = 0

            def opened() -> Source:
                nonlocal tries
                tries += 1
                if self.host and tries > 1:
                    self.host.connect.renew()
                return self.source(emit)

            results = fan_out(wanted, targets, options, emit, opened, tell=tell)
        seconds = time.monotonic() - begin
        advise(results)
        report.finish(results, seconds)
        return results, seconds

    def output(self, stream: TextIO) -> "ci.Output":
        """The CI's own dialect; secrets are masked before anything else is said."""
        wishes = ci.Wishes(summary=self.settings.summary, dotenv=self.settings.dotenv)
        output = ci.open_output(self.topology.provider, stream, self.environ, wishes=wishes)
        output.mask(*self.settings.known_secrets, *self.credentials.secrets)
        return output


def calls_ssh(hosts: Iterable[str | Sequence[str]], daemon: DaemonLocation | None) -> bool:
    """Whether ssh is called: for any of the hosts, which may be registries, or for the `daemon` that is asked.

    The words of a command may call it, too.
    """
    if daemon is not None and daemon.reach is Reach.SSH:
        return True
    return any(not isinstance(host, str) or host_of(host)[1] is not None for host in hosts)


@contextlib.contextmanager
def with_material(settings: Settings, ssh: Ssh, *, called: bool) -> Iterator[Ssh]:
    """How to call ssh, with all that the settings have for it, until the block ends.

    Where it is not `called` nothing is read, which may well be empty there: a fork's job has no secret.
    """
    if not called:
        yield ssh
        return
    with ssh_options(settings) as options:
        yield replace(ssh, material=options, sudo_password=sudo_password(settings))


@contextlib.contextmanager
def ssh_options(settings: Settings) -> Iterator[tuple[str, ...]]:
    """The key and known hosts of the settings as ssh's `-o` values; their files are gone afterwards."""
    accept = ("StrictHostKeyChecking=accept-new",) if settings.ssh_accept_new_host_key else ()
    environ = environment()
    home = Path(environ["HOME"]) if environ.get("HOME") else None
    with contextlib.ExitStack() as stack:
        asked = stack.enter_context(ci.open_askpass(settings.ssh_password, settings.ssh_passphrase))
        stack.enter_context(with_variables(asked.variables))
        identity = stack.enter_context(
            ci.open_identity(
                environ,
                key=settings.ssh_key,
                known_hosts=settings.ssh_known_hosts,
                passphrase=settings.ssh_passphrase is not None,
                home=home,
            )
        )
        yield (*accept, *asked.options, *identity.options)


def sudo_password(settings: Settings) -> bytes:
    """What sudo is told where it asks; nothing where the user has given none. Raises `UsageError`."""
    given = settings.sudo_password
    return b"" if given is None else ci.secret_line(given, "LAYERFERRY_SUDO_PASSWORD", "sudo")


@contextlib.contextmanager
def offered(settings: Settings) -> Iterator["Offer | None"]:
    """The signatures of the settings, for targets that want them; the key is gone afterwards. None without any."""
    if settings.sign_key is None and not settings.signatures:
        yield None
        return
    from layerferry.signing.offer import open_offer

    with open_offer(settings.sign_key, settings.signatures, environment()) as offer:
        yield offer


@contextlib.contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Halt with a `DeadlineError` after so many seconds, wherever the push is then; 0 is no bound."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Halt(DeadlineError(f"gave up after {seconds:g} s", hint="LAYERFERRY_TIMEOUT or --timeout sets it."))

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
