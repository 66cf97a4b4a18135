"""HTTP connections whose server may be anybody: how much it sends, and how slowly, is bounded.

http.client and urllib3 bound neither: an answer may be `100 Continue` for ever, a trailer have no end, a chunk's size
be -1 (which reads to the end, into memory), and a byte a minute goes on for years.
"""

import http.client
import io
import socket
import time
from collections.abc import Iterator
from typing import Any

import requests
import urllib3

from layerferry.chunks import CHUNK
from layerferry.oci import limits

#: What is raised where a connection breaks, or a server answers otherwise than HTTP has it.
BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)
_LONGEST_LINE = 64 << 10
_MOST_TRAILERS = 100
#: Bytes that chunks have on average, once there have been many.
_SMALLEST_CHUNK = 32
_MANY_CHUNKS = 10_000


class _Paced(io.RawIOBase):
    """A socket's incoming bytes. Raises `TimeoutError` where less than `PACE` bytes come in so many `seconds`.

    Only the time that is waited counts, and not that for the first byte: how long that may take depends on what was
    asked for. `most` bytes may come; None for any number.
    """

    def __init__(self, raw: io.RawIOBase, seconds: float = limits.SILENCE) -> None:
        self._raw = raw
        self._seconds = seconds
        self._waited = 0.0
        self._came = 0
        self._begun = False
        self.most: int | None = limits.HEADERS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        start = time.monotonic()
        count = self._raw.readinto(buffer) or 0
        if self._begun:
            self._waited += time.monotonic() - start
        self._begun = True
        self._came += count
        if self.most is not None:
            self.most -= count
            if self.most < 0:
                raise http.client.HTTPException("there is no end to its answer's headers")
        if self._came >= limits.PACE:
            self._waited, self._came = 0.0, 0
        elif self._waited > self._seconds:
            raise TimeoutError(f"it sent {self._came} bytes in {self._seconds:g} seconds")
        return count

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Lines(io.BufferedReader):
    """A buffered reader that never reads to the end of its input, and no line without an end."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            raise http.client.HTTPException("it gives a length that is none")
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        bound = _LONGEST_LINE + 1 if size is None or size < 0 else size
        line = super().readline(bound)
        if len(line) > _LONGEST_LINE:
            raise http.client.LineTooLong("answer")
        return line


class PacedResponse(http.client.HTTPResponse):
    """A response of a `Bounded` connection. Its first byte may take longer than `SILENCE`; each other may, then."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._paced = _Paced(self.fp.detach(), max(limits.SILENCE, sock.gettimeout() or 0))
        self.fp = _Lines(self._paced)
        self._chunks = self._in_chunks = 0

    def begin(self) -> None:
        super().begin()
        self._paced.most = None

    def _read_next_chunk_size(self) -> int:
        """The size of the next chunk. In chunks of one byte a megabyte would be six, and two seconds of CPU."""
        size = int(super()._read_next_chunk_size())  # type: ignore[misc]
        self._chunks += 1
        self._in_chunks += size
        if self._chunks > _MANY_CHUNKS and self._in_chunks < self._chunks * _SMALLEST_CHUNK:
            raise http.client.HTTPException("its answer comes in chunks of next to nothing")
        return size

    def _read_and_discard_trailer(self) -> None:
        """Read the trailers, at most a hundred; http.client reads on for as long as lines come."""
        for _ in range(_MOST_TRAILERS):
            if self.fp.readline() in {b"\r\n", b"\n", b""}:
                return
        raise http.client.HTTPException("there is no end to its answer's trailers")


class Bounded(urllib3.connection.HTTPConnection):
    """A connection that fails where its server takes nothing for `SILENCE` seconds, for which urllib3 has no bound."""

    response_class = PacedResponse

    def send(self, data: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(limits.SILENCE)
        super().send(data)


class BoundedTls(Bounded, urllib3.connection.HTTPSConnection):
    """A bounded connection through TLS."""


def pools(plain: type[Bounded], encrypted: type[BoundedTls]) -> dict[str, Any]:
    """The pools of urllib3 by scheme, with connections of these classes."""

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = plain

    class EncryptedPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = encrypted

    return {"http": PlainPool, "https": EncryptedPool}


def chunks_of(response: requests.Response, size: int = CHUNK) -> Iterator[bytes]:
    """The bytes of a body as they come. A Content-Encoding is ignored: none was asked for, and it has no bound."""
    while data := response.raw.read(size, decode_content=False):
        yield data


def whole(response: requests.Response, most: int) -> bytes | None:
    """A body of at most `most` bytes; None where it has more. Raises `HTTPException` for a Content-Encoding."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise http.client.HTTPException("it packs its answer, and was asked not to")
    data = bytearray()
    for chunk in chunks_of(response):
        data += chunk
        if len(data) > most:
            return None
    return bytes(data)


def done(response: requests.Response) -> None:
    """Close a response. The rest of its body is read where that is little, and the connection is kept."""
    try:
        response.raw.read(limits.TEXT, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError):
        pass
    finally:
        response.close()
