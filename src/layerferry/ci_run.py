"""`layerferry run`, the CI step: all of it from variables."""

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TextIO

from layerferry import log
from layerferry.ci import providers, summary
from layerferry.ci.dialects import open_output
from layerferry.ci.output import Output
from layerferry.context import Context, calls_ssh, offered, with_material
from layerferry.errors import Halt, LayerferryError, UnknownHostKeyError, UsageError
from layerferry.processes import child_environment
from layerferry.push.request import wanted
from layerferry.report import JsonReport, PlainReport, QuietReport, Report, document
from layerferry.result import Result, exit_code, failures
from layerferry.settings import discouraged, environment, unknown
from layerferry.settings.values import Settings
from layerferry.sources import wants_daemon
from layerferry.streams import stderr, stdout
from layerferry.targets.address import Ssh, host_of, start
from layerferry.targets.ssh_settings import told_by_ssh
from layerferry.targets.ssh_target import SshTarget, ssh_words

# A registry as a target is loaded when there is one.
# ruff: noqa: PLC0415

_SCAN_SECONDS = 5


def complain(error: LayerferryError, environ: Mapping[str, str], stream: TextIO) -> None:
    """Show an error in the CI's own way, where the settings that would say more cannot be read."""
    log.failure("error", error)
    stderr().trace(error)
    provider, _ = providers.detect(environ)
    stream = stderr().verbatim if provider is providers.NONE else stream
    output = open_output(provider, stream, environ)
    _warn_of_unknown(output)
    output.error(error.message, hint=error.hint)


def _warn_of_unknown(output: Output) -> None:
    """A misspelt variable often explains the error that comes after."""
    for sentence in (*unknown(), *discouraged()):
        output.warning(sentence)


def run(settings: Settings, environ: Mapping[str, str], *, dry_run: bool, as_json: bool) -> int:
    """Push what the environment says to where it says; the exit code. Failures are shown in the CI's own way."""
    around = Context.look(settings, environ)
    output = around.output((stderr() if as_json else stdout()).verbatim)
    # A CI shows errors where its log is; elsewhere they go where those of every other command go.
    errors = around.output(stderr().verbatim) if around.topology.provider is providers.NONE else output
    try:
        if not settings.quiet:
            _warn_of_unknown(output)
        if not (settings.images or settings.compose) or not settings.targets:
            raise UsageError(
                "LAYERFERRY_IMAGES and LAYERFERRY_TARGETS must say what to push, and where",
                hint="LAYERFERRY_IMAGES=app:1 LAYERFERRY_TARGETS=deploy@host layerferry run",
            )
        with with_material(settings, Ssh(), called=_calls_ssh(around)) as ssh, offered(settings) as offer:
            results, seconds = _push(replace(around, ssh=ssh), output, dry_run=dry_run, offer=offer)
            advised = [_advised(result, settings) for result in failures(results).values()]
    except (LayerferryError, Halt) as failed:
        error = failed.error if isinstance(failed, Halt) else failed
        log.failure("error", failed)
        stderr().trace(error)
        errors.error(error.message, hint=error.hint)
        return error.exit_code
    if as_json:
        JsonReport(stdout()).finish(results, seconds)
    for failure in advised:
        stderr().trace(failure)
        errors.error(failure.message, hint=failure.hint)
    if not dry_run:
        output.summary(summary.markdown(document(results, seconds)))
        output.outputs(summary.outputs(document(results, seconds)))
    return exit_code(results)


def _calls_ssh(around: Context) -> bool:
    chosen = around.settings
    daemon = around.topology.daemon if chosen.compose or wants_daemon(chosen.images) else None
    return calls_ssh((*_targets(chosen), *chosen.then_on), daemon)


def _push(around: Context, output: Output, **how: Any) -> tuple[Sequence[Result], float]:
    chosen, topology = around.settings, around.topology
    with contextlib.ExitStack() as group, _report(chosen, output, group) as report, contextlib.ExitStack() as stack:
        if not chosen.quiet:
            _fold(group, output, "layerferry")
            output.line(f"CI: {topology.provider} ({topology.provider_reason})")
            output.line(f"daemon: {topology.daemon.reach} ({topology.daemon_reason})")
        composed = around.composed(chosen.compose, chosen.services, output.line) if chosen.compose else []
        images = wanted(list(dict.fromkeys([*chosen.images, *composed])), chosen.names)
        targets = [
            start(stack, target, around.ssh, around.environ, now=number < chosen.jobs)
            for number, target in enumerate(_targets(chosen))
        ]
        how |= stack.enter_context(around.following(targets, chosen.compose, chosen.services))
        return around.push(images, targets, around.options(**how), report)


def _report(settings: Settings, output: Output, group: contextlib.ExitStack) -> Report:
    if settings.quiet:
        return QuietReport(output.line)
    return PlainReport(output.line, output.warning, fold=partial(_fold, group, output))


def _fold(group: contextlib.ExitStack, output: Output, title: str) -> None:
    """Begin a group; groups do not nest."""
    group.close()
    group.enter_context(output.group(title))


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
    host = SshTarget.parse(result.error.hop) if result.error.hop else hosts[result.target]
    lines = _scan(host) if host else ""
    if not lines:
        return result.error
    hint = "If this is its key, which the host's owner can tell, add to LAYERFERRY_SSH_KNOWN_HOSTS:\n" + lines
    return UnknownHostKeyError(result.error.message, hint=hint)


def _scan(host: SshTarget) -> str:
    """The host's ed25519 key as a known_hosts line, as far as it answers without a ProxyJump."""
    told = told_by_ssh([*ssh_words(host), "-G", "--", host.destination])
    port, name = str(host.port or told.get("port", "22")), told.get("hostname", host.host)
    try:
        done = subprocess.run(
            ["ssh-keyscan", "-T", str(_SCAN_SECONDS), "-t", "ed25519", "-p", port, "--", name],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=2 * _SCAN_SECONDS,
            env=child_environment(environment()),
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("#"))
