"""A daemon's push, and what it is still told when that ends: in what time, and in threads that hold nobody up."""

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from layerferry.errors import SIGNALS_WAIT, interruption
from layerferry.oci import limits

if TYPE_CHECKING:
    from layerferry.sources.daemon.client import DaemonClient

_Given = TypeVar("_Given")


class LastWords:
    """The seconds for what a daemon is still told: as many as it takes, or few once the push has been interrupted.

    A CI kills who is there some 10 s after it has told him to end. What a daemon that hangs has not done by then, the
    next run does.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: float | None = None

    def seconds(self, error: BaseException | None = None) -> float | None:
        """Seconds for the next thing; None where nothing was interrupted.

        `error` is what ends the push; by default, the one that is being handled.
        """
        if self._until is None and interruption(error or sys.exc_info()[1]) is not None:
            self._until = self._clock() + limits.FAREWELL
        return None if self._until is None else max(0.0, min(limits.LAST_WORDS, self._until - self._clock()))

    def unheard(self) -> None:
        """Wait for nothing more: what the daemon was told last, it has not done in time."""
        self._until = self._clock()


class Aside:
    """Does one thing after the other, in threads that no exit of ours waits for."""

    def __init__(self, last_words: LastWords) -> None:
        self._last_words = last_words
        self._last: Future[None] | None = None

    def submit(self, call: Callable[[], _Given]) -> Future[_Given]:
        """Do it as soon as all that was submitted before is done."""
        before, done, future = self._last, Future[None](), Future[_Given]()
        self._last = done

        def work() -> None:
            if before is not None:
                wait([before])
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - whoever waits for it hears of it
                future.set_exception(error)
            finally:
                done.set_result(None)

        threading.Thread(target=work, name="aside", daemon=True).start()
        return future

    def wait(self, future: Future[_Given], error: BaseException | None = None) -> bool:
        """Wait until it is done; whether it is. That is not for long after an interruption, nor where one comes now.

        `error` is what ends the push, if something does.
        """
        try:
            return self._wait(future, self._last_words.seconds(error))
        except BaseException as raised:
            if not future.done():
                self._wait(future, self._last_words.seconds(raised))
            raise

    def _wait(self, future: Future[_Given], seconds: float | None) -> bool:
        until = None if seconds is None else time.monotonic() + seconds
        while not future.done():
            left = SIGNALS_WAIT if until is None else min(SIGNALS_WAIT, until - time.monotonic())
            if left <= 0:
                self._last_words.unheard()
                return False
            wait([future], left)
        return True


class DaemonPush:
    """A context, which gives the call that lets the daemon push, and returns when it has. It raises `SourceError`.

    What there is to be done at its end is waited for by `last_words`. `client` is the one that the daemon pushes for.
    """

    def __init__(
        self, client: "DaemonClient", named: AbstractContextManager[Callable[[], None]], last_words: LastWords
    ) -> None:
        self._client = client
        self._named = named
        self._last_words = last_words

    def __enter__(self) -> Callable[[], None]:
        return self._named.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._last_words.seconds(error) is None:
            self._named.__exit__(kind, error, trace)
            return
        aside = Aside(self._last_words)
        aside.wait(aside.submit(lambda: self._named.__exit__(kind, error, trace)))

    def break_off(self) -> None:
        """End the push, in whichever thread it is, and what is asked before it."""
        self._client.break_off()
