"""The command `run`: all of a CI's step from variables."""

import sys
from typing import Any

import click

from layerferry import settings
from layerferry.cli import options
from layerferry.cli.around import end, log_to, show_settings, tell_names
from layerferry.errors import UsageError
from layerferry.streams import stderr, stdout

# What a command needs is loaded when it runs.
# ruff: noqa: PLC0415


@click.command(
    cls=options.Variables, examples=("LAYERFERRY_IMAGES=app:2 LAYERFERRY_TARGETS=deploy@prod layerferry run",)
)
@options.PRINT_CONFIG
@options.CONFIG
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
        job = None
        if chosen.config:  # a CI's checkout may be anybody's: no file is looked for
            from layerferry.named_targets import Names

            job = Names(chosen.targets, chosen.config).job(chosen.images, chosen.targets, given)
            chosen = settings.load({**given, "images": job.images, "targets": job.targets}, job.filed)
        if not print_config:
            log_to(chosen)
    except UsageError as error:
        from layerferry.ci_run import complain

        complain(error, environ, (stderr() if as_json else stdout()).verbatim)
        sys.exit(error.exit_code)
    if print_config:
        show_settings(chosen, environ, given, job.filed if job else {})
        return
    from layerferry import ci_run

    tell_names(job.told if job else (), chosen)
    end(ci_run.run(chosen, environ, dry_run=dry_run, as_json=as_json))
