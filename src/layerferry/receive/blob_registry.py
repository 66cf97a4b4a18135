"""The registry on our loopback that an engine pushes to: it has every blob, and takes nothing but manifests.

Anybody on this host can connect to it, so it asks for the credentials of this session, and a connection without them
is closed soon. It has as much of the OCI distribution-spec ("Pushing manifests") as a daemon's push needs.
"""

import base64
import contextlib
import hmac
import http.server
import os
import socket
import socketserver
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Self

from layerferry.oci import limits
from layerferry.oci.image import digest_of, is_digest
from layerferry.receive.strict_json import LARGEST_DOCUMENT

#: Seconds that a connection with credentials may be silent.
_PATIENCE = 10.0
#: Digits of a Content-Length that are read.
_LONGEST_NUMBER = 9
_MOST_MANIFESTS = 64
#: A TLS handshake starts so (RFC 8446, 5.1).
_TLS = b"\x16"
_TAG = "learn"
_USER = "layerferry"


@dataclass(slots=True)
class Push:
    """The push of an engine under one name: the blobs that it asked for, manifests by digest, and which got the tag.

    `void`: it has pushed more than one image, or a manifest with another digest than it announced.
    """

    repository: str
    asked: set[str] = field(default_factory=set)
    manifests: dict[str, bytes] = field(default_factory=dict)
    tagged: str = ""
    void: bool = False

    def take(self, reference: str, body: bytes) -> bool:
        """Take a manifest: one by the tag, others, of an index, by their digests."""
        digest = digest_of(body)
        first = reference == _TAG and not self.tagged
        if not (first or reference == digest) or len(self.manifests) == _MOST_MANIFESTS:
            self.void = True
            return False
        self.manifests[digest] = body
        self.tagged = digest if first else self.tagged
        return True


class BlobRegistry(socketserver.ThreadingTCPServer):
    """A registry for one push at a time, and a context that it listens in."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        login = f"{_USER}:{os.urandom(32).hex()}".encode()
        #: As docker's configuration has it, base64 of `user:password` (docker CLI, config.json, "auths").
        self.login = base64.b64encode(login).decode()
        self.push: Push | None = None
        self._lock = threading.Lock()
        #: By connection, until when it may go without credentials; infinitely, once it has shown them.
        self._until: dict[Any, float] = {}

    def open(self) -> tuple[Push, str]:
        """Open a repository for one push, and return that push and the name to push to."""
        self.push = Push(os.urandom(16).hex())
        return self.push, f"{self.host}/{self.push.repository}:{_TAG}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._hang_up(lambda _: True)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection, for which the one is closed that has been without credentials the longest."""
        with self._lock:
            self._until[request] = time.monotonic() + limits.STRANGER_SECONDS
            strangers = [until for until in self._until.values() if until < float("inf")]
        if len(strangers) > limits.STRANGERS:
            self._hang_up(lambda until: until <= strangers[0])
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Close, every now and then, the connections that have shown no credentials in time."""
        now = time.monotonic()
        self._hang_up(lambda until: until <= now)

    def _hang_up(self, on: Any) -> None:
        with self._lock:
            gone = [request for request, until in self._until.items() if on(until)]
            for request in gone:
                del self._until[request]
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._until.pop(request, None)
        super().shutdown_request(request)

    def admits(self, request: Any, authorization: str) -> bool:
        """Whether a connection has shown the credentials (RFC 7617)."""
        given = authorization.encode("latin-1", "replace")
        if not hmac.compare_digest(given, f"Basic {self.login}".encode()):
            return False
        with self._lock:
            if request in self._until:
                self._until[request] = float("inf")
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do nothing: a connection that breaks is no error of the push."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """A handler for requests with a Content-Length or no body (RFC 9112): a daemon's push makes no others."""

    server: BlobRegistry
    timeout = _PATIENCE
    protocol_version = "HTTP/1.1"
    _body = b""

    def handle(self) -> None:
        """Answer requests while the connection lasts."""
        if self.connection.recv(1, socket.MSG_PEEK) == _TLS:  # a daemon tries https first, and so finds out
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        else:
            super().handle()

    def parse_request(self) -> bool:
        """Read a request, whoever it is from; whether there is one that is to be answered yet."""
        if not super().parse_request() or self.request_version == "HTTP/0.9":
            self.close_connection = True
            return False
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or len(length) > _LONGEST_NUMBER:
            return self._answer(HTTPStatus.BAD_REQUEST, last=True)
        if not self.server.admits(self.connection, self.headers.get("Authorization", "")):
            challenge = {"WWW-Authenticate": 'Basic realm="layerferry"'}
            return self._answer(HTTPStatus.UNAUTHORIZED, challenge, last=int(length) > 0)
        if "Transfer-Encoding" in self.headers or int(length) > LARGEST_DOCUMENT:
            return self._answer(HTTPStatus.FORBIDDEN, last=True)
        self._body = self.rfile.read(int(length))
        return True

    def do_GET(self) -> None:
        self._answer(HTTPStatus.OK if self.path in {"/v2", "/v2/"} else HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        push = self.server.push
        digest = self.path.removeprefix(f"/v2/{push.repository}/blobs/") if push else ""
        if push and is_digest(digest) and len(push.asked) <= limits.LAYERS:
            push.asked.add(digest)
            self._answer(HTTPStatus.OK, {"Docker-Content-Digest": digest})
        else:
            self._answer(HTTPStatus.NOT_FOUND)

    def do_PUT(self) -> None:
        push = self.server.push
        manifests = f"/v2/{push.repository}/manifests/" if push else " "
        if push and self.path.startswith(manifests) and push.take(self.path.removeprefix(manifests), self._body):
            self._answer(HTTPStatus.CREATED, {"Docker-Content-Digest": digest_of(self._body)})
        else:
            self._answer(HTTPStatus.FORBIDDEN, last=True)

    def do_POST(self) -> None:
        """Nothing is uploaded: a daemon that wants to has not heard that all is there."""
        self._answer(HTTPStatus.FORBIDDEN, last=True)

    def _answer(
        self, status: HTTPStatus, headers: Mapping[str, str] = MappingProxyType({}), *, last: bool = False
    ) -> bool:
        """Answer without a body; always False, as who answers is done."""
        self.send_response_only(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = self.close_connection or last
        return False

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
        """Nothing: stderr is the client's, and what is worth a line stands in the log of the receiver."""
