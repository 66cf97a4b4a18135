"""The command `gc`: what pushes that broke off have left on targets goes at once."""

import contextlib
from typing import Any

import click

from layerferry import settings
from layerferry.cli import options
from layerferry.cli.around import end, open_log, with_material
from layerferry.cli.options import WHAT, option
from layerferry.cli.push_command import PushCommand
from layerferry.errors import LayerferryError, TargetError, UsageError
from layerferry.named_targets import Names
from layerferry.streams import stderr, stdout
from layerferry.targets.address import AnyTarget, Ssh, Target, start

# ssh is started first of all, and shakes hands while we load the rest: hence the imports inside functions.
# ruff: noqa: PLC0415

_EXAMPLES = (
    "layerferry gc deploy@prod",
    "layerferry gc deploy@prod deploy@eu --json",
    "layerferry gc -- kubectl exec -i pod -- sh",
)


@click.command(cls=PushCommand, examples=_EXAMPLES, options_metavar="[OPTIONS]")
@click.argument("words", nargs=-1, metavar="TARGET... | -- COMMAND...")
@option("--engine", group=WHAT, default="", metavar="[USER@]NAME[:NAMESPACE]", help="The target's engine, as for push.")
@options.CONFIG
@options.SSH_OPTION
@options.SSH_CONFIG
@options.JSON
@options.LOG
@options.DEBUG
@click.pass_context
def gc(ctx: click.Context, /, words: tuple[str, ...], **given: Any) -> None:
    """Remove what pushes that broke off have left on targets: parts of layers, and throw-away names of images.

    Pushes do so by themselves, after two days at the latest. What a living session has is left alone. A target is
    written as for push; a registry collects what is left there by itself.
    """
    command = ctx.meta.get("layerferry.command", ())
    if not words and not command:
        raise UsageError("there must be a target", hint="layerferry gc deploy@host")
    job = Names(words, given["config"]).job((), words, {"engine": given["engine"]})
    targets = [*job.targets, *([command] if command else [])]
    open_log(given["log"])
    found, code = [], 0
    with contextlib.ExitStack() as stack:
        ssh = with_material(stack, Ssh(given["ssh_options"], given["ssh_config"]), targets)
        for target in [start(stack, target, ssh, settings.environment()) for target in targets]:
            try:
                swept, freed = _collect(target, given["engine"])
            except LayerferryError as error:
                stderr().complain(error)
                code = max(code, error.exit_code)
                continue
            found.append({"target": target.name, "names": swept, "bytes": freed})
            if not given["as_json"]:
                stdout().line(_told(target.name, swept, freed))
    if given["as_json"]:
        stdout().document({"collected": found})
    end(code, asked=True)


def _collect(target: AnyTarget, engine: str) -> tuple[int, int]:
    """How many throw-away names, and bytes of layers, were removed."""
    from layerferry.targets.conversation import Conversation
    from layerferry.targets.kept_pieces import collect

    if not isinstance(target, Target):
        raise UsageError(f"{target.name} is a registry, which collects by itself what is left there")
    with target.connect() as conduit:
        conversation = Conversation(conduit, engine)
        conversation.ask(())
        if not conversation.greeting().resumes:
            raise TargetError(f"{target.name} keeps nothing that could be removed: it is of an older version")
        found = collect(conversation)
        conversation.commit(())
    return found


def _told(target: str, swept: int, freed: int) -> str:
    from layerferry.result import size

    if not swept and not freed:
        return f"{target}  nothing was left there"
    names = "1 throw-away name" if swept == 1 else f"{swept} throw-away names"
    return f"{target}  {names} and {size(freed)} of layers removed"
