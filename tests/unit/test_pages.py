"""The pages are true: their commands are ours, their tables are the model's, their variables and inputs are there."""

import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

import matrix
import pages
from layerferry import errors
from layerferry.receive.program import _parser
from layerferry.settings.values import FIELDS, table, variables

ROOT = pages.ROOT
IDS = [str(path.relative_to(ROOT)) for path in pages.PAGES]
COMMANDS = [(block.page, line) for path in pages.PAGES for line, block in pages.commands(path)]
#: What begins a command of `receive`, which argparse reads.
RECEIVE = "layerferry receive"
INPUTS = YAML(typ="safe").load(ROOT / "ci-examples/github-action/action.yml")["inputs"]
VARIABLES = {name for field in FIELDS for name in variables(field.name)}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def between(name: str, mark: str) -> str:
    """What a command has made of a page."""
    text = text_of(name)
    start, end = text.index(f"<!-- {mark}:"), text.index(f"<!-- end of {mark} -->")
    return text[start:end].partition("\n")[2].strip()


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 40
    assert {page for page, _ in COMMANDS} >= {"README.md", "docs/after-the-push.md", "docs/faq.md", "docs/signing.md"}


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=lambda value: value.replace("::", ":"))
def test_a_command_is_understood(page: str, line: str) -> None:
    if line.startswith(RECEIVE):
        _parser().parse_args(pages.words(line)[2:])
    else:
        pages.parse(line)


@pytest.mark.parametrize("line", ["layerferry push app:1 host --no-such-option", "layerferry pushh app:1 host"])
def test_a_command_that_is_none_is_not_understood(line: str) -> None:
    with pytest.raises(click.UsageError):
        pages.parse(line)


def test_the_table_of_settings_is_the_models() -> None:
    assert between("docs/settings.md", "settings") == table().strip()


def test_the_matrix_is_the_one_that_is_tested() -> None:
    assert between("docs/targets.md", "matrix") == matrix.table().strip()


def test_the_number_of_pairs_is_told() -> None:
    pairs = len(matrix.TARGETS) * (len(matrix.DAEMONS) + len(matrix.PACKED))
    assert f"Each of the {pairs} pairs is a test" in text_of("README.md")
    assert len(matrix.TARGETS) == 10


def test_the_exit_codes_are_those_of_the_errors() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", text_of("docs/output.md"), re.MULTILINE)}
    tree = errors.LayerferryError
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, tree)]
    codes = {error.exit_code for error in classes if error is not tree}
    assert told == codes | {0}


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"(?m)^#+ (.+)$", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", pages.PAGES, ids=IDS)
def test_whatever_it_points_to_is_there(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = urllib.parse.unquote(target).partition("#")
        there = (path.parent / name.partition("?")[0]).resolve() if name else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_the_readme_leads_to_each_page(path: Path) -> None:
    assert f"](docs/{path.name})" in text_of("README.md")


def yaml_blocks() -> Iterator[Any]:
    for path in pages.PAGES:
        for block in pages.blocks(path):
            if block.kind == "yaml":
                yield YAML(typ="safe").load(block.text)


def mappings(value: Any, key: str) -> Iterator[dict[str, Any]]:
    """Each mapping under a key, anywhere."""
    if isinstance(value, dict):
        if isinstance(value.get(key), dict):
            yield value[key]
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from mappings(inner, key)


def test_yaml_has_variables_and_inputs_that_there_are() -> None:
    found = list(yaml_blocks())
    env = {name for block in found for one in mappings(block, "env") for name in one}
    given = {name for block in found for one in mappings(block, "with") for name in one}
    assert {name for name in env if name.startswith("LAYERFERRY_")} <= VARIABLES
    assert given <= set(INPUTS)
    assert env
    assert given


@pytest.mark.parametrize("path", pages.PAGES, ids=IDS)
def test_its_variables_are_there(path: Path) -> None:
    """In the text, too: each is a setting, one that a command gets, one of the tests', or an output."""
    told = {name.rstrip("_") for name in re.findall(r"\bLAYERFERRY_[A-Z_]+", path.read_text(encoding="utf-8"))}
    others = {"LAYERFERRY", "LAYERFERRY_IMAGE", "LAYERFERRY_IMAGE_ID", "LAYERFERRY_PREVIOUS_ID", "LAYERFERRY_LIST"}
    own = {name for name in told if name.startswith(("LAYERFERRY_TEST_", "LAYERFERRY_OUTPUT_"))}
    assert told - VARIABLES - others - own == set()


_KINDS = ("flowchart LR", "flowchart TD", "sequenceDiagram", "stateDiagram-v2")


def test_diagrams_are_of_kinds_that_github_draws() -> None:
    """Each begins with its kind, and what it opens is closed."""
    drawn = [block for path in pages.PAGES for block in pages.blocks(path) if block.kind == "mermaid"]
    assert len(drawn) >= 8
    for block in drawn:
        first, *rest = block.text.splitlines()
        assert first in _KINDS
        words = [line.split()[0] for line in rest if line.strip()]
        assert words.count("end") == words.count("subgraph") + words.count("alt")
        for one, other in ("()", "[]", "{}"):
            assert block.text.count(one) == block.text.count(other), block
        assert block.text.count('"') % 2 == 0


def test_the_readme_is_short() -> None:
    assert text_of("README.md").count("\n") <= 300
