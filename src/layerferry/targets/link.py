"""Connections that are made while something else is done."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from layerferry.errors import ConnectError, LayerferryError


class Closeable(Protocol):
    """What can be closed; in a hurry, it does not wait for the other side."""

    def close(self, *, hurry: bool = False) -> None: ...


Made_co = TypeVar("Made_co", bound=Closeable, covariant=True)


class Link(Generic[Made_co]):
    """A connection that is made in a thread, at once or when it is first wanted. Call it to get what it has become."""

    def __init__(self, stack: contextlib.ExitStack, now: bool, connect: Callable[[], Made_co]) -> None:  # noqa: FBT001
        self._pool = stack.enter_context(ThreadPoolExecutor(1))
        self._connect = connect
        self._lock = threading.Lock()
        self._future: Future[Made_co] | None = self._pool.submit(connect) if now else None
        self._ended = False
        stack.callback(self.hang_up)

    def __call__(self) -> Made_co:
        """Raises what went wrong while it was made; `ConnectError` where somebody has hung up for good."""
        with self._lock:
            if self._ended:
                raise ConnectError("the push was broken off")
            self._future = self._future or self._pool.submit(self._connect)
        return self._future.result()

    def renew(self) -> None:
        """Let go of the connection, which is broken: the next call makes another one."""
        with self._lock:
            broken, self._future = self._future, None
        _close(broken)

    def hang_up(self) -> None:
        """For good; in a hurry, and only where it was made at all."""
        with self._lock:
            self._ended = True
            broken = self._future
        _close(broken)


def _close(made: Future[Made_co] | None) -> None:
    if made is not None:
        with contextlib.suppress(LayerferryError):
            made.result().close(hurry=True)
