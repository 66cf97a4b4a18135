"""Which HTTP server library carries the embedded registry? One table, measured in one run.

    python tests/bench/http_servers.py [--size MB] [--rounds N] [--only NAME]...

Every candidate runs the same tiny service in a background thread of a fresh process: `GET /` answers at once, `PATCH`
hashes the request body and spools it to disk, as the registry does with a blob. The client sends chunked bodies in
32 KiB chunks over raw sockets, as dockerd does. Columns:

first    ms from the start of `python` to the first answer, median of --rounds fresh processes; `python -c pass` and
         a bare `import asyncio` stand below as references
stop     ms that stopping the server takes, median
1 up     MB/s of one upload of --size
4 up     MB/s of four concurrent uploads of a quarter of --size each
1 chunk  peak memory in MB after an upload of 256 MB in *one* HTTP chunk: what a hostile client can make us hold
peak     peak memory of the serving process in MB, after the two upload columns
deps     packages that the library brings along, beside what layerferry needs anyway

Needs the candidates installed: uvicorn, httptools, h11, aiohttp, cheroot, waitress, hypercorn, granian.
"""

import argparse
import contextlib
import hashlib
import http.client
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHUNK = 32 * 1024
DEPENDENCIES = {
    "http.server": "0",
    "h11 on threads": "1: h11",
    "uvicorn h11": "2: uvicorn h11",
    "uvicorn httptools": "3: uvicorn h11 httptools",
    "aiohttp": "9",
    "cheroot": "3: cheroot jaraco.functools more-itertools",
    "waitress": "1: waitress",
    "hypercorn": "6",
    "granian": "1: granian (Rust)",
}


# -- the service, in the four dialects ---------------------------------------------------------------------------------


class Spool:
    """What every candidate does with a body: sha256 and a file."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile(dir=os.environ["BENCH_SPOOL"], buffering=0)
        self.hash = hashlib.sha256()

    def write(self, data: bytes | bytearray) -> None:
        self.hash.update(data)
        self.file.write(data)

    def digest(self) -> bytes:
        self.file.close()
        return self.hash.hexdigest().encode()


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    if scope["method"] == "PATCH":
        spool = Spool()
        while True:
            message = await receive()
            spool.write(message.get("body", b""))
            if not message.get("more_body"):
                break
        body = spool.digest()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    body = b""
    if environ["REQUEST_METHOD"] == "PATCH":
        spool = Spool()
        while data := environ["wsgi.input"].read(CHUNK * 2):
            spool.write(data)
        body = spool.digest()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def serve_http_server(port: int) -> Callable[[], object]:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer(b"")

        def do_PATCH(self) -> None:  # the standard library leaves chunked bodies to us
            spool = Spool()
            while size := int(self.rfile.readline().split(b";")[0], 16):
                spool.write(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            self.answer(spool.digest())

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server.shutdown


def serve_h11(port: int) -> Callable[[], object]:
    import h11

    def talk(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = h11.Connection(h11.SERVER)

        def receive() -> Any:
            while (event := connection.next_event()) is h11.NEED_DATA:
                connection.receive_data(sock.recv(128 * 1024))
            return event

        while isinstance(request := receive(), h11.Request):
            spool = Spool() if request.method == b"PATCH" else None
            while isinstance(event := receive(), h11.Data):
                if spool:
                    spool.write(event.data)
            body = spool.digest() if spool else b""
            response = h11.Response(status_code=200, headers=[("Content-Length", str(len(body)))])
            sock.sendall(
                (connection.send(response) or b"")
                + (connection.send(h11.Data(data=body)) or b"")
                + (connection.send(h11.EndOfMessage()) or b"")
            )
            connection.start_next_cycle()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()

    def stop() -> None:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()

    return stop


def serve_uvicorn(port: int, http: str = "h11") -> Callable[[], object]:
    import uvicorn

    config = uvicorn.Config(
        asgi, host="127.0.0.1", port=port, http=http, loop="asyncio", ws="none", lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join()

    return stop


def serve_uvicorn_httptools(port: int) -> Callable[[], object]:
    return serve_uvicorn(port, "httptools")


def serve_aiohttp(port: int) -> Callable[[], object]:
    import asyncio

    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        if request.method != "PATCH":
            return web.Response()
        spool = Spool()
        async for data in request.content.iter_any():
            spool.write(data)
        return web.Response(body=spool.digest())

    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_route("*", "/", answer)
    runner = web.AppRunner(app, access_log=None)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()

    threading.Thread(target=run, daemon=True).start()
    return lambda: asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()


def serve_cheroot(port: int) -> Callable[[], object]:
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", port), wsgi, numthreads=4)
    server.prepare()
    threading.Thread(target=server.serve, daemon=True).start()
    return server.stop


def serve_waitress(port: int) -> Callable[[], object]:
    from waitress.server import create_server

    server = create_server(wsgi, host="127.0.0.1", port=port, max_request_body_size=1 << 40)
    threading.Thread(target=server.run, daemon=True).start()
    return server.close  # type: ignore[no-any-return]


def serve_hypercorn(port: int) -> Callable[[], object]:
    import asyncio

    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = None
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()
    main = serve(asgi, config, shutdown_trigger=ending.wait)  # type: ignore[arg-type]
    thread = threading.Thread(target=loop.run_until_complete, args=(main,), daemon=True)
    thread.start()

    def stop() -> None:
        loop.call_soon_threadsafe(ending.set)
        thread.join()

    return stop


def serve_granian(port: int) -> Callable[[], object]:
    import asyncio

    from granian.server.embed import Server

    server = Server(asgi, address="127.0.0.1", port=port, log_enabled=False)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(server.serve(),), daemon=True)
    thread.start()

    def stop() -> None:
        loop.call_soon_threadsafe(server.stop)
        thread.join(10)

    return stop


SERVERS: dict[str, Callable[[int], Callable[[], object]]] = {
    "http.server": serve_http_server,
    "h11 on threads": serve_h11,
    "uvicorn h11": serve_uvicorn,
    "uvicorn httptools": serve_uvicorn_httptools,
    "aiohttp": serve_aiohttp,
    "cheroot": serve_cheroot,
    "waitress": serve_waitress,
    "hypercorn": serve_hypercorn,
    "granian": serve_granian,
}


def child(name: str, port: int) -> None:
    """Serve until a byte arrives on stdin; then say how long stopping took, and the peak memory in KiB."""
    stop = SERVERS[name](port)
    os.read(0, 1)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    start = time.perf_counter()
    stop()
    os.write(1, f"{time.perf_counter() - start} {peak}\n".encode())
    os._exit(0)


# -- the client --------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def first_answer(port: int) -> None:
    """Return as soon as `GET /` is answered."""
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            if b" 200 " in sock.recv(100):
                return
        time.sleep(0.001)


def upload(port: int, size: int, chunk: int = CHUNK) -> None:
    """PATCH `size` bytes of zeros in chunks of `chunk`, and check the digest that comes back."""
    expected = hashlib.sha256()
    block = bytes(chunk)
    framed = f"{chunk:x}\r\n".encode() + block + b"\r\n"
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"PATCH / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(size // chunk):
            sock.sendall(framed)
        sock.sendall(b"0\r\n\r\n")
        response = http.client.HTTPResponse(sock)
        response.begin()
        answer = response.read().decode()
    for _ in range(size // chunk):
        expected.update(block)
    assert answer == expected.hexdigest(), f"{answer!r}"


@contextlib.contextmanager
def serving(name: str) -> Iterator[tuple[int, float, list[float]]]:
    """Yield the port and the seconds to the first answer; [stop seconds, peak KiB] is filled in afterwards."""
    port, end = free_port(), list[float]()
    start = time.perf_counter()
    command = [sys.executable, __file__, "--child", name, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin and process.stdout
        try:
            first_answer(port)
            yield port, time.perf_counter() - start, end
            os.write(process.stdin.fileno(), b"x")
            if select.select([process.stdout], [], [], 15)[0]:
                end.extend(float(word) for word in process.stdout.readline().split())
        finally:
            process.kill()


def rate(port: int, size: int, count: int) -> float:
    """MB/s of `count` concurrent uploads of `size / count` bytes each; the client's own hashing is left out."""
    threads = [threading.Thread(target=upload, args=(port, size // count)) for _ in range(count)]
    own = time.perf_counter()
    hasher, block = hashlib.sha256(), bytes(CHUNK)
    for _ in range(size // count // CHUNK):
        hasher.update(block)
    own = time.perf_counter() - own
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return size / (time.perf_counter() - start - own) / 1e6


def measure(name: str, size: int, rounds: int) -> str:
    firsts, stops, figures = [], [], ""
    for _ in range(rounds):
        with serving(name) as (_port, first, end):
            firsts.append(first)
        stops.extend(end[:1])
    with serving(name) as (port, _first, end):
        single, several = rate(port, size, 1), rate(port, size, 4)
    peak = end[1] / 1024
    with serving(name) as (port, _first, end):
        upload(port, 256 << 20, 256 << 20)
    figures = f"{single:8.0f} {several:8.0f} {end[1] / 1024:8.0f} {peak:7.0f}"
    first, stop = statistics.median(firsts), statistics.median(stops)
    return f"{name:20} {first * 1e3:7.0f} {stop * 1e3:7.0f} {figures}  {DEPENDENCIES[name]}"


def reference(code: str, rounds: int) -> str:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - start)
    return f"{'(' + code + ')':20} {statistics.median(times) * 1e3:7.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, help="MiB to upload (default: 1024)")
    parser.add_argument("--rounds", type=int, default=9, help="fresh processes for the medians (default: 9)")
    parser.add_argument("--only", action="append", choices=SERVERS, help="measure this candidate alone")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], int(arguments.child[1]))
    print(f"{'':20} {'first':>7} {'stop':>7} {'1 up':>8} {'4 up':>8} {'1 chunk':>8} {'peak':>7}  deps")
    print(f"{'':20} {'ms':>7} {'ms':>7} {'MB/s':>8} {'MB/s':>8} {'MB':>8} {'MB':>7}")
    with tempfile.TemporaryDirectory() as spool:
        os.environ["BENCH_SPOOL"] = spool
        for name in arguments.only or SERVERS:
            try:
                print(measure(name, arguments.size << 20, arguments.rounds), flush=True)
            except Exception as error:  # noqa: BLE001  # a candidate that fails must not hide the others
                print(f"{name:20} failed: {error!r}", flush=True)
    for code in ("pass", "import asyncio"):
        print(reference(code, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
