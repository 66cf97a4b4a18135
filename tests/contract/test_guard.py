"""The guard in front of a registry that asks for nothing, over real sockets."""

import contextlib
import http.client
import http.server
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from layerferry.routes.edge import Credentials
from layerferry.routes.guard import GUARD_REALM, Guard, open_guard

KNOWN = Credentials.generate()


@dataclass
class Registry:
    """What the registry behind saw."""

    address: str = ""
    seen: list[tuple[str, str, dict[str, str], int]] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    known: Registry

    def handle_any(self) -> None:
        size = self.read_body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.known.seen.append((self.command, self.path, headers, size))
        if self.command == "POST":
            location = f"http://{self.headers['Host']}/v2/a/blobs/uploads/1?_state=a%3D%3D&x=1"
            self.say(202, {"Location": location, "Docker-Upload-UUID": "1"}, b"")
        elif self.path.endswith("/chunked"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range(50):
                self.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        elif self.path.endswith("/missing"):
            self.say(404, {}, b'{"errors":[]}')
        else:
            self.say(200, {"Docker-Content-Digest": "sha256:1"}, b"x" * 1000)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = handle_any  # noqa: N815  http.server's names

    def read_body(self) -> int:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return len(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        total = 0
        while size := int(self.rfile.readline(), 16):
            total += len(self.rfile.read(size + 2)) - 2
        self.rfile.readline()
        return total

    def say(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[Registry]:
    known = Registry()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"known": known}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    known.address = f"127.0.0.1:{server.server_address[1]}"
    yield known
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def guard(registry: Registry) -> Iterator[Guard]:
    with open_guard(registry.address, KNOWN) as guard:
        yield guard
    assert guard.faults == []


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(guard: Guard, method: str = "GET", path: str = "/v2/", body: Any = None, **headers: str) -> Reply:
    with contextlib.closing(http.client.HTTPConnection(guard.address, timeout=10)) as connection:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())


def ask_known(guard: Guard, method: str = "GET", path: str = "/v2/", body: Any = None, **headers: str) -> Reply:
    return ask(guard, method, path, body, **headers, Authorization=KNOWN.header)


@pytest.mark.parametrize("authorization", ["", "Basic", "Bearer x", Credentials("layerferry", "wrong-one").header])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_without_our_credentials_nothing_gets_through(
    guard: Guard, registry: Registry, method: str, authorization: str
) -> None:
    reply = ask(guard, method, Authorization=authorization)
    assert reply.status == 401
    assert f'realm="{GUARD_REALM}"' in reply.headers["WWW-Authenticate"]
    assert registry.seen == []


def test_with_them_a_request_gets_through_and_they_do_not(guard: Guard, registry: Registry) -> None:
    headers = {"Accept": "application/vnd.oci.image.index.v1+json", "X-Forwarded-Proto": "https, https"}
    reply = ask_known(guard, "GET", "/v2/a/manifests/1?ns=docker.io", **headers)
    assert (reply.status, reply.body) == (200, b"x" * 1000)
    assert reply.headers["Docker-Content-Digest"] == "sha256:1"
    ((_, path, seen, _),) = registry.seen
    assert path == "/v2/a/manifests/1?ns=docker.io"
    assert seen["accept"] == headers["Accept"]
    assert seen["host"] == registry.address
    assert not {"authorization", "x-forwarded-proto"} & set(seen)


def test_a_head_has_the_length_and_no_body(guard: Guard) -> None:
    reply = ask_known(guard, "HEAD", "/v2/a/blobs/sha256:1")
    assert (reply.status, reply.headers["Content-Length"], reply.body) == (200, "1000", b"")


def test_a_location_is_relative(guard: Guard) -> None:
    reply = ask_known(guard, "POST", "/v2/a/blobs/uploads/")
    assert (reply.status, reply.headers["Location"]) == (202, "/v2/a/blobs/uploads/1?_state=a%3D%3D&x=1")


@pytest.mark.parametrize("chunked", [True, False])
def test_a_large_body_passes(guard: Guard, registry: Registry, chunked: bool) -> None:
    pieces = [bytes(100_000)] * 200
    body: Any = iter(pieces) if chunked else b"".join(pieces)
    assert ask_known(guard, "PATCH", "/v2/a/blobs/uploads/1?_state=a%3D%3D", body).status == 200
    ((method, path, headers, size),) = registry.seen
    assert (method, path, size) == ("PATCH", "/v2/a/blobs/uploads/1?_state=a%3D%3D", 20_000_000)
    assert ("transfer-encoding" in headers) is chunked


def test_an_answer_in_chunks_passes(guard: Guard) -> None:
    assert len(ask_known(guard, "GET", "/v2/a/chunked").body) == 50 * 65536


def test_a_refusal_of_the_registry_is_passed_on(guard: Guard) -> None:
    assert ask_known(guard, "GET", "/v2/a/missing").status == 404


def test_what_is_no_registrys_path_is_not(guard: Guard, registry: Registry) -> None:
    assert ask_known(guard, "GET", "/debug/vars").status == 404
    assert registry.seen == []


def test_a_connection_serves_many_requests_and_each_is_asked(guard: Guard) -> None:
    with contextlib.closing(http.client.HTTPConnection(guard.address, timeout=10)) as connection:
        for authorization, status in ((KNOWN.header, 200), ("", 401), (KNOWN.header, 200)):
            connection.request("GET", "/v2/", headers={"Authorization": authorization})
            response = connection.getresponse()
            response.read()
            assert response.status == status


def test_a_registry_that_is_gone_is_a_bad_gateway() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with open_guard(address, KNOWN) as guard:
        assert ask_known(guard).status == 502


def test_nothing_listens_afterwards(registry: Registry) -> None:
    with open_guard(registry.address, KNOWN) as guard:
        pass
    with pytest.raises(OSError, match="refused"):
        ask(guard)
