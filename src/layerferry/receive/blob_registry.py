"""The registry on our loopback that an engine pushes to: it has every blob, and takes nothing but manifests.

Whoever is on this host can connect to it, so it wants credentials of this session, and who shows none is sent away
soon. As much of the OCI distribution-spec ("Pushing manifests") as a daemon's push takes.
"""

import base64
import contextlib
import hmac
import os
import socket
import socketserver
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self

from layerferry.oci import limits
from layerferry.oci.image import digest_of, is_digest
from layerferry.receive.strict_json import LARGEST_DOCUMENT

#: Seconds that a connection with credentials may be silent.
_PATIENCE = 10.0
_LONGEST_LINE = 16 << 10
_MOST_HEADERS = 64
_MOST_MANIFESTS = 64
#: A TLS handshake starts so (RFC 8446, 5.1).
_TLS = b"\x16"
_REASONS = {
    200: "OK",
    201: "Created",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
}
_TAG = "learn"
_USER = "layerferry"


@dataclass(slots=True)
class Push:
    """What an engine pushes under one name: the blobs that it asked for, manifests by digest, and which got the tag.

    `void`: it has said more than one thing, or something else than it announced.
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
    """One registry, for one push at a time. Use it as a context."""

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
        """Open a repository of its own for one push: what will be in it, and the name to push to."""
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
        """Answer a connection, for which the one goes that has been without credentials the longest."""
        with self._lock:
            self._until[request] = time.monotonic() + limits.STRANGER_SECONDS
            strangers = [until for until in self._until.values() if until < float("inf")]
        if len(strangers) > limits.STRANGERS:
            self._hang_up(lambda until: until <= strangers[0])
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Send those away, every now and then, who have shown no credentials in time."""
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

    def admits(self, request: Any, authorization: bytes) -> bool:
        """Whether a connection has shown the credentials (RFC 7617)."""
        if not hmac.compare_digest(authorization, f"Basic {self.login}".encode()):
            return False
        with self._lock:
            if request in self._until:
                self._until[request] = float("inf")
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is no news."""


class _Handler(socketserver.StreamRequestHandler):
    """As much of HTTP/1.1 (RFC 9112) as a daemon's push takes: requests with a Content-Length or no body."""

    server: BlobRegistry
    timeout = _PATIENCE

    def handle(self) -> None:
        """Answer requests while the connection lasts."""
        if self.connection.recv(1, socket.MSG_PEEK) == _TLS:  # a daemon tries https first, and so finds out
            self._answer(400)
            return
        while self._request():
            pass

    def _request(self) -> bool:
        """Answer one request; whether the connection goes on."""
        words = self._line().decode("latin-1").split(" ")
        headers = self._headers()
        length = headers.get(b"content-length", b"0")
        if len(words) != len(("method", "path", "version")) or not length.isdigit() or len(length) > 9:  # noqa: PLR2004
            return self._answer(400, last=True)
        if not self.server.admits(self.connection, headers.get(b"authorization", b"")):
            return self._answer(401, 'WWW-Authenticate: Basic realm="layerferry"', last=int(length) > 0)
        if b"transfer-encoding" in headers or int(length) > LARGEST_DOCUMENT:
            return self._answer(403, last=True)
        return self._route(words[0], words[1], self.rfile.read(int(length)))

    def _headers(self) -> dict[bytes, bytes]:
        headers: dict[bytes, bytes] = {}
        for _ in range(_MOST_HEADERS):
            line = self._line()
            if not line:
                return headers
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        raise ConnectionAbortedError

    def _line(self) -> bytes:
        line = self.rfile.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):  # the end, or a line without one
            raise ConnectionAbortedError
        return line.rstrip(b"\r\n")

    def _route(self, method: str, path: str, body: bytes) -> bool:
        push = self.server.push
        own = f"/v2/{push.repository}/" if push else " "
        digest = path.removeprefix(f"{own}blobs/")
        if method == "GET" and path in {"/v2", "/v2/"}:
            return self._answer(200)
        if push and method == "HEAD" and is_digest(digest) and len(push.asked) <= limits.LAYERS:
            push.asked.add(digest)
            return self._answer(200, f"Docker-Content-Digest: {digest}")
        if push and method == "PUT" and path.startswith(f"{own}manifests/"):
            if push.take(path.removeprefix(f"{own}manifests/"), body):
                return self._answer(201, f"Docker-Content-Digest: {digest_of(body)}")
            return self._answer(403, last=True)
        return self._answer(404) if method in {"GET", "HEAD"} else self._answer(403, last=True)

    def _answer(self, status: int, *headers: str, last: bool = False) -> bool:
        lines = (f"HTTP/1.1 {status} {_REASONS[status]}", "Content-Length: 0", *headers, "", "")
        self.wfile.write("\r\n".join(lines).encode())
        return not last
