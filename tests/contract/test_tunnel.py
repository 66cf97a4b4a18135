"""open_tunnel with pyngrok and a stand-in for ngrok's agent, which really proxies and really asks for credentials."""

import contextlib
import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from layerferry.embedded_registry.credentials import Credentials
from layerferry.errors import RouteError
from layerferry.routes.ngrok import edge_check, tunnel
from layerferry.routes.ngrok.edge_check import check_edge
from layerferry.routes.ngrok.tunnel import Tunnel, open_tunnel
from rig.processes import wait_until

AGENT = Path(__file__).parents[1] / "rig" / "ngrok"
TOKEN = "2aBcDeFgHiJkLmNoPqRsTuVwXyZ_4Standin5Token6Only7"


@dataclass
class Upstream:
    """A registry's base endpoint, which counts, and asks for credentials if told to."""

    address: str
    requests: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    realm: str = ""


@dataclass
class World:
    """What a test may touch: the agent's environment, the folder for temporary files, and trust in the edge."""

    env: dict[str, str]
    temporary: Path
    state: Path
    tls: ssl.SSLContext
    upstream: Upstream

    def knob(self, **knobs: str) -> "World":
        self.env |= {f"STANDIN_NGROK_{name}": value for name, value in knobs.items()}
        return self

    def open(self, **options: Any) -> contextlib.AbstractContextManager[Tunnel]:
        given: dict[str, Any] = {"env": self.env, "token": TOKEN, "tls": self.tls, "timeout": 10.0}
        return open_tunnel(self.upstream.address, **given | options)

    def processes(self) -> list[int]:
        """Processes that carry this world's environment: keepers and agents."""
        marker = f"STANDIN_NGROK_STATE={self.state}".encode()
        return [pid for pid in pids() if marker in read_proc(pid, "environ")]

    def wait_until_clean(self) -> None:
        """After a kill nobody is left to wait for what it had started."""
        wait_until(lambda: not self.processes() and not any(self.temporary.iterdir()), "something is left")

    def assert_clean(self) -> None:
        """Nothing runs, nothing lies about."""
        assert self.processes() == []
        assert list(self.temporary.iterdir()) == []


def pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if path.name != str(os.getpid())]


def read_proc(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edge")
    request = [
        "openssl",
        "req",
        "-x509",
        "-nodes",
        "-days",
        "2",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]
    request += ["-subj", "/CN=stand-in", "-addext", "subjectAltName=IP:127.0.0.1"]
    request += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(request, check=True, capture_output=True)
    return folder


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    known = Upstream("")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known.requests.append(self.headers.get("Authorization", ""))
            refused = known.realm and not self.headers.get("Authorization")
            self.send_response(401 if refused else 200)
            if refused:
                self.send_header("WWW-Authenticate", f'Basic realm="{known.realm}"')
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def do_PATCH(self) -> None:
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size + 2)[:-2]
            self.rfile.readline()
            known.bodies.append(data)
            self.send_response(202)
            self.send_header("X-Seen-Proto", self.headers.get("X-Forwarded-Proto", ""))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    known.address = f"127.0.0.1:{server.server_address[1]}"
    yield known
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def world(tmp_path: Path, state: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> World:
    temporary, home = tmp_path / "temporary", tmp_path / "home"
    temporary.mkdir()
    home.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    # A folder of its own for each test, so that its processes can be told from others'.
    own = tmp_path / "state"
    own.mkdir()
    for name in ("cert.pem", "key.pem"):
        (own / name).write_bytes((state / name).read_bytes())
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "NGROK_PATH": str(AGENT), "STANDIN_NGROK_STATE": str(own)}
    return World(env, temporary, own, ssl.create_default_context(cafile=str(own / "cert.pem")), upstream)


def ask(
    world: World, tunnel: Tunnel, method: str = "GET", body: Any = None, **headers: str
) -> http.client.HTTPResponse:
    connection = http.client.HTTPSConnection(urlsplit(tunnel.url).netloc, timeout=10, context=world.tls)
    chunked = body is not None
    headers = {"Connection": "close"} | headers
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
    connection.request(method, "/v2/", body=body, headers=headers, encode_chunked=chunked)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


class TestOpen:
    @pytest.mark.parametrize("version", ["3.39.10", "3.30.0", "3.29.0", "3.5.0"])
    def test_it_lets_nobody_in_but_us(self, world: World, version: str) -> None:
        with world.knob(VERSION=version).open() as tunnel:
            assert tunnel.url == f"https://{tunnel.host}"
            assert ask(world, tunnel).status == 401
            wrong = Credentials(tunnel.credentials.user, "wrong-password")
            assert ask(world, tunnel, Authorization=wrong.header).status == 401
            assert ask(world, tunnel, Authorization=tunnel.credentials.header).status == 200
        assert set(world.upstream.requests) == {tunnel.credentials.header}
        with pytest.raises(OSError, match="refused"):
            ask(world, tunnel)
        world.assert_clean()

    def test_a_body_of_unknown_length_passes_whole(self, world: World) -> None:
        pieces = [bytes([number % 256]) * 65_537 for number in range(100)]
        with world.open() as tunnel:
            response = ask(world, tunnel, "PATCH", iter(pieces), Authorization=tunnel.credentials.header)
            assert (response.status, response.headers["X-Seen-Proto"]) == (202, "https")
        assert world.upstream.bodies == [b"".join(pieces)]

    @pytest.mark.parametrize("form", ["string", "object"])
    def test_either_form_of_a_policy_is_found(self, world: World, form: str) -> None:
        record = world.state / "record"
        with world.knob(POLICY=form, RECORD=str(record)).open() as tunnel:
            assert ask(world, tunnel).status == 401
        opened = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines() if "opened" in line]
        assert [(one["opened"], one["policy"]) for one in opened] == [
            ("endpoints", {"string": "str", "object": "dict"}[form])
        ]

    @pytest.mark.parametrize(("version", "place"), [("3.39.10", "https://me.example"), ("3.20.0", "me.example")])
    def test_the_users_domain_is_asked_for(self, world: World, version: str, place: str) -> None:
        record = world.state / "record"
        with world.knob(VERSION=version, RECORD=str(record)).open(domain="me.example"):
            pass
        assert json.loads(record.read_text(encoding="utf-8").splitlines()[0])["place"] == place

    def test_the_agents_own_configuration_has_a_token_too(self, world: World) -> None:
        folder = Path(world.env["HOME"]) / ".config" / "ngrok"
        folder.mkdir(parents=True)
        (folder / "ngrok.yml").write_text(f"version: '2'\nauthtoken: {TOKEN}\nlog_level: crit\n", encoding="utf-8")
        with world.open(token=None) as tunnel:
            assert ask(world, tunnel).status == 401
        world.assert_clean()

    def test_a_registry_that_asks_for_credentials_itself_is_fine(self, world: World) -> None:
        world.upstream.realm = "layerferry"
        with world.open(own_realm="layerferry") as tunnel:
            assert ask(world, tunnel, Authorization=tunnel.credentials.header).status == 200

    def test_a_proxy_of_the_environment_is_not_asked_for_the_agents_own_api(self, world: World) -> None:
        world.env |= {"http_proxy": "http://192.0.2.1:3128", "HTTP_PROXY": "http://192.0.2.1:3128", "no_proxy": "corp"}
        with world.open() as tunnel:
            assert ask(world, tunnel).status == 401

    def test_two_tunnels_do_not_know_of_each_other(self, world: World) -> None:
        with world.open() as one, world.open() as two:
            assert one.url != two.url
            assert ask(world, one, Authorization=two.credentials.header).status == 401
        world.assert_clean()


FAILURES = {
    "silent": ({"MODE": "silent"}, "opened no tunnel within"),
    "offline": ({"MODE": "offline"}, "no such host"),
    "badtoken": ({"MODE": "badtoken"}, "refuses the token (ERR_NGROK_107)"),
    "notoken": ({"MODE": "notoken"}, "wants a token (ERR_NGROK_4018)"),
    "rude": ({"MODE": "rude"}, "authentication failed: I was told *** and do not like it"),
    "limit": ({"MODE": "limit"}, "no agent session left (ERR_NGROK_108)"),
    "old": ({"MODE": "old"}, "too old for ngrok (ERR_NGROK_121)"),
    "nopolicy": ({"MODE": "nopolicy"}, "open to everybody: it answers a request without credentials with HTTP 200"),
    "nopolicy v2": ({"MODE": "nopolicy", "VERSION": "3.5.0"}, "open to everybody"),
    "plain": ({"TLS": "0"}, "open to everybody: it is not encrypted"),
    "busy": ({"BUSY": "me.example"}, "online already (ERR_NGROK_334)"),
    "words": ({"MODE": "words"}, "something else than the API's documents"),
    "list": ({"MODE": "list"}, "something else than the API's documents"),
    "odd": ({"MODE": "odd"}, "ngrok"),
    "evil": ({"MODE": "evil"}, "its address is none of a tunnel"),
    "endless": ({"MODE": "endless"}, "answers without end"),
    "version 2": ({"VERSION": "2.3.41"}, "too old for ngrok"),
}


class TestFailure:
    @pytest.mark.parametrize("name", FAILURES)
    def test_it_says_what_to_do_and_leaves_nothing(self, world: World, name: str) -> None:
        knobs, sentence = FAILURES[name]
        patience = 3.0 if name == "silent" else 8.0
        with pytest.raises(RouteError) as caught, world.knob(**knobs).open(timeout=patience, domain="me.example"):
            pytest.fail("it opened")
        assert sentence in caught.value.message
        assert caught.value.hint
        world.assert_clean()

    def test_an_edge_that_answers_byte_by_byte_is_not_listened_to_for_ever(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each byte comes in time: a bound on a read would never end it."""
        monkeypatch.setattr(edge_check, "_ONE_REQUEST", 0.5)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(world.state / "cert.pem", world.state / "key.pem")
        sent = [0]

        def drip(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as client:
                client.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
                for _ in range(1000):
                    client.sendall(b"x")
                    sent[0] += 1
                    threading.Event().wait(0.02)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=drip, args=(server.accept()[0],), daemon=True).start()

        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=serve, daemon=True).start()
            url = f"https://127.0.0.1:{server.getsockname()[1]}"
            with pytest.raises(RouteError, match="does not answer"):
                check_edge(url, Credentials.generate(), tls=world.tls, timeout=1.5)
            assert 0 < sent[0] < 500
            server.shutdown(socket.SHUT_RDWR)

    def test_an_edge_that_leaves_the_question_to_the_registry_is_open(self, world: World) -> None:
        world.upstream.realm = "layerferry"
        with (
            pytest.raises(RouteError, match="passes requests without credentials on"),
            world.knob(MODE="nopolicy").open(own_realm="layerferry"),
        ):
            pytest.fail("it opened")
        world.assert_clean()

    def test_a_registry_that_is_gone_says_so(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def check_for_less_long(*arguments: Any, **words: Any) -> None:
            check_edge(*arguments, **words | {"timeout": 5.0})

        monkeypatch.setattr(tunnel, "check_edge", check_for_less_long)  # the agent has all of its time
        with (
            pytest.raises(RouteError, match="does not answer in time: HTTP 502"),
            open_tunnel("127.0.0.1:9", env=world.env, token=TOKEN, tls=world.tls),
        ):
            pytest.fail("it opened")
        world.assert_clean()

    def test_a_certificate_that_is_not_trusted_is_not_taken(self, world: World) -> None:
        with pytest.raises(RouteError, match="not trusted"), world.open(tls=None):
            pytest.fail("it opened")
        world.assert_clean()

    def test_nothing_is_downloaded_unless_that_is_allowed(self, world: World) -> None:
        world.env |= {"NGROK_PATH": "", "PATH": str(world.temporary / "missing")}
        with pytest.raises(RouteError, match="not installed") as caught, world.open():
            pytest.fail("it opened")
        assert "LAYERFERRY_NGROK_INSTALL" in caught.value.hint
        world.assert_clean()

    @pytest.mark.parametrize("install", [True, False])
    def test_an_agent_that_is_too_old_is_replaced_where_that_is_allowed(
        self, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, install: bool
    ) -> None:
        old = tmp_path / "ngrok"
        old.write_text("#!/bin/sh\necho ngrok version 2.3.41\n")
        old.chmod(0o755)

        def download(path: str, **_: object) -> None:
            Path(path).parent.mkdir()
            shutil.copy(AGENT, path)

        monkeypatch.setattr("pyngrok.installer.install_ngrok", download)
        for name, value in world.env.items():
            monkeypatch.setenv(name, value)
        folder = tmp_path / "folder"
        folder.mkdir()
        order = {"token": TOKEN, "domain": "", "user": "layerferry", "password": "a-password-of-ours", "timeout": 20.0}
        upstream = f"http://{world.upstream.address}"
        agent = tunnel._Agent(
            {**order, "agent": str(old), "install": install, "upstream": upstream, "folder": str(folder)}
        )
        try:
            reply = agent.open()
        finally:
            agent.close()
        assert reply.get("url", "").startswith("https://") is install, reply
        assert install or "too old" in reply["detail"]

    def test_a_quota_that_is_used_up_is_told_by_the_edge(self, world: World) -> None:
        with world.knob(QUOTA="1").open() as opened:
            assert edge_check.edge_trouble(opened.url, opened.credentials, world.tls) is None
            ask(world, opened, "PATCH", iter([b"some bytes"]), Authorization=opened.credentials.header)
            trouble = edge_check.edge_trouble(opened.url, opened.credentials, world.tls)
        assert trouble is not None
        assert "used up its bandwidth of this month (ERR_NGROK_725)" in trouble.message
        assert "export route" in trouble.hint

    def test_without_any_token_the_service_is_not_even_asked(self, world: World) -> None:
        with pytest.raises(RouteError, match="4018"), world.open(token=None):
            pytest.fail("it opened")
        world.assert_clean()

    def test_an_error_in_the_block_closes_it(self, world: World) -> None:
        with pytest.raises(ZeroDivisionError), world.open():
            raise ZeroDivisionError
        world.assert_clean()

    def test_an_agent_that_ignores_sigterm_is_killed(self, world: World) -> None:
        with world.knob(MODE="stubborn").open():
            pass
        world.assert_clean()


PROGRAM = """
    import json, os, ssl, sys, tempfile
    from layerferry.routes.ngrok.tunnel import open_tunnel
    order = json.loads(sys.stdin.readline())
    tempfile.tempdir = order["temporary"]
    tls = ssl.create_default_context(cafile=order["cafile"])
    with open_tunnel(order["upstream"], env=order["env"], token=order["token"], tls=tls, timeout=20) as tunnel:
        print(tunnel.url, flush=True)
        sys.stdin.read()
"""


def start_program(world: World) -> "subprocess.Popen[str]":
    paths = os.pathsep.join(path for path in sys.path if path)
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": paths},
    )
    order = {"temporary": str(world.temporary), "cafile": str(world.state / "cert.pem"), "token": TOKEN}
    assert program.stdin
    program.stdin.write(json.dumps(order | {"upstream": world.upstream.address, "env": world.env}) + "\n")
    program.stdin.flush()
    return program


def finish(program: "subprocess.Popen[str]") -> None:
    for stream in (program.stdin, program.stdout, program.stderr):
        if stream:
            stream.close()
    program.wait(20)


class TestEndOfOurProcess:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_no_agent_no_port_and_no_file_are_left(self, world: World, number: signal.Signals) -> None:
        program = start_program(world)
        assert program.stdout
        url = program.stdout.readline().strip()
        assert len(world.processes()) == 2
        program.send_signal(number)
        finish(program)
        world.wait_until_clean()
        with pytest.raises(OSError, match="refused"):
            ask(world, Tunnel(url, "", Credentials("", "")))

    def test_nor_when_it_is_killed_while_the_agent_is_silent(self, world: World) -> None:
        program = start_program(world.knob(MODE="silent"))
        wait_until(lambda: len(world.processes()) == 2, "two processes do not run")
        program.kill()
        finish(program)
        world.wait_until_clean()

    def test_nor_when_the_keeper_is_told_to_end(self, world: World) -> None:
        with world.open():
            (keeper,) = (pid for pid in world.processes() if b"layerferry" in read_proc(pid, "cmdline").split(b"\0")[3])
            os.kill(keeper, signal.SIGTERM)
            wait_until(lambda: not world.processes(), "what the keeper had started runs")
        world.assert_clean()


class TestSecrets:
    @pytest.mark.parametrize("mode", ["", "badtoken", "rude", "offline", "nopolicy"])
    def test_they_are_in_no_argv_log_error_or_file(
        self, world: World, mode: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        world.knob(MODE=mode)
        world.env |= {"NGROK_AUTHTOKEN": TOKEN, "LAYERFERRY_NGROK_AUTHTOKEN": TOKEN, "OTHER": f"x{TOKEN}"}
        credentials = Credentials.generate()
        seen: set[bytes] = set()
        modes: set[int] = set()
        done = threading.Event()

        def sample() -> None:
            while not done.is_set():
                for pid in pids():
                    seen.update({read_proc(pid, "cmdline"), *(world_environ(pid))})
                for path in world.temporary.rglob("*"):
                    with contextlib.suppress(OSError):
                        modes.add(path.stat().st_mode & 0o077)
                done.wait(0.01)

        def world_environ(pid: int) -> set[bytes]:
            environ = read_proc(pid, "environ")
            return {environ} if str(world.state).encode() in environ else set()

        caplog.set_level("DEBUG")
        sampler = threading.Thread(target=sample)
        sampler.start()
        shown = ""
        try:
            with world.open(credentials=credentials, timeout=3.0) as tunnel:
                shown = repr(tunnel)
        except RouteError as error:
            shown = repr(error) + error.hint + repr(error.__cause__) + repr(error.__context__)
        finally:
            done.set()
            sampler.join()
        assert any(b"--config" in line for line in seen)
        captured = capfd.readouterr()
        everything = b"".join(seen) + (shown + captured.out + captured.err + caplog.text).encode()
        left = [path for path in world.state.parent.rglob("*") if path.is_file()]
        everything += b"".join(path.read_bytes() for path in left)
        for secret in (TOKEN, *credentials.secrets):
            assert secret.encode() not in everything
        assert modes == {0}
