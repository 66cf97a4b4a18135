"""The programs that the receiver starts, an engine's above all, bounded in time and in bytes of output.

Each has a session of its own, so that a signal to ours does not reach it: we end it ourselves.
"""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from layerferry.oci import limits

_STEP = 64 << 10
#: Seconds between two looks whether a program has ended whose output somebody else holds open.
_LOOK = 0.25
_KILLED = 5.0


class OverrunError(Exception):
    """A bound that a program has passed. The message ends a sentence that starts with the program's name."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The status that a program ended with, and its stdout and stderr."""

    status: int
    out: bytes
    err: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The bounds of a program: `seconds`, `answer` bytes of both outputs together, `grace` seconds after we break off.

    With `tail`, only so many bytes of an output's end are kept, and there is no bound on the whole.
    """

    seconds: float
    answer: int = limits.ENGINE_ANSWER
    tail: int = 0
    grace: float = 0.0


def run(
    argv: Sequence[str],
    environment: Mapping[str, str],
    bounds: Bounds,
    *,
    feed: Iterable[bytes] | None = None,
    folder: str | None = None,
    hand_down: Sequence[int] = (),
) -> Ended:
    """Run a program to its end, `feed` being its input; raises `OverrunError`, or `OSError` where it cannot start."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=folder,
        bufsize=0,
        pass_fds=hand_down,
        start_new_session=True,
    )
    exchange = _Exchange(process, bounds, iter(feed or ()))
    try:
        return exchange.finish()
    except OverrunError:
        raise
    except BaseException:
        exchange.abandon()
        raise
    finally:
        _end(process)


def write(argv: Sequence[str], environment: Mapping[str, str], file: IO[bytes], room: int, seconds: float) -> bool:
    """Let a program write into a file, at most `room` bytes; whether it has ended well. Raises `OSError`."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        bufsize=0,
        start_new_session=True,
    )
    assert process.stdout is not None
    until, count = time.monotonic() + seconds, 0
    try:
        while select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
            data = process.stdout.read(_STEP)
            if not data:
                file.flush()
                return not process.wait(_KILLED)
            count += len(data)
            if count > room:
                return False
            file.write(data)
    except subprocess.TimeoutExpired:
        return False
    finally:
        _end(process)
    return False


class _Exchange:
    """The input and output of a program, until it has ended."""

    def __init__(self, process: "subprocess.Popen[bytes]", bounds: Bounds, feed: Iterator[bytes]) -> None:
        self._process = process
        self._bounds = bounds
        self._until = time.monotonic() + bounds.seconds
        self._feed = feed
        self._due = memoryview(b"")
        self._poll = select.poll()
        self._open: dict[int, IO[bytes]] = {}
        self._kept: dict[int, bytearray] = {}
        self._heard = 0
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            self._watch(stream, select.POLLIN)
            self._kept[stream.fileno()] = bytearray()
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            self._watch(process.stdin, select.POLLOUT)

    def finish(self) -> Ended:
        while self._open and self._step():
            pass
        out, err = map(bytes, self._kept.values())
        try:
            return Ended(self._process.wait(max(0.0, self._until - time.monotonic())), out, err)
        except subprocess.TimeoutExpired:
            raise OverrunError("takes too long") from None

    def abandon(self) -> None:
        """Write no more, drop what it writes, and let it end by itself within `grace`."""
        if self._process.stdin is not None:
            self._close(self._process.stdin)
        self._until = time.monotonic() + self._bounds.grace
        self._bounds = Bounds(seconds=0, tail=1)
        with contextlib.suppress(OverrunError):
            self.finish()

    def _step(self) -> bool:
        """Move some bytes; False once it has ended, though somebody else keeps its output open."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise OverrunError("takes too long")
        ready = self._poll.poll(min(left, _LOOK) * 1000)
        for descriptor, _ in ready:
            stream = self._open[descriptor]
            if stream is self._process.stdin:
                self._give(stream)
            else:
                self._hear(stream)
        return bool(ready) or self._process.poll() is None

    def _give(self, stream: IO[bytes]) -> None:
        if not self._due:
            piece = next(self._feed, None)
            if piece is None:
                self._close(stream)
                return
            self._due = memoryview(piece)
        try:
            self._due = self._due[os.write(stream.fileno(), self._due[:_STEP]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it reads no more: its status says why
            self._close(stream)

    def _hear(self, stream: IO[bytes]) -> None:
        piece = os.read(stream.fileno(), _STEP)
        if not piece:
            self._close(stream)
            return
        kept = self._kept[stream.fileno()]
        kept += piece
        self._heard += len(piece)
        if self._bounds.tail:
            del kept[: -self._bounds.tail]
        elif self._heard > self._bounds.answer:
            raise OverrunError(f"says more than {self._bounds.answer} bytes")

    def _watch(self, stream: IO[bytes], event: int) -> None:
        self._open[stream.fileno()] = stream
        self._poll.register(stream, event)

    def _close(self, stream: IO[bytes]) -> None:
        if not stream.closed:
            self._poll.unregister(stream)
            del self._open[stream.fileno()]
            stream.close()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Close its pipes, and kill it with its children. One that `sudo` runs as root cannot be killed by us."""
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_KILLED)
