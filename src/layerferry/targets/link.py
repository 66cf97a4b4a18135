"""Connections that are made while something else is done."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from layerferry.errors import LayerferryError


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
        stack.callback(self.hang_up)

    def __call__(self) -> Made_co:
        """Raises what went wrong while it was made."""
        with self._lock:
            self._future = self._future or self._pool.submit(self._connect)
        return self._future.result()

    def hang_up(self) -> None:
        """In a hurry, and only where it was made at all."""
        if self._future is not None:
            with contextlib.suppress(LayerferryError):
                self._future.result().close(hurry=True)
