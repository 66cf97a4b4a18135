"""A registry that speaks TLS: whom the reader trusts, and that a login goes nowhere in the clear."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from layerferry.errors import SourceError
from layerferry.oci.image import Name
from layerferry.registry_client import http_session, tries
from layerferry.registry_client.endpoint import Endpoint
from layerferry.registry_client.repository import Repository
from rig import tls


class Handler(BaseHTTPRequestHandler):
    """Asks for a token from a service that is not encrypted, but for /v2/open."""

    def do_GET(self) -> None:
        wants = "/open/" not in self.path
        self.send_response(401 if wants else 200)
        self.send_header("Content-Length", "2")
        if wants:
            self.send_header("WWW-Authenticate", 'Bearer realm="http://127.0.0.1:1/token"')
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A registry's address; its CA is not trusted yet."""
    tls.create(tmp_path / "tls", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls/server-cert.pem", tmp_path / "tls/server-key.pem")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a handshake that fails is what is tested
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setattr(tries, "_pause", lambda *_: None)
    monkeypatch.setattr(http_session, "CERTIFICATES", tmp_path / "certs.d")
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def repository(address: str, path: str, home: Path) -> Repository:
    return Repository(Endpoint(address, {"HOME": str(home)}), Name.parse(f"{address}/{path}"))


def trust(address: str, folder: Path) -> None:
    """As docker is told to trust a registry's CA."""
    place = folder / "certs.d" / address
    place.mkdir(parents=True)
    (place / "ca.crt").write_bytes((folder / "tls/ca.pem").read_bytes())


def test_takes_the_ca_that_docker_takes(address: str, tmp_path: Path) -> None:
    trust(address, tmp_path)
    assert repository(address, "open", tmp_path).manifest("1")[1] == b"{}"


def test_refuses_a_certificate_of_somebody(address: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="certificate verify failed") as caught:
        repository(address, "open", tmp_path).manifest("1")
    assert f"certs.d/{address}/ca.crt" in caught.value.hint


def test_takes_no_login_to_a_token_service_in_the_clear(address: str, tmp_path: Path) -> None:
    trust(address, tmp_path)
    with pytest.raises(SourceError, match="token service that is not encrypted"):
        repository(address, "app", tmp_path).manifest("1")
