"""The README is true: its commands are ours, its table is the model's, its exit codes are those of the errors."""

import re
import shlex
from pathlib import Path

import click
import pytest

import matrix
from layerferry import errors
from layerferry.cli import cli
from layerferry.settings.values import table

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (?:\$ )?((?:[A-Z_]+=\S+ )*layerferry .*?)(?:\s+#.*)?$", README, re.MULTILINE)


def parse(line: str) -> None:
    """Parse a command line as click would, without running it; raises `click.UsageError`."""
    words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
    name, arguments = words[1], words[2:]
    parent = click.Context(cli, **cli.context_settings)
    command = cli.get_command(parent, name)
    assert command, line
    command.make_context(name, list(arguments), parent=parent)


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_understood(line: str) -> None:
    parse(line)


def test_a_command_that_is_none_is_not_understood() -> None:
    with pytest.raises(click.UsageError):
        parse("layerferry push app:1 host --no-such-option")


def test_the_table_of_settings_is_the_models() -> None:
    start, end = README.index("<!-- settings:"), README.index("<!-- end of settings -->")
    assert README[start:end].partition("\n")[2].strip() == table().strip()


def test_the_matrix_is_the_one_that_is_tested() -> None:
    start, end = README.index("<!-- matrix:"), README.index("<!-- end of matrix -->")
    assert README[start:end].partition("\n")[2].strip() == matrix.table().strip()


def test_the_exit_codes_are_those_of_the_errors() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    tree = errors.LayerferryError
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, tree)]
    codes = {error.exit_code for error in classes if error is not tree}
    assert told == codes | {0}


def test_every_file_that_it_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (Path(__file__).parents[2] / target).exists(), target
