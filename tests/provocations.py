"""Which test provokes which error message; a test that no longer does, fails.

Each error of layerferry's that is made while a test runs is noted, in this process and in the children of the fork
server. `provoked.tsv` has a row for each message of the code (`error_messages.py`): module, message, test. Those that
are not seen to be provoked stand in `unprovoked.tsv`, each with `read in FILE`: a test starts an interpreter of its
own and reads what that says, or it reads a reason before that stands in any message.

    python tests/provocations.py [PATH...]     runs tests, and writes a row for each message that has none yet
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

TESTS: Final = Path(__file__).parent
PROVOKED: Final = TESTS / "provoked.tsv"
UNPROVOKED: Final = TESTS / "unprovoked.tsv"
#: Names the file to which errors are noted.
NOTED: Final = "LAYERFERRY_TEST_ERRORS"
#: Names the file to which rows are written, where tests run for that.
RECORD: Final = "LAYERFERRY_TEST_PROVOKED"
#: Characters of a long message that are noted, of its beginning and of its end.
_END: Final = 500
_TELLING: Final = 12
#: Frames above an error in which its message may have been made.
_FRAMES: Final = 6


class Row(NamedTuple):
    """A message of a module, and the test that provokes it, or the reason why none does."""

    module: str
    text: str
    test: str

    @property
    def key(self) -> tuple[str, str]:
        return self.module, self.text


class Noted(NamedTuple):
    """An error that was made: the modules whose functions were at work, innermost first, and its message."""

    modules: tuple[str, ...]
    text: str


def rows(path: Path) -> list[Row]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Row(*line.split("\t")) for line in lines if line and not line.startswith("#")]


def telling(text: str, others: Iterable[str]) -> list[str]:
    """The parts of a message that no other message has, without what is put in: 12 letters and more."""
    from error_messages import HOLE, letters  # noqa: PLC0415

    parts = [part.strip(" ',.:()") for part in text.split(HOLE) if letters(part) >= _TELLING]
    return [part for part in parts if not any(part in other for other in others if other != text)]


def note_errors(path: str) -> None:
    """Append a line to a file for each error that this process, or a child that it forks, makes from now on."""
    from layerferry.errors import LayerferryError  # noqa: PLC0415 - the fork server has its modules loaded first

    made, open_file, write, close = LayerferryError.__init__, os.open, os.write, os.close  # tests replace some of them
    root = str(Path(sys.modules[LayerferryError.__module__].__file__ or "").parent) + os.sep

    def noted(self: LayerferryError, message: str, **rest: Any) -> None:
        made(self, message, **rest)
        modules: list[str] = []
        frame = sys._getframe(1)
        while frame and len(modules) < _FRAMES:
            if frame.f_code.co_filename.startswith(root):
                modules.append(frame.f_code.co_filename.removeprefix(root))
            frame = frame.f_back  # type: ignore[assignment]
        line = _line(modules, message)
        if hint := rest.get("hint"):  # a reason may stand there
            line += _line(modules, hint)
        fd = open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            write(fd, line.encode(errors="replace"))
        finally:
            close(fd)

    LayerferryError.__init__ = noted  # type: ignore[method-assign]


def _line(modules: Sequence[str], text: str) -> str:
    if len(text) > 2 * _END:  # a message of others' words may be of any length
        text = text[:_END] + text[-_END:]
    return " ".join(f"{','.join(dict.fromkeys(modules))}\t{text}".splitlines()) + "\n"


def read(lines: str) -> set[Noted]:
    """What was noted."""
    pairs = (line.partition("\t") for line in lines.splitlines())
    return {Noted(tuple(modules.split(",")), text) for modules, _, text in pairs}


@cache
def _pattern(text: str, reason: bool) -> re.Pattern[str]:
    from error_messages import HOLE  # noqa: PLC0415

    pattern = "(?:.*)".join(map(re.escape, text.split(HOLE)))
    return re.compile(pattern if reason else rf"(?:{pattern})\s*", re.DOTALL)


def provokes(noted: Iterable[Noted], module: str, text: str, *, reason: bool = False) -> bool:
    """Whether one of the errors has a message; what stands behind a colon, a `reason`, in any module's error."""
    pattern = _pattern(text, reason)
    return any(
        pattern.search(one.text) if reason else module in one.modules and pattern.fullmatch(one.text) for one in noted
    )


class Watch:
    """Notes the errors of each test, and says which of its rows it has not provoked."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="layerferry-errors-")
        self.path = Path(self._folder.name) / "noted"
        self._seen = 0
        self._record = os.environ.get(RECORD, "")
        os.environ[NOTED] = str(self.path)
        note_errors(str(self.path))
        self.due: dict[str, list[Row]] = {}
        for row in rows(PROVOKED):
            self.due.setdefault(row.test, []).append(row)

    def close(self) -> None:
        os.environ.pop(NOTED, None)
        self._folder.cleanup()

    def errors(self) -> set[Noted]:
        """What was noted since the last time."""
        if not self.path.exists():
            return set()
        with self.path.open("rb") as file:
            file.seek(self._seen)
            data = file.read()
        self._seen += len(data)
        return read(data.decode(errors="replace"))

    def missing(self, test: str) -> list[Row]:
        """The rows of a test that has ended, whose messages it has not provoked."""
        noted = self.errors()
        if self._record and noted:
            with Path(self._record).open("a", encoding="utf-8") as file:
                file.writelines(f"{test}\t{','.join(one.modules)}\t{one.text}\n" for one in noted)
        return [
            row for row in self.due.get(test, ()) if not provokes(noted, row.module, row.text, reason=_is_reason(row))
        ]


def _is_reason(row: Row) -> bool:
    from error_messages import code  # noqa: PLC0415

    return row.key in code().reasons


def _best(messages: Sequence[Any], noted: Noted) -> list[Any]:
    """The messages that an error has: those that say most of it."""
    from error_messages import letters  # noqa: PLC0415

    fitting = [one for one in messages if provokes([noted], one.module, one.text, reason=one.is_reason)]
    whole = [one for one in fitting if not one.is_reason]
    most = max((letters(one.text) for one in whole), default=0)
    return [one for one in fitting if one.is_reason or letters(one.text) == most]


def _preference(test: str) -> tuple[bool, bool, bool, str]:
    """Unit tests come first, and tests without parameters: they are quick, and have their names for long."""
    return "/unit/" not in test, "[" in test, "hypothesis" in test, test


def record(paths: Sequence[str]) -> None:
    """Run tests, and write the rows that were missing."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as file:
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *paths]
        subprocess.run(command, check=False, cwd=TESTS.parent, env=os.environ | {RECORD: file.name})
        learn(file)


def learn(recorded: Iterable[str]) -> None:
    """Write the rows that were missing, of what was recorded."""
    from error_messages import code  # noqa: PLC0415

    lines = [line.rstrip("\n").split("\t", 2) for line in recorded]
    found: dict[tuple[str, str], str] = {}
    messages = code().messages()
    seen: dict[Noted, list[Any]] = {}
    for test, modules, text in (line for line in lines if len(line) == 3):
        noted = Noted(tuple(modules.split(",")), text)
        if noted not in seen:
            seen[noted] = _best(messages, noted)
        for message in seen[noted]:
            found[message.key] = min(found.get(message.key, test), test, key=_preference)
    _write({row.key: row.test for row in rows(PROVOKED)}, found, {message.key for message in messages})


def _write(known: Mapping[tuple[str, str], str], found: Mapping[tuple[str, str], str], wanted: set[Any]) -> None:
    tests = {key: known.get(key) or found[key] for key in wanted if key in known or key in found}
    lines = [f"{module}\t{text}\t{test}\n" for (module, text), test in sorted(tests.items())]
    PROVOKED.write_text("".join(lines), encoding="utf-8")
    left = {row.key for row in rows(UNPROVOKED)}
    for module, text in sorted(wanted - set(tests) - left):
        print(f"{module}\t{text}\tno test provokes it")


if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))
    record(sys.argv[1:] or ["tests/unit", "tests/contract"])
