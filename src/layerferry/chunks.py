"""The bytes of blobs in chunks: read, checked against their digest, unpacked. No blob is ever held whole."""

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import queue
import re
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
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
#: Layers that no engine is sure to unpack; no specification has a media type for them.
LAYER_XZ = f"{MEDIA_TYPE_LAYER}+xz"
LAYER_BZIP2 = f"{MEDIA_TYPE_LAYER}+bzip2"
#: Their `packing`.
UNSURE = frozenset(("xz", "bzip2"))
#: RFC 1952, section 2.3.1; the xz file format, section 2.1.1.1; bzip2; RFC 8878, sections 3.1.1 and 3.1.2 (a skippable
#: frame, as zstd:chunked layers may have one).
_MAGIC = {
    b"\x1f\x8b": MEDIA_TYPE_LAYER_GZIP,
    b"\x28\xb5\x2f\xfd": MEDIA_TYPE_LAYER_ZSTD,
    b"\xfd7zXZ\x00": LAYER_XZ,
    b"BZh": LAYER_BZIP2,
} | {bytes((0x50 + number, 0x2A, 0x4D, 0x18)): MEDIA_TYPE_LAYER_ZSTD for number in range(16)}
#: What tar, gzip, zstd and xz streams raise when they are damaged or end too early.
_DAMAGE = (OSError, EOFError, tarfile.TarError, zlib.error, zstandard.ZstdError, lzma.LZMAError)
#: And what the last two say of a window that they were not given the memory for; seen with zstd 1.5.6 and xz 5.4.1.
_TOO_MUCH_MEMORY = ("requires too much memory", "Memory usage limit")


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


def packing(media_type: str) -> str:
    """How a layer of that media type is compressed, in whoever's words for it: `gzip`, `zstd`, `xz`, `bzip2`, or ""."""
    last = re.split("[+.]", media_type)[-1]
    return last if last in {"gzip", "zstd", "xz", "bzip2"} else ""


def unpacked(file: IO[bytes], media_type: str) -> IO[bytes]:
    """`file` without its compression, which is the `packing` of `media_type`.

    What is read of it at once is bounded, and so is the memory for it: a frame of zstd says itself how much it wants
    (RFC 8878, section 3.1.1.1.2).
    """
    match packing(media_type):
        case "gzip":
            return cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb"))
        case "zstd":
            unpacker = zstandard.ZstdDecompressor(max_window_size=limits.ZSTD_WINDOW)
            return unpacker.stream_reader(file, read_size=CHUNK, read_across_frames=True)
        case "xz":
            return io.BufferedReader(_Xz(file), CHUNK)
        case "bzip2":
            return cast("IO[bytes]", bz2.BZ2File(file))
    return file


def plain_chunks(chunks: Iterable[bytes], media_type: str) -> Iterator[bytes]:
    """The chunks of a layer without its compression. What may stand behind its last frame is left in `chunks`."""
    return chunks_of(unpacked(io.BufferedReader(ChunkReader(chunks), CHUNK), media_type))


class _Xz(io.RawIOBase):
    """The streams of an xz file, one after the other: `lzma.LZMAFile` bounds no memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._stream: lzma.LZMADecompressor | None = None
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._stream is not None and self._stream.eof:
                self._rest, self._stream = self._stream.unused_data, None
            if self._stream is None or self._stream.needs_input:
                self._rest = self._rest or self._file.read(CHUNK)
            if self._stream is None:
                if not self._rest:
                    return 0
                self._rest = self._rest.lstrip(b"\0")  # padding between streams (section 2.2)
                if not self._rest:
                    continue
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limits.XZ_MEMORY)
            elif self._stream.needs_input and not self._rest:
                raise EOFError("it ends in the middle of a stream")
            given, self._rest = self._rest, b""
            data = self._stream.decompress(given, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)


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
        if any(words in str(error) for words in _TOO_MUCH_MEMORY):
            raise SourceError(
                f"{place} is refused: to unpack it takes more than {limits.ZSTD_WINDOW >> 20} MiB of memory",
                hint="Pack it again without --long or --ultra: `zstd -19` and `xz -9` take less.",
            ) from None
        if isinstance(error, OSError) and error.strerror:
            raise SourceError(f"{place} cannot be read: {error.strerror}") from None
        raise SourceError(f"{place} is damaged or cut short: {str(error) or type(error).__name__}") from None


class Ahead:
    """Reads `chunks` in a thread of its own, which begins at once, and is at most `depth` of them ahead.

    So reading overlaps with whatever is done before the first of them is wanted, and then with sending. `told` hears
    where none comes for long. Close it when done.
    """

    def __init__(
        self, chunks: Iterable[bytes], depth: int = 4, *, told: Callable[[str], None] = lambda _: None
    ) -> None:
        self._line: queue.Queue[bytes | BaseException | None] = queue.Queue(depth)
        self._stop = threading.Event()
        self._told = told
        threading.Thread(target=self._read, args=(chunks,), daemon=True).start()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            item = _taken(self._line, Patience(self._told))
            if self._stop.is_set():
                raise SourceError("reading was broken off")
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield item

    def close(self) -> None:
        """Stop reading; another thread that still waits for chunks gets an error."""
        self._stop.set()
        with contextlib.suppress(queue.Full):  # then nobody waits
            self._line.put_nowait(None)

    def _read(self, chunks: Iterable[bytes]) -> None:
        try:
            if all(self._put(chunk) for chunk in chunks):
                self._put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the chunks are wanted
            self._put(error)

    def _put(self, item: bytes | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._line.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False


def _taken(line: "queue.Queue[bytes | BaseException | None]", patience: Patience) -> bytes | BaseException | None:
    while True:
        with contextlib.suppress(queue.Empty):
            return line.get(timeout=patience.left)
        patience.look("it has given nothing")
