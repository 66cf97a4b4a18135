"""A line that breaks: a proxy in front of an sshd or a registry, which waits, goes slowly, falls silent or is cut."""

import contextlib
import select
import socket
import struct
import threading
import time

_PIECE = 4096
#: Seconds from one look at what has become of the line to the next.
_LOOK = 0.05
#: struct linger: closing resets the connection (socket(7), SO_LINGER).
_RESET = struct.pack("ii", 1, 0)


class Line:
    """Forwards every connection to `port` of this machine.

    Once `at` bytes have gone up, or `word` has, it holds all that comes after, and `reached` is set; `go_on` lets it
    pass. `rate` is in bytes a second.
    """

    def __init__(self, port: int, *, at: int | None = None, word: bytes = b"", rate: float = 0.0) -> None:
        self._to = port
        self._at = at
        self._word = word
        self._rate = rate
        self._seen = b""
        self.up = 0
        self.reached = threading.Event()
        self._open = threading.Event()
        self._open.set()
        self._closed = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        if rate:  # a slow line holds little
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def hold(self) -> None:
        """Let nothing pass any more, and close nothing: what a network does that is gone."""
        self._open.clear()

    def go_on(self) -> None:
        self._at, self._word = None, b""
        self._open.set()

    def cut(self) -> None:
        """Reset every connection there is; new ones pass."""
        self._at, self._word = None, b""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            each.close()
        self._open.set()

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # `close` alone would leave a thread in its `accept`
        self._listener.close()
        self.cut()

    def _listen(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets += [client, server]
            for pair, up in (((client, server), True), ((server, client), False)):
                threading.Thread(target=self._forward, args=(*pair, up), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError, ValueError):  # the latter of a socket that was closed meanwhile
            while True:
                if not select.select([source], [], [], _LOOK)[0]:  # no thread holds a socket that is to be reset
                    continue
                data = source.recv(_PIECE)
                if not data:
                    break
                if up:
                    self._count(data)
                while not self._open.wait(_LOOK):
                    if self._closed:
                        return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def _count(self, data: bytes) -> None:
        if self._rate:
            time.sleep(len(data) / self._rate)
        self.up += len(data)
        self._seen = (self._seen + data)[-2 * _PIECE :]
        if (self._at is not None and self.up > self._at) or (self._word and self._word in self._seen):
            self._at, self._word = None, b""
            self.hold()
            self.reached.set()
