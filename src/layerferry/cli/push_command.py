"""The command `push`: its words, images first and targets last, and its options."""

import contextlib
import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from layerferry import settings
from layerferry.cli import options
from layerferry.cli.around import (
    end_with,
    open_log,
    open_report,
    show_settings,
    tell_names,
    warn_of_unknown,
    with_material,
)
from layerferry.cli.options import WHAT, option, values
from layerferry.errors import MissingImageError, UsageError
from layerferry.named_targets import Job, Names
from layerferry.streams import stderr
from layerferry.targets import is_registry
from layerferry.targets.address import AnyTarget, Ssh, start
from layerferry.targets.engine_choice import TargetEngine

if TYPE_CHECKING:
    from layerferry.result import Result

# ssh is started first of all, and shakes hands while we load the rest: hence the imports inside functions.
# ruff: noqa: PLC0415

#: Most names of images, and those of other sources.
_PLAIN = re.compile(
    r"[a-z0-9](?:[a-z0-9./_-]*(?::[0-9]+/[a-z0-9./_-]*)?[a-z0-9])?(?::\w[\w.-]*)?|(?:oci|archive|registry):.+"
)
#: The settings that the variables say to `run` alone.
_WORDS_ALONE = ("names", "compose", "services")
_EXAMPLES = (
    "layerferry push app:2 deploy@prod",
    "layerferry push app:2 web:2 deploy@prod --to deploy@eu",
    "layerferry push oci:build/image deploy@prod --name app:2",
    "layerferry push app:2 -- kubectl exec -i pod -- sh",
    "layerferry push app:2 deploy@prod --then 'systemctl --user restart app'",
    "layerferry push --compose compose.yaml --up deploy@prod",
    "layerferry push app prod   # a target and an image that layerferry.toml names",
)


class PushCommand(options.Command):
    """`push IMAGE... -- COMMAND...`: what follows `--` is a conduit, and click would not tell us where it began."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            split = args.index("--")
            ctx.meta["layerferry.command"] = tuple(args[split + 1 :])
            args = args[:split]
        return super().parse_args(ctx, args)


@click.command(cls=PushCommand, examples=_EXAMPLES, no_args_is_help=True, options_metavar="[OPTIONS]")
@click.argument("words", nargs=-1, metavar="IMAGE... TARGET | IMAGE... -- COMMAND...", shell_complete=values("words"))
@option(
    "--to",
    "more",
    group=WHAT,
    multiple=True,
    metavar="TARGET",
    shell_complete=values("hosts"),
    help="A further target.  [repeatable]",
)
@options.CONFIG
@options.NAME
@options.COMPOSE
@options.SERVICE
@options.VIA
@option(
    "--engine",
    group=WHAT,
    default="",
    metavar="[USER@]NAME[:NAMESPACE]",
    shell_complete=values("engine"),
    help="The target's engine: docker, podman, k3s, rke2, k0s, microk8s, ctr or nerdctl, all but two with a "
    "namespace of containerd; root@podman is root's, user@docker a rootless one.  [default: found]",
)
@options.ROUTE
@options.PLATFORM
@option("--allow-platform-mismatch", is_flag=True, help="Push an image that the target's platform cannot run.")
@option(
    "--compression",
    is_setting=True,
    metavar="METHOD[:LEVEL]",
    shell_complete=values("compression"),
    help="auto, zstd, gzip or none.  [default: auto]",
)
@option("--sign-key", is_setting=True, metavar="FILE", help="Sign the images, where the target wants them signed.")
@option(
    "--signature", "signatures", is_setting=True, multiple=True, metavar="FILE", help="What `sign` wrote.  [repeatable]"
)
@options.KEEP_PREVIOUS
@options.PRUNE
@option("--jobs", is_setting=True, type=int, metavar="N", help="How many targets to push to at once.  [default: 8]")
@option("--whole-layers", is_setting=True, is_flag=True, default=None, help="Send layers whole, and never as patches.")
@options.RETRIES
@options.TIMEOUT
@options.UP
@options.following
@options.SSH_OPTION
@options.SSH_CONFIG
@options.DRY_RUN
@options.JSON
@options.PRINT_CONFIG
@options.QUIET
@options.VERBOSE
@options.LOG
@options.DEBUG
@click.pass_context
def push(ctx: click.Context, /, words: tuple[str, ...], more: tuple[str, ...], **given: Any) -> None:
    """Push images to hosts, each over one SSH session, and send only the layers that they lack.

    IMAGE is a name, name:tag, name@digest or an image ID of a docker daemon. Or, without one, it is oci:PATH[:TAG],
    archive:PATH or registry:HOST/NAME:TAG. TARGET is [ssh://][user@]host[:port], or an alias of your ssh_config;
    ?engine=NAME[&namespace=NAMESPACE][&as=root] after it says which engine of that host. Or it is
    registry://host[:port][/prefix], a registry, which --via reaches through ssh. IMAGE and TARGET may be names of the
    project's layerferry.toml, too.
    """
    assert isinstance(ctx.command, PushCommand)
    job = _job(words, more, ctx.meta.get("layerferry.command", ()), given)
    if given["print_config"]:
        return _show(job, {name: given[name] for name in ctx.command.settings}, given)
    given |= {name: job.filed_value(name, given[name]) for name in _WORDS_ALONE}
    if given["services"] and not given["compose"]:
        raise UsageError("--service is for services of a compose file", hint="Say which file: --compose compose.yaml.")
    open_log(given["log"], verbose=given["verbose"])
    ssh = Ssh(given["ssh_options"], given["ssh_config"], sys.stdin.isatty() and not given["as_json"])
    targets = _through(job, given["via"])
    with contextlib.ExitStack() as stack:
        places, composed = {"then_on": given["then_on"]}, bool(given["compose"])
        ssh = with_material(stack, ssh, targets, places, job.filed, images=job.images, daemon=composed)
        jobs = settings.load({"jobs": given["jobs"]}, job.filed).jobs if len(targets) > 1 else 1
        started = [
            start(stack, target, ssh, settings.environment(), now=number < jobs)
            for number, target in enumerate(targets)
        ]
        _push(job, started, ssh, {name: given[name] for name in ctx.command.settings}, given)
    return None


def _job(words: tuple[str, ...], more: tuple[str, ...], command: tuple[str, ...], given: dict[str, Any]) -> Job:
    """What the words say to push, and where to, with what the project's file says of it."""
    names = Names((*more, *words[-1:]), given["config"])
    images, targets = _split(words, more, command, composed=bool(given["compose"]) or names.composes)
    _check(images, given["names"], (*more, *words)[-1] if words or more else "")
    job = names.job(images, targets, given)
    _check(job.images, job.filed_value("names", given["names"]), "")
    return job


def _show(job: Job, overrides: dict[str, Any], given: dict[str, Any]) -> None:
    """Show the settings of a push: its words, and the variables that count for it."""
    from dataclasses import replace

    said = {name: given[name] for name in _WORDS_ALONE}
    targets = tuple(one if isinstance(one, str) else f"-- {' '.join(one)}" for one in job.targets)
    words: dict[str, Any] = {"images": job.images, "targets": targets}
    known = {name: job.filed_value(name, value) for name, value in said.items()}
    deaf = {f"LAYERFERRY_{name.upper()}" for name in (*said, *words)}
    environ = {name: value for name, value in settings.environment().items() if name.upper() not in deaf}
    overrides |= {"via": given["via"]}
    chosen = replace(settings.load(overrides, job.filed), **words, **known)
    show_settings(chosen, environ, overrides | said | words, job.filed)
    tell_names(job.told, chosen)


def _through(job: Job, via: str) -> Sequence[str | tuple[str, ...]]:
    """The targets, with the way to each registry; the settings are loaded only where they may say one."""
    targets = job.targets
    if not via and not any(map(is_registry, targets)):
        return targets
    from layerferry.targets.registry_address import check_via, through

    if via:
        check_via(targets, "--via")
    via = via or settings.load({}, job.filed).via
    return [through(target, via) if isinstance(target, str) else target for target in targets]


def _split(
    words: tuple[str, ...], more: tuple[str, ...], command: tuple[str, ...], *, composed: bool
) -> tuple[tuple[str, ...], list[str | tuple[str, ...]]]:
    """Tell images from targets. The last word is a target, unless a command or `--to` takes its place.

    Where a compose file names images, there need be no further one.
    """
    last = 0 if command or not words or (more and len(words) == 1 and not composed) else 1
    images = words[: len(words) - last]
    targets: list[str | tuple[str, ...]] = [*words[len(words) - last :], *more]
    if command:
        targets.append(command)
    if not (images or composed) or not targets:
        raise UsageError("there must be an image and a target", hint="layerferry push app:1 deploy@host")
    return images, targets


def _check(images: Sequence[str], names: Sequence[str], last: str) -> None:
    """Look at the images before anything connects; what looks like a name is read later, while ssh shakes hands."""
    odd = [image for image in images if not _PLAIN.fullmatch(image)]
    if odd:
        from layerferry.mistakes import of_words
        from layerferry.push.request import Wanted

        if mistake := of_words(images, last):
            raise mistake
        for image in odd:
            Wanted.of(image, names)


def _push(job: Job, targets: Sequence[AnyTarget], ssh: Ssh, overrides: dict[str, Any], given: dict[str, Any]) -> None:
    """Push; `overrides` are the options that are settings, `given` all of them."""
    from layerferry.context import Context, offered
    from layerferry.push.request import wanted

    engine = str(TargetEngine.parse(given["engine"])) if given["engine"] else ""
    chosen, images = settings.load(overrides, job.filed), job.images
    if not chosen.quiet:
        warn_of_unknown()
    tell_names(job.told, chosen)
    around = Context.look(chosen, settings.environment(), ssh)
    if given["compose"]:
        composed = around.composed(given["compose"], given["services"], stderr().line)
        images = tuple(dict.fromkeys([*images, *composed]))
    pushed = wanted(images, given["names"])
    with (
        offered(chosen) as offer,
        around.following(targets, given["compose"], given["services"]) as following,
        open_report(given["as_json"], chosen) as report,
    ):
        how = around.options(
            allow_platform_mismatch=given["allow_platform_mismatch"],
            dry_run=given["dry_run"],
            engine=engine,
            offer=offer,
            **following,
        )
        advise = partial(_advise, images=images, target=targets[0].name, given=given)
        results, _ = around.push(pushed, targets, how, report, advise)
    end_with(results)


def _advise(results: "Sequence[Result]", *, images: Sequence[str], target: str, given: dict[str, Any]) -> None:
    """Add to the error of a word that the daemon has no image for, and that may be a second host."""
    from layerferry.result import failures

    for error in failures(results):
        word = error.image
        # Where there are other tags of it, it is an image.
        is_missing = isinstance(error, MissingImageError) and not error.tags
        if (
            is_missing
            and word in images
            and len(images) > 1
            and not set(word) & set(":/@")
            and "--to" not in error.hint
        ):
            from layerferry.cli.completion import where_named
            from layerferry.mistakes import of_missing

            known = where_named(word, given["config"], given["ssh_config"])
            error.hint = f"{of_missing(word, images, target, known)} {error.hint}".strip()
