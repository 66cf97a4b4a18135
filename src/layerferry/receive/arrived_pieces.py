"""What has arrived of large layers, kept in the receiver's own state until an image has its name.

A piece is a file that goes by its name (`layerferry.oci.piece`), in a folder for each policy: who may not see an image
is not to build on its pieces. What is built on has a second name in a folder of the session's, so that no other session
can take it away.
"""

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from layerferry.oci import limits
from layerferry.oci.image import is_digest
from layerferry.oci.piece import digest_begins, kept_content, key_of
from layerferry.protocol import Reply
from layerferry.receive.refusal import Refusal

#: Seconds after which a piece goes.
_AGE = 2 * 86400
_STEP = 1 << 20
_LONGEST_NUMBER = 16
_NAME = re.compile(r"[0-9a-f]{16}\.[0-9a-f]{32}\.[0-9a-f]{32}")
_SESSION = "session-"
_NEW = "new-"


def sweep(state: Path) -> None:
    """Remove what is too old, of sessions that were killed and of other policies, too."""
    before = time.time() - _AGE
    for path in state.glob("*/*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < before:
                shutil.rmtree(path) if path.name.startswith(_SESSION) else path.unlink()
                path.parent.rmdir()


class ArrivedPieces:
    """The pieces in `folder`, of which all may have `most` bytes. Use `close` when the session ends.

    No more are kept than `limits.PIECES`, and of none but the layers that `resume` names.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most
        #: Bytes, and pieces, that may still be kept.
        self._room = self._left = 0
        self._keys: frozenset[str] = frozenset()
        self._session: Path | None = None

    def answer(self, needed: str, diff_ids: Sequence[str]) -> list[str]:
        """The lines of the answer to `resume`; raises `Refusal` where its words are none."""
        if len(needed) > _LONGEST_NUMBER or not needed.isdigit() or not all(map(is_digest, diff_ids)):
            raise Refusal("what is coming is not told")
        kept, room = self._find(int(needed), diff_ids)
        return [*(f"{Reply.KEPT} {name}" for name in kept), f"{Reply.ROOM} {room}"]

    def _find(self, needed: int, diff_ids: Iterable[str]) -> tuple[list[str], int]:
        """The names of what is here of some layers, of `needed` bytes in all, and how many bytes will be kept of them.

        These are at most half of what is free: the engine may keep its layers on the same disk.
        """
        self._keys = frozenset(map(key_of, diff_ids))
        try:
            self._open()
            sweep(self._folder.parent)
            found = [path.name for path in self._pieces() if self._is_ours(path.name) and self._take(path)]
            free = shutil.disk_usage(self._folder).free - needed
            here = self._pieces()
            room = min(free, self._most - sum(map(_size, here)))
        except OSError:
            return [], 0
        self._left = max(0, limits.PIECES - len(here))
        self._room = max(0, room) if free >= needed and self._left else 0
        return found[: limits.PIECES], self._room

    def keep(self, name: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Pass a piece's bytes on, and leave a copy; raises `Refusal` where they are not what its name says."""
        if not _NAME.fullmatch(name):
            raise Refusal("a piece has a name that is none")
        digest = hashlib.sha256()
        with contextlib.ExitStack() as stack:
            copy = self._copy(stack) if self._is_ours(name) else None
            for data in pieces:
                digest.update(data)
                copy = copy and self._write(copy, data)
                yield data
            if not digest_begins(digest.hexdigest(), name):
                raise Refusal("a piece is not what its name says")
            if copy is not None:
                with contextlib.suppress(OSError):
                    copy.replace(self._folder / name)

    def read(self, name: str) -> Iterator[bytes]:
        """The bytes of a piece that was told to be here."""
        if self._session is None or not _NAME.fullmatch(name):
            raise Refusal("there is no piece of that name here")
        try:
            with (self._session / name).open("rb") as file:
                while data := file.read(_STEP):
                    yield data
        except OSError:
            raise Refusal("there is no piece of that name here") from None

    def forget(self) -> None:
        """Remove what is here of the session's layers."""
        with contextlib.suppress(OSError):
            for path in self._pieces():
                if self._is_ours(path.name):
                    path.unlink(missing_ok=True)

    def collect(self) -> int:
        """Remove all; how many bytes that were."""
        freed = 0
        with contextlib.suppress(OSError):
            self._check()
            for path in self._pieces():
                freed += _size(path)
                path.unlink(missing_ok=True)
        return freed

    def close(self) -> None:
        """Leave nothing but pieces, and no folder without any."""
        if self._session is not None:
            shutil.rmtree(self._session, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()
            self._folder.parent.rmdir()

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._check()
        self._session = Path(tempfile.mkdtemp(dir=self._folder, prefix=_SESSION))

    def _check(self) -> None:
        """Raise `OSError` where the folder is a link, or not ours alone."""
        status = self._folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise PermissionError

    def _pieces(self) -> list[Path]:
        with os.scandir(self._folder) as entries:
            return sorted(Path(entry.path) for entry in entries if _NAME.fullmatch(entry.name))

    def _is_ours(self, name: str) -> bool:
        """Whether a piece is of a layer that `resume` has named."""
        return name.partition(".")[0] in self._keys

    def _take(self, path: Path) -> bool:
        """Build on a piece, if it is what it was; else it goes."""
        assert self._session is not None
        own = self._session / path.name
        try:
            os.link(path, own, follow_symlinks=False)
            if stat.S_ISREG(own.lstat().st_mode):
                with own.open("rb") as file:
                    if digest_begins(hashlib.file_digest(file, "sha256").hexdigest(), path.name):
                        return bool(kept_content(path.name))
            path.unlink()
        except OSError:
            return False
        return False

    def _copy(self, stack: contextlib.ExitStack) -> Path | None:
        """A new file, which goes at the end unless it has been given a name."""
        if self._room <= 0 or not self._left:
            return None
        self._left -= 1
        try:
            descriptor, name = tempfile.mkstemp(dir=self._session, prefix=_NEW)
        except OSError:
            return None
        os.close(descriptor)
        stack.callback(Path(name).unlink, missing_ok=True)
        return Path(name)

    def _write(self, copy: Path, data: bytes) -> Path | None:
        """Where the disk is full, no further piece is kept."""
        self._room -= len(data)
        try:
            with copy.open("ab") as file:
                file.write(data)
        except OSError:
            self._room = 0
            return None
        return copy


def _size(path: Path) -> int:
    """The bytes of a piece; none of one that another session has just removed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
