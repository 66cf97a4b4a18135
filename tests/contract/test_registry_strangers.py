"""Whoever is on this machine reaches the embedded registry: without credentials nobody keeps others out of it."""

import base64
import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerferry.embedded_registry import PushRepository, Registry
from layerferry.oci import limits
from layerferry.oci.image import MEDIA_TYPE_MANIFEST, digest_of

DATA = b"the bytes of a layer"
AUTH = {"Authorization": "Basic " + base64.b64encode(b"user:password").decode()}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(spool=tmp_path, limit=1 << 20, credentials=("user", "password")) as registry:
        yield registry
    assert registry.faults == ()


class Client:
    """A daemon: one connection, which lasts."""

    def __init__(self, registry: Registry, repository: PushRepository) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=10)
        self._base = f"/v2/{repository.name}"

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
        self._connection.request(method, path, body, {**AUTH, **headers})
        with self._connection.getresponse() as response:
            response.read()
            return response.status, response.headers.get("Location", "")

    def push(self) -> None:
        status, place = self.ask("POST", f"{self._base}/blobs/uploads/")
        assert status == 202
        assert self.ask("PUT", f"{place}?digest={digest_of(DATA)}", DATA)[0] == 201
        blob = {"mediaType": "application/x", "digest": digest_of(DATA), "size": len(DATA)}
        manifest = json.dumps({"mediaType": MEDIA_TYPE_MANIFEST, "config": blob, "layers": [blob]}).encode()
        assert self.ask("PUT", f"{self._base}/manifests/1", manifest, **{"Content-Type": MEDIA_TYPE_MANIFEST})[0] == 201

    def close(self) -> None:
        self._connection.close()


def strangers(registry: Registry, stack: contextlib.ExitStack, word: bytes) -> list[socket.socket]:
    found = []
    for _ in range(200):
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", registry.port), timeout=10))
        with contextlib.suppress(OSError):
            sock.sendall(word)
        found.append(sock)
    return found


@pytest.mark.parametrize(
    "word",
    [
        b"",
        b"POST /v2/x HTTP/1.1\r\nHost: x\r\nX: ",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PUT /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
    ],
    ids=["silent", "in a header", "without credentials", "in a body"],
)
def test_a_daemon_gets_through_while_strangers_stand_around(registry: Registry, word: bytes) -> None:
    repository = registry.repository()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(contextlib.closing(Client(registry, repository)))
        assert first.ask("GET", "/v2/")[0] == 200
        idle = strangers(registry, stack, word)
        first.push()
        stack.enter_context(contextlib.closing(Client(registry, registry.repository()))).push()
        assert repository.manifest(5).tag == "1"
        for sock in idle[: -limits.STRANGERS]:  # sent away long ago
            with contextlib.suppress(ConnectionError):
                while sock.recv(1 << 16):
                    pass


def test_a_stranger_has_to_go_though_nobody_else_comes(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GUEST_SECONDS", 0.05)
    with socket.create_connection(("127.0.0.1", registry.port), timeout=10) as sock:
        sock.sendall(b"GET /v2/ HT")
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 400 ")


def test_who_is_known_may_be_slow(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = registry.repository()
    with contextlib.closing(Client(registry, repository)) as client:
        assert client.ask("GET", "/v2/")[0] == 200
        monkeypatch.setattr(limits, "GUEST_SECONDS", -1)
        client.push()


def test_without_credentials_the_name_is_what_makes_one_known(tmp_path: Path) -> None:
    with Registry(spool=tmp_path, limit=1 << 20) as registry, contextlib.ExitStack() as stack:
        repository = registry.repository()
        client = stack.enter_context(contextlib.closing(Client(registry, repository)))
        assert client.ask("HEAD", f"/v2/{repository.name}/blobs/{digest_of(DATA)}")[0] == 404
        strangers(registry, stack, b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        client.push()
