"""The command `doctor`."""

import contextlib
from typing import Any

import click

from layerferry import settings
from layerferry.cli import options
from layerferry.cli.around import end, log_to, warn_of_unknown, with_material
from layerferry.streams import stdout
from layerferry.targets.address import Ssh

# What a command needs is loaded when it runs.
# ruff: noqa: PLC0415


@click.command(cls=options.Command, examples=("layerferry doctor deploy@prod",))
@click.argument("target", required=False, shell_complete=options.values("hosts"))
@options.VIA
@options.SSH_OPTION
@options.SSH_CONFIG
@options.JSON
@options.VERBOSE
@options.LOG
@options.DEBUG
def doctor(target: str | None, *, via: str, as_json: bool, log: str | None, verbose: bool | None, **ssh: Any) -> None:
    """Show what is where and what reaches what, the route that would be taken, and why. Sends nothing."""
    from layerferry.context import bounded
    from layerferry.doctor import examine, show
    from layerferry.targets.registry_address import check_via, through

    chosen = settings.load({"log": log, "verbose": verbose})
    log_to(chosen)
    warn_of_unknown()
    if via:
        check_via([target or ""], "--via")
    if target:
        target = through(target, via or chosen.via)
    with contextlib.ExitStack() as stack, bounded(chosen.timeout):
        ssh_settings = with_material(stack, Ssh(ssh["ssh_options"], ssh["ssh_config"]))
        findings = examine(chosen, settings.environment(), target, ssh_settings)
    show(findings, stdout(), as_json=as_json)
    end(findings.exit_code, asked=True)
