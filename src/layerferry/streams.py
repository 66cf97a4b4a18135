"""The standard streams. All output is written here, so that text from elsewhere is shown and does nothing else.

`take` comes first in a process: from then on whatever anybody writes to `sys.stdout` or `sys.stderr` is neutralised. A
CI's own commands and a terminal's colours are ours: they take `verbatim`. Standard library only, as for the receiver.
"""

import codecs
import contextlib
import errno
import itertools
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Final, TextIO, cast

from layerferry.ci.escape import cut, json_text, message, neutralise, paragraph
from layerferry.errors import LayerferryError

#: Our signs in ASCII, for an encoding that has none for them; any other character is spelt out.
_IN_ASCII: Final = str.maketrans(
    {"✓": "+", "✗": "x", "↑": "^", "→": "->", "…": "...", "·": "-", "✅": "+", "❌": "x", "━": "=", "─": "-"}
)
_ENCODING_ERRORS: Final = "layerferry"
_LONGEST_TRACEBACK: Final = 1 << 16
_OUR_NAME: Final = "layerferry"
_traces = False
#: What one types to start us; hints have commands of ours in them. `receive` is what another machine is to run.
_program = _OUR_NAME
_COMMANDS: Final = re.compile(rf"(?<![\w/.-]){_OUR_NAME} (?=(?:push|pull|rollback|gc|doctor|sign|verify|plugin)\b)")
#: A blank between a number and its unit, and what stands for it where lines are broken at blanks: Unicode gives it no
#: meaning, and one cell.
_BEFORE_UNIT: Final = re.compile(r"(?<=\d) (?=(?:[kMGT]?B(?:/s)?|%|m?s|min)(?!\w))")
_JOINT: Final = "\ue000"
#: Cells before the second line of a message, and the fewest of a terminal that lines are broken for.
_HANGING: Final = 4
_NARROWEST: Final = 20


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(_IN_ASCII)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(_ENCODING_ERRORS, _in_ascii)


class Verbatim:
    """A text stream that never fails: what cannot be encoded is written in ASCII, and what cannot be written is lost.

    A reader that has gone, or a full disk, is no reason to end a push. No other thread writes within a `write`.
    """

    def __init__(self, under: TextIO) -> None:
        self._under = under
        self._lock = threading.RLock()
        self._lost = False
        #: Why not all could be written; empty where the reader has closed its end, as it wanted no more.
        self.trouble = ""

    @property
    def encoding(self) -> str:
        return self._under.encoding or "utf-8"

    def write(self, text: str) -> int:
        with self._lock, self._forgiving():
            if not self._lost:
                self._under.write(text.encode(self.encoding, _ENCODING_ERRORS).decode(self.encoding))
        return len(text)

    def flush(self) -> None:
        with self._lock, self._forgiving():
            if not self._lost:
                self._under.flush()

    def isatty(self) -> bool:
        return self._under.isatty()

    def fileno(self) -> int:
        return self._under.fileno()

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._lost = True
            if error.errno != errno.EPIPE:
                self.trouble = error.strerror or type(error).__name__
            self._let_go()

    def _let_go(self) -> None:
        """Point the descriptor at /dev/null: what Python has in its buffers would fail once more when it ends."""
        with contextlib.suppress(OSError, ValueError):
            number = self._under.fileno()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, number)
            os.close(null)


class Stream:
    """stdout or stderr. Whatever is written to it comes out neutralised; a message as one line, which is bounded.

    It has no `fileno`: Python would colour its tracebacks, and click write to the bytes below.
    """

    closed = False
    errors = _ENCODING_ERRORS

    def __init__(self, under: TextIO) -> None:
        self._own = Verbatim(under)
        #: The stream for text that is ours alone: a CI's commands, a terminal's colours.
        self.verbatim = cast("TextIO", self._own)
        self._begun = ""
        self.encoding = self._own.encoding

    @property
    def trouble(self) -> str:
        """Why not all could be written; empty if it was, or if nobody wanted it."""
        return self._own.trouble

    def isatty(self) -> bool:
        return self._own.isatty()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Write text as `sys.stdout` does: a line is written once it has an end."""
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            self._own.write("".join(f"{neutralise(line)}\n" for line in lines))
        return len(text)

    def flush(self) -> None:
        begun, self._begun = self._begun, ""
        if begun:
            self._own.write(neutralise(begun))
        self._own.flush()

    def line(self, text: str) -> None:
        """Write text of whatever origin as one line."""
        self._show(message(text))

    def complain(self, error: LayerferryError, who: str = _OUR_NAME) -> None:
        """Write an error's sentence and, on further lines, its hint."""
        self.trace(error)
        said = _COMMANDS.sub(f"{_program} ", error.hint) if _program != _OUR_NAME else error.hint
        hint = paragraph(said).split("\n") if said else []
        width = self._width()
        told = _wrapped(message(f"{who}: {error.message}"), width, _HANGING)
        self._show("\n".join([told, *(_hint(f"  {line}", width) for line in hint)]))

    def _width(self) -> int:
        """The cells of a line, where it is a terminal; 0 where nothing is broken."""
        with contextlib.suppress(OSError, ValueError):
            if self.isatty():
                return os.get_terminal_size(self._own.fileno()).columns
        return 0

    def trace(self, error: BaseException) -> None:
        """Write an error's traceback, where `--debug` asks for it."""
        if _traces:
            self.traceback(error)

    def traceback(self, error: BaseException) -> None:
        self._show(cut(neutralise("".join(traceback.format_exception(error)).rstrip("\n")), _LONGEST_TRACEBACK))

    def document(self, document: object) -> None:
        """Write `document` as JSON."""
        self._show(json_text(document))

    def _show(self, text: str) -> None:
        self._own.write(text + "\n")
        self._own.flush()


def joined(text: str) -> str:
    """The text, with no blank between a number and its unit, where a line might be broken."""
    return _BEFORE_UNIT.sub(_JOINT, text)


def parted(text: str) -> str:
    """The text of `joined` as it was."""
    return text.replace(_JOINT, " ")


def _hint(line: str, width: int) -> str:
    """A sentence, broken at words. What is to be copied is left to the terminal, whose own breaks are not copied."""
    is_copied = not line.endswith(".") or "`" in line or f"{_program} " in line
    return line if is_copied else _wrapped(line, width, len(line) - len(line.lstrip()))


def _wrapped(line: str, width: int, hanging: int) -> str:
    """A line, broken at words."""
    if width < _NARROWEST or len(line) <= width:
        return line
    import textwrap  # noqa: PLC0415 - for a terminal alone

    first = line[: len(line) - len(line.lstrip())]
    shape = {"initial_indent": first, "subsequent_indent": " " * hanging}
    broken = textwrap.fill(joined(line.lstrip()), width, **shape, break_long_words=False, break_on_hyphens=False)  # type: ignore[arg-type]
    return parted(broken)


def stdout() -> Stream:
    return sys.stdout if isinstance(sys.stdout, Stream) else Stream(sys.stdout)


def stderr() -> Stream:
    return sys.stderr if isinstance(sys.stderr, Stream) else Stream(sys.stderr)


@contextlib.contextmanager
def called(program: str) -> Iterator[None]:
    """Let hints say `program` where one is to type our name, until the block ends."""
    global _program  # noqa: PLW0603 - there is one command line
    before, _program = _program, program
    try:
        yield
    finally:
        _program = before


def trace(arguments: Sequence[str]) -> None:
    """Show tracebacks from now on where `--debug` is among the arguments before a `--`.

    It is read before click reads anything, so that a usage error has its traceback, too.
    """
    global _traces  # noqa: PLW0603 - there is one command line
    _traces = "--debug" in itertools.takewhile("--".__ne__, arguments)


def take() -> None:
    """Make the standard streams ours, for the rest of the process; one that is closed becomes /dev/null.

    Else the next file or pipe that is opened would get its number, and output would go into a conversation.
    """
    for number in range(3):
        _open(number)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for good
    sys.stdout = cast("TextIO", stdout() if sys.stdout else Stream(_to_descriptor(1)))
    sys.stderr = cast("TextIO", stderr() if sys.stderr else Stream(_to_descriptor(2)))


@contextlib.contextmanager
def taken() -> Iterator[None]:
    """Make the standard streams ours until the block ends."""
    before = sys.stdout, sys.stderr
    take()
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def keep_pipes() -> tuple[int, int]:
    """Move stdin and stdout to other numbers, for us alone: what we start or load finds /dev/null in their place."""
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return incoming, outgoing


def _open(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        os.set_inheritable(number, True)  # noqa: FBT003 - it has no name
    else:
        # Whoever shares a pipe or a terminal with us may have set this, and a write would fail for a slow reader.
        os.set_blocking(number, True)


def _to_descriptor(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", closefd=False)
