"""The plain lines of a push, with reminders: where no line comes for a while, one says which step it is at."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from layerferry.ci.escape import message
from layerferry.events import Event, Greeted, Loading, Planned, Sending
from layerferry.result import Result, size

#: Seconds of silence. CircleCI ends a step after ten minutes of it, Travis did.
REMIND_EVERY = 15.0
#: Seconds from one look at the clock to the next, where no event comes.
_LOOK_EVERY = 1.0


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
        self._said = self._reminded = self._begun = clock()
        #: By target, its last event, and since when it is at that step.
        self._state: dict[str, tuple[Event, float]] = {}
        #: By target, bytes on the wire; and of all targets together at the last reminder.
        self._wire: dict[str, int] = {}
        self._wired = 0

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
            match event:
                case Sending():
                    self._wire[event.target] = event.wire
                    self._note(event.target, event)
                case Greeted() | Planned() | Loading():
                    self._note(event.target, event)
        self.remind()

    def _note(self, target: str, event: Event) -> None:
        before, since = self._state.get(target, (None, 0.0))
        self._state[target] = event, since if type(before) is type(event) else self._clock()

    def forget(self, results: Sequence[Result]) -> None:
        """Note that the targets of these results are done."""
        with self._lock:
            for result in results:
                self._state.pop(result.target, None)

    def remind(self) -> None:
        """Write which step each target is at, if no line came for a while."""
        with self._lock:
            now = self._clock()
            if now - self._said >= REMIND_EVERY:
                self.line(self._what_goes_on(now))
                self._reminded, self._wired = now, sum(self._wire.values())

    def _what_goes_on(self, now: float) -> str:
        if not self._state:
            return f"connecting, and looking at the images, for {now - self._begun:.0f} s"
        if len(self._state) == 1:
            ((target, (event, since)),) = self._state.items()
            return f"{target}  {self._of_one(event, now - since, now)}"
        counts = Counter(_activity(event) for event, _ in self._state.values())
        what = ", ".join(f"{count} {activity}" for activity, count in counts.items())
        return f"{len(self._state)} targets under way: {what}; {self._on_the_wire(now)}"

    def _of_one(self, event: Event, seconds: float, now: float) -> str:
        if isinstance(event, Sending):
            return f"{size(event.done)} of {size(event.total)}, {self._on_the_wire(now)}"
        return f"{_activity(event)}, for {seconds:.0f} s"

    def _on_the_wire(self, now: float) -> str:
        wire = sum(self._wire.values())
        moved = wire - self._wired
        seconds = now - self._reminded
        speed = f"{size(moved / seconds)}/s" if moved and seconds else f"nothing more for {seconds:.0f} s"
        return f"{size(wire)} on the wire, {speed}"

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_EVERY):
            self.remind()


def _activity(event: Event) -> str:
    match event:
        case Sending():
            return "sending"
        case Loading():
            return "unpacking and verifying"
        case Planned():
            return "reading layers"
        case _:
            return "comparing layers"
