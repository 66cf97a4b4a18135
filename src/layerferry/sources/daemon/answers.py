"""The parts of a daemon's answers, one by one: lines of a stream, images of a list."""

import re
from collections.abc import Iterable, Iterator

from layerferry.errors import SourceError
from layerferry.oci import limits

#: The parts of JSON that tell where a list's members end. A string without an end takes the rest, or looking for
#: one more in it would cost the square of its length.
_PARTS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def lines(chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
    """The lines of a stream as it comes. Raises `SourceError` where there are too many, or one is too long."""
    rest, count = b"", 0
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        count += len(whole)
        if count > limits.PROGRESS_LINES or max(map(len, (*whole, rest))) > limits.PROGRESS_LINE:
            raise SourceError(
                f"{what} is refused: it has more than {limits.PROGRESS_LINES} lines, "
                f"or one of more than {limits.PROGRESS_LINE} bytes"
            )
        yield from whole
    yield rest


def members(data: bytes) -> Iterator[bytes]:
    """The objects and lists in a JSON list, one by one: parsed in one go, a large one takes its tenfold in memory.

    What is no list of such has no members here.
    """
    depth = start = 0
    for part in _PARTS.finditer(data):
        sign = part[0]
        if sign in {b"[", b"{"}:
            start = part.start() if depth == 1 else start
            depth += 1
        elif sign in {b"]", b"}"}:
            depth -= 1
            if depth == 1:
                yield data[start : part.end()]
