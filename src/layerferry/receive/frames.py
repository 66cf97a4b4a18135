"""The lines, the frames and the script that a client sends, each bounded in length, number and time."""

import os
import select
import time
from collections.abc import Iterator
from typing import Protocol

from layerferry.protocol import LONGEST_FRAME
from layerferry.receive.refusal import HungUp, Overdue, Refusal

#: Bytes. `expect` is the longest line: a throw-away name and all diff IDs of an image, 72 bytes each.
LONGEST_LINE = 64 << 10
MOST_LINES = 20_000
_READ = 256 << 10
#: A pipe that poll(2) calls writable takes as much without blocking (pipe(7), PIPE_BUF).
_WRITE = 4096
#: As long as a frame takes on a slow line: 4 MiB at 600 kbit/s.
_DRAIN = 60.0
#: Seconds for the last lines, once a session has lasted too long.
_LAST_WORDS = 30.0


class Pieces(Protocol):
    """What is done with the frames that are pieces."""

    def keep(self, name: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Pass on what comes, and keep it."""

    def read(self, name: str) -> Iterator[bytes]:
        """The bytes of what is here."""


class Client:
    """A client, on two file descriptors. Times are in seconds; `until` is on the monotonic clock."""

    def __init__(self, incoming: int, outgoing: int, *, idle: float, until: float) -> None:
        self._in = incoming
        self._out = outgoing
        self._idle = idle
        self._until = until
        self._buffer = bytearray()
        self._lines = 0

    def read_line(self, patience: float | None = None) -> str:
        """The next line, without its end; raises `HungUp` at the end of input, `Refusal` on what is not a line."""
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            self._text(len(self._buffer))  # an sftp client would wait for us, and we for its newline
            start = len(self._buffer)
            self._buffer += self._read(_READ, patience)
        line = self._text(end)
        del self._buffer[: end + 1]
        self._lines += 1
        if self._lines > MOST_LINES:
            raise Refusal(f"there are more than {MOST_LINES} lines")
        return line

    def _text(self, end: int) -> str:
        if end > LONGEST_LINE:
            raise Refusal(f"a line is longer than {LONGEST_LINE} bytes")
        line = self._buffer[:end].decode("latin-1")
        if not line.isascii() or not line.isprintable():
            raise Refusal("a line holds more than printable ASCII")
        return line

    def skip(self, count: int) -> None:
        for _ in self._exactly(count):
            pass

    def skip_frames(self, most: int) -> None:
        for data in self.frames():
            if (most := most - len(data)) < 0:
                raise Refusal("the script is too long")

    def frames(self, pieces: Pieces | None = None) -> Iterator[bytes]:
        """The bytes of `LENGTH, bytes, LENGTH, bytes, 0`, in any portions; with `pieces`, of those with names, too."""
        while True:
            told, named, name = self._header().partition(" ")
            if named and pieces is None:
                raise Refusal("a frame has a name")
            if told == "+" and pieces is not None:
                yield from pieces.read(name)
            elif (length := self._length(told)) == 0:
                return
            elif named and pieces is not None:
                yield from pieces.keep(name, self._exactly(length))
            else:
                yield from self._exactly(length)

    def _header(self) -> str:
        line = self.read_line()
        self._lines -= 1  # frames are bounded by their bytes
        return line

    def _length(self, line: str) -> int:
        if not line.isdigit() or len(line) > len(str(LONGEST_FRAME)) or (line[0] == "0" and line != "0"):
            raise Refusal("a frame does not start with its length")
        if int(line) > LONGEST_FRAME:
            raise Refusal(f"a frame is longer than {LONGEST_FRAME} bytes")
        return int(line)

    def _exactly(self, count: int) -> Iterator[bytes]:
        while count:
            piece = bytes(self._buffer[:count])
            del self._buffer[:count]
            piece = piece or self._read(min(count, _READ))
            count -= len(piece)
            yield piece

    def say(self, *lines: str) -> None:
        """Write lines in ASCII, with `?` for any other character."""
        data = "".join(f"{line}\n" for line in lines).encode("ascii", "replace")
        while data:
            self._wait(self._out, select.POLLOUT, self._idle, self._until + _LAST_WORDS)
            try:
                data = data[os.write(self._out, data[:_WRITE]) :]
            except OSError:
                raise HungUp("the client has gone") from None

    def drain(self) -> None:
        """Read on for a while after a refusal: a client in the midst of a frame reads our answer only after it."""
        limit = min(self._until, time.monotonic() + _DRAIN)
        try:
            while (left := limit - time.monotonic()) > 0:
                self._read(_READ, left)
        except (HungUp, Refusal):
            return

    def _read(self, count: int, patience: float | None = None) -> bytes:
        self._wait(self._in, select.POLLIN, min(self._idle, patience or self._idle), self._until)
        try:
            data = os.read(self._in, count)
        except OSError:
            data = b""
        if not data:
            raise HungUp("the client has hung up")
        return data

    def _wait(self, descriptor: int, event: int, patience: float, until: float) -> None:
        left = min(patience, until - time.monotonic())
        poll = select.poll()
        poll.register(descriptor, event)
        if left <= 0 or not poll.poll(left * 1000):
            raise Overdue("the session takes too long" if left < patience else f"nothing came for {patience:g} s")
