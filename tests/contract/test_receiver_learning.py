"""How a containerd store's blobs are learned: from the engine alone, which shows credentials, and says one thing."""

import base64
import contextlib
import gzip
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuzz.bench import BASE_ID, CONTAINERD, Bench
from fuzz.shipment import BASE, LAYER, TOP, Image, Shipment, digest
from layerferry.oci import limits
from layerferry.receive.blob_registry import BlobRegistry
from layerferry.receive.strict_json import LARGEST_DOCUMENT

STORED = gzip.compress(BASE)
OWN = {"mediaType": f"{LAYER}+gzip", "digest": digest(STORED), "size": len(STORED)}
OTHER = "sha256:" + "e" * 64
MANIFEST: dict[str, Any] = {"schemaVersion": 2, "config": {"digest": digest(b"config"), "size": 6}, "layers": [OWN]}


def ask(tmp_path: Path, *manifests: Any, **state: Any) -> tuple[Bench, list[str]]:
    """What a client hears where the engine's push tells these manifests, one after the other."""
    bench = Bench(tmp_path, info=CONTAINERD)
    bench.engine.update(blobs={BASE_ID: list(manifests)}, **state)
    bench.save()
    answer = bench.serve(Shipment([Image(layers=[BASE, TOP], below=[])]).session())
    assert answer.lines[-1] == "done"
    return bench, answer.lines


def test_an_honest_push_is_learned_from(tmp_path: Path) -> None:
    assert "store layer" in ask(tmp_path, MANIFEST)[1]


def changed(**members: Any) -> dict[str, Any]:
    return {**MANIFEST, "layers": [{**OWN, **members}]}


@pytest.mark.parametrize(
    ("manifests", "state"),
    [
        ([MANIFEST, changed(digest=OTHER)], {}),
        ([MANIFEST, MANIFEST], {}),
        ([MANIFEST], {"silent": True}),
        ([{**MANIFEST, "layers": [OWN, OWN]}], {}),
        ([{**MANIFEST, "layers": []}], {}),
        ([changed(size=0)], {}),
        ([changed(size=True)], {}),
        ([changed(size=-5)], {}),
        ([changed(size="7")], {}),
        ([changed(digest="sha256:../../x")], {}),
        ([changed(mediaType=LAYER)], {}),
        ([changed(digest=digest(BASE))], {}),
        ([changed(mediaType="application/x-evil")], {}),
        ([{**MANIFEST, "config": {"digest": "x"}}], {}),
        ([{**MANIFEST, "config": {"digest": 5}}], {}),
        ([{**MANIFEST, "x": {"y": "z" * LARGEST_DOCUMENT}}], {}),
        ([{**MANIFEST, "manifests": [{"digest": OTHER, "platform": {"os": "linux", "architecture": "amd64"}}]}], {}),
        ([{**MANIFEST, "manifests": 5}], {}),
    ],
)
def test_a_push_that_says_something_else_is_not_learned_from(
    tmp_path: Path, manifests: list[Any], state: dict[str, Any]
) -> None:
    assert "store blob" in ask(tmp_path, *manifests, **state)[1]


def test_one_blob_is_not_two_layers(tmp_path: Path) -> None:
    bench = Bench(tmp_path, info=CONTAINERD)
    bench.engine["images"] = {BASE_ID: [digest(BASE), digest(TOP)]}
    bench.engine["names"] = {"docker.io/library/app:1": BASE_ID}
    bench.engine["blobs"] = {BASE_ID: {**MANIFEST, "layers": [OWN, OWN]}}
    bench.save()
    assert "store blob" in bench.serve(Shipment([Image(layers=[BASE, TOP], below=[])]).session()).lines


def test_the_credentials_are_in_a_private_file_that_goes_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    bench, _ = ask(tmp_path, MANIFEST)
    seen = json.loads((bench.home / "seen.json").read_text())
    assert seen["modes"] == ["0o600", "0o700"]
    assert not Path(seen["folder"]).exists()
    [(host, login)] = seen["config"]["auths"].items()
    assert host.startswith("127.0.0.1:")
    password = base64.b64decode(login["auth"]).decode().partition(":")[2]
    assert len(password) >= 32
    for place in (json.dumps(bench.calls), json.dumps(seen["environment"]), bench.log.read_text()):
        assert password not in place
        assert login["auth"] not in place


def test_the_push_goes_to_the_daemon_that_the_users_docker_is_set_to(tmp_path: Path) -> None:
    bench = Bench(tmp_path, info=CONTAINERD)
    bench.engine["blobs"] = {BASE_ID: MANIFEST}
    bench.save()
    (bench.home / ".docker").mkdir()
    said = {"currentContext": "rootless", "auths": {"r.example": {"auth": "c2VjcmV0"}}, "credsStore": "pass"}
    (bench.home / ".docker/config.json").write_text(json.dumps(said))
    bench.serve(Shipment([Image(layers=[BASE, TOP], below=[])]).session())
    config = json.loads((bench.home / "seen.json").read_text())["config"]
    assert config["currentContext"] == "rootless"
    assert config.keys() == {"currentContext", "auths"}
    assert "r.example" not in config["auths"]


# --- the registry, and strangers on the same host


@pytest.fixture
def registry() -> Iterator[BlobRegistry]:
    with BlobRegistry() as registry:
        yield registry


def request(registry: BlobRegistry, method: str, path: str, body: bytes = b"", login: str = "") -> int:
    connection = http.client.HTTPConnection(registry.host, timeout=10)
    headers = {"Authorization": f"Basic {login}"} if login else {}
    with contextlib.closing(connection):
        connection.request(method, path, body or None, headers)
        return connection.getresponse().status


@pytest.mark.parametrize("login", ["", "bGF5ZXJmZXJyeTo=", "x", "\u00e9"])
def test_whoever_shows_no_credentials_is_not_believed(registry: BlobRegistry, login: str) -> None:
    push, name = registry.open()
    own = f"/v2/{name.partition('/')[2].partition(':')[0]}"
    body = json.dumps(MANIFEST).encode()
    for method, path in (
        ("GET", "/v2/"),
        ("HEAD", f"{own}/blobs/{OTHER}"),
        ("PUT", f"{own}/manifests/learn"),
        ("PUT", f"{own}/manifests/{digest(body)}"),
        ("POST", f"{own}/blobs/uploads/"),
    ):
        assert request(registry, method, path, body if method == "PUT" else b"", login) == 401
    assert (push.asked, push.manifests, push.tagged, push.void) == (set(), {}, "", False)
    assert request(registry, "PUT", f"{own}/manifests/learn", body, registry.login) == 201
    assert push.tagged == digest(body)


def test_a_manifest_goes_by_the_tag_once_and_else_by_its_digest(registry: BlobRegistry) -> None:
    push, name = registry.open()
    own = f"/v2/{name.partition('/')[2].partition(':')[0]}/manifests"
    assert request(registry, "PUT", f"{own}/{digest(b'{}')}", b"{}", registry.login) == 201
    assert request(registry, "PUT", f"{own}/learn", b"[]", registry.login) == 201
    assert not push.void
    assert request(registry, "PUT", f"{own}/learn", b"[1]", registry.login) == 403
    assert (push.tagged, push.void) == (digest(b"[]"), True)
    other, name = registry.open()
    own = f"/v2/{name.partition('/')[2].partition(':')[0]}/manifests"
    assert request(registry, "PUT", f"{own}/{OTHER}", b"{}", registry.login) == 403
    assert (other.void, other.manifests) == (True, {})


def test_between_two_pushes_nothing_is_taken(registry: BlobRegistry) -> None:
    _, name = registry.open()
    registry.push = None
    own = f"/v2/{name.partition('/')[2].partition(':')[0]}/manifests"
    assert request(registry, "PUT", f"{own}/learn", b"{}", registry.login) == 403


def test_strangers_that_are_silent_keep_nobody_out(registry: BlobRegistry) -> None:
    host, _, port = registry.host.partition(":")
    with contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
            for _ in range(4 * limits.STRANGERS)
        ]
        assert request(registry, "GET", "/v2/", login=registry.login) == 200
        assert [connection.recv(1) for connection in idle] == [b""] * len(idle)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v2/ HTTP/1.1\r\nX: y\r\n",
        b"GET /v2/ HTTP/1.1\r\n" + b"X: y\r\n" * 1000,
        b"G" * (1 << 20),
        b"GET /v2/ HTTP/1.1\r\nX: " + b"y" * (1 << 20),
        b"PUT /v2/x HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
        b"PUT /v2/x HTTP/1.1\r\nContent-Length: -9\r\n\r\n",
        b"PUT /v2/x HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"\x16\x03\x01",
        b"\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:40]),
)
def test_a_stranger_that_dribbles_or_floods_is_sent_away(
    registry: BlobRegistry, sent: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    host, _, port = registry.host.partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=20) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(sent)
        while connection.recv(4096):
            pass
    assert request(registry, "GET", "/v2/", login=registry.login) == 200
    assert capfd.readouterr() == ("", "")


def test_with_the_registry_all_connections_end() -> None:
    with BlobRegistry() as registry:
        host, _, port = registry.host.partition(":")
        connection = socket.create_connection((host, int(port)), timeout=20)
        connection.sendall(f"GET /v2/ HTTP/1.1\r\nAuthorization: Basic {registry.login}\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    with connection:
        assert connection.recv(1) == b""
