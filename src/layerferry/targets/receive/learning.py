"""Which blobs a containerd store has: its daemon pushes an image to a registry on our loopback, which has them all.

A containerd store finds a layer by its blob's digest, and no inspection tells it. A push does: the daemon asks for each
blob, hears that it is there, and ends with the manifest (OCI distribution-spec, "Pushing manifests"). No byte of a
layer moves, and no client needs a port of ours: this is what a key with `restrict` cannot have.
"""

import json
import os
import socketserver
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self

from layerferry.image import Descriptor, Platform, digest_of, is_digest
from layerferry.targets.receive.engine import Engine
from layerferry.targets.receive.refusal import Refusal

#: Seconds for all lessons of a session. A stall of 30 s was seen once while an engine was busy; sending is the way out.
_PATIENCE = 10.0
_LARGEST_MANIFEST = 4 << 20


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


class _Handler(BaseHTTPRequestHandler):
    server: _Registry
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE

    def do_GET(self) -> None:
        self._answer(200 if self.path in {"/v2", "/v2/"} else 404)

    def do_HEAD(self) -> None:
        digest = self.path.removeprefix(f"/v2/{self.server.repository}/blobs/")
        self._answer(200 if is_digest(digest) else 404, {"Docker-Content-Digest": digest} if is_digest(digest) else {})

    def do_POST(self) -> None:
        self._answer(403, {"Connection": "close"})

    def do_PUT(self) -> None:
        prefix = f"/v2/{self.server.repository}/manifests/"
        length = self.headers.get("Content-Length", "")
        if not self.path.startswith(prefix) or not length.isdigit() or int(length) > _LARGEST_MANIFEST:
            self._answer(403, {"Connection": "close"})
            return
        data = self.rfile.read(int(length))
        digest = digest_of(data)
        self.server.manifests[digest] = data
        self.server.last = digest
        self._answer(201, {"Docker-Content-Digest": digest, "Location": self.path})

    def _answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()


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
