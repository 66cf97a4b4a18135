"""The events of a push, as values. The core emits them, `report` shows them; nothing else prints."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from layerferry.oci import limits
from layerferry.oci.content import Route
from layerferry.oci.plan import Plan


@dataclass(frozen=True, slots=True)
class Connecting:
    """The beginning of a try: the target is called."""

    target: str


@dataclass(frozen=True, slots=True)
class Greeted:
    """The target's greeting: `engine` reads like `docker 28.5.2 (overlay2)`."""

    target: str
    engine: str
    platform: str
    #: What the user may not expect of it.
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Planned:
    """What an image lacks on its target; `source` is the host that it is pulled from, where it is."""

    target: str
    plan: Plan
    route: Route
    source: str = ""


#: Seconds from one `Sending` or `Receiving` to the next, at least.
SENDING_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Sending:
    """Progress of what is sent, in bytes on the wire: those that have left this machine, of an estimated `total`."""

    target: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Receiving:
    """Progress of what a pull reads out of its host, in bytes: of `total`, or of 0 where nobody knows that yet.

    One read is for all targets. Where all has come, and only then, `done` is `total`: the engine here has it, or gets
    it.
    """

    done: int
    total: int


def so_far(done: int, total: int) -> tuple[int, int]:
    """Both of a `Receiving` while not all has come, though what was expected may be less than what comes."""
    return (min(done, total - 1) if total else done), total


@dataclass(frozen=True, slots=True)
class Loading:
    """The end of the sending: the target unpacks and verifies."""

    target: str


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning: something failed, and the push goes on."""

    target: str
    message: str


@dataclass(frozen=True, slots=True)
class Stalled:
    """Nothing moves: on whom the push waits, for what, and how long it has."""

    target: str
    message: str


@dataclass(frozen=True, slots=True)
class Following:
    """What follows a push begins, or would in a dry run: a command, or files that are copied."""

    target: str
    what: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """A line that the command after a push has said."""

    target: str
    text: str


Event = Connecting | Greeted | Planned | Sending | Receiving | Loading | Warned | Stalled | Following | Said
Emit = Callable[[Event], None]


class Patience:
    """Tells that nothing has moved for `limits.STALLED` seconds, then for twice as long, and so on."""

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self.moved()

    def moved(self) -> None:
        """Count from now on."""
        self._since = self._clock()
        self._next = limits.STALLED

    @property
    def left(self) -> float:
        """Seconds until there is something to tell."""
        return max(0.0, self._since + self._next - self._clock())

    def look(self, what: str) -> None:
        """Tell, where it is time: `what` goes before the seconds."""
        if not self.left:
            self._tell(f"{what} for {self._next:.0f} s")
            self._next *= 2
