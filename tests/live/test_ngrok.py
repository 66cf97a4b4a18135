"""What a stand-in for ngrok cannot show, with a real agent, account and edge:

    LAYERFERRY_LIVE_NGROK_AUTHTOKEN=... pytest tests/live

It takes six minutes, for one upload has to last longer than the edge's idle timeout of five, and less than 1 MB.
LAYERFERRY_LIVE_NGROK_SECONDS makes it shorter; NGROK_PATH names the agent. A free account has one domain: run no other
tunnel of it meanwhile.
"""

import contextlib
import http.client
import http.server
import json
import os
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pyngrok import conf, ngrok
from pyngrok.exception import PyngrokNgrokHTTPError

from layerferry.embedded_registry.credentials import Credentials
from layerferry.routes.ngrok import agent as ngrok_agent
from layerferry.routes.ngrok.edge_check import EDGE_REALM
from layerferry.routes.ngrok.tunnel import open_tunnel

SECONDS = float(os.environ.get("LAYERFERRY_LIVE_NGROK_SECONDS", "330"))
PAUSE = min(5.0, SECONDS / 10)
CHUNK = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def token() -> str:
    return os.environ["LAYERFERRY_LIVE_NGROK_AUTHTOKEN"]


@pytest.fixture(scope="module")
def agent() -> Path:
    found = ngrok_agent.find_agent(os.environ)
    assert found, "there is no agent: set NGROK_PATH, or install it (https://ngrok.com/download)"
    return found


@dataclass
class Upstream:
    """What is behind the tunnel: it answers as a registry's base endpoint, and keeps what it was sent."""

    address: str = ""
    authorizations: list[str] = field(default_factory=list)
    received: int = 0


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    seen = Upstream()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen.authorizations.append(self.headers.get("Authorization", ""))
            self.say(200)

        def do_PATCH(self) -> None:
            while size := int(self.rfile.readline(), 16):
                seen.received += len(self.rfile.read(size + 2)) - 2
            self.rfile.readline()
            self.say(202)

        def say(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        seen.address = f"127.0.0.1:{server.server_address[1]}"
        yield seen
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def connection_to(url: str) -> Iterator[http.client.HTTPSConnection]:
    connection = http.client.HTTPSConnection(urlsplit(url).netloc, timeout=60, context=ssl.create_default_context())
    try:
        yield connection
    finally:
        connection.close()


def ask(url: str, authorization: str = "") -> tuple[int, str]:
    """Status and challenge, asked again while the edge does not know of the tunnel yet."""
    deadline = time.monotonic() + 30
    while True:
        with connection_to(url) as connection:
            headers = {"User-Agent": "layerferry", **({"Authorization": authorization} if authorization else {})}
            connection.request("GET", "/v2/", headers=headers)
            response = connection.getresponse()
            response.read()
        if response.status not in {404, 502, 503} or time.monotonic() > deadline:
            return response.status, response.headers.get("WWW-Authenticate", "")
        time.sleep(1)


def policy_forms() -> dict[str, dict[str, Any]]:
    """What we send an agent of today, by a name for each form."""
    credentials = Credentials("layerferry", "a-password-of-this-test-alone")
    forms = ngrok_agent.tunnel_forms((3, 99), credentials, "")
    names = ("policy as a string", "policy as an object", "basic_auth")
    return {name: {"api": api, **options} for name, (api, options) in zip(names, forms, strict=True)}


@pytest.mark.parametrize("form", policy_forms())
def test_a_form_of_policy_is_enforced_or_refused_and_never_ignored(
    form: str, token: str, agent: Path, upstream: Upstream, tmp_path: Path
) -> None:
    """The first form is the one that we mean; the others are for agents that do not take it."""
    options = policy_forms()[form]
    config = tmp_path / "ngrok.yml"
    config.touch(mode=0o600)
    version = (3, 99) if options["api"] == "3" else (3, 5)
    config.write_text(ngrok_agent.configuration(version, token), encoding="utf-8")
    settings = conf.PyngrokConfig(ngrok_path=str(agent), config_path=str(config), request_timeout=20)
    settings.auth_token = None
    settings.config_version = options.pop("api")
    try:
        tunnel = ngrok.connect(f"http://{upstream.address}", "http", f"live-{os.getpid()}", settings, **options)
    except PyngrokNgrokHTTPError as error:
        if form == "policy as a string" or not 400 <= error.status_code < 500:
            raise
    else:
        right = Credentials("layerferry", "a-password-of-this-test-alone").header
        bare, challenge = ask(tunnel.public_url or "")
        assert bare == 401
        if form != "basic_auth":
            assert EDGE_REALM in challenge
        assert ask(tunnel.public_url or "", Credentials("layerferry", "another-password").header)[0] == 401
        assert upstream.authorizations == []
        assert ask(tunnel.public_url or "", right)[0] == 200
    finally:
        ngrok.kill(settings)


def test_the_edge_passes_authorization_on(token: str, agent: Path, upstream: Upstream) -> None:
    """Our registry asks for the same credentials as the edge does, and has to see them."""
    with open_tunnel(upstream.address, env=os.environ, token=token) as tunnel:
        status, _ = ask(tunnel.url, tunnel.credentials.header)
    assert status == 200
    assert set(upstream.authorizations) == {tunnel.credentials.header}


def test_one_upload_may_last_longer_than_the_idle_timeout(token: str, agent: Path, upstream: Upstream) -> None:
    """A layer is one PATCH; the daemon may have to compress for minutes until it ends."""
    begin, sent = time.monotonic(), 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        while time.monotonic() - begin < SECONDS:
            yield CHUNK
            sent += len(CHUNK)
            time.sleep(PAUSE)

    with open_tunnel(upstream.address, env=os.environ, token=token) as tunnel, connection_to(tunnel.url) as connection:
        headers = {"Authorization": tunnel.credentials.header, "Transfer-Encoding": "chunked"}
        connection.request("PATCH", "/v2/", chunks(), headers, encode_chunked=True)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())) == (202, {})
    assert upstream.received == sent
