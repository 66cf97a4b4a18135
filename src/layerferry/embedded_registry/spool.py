"""The blobs that are kept on disk: hashed while they are written, bounded in sum, in a folder that is ours alone."""

import hashlib
import os
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from layerferry.disk import no_room
from layerferry.errors import SourceError


class SpoolFull(Exception):  # noqa: N818  # becomes a refusal
    """No room is left: the bound is reached, or the disk is full. `error` says so to the user."""

    def __init__(self, error: SourceError) -> None:
        super().__init__(error.message)
        self.error = error


class WrongDigest(Exception):  # noqa: N818  # becomes a refusal
    """The bytes of an upload have another digest than its client gave."""


@dataclass(frozen=True, slots=True)
class SpooledBlob:
    """A blob whose bytes were checked against its digest. `size` is in bytes."""

    digest: str
    size: int
    path: Path


class Spool:
    """A folder (0700) of files (0600) that together hold at most `limit` bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """The bytes that are in the folder."""
        return self._used

    def reserve(self, size: int, needed: int = 0) -> None:
        """Take `size` bytes of the bound. Raises `SpoolFull`, which tells how many are `needed`, if that is known."""
        with self._lock:
            if self._used + size > self.limit:
                left = self.limit - self._used
                raise SpoolFull(no_room(self.folder, needed, f"{left} bytes are left for them"))
            self._used += size

    def release(self, size: int) -> None:
        with self._lock:
            self._used -= size

    def require(self, size: int, needed: int = 0) -> None:
        """Raise `SpoolFull` if `size` more bytes would not fit now."""
        self.reserve(size, needed)
        self.release(size)

    def remove(self, blob: SpooledBlob) -> None:
        with suppress(FileNotFoundError):
            blob.path.unlink()
            self.release(blob.size)


class BlobUpload:
    """An upload of one blob: append, then commit or discard. Not for two threads at once."""

    def __init__(self, spool: Spool) -> None:
        """Create the file. Raises `SpoolFull` if even that is not possible."""
        self.id = secrets.token_hex(16)
        self.size = 0
        self._spool = spool
        self._hash = hashlib.sha256()
        self._path = spool.folder / f"upload-{self.id}"
        try:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolFull(no_room(spool.folder, 0, error.strerror or "")) from error

    @property
    def open(self) -> bool:
        """Whether the upload was neither committed nor discarded."""
        return self._file != -1

    @property
    def digest(self) -> str:
        """The digest of all bytes so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def append(self, data: bytes, needed: int = 0) -> None:
        """Write `data` at the end. Raises `SpoolFull`; the upload is then only good for `discard`.

        So many bytes are `needed`, and these among them; 0 where that is not known.
        """
        self._spool.reserve(len(data), needed)
        self.size += len(data)
        self._hash.update(data)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            raise SpoolFull(no_room(self._spool.folder, needed, error.strerror or "")) from error

    def commit(self, digest: str) -> SpooledBlob:
        """Turn the upload into a blob. Raises `WrongDigest`, and then the file is gone."""
        if digest != self.digest:
            self.discard()
            raise WrongDigest(f"the upload has the digest {self.digest}")
        path = self._path.with_name(f"{digest.removeprefix('sha256:')}-{self.id}")
        self._path.rename(path)
        self._close()
        return SpooledBlob(digest, self.size, path)

    def discard(self) -> None:
        """Remove the file, and release its bytes; without effect on an upload that was committed or discarded."""
        if self._close():
            self._path.unlink(missing_ok=True)
            self._spool.release(self.size)

    def _close(self) -> bool:
        file, self._file = self._file, -1
        if file != -1:
            os.close(file)
        return file != -1
