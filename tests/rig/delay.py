"""A relay that hands bytes on after a while: the kernel of the rig's machines has no netem."""

import contextlib
import queue
import socket
import threading
import time
from types import TracebackType
from typing import Self

_STEP = 64 << 10
#: Bytes of a direction on their way at a time: as much as a long line holds.
_ON_THE_WAY = 64


class Delay:
    """Listens on 127.0.0.1, and hands each connection on to an address, each byte `seconds` later."""

    def __init__(self, address: str, port: int, seconds: float) -> None:
        self._there = address, port
        self._seconds = seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._there)
                for one, other in ((near, far), (far, near)):
                    line: queue.Queue[tuple[float, bytes]] = queue.Queue(_ON_THE_WAY)
                    threading.Thread(target=self._read, args=(one, line), daemon=True).start()
                    threading.Thread(target=self._write, args=(other, line), daemon=True).start()

    def _read(self, source: socket.socket, line: "queue.Queue[tuple[float, bytes]]") -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(_STEP)
            except OSError:
                data = b""
            line.put((time.monotonic() + self._seconds, data))

    def _write(self, sink: socket.socket, line: "queue.Queue[tuple[float, bytes]]") -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = line.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
