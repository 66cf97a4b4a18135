"""A registry that means harm: floods, answers without an end, redirects and logins that lead elsewhere."""

import contextlib
import gzip
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from contract.test_remote import PICTURE, environment, helper, login, pull
from fake_registry import PASSWORD, FakeRegistry, fake_registry
from layerferry.errors import LayerferryError, SourceError, TargetError
from layerferry.oci import limits
from layerferry.oci.image import Name
from layerferry.registry_client.challenge import bearer
from layerferry.registry_client.endpoint import Blame, Endpoint
from layerferry.registry_client.logins import find_login
from layerferry.registry_client.pusher import RepositoryPusher
from layerferry.registry_client.repository import Repository
from layerferry.registry_client.tries import TRIES

_FLOOD = 64 << 20
#: What lies in sockets and buffers on the way.
_ON_THE_WAY = 24 << 20


pytestmark = pytest.mark.usefixtures("hurry")


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as running:
        running.add("app:1", PICTURE.manifest_type, PICTURE.manifest, PICTURE.documents)
        yield running


@dataclass
class Raw:
    """A server that says what a test makes it say, byte for byte, and counts how much of that was taken."""

    answers: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    address: str = ""
    heard: list[bytes] = field(default_factory=list)
    #: The most that was taken of one answer's endless part.
    most: int = 0

    def answer(self, connection: socket.socket) -> None:
        head = b""
        with connection, contextlib.suppress(OSError):
            while b"\r\n\r\n" not in head:
                data = connection.recv(65536)
                if not data:
                    return
                head += data
            self.heard.append(head)
            path = head.split()[1].decode()
            start, again = next((said for key, said in self.answers.items() if path.startswith(key)), (b"", b""))
            connection.sendall(start)
            sent, block = 0, again * max(1, 65536 // max(1, len(again)))
            while again and sent < _FLOOD:
                connection.sendall(block)
                sent += len(block)
                self.most = max(self.most, sent)


@pytest.fixture
def raw() -> Iterator[Raw]:
    server = Raw()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.address = f"127.0.0.1:{listener.getsockname()[1]}"

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.settimeout(20)
                    threading.Thread(target=server.answer, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)


def repository(address: str, folder: Path, kind: type[Repository] = Repository, **options: Any) -> Any:
    environ = {"HOME": str(folder), "DOCKER_CONFIG": str(folder)}
    there = Endpoint(address, environ, plain_http=True, **options)
    return kind(there, Name.parse(f"{address}/app"))


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
FLOODS: dict[str, tuple[bytes, bytes]] = {
    "a body without an end": (OK + b"\r\n", b"x" * 1000),
    "a body that is longer than it says": (OK + b"Content-Length: 99999999999\r\n\r\n", b"x" * 1000),
    "a body of one byte a chunk": (CHUNKED, b"1\r\nx\r\n"),
    "a chunk of -1 bytes": (CHUNKED + b"-1\r\n", b"x" * 1000),
    "a chunk's size without an end": (CHUNKED, b"0" * 1000),
    "a chunk's extension without an end": (CHUNKED + b"5;", b"x" * 1000),
    "trailers without an end": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"A: b\r\n"),
    "a trailer without an end": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"x" * 1000),
    "a status line without an end": (b"HTTP/1.1 200 ", b"x" * 1000),
    "headers without an end": (OK, b"A: b\r\n"),
    "a header without an end": (OK + b"A: ", b"x" * 1000),
    "to be continued for ever": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers of 100 Continue without an end": (b"HTTP/1.1 100 Continue\r\n", b"A: b\r\n"),
    "no HTTP": (b"", b"hello\n"),
}


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("status", [200, 401, 404, 500, 307])
def test_of_a_flood_no_more_is_read_than_a_document_may_have(raw: Raw, tmp_path: Path, flood: str, status: int) -> None:
    start, again = FLOODS[flood]
    told = {200: b"200 OK", 307: b"307 Moved\r\nLocation: /v2/other", 401: b"401 No\r\nWWW-Authenticate: Basic realm=x"}
    raw.answers = {"/v2/": (start.replace(b"200 OK", told.get(status, b"%d No" % status)), again)}
    with pytest.raises(LayerferryError) as caught:
        repository(raw.address, tmp_path).manifest("1")
    assert raw.most < _ON_THE_WAY
    assert len(caught.value.message) < 500
    assert len(raw.heard) <= limits.REDIRECTS * TRIES


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def challenge(realm: str) -> bytes:
    return http(b"{}", f'WWW-Authenticate: Bearer realm="{realm}",service="x"', status="401 Unauthorized")


BOMB = gzip.compress(bytes(50 << 20), 9)


def test_no_token_is_unpacked_that_nobody_asked_to_be_packed(raw: Raw, tmp_path: Path) -> None:
    raw.answers = {
        "/token": (http(BOMB, "Content-Encoding: gzip"), b""),
        "/v2/": (challenge(f"http://{raw.address}/token"), b""),
    }
    with pytest.raises(SourceError, match=r"the token service of .* does not answer: it packs its answer"):
        repository(raw.address, tmp_path).manifest("1")


def test_no_manifest_is_unpacked_that_nobody_asked_to_be_packed(raw: Raw, tmp_path: Path) -> None:
    raw.answers = {"/v2/": (http(BOMB, "Content-Encoding: gzip"), b"")}
    with pytest.raises(SourceError, match="broke off: it packs its answer"):
        repository(raw.address, tmp_path).manifest("1")


def test_a_redirect_is_not_unpacked_either(raw: Raw, tmp_path: Path) -> None:
    raw.answers = {
        "/v2/app/manifests/1": (
            http(BOMB * 200, "Content-Encoding: gzip", "Location: /v2/there", status="307 Moved"), b""
        ),
        "/v2/there": (http(b"{}", "Content-Type: a/b"), b""),
    }  # fmt: skip
    assert repository(raw.address, tmp_path).manifest("1") == ("a/b", b"{}")


@pytest.mark.parametrize("flood", FLOODS)
def test_of_a_token_services_flood_no_more_is_read(raw: Raw, tmp_path: Path, flood: str) -> None:
    raw.answers = {"/token": FLOODS[flood], "/v2/": (challenge(f"http://{raw.address}/token"), b"")}
    with pytest.raises(SourceError, match="token service"):
        repository(raw.address, tmp_path).manifest("1")
    assert raw.most < _ON_THE_WAY


TOKENS: dict[str, bytes] = {
    "list": b"[]",
    "text": b'"x"',
    "no JSON": b"nonsense",
    "deep": b"[" * 10_000,
    "digits": b'{"expires_in": ' + b"9" * 5000 + b"}",
    "number": b'{"token": 5}',
    "true": b'{"token": true}',
    "object": b'{"token": {}}',
    "line": b'{"token": "a\\r\\nX: y"}',
    "blank": b'{"token": "a b\\u00e9"}',
    "long": json.dumps({"token": "x" * (limits.TOKEN + 1)}).encode(),
    "none": b'{"token": null}',
    "empty": b"{}",
}


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(("blame", "code"), [(Blame(), 3), (Blame(TargetError, TargetError), 5)])
def test_a_token_that_is_none_is_a_sentence(raw: Raw, tmp_path: Path, token: str, blame: Blame, code: int) -> None:
    raw.answers = {
        "/token": (http(TOKENS[token]), b""),
        "/v2/": (challenge(f"http://{raw.address}/token"), b""),
    }
    with pytest.raises(LayerferryError) as caught:
        repository(raw.address, tmp_path, blame=blame).manifest("1")
    assert caught.value.exit_code == code
    assert len(caught.value.message) < 500
    assert "\n" not in caught.value.message


# Where logins go.


@pytest.mark.parametrize("status", ["301 x", "302 x", "303 x", "307 x", "308 x"])
def test_an_identity_token_goes_to_no_other_host(raw: Raw, tmp_path: Path, status: str) -> None:
    with fake_registry() as other:
        raw.answers = {
            "/token": (http(b"", f"Location: http://{other.address}/token", status=status), b""),
            "/v2/": (challenge(f"http://{raw.address}/token"), b""),
        }
        environment(tmp_path, {"auths": {raw.address: {"identitytoken": PASSWORD}}})
        with pytest.raises(SourceError, match="HTTP 30"):
            repository(raw.address, tmp_path).manifest("1")
        assert other.seen == []
    assert PASSWORD.encode() in raw.heard[-1] or b"POST /token" in raw.heard[-1]


@pytest.mark.parametrize("status", ["302 x", "307 x"])
def test_a_password_goes_to_no_other_host_than_the_token_service(raw: Raw, tmp_path: Path, status: str) -> None:
    with fake_registry() as other:
        raw.answers = {
            "/token": (http(b"", f"Location: http://{other.address}/token", status=status), b""),
            "/v2/": (challenge(f"http://{raw.address}/token"), b""),
        }
        environment(tmp_path, {"auths": {raw.address: {"username": "anna", "password": PASSWORD}}})
        with pytest.raises(SourceError, match="sends a login on"):
            repository(raw.address, tmp_path).manifest("1")
        assert other.seen == []


def test_a_token_service_may_move_within_its_host(raw: Raw, tmp_path: Path) -> None:
    raw.answers = {
        "/token/": (http(b'{"token": "t"}'), b""),
        "/token": (http(b"", "Location: /token/", status="307 x"), b""),
        "/v2/": (challenge(f"http://{raw.address}/token"), b""),
    }
    environment(tmp_path, {"auths": {raw.address: {"username": "anna", "password": PASSWORD}}})
    with pytest.raises(SourceError, match="not for this login"):
        repository(raw.address, tmp_path).manifest("1")
    assert [b"Authorization: Basic" in head for head in raw.heard if b"/token/" in head] == [True]
    assert b"Authorization: Bearer t" in raw.heard[-1]


def test_a_token_goes_to_nobody_whom_a_manifest_is_redirected_to(
    registry: FakeRegistry, tmp_path: Path, raw: Raw
) -> None:
    raw.answers = {"/": (http(b"{}"), b"")}
    registry.auth = "token"
    store = repository(registry.address, tmp_path)
    environment(tmp_path, login(registry))
    store.manifest("1")
    store._endpoint.follow("GET", f"http://{registry.address}/v2/", store._login(store._base))
    assert "Authorization" in registry.seen[-1][2]
    redirecting = http(b"", f"Location: http://{registry.address}/v2/", status="307 x")
    raw.answers = {"/": (redirecting, b"")}
    store._endpoint.follow("GET", f"http://{raw.address}/", {"Authorization": "Bearer secret"})
    assert "Authorization" not in registry.seen[-1][2]


REALMS = [
    "ftp://a.io/token",
    "/token",
    "",
    "http://",
    "javascript:alert(1)",
    "http://a b/",
    "http://[::1/",
    "file:///etc",
]


@pytest.mark.parametrize("realm", [*REALMS, "http://user:pw@a.io/", "http://a.io:99999/", "http://" + "a" * 20_000])
def test_a_realm_that_is_no_address_is_refused(raw: Raw, tmp_path: Path, realm: str) -> None:
    raw.answers = {"/v2/": (challenge(realm), b"")}
    with pytest.raises(SourceError, match=r"names no token service|address that is refused|more than 4096 characters"):
        repository(raw.address, tmp_path).manifest("1")
    assert len(raw.heard) == 1


# Where a registry may lead.

PUBLIC = "registry.example.com"


@pytest.fixture
def public(tmp_path: Path) -> Endpoint:
    return Endpoint(PUBLIC, {"HOME": str(tmp_path)})


HERE = ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "localhost", "a.localhost", "[::1]", "[::ffff:127.0.0.1]"]


@pytest.mark.parametrize("host", [*HERE, "0.0.0.0", "169.254.169.254", "[fe80::1]", "LOCALHOST"])
def test_a_registry_elsewhere_does_not_lead_to_this_machine(public: Endpoint, host: str) -> None:
    with pytest.raises(SourceError, match="this machine: refused"):
        public.leads(f"{public.url}/app", f"https://{host}:8080/latest/meta-data", by_digest=True)


def test_nothing_goes_down_to_http_but_what_is_known_by_its_digest(public: Endpoint) -> None:
    url = f"{public.url}/app/blobs/uploads/"
    with pytest.raises(SourceError, match=r"http://other\.example\.com, which is not encrypted"):
        public.leads(url, "http://other.example.com/x?signature=secret")
    assert public.leads(url, "http://other.example.com/x", by_digest=True) == "http://other.example.com/x"
    assert public.leads(url, f"http://{PUBLIC}/y?a=b#c") == f"https://{PUBLIC}/y?a=b"
    assert public.leads(url, "1?a=b") == f"{url}1?a=b"


@pytest.mark.parametrize(
    "location",
    ["", "ftp://a.io", "http://", "https://a b", "https://a\r\nX: y", "https://[", "https://a.io:x", "https://u:p@a.io",
     "https://" + "a" * 20_000, "https://ä.io", "gopher://a.io"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(public: Endpoint, location: str) -> None:
    with pytest.raises(SourceError, match="leads to an address that is refused") as caught:
        public.leads(f"{public.url}/app", location)
    assert "u:p" not in caught.value.message


def test_redirects_come_to_an_end(raw: Raw, tmp_path: Path) -> None:
    raw.answers = {"/": (http(b"", "Location: /v2/more", status="307 x"), b"")}
    with pytest.raises(SourceError, match="leads from one address to the next, 10 times"):
        repository(raw.address, tmp_path).manifest("1")
    assert len(raw.heard) == limits.REDIRECTS


def test_a_wait_is_bounded_and_told(raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    raw.answers = {"/": (http(b"", "Retry-After: " + "9" * 5000, status="503 x"), b"")}
    told: list[str] = []
    with pytest.raises(SourceError, match="HTTP 503"):
        repository(raw.address, tmp_path, told=told.append).manifest("1")
    assert waits == [20.0] * 3
    assert [line.rpartition(": ")[2] for line in told] == [
        f"HTTP 503; this is try {number} of 4" for number in (2, 3, 4)
    ]


# A registry as a target.

TAGS = [
    b'{"tags": 5}',
    b'{"tags": ["../x"]}',
    b'{"tags": [5]}',
    b'{"tags": {}}',
    b'{"tags": "abc"}',
    b"[]",
    b"[" * 9999,
]


@pytest.mark.parametrize("answer", [*TAGS, b'{"tags": ["a\\nb"]}', b'{"tags": ["' + b"x" * 129 + b'"]}'])
def test_a_list_of_tags_that_is_none_is_a_sentence(raw: Raw, tmp_path: Path, answer: bytes) -> None:
    raw.answers = {"/": (http(answer, 'Link: <http://a.io/>; rel="next"'), b"")}
    with pytest.raises(TargetError, match=r"the list of tags in the registry .* is damaged"):
        repository(raw.address, tmp_path, RepositoryPusher, blame=Blame(TargetError, TargetError)).tags()
    assert len(raw.heard) == 1


@pytest.mark.parametrize("length", ["9" * 5000, "-5", "x", "", "²"])
def test_a_blobs_size_that_is_none_is_not_known(raw: Raw, tmp_path: Path, length: str) -> None:
    raw.answers = {"/": (f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode("latin-1"), b"")}
    assert repository(raw.address, tmp_path, RepositoryPusher).size(PICTURE.id) == 0


@pytest.mark.parametrize("location", ["", "ftp://x/", "http://[", "http://a\tb/"])
def test_an_upload_that_goes_on_nowhere_is_a_sentence(raw: Raw, tmp_path: Path, location: str) -> None:
    raw.answers = {"/": (http(b"", f"Location: {location}", status="202 x"), b"")}
    with pytest.raises(TargetError, match="leads to an address that is refused"):
        repository(raw.address, tmp_path, RepositoryPusher, blame=Blame(TargetError, TargetError)).begin()


@pytest.mark.parametrize(
    "errors", [b"[]", b"5", b'{"errors": 5}', b'{"errors": [5]}', b'{"errors": []}', b'{"errors": [{"code": []}]}',
               b"[" * 9999, b"\xff", b'{"errors": [{"message": ' + b"9" * 5000 + b"}]}", b"x" * (2 << 20)]
)  # fmt: skip
def test_an_error_that_is_none_is_told_by_its_status(raw: Raw, tmp_path: Path, errors: bytes) -> None:
    raw.answers = {"/": (http(errors, status="418 x"), b"")}
    with pytest.raises(SourceError, match=r"answers with HTTP 418$"):
        repository(raw.address, tmp_path).manifest("1")


@pytest.mark.parametrize("content_type", ["text/\x80", "x", "application/json", "a/b; charset=utf-8", "", "a" * 60_000])
def test_a_content_type_that_is_none_leaves_it_to_the_content(
    registry: FakeRegistry, tmp_path: Path, content_type: str
) -> None:
    document = json.loads(PICTURE.manifest)
    document.pop("mediaType", None)
    sent = content_type if content_type.isascii() and len(content_type) < 1000 else "x"
    registry.tags["app:1"] = "" if content_type.startswith("a/b") else sent, json.dumps(document).encode()
    assert pull(registry, environment(tmp_path, {}), tmp_path, 0)


# Challenges.


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Bearer realm="https://a.io/t",service="s",scope="repository:a:pull,push"',
         {"realm": "https://a.io/t", "service": "s", "scope": "repository:a:pull,push"}),
        ('Basic realm="x, Bearer realm=y", bearer  REALM = "z"', {"realm": "z"}),
        ('Bearer realm="a\\"b,c", Basic realm="no"', {"realm": 'a"b,c'}),
        ("Bearer realm=https://a.io/t , service=s", {"realm": "https://a.io/t", "service": "s"}),
        ("Negotiate, Bearer", {}),
        ('Basic realm="bearer x"', None),
        ("", None),
        ("bearerish realm=x", None),
        (",,,=,=", None),
    ],
)  # fmt: skip
def test_a_challenge_is_read(header: str, expected: dict[str, str] | None) -> None:
    assert bearer(header) == expected


@pytest.mark.parametrize("part", ["a", "a=", '"', "\\", "a,", "a b=,", 'a="', ", "])
def test_twice_the_challenge_takes_twice_the_steps(part: str) -> None:
    def steps(times: int) -> int:
        count = 0

        def trace(frame: Any, event: str, argument: Any) -> Any:
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            bearer("Bearer " + part * times)
        finally:
            sys.settrace(before)
        return count

    assert steps(2_000) < 2.2 * steps(1_000)


@pytest.mark.parametrize("scope", ["a\x1b[31m", "a\x80", "a\u00ad"])
def test_a_challenge_that_is_no_text_is_refused(raw: Raw, tmp_path: Path, scope: str) -> None:
    head = f'WWW-Authenticate: Bearer realm="http://{raw.address}/token",scope="{scope}"'
    raw.answers = {"/v2/": (http(b"", head, status="401 x"), b"")}
    with pytest.raises(SourceError, match="asks for a login in signs that are no text"):
        repository(raw.address, tmp_path).manifest("1")


def test_a_challenge_beyond_all_bounds_is_refused(raw: Raw, tmp_path: Path) -> None:
    raw.answers = {"/v2/": (http(b"", "WWW-Authenticate: Bearer " + "a" * 60_000, status="401 x"), b"")}
    with pytest.raises(SourceError, match="asks for a login in more than 4096 characters"):
        repository(raw.address, tmp_path).manifest("1")


# Credential helpers.


def asked(tmp_path: Path, script: str, **variables: str) -> tuple[Any, str]:
    helper(tmp_path, "test", script)
    environ = environment(tmp_path, {"credsStore": "test"}) | variables
    return find_login("a.io", "app", environ)


@pytest.mark.parametrize(
    "answer", ["[]", "5", '{"Username": 5, "Secret": "x"}', '{"Secret": true}', "nonsense", '{"Secret": []}']
)
def test_a_helper_that_answers_something_else_is_told(tmp_path: Path, answer: str) -> None:
    found, why = asked(tmp_path, f"echo '{answer}'")
    assert found is None
    assert "docker-credential-test does not answer with a login" in why


def test_a_helper_without_an_end_is_ended(tmp_path: Path) -> None:
    found, why = asked(tmp_path, "exec yes")
    assert found is None
    assert "it has no end" in why


def test_a_helper_gets_no_secret_of_ours(tmp_path: Path) -> None:
    ours = {"LAYERFERRY_SSH_KEY": "k" * 40, "NGROK_AUTHTOKEN": "n" * 40, "DOCKER_AUTH_CONFIG": "{}", "OTHER": "stays"}
    asked(tmp_path, f"env > {tmp_path}/env", **ours)
    seen = (tmp_path / "env").read_text()
    assert "OTHER=stays" in seen
    assert not any(name in seen for name in ours if name != "OTHER")


def test_a_helper_that_does_not_listen_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "docker-credential-test"
    path.write_text('#!/bin/sh\nexec <&-\necho \'{"Username": "u", "Secret": "s"}\'\n')
    path.chmod(0o755)
    found, _ = find_login("a.io", "app", environment(tmp_path, {"credsStore": "test"}))
    assert found is not None


def test_a_configuration_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    assert find_login("a.io", "app", {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)})[0] is None
