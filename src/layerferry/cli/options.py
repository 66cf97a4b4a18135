"""Options and commands as click has them, with what our help adds: groups, examples, and the variable of a setting."""

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from layerferry.errors import UsageError

WHAT = "What, and where to"
HOW = "How"
AFTER = "What follows"
SSH = "ssh"
TOLD = "What is told"
_Function = TypeVar("_Function", bound=Callable[..., Any])
#: The groups of a help page, in this order.
_GROUPS = (WHAT, HOW, AFTER, SSH, TOLD)


class Option(click.Option):
    """An option in a group of its help page. Its value goes to the setting of its name where it `is_setting`."""

    def __init__(self, *words: Any, group: str = HOW, is_setting: bool = False, **how: Any) -> None:
        super().__init__(*words, **how)
        self.group = group
        self.is_setting = is_setting

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        if record is None or not self.is_setting:
            return record
        from layerferry.settings.values import variables  # noqa: PLC0415 - for help alone

        return record[0], f"{record[1]}  [{variables(str(self.name))[0]}]"


class Command(click.Command):
    """A command whose help page has its summary and `examples` first, and its options in their groups."""

    def __init__(self, *words: Any, examples: Sequence[str] = (), **how: Any) -> None:
        super().__init__(*words, **how)
        self.examples = examples

    @property
    def settings(self) -> list[str]:
        """The names of the options that are settings."""
        return [str(option.name) for option in self.params if isinstance(option, Option) and option.is_setting]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. An error of a word in another one's place gets the command's own order."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            if error.misplaced:
                from layerferry.mistakes import order  # noqa: PLC0415 - where there is one

                words, further = (ctx.params.get(name) or () for name in ("words", "more"))
                error.hint = f"{order(str(ctx.info_name), words, further, error.misplaced)} {error.hint}".strip()
            raise

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        program = str(ctx.find_root().info_name)
        examples = [re.sub("^layerferry(?= )", program, line) for line in self.examples]
        summary, _, rest = inspect.cleandoc(self.help or "").partition("\n\n")
        for text in (summary, rest):
            if text:
                formatter.write_paragraph()
                with formatter.indentation():
                    formatter.write_text(text)
            if text is summary and examples:
                with formatter.section("Examples"):
                    formatter.write("".join(f"{'':{formatter.current_indent}}{line}\n" for line in examples))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        grouped: dict[str, list[tuple[str, str]]] = {group: [] for group in _GROUPS}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)):
                grouped[getattr(parameter, "group", TOLD)].append(record)
        for group, records in grouped.items():
            if records:
                with formatter.section("Options" if list(filter(None, grouped.values())) == [records] else group):
                    formatter.write_dl(records)


class Variables(Command):
    """A command whose help page has the variables of all settings, too."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from layerferry.settings.values import FIELDS, variables  # noqa: PLC0415 - for help alone

        super().format_options(ctx, formatter)
        rows = [(variables(field.name)[0], field.metadata["says"].replace("`", "")) for field in FIELDS]
        with formatter.section("Variables"):
            formatter.write_dl(rows, col_max=40)


def values(kind: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What a shell offers as the value of a parameter, bounded in time and bytes, and never an error."""

    def offered(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        from layerferry.cli.completion import offer  # noqa: PLC0415 - for a shell alone

        del parameter
        return offer(kind, ctx, begun)

    return offered


def option(*words: str, group: str = HOW, is_setting: bool = False, **how: Any) -> Callable[[_Function], _Function]:
    """Declare an option. One that is a setting has the setting's name, and reaches `settings.load` by itself."""
    return click.option(*words, cls=Option, group=group, is_setting=is_setting, **how)


def following(command: _Function) -> _Function:
    """Declare the options for what follows a push."""
    for declare in reversed(_FOLLOWING):
        command = declare(command)
    return command


#: `streams.trace` reads it, before click does.
DEBUG = option("--debug", group=TOLD, is_flag=True, expose_value=False, help="Show the traceback of an error.")
PLATFORM = option(
    "--platform",
    is_setting=True,
    metavar="OS/ARCH",
    shell_complete=values("platform"),
    help="Which platform of a multi-platform image.",
)
ROUTE = option(
    "--route",
    is_setting=True,
    metavar="NAME",
    shell_complete=values("route"),
    help="auto, registry, ngrok or export.  [default: auto]",
)
RETRIES = option(
    "--retries", is_setting=True, type=int, metavar="N", help="Further tries where a connection breaks.  [default: 3]"
)
TIMEOUT = option(
    "--timeout",
    is_setting=True,
    type=float,
    metavar="SECONDS",
    help="Give up after this long. What stands still ends by itself.  [default: never]",
)
CONFIG = option(
    "--config",
    group=WHAT,
    is_setting=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The project's file, which names targets and images.  [default: layerferry.toml here, or in a folder above]",
)
PRINT_CONFIG = option(
    "--print-config",
    group=TOLD,
    is_flag=True,
    help="Show each setting and where it comes from, secrets masked, and do nothing else.",
)
LOG = option("--log", group=TOLD, metavar="FILE", help="Append a log of the run to it, secrets masked.")
JSON = option("--json", "as_json", group=TOLD, is_flag=True, help="Print one JSON object, and nothing else, on stdout.")
QUIET = option(
    "-q",
    "--quiet",
    group=TOLD,
    is_setting=True,
    is_flag=True,
    default=None,
    help="Tell errors, and one last line.",
)
VERBOSE = option(
    "-v",
    "--verbose",
    group=TOLD,
    is_setting=True,
    is_flag=True,
    default=None,
    help="Tell the lines of the log on stderr.",
)
DRY_RUN = option("--dry-run", group=TOLD, is_flag=True, help="Show what would be sent, and send nothing.")
VIA = option(
    "--via",
    group=WHAT,
    default="",
    metavar="HOST",
    shell_complete=values("hosts"),
    help="The host that reaches a registry, as ssh names it.",
)
NAME = option(
    "--name",
    "names",
    group=WHAT,
    multiple=True,
    metavar="NAME[:TAG]",
    help="A name on the target, if not the source's; of several images, for the one of its repository.  [repeatable]",
)
COMPOSE = option(
    "--compose",
    group=WHAT,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Push the images that a compose file names, and the daemon has.",
)
SERVICE = option(
    "--service", "services", group=WHAT, multiple=True, metavar="NAME", help="One of its services.  [repeatable]"
)
UP = option(
    "--up",
    group=AFTER,
    is_setting=True,
    is_flag=True,
    default=None,
    help="Then let compose bring its services up there, and wait for their health.",
)
KEEP_PREVIOUS = option(
    "--keep-previous", is_setting=True, metavar="TAG", help="Let what the name pointed to before keep this tag."
)
PRUNE = option(
    "--prune",
    is_setting=True,
    type=int,
    metavar="N",
    help="Then remove images of the repository that no container uses, but for the N newest.",
)
_FOLLOWING = (
    option(
        "--then", group=AFTER, is_setting=True, metavar="COMMAND", help="Run this on each target, when it is there."
    ),
    option("--then-file", group=AFTER, is_setting=True, metavar="FILE", help="The same; a script, which is sent."),
    option(
        "--then-after", group=AFTER, is_setting=True, metavar="WHEN", help="each, all or one-by-one.  [default: each]"
    ),
    option(
        "--then-on",
        group=AFTER,
        is_setting=True,
        multiple=True,
        metavar="HOST",
        help="Where, if not on the target, a registry.  [repeatable]",
    ),
    option(
        "--then-timeout",
        group=AFTER,
        is_setting=True,
        type=float,
        metavar="SECONDS",
        help="How long it may last.  [default: 600]",
    ),
    option(
        "--copy",
        group=AFTER,
        is_setting=True,
        multiple=True,
        metavar="LOCAL[:REMOTE]",
        help="Write a small file there before.  [repeatable]",
    ),
)
SSH_OPTION = option(
    "--ssh-option", "ssh_options", group=SSH, multiple=True, metavar="KEY=VALUE", help="ssh's -o.  [repeatable]"
)
SSH_CONFIG = option(
    "--ssh-config", group=SSH, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="ssh's -F."
)
