"""The probe asks real sockets: whatever is at the other end, it answers in time and never raises."""

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerferry.ci.probes import Answer, probe

Serve = Callable[[bytes], str]


def answer_once(listener: socket.socket, reply: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with contextlib.suppress(OSError), connection:
            connection.recv(4096)
            connection.sendall(reply)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that answers each connection with the same bytes."""
    with contextlib.ExitStack() as stack:

        def start(reply: bytes) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            thread = threading.Thread(target=answer_once, args=(listener, reply), daemon=True)
            thread.start()
            return f"127.0.0.1:{listener.getsockname()[1]}"

        yield start


def response(status: str, *headers: str, body: str = "{}") -> bytes:
    head = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close"]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


@pytest.mark.parametrize(
    ("reply", "answer", "detail"),
    [
        (response("200 OK", "Content-Type: application/json"), Answer.OPEN, "200"),
        (response("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"'), Answer.GUARDED, "401, Basic"),
        (response("401 Unauthorized"), Answer.OTHER, "HTTP 401"),
        (response("200 OK", "Content-Type: text/html", body="<html>"), Answer.OTHER, "HTTP 200, a page"),
        (response("404 Not Found"), Answer.OTHER, "HTTP 404"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Answer.OTHER, "speaks neither HTTP nor TLS"),
    ],
)
def test_the_answer_tells_what_listens(serve: Serve, reply: bytes, answer: Answer, detail: str) -> None:
    found = probe(serve(reply), timeout=5)
    assert (found.answer, found.detail) == (answer, detail)


def test_a_closed_port_is_silent_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = probe(f"127.0.0.1:{port}", timeout=5)
    assert (found.answer, found.detail) == (Answer.SILENT, "Connection refused")


def test_an_unknown_name_is_silent() -> None:
    assert probe("no-such-host.invalid:5000", timeout=5).answer is Answer.SILENT


def test_a_server_that_never_answers_costs_no_more_than_the_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = probe(f"127.0.0.1:{listener.getsockname()[1]}", timeout=0.3)
    assert (found.answer, found.detail) == (Answer.SILENT, "nothing within 0.3 s")


def test_a_server_that_drips_costs_no_more_than_the_bound() -> None:
    """Whoever heard it to its end would hear it for ever."""
    stop = threading.Event()

    def drip(listener: socket.socket) -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            while not stop.wait(0.1):
                connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        found = probe(f"127.0.0.1:{listener.getsockname()[1]}", timeout=0.5)
        stop.set()
        thread.join()
    assert (found.answer, found.detail) == (Answer.SILENT, "nothing within 0.5 s")


def test_a_server_that_wants_tls_is_asked_again_and_its_certificate_is_checked(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def handshake(listener: socket.socket) -> None:
        for _ in range(2):
            with contextlib.suppress(OSError), context.wrap_socket(listener.accept()[0], server_side=True):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=handshake, args=(listener,))
        thread.start()
        found = probe(f"localhost:{listener.getsockname()[1]}", timeout=5)
        thread.join()
    assert found.scheme == "https"
    assert found.answer is Answer.OTHER
    assert "not trusted" in found.detail
