"""The command `run`: all of a CI's step from variables."""

import sys
from typing import Any

import click

from layerferry import settings
from layerferry.ci.escape import one_line
from layerferry.cli import options
from layerferry.cli.around import end, log_to, warn_of_unknown
from layerferry.errors import UsageError
from layerferry.streams import stderr, stdout

# What a command needs is loaded when it runs.
# ruff: noqa: PLC0415


@click.command(
    cls=options.Variables, examples=("LAYERFERRY_IMAGES=app:2 LAYERFERRY_TARGETS=deploy@prod layerferry run",)
)
@options.option(
    "--print-config",
    group=options.TOLD,
    is_flag=True,
    help="Show each setting and where it comes from, secrets masked.",
)
@options.NAME
@options.COMPOSE
@options.SERVICE
@options.UP
@options.KEEP_PREVIOUS
@options.PRUNE
@options.DRY_RUN
@options.JSON
@options.QUIET
@options.VERBOSE
@options.LOG
@options.DEBUG
def run(*, print_config: bool, dry_run: bool, as_json: bool, **given: Any) -> None:
    """Push what the environment says: the CI step.

    LAYERFERRY_IMAGES and LAYERFERRY_TARGETS say what and where. `--print-config` shows what each variable has come to.
    """
    environ = settings.environment()
    try:
        chosen = settings.load(given)
        if not print_config:
            log_to(chosen)
    except UsageError as error:
        from layerferry.ci_run import complain

        complain(error, environ, (stderr() if as_json else stdout()).verbatim)
        sys.exit(error.exit_code)
    if print_config:
        from layerferry.settings.values import origins

        warn_of_unknown()
        for origin in origins(chosen, environ, given):
            stdout().write(one_line(f"{origin.variable}={origin.value}  # {origin.source}") + "\n")
        return
    from layerferry import ci_run

    end(ci_run.run(chosen, environ, dry_run=dry_run, as_json=as_json))
