"""The rate of what is sent, and the time that is left. Pure, but for the clock that it is given."""

from collections import deque
from collections.abc import Callable

#: Seconds that a rate is taken over. What is older says little of a line that others share.
_WINDOW = 10.0
#: Seconds from one sample to the next, at least.
_STEP = 0.25


class Rate:
    """Bytes a second over the last seconds. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, done: int) -> None:
        """Note that `done` bytes have gone in all. Fewer than before: it has begun anew."""
        now = self._clock()
        if self._samples and done < self._samples[-1][1]:
            self._samples.clear()
        if len(self._samples) > 1 and now - self._samples[-2][0] < _STEP:
            self._samples.pop()
        self._samples.append((now, done))
        while len(self._samples) > 2 and self._samples[1][0] <= now - _WINDOW:  # noqa: PLR2004  two make a rate
            self._samples.popleft()

    @property
    def per_second(self) -> float:
        """0 where nothing has moved, or as long as nobody can tell."""
        if len(self._samples) < 2:  # noqa: PLR2004  two make a rate
            return 0.0
        now, (start, before), (last, done) = self._clock(), self._samples[0], self._samples[-1]
        return (done - before) / max(now - start, 1e-9) if now - last < _WINDOW else 0.0

    def left(self, total: int) -> float | None:
        """Seconds until `total` bytes have gone; None where nobody can tell."""
        rate = self.per_second
        return max(0, total - self._samples[-1][1]) / rate if rate > 0 else None
