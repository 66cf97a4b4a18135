"""What the processes that carry our bytes still hold of them, as far as the system tells.

ssh reads ahead: a window of 2 MiB (OpenSSH, channels.h, CHAN_SES_WINDOW_DEFAULT), and what the kernel's socket takes.
On Linux proc(5) tells what it has written (`wchar` of /proc/PID/io), and how much of that is not acknowledged yet
(`tx_queue` of /proc/PID/net/tcp). All of it is an estimate for the progress display, and nothing is decided by it.
"""

import array
import contextlib
import fcntl
import re
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

#: Bytes that ssh holds when it takes no more, where nothing tells how many there are.
_WINDOW = 2 << 20
#: Bytes in our pipe from which on it is not being emptied.
_STUCK = 32 << 10
#: Seconds without any movement, after which what seems to be held is taken for an error of measurement.
_STILL = 1.0
#: Bytes of a table of sockets, and processes in a row (ProxyJump, ProxyCommand), that are looked at.
_MOST = 1 << 20
_MOST_PROCESSES = 4
_SOCKET = re.compile(r"socket:\[(\d+)\]")


class Backlog:
    """The bytes that a pipe of ours holds, and those that ssh holds, which reads it.

    `process` is ssh's ID, None for another command, of which nobody knows; `proc` is where proc(5) is.
    """

    def __init__(
        self,
        pipe: IO[bytes],
        process: int | None,
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pipe = pipe
        self._process = process
        self._proc = proc
        self._clock = clock
        self._carrier = 0
        self._offset: int | None = None
        self._last = (0, 0)
        self._moved = clock()

    def measure(self, sent: int) -> None:
        """Begin to measure: what ssh has read of `sent` bytes until now has gone."""
        if self._process is not None:
            self._carrier = self._last_of_all(self._process)
            carried = self._carried()
            self._offset = None if carried is None else sent - self._in_pipe() - carried

    def held(self, sent: int) -> int:
        """Bytes, of `sent`, that have not left this machine."""
        waiting = self._in_pipe()
        return waiting + self._held(sent - waiting, waiting) if self._process is not None else waiting

    def _held(self, read: int, waiting: int) -> int:
        carried = self._carried() if self._offset is not None else None
        if carried is None or self._offset is None:
            return min(read, _WINDOW) if waiting >= _STUCK else 0
        if self._last != (read, carried):
            self._last, self._moved = (read, carried), self._clock()
        elif self._clock() - self._moved >= _STILL and not waiting:
            return 0
        return max(0, read - self._offset - carried)

    def _in_pipe(self) -> int:
        """Bytes that nobody has read; 0 where the system does not tell, and where the pipe is closed."""
        count = array.array("i", [0])
        with contextlib.suppress(OSError, ValueError):
            fcntl.ioctl(self._pipe.fileno(), termios.FIONREAD, count)
        return count[0]

    def _carried(self) -> int | None:
        """Bytes that have left this machine, those of the encryption too; None where that is not known."""
        written = re.search(r"^wchar: (\d+)$", _text(self._proc / str(self._carrier) / "io"), re.MULTILINE)
        return int(written[1]) - self._unsent() if written else None

    def _unsent(self) -> int:
        """Bytes in the kernel's TCP sockets of the process that the other side has not acknowledged."""
        folder = self._proc / str(self._carrier)
        inodes = set(_sockets(folder / "fd"))
        tables = (_text(folder / "net" / name) for name in ("tcp", "tcp6"))
        lines = (line.split() for table in tables for line in table.splitlines()[1:])
        return sum(int(words[4].partition(":")[0], 16) for words in lines if len(words) > 9 and words[9] in inodes)  # noqa: PLR2004  proc(5) counts the fields

    def _last_of_all(self, process: int) -> int:
        """The process that has the connection: ssh, or a child of it that it goes through (ProxyJump, ProxyCommand)."""
        for _ in range(_MOST_PROCESSES):
            children = _text(self._proc / str(process) / "task" / str(process) / "children").split()
            if not children or not children[-1].isdecimal():
                break
            process = int(children[-1])
        return process


def _sockets(folder: Path) -> Iterator[str]:
    """The inodes of the sockets among a process's open files."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                if found := _SOCKET.fullmatch(str(path.readlink())):
                    yield found[1]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST).decode(errors="replace")
    except OSError:
        return ""
