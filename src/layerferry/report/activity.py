"""What each target is at, as far as events tell: since when, and how far."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from layerferry.events import Connecting, Event, Following, Greeted, Loading, Planned, Sending
from layerferry.report.rate import Rate

_Events = Connecting | Greeted | Planned | Sending | Loading | Following
_NAMES: Mapping[type[object], str] = {
    Connecting: "connecting",
    Greeted: "comparing layers",
    Planned: "reading layers",
    Sending: "sending",
    Loading: "unpacking and verifying",
    Following: "doing what follows",
}


@dataclass(frozen=True, slots=True)
class Activity:
    """What a target is at, and since when, in seconds of the clock; `rate` is that of what is sent to it."""

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
        if not isinstance(event, _Events):
            return False
        before = self._known.get(event.target)
        begins = before is None or type(before.event) is not type(event)
        rate = before.rate if before is not None and not isinstance(event, Connecting) else Rate(self._clock)
        if isinstance(event, Sending):
            rate.add(event.done)
        since = self._clock() if begins or before is None else before.since
        self._known[event.target] = Activity(event, since, rate)
        return begins

    def forget(self, target: str) -> None:
        self._known.pop(target, None)

    def items(self) -> list[tuple[str, Activity]]:
        return list(self._known.items())
