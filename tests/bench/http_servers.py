"""Which HTTP server library carries the embedded registry? One table, measured in one run.

    python tests/bench/http_servers.py [--size MIB] [--rounds N] [--only NAME]...

Every candidate runs the same tiny service in a background thread of a fresh process: `GET /` answers at once, `PATCH /`
hashes the request body and spools it to disk, as the registry does with a blob, and `PATCH /no` answers 403 as soon as
1 MB of the body has come. The client sends chunked bodies in 32 KiB chunks over raw sockets, as dockerd does. Times are
the least of --rounds fresh processes, rates the best of 3: what else the machine does says nothing about a library.

first    ms from the start of `python` to the first answer; a bare `python -c pass` and `import asyncio` stand below
+import  ms that importing it takes where the docker SDK is imported already, as it is in layerferry
stop     ms that stopping the server takes
1 up     MB/s of one upload of --size
4 up     MB/s of four concurrent uploads of a quarter of --size each
peak     peak memory of the serving process in MB, after these uploads
1 chunk  the same after an upload of 256 MB in *one* HTTP chunk, or 15 s into it: what a hostile client can make us hold
no seen  how many of 40 clients that send 64 MB to `/no` hear the 403 before they hear of a broken connection, which
         makes dockerd try again, for up to a minute
deps     packages that the library brings along, beside what layerferry needs anyway

Needs the candidates: pip install uvicorn httptools h11 aiohttp cheroot waitress hypercorn granian.
"""

import argparse
import contextlib
import functools
import hashlib
import http.client
import math
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

CHUNK = 32 * 1024
ENOUGH = 1_000_000
PATIENCE = 15.0
MODULES = {
    "http.server": "http.server",
    "h11 on threads": "h11",
    "uvicorn h11": "uvicorn, uvicorn.protocols.http.h11_impl",
    "uvicorn httptools": "uvicorn, uvicorn.protocols.http.httptools_impl",
    "aiohttp": "aiohttp.web",
    "cheroot": "cheroot.wsgi",
    "waitress": "waitress.server",
    "hypercorn": "hypercorn.asyncio",
    "granian": "granian.server.embed",
}
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

    def __init__(self, path: str) -> None:
        self.file = tempfile.TemporaryFile(dir=os.environ["BENCH_SPOOL"], buffering=0)  # noqa: SIM115
        self.hash = hashlib.sha256()
        self.room = ENOUGH if path == "/no" else 1 << 62

    def write(self, data: bytes | bytearray) -> bool:
        """Whether more is wanted."""
        self.hash.update(data)
        self.file.write(data)
        self.room -= len(data)
        return self.room > 0

    @property
    def status(self) -> int:
        return 200 if self.room > 0 else 403

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
    body, status = b"", 200
    if scope["method"] == "PATCH":
        spool, more = Spool(scope["path"]), True
        while more:
            message = await receive()
            more = spool.write(message.get("body", b"")) and message.get("more_body", False)
        body, status = spool.digest(), spool.status
    headers = [(b"content-length", str(len(body)).encode())]
    if status != 200:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    body, status = b"", 200
    if environ["REQUEST_METHOD"] == "PATCH":
        spool = Spool(environ["PATH_INFO"])
        while (data := environ["wsgi.input"].read(CHUNK * 2)) and spool.write(data):
            pass
        body, status = spool.digest(), spool.status
    start_response(f"{status} so", [("Content-Length", str(len(body)))])
    return [body]


def serve_http_server(port: int) -> Callable[[], object]:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # noqa: PLC0415  # its import is measured

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, body: bytes, status: int = 200) -> None:
            self.close_connection = status != 200
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer(b"")

        def do_PATCH(self) -> None:  # the standard library leaves chunked bodies to us
            spool = Spool(self.path)
            while size := int(self.rfile.readline().split(b";")[0], 16):
                if not spool.write(self.rfile.read(size)):
                    break
                self.rfile.readline()
            self.rfile.readline()
            self.answer(spool.digest(), spool.status)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server.shutdown


def talk_h11(sock: socket.socket) -> None:
    h11 = import_module("h11")

    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = h11.Connection(h11.SERVER)

    def receive() -> Any:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(sock.recv(128 * 1024))
        return event

    while isinstance(request := receive(), h11.Request):
        spool = Spool(request.target.decode())
        while isinstance(event := receive(), h11.Data) and spool.write(event.data):
            pass
        body = spool.digest() if request.method == b"PATCH" else b""
        response = h11.Response(status_code=spool.status, headers=[("Content-Length", str(len(body)))])
        events = (response, h11.Data(data=body), h11.EndOfMessage())
        sock.sendall(b"".join(connection.send(event) or b"" for event in events))
        if spool.status != 200:  # what layerferry.embedded_registry.http_server does, and no server lets us do
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(128 * 1024):
                pass
            return
        connection.start_next_cycle()


def serve_h11(port: int) -> Callable[[], object]:
    def talk(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            talk_h11(sock)

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
    uvicorn = import_module("uvicorn")

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
    import asyncio  # noqa: PLC0415  # its import is measured

    web = import_module("aiohttp.web")

    async def answer(request: Any) -> Any:
        if request.method != "PATCH":
            return web.Response()
        spool = Spool(request.path)
        async for data in request.content.iter_any():
            if not spool.write(data):
                break
        return web.Response(body=spool.digest(), status=spool.status)

    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
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
    server: Any = import_module("cheroot.wsgi").Server(("127.0.0.1", port), wsgi, numthreads=4)
    server.prepare()
    threading.Thread(target=server.serve, daemon=True).start()
    stop: Callable[[], object] = server.stop
    return stop


def serve_waitress(port: int) -> Callable[[], object]:
    server = import_module("waitress.server").create_server(
        wsgi, host="127.0.0.1", port=port, max_request_body_size=1 << 40
    )
    threading.Thread(target=server.run, daemon=True).start()
    close: Callable[[], object] = server.close
    return close


def serve_hypercorn(port: int) -> Callable[[], object]:
    import asyncio  # noqa: PLC0415  # its import is measured

    config = import_module("hypercorn.config").Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = None
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()
    main = import_module("hypercorn.asyncio").serve(asgi, config, shutdown_trigger=ending.wait)
    thread = threading.Thread(target=loop.run_until_complete, args=(main,), daemon=True)
    thread.start()

    def stop() -> None:
        loop.call_soon_threadsafe(ending.set)
        thread.join()

    return stop


def serve_granian(port: int) -> Callable[[], object]:
    import asyncio  # noqa: PLC0415  # its import is measured

    interface = import_module("granian.constants").Interfaces.ASGINL
    server = import_module("granian.server.embed").Server(
        asgi, address="127.0.0.1", port=port, interface=interface, log_enabled=False
    )
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
    """Serve until a byte arrives on stdin; then print the peak memory in KiB, and the seconds that stopping took."""
    stop = SERVERS[name](port)
    os.read(0, 1)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    os.write(1, f"{peak}\n".encode())
    start = time.perf_counter()
    stop()
    os.write(1, f"{time.perf_counter() - start}\n".encode())
    os._exit(0)


# -- the client --------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def first_answer(port: int) -> None:
    """Return as soon as `GET /` is answered."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            if b" 200 " in sock.recv(100):
                return
        time.sleep(0.001)
    raise TimeoutError("no answer")


@functools.cache
def zeros(size: int) -> str:
    """The sha256 of `size` zeros, in hex."""
    hasher, block = hashlib.sha256(), bytes(CHUNK)
    for _ in range(size // CHUNK):
        hasher.update(block)
    return hasher.hexdigest()


def upload(port: int, size: int, chunk: int = CHUNK) -> None:
    """PATCH `size` zeros in HTTP chunks of `chunk` bytes, and check the digest that comes back."""
    framed = f"{chunk:x}\r\n".encode() + bytes(chunk) + b"\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(b"PATCH / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(size // chunk):
            sock.sendall(framed)
        sock.sendall(b"0\r\n\r\n")
        response = http.client.HTTPResponse(sock)
        response.begin()
        answer = response.read().decode()
    assert answer == zeros(size), f"{answer!r}"


def sees_the_no(port: int) -> bool:
    """Send 64 MB to `/no`, and read at the same time; whether the 403 is read before writing fails.

    That is how Go's client decides: where writing fails first, the request has failed, and no answer is waited for.
    """
    seen: list[bytes] = []
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(PATIENCE)
        sock.sendall(b"PATCH /no HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n")

        def read() -> None:
            with contextlib.suppress(OSError):
                seen.append(sock.recv(1000))

        reader = threading.Thread(target=read)
        reader.start()
        framed = f"{CHUNK:x}\r\n".encode() + bytes(CHUNK) + b"\r\n"
        failed = False
        for _ in range((64 << 20) // CHUNK):
            if seen or failed:
                break
            try:
                sock.sendall(framed)
            except OSError:
                failed = not seen
        reader.join()
    if not seen and not failed:
        raise TimeoutError("this server reads all of a body before it answers")
    return not failed and any(b" 403 " in answer for answer in seen)


@dataclass
class Serving:
    """A server that runs: its port, and the seconds to its first answer. The rest is known when it has stopped."""

    port: int
    first: float
    peak: float = math.nan
    stop: float = math.nan


@contextlib.contextmanager
def serving(name: str) -> Iterator[Serving]:
    port = free_port()
    start = time.perf_counter()
    command = [sys.executable, __file__, "--child", name, str(port)]
    with subprocess.Popen(
        command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            first_answer(port)
            server = Serving(port, time.perf_counter() - start)
            yield server
            process.stdin.write(b"x")
            if select.select([process.stdout], [], [], PATIENCE)[0]:
                server.peak = float(process.stdout.readline()) * 1024
            if select.select([process.stdout], [], [], PATIENCE)[0]:
                server.stop = float(process.stdout.readline())
        finally:
            process.kill()


def rate(port: int, size: int, count: int) -> float:
    """MB/s of `count` concurrent uploads of `size / count` bytes each."""
    zeros(size // count)
    start = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda _: upload(port, size // count), range(count)))
    return size / (time.perf_counter() - start) / 1e6


@dataclass
class Figures:
    """What was measured of one candidate, in the table's order; times in s, sizes in bytes, rates in MB/s."""

    first: list[float] = field(default_factory=list)
    imported: list[float] = field(default_factory=list)
    stop: list[float] = field(default_factory=list)
    single: list[float] = field(default_factory=list)
    several: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)
    hostile: float = math.nan
    seen: int = 0

    def __str__(self) -> str:
        times = (min(self.first) * 1e3, min(self.imported) * 1e3, min(self.stop) * 1e3)
        sizes = (max(self.peak) / 1e6, self.hostile / 1e6)
        figures = (*times, max(self.single), max(self.several), *sizes, self.seen)
        return "".join(f"{figure:9.0f}" for figure in figures)


def measure_start(name: str, figures: Figures) -> None:
    with serving(name) as server:
        figures.first.append(server.first)
    figures.stop.append(server.stop)
    code = f"import docker, time; t = time.perf_counter(); import {MODULES[name]}; print(time.perf_counter() - t)"
    figures.imported.append(float(subprocess.check_output([sys.executable, "-c", code])))


def measure_rates(name: str, figures: Figures, size: int) -> None:
    with serving(name) as server:
        figures.single.append(rate(server.port, size, 1))
        figures.several.append(rate(server.port, size, 4))
    figures.peak.append(server.peak)


def measure_hostility(name: str, figures: Figures) -> None:
    with serving(name) as server, contextlib.suppress(OSError):
        upload(server.port, 256 << 20, 256 << 20)
    figures.hostile = server.peak
    with serving(name) as server, contextlib.suppress(TimeoutError):
        for _ in range(40):
            figures.seen += sees_the_no(server.port)


def measure(names: Collection[str], size: int, rounds: int) -> dict[str, Figures]:
    """Measure in turn, round by round, so that what else the machine does falls upon all of them."""
    table = {name: Figures() for name in names}
    for _ in range(rounds):
        for name, figures in table.items():
            measure_start(name, figures)
    for _ in range(3):
        for name, figures in table.items():
            measure_rates(name, figures, size)
    for name, figures in table.items():
        measure_hostility(name, figures)
    return table


def reference(code: str, rounds: int) -> str:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - start)
    return f"{'(' + code + ')':20}{min(times) * 1e3:9.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, help="MiB to upload (default: 1024)")
    parser.add_argument("--rounds", type=int, default=15, help="fresh processes for the times (default: 15)")
    parser.add_argument("--only", action="append", choices=SERVERS, help="measure this candidate alone")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], int(arguments.child[1]))
    columns = {
        "first": "ms",
        "+import": "ms",
        "stop": "ms",
        "1 up": "MB/s",
        "4 up": "MB/s",
        "peak": "MB",
        "1 chunk": "MB",
        "no seen": "of 40",
    }
    print(" " * 20 + "".join(f"{column:>9}" for column in columns) + "  deps")
    print(" " * 20 + "".join(f"{unit:>9}" for unit in columns.values()))
    with tempfile.TemporaryDirectory() as spool:
        os.environ["BENCH_SPOOL"] = spool
        for name, figures in measure(arguments.only or SERVERS, arguments.size << 20, arguments.rounds).items():
            print(f"{name:20}{figures}  {DEPENDENCIES[name]}", flush=True)
    for code in ("pass", "import asyncio"):
        print(reference(code, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
