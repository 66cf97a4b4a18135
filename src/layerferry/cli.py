"""The command line: one thin function a command. Only this module knows click."""

import contextlib
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from layerferry import __version__, log, settings
from layerferry.ci.escape import one_line
from layerferry.errors import Halt, Interrupted, LayerferryError, OutputError, UsageError, interruption
from layerferry.streams import stderr, stdout, taken, trace
from layerferry.targets import is_registry
from layerferry.targets.address import AnyTarget, Ssh, start
from layerferry.targets.engine_choice import TargetEngine

if TYPE_CHECKING:
    from layerferry.report import Report
    from layerferry.settings.values import Settings

# ssh is started first of all, and shakes hands while we load the rest: hence the imports inside functions.
# ruff: noqa: PLC0415


#: `streams.trace` reads it, before click does.
_DEBUG = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
_PLATFORM = click.option("--platform", metavar="OS/ARCH", help="Which platform of a multi-platform image.")
_LOG = click.option("--log", metavar="FILE", help="Append a log of the run to it, secrets masked.")

#: click 8.1 shows the help, and ends well.
_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())

#: Options of `push` that are settings.
_SETTINGS = ("route", "platform", "compression", "timeout", "jobs", "retries", "whole_layers", "sign_key", "signatures")


class PushCommand(click.Command):
    """`push IMAGE... -- COMMAND...`: what follows `--` is a conduit, and click would not tell us where it began."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            split = args.index("--")
            ctx.meta["layerferry.command"] = tuple(args[split + 1 :])
            args = args[:split]
        return super().parse_args(ctx, args)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="layerferry")
def cli() -> None:
    """Move container images to machines that are reached over SSH, and send only what they lack."""


@cli.command(cls=PushCommand, no_args_is_help=True, options_metavar="[OPTIONS]")
@click.argument("words", nargs=-1, metavar="IMAGE... TARGET | IMAGE... -- COMMAND...")
@click.option("--to", "more", multiple=True, metavar="TARGET", help="A further target.  [repeatable]")
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME[:TAG]",
    help="The name on the target, if not the source's.  [repeatable]",
)
@click.option("--via", default="", metavar="HOST", help="The host that reaches a registry, as ssh names it.")
@click.option("--route", metavar="NAME", help="auto, registry, ngrok or export.  [default: auto]")
@_PLATFORM
@click.option("--allow-platform-mismatch", is_flag=True, help="Push an image that the target's platform cannot run.")
@click.option("--compression", metavar="METHOD[:LEVEL]", help="auto, zstd, gzip or none.  [default: auto]")
@click.option(
    "--engine",
    default="",
    metavar="[USER@]NAME[:NAMESPACE]",
    help="The target's engine: docker, podman, k3s, rke2, k0s, microk8s, ctr or nerdctl, all but two with a "
    "namespace of containerd; root@podman is root's, user@docker a rootless one.  [default: found]",
)
@click.option("--ssh-option", "ssh_options", multiple=True, metavar="KEY=VALUE", help="ssh's -o.  [repeatable]")
@click.option("--ssh-config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="ssh's -F.")
@click.option("--sign-key", metavar="FILE", help="Sign the images with this key, where the target wants them signed.")
@click.option("--signature", "signatures", multiple=True, metavar="FILE", help="What `sign` wrote.  [repeatable]")
@click.option("--jobs", type=int, metavar="N", help="How many targets to push to at once.  [default: 8]")
@click.option("--whole-layers", is_flag=True, default=None, help="Send layers whole, and never as patches.")
@click.option("--retries", type=int, metavar="N", help="Further tries where a connection breaks.  [default: 3]")
@click.option(
    "--timeout",
    type=float,
    metavar="SECONDS",
    help="Give up after this long. What stands still ends by itself.  [default: never]",
)
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else, on stdout.")
@_LOG
@_DEBUG
@click.pass_context
def push(ctx: click.Context, /, words: tuple[str, ...], more: tuple[str, ...], **given: Any) -> None:
    """Push images to hosts, each over one SSH session, and send only the layers that they lack.

    IMAGE is a name, name:tag, name@digest or an image ID of a docker daemon. Or, without one, it is oci:PATH[:TAG],
    archive:PATH or registry:HOST/NAME:TAG. TARGET is [ssh://][user@]host[:port], or an alias of your ssh_config;
    ?engine=NAME[&namespace=NAMESPACE][&as=root] after it says which engine of that host. Or it is
    registry://host[:port][/prefix], a registry, which --via reaches through ssh.
    """
    images, targets = _split(words, more, ctx.meta.get("layerferry.command", ()))
    _open_log(given.pop("log"))
    ssh = Ssh(given.pop("ssh_options"), given.pop("ssh_config"), sys.stdin.isatty() and not given["as_json"])
    targets = _through(targets, given.pop("via"))
    with contextlib.ExitStack() as stack:
        if settings.has_ssh_material():
            ssh = _with_material(stack, ssh)
        jobs = settings.load({"jobs": given["jobs"]}).jobs if len(targets) > 1 else 1
        started = [
            start(stack, target, ssh, settings.environment(), now=number < jobs)
            for number, target in enumerate(targets)
        ]
        _push(images, started, ssh, **given)


def _open_log(path: str | None) -> None:
    """Open the log where one is asked for; without one, ssh is not to wait for the settings."""
    if path or settings.has_log():
        _log_to(settings.load({"log": path}))


def _log_to(chosen: "Settings") -> None:
    if chosen.log:
        from layerferry.settings.values import origins

        log.open_file(chosen.log, chosen.known_secrets, settings.environment())
        for origin in origins(chosen, settings.environment(), {}):
            if origin.source != "default":
                log.note("settings", f"{origin.variable}={origin.value}")


def _through(targets: list[str | tuple[str, ...]], via: str) -> list[str | tuple[str, ...]]:
    """The targets, with the way to each registry; the settings are loaded only where they may say one."""
    if not via and not any(map(is_registry, targets)):
        return targets
    from layerferry.targets.registry_address import check_via, through

    if via:
        check_via(targets, "--via")
    via = via or settings.load().via
    return [through(target, via) if isinstance(target, str) else target for target in targets]


def _with_material(stack: contextlib.ExitStack, ssh: Ssh) -> Ssh:
    from layerferry.context import ssh_options

    options = stack.enter_context(ssh_options(settings.load()))
    return replace(ssh, options=(*ssh.options, *options))


def _split(
    words: tuple[str, ...], more: tuple[str, ...], command: tuple[str, ...]
) -> tuple[tuple[str, ...], list[str | tuple[str, ...]]]:
    """Tell images from targets. The last word is a target, unless a command or `--to` takes its place."""
    last = 0 if command or (more and len(words) == 1) else 1
    images = words[: len(words) - last]
    targets: list[str | tuple[str, ...]] = [*words[len(words) - last :], *more]
    if command:
        targets.append(command)
    if not images or not targets:
        raise UsageError("there must be an image and a target", hint="layerferry push app:1 deploy@host")
    return images, targets


def _push(images: Sequence[str], targets: Sequence[AnyTarget], ssh: Ssh, *, as_json: bool, **given: Any) -> None:
    from layerferry.context import Context, offered
    from layerferry.push.request import Wanted
    from layerferry.result import exit_code, failures

    if given["names"] and len(images) > 1:
        raise UsageError("--name goes with one image", hint="Push them one by one, or tag them at the source.")
    wanted = [Wanted.of(image, given["names"]) for image in images]
    engine = str(TargetEngine.parse(given["engine"])) if given["engine"] else ""
    chosen = settings.load({name: given[name] for name in _SETTINGS})
    around = Context.look(chosen, settings.environment(), ssh)
    with offered(chosen) as offer, _report(as_json=as_json) as report:
        options = around.options(
            allow_platform_mismatch=given["allow_platform_mismatch"],
            dry_run=given["dry_run"],
            engine=engine,
            offer=offer,
        )
        results, _ = around.push(wanted, targets, options, report)
    for error in failures(results):
        stderr().complain(error)
    _end(exit_code(results))


@cli.command()
@click.option("--print-config", is_flag=True, help="Show each setting and where it comes from, secrets masked.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else, on stdout.")
@_LOG
@_DEBUG
def run(*, print_config: bool, dry_run: bool, as_json: bool, log: str | None) -> None:
    """Push what the environment says: the CI step.

    LAYERFERRY_IMAGES and LAYERFERRY_TARGETS say what and where; the README has the table of all variables.
    """
    environ = settings.environment()
    try:
        chosen = settings.load({"log": log})
        if not print_config:
            _log_to(chosen)
    except UsageError as error:
        from layerferry.ci_run import complain

        complain(error, environ, (stderr() if as_json else stdout()).verbatim)
        sys.exit(error.exit_code)
    if print_config:
        from layerferry.settings.values import origins

        for origin in origins(chosen, environ, {"log": log}):
            stdout().write(one_line(f"{origin.variable}={origin.value}  # {origin.source}") + "\n")
        return
    from layerferry import ci_run

    _end(ci_run.run(chosen, environ, dry_run=dry_run, as_json=as_json))


@cli.command()
@click.argument("image")
@click.option(
    "--key", required=True, metavar="KEY", help="A private key, or the public one of a key that an agent has."
)
@click.option("--name", "names", multiple=True, metavar="NAME[:TAG]", help="A name that it may get.  [repeatable]")
@click.option("--expires", default="", metavar="TIME", help="How long it may be pushed: 12h, 30d.  [default: no end]")
@_PLATFORM
@click.option("--output", default="-", metavar="FILE", help="Where the signature goes.  [default: stdout]")
@_DEBUG
def sign(image: str, *, platform: str | None, **given: Any) -> None:
    """Sign an image for the names that it may get on a target, with an SSH key."""
    from layerferry import image_signing

    stdout().write(image_signing.sign(settings.load({"platform": platform}), image, **given))
    _end(0, asked=True)


@cli.command()
@click.argument("image", metavar="IMAGE|FILE")
@click.option("--signers", required=True, metavar="FILE", help="Whose signatures are good: allowed_signers(5).")
@click.option("--signature", "signatures", multiple=True, metavar="FILE", help="One on IMAGE.  [repeatable]")
@click.option("--revoked", multiple=True, metavar="FILE", help="Keys that count no longer.  [repeatable]")
@_PLATFORM
@_DEBUG
def verify(image: str, *, platform: str | None, **given: Any) -> None:
    """Show who has signed an image, and when."""
    from layerferry import image_signing

    for line in image_signing.verify(settings.load({"platform": platform}), image, **given):
        stdout().line(line)
    _end(0, asked=True)


@cli.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def receive(arguments: tuple[str, ...]) -> None:
    """Play the target's part, over stdin and stdout: a forced command for a locked-down host."""
    from layerferry.receive import program

    sys.exit(program.main(arguments, settings.environment()))


@cli.command()
@click.argument("target", required=False)
@click.option("--via", default="", metavar="HOST", help="The host that reaches a registry, as ssh names it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else, on stdout.")
@click.option("--ssh-option", "ssh_options", multiple=True, metavar="KEY=VALUE", help="ssh's -o.  [repeatable]")
@click.option("--ssh-config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="ssh's -F.")
@_LOG
@_DEBUG
def doctor(target: str | None, *, via: str, as_json: bool, log: str | None, **ssh: Any) -> None:
    """Show what is where and what reaches what, the route that would be taken, and why. Sends nothing."""
    from layerferry.context import bounded
    from layerferry.doctor import examine, show
    from layerferry.targets.registry_address import check_via, through

    chosen = settings.load({"log": log})
    _log_to(chosen)
    ssh_settings = Ssh(ssh["ssh_options"], ssh["ssh_config"])
    if via:
        check_via([target or ""], "--via")
    if target:
        target = through(target, via or chosen.via)
    with contextlib.ExitStack() as stack, bounded(chosen.timeout):
        if settings.has_ssh_material():
            ssh_settings = _with_material(stack, ssh_settings)
        findings = examine(chosen, settings.environment(), target, ssh_settings)
    show(findings, stdout(), as_json=as_json)
    _end(findings.exit_code, asked=True)


def _report(*, as_json: bool) -> "Report":
    from layerferry.report import JsonReport, PlainReport

    if as_json:
        return JsonReport(stdout(), stderr().line)
    if not stdout().isatty():
        return PlainReport(stdout().line)
    from layerferry.report.terminal import TerminalReport

    return TerminalReport()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise Halt(Interrupted())


def _end(code: int, *, asked: bool = False) -> NoReturn:
    """End with `code`: it tells of the images, whatever became of the log.

    Where nothing but an answer on stdout was `asked` for, one that cannot be written is a failure.
    """
    out = stdout()
    out.flush()
    if trouble := out.trouble:
        stderr().complain(OutputError(f"stdout could not be written: {trouble}", hint=_OF_THE_IMAGES))
    sys.exit(code or (OutputError.exit_code if asked and trouble else 0))


_OF_THE_IMAGES = "What became of the images is not touched by that."


def _misread(error: click.ClickException) -> UsageError:
    """A complaint of click's, in our form."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "layerferry"
    return UsageError(error.format_message(), hint=f"`{command} --help` shows what there is.")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line, and end the process with one of the exit codes of `errors`."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _interrupt)
    arguments = sys.argv[1:] if argv is None else list(argv)
    trace(arguments)
    with taken():
        try:
            _run(arguments)
        finally:
            if trouble := log.close():
                stderr().line(f"warning: {trouble}")


def _run(arguments: list[str]) -> NoReturn:
    try:
        cli.main(arguments, prog_name="layerferry", standalone_mode=False)
        _end(0, asked=True)
    except _NO_ARGUMENTS as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        failure: LayerferryError = _misread(error)
        failure.__cause__ = error
    except click.Abort:
        failure = Interrupted()
    except LayerferryError as error:
        failure = error
    except BaseException as error:
        if (halted := interruption(error)) is None:
            if not isinstance(error, SystemExit):
                log.failure("error", error)
            raise
        failure = halted
    log.failure("error", failure)
    stderr().complain(failure)
    sys.exit(failure.exit_code)
