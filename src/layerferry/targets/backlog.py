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
from itertools import islice
from pathlib import Path
from typing import IO

#: Bytes that ssh holds when it takes no more, where nothing tells how many there are.
_WINDOW = 2 << 20
#: Bytes that any process holds beside that, some: its buffers, and the pipe to the next one.
_BUFFERS = 512 << 10
#: Bytes in our pipe from which on it is not being emptied.
_STUCK = 32 << 10
#: Seconds without any movement, after which what seems to be held is taken for an error of measurement.
_STILL = 1.0
#: Bytes of a table of sockets, and processes in a row (ProxyJump, ProxyCommand), that are looked at.
_MOST = 1 << 20
_MOST_PROCESSES = 4
_SOCKET = re.compile(r"socket:\[(\d+)\]")
#: The kernel makes these tables of all of its sockets, whoever asks: that is what a look costs.
_TABLES = ("tcp", "tcp6")


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
        #: From ssh to the one that has the connection, as far as their counts are of use.
        self._carriers: list[_Carrier] = []
        self._begun = 0
        self._last = (0, 0)
        self._moved = clock()

    def measure(self, sent: int) -> None:
        """Begin to measure: what ssh has read of `sent` bytes until now has gone."""
        self._begun = sent - self._in_pipe()
        if self._process is not None:
            chain = islice(_chain(self._proc, self._process), _MOST_PROCESSES)
            self._carriers = [_Carrier(self._proc / str(process), first=not at) for at, process in enumerate(chain)]

    def held(self, sent: int) -> int:
        """Bytes, of `sent`, that have not left this machine."""
        waiting = self._in_pipe()
        return waiting + self._held(sent - waiting - self._begun, waiting) if self._process is not None else waiting

    def _held(self, read: int, waiting: int) -> int:
        """What ssh, and who is behind it, hold of what it has `read` since the beginning."""
        carried = self._carried(read)
        if carried is None:
            return max(0, min(read, _WINDOW)) if waiting >= _STUCK else 0
        if self._last != (read, carried):
            self._last, self._moved = (read, carried), self._clock()
        elif self._clock() - self._moved >= _STILL and not waiting:
            return 0
        return max(0, min(read, read - carried))

    def _in_pipe(self) -> int:
        """Bytes that nobody has read; 0 where the system does not tell, and where the pipe is closed."""
        count = array.array("i", [0])
        with contextlib.suppress(OSError, ValueError):
            fcntl.ioctl(self._pipe.fileno(), termios.FIONREAD, count)
        return count[0]

    def _carried(self, read: int) -> int | None:
        """Bytes that have left this machine, those of the encryption too; None where that is not known.

        A process that seems to hold more than it can writes otherwise than the system counts: by send(2), into a shared
        connection, compressed. From then on the one before it tells.
        """
        for at, carrier in enumerate(self._carriers):
            written = carrier.written()
            if written is None or read - written > carrier.most:
                del self._carriers[at:]
                break
            read = written
        return read - self._carriers[-1].unsent() if self._carriers else None


class _Carrier:
    """A process that our bytes go through; what it writes counts from now on.

    `first` is the one that reads our pipe.
    """

    def __init__(self, folder: Path, *, first: bool) -> None:
        self._folder = folder
        is_ssh = first or _text(folder / "comm").strip() == "ssh"
        #: Bytes that it can hold: ssh takes a window.
        self.most = _BUFFERS + (_WINDOW if is_ssh else 0)
        inodes = set(_sockets(folder / "fd"))
        found = {name: inodes & set(_queues(self._table(name), inodes)) for name in _TABLES}
        #: The inodes of its sockets, by the table that they stand in: no other one is read again.
        self._sockets = {name: there for name, there in found.items() if there}
        self._before, self._waiting = self._count(), 0
        self._waiting = self.unsent()

    def written(self) -> int | None:
        """Bytes that it has written; None where that is not known."""
        count = self._count()
        return None if count is None or self._before is None else count - self._before

    def unsent(self) -> int:
        """Bytes in its TCP sockets that the other side has not acknowledged, beyond those at the beginning."""
        waiting = sum(sum(_queues(self._table(name), there).values()) for name, there in self._sockets.items())
        return waiting - self._waiting

    def _count(self) -> int | None:
        found = re.search(r"^wchar: (\d+)$", _text(self._folder / "io"), re.MULTILINE)
        return int(found[1]) if found else None

    def _table(self, name: str) -> str:
        return _text(self._folder / "net" / name)


def _chain(proc: Path, process: int) -> Iterator[int]:
    """A process, and the child that it goes through (ProxyJump, ProxyCommand), and that one's."""
    while True:
        yield process
        children = _text(proc / str(process) / "task" / str(process) / "children").split()
        if not children or not children[-1].isdecimal():
            break
        process = int(children[-1])


def _queues(table: str, inodes: set[str]) -> dict[str, int]:
    """By the inodes of sockets that a table has, the bytes that wait to be acknowledged."""
    lines = [line.split() for line in table.splitlines() if any(f" {inode} " in line for inode in inodes)]
    return {words[9]: int(words[4].partition(":")[0], 16) for words in lines if len(words) > 9 and words[9] in inodes}  # noqa: PLR2004  proc(5) counts the fields


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
