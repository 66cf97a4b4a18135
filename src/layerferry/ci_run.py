"""`layerferry run`, the CI step: all of it from variables. `Context` wires daemon, sources, routes and output."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from layerferry import log
from layerferry.ci import providers, summary
from layerferry.ci.dialects import open_output
from layerferry.ci.machine import gather
from layerferry.ci.output import Output, Wishes
from layerferry.ci.ssh_identity import open_identity
from layerferry.ci.topology import Topology, detect
from layerferry.errors import DeadlineError, Halt, LayerferryError, UnknownHostKeyError, UsageError
from layerferry.events import Emit, Warned
from layerferry.processes import child_environment
from layerferry.push.request import Options, Wanted
from layerferry.push.to_host import fan_out
from layerferry.report import JsonReport, PlainReport, document, noted
from layerferry.result import Result, exit_code, failures
from layerferry.routes.ngrok.edge_check import Credentials
from layerferry.settings import environment
from layerferry.settings.values import Settings
from layerferry.sources import Source
from layerferry.sources.by_kind import Sources
from layerferry.streams import stderr, stdout
from layerferry.targets.address import Ssh, host_of, start
from layerferry.targets.conduit import SshTarget

if TYPE_CHECKING:
    from layerferry.routes.daemon_routes import DaemonRoutes
    from layerferry.routes.reachability import Reachability
    from layerferry.sources.daemon.api import Daemon

# Each kind of source, and what leads out of a daemon, is loaded when it is needed: hence the imports inside functions.
# ruff: noqa: PLC0415

_SCAN_SECONDS = 5


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

    @classmethod
    def look(cls, settings: Settings, environ: Mapping[str, str], ssh: Ssh | None = None) -> "Context":
        """Detect the topology; `ssh` says how to reach a daemon's host. Raises `UsageError` on a variable's mistake."""
        return cls(settings, environ, detect(environ, gather(environ), registry=settings.registry), ssh or Ssh())

    def daemon(self) -> "Daemon":
        """The docker daemon: where the docker SDK finds one by itself, it is left to that."""
        from layerferry.sources.daemon.api import Daemon

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

    def _routes(self, daemon: "Daemon", emit: Emit) -> "DaemonRoutes":
        from layerferry.routes.daemon_routes import DaemonRoutes

        reachability = self.reachability(daemon, lambda told: emit(Warned("this machine", told)))
        return DaemonRoutes(daemon, reachability, self.settings.route, emit)

    def output(self, stream: TextIO) -> Output:
        """The CI's own dialect; secrets are masked before anything else is said."""
        wishes = Wishes(summary=self.settings.summary, dotenv=self.settings.dotenv)
        output = open_output(self.topology.provider, stream, self.environ, wishes=wishes)
        output.mask(*self.settings.known_secrets, *self.credentials.secrets)
        return output


@contextlib.contextmanager
def ssh_options(settings: Settings) -> Iterator[tuple[str, ...]]:
    """The key and known hosts of the settings as ssh's `-o` values; their files are gone afterwards."""
    accept = ("StrictHostKeyChecking=accept-new",) if settings.ssh_accept_new_host_key else ()
    with open_identity(environment(), key=settings.ssh_key, known_hosts=settings.ssh_known_hosts) as identity:
        yield (*accept, *identity.options)


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


def complain(error: LayerferryError, environ: Mapping[str, str], stream: TextIO) -> None:
    """Show an error in the CI's own way, where the settings that would say more cannot be read."""
    log.failure("error", error)
    stderr().trace(error)
    provider, _ = providers.detect(environ)
    stream = stderr().verbatim if provider is providers.NONE else stream
    open_output(provider, stream, environ).error(error.message, hint=error.hint)


def run(settings: Settings, environ: Mapping[str, str], *, dry_run: bool, as_json: bool) -> int:
    """Push what the environment says to where it says; the exit code. Failures are shown in the CI's own way."""
    around = Context.look(settings, environ)
    output = around.output((stderr() if as_json else stdout()).verbatim)
    try:
        if not settings.images or not settings.targets:
            raise UsageError(
                "LAYERFERRY_IMAGES and LAYERFERRY_TARGETS must say what to push, and where",
                hint="LAYERFERRY_IMAGES=app:1 LAYERFERRY_TARGETS=deploy@host layerferry run",
            )
        with ssh_options(settings) as options:
            results, seconds = _push(replace(around, ssh=Ssh(options)), output, dry_run=dry_run)
            advised = [_advised(result, settings) for result in failures(results).values()]
    except (LayerferryError, Halt) as failed:
        error = failed.error if isinstance(failed, Halt) else failed
        log.failure("error", failed)
        stderr().trace(error)
        output.error(error.message, hint=error.hint)
        return error.exit_code
    if as_json:
        JsonReport(stdout()).finish(results, seconds)
    for failure in advised:
        stderr().trace(failure)
        output.error(failure.message, hint=failure.hint)
    if not dry_run:
        output.summary(summary.markdown(document(results, seconds)))
        output.outputs(summary.outputs(document(results, seconds)))
    return exit_code(results)


def _push(around: Context, output: Output, *, dry_run: bool) -> tuple[Sequence[Result], float]:
    chosen = around.settings
    wanted = [Wanted.of(image) for image in chosen.images]
    options = Options(chosen.parsed_compression, chosen.parsed_platform, dry_run=dry_run, jobs=chosen.jobs)
    begin = time.monotonic()
    with (
        output.group("layerferry"),
        PlainReport(output.line, output.warning) as report,
        contextlib.ExitStack() as stack,
    ):
        topology = around.topology
        output.line(f"CI: {topology.provider} ({topology.provider_reason})")
        output.line(f"daemon: {topology.daemon.reach} ({topology.daemon_reason})")
        with bounded(chosen.timeout):
            targets = [
                start(stack, target, around.ssh, around.environ, now=number < chosen.jobs)
                for number, target in enumerate(_targets(chosen))
            ]
            emit = noted(report)
            results = fan_out(wanted, targets, options, emit, lambda: around.source(emit), tell=report.delivered)
        seconds = time.monotonic() - begin
        report.finish(results, seconds)
    return results, seconds


def _targets(settings: Settings) -> Sequence[str]:
    from layerferry.targets.registry_address import check_via, through

    if settings.via:
        check_via(settings.targets, "LAYERFERRY_VIA")
    return [through(target, settings.via) for target in settings.targets]


def _advised(result: Result, settings: Settings) -> LayerferryError:
    """The error of a result; for an unknown host key with the very line that would make it known."""
    assert result.error is not None
    if not isinstance(result.error, UnknownHostKeyError):
        return result.error
    hosts = dict(host_of(target) for target in _targets(settings))
    host = hosts[result.target]
    lines = _scan(host) if host else ""
    if not lines:
        return result.error
    hint = "If this is its key, which the host's owner can tell, add to LAYERFERRY_SSH_KNOWN_HOSTS:\n" + lines
    return UnknownHostKeyError(result.error.message, hint=hint)


def _scan(host: SshTarget) -> str:
    """The host's ed25519 key as a known_hosts line, as far as it answers without a ProxyJump."""
    port = ["-p", str(host.port)] if host.port else []
    try:
        done = subprocess.run(
            ["ssh-keyscan", "-T", str(_SCAN_SECONDS), "-t", "ed25519", *port, "--", host.host],
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * _SCAN_SECONDS,
            env=child_environment(environment()),
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("#"))
