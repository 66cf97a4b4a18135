"""What became of each layer, by the instruction of the Dockerfile that made it, as the lines of a result. Pure."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from layerferry.oci.plan import Action, Step
from layerferry.report import widths
from layerferry.result import Result, mark, size

#: The instruction in what builders write into a history: BuildKit's end, the builder's before it, arguments of a build.
_NOISE = re.compile(r"^/bin/sh -c #\(nop\)\s*| # buildkit$|\s*<missing>\s*$")
_RUN = re.compile(r"^(?:RUN )?(?:\|\d+ .*? )?/bin/(?:ba|da)?sh (?:-\w+ (?:pipefail )?)*?-\w*c ")
#: docker's and podman's copies name digests of what they copy.
_COPIED = re.compile(r"^(ADD|COPY) (?:multi|file|dir):\w+ in ")
#: What fills an image with a system: the first layer of all that are built upon it.
_BASE = re.compile(r"^(?:ADD (?:multi:|file:|dir:)?\S+(?: in)? / ?$|# debian\.sh|ADD rootfs)")
#: Lines for layers that are sent, of one image: those beyond share one.
_MOST = 15
_SIZE = 9
_LEAST_NAME = 12
#: Cells of a name where there is room for all.
_NAME = 32


def instruction(step: Step) -> str:
    """What made a layer, as its Dockerfile has it, as far as its history says: `RUN apt-get update`, `FROM base`."""
    text = _NOISE.sub("", _NOISE.sub("", step.layer.created_by)).strip()
    if _BASE.match(text):
        return "FROM base"
    if _RUN.match(text):
        return f"RUN {_RUN.sub('', text)}"
    return _COPIED.sub(r"\1 … ", text) or f"layer {step.layer.diff_id.removeprefix('sha256:')[:_LEAST_NAME]}"


def outcome(step: Step) -> str:
    """What becomes of a layer, or became of it."""
    if step.action is Action.REUSE:
        return "there"
    if step.action is Action.PATCH:
        return f"patched: {size(step.new)} of it is new"
    reason = step.reason.removeprefix("the target lacks it").removeprefix("; ").removeprefix(", ")
    return step.reason if step.shared else f"new; {reason}" if reason else "new"


def lines(result: Result, width: int) -> Iterator[tuple[str, str]]:
    """Pairs of a mark and a line of at most `width` cells: layers that are there share one with their neighbours.

    Sizes stand below each other: names are as short as the line with the longest outcome wants them.
    """
    rows = [
        (sign, ", ".join(dict.fromkeys(names)), *_amount(count, what, result.sizes, width))
        for sign, names, count, what in _rows(result)
    ]
    length = min((room for *_, room in rows), default=0)
    for sign, name, amount, _ in rows:
        short = widths.shortened(name, length)
        yield sign, f"{short}{' ' * (length - widths.cells(short))}  {amount}"


def _rows(result: Result) -> Iterator[tuple[str, Sequence[str], int, str]]:
    """Of each line the mark, the instructions, the bytes and what became of them."""
    told = 0
    for reused, group in groupby(result.steps, lambda step: step.action is Action.REUSE):
        steps = list(group)
        if reused:
            yield "✓", [*map(instruction, steps)], _size(steps), "there"
            continue
        for number, step in enumerate(steps):
            if told == _MOST and len(steps) - number > 1:
                rest = steps[number:]
                yield "↑", [f"{len(rest)} more layers"], _size(rest), "new"
                break
            told += 1
            yield "↑", [instruction(step)], step.layer.size, outcome(step)


def _size(steps: Sequence[Step]) -> int:
    return sum(step.layer.size for step in steps)


def _amount(count: int, what: str, sizes: str, width: int) -> tuple[str, int]:
    """A size, which is never cut, and what became of it, as far as it has room; and the cells for a name before it."""
    amount = f"{size(count):>{_SIZE}}{mark(sizes)}"
    room = width - widths.cells(amount) - 2
    for text in (what, what.partition(":")[0].partition(";")[0]):
        left = room - widths.cells(text) - 2
        if left >= _LEAST_NAME:
            return f"{amount}  {text}", min(left, _NAME)
    return amount, max(1, min(room, _NAME))
