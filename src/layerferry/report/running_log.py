"""The plain lines of a push, with reminders: where no line comes for a while, one says which step it is at."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from layerferry.ci.escape import message
from layerferry.events import Event, Sending
from layerferry.report import widths
from layerferry.report.activity import Activities, Activity, Ending, Moving
from layerferry.result import Result, size

#: Seconds of silence. CircleCI ends a step after ten minutes of it, Travis did.
REMIND_EVERY = 15.0
#: Seconds that the end may take after a signal, until a line says that it is being made.
_TIDY = 2.0
#: Seconds from one look at the clock to the next, where no event comes.
_LOOK_EVERY = 1.0
_MINUTE = 60


class Log:
    """A log of lines, one at a time from whatever thread, each neutralised, with reminders where none comes.

    `clock` gives seconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._said = self._begun = clock()
        self._activities = Activities(clock)
        self.ending = Ending()
        #: When the line of the end is due; None before a signal, and once it is told.
        self._end_due: float | None = None
        self._end_seen = False

    def watch(self) -> None:
        """Write reminders from a thread of its own, until `close`."""
        self._watch.start()

    def close(self) -> None:
        self._ended.set()
        self._watch.join()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Let no other thread write between the lines of this block."""
        with self._lock:
            yield

    def line(self, text: str) -> None:
        self.tell(self._say, text)

    def tell(self, say: Callable[[str], None], text: str) -> None:
        """Write a line by `say`."""
        with self._lock:
            self._said = self._clock()
            say(message(text))

    def hear(self, event: Event) -> None:
        """Note which step a target is at."""
        with self._lock:
            self._activities.hear(event)
        self.remind()

    def forget(self, results: Sequence[Result]) -> None:
        """Note that the targets of these results are done."""
        with self._lock:
            for result in results:
                self._activities.forget(result.target)

    def remind(self) -> None:
        """Write which step each target is at, if no line came for a while; after a signal, once that it ends."""
        with self._lock:
            now = self._clock()
            if self.ending:
                self._tell_end(now)
            elif now - self._said >= REMIND_EVERY:
                self.line(self._what_goes_on(now))

    def _tell_end(self, now: float) -> None:
        if not self._end_seen:
            self._end_seen, self._end_due = True, now + _TIDY
        elif self._end_due is not None and now >= self._end_due:
            self._end_due = None
            self.line(Ending.LINE)

    def _what_goes_on(self, now: float) -> str:
        known = self._activities.items()
        if not known:
            return f"looking at the images, for {now - self._begun:.0f} s"
        if len(known) == 1:
            ((target, activity),) = known
            return f"{target}  {_of_one(activity, now)}"
        counts = Counter(activity.name for _, activity in known)
        what = ", ".join(f"{count} {activity}" for activity, count in counts.items())
        return f"{len(known)} targets under way: {what}{_of_all([activity for _, activity in known])}"

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_EVERY):
            self.remind()


def _of_one(activity: Activity, now: float) -> str:
    event, seconds = activity.event, now - activity.since
    if not isinstance(event, Moving):
        return f"{activity.name}, for {seconds:.0f} s"
    left = activity.rate.left(event.total)
    speed = f"{size(activity.rate.per_second)}/s" if left is not None else "nothing moves"
    time_left = _time_left(left)
    if not event.total:
        return f"{activity.name}: {size(event.done)} on the wire, {speed}"
    told = f"{widths.of(event.done, event.total)} on the wire"
    return f"{widths.share(event.done, event.total)} %, {told}, {speed}{time_left}"


def _of_all(activities: Sequence[Activity]) -> str:
    """What goes to several targets at once, and how long it takes the slowest."""
    sending = [(activity.event, activity.rate) for activity in activities if isinstance(activity.event, Sending)]
    if not sending:
        return ""
    done, total = (sum(getattr(event, name) for event, _ in sending) for name in ("done", "total"))
    left = [rate.left(event.total) for event, rate in sending]
    slowest = max((seconds for seconds in left if seconds is not None), default=None)
    rate = sum(rate.per_second for _, rate in sending)
    return f"; {widths.of(done, total)} on the wire, {size(rate)}/s{_time_left(slowest)}"


def _time_left(seconds: float | None) -> str:
    return f", {_duration(seconds)} left" if widths.can_be_told(seconds) else ""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 2 * _MINUTE else f"{seconds / _MINUTE:.0f} min"
