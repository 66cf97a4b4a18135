"""A daemon's push of one image, which another thread can end."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

from layerferry.sources.daemon.client import DaemonClient
from layerferry.sources.daemon.last_words import Aside, LastWords


class DaemonPush:
    """A context, which gives the call that lets the daemon push, and returns when it has. It raises `SourceError`.

    What there is to be done at its end is waited for by `last_words`. `client` is the one that the daemon pushes for.
    """

    def __init__(
        self, client: DaemonClient, named: AbstractContextManager[Callable[[], None]], last_words: LastWords
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
