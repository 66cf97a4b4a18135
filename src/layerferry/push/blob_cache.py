"""Which blob is which layer, as we have seen it ourselves: blobs that we packed, or read and unpacked.

That is arithmetic, true of any registry and for ever, so that it is worth keeping: a file of the user's cache, which
nobody else may write. Where there is no such place, it is known until the push ends.
"""

import contextlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from layerferry.oci import limits
from layerferry.oci.image import MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_LAYER_ZSTD, Descriptor

_TYPES = {"tar": MEDIA_TYPE_LAYER, "gzip": MEDIA_TYPE_LAYER_GZIP, "zstd": MEDIA_TYPE_LAYER_ZSTD}
_KINDS = {media_type: kind for kind, media_type in _TYPES.items()}
_LINE = re.compile(r"(sha256:[0-9a-f]{64}) (sha256:[0-9a-f]{64}) ([0-9]{1,15}) (tar|gzip|zstd)")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Seen:
    """A blob, and the diff ID that it has unpacked."""

    diff_id: str
    blob: Descriptor


class Memory:
    """Blobs that we have seen, by digest. The file is read when it is first asked; each new one is a line more."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._path = place(environ, "layers")
        self._seen: dict[str, Seen] | None = None

    def get(self, digest: str) -> Seen | None:
        return self._all().get(digest)

    def add(self, seen: Seen) -> None:
        """Remember a blob, if it is of one of our media types: no other is one that a registry would do with."""
        if seen.blob.media_type not in _KINDS or seen == self.get(seen.blob.digest):
            return
        self._all()[seen.blob.digest] = seen
        if self._path:
            with contextlib.suppress(OSError):
                _append(self._path, _line(seen))

    def _all(self) -> dict[str, Seen]:
        if self._seen is None:
            self._seen = {}
            with contextlib.suppress(OSError, ValueError):
                if self._path:
                    self._seen = _parse(_read(self._path))
        return self._seen


def place(environ: Mapping[str, str], name: str) -> Path | None:
    """Where a file of the user's cache is; None where there is no place for one.

    XDG Base Directory Specification: a path that is not absolute is ignored.
    """
    cache = environ.get("XDG_CACHE_HOME", "")
    home = environ.get("HOME", "")
    for root in (cache, f"{home}/.cache" if home else ""):
        if root.startswith("/"):
            return Path(root, "layerferry", name)
    return None


def open_own(path: Path, flags: int) -> int:
    """Raises `OSError` where file or folder are not ours alone."""
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    found, folder = os.fstat(file), os.lstat(path.parent)
    ours = all(status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE for status in (found, folder))
    if not ours or not stat.S_ISREG(found.st_mode) or not stat.S_ISDIR(folder.st_mode) or found.st_nlink != 1:
        os.close(file)
        raise PermissionError("it is not ours alone")
    return file


def replace_own(path: Path, text: str) -> None:
    """Put another file of ours in its place, in one step. Raises `OSError`."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with open(open_own(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(text.encode())
    fresh.replace(path)


def _read(path: Path) -> str:
    with open(open_own(path, os.O_RDONLY), "rb") as file:
        return file.read(2 * limits.MEMORY).decode("ascii")


def _append(path: Path, line: str) -> None:
    """One write, so that those of several pushes do not mix. Of a file that has become large the newer half stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "wb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size < limits.MEMORY:
            file.write(line.encode())
            return
    kept = list(_parse(_read(path)).values())
    replace_own(path, "".join([*map(_line, kept[len(kept) // 2 :]), line]))


def _line(seen: Seen) -> str:
    return f"{seen.blob.digest} {seen.diff_id} {seen.blob.size} {_KINDS[seen.blob.media_type]}\n"


def _parse(text: str) -> dict[str, Seen]:
    """What the whole lines say; the last may have been cut short, and another been written behind one that was."""
    matches = filter(None, map(_LINE.fullmatch, text.split("\n")[:-1]))
    return {
        digest: Seen(diff_id, Descriptor(_TYPES[kind], digest, int(size)))
        for digest, diff_id, size, kind in (match.groups() for match in matches)
    }
