"""What each target is at, as far as events tell: since when, and how far."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from layerferry.errors import Halt
from layerferry.events import Connecting, Event, Following, Greeted, Loading, Planned, Receiving, Sending
from layerferry.report.rate import Rate

_Events = Connecting | Greeted | Planned | Sending | Receiving | Loading | Following
#: What tells of bytes that are on their way.
Moving = Sending | Receiving
_NAMES: Mapping[type[object], str] = {
    Connecting: "connecting",
    Greeted: "comparing layers",
    Planned: "reading layers",
    Sending: "sending",
    Receiving: "receiving",
    Loading: "unpacking and verifying",
    Following: "doing what follows",
}


@dataclass(frozen=True, slots=True)
class Activity:
    """What a target is at, and since when, in seconds of the clock; `rate` is that of what moves."""

    event: _Events
    since: float
    rate: Rate

    @property
    def name(self) -> str:
        return _NAMES[type(self.event)]


class Activities:
    """What each target is at, by its name, in the order in which they began."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[str, Activity] = {}

    def hear(self, event: Event) -> bool:
        """Note an event; whether a target is at something else by it."""
        if isinstance(event, Receiving):
            has_come = event.done >= event.total > 0
            return sum(self._note(one, Loading(one) if has_come else event) for one in self._known) > 0
        return isinstance(event, _Events) and self._note(event.target, event)

    def _note(self, target: str, event: _Events) -> bool:
        before = self._known.get(target)
        begins = before is None or type(before.event) is not type(event)
        rate = before.rate if before is not None and not isinstance(event, Connecting) else Rate(self._clock)
        if isinstance(event, Moving):
            rate.add(event.done)
        since = self._clock() if begins or before is None else before.since
        self._known[target] = Activity(event, since, rate)
        return begins

    def forget(self, target: str) -> None:
        self._known.pop(target, None)

    def items(self) -> list[tuple[str, Activity]]:
        return list(self._known.items())


class Ending:
    """Whether a signal, or the time limit, has ended the push that is told of from now on: what is left is to tidy up.

    From then on it is of no use what each target is at, or waits for.
    """

    LINE = "ending …"

    def __init__(self) -> None:
        self._before = Halt.count

    def __bool__(self) -> bool:
        return Halt.count > self._before
