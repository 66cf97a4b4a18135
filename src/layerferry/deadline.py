"""A deadline for all that is read from a socket: its own timeout bounds each read, and not what comes byte by byte."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def cut_off(seconds: float, find: Callable[[], socket.socket | None]) -> Iterator[threading.Event]:
    """Shut down the socket that `find` gives, if any, after so many seconds in the block; the event tells of that."""
    late = threading.Event()

    def shut_down() -> None:
        late.set()
        if (found := find()) is not None:
            with contextlib.suppress(OSError, ValueError):  # it is closed
                found.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
