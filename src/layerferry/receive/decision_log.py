"""The log of the receiver's decisions, one JSON object a line, to syslog or a file; never to the client.

A line in a file is whole or not there, and a decision is carried out only once its line is there. Whether a syslog
daemon keeps a line cannot be known: it tells nobody.
"""

import contextlib
import errno
import json
import os
import syslog
import time
from typing import Any

from layerferry.receive import locks
from layerferry.receive.refusal import Refusal

_LONGEST_VALUE = 400


class DecisionLog:
    """A log of one line an event. `destination` is `syslog` or a path; `facts` are in every line."""

    def __init__(self, destination: str, **facts: Any) -> None:
        self._facts = _bounded(facts)
        self._file = -1
        if destination == "syslog":
            syslog.openlog("layerferry", syslog.LOG_PID, syslog.LOG_DAEMON)
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.open(destination, flags, 0o600)
        except OSError:
            raise _unwritten() from None

    def write(self, event: str, **facts: Any) -> None:
        """Add an event; raises `Refusal` where its line cannot be written whole.

        All but printable ASCII is escaped, also DEL, which JSON does not escape.
        """
        now = time.time()
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
        line = json.dumps({"time": stamp, "event": event, **self._facts, **_bounded(facts)}).replace("\x7f", "\\u007f")
        if self._file < 0:
            syslog.syslog(syslog.LOG_INFO, line)
            return
        try:
            locks.hold(self._file, "the receiver's log")
            try:
                self._append(f"{line}\n".encode())
            finally:
                locks.release(self._file)
        except OSError:
            raise _unwritten() from None

    def _append(self, line: bytes) -> None:
        """Write a line, or nothing: after half a line the next one could not be read either."""
        before = os.fstat(self._file).st_size
        try:
            _write(self._file, line)
        except OSError:
            with contextlib.suppress(OSError):  # a pipe or a terminal
                os.ftruncate(self._file, before)
            raise

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it, as often as write(2) takes only a part; raises `OSError`."""
    while data:
        written = os.write(descriptor, data)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        data = data[written:]


def _unwritten() -> Refusal:
    return Refusal("the receiver's log cannot be written")


def _bounded(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value[:_LONGEST_VALUE] if isinstance(value, str) else value for name, value in facts.items()}
