"""The command `doctor`."""

import contextlib
from typing import Any

import click

from layerferry import settings
from layerferry.cli import options
from layerferry.cli.around import end, log_to, tell_names, warn_of_unknown, with_material
from layerferry.named_targets import Names
from layerferry.streams import stdout
from layerferry.targets.address import Ssh

# What a command needs is loaded when it runs.
# ruff: noqa: PLC0415


@click.command(cls=options.Command, examples=("layerferry doctor deploy@prod",))
@click.argument("target", required=False, shell_complete=options.values("hosts"))
@options.CONFIG
@options.VIA
@options.SSH_OPTION
@options.SSH_CONFIG
@options.JSON
@options.VERBOSE
@options.LOG
@options.DEBUG
def doctor(target: str | None, *, via: str, as_json: bool, **given: Any) -> None:
    """Show what is where and what reaches what, the route that would be taken, and why. Sends nothing."""
    from layerferry.context import bounded
    from layerferry.doctor import examine, show
    from layerferry.targets.registry_address import check_via, through

    words = [target] if target else []
    job = Names(words, given["config"]).job((), words)
    chosen = settings.load({"log": given["log"], "verbose": given["verbose"]}, job.filed)
    log_to(chosen)
    warn_of_unknown()
    tell_names(job.told, chosen)
    if via:
        check_via(job.targets, "--via")
    targets = [through(str(one), via or chosen.via) for one in job.targets]
    with contextlib.ExitStack() as stack, bounded(chosen.timeout):
        ssh_settings = with_material(stack, Ssh(given["ssh_options"], given["ssh_config"]), targets, daemon=True)
        findings = examine(chosen, settings.environment(), targets, ssh_settings)
    show(findings, stdout(), as_json=as_json)
    end(findings.exit_code, asked=True)
