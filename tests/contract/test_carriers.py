"""What ssh holds behind a ProxyCommand, told by the system's own counts: of processes, a pipe and a socket."""

import select
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from layerferry.targets.backlog import Backlog

#: What goes from the one process to the next one without the counts of proc(5), and with them.
WAYS = {"send": "line.sendall(data)", "write": "data and os.write(line.fileno(), data)"}
#: Plays a ProxyCommand: it hands on what it reads, at most 64 KiB at a time.
PROXY = """
import os, socket, sys
line = socket.create_connection(("127.0.0.1", {port}))
line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
while data := os.read(0, 65536):
    {way}
"""
#: Plays ssh: it starts the proxy, and writes into it.
SSH = """
import os, subprocess, sys
proxy = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE)
os.write(1, b"up")
while data := os.read(0, 65536):
    proxy.stdin.write(data)
proxy.stdin.close()
proxy.wait()
"""
TOTAL = 6 << 20
#: Bytes that the pipes, the sockets and the processes hold, and nobody counts, at most.
UNSEEN = 1 << 20


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        server.settimeout(60)
        yield server


@pytest.mark.parametrize("way", WAYS)
def test_what_has_gone_is_told_whatever_a_proxy_writes_with(listening: socket.socket, way: str) -> None:
    proxy = PROXY.format(port=listening.getsockname()[1], way=WAYS[way])
    with subprocess.Popen([sys.executable, "-c", SSH, proxy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.read(2) == b"up"
        far, _ = listening.accept()
        with far:
            worst = carry(Backlog(process.stdin, process.pid), process, far)
    assert worst <= UNSEEN


def carry(backlog: Backlog, process: "subprocess.Popen[bytes]", far: socket.socket) -> int:
    """Send all, while the far side takes it piece by piece; by how much what was told has been off at most."""
    assert process.stdin is not None
    backlog.measure(0)
    descriptor, sent, come, worst = process.stdin, 0, 0, 0
    while come < TOTAL:
        while sent < TOTAL and select.select([], [descriptor], [], 0)[1]:
            sent += descriptor.raw.write(bytes(min(4096, TOTAL - sent)))  # type: ignore[attr-defined]
        if sent == TOTAL and not descriptor.closed:
            descriptor.close()
        come += len(far.recv(1 << 17))
        held = backlog.held(sent)
        assert 0 <= held <= sent
        worst = max(worst, abs(sent - held - come))
    return worst
