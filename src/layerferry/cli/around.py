"""What the commands share: the log, the key and known hosts of variables, the report, the end."""

import contextlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from layerferry import log, settings
from layerferry.errors import OutputError
from layerferry.streams import stderr, stdout
from layerferry.targets.address import Ssh

if TYPE_CHECKING:
    from layerferry.named_targets import Word
    from layerferry.report import Report
    from layerferry.result import Result
    from layerferry.settings.values import Placed, Settings

# ssh is started first of all, and shakes hands while we load the rest: hence the imports inside functions.
# ruff: noqa: PLC0415

_OF_THE_IMAGES = "What became of the images is not touched by that."


def open_log(path: str | None, *, verbose: bool | None = None) -> None:
    """Open the log where one is asked for; without one, ssh is not to wait for the settings."""
    if path or verbose or settings.has_log():
        log_to(settings.load({"log": path, "verbose": verbose}))


def log_to(chosen: "Settings") -> None:
    if chosen.log or chosen.verbose:
        from layerferry.settings.values import origins

        say = stderr().line if chosen.verbose else None
        log.open_file(chosen.log, chosen.known_secrets, settings.environment(), say)
        for origin in origins(chosen, settings.environment(), {}, {}):
            if origin.source != "default":
                log.note("settings", f"{origin.variable}={origin.value}")


def with_material(
    stack: contextlib.ExitStack,
    ssh: Ssh,
    targets: "Iterable[Word]",
    given: Mapping[str, Any] | None = None,
    filed: "Mapping[str, Placed] | None" = None,
    *,
    images: Iterable[str] = (),
    daemon: bool = False,
) -> Ssh:
    """How to call ssh, with the key and the known hosts that variables give, where it is called.

    It is for the targets, for the hosts where something follows, and for the `daemon`, or one that has the images.
    """
    if not settings.has_ssh_material():
        return ssh
    from layerferry import context
    from layerferry.sources import wants_daemon

    chosen, asked = settings.load(given, filed), None
    if daemon or wants_daemon(images):
        asked = context.Context.look(chosen, settings.environment()).topology.daemon
    called = context.calls_ssh((*targets, *chosen.then_on), asked)
    return stack.enter_context(context.with_material(chosen, ssh, called=called))


def refuse_hosts(images: Iterable[str]) -> None:
    """Raise a `UsageError` for a host among words that are to be images, before anything connects."""
    for image in images:
        if "@" in image or "//" in image:
            from layerferry.mistakes import of_image

            if mistake := of_image(image):
                raise mistake


def warn_of_unknown() -> None:
    """Tell of variables that begin as ours do and are none, and of those that have a better way."""
    for sentence in (*settings.unknown(), *settings.discouraged()):
        stderr().line(f"warning: {sentence}")


def tell_names(told: Iterable[str], chosen: "Settings") -> None:
    """Tell what names of the project's file stand for."""
    for sentence in told if not chosen.quiet else ():
        stderr().line(sentence)


def show_settings(
    chosen: "Settings", environ: Mapping[str, str], given: Mapping[str, Any], filed: "Mapping[str, Placed]"
) -> None:
    """Show each setting, and where it comes from."""
    from layerferry.ci.escape import one_line
    from layerferry.settings.values import origins

    warn_of_unknown()
    for origin in origins(chosen, environ, given, filed):
        stdout().write(one_line(f"{origin.variable}={origin.value}  # {origin.source}") + "\n")


def end_with(results: "Sequence[Result]") -> NoReturn:
    """Tell each error of a push once, and end the process with the exit code of all."""
    from layerferry.result import exit_code, failures

    for error in failures(results):
        stderr().complain(error)
    end(exit_code(results))


def open_report(as_json: bool, chosen: "Settings") -> "Report":  # noqa: FBT001
    from layerferry.report import JsonReport, PlainReport, QuietReport

    if as_json:
        return JsonReport(stdout(), (lambda _: None) if chosen.quiet else stderr().line)
    if chosen.quiet:
        return QuietReport(stdout().line)
    # A display that is drawn anew would be written into by the lines of the log.
    if chosen.verbose or not stdout().isatty() or settings.environment().get("TERM") == "dumb":
        return PlainReport(stdout().line)
    from layerferry.report.terminal import TerminalReport

    return TerminalReport()


def end(code: int, *, asked: bool = False) -> NoReturn:
    """End with `code`: it tells of the images, whatever became of the log.

    Where nothing but an answer on stdout was `asked` for, one that cannot be written is a failure.
    """
    out = stdout()
    out.flush()
    if trouble := out.trouble:
        stderr().complain(OutputError(f"stdout could not be written: {trouble}", hint=_OF_THE_IMAGES))
    sys.exit(code or (OutputError.exit_code if asked and trouble else 0))
