"""The file by which docker finds us: `docker-ferry` in a folder of its plugins. Written, and removed if it is ours."""

import contextlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from layerferry.errors import OutputError, UsageError
from layerferry.processes import running_archive

NAME: Final = "ferry"
#: What one types, and help calls us.
PROGRAM: Final = f"docker {NAME}"
#: Our own first word, which the file puts before those of docker.
WORD: Final = "docker-plugin"
FILE: Final = f"docker-{NAME}"
#: docker looks here for all users: cli-plugins/manager/manager_unix.go.
SYSTEM: Final = Path("/usr/local/lib/docker/cli-plugins")
#: The second line of a file that is ours.
_MARK: Final = "# layerferry is docker's plugin `ferry`: written by `layerferry plugin install`, removed by `remove`."
_HEAD: Final = f"#!/bin/sh\n{_MARK}\n"


def place(environ: Mapping[str, str], *, system: bool) -> Path:
    """Where the file belongs, for this user, or for all; raises `UsageError`."""
    from layerferry.ci.daemon_address import configuration_folder  # noqa: PLC0415 - docker waits for our metadata

    folder = SYSTEM.parent if system else configuration_folder(environ)
    if folder is None:
        raise UsageError("there is no home folder for a plugin of docker's", hint="Set HOME, or DOCKER_CONFIG.")
    return folder / SYSTEM.name / FILE


def own_command() -> Sequence[str]:
    """What starts us again: our interpreter with us as a module, or an archive; an executable is both."""
    archive = running_archive()
    if not archive:
        return (sys.executable, "-P", "-m", "layerferry")
    return (archive,) if archive == sys.executable else (sys.executable, "-P", str(Path(archive).absolute()))


def install(path: Path, command: Sequence[str], *, system: bool) -> None:
    """Write the file; one that is ours already is replaced. Raises `UsageError` where another is there, `OutputError`.

    What all users start, root among them, nobody but root may change.
    """
    if system and (theirs := _of_a_user([command[0], command[-1] if Path(command[-1]).is_absolute() else __file__])):
        raise UsageError(
            f"{theirs} belongs to a user, who could change what docker would then start for everybody",
            hint="Install layerferry as root first (pipx install --global), or leave out --system.",
        )
    text = f'{_HEAD}exec {shlex.join([*command, WORD])} "$@"\n'
    before = _is_ours(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if before:
            path.unlink()
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o755)
    except OSError as error:
        raise _unwritten(path, error) from None


def remove(path: Path) -> bool:
    """Remove the file; whether there was one. Raises `UsageError` where it is not ours, `OutputError`."""
    if not _is_ours(path):
        return False
    try:
        path.unlink()
    except OSError as error:
        raise _unwritten(path, error) from None
    return True


def _is_ours(path: Path) -> bool:
    """Whether there is a file, which is ours then; raises `UsageError` where it is not, `OutputError`."""
    try:
        if not (path.is_symlink() or path.exists()):
            return False
        ours = path.is_file() and not path.is_symlink() and _begins_as_ours(path)
    except OSError as error:
        raise _unwritten(path, error) from None
    if not ours:
        raise UsageError(f"{path} is not layerferry's, and stays", hint=f"It is docker's {NAME} until you remove it.")
    return True


def _begins_as_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_HEAD)) == _HEAD.encode()


def _of_a_user(paths: Sequence[str]) -> str:
    """The first of the paths that belongs to a user other than root, or lies in a folder that does; or an empty one."""
    for path in paths:
        real = Path(path).resolve()
        for part in (real, *real.parents):
            with contextlib.suppress(OSError):
                if part.stat().st_uid:
                    return str(part)
    return ""


def _unwritten(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be changed: {error.strerror}", hint="What is in /usr needs root: sudo.")
