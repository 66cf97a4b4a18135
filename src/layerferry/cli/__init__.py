"""The command line: one module a command, loaded when it is called. Only this package knows click."""

import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

import click

from layerferry import __version__, log, settings
from layerferry.cli.around import end
from layerferry.errors import Halt, Interrupted, LayerferryError, UsageError, interruption
from layerferry.streams import stderr, taken, trace

#: What a shell asks by, once it has read what `completion` prints.
COMPLETE = "_LAYERFERRY_COMPLETE"
#: click 8.1 shows the help, and ends well.
_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())

#: The commands, as help lists them, and the module of each.
_HOMES: Mapping[str, str] = {
    "push": "push_command",
    "pull": "pull_command",
    "run": "run_command",
    "rollback": "rollback_command",
    "doctor": "doctor_command",
    "gc": "gc_command",
    "sign": "signing_commands",
    "verify": "signing_commands",
    "completion": "completion_command",
    "plugin": "plugin_command",
    "man": "man_command",
    "receive": "",
}


class Commands(click.Group):
    """The commands, each loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if not _HOMES.get(cmd_name):
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(f"{__name__}.{_HOMES[cmd_name]}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with its whole summary."""
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(command)) for name, command in found.items() if command])


def _summary(command: click.Command) -> str:
    return " ".join((command.help or "").partition("\n\n")[0].split())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="layerferry")
def cli() -> None:
    """Move container images to machines that are reached over SSH, and send only what they lack."""


@cli.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def receive(arguments: tuple[str, ...]) -> None:
    """Play the target's part, over stdin and stdout: a forced command for a locked-down host."""
    from layerferry.receive import program  # noqa: PLC0415

    sys.exit(program.main(arguments, settings.environment()))


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """Raise a `Halt`; for SIGINT what Python raises, which is counted all the same."""
    halt = Halt(Interrupted())
    raise KeyboardInterrupt if number == signal.SIGINT else halt


def _misread(error: click.ClickException) -> UsageError:
    """A complaint of click's, in our form."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "layerferry"
    return UsageError(error.format_message(), hint=f"`{command} --help` shows what there is.")


def main(argv: Sequence[str] | None = None, program: str = "layerferry") -> None:
    """Run the command line, and end the process with one of the exit codes of `errors`.

    `program` is what help calls it.
    """
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        # nohup has one ignored, and docker's plugin has its own
        if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
            signal.signal(number, _interrupt)
    arguments = sys.argv[1:] if argv is None else list(argv)
    trace(arguments)
    with taken():
        try:
            _run(arguments, program)
        finally:
            if trouble := log.close():
                stderr().line(f"warning: {trouble}")


def _run(arguments: list[str], program: str) -> NoReturn:
    if asked := settings.environment().get(COMPLETE):
        from layerferry.cli.completion import answer  # noqa: PLC0415 - for a shell alone

        sys.exit(answer(cli, asked))
    try:
        cli.main(arguments, prog_name=program, standalone_mode=False)
        end(0, asked=True)
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
