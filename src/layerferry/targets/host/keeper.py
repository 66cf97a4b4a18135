"""Passes an archive's frames on, and keeps pieces: what `frames` of resuming.sh does, in one process for all of them.

It goes through the session and is run by `python3 -c`, so it is of Python 3.6 and the standard library alone. Its words
are the shell that waits for it, the session, and the room for pieces, where `0` is none; its descriptors 0, what comes,
1, the engine, and 8, the watch (main.sh). Nothing is read behind the last frame: that is the shell's.

It ends with 0 where all has come, or the engine takes no more, and with 3 where it broke off. python3 itself, where it
does not get so far as to read, ends with another code.
"""

import contextlib
import os
import re
import sys
import time

_BLOCK = 1 << 16
#: Seconds, at least, from one word to the watch to the next.
_MARKED = 5.0


class Keeper:
    """Reads frames, and gives their bytes on."""

    def __init__(self, shell: str, session: str, room: str) -> None:
        self._waiting = f"wait {shell} {os.getpid()}\n".encode()
        self._session = os.fsencode(session)
        self._keeps = room != "0"
        #: Whether the engine's pipe takes bytes out of a file.
        self._sends = True
        self._marked = 0.0

    def frames(self) -> None:
        """Obey each line up to the last. Raises `EOFError` where it does not come."""
        while True:
            self._wait()
            words = _line().split(None, 1)
            length, name = [*words, b"", b""][:2]
            name = name.strip()
            if length == b"-":
                continue
            if name and not re.match(rb"[0-9a-f-][0-9a-f.-]{0,238}\Z", name):
                return
            if length == b"+" and name:
                os.write(8, b"work\n")
                if not self._again(name):
                    return
            elif length != b"0" and re.match(rb"[0-9]{1,8}\Z", length):
                self._frame(int(length), name)
            else:
                return

    def _wait(self) -> None:
        """Tell the watch that something has come, and that more is waited for."""
        self._marked = time.monotonic()
        os.write(8, self._waiting)

    def _again(self, name: bytes) -> bool:
        """Give a piece that is here; whether it is."""
        try:
            file = open(os.path.join(b"c." + self._session, name), "rb", 0)  # noqa: SIM115
        except OSError:
            return False
        with file:
            while True:
                data = file.read(_BLOCK)
                if not data:
                    return True
                _give(data)

    def _frame(self, left: int, name: bytes) -> None:
        """Give so many bytes. Where the disk is full, no further piece is kept; one that breaks off is not."""
        path = name + b"." + self._session
        file = self._opened(path) if name and self._keeps else -1
        at = 0
        try:
            while left:
                data = _read(min(left, _BLOCK))
                left -= len(data)
                if file >= 0 and not _written(file, data):
                    _closed(file)
                    file = self._lost(path)
                self._pass(file, at, data)
                at += len(data)
                if time.monotonic() - self._marked > _MARKED:
                    self._wait()
        except BaseException:
            if file >= 0:
                self._lost(path)
            raise
        if file >= 0 and not _closed(file):
            self._lost(path)

    def _opened(self, path: bytes) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        except OSError:
            self._keeps = False
            return -1

    def _lost(self, path: bytes) -> int:
        """Keep nothing of a piece, and no further one; no descriptor. Another session may have removed it."""
        self._keeps = False
        with contextlib.suppress(OSError):
            os.unlink(path)
        return -1

    def _pass(self, file: int, at: int, data: bytes) -> None:
        """Give what has just been written there: out of the file, which spares a copy, where the system can do that."""
        gone = 0
        while file >= 0 and self._sends and gone < len(data):
            try:
                count = os.sendfile(1, file, at + gone, len(data) - gone)
            except BrokenPipeError:
                raise
            except OSError:
                count = 0
            self._sends = count > 0
            gone += count
        _give(data[gone:])


def _read(count: int) -> bytes:
    data = os.read(0, count)
    if not data:
        raise EOFError
    return data


def _line() -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        line += _read(1)
    return bytes(line)


def _closed(file: int) -> bool:
    """Close a file; whether all of it is kept, which some disks tell no sooner."""
    try:
        os.close(file)
    except OSError:
        return False
    return True


def _written(file: int, data: bytes) -> bool:
    try:
        while data:
            data = data[os.write(file, data) :]
    except OSError:
        return False
    return True


def _give(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def main() -> int:
    """Keep what comes; the code to end with."""
    keeper = Keeper(*sys.argv[1:])
    try:
        keeper.frames()
    except BrokenPipeError:
        return 0
    except BaseException:  # noqa: BLE001 - bytes are gone, and the shell would read on amid a frame
        return 3
    return 0


if __name__ == "__main__":
    os._exit(main())
