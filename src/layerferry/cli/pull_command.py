"""The command `pull`: images of a host's docker come to the engine of this machine."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerferry import settings
from layerferry.cli import options
from layerferry.cli.around import (
    end_with,
    open_log,
    open_report,
    refuse_hosts,
    tell_names,
    warn_of_unknown,
    with_material,
)
from layerferry.cli.options import WHAT, option, values
from layerferry.errors import UsageError
from layerferry.named_targets import Job, Names
from layerferry.targets import is_registry
from layerferry.targets.address import Ssh, Target, here, start
from layerferry.targets.engine_choice import TargetEngine

if TYPE_CHECKING:
    from layerferry.push.request import Wanted
    from layerferry.settings.values import Settings

# ssh is started first of all, and shakes hands while we load the rest: hence the imports inside functions.
# ruff: noqa: PLC0415

#: The settings of a target that are of use to a pull.
_HOW = ("platform", "retries", "timeout")
_EXAMPLES = (
    "layerferry pull app:2 deploy@prod",
    "layerferry pull app:2 worker:2 deploy@prod",
    "layerferry pull app:latest deploy@prod --name app:as-on-prod",
)


@click.command(cls=options.Command, examples=_EXAMPLES, no_args_is_help=True, options_metavar="[OPTIONS]")
@click.argument("words", nargs=-1, metavar="IMAGE... HOST", shell_complete=values("pulled"))
@option(
    "--name",
    "names",
    group=WHAT,
    multiple=True,
    metavar="NAME[:TAG]",
    help="A name here, if not the host's; of several images, for the one of its repository.  [repeatable]",
)
@option(
    "--engine",
    group=WHAT,
    default="",
    metavar="[USER@]NAME[:NAMESPACE]",
    shell_complete=values("engine"),
    help="The engine here, as for push.  [default: found]",
)
@options.ROUTE
@options.CONFIG
@options.PLATFORM
@option("--allow-platform-mismatch", is_flag=True, help="Pull an image that this machine's platform cannot run.")
@options.RETRIES
@options.TIMEOUT
@options.SSH_OPTION
@options.SSH_CONFIG
@option("--dry-run", group=options.TOLD, is_flag=True, help="Show what would be fetched, and fetch nothing.")
@options.JSON
@options.QUIET
@options.VERBOSE
@options.LOG
@options.DEBUG
@click.pass_context
def pull(ctx: click.Context, /, words: tuple[str, ...], **given: Any) -> None:
    """Pull images from a host's docker to the engine here, and fetch only the layers that it lacks.

    It is a push the other way: over one SSH session, verified, and named only then. IMAGE is a name, name:tag,
    name@digest or an image ID of the docker on HOST, which is [ssh://][user@]host[:port], or an alias of your
    ssh_config. The engine here is found as a target's is: docker first.
    """
    assert isinstance(ctx.command, options.Command)
    if len(words) < 2:  # noqa: PLR2004 - an image, and a host
        raise UsageError("there must be an image and a host", hint="layerferry pull app:1 deploy@host")
    job = _job(words, given["config"])
    open_log(given["log"], verbose=given["verbose"])
    ssh = Ssh(given["ssh_options"], given["ssh_config"], sys.stdin.isatty() and not given["as_json"])
    with contextlib.ExitStack() as stack:
        ssh = with_material(stack, ssh, job.targets)
        there = start(stack, job.targets[0], ssh, settings.environment())
        assert isinstance(there, Target)
        chosen = settings.load({name: given[name] for name in ctx.command.settings}, job.filed)
        if not chosen.quiet:
            warn_of_unknown()
        tell_names(job.told, chosen)
        _pull(_wanted(job.images, given["names"]), there, here(stack), chosen, given)


def _job(words: tuple[str, ...], config: Path | None) -> Job:
    """The images and the host that the words say, which may be names of the project's file.

    Of its options those count that say how to pull, and not what a push does with the target.
    """
    *images, named = words
    refuse_hosts(images)
    job = Names((named,), config).job(images, (named,))
    if len(job.targets) > 1:
        raise UsageError(
            f"{named} is {len(job.targets)} hosts, and images are pulled from one", hint="Name one of them."
        )
    (host,) = job.targets
    if isinstance(host, str) and is_registry(host):
        from layerferry.mistakes import without_password

        raise UsageError(
            f"{without_password(host)} is a registry, and no host", hint="`docker pull` fetches out of registries."
        )
    return replace(job, filed={name: job.filed[name] for name in _HOW if name in job.filed})


def _wanted(images: Sequence[str], names: Sequence[str]) -> "list[Wanted]":
    from layerferry.mistakes import without_password
    from layerferry.push.request import wanted
    from layerferry.sources import in_our_words, kind_of

    if odd := next((image for image in images if kind_of(in_our_words(image)) != "daemon"), ""):
        raise UsageError(
            f"{without_password(odd)} is no image of a host's docker", hint="Write its name, name:tag or image ID."
        )
    return wanted(images, names)


def _pull(images: "Sequence[Wanted]", host: Target, target: Target, chosen: "Settings", given: dict[str, Any]) -> None:
    """Pull; `given` are the options of the command line, `chosen` the settings that they make."""
    from layerferry.context import Context
    from layerferry.push.request import Options

    how = Options(
        platform=chosen.parsed_platform,
        allow_platform_mismatch=given["allow_platform_mismatch"],
        dry_run=given["dry_run"],
        engine=str(TargetEngine.parse(given["engine"])) if given["engine"] else "",
        retries=chosen.retries,
        source=host.name,
    )
    around = Context.look(chosen, settings.environment()).of_host(host)
    with open_report(given["as_json"], chosen) as report:
        results, _ = around.push(images, [target], how, report)
    end_with(results)
