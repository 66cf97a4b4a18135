"""The files that layers are kept in for a while: each write is checked, and a full disk is an error that says so."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from layerferry.errors import SourceError

#: Bytes between two looks at what the disk has left.
_LOOK_EVERY: Final = 64 << 20


def is_there(path: Path, kind: Callable[[int], bool] = bool) -> bool:
    """Whether there is a file of a kind (`stat.S_ISREG`, …). One in a folder that we may not look into is not there."""
    with contextlib.suppress(OSError, ValueError):
        return kind(path.stat().st_mode)
    return False


def no_room(folder: Path, needed: int, why: str = "", *, exact: bool = True) -> SourceError:
    """The error for a folder that has no room for `needed` bytes more; where not `exact`, for a layer of so many.

    Of 0 bytes it is not known how many they are.
    """
    reason = f"{why}, " if why else ""
    with contextlib.suppress(OSError):  # it may be gone, and that is the reason then
        reason += f"{shutil.disk_usage(folder).free} bytes free, "
    return SourceError(
        f"layers cannot be kept in {folder}: {reason}{_needed(needed, exact=exact)}",
        hint="TMPDIR names the folder for them: one with more room will do.",
    )


def _needed(count: int, *, exact: bool) -> str:
    if not count:
        return "more needed"
    return f"{count} needed" if exact else f"more needed for a layer of {count} bytes"


def require(folder: Path, needed: int, layer: int | None = None) -> None:
    """Raise `SourceError` where a folder's disk has no room for `needed` bytes more.

    Where these are a part of a `layer` of so many bytes, that is what is told.
    """
    told, exact = (needed, True) if layer is None else (layer, False)
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise no_room(folder, told, error.strerror or "", exact=exact) from None
    if free < needed:
        raise no_room(folder, told, exact=exact)


def write_all(file: IO[bytes], data: bytes | memoryview) -> None:
    """Write all of `data`, of which an unbuffered file may take less at a time. Raises `OSError`."""
    view = memoryview(data)
    while view:
        count = file.write(view)
        if not count:
            raise BlockingIOError(0, "it takes no more")
        view = view[count:]


class KeptFile:
    """A new file of a private folder, for a layer of `size` bytes, or of up to so many where that is not `exact`.

    Writing raises `SourceError` where the disk is full, or where more than `most` bytes come: `what` names the layer.
    """

    def __init__(self, path: Path, size: int, *, exact: bool = True, most: int | None = None, what: str = "") -> None:
        self._folder = path.parent
        self._size = size
        self._exact = exact
        self._most = most
        self._what = what
        self._looked = 0
        self.written = 0
        if exact:
            require(self._folder, size)
        try:
            path.unlink(missing_ok=True)  # whoever still reads one of that name goes on to do so
            self._file: IO[bytes] = path.open("xb", buffering=0)
        except OSError as error:
            raise no_room(self._folder, size, error.strerror or "", exact=exact) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        if self._most is not None and self.written + len(data) > self._most:
            raise SourceError(
                f"{self._what} is refused: its {self._size} bytes unpack to more than {self._most}",
                hint="Nothing that is made for use is packed so tightly.",
            )
        left = max(self._size - self.written, len(data))
        if self.written >= self._looked + _LOOK_EVERY:
            self._looked = self.written
            require(self._folder, *((left,) if self._exact else (len(data), self._size)))
        try:
            write_all(self._file, data)
        except OSError as error:
            why = error.strerror or os.strerror(error.errno or 0)
            raise no_room(self._folder, left if self._exact else self._size, why, exact=self._exact) from None
        self.written += len(data)
        return len(data)

    def truncate(self, size: int) -> None:
        """Forget what was written behind the first `size` bytes."""
        self._file.truncate(size)
        self._file.seek(size)
        self.written = size
