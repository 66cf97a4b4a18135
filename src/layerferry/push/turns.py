"""Of several targets: which does what follows a push, and when; and how many are at work at a time."""

import contextlib
import threading
from collections.abc import Iterator, Sequence

from layerferry.errors import ConnectError
from layerferry.push.follow_up import After

#: Seconds from one look whether all has ended to the next.
_LOOK = 0.5


class Turns:
    """The turns of some targets, by number. Who waits for its turn holds up nobody else's push."""

    def __init__(self, after: After, targets: Sequence[str], at_once: int, ended: threading.Event) -> None:
        self._after = after
        self._targets = targets
        self._slots = at_once
        self._ended = ended
        self._news = threading.Condition()
        #: Targets that have the image, those that are done with all, and of these the ones that failed.
        self._here: set[int] = set()
        self._left: set[int] = set()
        self._failed: set[int] = set()

    @contextlib.contextmanager
    def at_work(self, number: int) -> Iterator[list[bool]]:
        """While one target is pushed to. Put into the list whether that went well."""
        well: list[bool] = []
        self._begin()
        try:
            yield well
        finally:
            with self._news:
                self._slots += 1
                self._left.add(number)
                if not all(well or [False]):
                    self._failed.add(number)
                self._news.notify_all()

    def take(self, number: int) -> str:
        """Wait until it is this one's turn, which has the image; why it has none, or nothing."""
        with self._news:
            self._slots += 1
            self._here.add(number)
            self._news.notify_all()
            self._wait_for_others(number)
        self._begin()
        with self._news:
            return self._why_not(number)

    def _begin(self) -> None:
        with self._news:
            while self._slots < 1 and not self._ended.is_set():
                self._news.wait(_LOOK)
            self._slots -= 1

    def _wait_for_others(self, number: int) -> None:
        while not self._is_time(number):
            self._news.wait(_LOOK)
            if self._ended.is_set():
                self._slots -= 1
                raise ConnectError("the push was broken off")

    def _is_time(self, number: int) -> bool:
        match self._after:
            case After.ALL:
                return self._here | self._left >= set(range(len(self._targets)))
            case After.ONE_BY_ONE:
                return self._left >= set(range(number))
        return True

    def _why_not(self, number: int) -> str:
        match self._after:
            case After.ALL:
                missing = self._failed - self._here
                return f"{self._targets[min(missing)]} has not got the image" if missing else ""
            case After.ONE_BY_ONE:
                failed = {one for one in self._failed if one < number}
                return f"it failed on {self._targets[min(failed)]}, which comes before" if failed else ""
        return ""
