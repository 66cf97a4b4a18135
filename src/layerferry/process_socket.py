"""A process whose stdin and stdout are a socket of ours, so that timeouts are as on any other."""

import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from typing import IO

from layerferry import log
from layerferry.oci import limits
from layerferry.processes import child_environment, end
from layerferry.settings import environment


class Piped:
    """A process, and the socket that is its stdin and stdout. Raises `OSError` where it cannot be started."""

    def __init__(self, argv: Sequence[str], timeout: object = None) -> None:
        log.command("! ssh", argv)
        self.socket, theirs = socket.socketpair()
        self._words = _file()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    argv,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=self._words,
                    env=child_environment(environment()),
                )
        except BaseException:
            self.socket.close()
            self._words.close()
            raise
        if isinstance(timeout, int | float):
            self.socket.settimeout(timeout)

    def failed(self, patience: float) -> bool:
        """Whether the process ends by itself within so many seconds, with another status than 0."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(patience) != 0
        return False

    def end(self) -> str:
        """Terminate the process, if it still runs; the end of its stderr."""
        end(self._process)
        with self._words as words:
            words.seek(max(0, words.seek(0, os.SEEK_END) - limits.HEADERS))
            said = words.read().decode(errors="replace")
        log.note("! ssh", f"ended; it said: {said}")
        return said


def _file() -> IO[bytes]:
    """A file without a name, for what a process says: a pipe would have to be read. On Linux it needs no disk."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):  # a sandbox that forbids it
            return os.fdopen(os.memfd_create("layerferry"), "w+b")
    return tempfile.TemporaryFile()


def last_line(text: str) -> str:
    """The last line that is not blank."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
