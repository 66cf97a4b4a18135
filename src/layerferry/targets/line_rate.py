"""The rate of a line to a host, measured for a dry run, which may say nothing else."""

import time

from layerferry.protocol import SIGN_OF_LIFE
from layerferry.targets.conduit import Conduit

#: Bytes that tell what a line carries; more of them where it carries much.
_PROBES = (64 << 10, 512 << 10)
#: Seconds that it is looked at most, from one look to the next, and after which no more bytes are needed.
_MOST, _STEP, _ENOUGH = 3.0, 0.005, 0.2


def line_rate(conduit: Conduit) -> float | None:
    """Bytes a second that ssh gets rid of now: a sign of life with words behind it, which the host script skips.

    None where nothing went. What has left this machine is looked at (`layerferry.targets.backlog`), and no answer.
    """
    rate = 0.0
    conduit.measure()
    for size in _PROBES:
        start, goal = time.monotonic(), conduit.sent + size
        conduit.write(f"{SIGN_OF_LIFE} {'x' * (size - 3)}\n".encode())
        while conduit.taken < goal and time.monotonic() - start < _MOST:
            time.sleep(_STEP)
        seconds = time.monotonic() - start
        rate = max(0, size - goal + conduit.taken) / seconds
        if seconds > _ENOUGH:
            break
    return rate or None
