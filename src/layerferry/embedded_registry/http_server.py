"""HTTP/1.1 over a loopback socket: h11 speaks the protocol, a thread serves each connection.

Chosen by tests/bench/http_servers.py over asyncio and WSGI servers: it starts in the time of one small import, stops at
once, holds no more than one buffer of a body whatever the size of the client's chunks, and can answer *before* a body
has been read in a way that the client is sure to see (`_HttpConnection._linger`), which ends an unwanted push.
"""

import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Self
from urllib.parse import parse_qsl

import h11

from layerferry.oci import limits

_BUFFER = 128 * 1024
#: Seconds that a connection may be silent. A daemon that compresses may be slow, but it never pauses for that long.
_SILENCE = 300.0
#: Seconds that a client has to notice an answer that came before it had sent all of its request.
_LINGER = 2.0
#: Connections of clients that are known; of others there may be `limits.STRANGERS`.
_MAX_CONNECTIONS = 64


class BrokenRequest(Exception):  # noqa: N818  # an event on the wire, none of our errors
    """A request that has no end: its client has gone, is silent, or breaks the protocol."""


class RequestBody:
    """A request's body, to be iterated once. Raises `BrokenRequest` where the client stops short of its end."""

    def __init__(self, length: int | None, chunks: Iterator[bytes]) -> None:
        #: What Content-Length announces, in bytes; None for a chunked body.
        self.length = length
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks


def _nothing() -> None:
    """Do nothing: the `admit` of a request without a connection."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `path` is as it was sent, not unquoted. Header names are lower case; of two the last counts.

    `admit` is to be called where the client has shown credentials: its connection may last from there on.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: RequestBody
    admit: Callable[[], None] = _nothing


@dataclass(frozen=True, slots=True)
class Response:
    """A response. `length` is the Content-Length, by default that of `body`, which is not sent to a HEAD."""

    status: HTTPStatus
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | Iterable[bytes] = b""
    length: int | None = None

    def head(self, *, last: bool) -> h11.Response:
        """The status line and headers; `last` announces that the connection ends with this answer."""
        length = self.length
        if length is None and isinstance(self.body, bytes):
            length = len(self.body)
        headers = dict(self.headers)
        if length is not None and self.status != HTTPStatus.NO_CONTENT:
            headers["Content-Length"] = str(length)
        if last:
            headers["Connection"] = "close"
        return h11.Response(status_code=self.status, reason=self.status.phrase, headers=[*headers.items()])


class Server:
    """A server on `address`, (host, port), where port 0 takes a free one, from `start` to `close`.

    `answer` is called in the connection's thread. An exception of it ends that connection and goes to `fault`.
    Anybody on this machine can connect: of connections whose client has no credentials (`Request.admit`), the oldest
    is closed for a new one, and none lasts for long, so that they keep no other client out.
    """

    def __init__(
        self,
        address: tuple[str, int],
        answer: Callable[[Request], Response],
        fault: Callable[[Exception], None],
    ) -> None:
        self._answer = answer
        self._fault = fault
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._listener = socket.create_server(address, family=family)
        self._listener.settimeout(0)
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        #: Those of `_open` whose client is not known, oldest first.
        self._strangers: dict[socket.socket, None] = {}
        self._acceptor = threading.Thread(target=self._accept, name="registry", daemon=True)

    def start(self) -> Self:
        self._acceptor.start()
        return self

    def close(self) -> None:
        """Break all connections, and return when no thread is left that could touch a file or a repository."""
        self._wake.close()
        if self._acceptor.ident is not None:
            self._acceptor.join()
        self._woken.close()
        self._listener.close()
        with self._lock:
            connections = dict(self._open)
        for sock in connections:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while all(key.fileobj is self._listener for key, _ in selector.select()):
                with suppress(OSError):  # the client may have left already
                    self._admit(self._listener.accept()[0])

    def _admit(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(_SILENCE)
        thread = threading.Thread(target=self._serve, args=(sock,), name="registry-connection", daemon=True)
        with self._lock:
            if len(self._open) - len(self._strangers) >= _MAX_CONNECTIONS:
                sock.close()
                return
            while len(self._strangers) >= limits.STRANGERS:
                self._send_away(next(iter(self._strangers)))
            self._open[sock] = thread
            self._strangers[sock] = None
        thread.start()

    def _send_away(self, sock: socket.socket) -> None:
        """End a connection whose client has no credentials; its thread does the rest."""
        del self._strangers[sock]
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    def _know(self, sock: socket.socket) -> None:
        with self._lock:
            self._strangers.pop(sock, None)

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock:
                _HttpConnection(sock, partial(self._know, sock)).serve(self._answer)
        except Exception as error:  # noqa: BLE001  # the top of a thread: whoever started us must hear of it
            self._fault(error)
        finally:
            with self._lock:
                del self._open[sock]
                self._strangers.pop(sock, None)


class _HttpConnection:
    """A connection of one client, request after request."""

    def __init__(self, sock: socket.socket, know: Callable[[], None] = _nothing) -> None:
        self._sock = sock
        self._know = know
        #: When a client that is not known has to go.
        self._until: float | None = time.monotonic() + limits.GUEST_SECONDS
        self._http = h11.Connection(h11.SERVER)

    def serve(self, answer: Callable[[Request], Response]) -> None:
        """Answer requests until the client leaves. Raises what `answer` raises, after an answer of 500."""
        try:
            while isinstance(event := self._next(), h11.Request):
                self._reply(event, answer(self._request(event)))
                if self._http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                    return self._linger()
                self._http.start_next_cycle()
        except BrokenRequest:
            self._complain(HTTPStatus.BAD_REQUEST)
        except Exception:
            self._complain(HTTPStatus.INTERNAL_SERVER_ERROR)
            raise

    def _next(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[]))
                self._http.receive_data(self._receive())
        except (h11.RemoteProtocolError, OSError) as error:
            raise BrokenRequest(str(error)) from error
        return event

    def _receive(self) -> bytes:
        left = _SILENCE if self._until is None else self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock.recv(_BUFFER)

    def _admit(self) -> None:
        if self._until is not None:
            self._until = None
            self._know()

    def _request(self, event: h11.Request) -> Request:
        path, _, query = event.target.decode("latin-1").partition("?")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        length = None if "transfer-encoding" in headers else int(headers.get("content-length", 0))
        return Request(
            method=event.method.decode("latin-1"),
            path=path,
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers=headers,
            body=RequestBody(length, self._chunks()),
            admit=self._admit,
        )

    def _chunks(self) -> Iterator[bytes]:
        while isinstance(event := self._next(), h11.Data):
            yield bytes(event.data)

    def _reply(self, request: h11.Request, response: Response) -> None:
        self._skip_received()
        head = response.head(last=self._http.their_state is h11.SEND_BODY)
        body = response.body if request.method != b"HEAD" else b""
        if isinstance(body, bytes):
            self._send(head, h11.Data(data=body), h11.EndOfMessage())
            return
        self._send(head)
        for chunk in body:
            self._send(h11.Data(data=chunk))
        self._send(h11.EndOfMessage())

    def _skip_received(self) -> None:
        """Skip what has arrived of a body that was not read; if that is all of it, the connection can go on."""
        try:
            while self._http.their_state is h11.SEND_BODY and self._http.next_event() is not h11.NEED_DATA:
                pass
        except h11.RemoteProtocolError as error:
            raise BrokenRequest(str(error)) from error

    def _send(self, *events: h11.Event) -> None:
        try:
            self._sock.sendall(b"".join(self._http.send(event) or b"" for event in events))
        except OSError as error:
            raise BrokenRequest(str(error)) from error

    def _complain(self, status: HTTPStatus) -> None:
        """Answer a request that cannot be read, where the state of the connection still permits an answer."""
        with suppress(h11.LocalProtocolError, BrokenRequest):
            self._send(Response(status).head(last=True), h11.EndOfMessage())
            self._linger()

    def _linger(self) -> None:
        """Close for writing, then read on for a while, and drop what is read.

        A socket closed with unread input resets the connection, and the reset may arrive before our answer: the client
        would see a broken connection, and try again, where it was refused.
        """
        deadline = time.monotonic() + _LINGER
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self._sock.settimeout(left)
                if not self._sock.recv(_BUFFER):
                    return
