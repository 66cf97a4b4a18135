"""The waits of a conversation: each has a bound, and an error that tells who was waited for."""

import time
from dataclasses import dataclass, field

from layerferry.errors import ConnectError, LayerferryError, TargetError


def now() -> float:
    """Seconds of a clock that only goes on."""
    return time.monotonic()


@dataclass(slots=True)
class Wait:
    """A wait for what a target says, with bounds in seconds: of silence, and of all of it."""

    what: str
    silence: float
    whole: float
    #: Whether the target has said meanwhile that it lives.
    alive: bool = False
    _start: float = field(default_factory=now)

    @property
    def left(self) -> float:
        return max(0.0, min(self.silence, self._start + self.whole - now()))

    def over(self, target: str) -> LayerferryError:
        """The error that tells on whom we waited, for what, and since when: on its engine, where the target lives."""
        waited = now() - self._start
        return (TargetError if self.alive else ConnectError)(
            f"{target} gave no answer: we have waited {waited:.0f} s for {self.what}",
            hint="See whether it is overloaded, or hangs; then push again.",
        )
