"""HTTP answers, bounded while they are read: the head in lines and seconds, a document in bytes, pieces and seconds.

requests, urllib3 and the docker SDK read an answer whole before anybody has seen how long it is, a redirect's and an
error's too; Python's HTTP skips interim answers (RFC 9110, section 15.2) and trailers for as long as they come.
"""

import contextlib
import http
import http.client
import io
import re
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import requests
import urllib3

from layerferry import limits

_PIECE: Final = 64 * limits.KIB
#: The parts of JSON that tell where a list's members end. A string without an end takes the rest, or looking for
#: one more in it would cost the square of its length.
_PARTS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


class TooMuch(OSError):  # noqa: N818 - the end of a connection, as its other ends
    """An answer is beyond a bound."""


class _Wire(io.RawIOBase):
    """What a socket brings; until the head is whole, for `limits.HEAD_SECONDS` after its first byte."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.until = 0.0
        self.in_head = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._raw.readinto(buffer)
        if self.in_head:
            self.until = self.until or time.monotonic() + limits.HEAD_SECONDS
            if time.monotonic() > self.until:
                raise TooMuch(f"the head of its answer takes more than {limits.HEAD_SECONDS} s")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Lines(io.BufferedReader):
    """Refuses lines of HTTP that lead to nothing: between two pieces of a body there are a few."""

    _lines = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        self._lines += 1
        if self._lines > limits.HEAD_LINES:
            raise TooMuch(f"its answer has more than {limits.HEAD_LINES} lines of headers")
        return super().readline(size)

    def read1(self, size: int = -1, /) -> bytes:
        self._lines = 0
        return super().read1(size)


class Answer(http.client.HTTPResponse):
    """The response of a connection whose `response_class` it is."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._wire = _Wire(self.fp.detach())
        self.fp = _Lines(self._wire)

    def begin(self) -> None:
        super().begin()
        self._wire.in_head = False


class _Connection(urllib3.connection.HTTPConnection):
    response_class = Answer


class _EncryptedConnection(urllib3.connection.HTTPSConnection):
    response_class = Answer


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _EncryptedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _EncryptedConnection


class BoundedAdapter(requests.adapters.HTTPAdapter):
    """Sends requests as they are sent otherwise; the heads of the answers are bounded."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _EncryptedPool}

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _EncryptedPool}
        return manager


class BoundedSession(requests.Session):
    """A session whose answers are read by `body` alone, or by `pieces` where a stream was asked for.

    Redirects are answers like others; that they are followed is for those to do who know where to.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.headers["Accept-Encoding"] = "identity"

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests would read the body of one that leads somewhere, however long it is."""
        del resp

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        stream = options.pop("stream", False)
        response = super().send(request, **{**options, "stream": True, "allow_redirects": False})
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            response.close()
            raise TooMuch("it compresses its answer, which was not asked for")
        if not stream or response.status_code >= http.HTTPStatus.MULTIPLE_CHOICES:
            response.raw = io.BytesIO(body(response, limits.ANSWER))
        return response


def body(response: requests.Response, most: int) -> bytes:
    """All of an answer. Raises `TooMuch`, and what urllib3 and the socket raise."""
    with contextlib.closing(response):
        return b"".join(_bounded(pieces(response), most))


def _bounded(pieces: Iterable[bytes], most: int) -> Iterator[bytes]:
    until = time.monotonic() + limits.ANSWER_SECONDS
    size = 0
    for number, piece in enumerate(pieces):
        size += len(piece)
        if size > most or number > limits.ANSWER_PIECES:
            raise TooMuch(f"its answer has more than {most} bytes or {limits.ANSWER_PIECES} pieces")
        if time.monotonic() > until:
            raise TooMuch(f"its answer takes more than {limits.ANSWER_SECONDS} s")
        yield piece


def pieces(response: requests.Response, size: int = _PIECE) -> Iterator[bytes]:
    """An answer as it comes. `read1`, since urllib3's other ways read all at once where a chunk has a negative size."""
    while piece := response.raw.read1(size, decode_content=False):
        yield piece


def lines(response: requests.Response) -> Iterator[bytes]:
    """The lines of an answer as they come. Raises `TooMuch` where there are too many, or one is too long."""
    rest, count = b"", 0
    with contextlib.closing(response):
        for chunk in pieces(response):
            *whole, rest = (rest + chunk).split(b"\n")
            count += len(whole)
            if count > limits.LINES or max(map(len, (*whole, rest))) > limits.LINE:
                raise TooMuch(f"it says more than {limits.LINES} lines, or one of more than {limits.LINE} bytes")
            yield from whole
    yield rest


def members(data: bytes) -> Iterator[bytes]:
    """The objects and lists in a JSON list, one by one: parsed in one go, a large one takes its tenfold in memory.

    What is no list of such has no members here.
    """
    depth = start = 0
    for part in _PARTS.finditer(data):
        sign = part[0]
        if sign in {b"[", b"{"}:
            start = part.start() if depth == 1 else start
            depth += 1
        elif sign in {b"]", b"}"}:
            depth -= 1
            if depth == 1:
                yield data[start : part.end()]
