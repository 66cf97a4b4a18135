"""The command `doctor`: where daemon, registry service and target are, what reaches what, and the route. Read only."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from typing import Any

from layerferry import ci
from layerferry.ci.escape import cleaned
from layerferry.ci.topology import Reach
from layerferry.context import Context
from layerferry.errors import LayerferryError, RouteError
from layerferry.mistakes import without_password
from layerferry.push.to_registry import open_endpoint
from layerferry.routes import ngrok
from layerferry.settings.values import Settings
from layerferry.sources.daemon.api import Daemon
from layerferry.streams import Stream
from layerferry.targets.address import Ssh, start
from layerferry.targets.conversation import Conversation
from layerferry.targets.registry_address import RegistryTarget


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: what was looked at, its value, the reason, whether that is good, and the seconds it took."""

    what: str
    value: str
    reason: str = ""
    good: bool | None = None
    seconds: float | None = None


@dataclass(slots=True)
class Findings:
    items: list[Finding] = field(default_factory=list)
    route: str = ""
    reason: str = ""
    advice: list[str] = field(default_factory=list)
    exit_code: int = 0

    def add(self, *arguments: Any, **options: Any) -> None:
        self.items.append(Finding(*arguments, **options))

    def fail(self, what: str, error: LayerferryError, seconds: float | None = None) -> None:
        """Add a finding of what does not work, and the advice on it."""
        self.add(what, error.message, good=False, seconds=seconds)
        self.exit_code = self.exit_code or error.exit_code
        if error.hint:
            self.advice.append(error.hint)


def examine(settings: Settings, environ: Mapping[str, str], targets: Sequence[str], ssh: Ssh) -> Findings:
    """Look at all of them. What fails is a finding, not an error."""
    findings = Findings()
    around = Context.look(settings, environ, ssh)
    topology = around.topology
    findings.add("CI", str(topology.provider), topology.provider_reason)
    findings.add("container", str(topology.container or "none"), topology.container_reason)
    findings.add("daemon", f"{topology.daemon.reach}: {topology.daemon.url}", topology.daemon_reason)
    for service in topology.services:
        answer = ci.probe(service.address)
        good = answer.answer.is_registry
        findings.add(
            "registry service", f"{service.address} {answer.answer}", service.reason, good=good, seconds=answer.seconds
        )
    try:
        start_time = time.monotonic()
        with closing(around.daemon()) as daemon:
            findings.add("daemon answers", daemon.version(), good=True, seconds=time.monotonic() - start_time)
            try:
                _find_route(findings, around, daemon)
            except LayerferryError as error:
                findings.fail("daemon reaches us", error)
    except LayerferryError as error:
        findings.fail("daemon answers", error)
    for target in targets:
        _find_target(findings, target, ssh, environ)
    return findings


def _find_route(findings: Findings, around: Context, daemon: Daemon) -> None:
    """Ask the daemon which registries of ours it reaches. No tunnel is opened: it would cost, and be public."""
    asked = around.settings.route
    reached = ""
    with closing(around.reachability(daemon)) as reachability:
        for attempt in reachability.attempts():
            good = attempt.endpoint is not None
            value = f"{attempt.name.address} {'reached' if good else attempt.trouble}"
            findings.add("daemon reaches us", value, attempt.name.reason, good=good, seconds=attempt.seconds)
            if good:
                reached = attempt.name.address
                break
        has_token = reachability.has_ngrok
    has_agent = _find_agent(findings, around, has_token=has_token)
    if asked != "auto":
        findings.route, findings.reason = asked, "LAYERFERRY_ROUTE says so"
        if asked == "registry" and not reached:
            findings.reason += "; unless a registry service of the job is reached, it will fail"
    elif reached:
        findings.route = "registry"
        findings.reason = f"the daemon reaches {reached}; an image that is mostly new may come by direct or export"
    elif has_token and has_agent:
        findings.route, findings.reason = "ngrok", "the daemon reaches no registry of ours, and a token is given"
    else:
        findings.route, findings.reason = "export", "the daemon reaches no registry of ours"
    findings.advice += _advice(around, reached=bool(reached), has_token=has_token, has_agent=has_agent)


def _find_agent(findings: Findings, around: Context, *, has_token: bool) -> bool:
    """Whether there is an agent, or one may be downloaded."""
    token = "a token is given" if has_token else "no token is given"
    try:
        agent = ngrok.find_agent(around.environ)
    except RouteError as error:
        findings.fail("ngrok", error)
        return False
    findings.add("ngrok", f"agent {agent or 'not found'}", token)
    return agent is not None or around.settings.ngrok_install


def _advice(around: Context, *, reached: bool, has_token: bool, has_agent: bool) -> Iterator[str]:
    if reached:
        return
    if around.topology.daemon.reach is Reach.REMOTE:
        yield (
            "Run the job where its daemon is (CircleCI: a machine executor), or start the daemon with "
            "--insecure-registry for the job's address: a push then costs only what is missing."
        )
    if not has_token:
        yield "Or set LAYERFERRY_NGROK_AUTHTOKEN: an ngrok tunnel then leads from the daemon to this job."
    elif not has_agent:
        yield "Install ngrok's agent, or set LAYERFERRY_NGROK_INSTALL=true: a token alone opens no tunnel."
    yield "Without any of it, export works; it reads the whole image out of the daemon each time."


def _find_target(findings: Findings, target: str, ssh: Ssh, environ: Mapping[str, str]) -> None:
    begin, name = time.monotonic(), without_password(target)
    try:
        with ExitStack() as stack:
            started = start(stack, target, ssh, environ)
            if isinstance(started, RegistryTarget):
                with closing(open_endpoint(started)) as endpoint:
                    value, takes = f"{endpoint.place}, by {endpoint.scheme}", endpoint.answer()
            else:
                conduit = stack.enter_context(started.connect())
                conversation = Conversation(conduit)
                conversation.ask(())
                greeting = conversation.greeting()
                value = f"{greeting}, {greeting.platform}"
                takes = f"takes {', '.join(greeting.accept)}; finds layers by {greeting.store}"
    except LayerferryError as error:
        findings.fail(f"target {name}", error, time.monotonic() - begin)
        return
    findings.add(f"target {name}", value, takes, good=True, seconds=time.monotonic() - begin)


def show(findings: Findings, out: Stream, *, as_json: bool) -> None:
    """Print the findings as lines, or as one JSON object."""
    if as_json:
        document = {
            "findings": [asdict(item) for item in findings.items],
            "route": {"name": findings.route, "reason": findings.reason},
            "advice": findings.advice,
        }
        out.document(cleaned(document))
        return
    marks = {True: "✓", False: "✗", None: "·"}
    for item in findings.items:
        reason = f"  ({item.reason})" if item.reason else ""
        seconds = f"  {item.seconds:.2f} s" if item.seconds is not None else ""
        out.line(f"{marks[item.good]} {item.what + ':':<20} {item.value}{reason}{seconds}")
    if findings.route:
        out.line(f"→ route: {findings.route}, because {findings.reason}")
    for advice in findings.advice:
        out.line(f"  {advice}")
