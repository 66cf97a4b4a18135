"""The names under which a daemon pushes to us: whose each is, so that a killed run's can be taken away by the next.

While it has such a name an image stays in its daemon, whatever else is done to it. The tag says when its run started,
the process's number, and where that counts: parallel runs on the same daemon, of other machines too, keep theirs.
"""

import contextlib
import hashlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from layerferry.errors import SourceError

#: Seconds after which no run is alive that we cannot ask for: a push may last a day.
_LONGEST_RUN: Final = 2 * 24 * 3600
#: For the daemon's filter `reference` (moby, daemon/images: path.Match on the familiar name).
PATTERN: Final = "*/layerferry/*"
_NAME = re.compile(
    r"[^/\s]+/layerferry/[0-9a-f]{16,64}:"
    r"layerferry-(?P<started>[0-9a-f]{8,10})-(?P<pid>[1-9][0-9]{0,8})-(?P<place>[0-9a-f]{12})"
)
_MOST: Final = 100


def _place() -> str:
    """Where process numbers are the same as here: the machine, since it was started, and the PID namespace."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


#: The tag of this run's names.
PUSH_TAG: Final = f"layerferry-{int(time.time()):08x}-{os.getpid()}-{_place()}"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def left(names: Iterable[str], now: float, *, lives: Callable[[int], bool] = _lives) -> Iterator[str]:
    """Those of `names` that a run has left which is dead: a process of here that is gone, or one of days ago."""
    place = PUSH_TAG.rpartition("-")[2]
    for name in names:
        if match := _NAME.fullmatch(name):
            gone = match["place"] == place and not lives(int(match["pid"]))
            if gone or now - int(match["started"], 16) > _LONGEST_RUN:
                yield name


def sweep(shown: Callable[[], Iterable[str]], remove: Callable[[str], None]) -> str:
    """Remove what dead runs have left among the names that a daemon has; a sentence on it, or an empty string.

    This one's own go first, which were to be gone by now: the daemon was not there, or hung, when it was told so. Both
    may raise `SourceError`, which ends it: another run will do it.
    """
    swept = 0
    with contextlib.suppress(SourceError):
        names = list(shown())
        for name in [name for name in names if _NAME.fullmatch(name) and name.endswith(f":{PUSH_TAG}")]:
            remove(name)
        for name in list(left(names, time.time()))[:_MOST]:
            remove(name)
            swept += 1
    if not swept:
        return ""
    return f"removed {swept} name{'s' if swept > 1 else ''} that earlier runs, which were killed, had left there"
