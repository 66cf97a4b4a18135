"""Lines that fit into a width: numbers stay whole, names are shortened. Pure."""

import unicodedata
from collections.abc import Sequence
from typing import TypeGuard

from layerferry.result import size

_ELLIPSIS = "…"
#: Cells of a bar, and of a name beside it.
_BAR = range(8, 31)
_SHORTEST_NAME = 6
_HOUR, _MINUTE = 3600, 60
#: Seconds beyond which no time left is told: a rate that small is that of a line which stands still.
_LONGEST_LEFT = 24 * _HOUR


def cells(text: str) -> int:
    """How many cells of a terminal a text takes (UAX 11)."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def shortened(text: str, width: int) -> str:
    """The text in at most `width` cells: one that is longer lacks its end."""
    if cells(text) <= width:
        return text
    kept, room = "", width - 1
    for character in text:
        if (room := room - cells(character)) < 0:
            break
        kept += character
    return f"{kept.rstrip()}{_ELLIPSIS}" if width > 0 else ""


def clock(seconds: float) -> str:
    """Seconds as `0:44`, `12:05`, `1:02:03`."""
    whole = round(seconds)
    hours, minutes = divmod(whole // _MINUTE, _MINUTE)
    start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{start}:{whole % _MINUTE:02}"


def of(done: int, total: int) -> str:
    """`5.4 of 12.0 MB`; each with its unit, where these differ."""
    before, unit = size(done).split(" ")
    after, its_unit = size(total).split(" ")
    return f"{before} of {after} {unit}" if unit == its_unit else f"{before} {unit} of {after} {its_unit}"


def can_be_told(left: float | None) -> TypeGuard[float]:
    """Whether a time left is known, and says anything."""
    return left is not None and left <= _LONGEST_LEFT


def details(done: int, total: int, rate: float, left: float | None) -> list[list[str]]:
    """What is told of bytes on their way, from all of it to the least."""
    percent = f"{share(done, total):>3} %"
    speed = f"{size(rate)}/s" if rate else "waiting"
    time = [f"{clock(left)} left"] if can_be_told(left) else []
    return [[percent, of(done, total), speed, *time], [percent, speed, *time], [percent, *time], [percent]]


def share(done: int, total: int) -> int:
    """Percent, rounded down: not 100 before the end."""
    return done * 100 // total if total else 0


def fitted(width: int, name: str, choices: Sequence[Sequence[str]], *, bar: bool = False) -> tuple[str, int, str]:
    """A name, the cells of a bar after it, and the first of `choices` beside which both have room, 2 cells between.

    The last choice stands, whatever the width. The name is shortened to what is left.
    """
    texts = ["  ".join(choice) for choice in choices]
    for text in texts:
        least = min(cells(name), _SHORTEST_NAME) + (_BAR[0] + 2 if bar else 0)
        if least + 2 + cells(text) <= width or text is texts[-1]:
            break
    room = width - cells(text) - 2
    length = min(_BAR[-1], room - 2 - min(cells(name), max(_SHORTEST_NAME, room - 2 - _BAR[-1])))
    length = length if bar and length in _BAR else 0
    return shortened(name, max(0, room - (length + 2 if length else 0))), length, text
