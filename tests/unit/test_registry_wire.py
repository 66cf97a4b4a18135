"""HTTP as the embedded registry speaks it, over a connection that is played by a list of bytes."""

import re
from collections import deque
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest

from layerferry.embedded_registry import http_server
from layerferry.embedded_registry.http_server import BrokenRequest, Request, Response

CHUNKED = b"PATCH /up?a=b%20c HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET /again HTTP/1.1\r\nHost: here\r\n\r\n"


class Wire:
    """A socket whose peer sends `pieces` and then leaves, or is silent."""

    def __init__(self, *pieces: bytes, silent: bool = False) -> None:
        self.pieces = deque(pieces)
        self.silent = silent
        self.sent = b""
        self.half_closed = False

    def recv(self, size: int) -> bytes:
        if not self.pieces and self.silent:
            raise TimeoutError
        return self.pieces.popleft() if self.pieces else b""

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def shutdown(self, _: int) -> None:
        self.half_closed = True

    def settimeout(self, _: float) -> None:
        pass


class Answer:
    """Answers with `response`, having read the body or not."""

    def __init__(self, response: Response, *, reads: bool = True) -> None:
        self.response = response
        self.reads = reads
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        if self.reads:
            self.bodies.append(b"".join(request.body))
        return self.response


OK = Response(HTTPStatus.OK, {"X-Mine": "yes"}, b"body")


def serve(peer: Any, answer: Answer) -> list[bytes]:
    """Serve the connection to its end; returns the status lines that were sent."""
    http_server._HttpConnection(peer).serve(answer)
    return re.findall(rb"HTTP/1\.1 [^\r]*", peer.sent)


def test_a_chunked_body_arrives_in_pieces_and_the_connection_goes_on() -> None:
    peer = Wire(CHUNKED[:10], CHUNKED[10:] + b"3\r\nab", b"c\r\n", b"2\r\nde\r\n0\r\n\r\n", GET)
    answer = Answer(OK)
    assert serve(peer, answer) == [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK"]
    first, second = answer.requests
    assert (first.method, first.path, first.query, first.body.length) == ("PATCH", "/up", {"a": "b c"}, None)
    assert (second.method, second.path, second.body.length) == ("GET", "/again", 0)
    assert answer.bodies == [b"abcde", b""]
    assert b"X-Mine: yes" in peer.sent
    assert b"Content-Length: 4" in peer.sent


def test_a_piece_is_passed_on_before_its_chunk_has_ended() -> None:
    """A chunk may be a gigabyte; what has arrived of it is all that we hold."""
    seen: list[bytes] = []

    def watch(request: Request) -> Response:
        seen.append(next(iter(request.body)))
        return OK

    peer: Any = Wire(CHUNKED, b"40000000\r\nfirst bytes", silent=True)
    http_server._HttpConnection(peer).serve(watch)
    assert seen == [b"first bytes"]


def test_an_answer_to_head_has_a_length_and_no_body() -> None:
    peer = Wire(b"HEAD / HTTP/1.1\r\nHost: here\r\n\r\n")
    serve(peer, Answer(Response(HTTPStatus.OK, body=b"", length=12)))
    assert peer.sent.endswith(b"Content-Length: 12\r\n\r\n")


def test_a_body_that_is_made_as_it_is_sent() -> None:
    peer = Wire(GET)
    serve(peer, Answer(Response(HTTPStatus.OK, body=iter([b"one", b"two"]), length=6)))
    assert peer.sent.endswith(b"\r\n\r\nonetwo")


def test_an_early_answer_closes_for_writing_and_reads_on() -> None:
    """Else the client might see a broken connection, and repair it, instead of the answer."""
    peer = Wire(CHUNKED, b"3\r\nabc\r\n", b"more", b"and more")
    assert serve(peer, Answer(Response(HTTPStatus.FORBIDDEN), reads=False)) == [b"HTTP/1.1 403 Forbidden"]
    assert b"Connection: close" in peer.sent
    assert peer.half_closed
    assert not peer.pieces


def test_a_small_body_that_nobody_read_does_not_end_the_connection() -> None:
    post = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\nabc"
    assert len(serve(Wire(post, GET), Answer(OK, reads=False))) == 2


def test_whoever_waits_for_the_go_ahead_gets_it_when_the_body_is_read() -> None:
    put = b"PUT / HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    assert serve(Wire(put, b"abc"), Answer(OK)) == [b"HTTP/1.1 100 ", b"HTTP/1.1 200 OK"]
    refused = serve(Wire(put, silent=True), Answer(Response(HTTPStatus.FORBIDDEN), reads=False))
    assert refused == [b"HTTP/1.1 403 Forbidden"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: here\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: here\r\n" + b"X: y\r\n" * 10_000,
    ],
    ids=["tls", "nonsense", "no host", "negative length", "endless headers"],
)
def test_what_is_no_request_is_answered_with_400(data: bytes) -> None:
    """Docker's containerd store tries TLS first, and goes on in plain HTTP when it reads this answer."""
    answer = Answer(OK)
    assert serve(Wire(data), answer) == [b"HTTP/1.1 400 Bad Request"]
    assert answer.requests == []


@pytest.mark.parametrize("rest", [b"", b"3\r\nab", b"xyz\r\nabc\r\n", b"3\r\nabcdef"])
@pytest.mark.parametrize("silent", [False, True])
def test_a_body_that_does_not_end_is_broken(rest: bytes, silent: bool) -> None:
    def read(request: Request) -> Response:
        with pytest.raises(BrokenRequest):
            list(request.body)
        raise BrokenRequest

    peer: Any = Wire(CHUNKED, rest, silent=silent)
    http_server._HttpConnection(peer).serve(read)
    assert peer.sent.startswith(b"HTTP/1.1 400 ")


def test_an_error_of_ours_is_answered_with_500_and_raised() -> None:
    def fail(_: Request) -> Response:
        raise ZeroDivisionError

    peer: Any = Wire(GET)
    with pytest.raises(ZeroDivisionError):
        http_server._HttpConnection(peer).serve(fail)
    assert peer.sent.startswith(b"HTTP/1.1 500 ")


def test_an_error_in_the_middle_of_an_answer_breaks_it_off() -> None:
    def fail() -> Iterator[bytes]:
        yield b"one"
        raise ZeroDivisionError

    peer: Any = Wire(GET)
    with pytest.raises(ZeroDivisionError):
        http_server._HttpConnection(peer).serve(Answer(Response(HTTPStatus.OK, body=fail(), length=6)))
    assert peer.sent.count(b"HTTP/1.1") == 1
    assert peer.sent.endswith(b"one")
