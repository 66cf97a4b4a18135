"""A relay that hands bytes on after a while: the kernel of the rig's machines has no netem.

It runs behind a machine's shaped link, as `python3 delay.py ADDRESS PORT SECONDS` in that network, so that what a
client has sent waits in the client's own socket, as on a real line, and not in the relay.
"""

import contextlib
import queue
import socket
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rig.machine import Machine

_STEP = 64 << 10
#: Reads of a direction on their way at a time: as much as a long line holds.
_ON_THE_WAY = 256


class Delay:
    """Listens on a machine that has a network of its own, and hands each connection on to a port there.

    Each byte arrives `seconds` later; a connection is open after the time of a round trip, as by TCP's handshake.
    """

    def __init__(self, machine: "Machine", port: int, seconds: float) -> None:
        from rig.processes import wait_until  # noqa: PLC0415 - the relay itself runs without the rig

        log = machine.run_folder / f"delay-{port}.log"
        log.unlink(missing_ok=True)
        inside = ["nsenter", "--target", str(machine.init.pid), "--net", "--"]
        command = [sys.executable, str(Path(__file__)), machine.address, str(port), str(seconds)]
        self._process = machine.ledger.start([*inside, *command], log=log)
        wait_until(lambda: log.read_text().endswith("\n") or not self._process.alive, f"no relay: see {log}")
        self.port = int(log.read_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from rig.processes import stop  # noqa: PLC0415 - see above

        stop([self._process])


def _serve(address: str, port: int, seconds: float) -> None:
    listener = socket.create_server((address, 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        near, _ = listener.accept()
        threading.Thread(target=_connect, args=(near, (address, port), seconds), daemon=True).start()


def _connect(near: socket.socket, there: tuple[str, int], seconds: float) -> None:
    time.sleep(2 * seconds)
    far = socket.create_connection(there)
    for one, other in ((near, far), (far, near)):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line: queue.Queue[tuple[float, bytes]] = queue.Queue(_ON_THE_WAY)
        threading.Thread(target=_read, args=(one, line, seconds), daemon=True).start()
        threading.Thread(target=_write, args=(other, line), daemon=True).start()


def _read(source: socket.socket, line: "queue.Queue[tuple[float, bytes]]", seconds: float) -> None:
    data = b"-"
    while data:
        try:
            data = source.recv(_STEP)
        except OSError:
            data = b""
        line.put((time.monotonic() + seconds, data))


def _write(sink: socket.socket, line: "queue.Queue[tuple[float, bytes]]") -> None:
    with contextlib.suppress(OSError):
        while True:
            due, data = line.get()
            time.sleep(max(0.0, due - time.monotonic()))
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
