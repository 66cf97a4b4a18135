"""The bytes of blobs in chunks: read, checked against their digest, unpacked. No blob is ever held whole."""

import contextlib
import gzip
import hashlib
import io
import queue
import tarfile
import threading
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol, cast

import zstandard

from layerferry.errors import SourceError
from layerferry.events import Patience
from layerferry.oci import limits
from layerferry.oci.image import MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_LAYER_ZSTD, Descriptor

CHUNK = 1 << 20
#: Bytes at the start of a file that tell how it is compressed.
HEAD = 6
#: RFC 1952, section 2.3.1; RFC 8878, sections 3.1.1 and 3.1.2 (a skippable frame, as zstd:chunked layers may have one).
_MAGIC = {b"\x1f\x8b": MEDIA_TYPE_LAYER_GZIP, b"\x28\xb5\x2f\xfd": MEDIA_TYPE_LAYER_ZSTD} | {
    bytes((0x50 + number, 0x2A, 0x4D, 0x18)): MEDIA_TYPE_LAYER_ZSTD for number in range(16)
}
#: What tar, gzip and zstd streams raise when they are damaged or end too early.
_DAMAGE = (OSError, EOFError, tarfile.TarError, zlib.error, zstandard.ZstdError)


class ChunkReader(io.RawIOBase):
    """A file of chunks, which can be read once."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            try:
                self._left = memoryview(next(self._chunks))
            except StopIteration:
                return 0
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


class Hashed:
    """Chunks that are hashed and counted as they pass."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._sha256 = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._sha256.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"


class Readable(Protocol):
    """A file that can be read once."""

    def read(self, size: int = ..., /) -> bytes: ...


def chunks_of(file: Readable) -> Iterator[bytes]:
    return iter(lambda: file.read(CHUNK), b"")


def bytes_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from chunks_of(file)


def drain(path: Path) -> Iterator[bytes]:
    """The bytes of a spooled file, which is removed as it is opened."""
    with path.open("rb") as file:
        path.unlink()
        yield from chunks_of(file)


def checked(chunks: Iterable[bytes], blob: Descriptor, place: str) -> Iterator[bytes]:
    """Pass `chunks` on, never more than `blob` has; raise `SourceError` at the end where they are not that blob.

    Size and digest are to be verified of content from an untrusted source (OCI image-spec, descriptor.md, "Digests").
    """
    hashed = Hashed(chunks)
    for chunk in hashed:
        if hashed.size > blob.size:
            break
        yield chunk
    if hashed.size != blob.size:
        more = "more than" if hashed.size > blob.size else f"{hashed.size} of"
        raise SourceError(f"{place} is damaged: it has {more} the {blob.size} bytes of {blob.digest}")
    if hashed.digest != blob.digest:
        raise SourceError(f"{place} is damaged: what should be {blob.digest} is {hashed.digest}")


def layer_type(head: bytes) -> str:
    """The media type of a layer that starts with `head`: gzip, zstd, or else a plain tar."""
    return next((media_type for magic, media_type in _MAGIC.items() if head.startswith(magic)), MEDIA_TYPE_LAYER)


def unpacked(file: IO[bytes], media_type: str) -> IO[bytes]:
    """`file` without its compression, which is the one of `media_type`.

    What is read of it at once is bounded, and so is the memory for it: a frame of zstd says itself how much it wants
    (RFC 8878, section 3.1.1.1.2).
    """
    if media_type.endswith("gzip"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb"))
    if media_type.endswith("zstd"):
        unpacker = zstandard.ZstdDecompressor(max_window_size=limits.ZSTD_WINDOW)
        return unpacker.stream_reader(file, read_size=CHUNK, read_across_frames=True)
    return file


def most_of(size: int) -> int:
    """The bytes that `size` compressed bytes may have unpacked."""
    return max(limits.SPOOLED_AT_LEAST, limits.RATIO * size)


def at_most(chunks: Iterable[bytes], most: int, place: str) -> Iterator[bytes]:
    """Pass `chunks` on, of which there may be `most` bytes. Raises `SourceError`."""
    left = most
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise SourceError(f"{place} is refused: it unpacks to more than {most} bytes")
        yield chunk


class Writable(Protocol):
    """A file that takes all of what it is given, or raises."""

    def write(self, data: bytes, /) -> int: ...


def copied(chunks: Iterable[bytes], file: Writable) -> Iterator[bytes]:
    """Pass `chunks` on, and leave a copy in `file`."""
    for chunk in chunks:
        file.write(chunk)
        yield chunk


def exhaust(chunks: Iterable[bytes]) -> None:
    for _ in chunks:
        pass


@contextlib.contextmanager
def damage(place: str) -> Iterator[None]:
    """Turn the errors of a file that cannot be read, or a damaged tar or compressed stream, into one `SourceError`."""
    try:
        yield
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.strerror:
            raise SourceError(f"{place} cannot be read: {error.strerror}") from None
        raise SourceError(f"{place} is damaged or cut short: {str(error) or type(error).__name__}") from None


def ahead(chunks: Iterable[bytes], depth: int = 4, *, told: Callable[[str], None] = lambda _: None) -> Generator[bytes]:
    """Read `chunks` in a thread of their own, at most `depth` ahead, so that reading and sending overlap.

    `told` hears where none comes for long.
    """
    line: queue.Queue[bytes | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: bytes | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                line.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            if all(put(chunk) for chunk in chunks):
                put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the chunks are wanted
            put(error)

    threading.Thread(target=read, daemon=True).start()
    try:
        while (item := _taken(line, Patience(told))) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()


def _taken(line: "queue.Queue[bytes | BaseException | None]", patience: Patience) -> bytes | BaseException | None:
    while True:
        with contextlib.suppress(queue.Empty):
            return line.get(timeout=patience.left)
        patience.look("it has given nothing")
