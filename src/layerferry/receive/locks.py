"""The locks between sessions, each waited for within a bound."""

import fcntl
import time

from layerferry.oci import limits
from layerferry.receive.refusal import Refusal

_PAUSE = 0.05


def hold(descriptor: int, what: str) -> None:
    """Lock an open file until it is closed; raises `Refusal` where another session keeps it, `OSError` as flock(2)."""
    for attempt in range(limits.LOCK_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return
    raise Refusal(f"another session holds {what}, and does not let go of it")


def release(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)
