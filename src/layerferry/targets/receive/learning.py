"""Which blobs a containerd store has: its daemon pushes an image to a registry on our loopback, which has them all.

A containerd store finds a layer by its blob's digest, and no inspection tells it. A push does: the daemon asks for each
blob, hears that it is there, and ends with the manifest (OCI distribution-spec, "Pushing manifests"). No byte of a
layer moves, and no client needs a port of ours: this is what a key with `restrict` cannot have.
"""

import json
import os
import socket
import socketserver
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from layerferry.image import Descriptor, Platform, digest_of, is_digest
from layerferry.targets.receive.engine import Engine
from layerferry.targets.receive.refusal import Refusal

#: Seconds for all lessons of a session. A stall of 30 s was seen once while an engine was busy; sending is the way out.
_PATIENCE = 10.0
_LARGEST_MANIFEST = 4 << 20
_LONGEST_LINE = 16 << 10
#: A TLS handshake starts so (RFC 8446, 5.1).
_TLS = b"\x16"
_REASONS = {200: "OK", 201: "Created", 400: "Bad Request", 403: "Forbidden", 404: "Not Found"}


@dataclass(frozen=True, slots=True)
class Lesson:
    """An image's config digest and its layers' blobs, bottom first, as the store has them."""

    config: str
    layers: tuple[Descriptor, ...]


class _Registry(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        #: Nobody guesses it, so nobody else on this host teaches us.
        self.repository = os.urandom(16).hex()
        self.manifests: dict[str, bytes] = {}
        self.last = ""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is no news."""


class _Handler(socketserver.StreamRequestHandler):
    """As much of HTTP/1.1 (RFC 9112) as a daemon's push takes: requests with a Content-Length or no body."""

    server: _Registry
    timeout = _PATIENCE

    def handle(self) -> None:
        """Answer requests while the connection lasts."""
        if self.connection.recv(1, socket.MSG_PEEK) == _TLS:  # a daemon tries https first, and so finds out
            self._answer(400)
            return
        while self._request():
            pass

    def _request(self) -> bool:
        words = self._line().split(b" ")
        if words == [b""]:
            return False
        headers = {}
        while line := self._line():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        length = headers.get(b"content-length", b"0")
        if len(words) != len(("method", "path", "version")) or not length.isdigit() or int(length) > _LARGEST_MANIFEST:
            self._answer(403)
            return False
        return self._route(words[0].decode("latin-1"), words[1].decode("latin-1"), self.rfile.read(int(length)))

    def _line(self) -> bytes:
        return self.rfile.readline(_LONGEST_LINE).rstrip(b"\r\n")

    def _route(self, method: str, path: str, body: bytes) -> bool:
        """Answer, and tell whether the connection goes on."""
        own = f"/v2/{self.server.repository}/"
        digest = path.removeprefix(f"{own}blobs/")
        if method == "GET" and path in {"/v2", "/v2/"}:
            self._answer(200)
        elif method == "HEAD" and is_digest(digest):
            self._answer(200, f"Docker-Content-Digest: {digest}")
        elif method == "PUT" and path.startswith(f"{own}manifests/"):
            digest = digest_of(body)
            self.server.manifests[digest] = body
            self.server.last = digest
            self._answer(201, f"Docker-Content-Digest: {digest}")
        else:
            self._answer(404 if method in {"GET", "HEAD"} else 403)
            return method in {"GET", "HEAD"}
        return True

    def _answer(self, status: int, *headers: str) -> None:
        lines = (f"HTTP/1.1 {status} {_REASONS[status]}", "Content-Length: 0", *headers, "", "")
        self.wfile.write("\r\n".join(lines).encode())


class Teacher:
    """Learns from one engine, within a bound of time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._until = time.monotonic() + _PATIENCE

    def __enter__(self) -> Self:
        self._server = _Registry()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def learn(self, image_id: str, depth: int) -> Lesson | None:
        """What the store has of an image with so many layers; None where it does not tell in time."""
        left = self._until - time.monotonic()
        if left <= 0:
            return None
        port = self._server.server_address[1]
        name = f"127.0.0.1:{port}/{self._server.repository}:learn"
        self._server.last = ""
        try:
            self._engine.tag(image_id, name)
            pushed = self._engine.push(name, left)
        except Refusal:
            return None
        finally:
            self._engine.remove(name)
        if not pushed:
            self._until = 0  # it does not reach us: nor will it for the next one
            return None
        return _lesson(self._server.manifests, self._server.last, self._engine.platform, depth)


def _lesson(manifests: dict[str, bytes], digest: str, platform: Platform, depth: int) -> Lesson | None:
    """Read what was pushed; of an index, the manifest for `platform`."""
    try:
        document = json.loads(manifests[digest])
        if "manifests" in document:
            own = [entry["digest"] for entry in document["manifests"] if _is_for(platform, entry.get("platform", {}))]
            document = json.loads(manifests[own[0]])
        layers = tuple(Descriptor(layer["mediaType"], layer["digest"], layer["size"]) for layer in document["layers"])
        config = document["config"]["digest"]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    return Lesson(config, layers) if len(layers) == depth else None


def _is_for(platform: Platform, told: dict[str, str]) -> bool:
    return platform.runs(Platform(told.get("os", ""), told.get("architecture", "")))
