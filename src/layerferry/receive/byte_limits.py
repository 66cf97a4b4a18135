"""The limits on the bytes of a push, and of all pushes of a day."""

import json
import os
import time
from pathlib import Path
from typing import Any

from layerferry.receive import locks
from layerferry.receive.refusal import Refusal

_CHARGE = 16 << 20
_LONGEST_STATE = 4096


class Day:
    """The count of a day's bytes (UTC), shared by all sessions with the same `path`. `limit` raises `Refusal`.

    A count that cannot be read or written is a `Refusal`, too, since a count that is lost is a limit that is lost. With
    a clock that went back, the later day goes on.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit

    def charge(self, count: int) -> None:
        try:
            spent = self._add(count)
        except (OSError, ValueError, KeyError, TypeError):
            raise Refusal("the count of today's bytes cannot be kept") from None
        if spent > self._limit:
            raise Refusal(f"today's {self._limit} bytes are used up")

    def _add(self, count: int) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            locks.hold(descriptor, "the count of today's bytes")
            text = os.pread(descriptor, _LONGEST_STATE, 0)
            state: dict[str, Any] = json.loads(text) if text.strip() else {"day": "", "bytes": 0}
            today = max(time.strftime("%Y-%m-%d", time.gmtime()), str(state["day"]))
            spent = (int(state["bytes"]) if state["day"] == today else 0) + count
            line = json.dumps({"day": today, "bytes": spent}).ljust(len(text) or 1).encode()
            if os.pwrite(descriptor, line, 0) != len(line):
                raise OSError
        finally:
            os.close(descriptor)
        return spent


class Meter:
    """The count of a push's bytes, each up to `limit`: as sent, as an archive, and with layers unpacked.

    The day is charged for whichever is the most, as it grows.
    """

    def __init__(self, limit: int, day: Day | None) -> None:
        self._limit = limit
        self._day = day
        self._charged = 0
        self._sent = self._archived = self._unpacked = 0

    @property
    def spent(self) -> int:
        return max(self._sent, self._archived, self._unpacked)

    def sent(self, count: int) -> None:
        self._sent += count
        self._check(self._sent)

    def archived(self, count: int) -> None:
        self._archived += count
        self._check(self._archived)

    def unpacked(self, count: int) -> None:
        self._unpacked += count
        self._check(self._unpacked)

    def _check(self, count: int) -> None:
        if count > self._limit:
            raise Refusal(f"a push may have {self._limit} bytes here, and this one has more")
        if count - self._charged >= _CHARGE:
            self.settle()

    def settle(self) -> None:
        """Charge the bytes that were counted since the last time."""
        due, self._charged = self.spent - self._charged, max(self.spent, self._charged)
        if self._day is not None and due > 0:
            self._day.charge(due)
