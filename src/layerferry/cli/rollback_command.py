"""The command `rollback`: a name goes back to what it pointed to before."""

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from layerferry import settings
from layerferry.cli import options
from layerferry.cli.around import end, open_log, refuse_hosts, tell_names, with_material
from layerferry.cli.options import WHAT, option
from layerferry.cli.push_command import PushCommand
from layerferry.errors import HALTED, UsageError
from layerferry.named_targets import Names
from layerferry.streams import stderr, stdout
from layerferry.targets.address import AnyTarget, Ssh, start
from layerferry.targets.engine_choice import TargetEngine

if TYPE_CHECKING:
    from layerferry.events import Event
    from layerferry.rollback import Exchange
    from layerferry.settings.values import Settings

# ssh is started first of all, and shakes hands while we load the rest: hence the imports inside functions.
# ruff: noqa: PLC0415

_EXAMPLES = (
    "layerferry rollback deploy@prod app",
    "layerferry rollback deploy@prod deploy@eu app:latest --to previous",
    "layerferry rollback prod app   # a target and an image that layerferry.toml names",
    "layerferry rollback registry://registry.internal:5000?via=deploy@bastion app",
)


@click.command(cls=PushCommand, examples=_EXAMPLES, no_args_is_help=True, options_metavar="[OPTIONS]")
@click.argument("words", nargs=-1, metavar="TARGET... NAME[:TAG] | NAME[:TAG] -- COMMAND...")
@option("--to", "tag", group=WHAT, default="", metavar="TAG", help="The tag to go back to.  [default: previous]")
@option("--then", group=options.AFTER, is_setting=True, metavar="COMMAND", help="Run this on each target afterwards.")
@option("--then-file", group=options.AFTER, is_setting=True, metavar="FILE", help="The same; a script, which is sent.")
@option(
    "--then-timeout", group=options.AFTER, is_setting=True, type=float, metavar="SECONDS", help="How long it may last."
)
@options.CONFIG
@options.VIA
@option("--engine", group=WHAT, default="", metavar="[USER@]NAME[:NAMESPACE]", help="The target's engine, as for push.")
@options.SSH_OPTION
@options.SSH_CONFIG
@option("--dry-run", group=options.TOLD, is_flag=True, help="Show what would go back, and change nothing.")
@options.JSON
@options.LOG
@options.DEBUG
@click.pass_context
def rollback(ctx: click.Context, /, words: tuple[str, ...], tag: str, **given: Any) -> None:
    """Give a name back to the image that it pointed to before.

    That image is the one that a push with --keep-previous has kept. The two are exchanged: the tag has then what was
    rolled back, and the same command once more rolls forward. Nothing is sent. TARGET is written as for push.
    """
    from layerferry.targets.registry_address import through

    command = ctx.meta.get("layerferry.command", ())
    if len(words) < 2 - bool(command):
        raise UsageError("there must be a target and a name", hint="layerferry rollback deploy@host app:latest")
    refuse_hosts(words[-1:])
    open_log(given["log"])
    begun = time.monotonic()
    ssh = Ssh(given["ssh_options"], given["ssh_config"], sys.stdin.isatty() and not given["as_json"])
    named = words[: len(words) - 1]
    names = Names(named, given["config"])
    overrides = {name: given[name] for name in ("then", "then_file", "then_timeout")}
    job = names.job((), named, {**overrides, "engine": given["engine"]})
    chosen = settings.load(overrides, job.filed)
    tell_names(job.told, chosen)
    with contextlib.ExitStack() as stack:
        via = given["via"] or chosen.via
        targets = [*(through(str(target), via) for target in job.targets), *([command] if command else [])]
        ssh = with_material(stack, ssh, targets)
        started = [start(stack, target, ssh, settings.environment()) for target in targets]
        name = names.image(words[-1]).removeprefix("registry:")
        done = _exchange(started, name, tag or chosen.keep_previous, chosen, given)
    if given["as_json"]:
        found = [one.to_json() for one in done]
        stdout().document({"results": found, "seconds": round(time.monotonic() - begun, 3)})
    end(max((one.error.exit_code for one in done if one.error), default=0), asked=True)


def _exchange(
    targets: Sequence[AnyTarget], name: str, tag: str, chosen: "Settings", given: dict[str, Any]
) -> list["Exchange"]:
    """Exchange on one target after the other, and tell of each. A signal ends it for those that come after."""
    from layerferry.context import bounded
    from layerferry.push.follow_up import FollowUp
    from layerferry.push.way_back import PREVIOUS
    from layerferry.rollback import Exchange, How, exchange, wanted

    names = wanted(name, tag or PREVIOUS)
    engine = str(TargetEngine.parse(given["engine"])) if given["engine"] else ""
    follow_up = FollowUp.read(chosen.then, chosen.then_file, (), after="each", on=(), seconds=chosen.then_timeout)
    say = stderr().line if given["as_json"] else stdout().line
    how = How(engine, follow_up, lambda event: _hear(event, say), given["dry_run"])
    done: list[Exchange] = []
    with bounded(chosen.timeout):
        for target in targets:
            if done and isinstance(done[-1].error, HALTED):
                done.append(Exchange(target.name, names[0], error=done[-1].error))
                continue
            done.append(exchange(target, names, how))
            if done[-1].error:
                stderr().complain(done[-1].error)
            if done[-1].image_id and not given["as_json"]:
                _tell(done[-1], dry_run=given["dry_run"])
    return done


def _hear(event: "Event", say: Callable[[str], None]) -> None:
    from layerferry.events import Following, Said

    match event:
        case Following():
            say(f"{event.target}  then: {event.what}")
        case Said():
            say(f"{event.target}  {event.text}")


def _tell(done: "Exchange", *, dry_run: bool) -> None:
    from layerferry.report.lines import familiar, short

    would = "would be" if dry_run else "is"
    stdout().line(f"{done.target}  {familiar([done.name])} {would} {short(done.image_id)} again")
    for image in done.kept:
        stdout().line(f"{done.target}  {familiar(image.names)} {would} {short(image.image_id)}, which was rolled back")
