"""The project's file, `layerferry.toml` or `[tool.layerferry]` in pyproject.toml, as it is found and read.

It comes with a checkout, which may be a stranger's: it names images, hosts and what happens on those, as a Makefile
does. It names no secret, no way to call ssh, no hosts to trust and no file out of its own folder.
"""

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from layerferry.errors import UsageError

if TYPE_CHECKING:
    from layerferry.settings.file_rules import ProjectFile

OWN_NAME: Final = "layerferry.toml"
SHARED_NAME: Final = "pyproject.toml"
#: What ends a search: the folder of a repository's own data.
_REPOSITORY: Final = (".git", ".hg", ".jj")
#: Bytes of a file; nobody writes as much.
_LARGEST: Final = 256 << 10
_ALL_THE_SAME: Final = "--config {path}, or LAYERFERRY_CONFIG, has it read all the same."


def find(start: Path, home: Path | None) -> "ProjectFile | None":
    """The file of `start`, or of the nearest folder above it; None where there is none.

    The search ends at the repository's root, at `home`, before a folder that others may write to, and where a folder
    cannot be looked into, as one below another user's home. Raises `UsageError` where a folder that others may write
    to has one, or where the file is wrong.
    """
    for folder in (start, *start.parents):
        status = _status(folder)
        if status is None or not os.access(folder, os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            return None
        trouble = _others(status)
        if trouble and status.st_mode & stat.S_ISVTX:  # /tmp is nobody's project
            return None
        for name in (OWN_NAME, SHARED_NAME):
            if (file := _status(folder / name)) is None or (found := _read(folder / name)) is None:
                continue
            if trouble := trouble or _others(file):
                raise UsageError(
                    f"{folder / name} is not read: {trouble}", hint=_ALL_THE_SAME.format(path=folder / name)
                )
            return _typed(found, folder / name, start)
        if trouble or folder == home or any(_status(folder / name) for name in _REPOSITORY):
            return None
    return None


def read(path: Path, start: Path) -> "ProjectFile":
    """The file that the user has named, whoever may write to it. Raises `UsageError`."""
    path = start / path
    found = _read(path)
    if found is None:
        hint = "A pyproject.toml has a table [tool.layerferry] for it." if _status(path) else "Look at the path."
        raise UsageError(f"{path} is no file of layerferry", hint=hint)
    return _typed(found, path, start)


def _status(path: Path) -> os.stat_result | None:
    """What the system says of a file or a folder; None where there is none, or where it cannot be looked at."""
    with contextlib.suppress(OSError):
        return path.stat()
    return None


def _others(status: os.stat_result) -> str:
    """Why somebody else may write there, in words; empty where only this user and root may."""
    what = "the folder" if stat.S_ISDIR(status.st_mode) else "it"
    if status.st_uid not in {0, os.geteuid()}:
        return f"{what} belongs to another user (uid {status.st_uid})"
    if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid)):
        return f"{what} may be written to by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


def _is_private(gid: int) -> bool:
    """Whether a group is this user's alone, as many systems give each user one, with a umask of 002."""
    import grp  # noqa: PLC0415 - for such a folder alone
    import pwd  # noqa: PLC0415

    try:
        if gid == 0 and os.geteuid() != 0:
            return not set(grp.getgrgid(0).gr_mem) - {"root"}
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and group.gr_name == user.pw_name and not set(group.gr_mem) - {user.pw_name}


def _read(path: Path) -> Mapping[str, Any] | None:
    """What a file says to us; None where there is none, or where it is somebody else's alone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) or path.name == SHARED_NAME:
            return None
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_LARGEST + 1)
    if path.name == SHARED_NAME and b"layerferry" not in data:
        return None
    if len(data) > _LARGEST:
        raise UsageError(f"{path} has more than {_LARGEST} bytes", hint=f"A {OWN_NAME} beside it is read before it.")
    import tomllib  # noqa: PLC0415 - most projects have no such file

    try:
        document: Any = tomllib.loads(data.decode())
    except RecursionError:
        raise UsageError(f"{path} cannot be read: it is nested too deeply") from None
    except ValueError as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise UsageError(f"{path} cannot be read: {reason}", hint="It is written in TOML (toml.io).") from None
    if path.name == SHARED_NAME:
        tool = document.get("tool")
        document = tool.get("layerferry") if isinstance(tool, dict) else None
    return document if isinstance(document, dict) else None


def _typed(document: Mapping[str, Any], path: Path, start: Path) -> "ProjectFile":
    """Check all of it: most folders have no such file, and ssh is to start at once."""
    from layerferry.settings.file_rules import FilePlace, typed  # noqa: PLC0415 - see above

    key = "tool.layerferry" if path.name == SHARED_NAME else ""
    return typed(document, FilePlace(os.path.relpath(path, start), path.parent, key))
