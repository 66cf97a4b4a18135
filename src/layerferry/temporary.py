"""The private folders of a push, and those that runs which were killed have left.

A folder is locked (flock(2)) by the process that made it, for as long as that lives: a lock ends with its process,
SIGKILL included, so that a folder without one is nobody's. Where a file system knows no locks nothing is swept.
"""

import contextlib
import fcntl
import os
import re
import shutil
import socket
import stat
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from layerferry.errors import LayerferryError, SourceError

#: The names of our folders, which differ from what a user may call layerferry-something.
_PREFIX: Final = "layerferry-run-"
_NEW: Final = "layerferry-new-"
_OURS = re.compile(f"(?:{_PREFIX}|{_NEW})[a-z0-9_]{{8}}")
#: Seconds after which a folder that is not locked yet, and has its first name still, is of a process that was killed.
_NAMED_BY: Final = 60
#: A unix socket's path may have 104 bytes (BSD), of which ssh takes 17 for its temporary name.
LONGEST_SOCKET: Final = 86
_SOCKET = f"/{_PREFIX}12345678/s"
#: Where sockets may be, if not in the folder for temporary files.
_SOCKET_PARENTS: Final = ("/tmp", "/dev/shm")  # noqa: S108 - the folder in it is private
NO_SOCKETS: Final = "TMPDIR names the folder for temporary files; one of a local file system will do."
_ADVICE = "TMPDIR names the folder for temporary files; it has to be writable, and to have room."


class TemporaryFolder:
    """A folder of mode 0700, removed with all that is in it by `cleanup`, when it is collected, or at exit.

    `parent` is the system's temporary folder by default. Raises `error` where none can be made.
    """

    def __init__(self, parent: str | Path | None = None, *, error: type[LayerferryError] = SourceError) -> None:
        self.name, descriptor = _make(parent, error)
        self.path = Path(self.name)
        self._end = weakref.finalize(self, _remove, self.name, descriptor)

    def __enter__(self) -> str:
        return self.name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cleanup()

    def cleanup(self) -> None:
        self._end()


def _make(parent: str | Path | None, error: type[LayerferryError]) -> tuple[str, int]:
    """The folder, and the descriptor that holds its lock."""
    try:
        place = parent or tempfile.gettempdir()
    except OSError as failure:
        # Python has looked into each, and says so.
        tried = ", ".join(re.findall(r"'([^']+)'", failure.strerror or "")) or "TMPDIR, /tmp"
        raise error(f"no folder for temporary files can be written: neither of {tried}", hint=_ADVICE) from None
    try:
        new = tempfile.mkdtemp(prefix=_NEW, dir=place)
        descriptor = os.open(new, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # no locks here
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        name = _PREFIX.join(new.rsplit(_NEW, 1))
        # Not before it is locked does it have the name by which another run would sweep it.
        Path(new).rename(name)
        return name, descriptor  # noqa: TRY300
    except OSError as failure:
        raise error(f"no temporary folder can be made in {place}: {failure.strerror}", hint=_ADVICE) from None


def _remove(name: str, descriptor: int) -> None:
    shutil.rmtree(name, ignore_errors=True)
    os.close(descriptor)


def socket_parent(wanted: Path | None = None) -> str | Path | None:
    """The parent of a folder in which a socket's path is short enough: `wanted`, or None for the usual one."""
    with contextlib.suppress(OSError):
        return "/tmp" if len(f"{wanted or tempfile.gettempdir()}{_SOCKET}") > LONGEST_SOCKET else wanted  # noqa: S108
    return wanted


def socket_folder(
    wanted: Path | None = None, *, error: type[LayerferryError] = SourceError
) -> tuple[TemporaryFolder, str]:
    """A folder for a unix socket called `s`, below `wanted` if may be, and why it can hold none; "" where it can.

    A vfat, 9p or other shared file system may know none (bind(2), EPERM), as may a path that is too long.
    """
    kept: tuple[TemporaryFolder, str] | None = None
    for parent in dict.fromkeys((socket_parent(wanted), *_SOCKET_PARENTS, f"/run/user/{os.getuid()}")):
        try:
            folder = TemporaryFolder(parent, error=error)
        except LayerferryError:
            if kept is None:
                raise
            continue
        if not (trouble := _lacks_sockets(folder.path)):
            return folder, ""
        kept = kept or (folder, f"{parent or folder.path.parent} can hold no socket: {trouble}")
    assert kept is not None
    return kept


def _lacks_sockets(folder: Path) -> str:
    """Why a folder can hold no socket under the longest name that ssh gives it; "" where it can."""
    path = folder / f"s.{'x' * 16}"
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
        path.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def sweep() -> str:
    """Remove the folders that dead runs of this user have left; a sentence on them, or an empty string."""
    with contextlib.suppress(OSError):
        parents = {tempfile.gettempdir(), str(socket_parent() or tempfile.gettempdir())}
        swept = sum(_sweep_one(path) for parent in sorted(parents) for path in _left(Path(parent)))
        if swept:
            what = "a temporary folder" if swept == 1 else f"{swept} temporary folders"
            return f"removed {what} that earlier runs, which were killed, had left in {' and '.join(sorted(parents))}"
    return ""


def _left(parent: Path) -> Iterator[Path]:
    """The folders with names as ours have, which are this user's alone."""
    with os.scandir(parent) as entries:
        for entry in entries:
            if _OURS.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    is_private = stat.S_IMODE(status.st_mode) == stat.S_IRWXU and status.st_uid == os.getuid()
                    is_named = entry.name.startswith(_PREFIX) or status.st_mtime < time.time() - _NAMED_BY
                    if is_private and is_named:
                        yield Path(entry.path)


def _sweep_one(path: Path) -> bool:
    """Remove a folder, unless a living process holds its lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return not path.exists()
