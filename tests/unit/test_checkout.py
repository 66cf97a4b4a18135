"""The rules of the house that can be read off the checkout: how long shell may be, and that no test measures time."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Folders that are ours; a checkout may have others, such as a virtual environment.
FOLDERS = (".ci", "ci-examples", "release", "requirements", "src", "tests")

#: Scripts of more than 400 lines and functions of more than 40, each with the reason why it is no shorter.
LONG_SCRIPTS: Mapping[str, str] = {}
LONG_FUNCTIONS: Mapping[str, str] = {}

#: What tells the time, of the module `time`; and what a run's length is called by those who measured it.
CLOCKS = {"clock_gettime", "monotonic", "perf_counter", "process_time", "thread_time", "time"}
LENGTHS = {"elapsed", "seconds"}
#: What a file has to have for any of it, so that not all have to be parsed.
WORDS = re.compile(rf"from time import|\btime\.|\.({'|'.join(LENGTHS)})\b")
#: Whose result is a time where an argument is one.
ARITHMETIC = {"abs", "float", "int", "max", "min", "round", "sum"}


@cache
def scripts() -> dict[str, list[str]]:
    """The lines of every script for a shell or awk, by its path from the root of the checkout."""
    found = {}
    for path in sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*")):
        if path.is_file() and path.suffix in {"", ".awk", ".sh"} and "__pycache__" not in path.parts:
            lines = path.read_text(encoding="utf-8").splitlines()
            if path.suffix or (lines and re.match(r"#!.*\b(ba|da)?sh$", lines[0])):
                found[str(path.relative_to(ROOT))] = lines
    return found


def functions(lines: list[str]) -> dict[str, int]:
    """How many lines each function of a script has, from its name to the bracket that closes it."""
    found = {}
    for first, line in enumerate(lines):
        if match := re.match(r"( *)(\w+) *\(\) *([{(])(.*)", line):
            end = match[1] + {"{": "}", "(": ")"}[match[3]]
            whole = not match[4].strip() or match[4].strip().startswith("#")
            last = (
                next((n for n in range(first + 1, len(lines)) if lines[n].startswith(end)), first) if whole else first
            )
            found[match[2]] = last - first + 1
    return found


def test_scripts_stay_short_or_say_why_not() -> None:
    assert {name for name, lines in scripts().items() if len(lines) > 400} == LONG_SCRIPTS.keys()


def test_functions_of_scripts_stay_short_or_say_why_not() -> None:
    lengths = {f"{name}:{function}": n for name, lines in scripts().items() for function, n in functions(lines).items()}
    assert {function for function, length in lengths.items() if length > 40} == LONG_FUNCTIONS.keys()


def test_every_script_is_seen_and_so_is_every_function() -> None:
    assert {".ci/run", "src/layerferry/targets/host/main.sh", "tests/run.sh"} <= scripts().keys()
    text = "a() { :; }\nb() {\n  :\n}\nc() ( # why\n  d() {\n    :\n  }\n)\n"
    assert functions(text.splitlines()) == {"a": 1, "b": 3, "c": 5, "d": 3}


def is_time(node: ast.AST, times: set[str]) -> bool:
    """Whether it reads a clock, or reckons with what was read, which bears one of the names `times`."""
    match node:
        case ast.Name(id=name):
            return name in times
        case ast.Attribute(attr=name):
            return name in LENGTHS
        case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr=name) | ast.Name(id=name)) if is_clock(name):
            return True
        case ast.Call(func=ast.Name(id=name), args=parts) if name in ARITHMETIC:
            return any(is_time(part, times) for part in parts)
        case ast.BinOp() | ast.UnaryOp() | ast.NamedExpr():
            return any(is_time(part, times) for part in ast.iter_child_nodes(node))
    return False


def is_clock(name: str) -> bool:
    return name.removesuffix("_ns") in CLOCKS


def named_times(tree: ast.AST) -> set[str]:
    """The names that are given to a time anywhere in a file."""
    times: set[str] = set()
    for _ in range(3):  # a time may be reckoned from a time
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if is_time(node.value, times):
                    times |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return times


def verdicts(tree: ast.AST) -> Iterator[ast.expr]:
    """The conditions that a test passes or fails by."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) or (isinstance(node, ast.If) and is_failure(node.body[0])):
            yield node.test


def is_failure(statement: ast.stmt) -> bool:
    words = ast.unparse(statement)
    return words.startswith(("pytest.fail(", "raise AssertionError"))


def measures(tree: ast.AST) -> list[int]:
    """The lines where a test passes or fails by the clock."""
    times = named_times(tree)
    return [
        comparison.lineno
        for verdict in verdicts(tree)
        for comparison in ast.walk(verdict)
        if isinstance(comparison, ast.Compare)
        and any(is_time(operand, times) for operand in (comparison.left, *comparison.comparators))
    ]


def test_no_test_measures_how_long_anything_takes() -> None:
    """On a machine that others use too, any bound is too small one day. Count; what hangs is killed, see pyproject."""
    found = {}
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "bench" not in path.relative_to(ROOT).parts and WORDS.search(text) and (lines := measures(ast.parse(text))):
            found[str(path.relative_to(ROOT))] = lines
    assert found == {}


def test_what_measures_time_is_seen() -> None:
    for text in (
        "start = time.monotonic()\nassert time.monotonic() - start < 20",
        "deadline = time.time() + 9\nwhile True:\n  assert time.time() < deadline",
        "start = perf_counter()\nspent = round(perf_counter() - start)\nassert ok and 1 < spent < 4",
        "assert run.seconds < 12, 'slow'",
        "if time.monotonic_ns() > deadline:\n  pytest.fail('slow')",
    ):
        assert measures(ast.parse(text)), text
    for text in (
        "client = Client(until=time.monotonic() + 5)\nassert client.lines < 3",
        "if time.monotonic() > deadline:\n  kill()",
        "assert not run.broke, f'after {run.seconds} s'",
    ):
        assert not measures(ast.parse(text)), text
