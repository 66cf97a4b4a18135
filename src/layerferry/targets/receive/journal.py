"""What the receiver decided, one JSON object a line, to syslog or a file; never to the client."""

import json
import os
import syslog
import time
from typing import Any

from layerferry.targets.receive.refusal import Refusal

_LONGEST_VALUE = 400


class Journal:
    """Writes one line an event. `destination` is `syslog` or a path; `facts` stand in every line."""

    def __init__(self, destination: str, **facts: Any) -> None:
        self._facts = facts
        self._file = -1
        if destination == "syslog":
            syslog.openlog("layerferry", syslog.LOG_PID, syslog.LOG_DAEMON)
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.open(destination, flags, 0o600)
        except OSError:
            raise Refusal("the receiver's log cannot be written") from None

    def write(self, event: str, **facts: Any) -> None:
        """Add an event; raises `Refusal` where it cannot be kept."""
        now = time.time()
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
        line = json.dumps({"time": stamp, "event": event, **self._facts, **_bounded(facts)})
        if self._file < 0:
            syslog.syslog(syslog.LOG_INFO, line)
            return
        try:
            os.write(self._file, f"{line}\n".encode())
        except OSError:
            raise Refusal("the receiver's log cannot be written") from None

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def _bounded(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value[:_LONGEST_VALUE] if isinstance(value, str) else value for name, value in facts.items()}
