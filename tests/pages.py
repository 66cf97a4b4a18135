"""The pages that people read, and what stands in them: commands, YAML, links, diagrams."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from layerferry.cli import cli
from layerferry.docker_plugin import divided

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "ci-examples/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))

#: A mark stands before a block of which `tests/engines/test_pages.py` runs each line.
_FENCED = re.compile(r"(?m)^(?P<mark><!-- run -->\n)?(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^ *```$", re.DOTALL)
_INDENTED = re.compile(r"(?m)(?:\A|(?<=\n))\n((?: {4}[^\n]*\n|\n)+)")
_ASSIGNED = re.compile(r"[A-Z_]+=")
_STARTS = re.compile(r"(?:\$ )?(?:[A-Z_]+=\S+\s+)*(?:layerferry|docker (?:-\S+ (?:[^-\s]\S* )?)*ferry)\s")


class Block(NamedTuple):
    page: str
    kind: str
    text: str
    runs: bool


def blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a page, and then what is indented as code."""
    text, name = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
    for match in _FENCED.finditer(text):
        lines = (line.removeprefix(match["indent"]) for line in match["text"].splitlines(keepends=True))
        yield Block(name, match["kind"], "".join(lines), bool(match["mark"]))
    for match in _INDENTED.finditer(_FENCED.sub("", text)):
        yield Block(name, "", "".join(line[4:] for line in match[1].splitlines(keepends=True)), runs=False)


def commands_of(block: Block) -> Iterator[str]:
    """Each command line of layerferry's in a block, its continuation included."""
    for line in block.text.replace("\\\n", " ").splitlines():
        found = re.sub(r"\s+# .*$", "", line.strip())
        pipe = re.search(r"\| *(layerferry .*)", found)
        if _STARTS.match(found) or pipe:
            yield pipe[1] if pipe else found.removeprefix("$ ")


def commands(path: Path) -> Iterator[tuple[str, Block]]:
    """Each command line of layerferry's in the blocks of a page."""
    for block in blocks(path):
        yield from ((line, block) for line in commands_of(block))


def assigns(word: str) -> bool:
    """Whether a word gives a value to a variable."""
    return _ASSIGNED.match(word) is not None


def words(line: str) -> list[str]:
    """The words of a command line, without the variables before it; `docker ferry` is us."""
    split = shlex.split(line)
    while split and assigns(split[0]):
        split.pop(0)
    for end in ("|", ";", ">", "&&"):
        if end in split:
            split = split[: split.index(end)]
    return ["layerferry", *divided(split[1:])[2]] if split[:1] == ["docker"] else split


def parse(line: str) -> None:
    """Parse a command line as click would, without running it; raises `click.UsageError`."""
    _, name, *arguments = words(line)
    parent = click.Context(cli, **cli.context_settings)
    command = cli.get_command(parent, name)
    if command is None:
        raise click.UsageError(f"no command {name}")
    command.make_context(name, arguments, parent=parent)
