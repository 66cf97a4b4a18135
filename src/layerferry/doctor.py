"""The command `doctor`: where daemon, registry service and target are, what reaches what, and the route.

Nothing is changed, but that a registry service is given what proves that the daemon reaches it, as in a push.
"""

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
from layerferry.oci.store_kind import StoreKind
from layerferry.push.to_registry import open_endpoint
from layerferry.routes import ngrok
from layerferry.routes.choose import Reached, check
from layerferry.routes.near_registries import NearRegistries
from layerferry.routes.reachability import Attempt, Reachability
from layerferry.settings.values import Settings
from layerferry.sources.daemon.api import Daemon
from layerferry.streams import Stream
from layerferry.targets.address import Ssh, start
from layerferry.targets.conversation import Conversation
from layerferry.targets.registry_address import RegistryTarget

#: Bytes of an image, where the route depends on them.
_SAMPLE = 100_000_000


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

    def tried(self, attempt: Attempt) -> None:
        """Add what the daemon was asked about."""
        value = f"{attempt.name.address} {attempt.trouble or 'reached'}"
        what = "daemon reaches service" if attempt.of_service else "daemon reaches us"
        self.add(what, value, attempt.name.reason, good=not attempt.trouble, seconds=attempt.seconds)

    def fail(self, what: str, error: LayerferryError, seconds: float | None = None) -> None:
        """Add a finding of what does not work, and the advice on it."""
        self.add(what, error.message, good=False, seconds=seconds)
        self.exit_code = self.exit_code or error.exit_code
        self.advise(error.hint)

    def advise(self, hint: str) -> None:
        if hint and hint not in self.advice:
            self.advice.append(hint)


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
            version, store = daemon.version()
            findings.add("daemon answers", version, good=True, seconds=time.monotonic() - start_time)
            try:
                _find_route(findings, around, daemon, store)
            except LayerferryError as error:
                findings.fail("daemon reaches us", error)
    except LayerferryError as error:
        findings.fail("daemon answers", error)
    for target in targets:
        _find_target(findings, target, ssh, environ)
    return findings


def _find_route(findings: Findings, around: Context, daemon: Daemon, store: StoreKind) -> None:
    """Ask the daemon what a push asks it, in the same order. No tunnel is opened: it would cost, and be public."""
    asked = around.settings.route
    with closing(around.reachability(daemon)) as reachability:
        near = NearRegistries(reachability, asked, findings.tried)
        way = near.find(_SAMPLE, store) if asked in {"auto", "registry"} else near.ours
        reached = way.reached
        has_token = reachability.has_ngrok
        has_agent = _find_agent(findings, around, has_token=has_token)
        findings.route = asked
        if asked != "auto":
            findings.reason = "LAYERFERRY_ROUTE says so"
            _foresee(findings, around, reachability, reached)
        elif way.endpoint:
            other = "small may come by another route" if reached.whole else "mostly new may come by direct or export"
            findings.route, findings.reason = reached.route, f"{reached}; an image that is {other}"
        elif has_token and has_agent:
            findings.route, findings.reason = "ngrok", f"{reached.trouble}, and a token is given"
        else:
            findings.route, findings.reason = "export", reached.trouble
    findings.advise(reached.hint)
    if asked != "ngrok":
        findings.advice += _advice(around, reached=way.endpoint is not None, has_token=has_token, has_agent=has_agent)


def _foresee(findings: Findings, around: Context, reachability: Reachability, reached: Reached) -> None:
    """Tell what becomes of a push that asks for a route by name, as far as that shows without a tunnel."""
    try:
        if findings.route == "ngrok":
            ngrok.agent_path(around.environ, install=reachability.ngrok.install)
        elif findings.route == "registry":
            check(findings.route, reached)
            findings.reason += f"; {reached}"
    except RouteError as error:
        findings.reason += f", and a push fails: {error.message}"
        findings.exit_code = findings.exit_code or error.exit_code
        if findings.route == "ngrok":  # for the other a push advises this command
            findings.advise(error.hint)


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
