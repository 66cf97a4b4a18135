"""The command `man`: our manual page, made of what `--help` shows."""

import inspect
import re
from collections.abc import Iterator

import click

from layerferry import __version__
from layerferry.cli import options
from layerferry.cli.around import end
from layerferry.streams import stdout

_EXITS = (
    ("0", "done"),
    ("1", "what was asked for could not be written, or a fault of ours"),
    ("2", "usage or settings"),
    ("3", "source"),
    ("4", "connection"),
    ("5", "target"),
    ("6", "verification"),
    ("7", "a route that was asked for by name failed"),
    ("130", "interrupted"),
)


@click.command(cls=options.Command, examples=("layerferry man | man -l -",))
@options.DEBUG
def man() -> None:
    """Print the manual page of it all."""
    from layerferry.cli import cli  # noqa: PLC0415 - it is what has loaded us

    stdout().write("\n".join(page(cli)) + "\n")
    end(0, asked=True)


def page(cli: click.Group) -> Iterator[str]:
    """The lines of the page, in the macros of man(7)."""
    from layerferry.settings.values import FIELDS, variables  # noqa: PLC0415 - for a page alone

    context = click.Context(cli, info_name="layerferry")
    commands = [command for name in cli.list_commands(context) if (command := cli.get_command(context, name))]
    yield f'.TH LAYERFERRY 1 "" "layerferry {__version__}" "User Commands"'
    yield from (".SH NAME", _text(f"layerferry - {_first(cli)}"), ".SH SYNOPSIS")
    for command in commands:
        usage = " ".join(command.collect_usage_pieces(click.Context(command, info_name=command.name)))
        yield from (".br", f"\\fBlayerferry {_text(command.name or '')}\\fR {_text(usage)}")
    yield ".SH COMMANDS"
    for command in commands:
        yield from _command(command)
    yield ".SH ENVIRONMENT"
    for field in FIELDS:
        yield from _entry(", ".join(variables(field.name)), field.metadata["says"].replace("`", ""))
    yield ".SH EXIT STATUS"
    for code, meaning in _EXITS:
        yield from _entry(code, meaning)
    yield from (".SH SEE ALSO", _text("ssh(1), ssh_config(5), docker(1), skopeo(1)"))


def _first(command: click.Command) -> str:
    return " ".join(inspect.cleandoc(command.help or "").partition("\n\n")[0].split())


def _command(command: click.Command) -> Iterator[str]:
    yield f".SS {_text(command.name or '')}"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield from (".PP", _text(" ".join(paragraph.split())))
    for example in getattr(command, "examples", ()):
        yield from (".EX", _text(example), ".EE")
    context = click.Context(command, info_name=command.name)
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)):
            yield from _entry(*record)


def _entry(term: str, says: str) -> Iterator[str]:
    yield from (".TP", f"\\fB{_text(term)}\\fR", _text(says))


def _text(text: str) -> str:
    """Text for troff: what it takes for a request, an escape or a hyphen is none."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"(?m)^(?=[.'])", r"\\&", escaped)
