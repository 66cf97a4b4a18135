"""An HTTP server that says whatever it is told to, byte for byte: for a daemon, a registry, a token service."""

import gzip
import socket
import socketserver
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostile.words import dumps


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


#: Bytes are an answer after which the connection stays; of what is a generator, it ends with the last.
Reply = bytes | Callable[[], Iterator[bytes]]
Answering = Callable[[Request], Reply]


def answer(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """A whole answer. A header's name has `_` for `-`."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1", "replace") + body


def document(content: object, status: str = "200 OK", **headers: str) -> bytes:
    return answer(dumps(content), status, Content_Type="application/json", **headers)


ZEROS = bytes(1 << 16)
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n"


def _for_ever(chunk: bytes) -> Iterator[bytes]:
    while True:
        yield chunk


def endless(chunk: bytes = b'"aaaaaaa",' * 6000, head: bytes = b"[") -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + head
    yield from _for_ever(chunk)


def endless_error() -> Iterator[bytes]:
    yield b'HTTP/1.1 500 Oh\r\nContent-Type: application/json\r\n\r\n{"message": "'
    yield from _for_ever(b"a" * 65536)


def endless_chunks() -> Iterator[bytes]:
    yield _CHUNKED + b"\r\n"
    yield from _for_ever((b"40\r\n" + b"[" * 64 + b"\r\n") * 900)


def endless_chunk_extension() -> Iterator[bytes]:
    yield _CHUNKED + b"\r\n1;"
    yield from _for_ever(b"a" * 65536)


def endless_trailers() -> Iterator[bytes]:
    yield _CHUNKED + b"\r\n2\r\n{}\r\n0\r\n"
    yield from _for_ever(b"A: b\r\n" * 8000)


def endless_header() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nA: "
    yield from _for_ever(b"a" * 65536)


def endless_headers() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    yield from _for_ever(b"A: b\r\n" * 8000)


def endless_continue() -> Iterator[bytes]:
    yield from _for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 2000)


def gzip_bomb() -> Iterator[bytes]:
    """Zeros without end, a thousandth of it on the wire."""
    yield _CHUNKED + b"Content-Encoding: gzip\r\n\r\n"
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    yield b"%x\r\n%b\r\n" % (len(head), head)
    yield from _for_ever(b"%x\r\n%b\r\n" % (len(block), block) * 16)


def short_body() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}"


def negative_length() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"


def digits_length() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}"


def bad_chunk() -> Iterator[bytes]:
    yield _CHUNKED + b"\r\nzz\x1b]0;x\x07\r\n[]\r\n0\r\n\r\n"


def garbage() -> Iterator[bytes]:
    yield b"SSH-2.0-\x1b]0;owned\x07 ::error::x\r\n" * 3


def painted_status() -> Iterator[bytes]:
    yield b"HTTP/1.1 500 \x1b]0;owned\x07##vso[x] \xc2\x9b\r\nContent-Length: 0\r\n\r\n"


def nothing() -> Iterator[bytes]:
    yield from ()


def bad_gzip() -> Iterator[bytes]:
    data = gzip.compress(b"{}")[:-9] + b"\xff" * 9
    yield answer(data, Content_Encoding="gzip")


def silence() -> Iterator[bytes]:
    threading.Event().wait(60)
    yield b""


def drip() -> Iterator[bytes]:
    """A byte every tenth of a second."""
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    while True:
        threading.Event().wait(0.1)
        yield b" "


def drip_headers() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nA: "
    while True:
        threading.Event().wait(0.1)
        yield b"a"


#: Answers that are none, for any question.
BROKEN_ANSWERS: Mapping[str, Callable[[], Iterator[bytes]]] = {
    "endless": endless,
    "endless-chunks": endless_chunks,
    "endless-chunk-extension": endless_chunk_extension,
    "endless-trailers": endless_trailers,
    "endless-header": endless_header,
    "endless-headers": endless_headers,
    "endless-continue": endless_continue,
    "gzip-bomb": gzip_bomb,
    "short-body": short_body,
    "negative-length": negative_length,
    "digits-length": digits_length,
    "bad-chunk": bad_chunk,
    "garbage": garbage,
    "painted-status": painted_status,
    "nothing": nothing,
    "bad-gzip": bad_gzip,
}
#: Answers that take for ever; `--timeout` ends them.
SLOW_ANSWERS: Mapping[str, Callable[[], Iterator[bytes]]] = {
    "silence": silence,
    "drip": drip,
    "drip-headers": drip_headers,
}


@dataclass
class Playing:
    """A running server: what it answers with, and what it was asked."""

    address: str
    answering: Answering = field(default=lambda _: answer(status="404 Not Found"))
    seen: list[Request] = field(default_factory=list)

    def play(self, answering: Answering) -> None:
        self.seen.clear()
        self.answering = answering


class _Handler(socketserver.StreamRequestHandler):
    playing: Playing

    def handle(self) -> None:
        try:
            while request := self._request():
                self.playing.seen.append(request)
                reply = self.playing.answering(request)
                if not isinstance(reply, bytes):
                    for chunk in reply():
                        self.wfile.write(chunk)
                    return
                if request.method == "HEAD":
                    reply = reply.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                self.wfile.write(reply)
        except OSError:
            return

    def _request(self) -> Request | None:
        words = self.rfile.readline(65536).decode("latin-1").split()
        if len(words) != 3:
            return None
        headers: dict[str, str] = {}
        while (line := self.rfile.readline(65536)) not in {b"\r\n", b""}:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if headers.get("expect"):
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding"):
            return Request(words[0], words[1], headers, self._chunks())
        return Request(words[0], words[1], headers, self.rfile.read(int(headers.get("content-length", "0"))))

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(100).split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline(100)
        self.rfile.readline(100)
        return body


class _Threads(socketserver.ThreadingMixIn):
    daemon_threads = True
    block_on_close = False


class _Unix(_Threads, socketserver.UnixStreamServer):
    request_queue_size = 64


class _Tcp(_Threads, socketserver.TCPServer):
    address_family = socket.AF_INET
    request_queue_size = 64


@contextmanager
def serving(path: Path | None = None) -> Iterator[Playing]:
    """A server at a unix socket, or at a port of the loopback."""
    playing = Playing("")
    handler: Any = type("Handler", (_Handler,), {"playing": playing})
    server: socketserver.BaseServer
    if path:
        server = _Unix(str(path), handler)
        playing.address = f"unix://{path}"
    else:
        server = _Tcp(("127.0.0.1", 0), handler)
        playing.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield playing
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
