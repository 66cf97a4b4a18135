"""Clients other than dockerd push into the embedded registry: podman, skopeo, and one that breaks the rules."""

import base64
import gzip
import hashlib
import http.client
import json
import os
import socket
import subprocess
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from layerferry.embedded_registry import PushRepository, Registry, SpooledBlob
from layerferry.errors import SourceError
from layerferry.oci.image import digest_of
from rig import PODMANS, Engine, Image, Noise, Rig, Text
from rig.processes import wait_until

LIMIT = 1 << 30
DATA = os.urandom(999_999) + b"?"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(spool=tmp_path, limit=LIMIT) as registry:
        yield registry
        assert registry.faults == ()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="session")
def image(rig: Rig) -> Image:
    shop = rig.workshop
    return shop.image([shop.layer({"etc/large": Text(12_000_000)}), shop.layer({"etc/small": Noise(300_000)})])


def diff_id(blob: SpooledBlob) -> str:
    data = blob.path.read_bytes()
    return "sha256:" + hashlib.sha256(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).hexdigest()


def diff_ids(repository: PushRepository) -> list[str]:
    """What the layers of the pushed manifest unpack to, bottom first."""
    here = repository.blobs
    return [diff_id(here[layer.digest]) for layer in repository.manifest(0).layers]


def skopeo(rig: Rig, image: Image, folder: Path, destination: str, *options: str) -> subprocess.CompletedProcess[str]:
    layout = rig.workshop.layout({"1": image}, folder / "layout")
    command = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", *options]
    return subprocess.run([*command, f"oci:{layout}:1", destination], capture_output=True, text=True, check=False)


def test_skopeo_pushes_a_whole_image(
    rig: Rig, image: Image, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> None:
    repository = registry.repository()
    run = skopeo(
        rig, image, tmp_path_factory.mktemp("skopeo"), f"docker://127.0.0.1:{registry.port}/{repository.name}:1"
    )
    assert run.returncode == 0, run.stderr
    assert diff_ids(repository) == image.diff_ids
    assert repository.manifest(0).config is not None


def test_skopeo_with_credentials(
    rig: Rig, image: Image, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Registry(spool=tmp_path, limit=LIMIT, credentials=("layerferry", "a-secret")) as registry:
        repository = registry.repository()
        destination = f"docker://127.0.0.1:{registry.port}/{repository.name}:1"
        scratch = tmp_path_factory.mktemp("skopeo")
        assert skopeo(rig, image, scratch / "1", destination, "--dest-creds=layerferry:wrong").returncode
        assert repository.manifests == {}
        assert skopeo(rig, image, scratch / "2", destination, "--dest-creds=layerferry:a-secret").returncode == 0
        assert diff_ids(repository) == image.diff_ids


@pytest.mark.kinds(engine=PODMANS)
def test_podman_pushes_a_whole_image(rig: Rig, image: Image, engine: Engine, registry: Registry) -> None:
    engine.load(rig.workshop.archive({"clients:1": image}))
    repository = registry.repository()
    engine.docker("push", "--tls-verify=false", "clients:1", f"127.0.0.1:{registry.port}/{repository.name}:1")
    assert diff_ids(repository) == image.diff_ids


class Client:
    """A plain HTTP client of one repository."""

    def __init__(self, registry: Registry) -> None:
        self.port = registry.port
        self.repository = registry.repository()

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            chunked = body is not None and not isinstance(body, bytes)
            connection.request(method, path, body, headers, encode_chunked=chunked)  # type: ignore[arg-type]
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()

    def start(self) -> str:
        return self.ask("POST", f"/v2/{self.repository.name}/blobs/uploads/")[1]["location"]


@pytest.fixture
def client(registry: Registry) -> Client:
    return Client(registry)


def test_a_corrupted_upload_is_refused_and_a_sound_one_is_kept(client: Client, tmp_path: Path) -> None:
    status, _, body = client.ask("PUT", f"{client.start()}?digest={digest_of(DATA)}", DATA[:-1] + b"!")
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
    assert client.ask("PUT", f"{client.start()}?digest={digest_of(DATA)}", DATA)[0] == 201
    assert client.repository.blobs[digest_of(DATA)].path.read_bytes() == DATA
    assert client.ask("GET", f"/v2/{client.repository.name}/blobs/{digest_of(DATA)}")[2] == DATA


def test_another_name_is_nobodys_business(client: Client) -> None:
    for path in ("/", "/v2/library/app/manifests/1", f"/v2/layerferry/{'0' * 32}/blobs/{digest_of(DATA)}"):
        status, headers, body = client.ask("GET", path)
        assert (status, json.loads(body)["errors"][0]["code"]) == (404, "NAME_UNKNOWN")
        assert headers["docker-distribution-api-version"] == "registry/2.0"


def test_an_upload_that_breaks_off_leaves_nothing(client: Client, tmp_path: Path) -> None:
    with closing(socket.create_connection(("127.0.0.1", client.port))) as sock:
        sock.sendall(f"PATCH {client.start()} HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\nabc".encode())
    wait_until(lambda: not any(file.is_file() for file in tmp_path.rglob("*")), "what was sent is there")
    assert client.repository.blobs == {}


def test_memory_stays_flat_though_a_chunk_is_large(client: Client) -> None:
    size, location = 64 << 20, client.start()
    piece = bytes(1 << 20)
    tracemalloc.start()
    with closing(socket.create_connection(("127.0.0.1", client.port))) as sock:
        head = f"PATCH {location} HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n"
        sock.sendall(head.encode())
        for _ in range(size // len(piece)):
            sock.sendall(piece)
        sock.sendall(b"\r\n0\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 202 ")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert client.repository.received == size
    assert peak < 4 << 20


def test_files_and_folder_are_private(client: Client, tmp_path: Path) -> None:
    client.ask("PATCH", client.start(), DATA)
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [file.stat().st_mode & 0o777 for file in folder.iterdir()] == [0o600]


def test_names_are_not_to_be_guessed_and_ports_are_free(registry: Registry, tmp_path: Path) -> None:
    names = {registry.repository().name for _ in range(100)}
    assert len(names) == 100
    assert {len(name) for name in names} == {len("layerferry/") + 32}
    with Registry(spool=tmp_path, limit=LIMIT) as other:
        assert other.port != registry.port


def test_closing_ends_what_is_under_way_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waited for these clients would wait for ever."""
    monkeypatch.setattr("layerferry.embedded_registry.http_server._SILENCE", 1e6)
    with Registry(spool=tmp_path, limit=LIMIT) as registry:
        client = Client(registry)
        idle = socket.create_connection(("127.0.0.1", registry.port))
        busy = socket.create_connection(("127.0.0.1", registry.port))
        busy.sendall(f"PATCH {client.start()} HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\nabc".encode())
        waiting = threading.Thread(target=lambda: list(client.repository.completed()))
        waiting.start()
    waiting.join(timeout=60)
    assert not waiting.is_alive()
    for sock in (idle, busy):
        with closing(sock), suppress(ConnectionResetError):
            sock.settimeout(60)
            while sock.recv(1000):
                pass
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("registry")]


def test_an_address_that_is_taken_is_an_error_of_ours(registry: Registry, tmp_path: Path) -> None:
    before = list(tmp_path.iterdir())
    with pytest.raises(SourceError, match="cannot be started"):
        Registry(spool=tmp_path, limit=LIMIT, address=("127.0.0.1", registry.port)).__enter__()
    assert list(tmp_path.iterdir()) == before
    with pytest.raises(SourceError, match="cannot be started"):
        Registry(spool=tmp_path / "absent", limit=LIMIT).__enter__()


def test_credentials_are_asked_for_before_anything_else(tmp_path: Path) -> None:
    with Registry(spool=tmp_path, limit=LIMIT, credentials=("layerferry", "a-secret")) as registry:
        client = Client(registry)
        status, headers, _ = client.ask("GET", "/nothing")
        assert (status, headers["www-authenticate"].split()[0]) == (401, "Basic")
        token = base64.b64encode(b"layerferry:a-secret").decode()
        assert client.ask("GET", "/v2/", Authorization=f"Basic {token}")[0] == 200
