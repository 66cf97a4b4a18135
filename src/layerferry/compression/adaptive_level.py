"""The zstd level for what goes in pieces: the highest that keeps the line busy, as `zstd --adapt` chooses it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from layerferry.compression.stream import zstd_memory

#: Levels, and the MB/s that one core packs with each (64 MB of /usr in pieces of 1 MiB, 2026; only their ratios count).
#: It begins with 3; 9 makes 9 % fewer bytes than that, and 12 in pieces of 4 MiB 20 %. With 17 there would be 5 % fewer
#: still, for five times the work and 186 MB of memory.
_SPEEDS: Final = {1: 390.0, 3: 218.0, 6: 80.0, 9: 45.0, 12: 24.0}
_LEVELS: Final = tuple(_SPEEDS)
_FIRST: Final = _LEVELS.index(3)
#: Bytes of memory that the compressors of all threads may take.
_MEMORY: Final = 48 << 20
#: Bytes a second from which on no line is slow: one that seems so waits for the target's engine.
_QUICK: Final = 12e6
#: What is left of data of which no level makes much less: what was compressed before.
_DENSE: Final = 0.95
#: How many times as quick as the line the compressors have to be.
_AHEAD: Final = 1.3
#: Pieces that are looked at together, and the bytes that ssh, the kernels and a tunnel may hold: before these have gone
#: nobody knows whether the line is slow.
_WINDOW: Final = 4
_BUFFERED: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Passed:
    """One piece on its way: bytes on the wire, and plain; and seconds: of its packing, and since the last piece.

    Of the latter are those that it was waited for, and those that the line took.
    """

    size: int
    plain: int
    packing: float
    for_packer: float
    for_line: float
    all: float


class AdaptiveLevel:
    """The level that pieces are packed with by so many threads. Tell it of each that has passed."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._index = _FIRST
        self._gone = 0
        self._window: list[Passed] = []

    def of(self, size: int) -> int:
        """The level for pieces of `size` bytes: the larger they are, the more memory a high one takes."""
        return _LEVELS[min(self._index, _highest(size, self._threads))]

    def passed(self, piece: Passed) -> None:
        self._gone += piece.size
        self._window.append(piece)
        if len(self._window) >= _WINDOW:
            self._index = self._judge(self._window)
            self._window.clear()

    def _judge(self, window: Sequence[Passed]) -> int:
        """One step up where even the next level would keep the line busy; one down where the line waits for us.

        The first again for what does not shrink: a higher one takes time, and brings nothing.
        """
        size, took = sum(piece.size for piece in window), max(sum(piece.all for piece in window), 1e-6)
        if size > _DENSE * sum(piece.plain for piece in window):
            return min(self._index, _FIRST)
        if sum(piece.for_line for piece in window) > took / 2:
            able = self._threads * size / max(sum(piece.packing for piece in window), 1e-6)
            if self._index + 1 < len(_LEVELS) and (size / took < _QUICK or self._index < _FIRST):
                now, then = (_SPEEDS[_LEVELS[index]] for index in (self._index, self._index + 1))
                return self._index + (able * then / now > _AHEAD * size / took)
        elif sum(piece.for_packer for piece in window) > took / 2 and (self._index > _FIRST or self._gone > _BUFFERED):
            return max(0, self._index - 1)
        return self._index


@cache
def _highest(size: int, threads: int) -> int:
    """The place of the highest level that takes no more memory than it may."""
    fitting = (index for index, level in enumerate(_LEVELS) if threads * zstd_memory(level, size) <= _MEMORY)
    return max(_FIRST, *fitting)
