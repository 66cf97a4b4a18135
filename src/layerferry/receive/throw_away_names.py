"""The names that an image is loaded under until it is verified: whose each is, so that a dead session's can be removed.

A name tells when it was made and by which process, and where that counts: since the machine was started, in which
namespace of processes, by which user. The host script (`targets/host/archive.sh`) makes and removes names of this form,
too.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_MAKER = r"(?P<pid>[1-9][0-9]{0,8})-(?P<started>[0-9]{1,20})-(?P<place>[0-9a-f-]+)"
_NAME = re.compile(rf"localhost/layerferry:[0-9a-f]{{8}}-[0-9a-f]{{16}}-{_MAKER}")
_CONTAINER = re.compile(rf"layerferry-{_MAKER}")


def new_name() -> str:
    """A name of this session's."""
    return "-".join(filter(None, [f"localhost/layerferry:{int(time.time()):08x}", os.urandom(8).hex(), _maker()]))


def new_container() -> str:
    """The name of a container of this session's."""
    return f"layerferry-{_maker() or os.urandom(8).hex()}"


def _maker() -> str:
    return f"{os.getpid()}-{_started(os.getpid())}-{place}" if (place := _place()) else ""


def left(names: Iterable[str]) -> Iterator[str]:
    """Those of `names`, or of containers, that sessions of this user and this place have left which are dead."""
    place = _place()
    for name in names:
        match = _NAME.fullmatch(name) or _CONTAINER.fullmatch(name)
        if place and match and match["place"] == place and _started(int(match["pid"])) != match["started"]:
            yield name


def _place() -> str:
    """Where process numbers are the same as here; empty where that is not known, as without a /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").partition("-")[0]
        space = re.fullmatch(r"pid:\[([0-9]+)\]", str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        return ""
    return f"{boot}-{space[1]}-{os.getuid()}" if space and re.fullmatch("[0-9a-f]{8}", boot) else ""


def _started(pid: int) -> str:
    """When a process was started, in ticks since the machine was (proc(5)); empty of one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
