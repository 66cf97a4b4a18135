"""Links to targets: rate-limited, and with a round trip that a relay adds; and what they are seen to carry."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rig import Engine, Machine
from rig.delay import Delay


@dataclass(frozen=True, slots=True)
class Link:
    """`rate` and `burst` in the words of `tc`, `bits` a second, `trip` in seconds, there and back."""

    name: str
    rate: str | None = None
    burst: str = "128kb"
    bits: float = 0.0
    trip: float = 0.0


LINKS = {
    link.name: link
    for link in (
        Link("unshaped"),
        Link("1 gbit", "1gbit", "128kb", 1e9),
        Link("100 mbit", "100mbit", "32kb", 1e8),
        Link("10 mbit, 40 ms", "10mbit", "8kb", 1e7, 0.040),
        Link("2 mbit, 150 ms", "2mbit", "8kb", 2e6, 0.150),
    )
}

#: In a target's network: returns each byte at once, or, after a `d`, tells the bytes a second of what follows the first
#: so many, which go as a burst.
_SINK = """if True:
    import socket, sys, time
    listener = socket.create_server((sys.argv[1], 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        line, _ = listener.accept()
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        got = began = counted = 0
        while data := line.recv(1 << 18):
            if data == b"p" and not got:
                line.sendall(data)
                continue
            got += len(data)
            now = time.monotonic()
            if not began and got > int(sys.argv[2]):
                began, counted = now, got
        if got:
            line.sendall(b"%d" % ((got - counted) / max(now - began, 1e-6)))
        line.close()
"""
_BURST = 200_000
#: Bytes that are sent over a link without a limit.
_UNSHAPED = 200_000_000


def alias(target: Engine, names: Iterable[str]) -> None:
    """Let ssh know a target by further names: a push takes each name once."""
    assert target.sshd
    known = target.client.config.read_text()
    for name in names:
        if f"Host {name}\n" not in known:
            target.client.add_host(name, target.machine.address, target.sshd.port)


@contextlib.contextmanager
def joined(targets: Sequence[Engine], link: Link) -> Iterator[dict[str, str]]:
    """The link to each target, not yet limited; by target the alias that leads there."""
    with contextlib.ExitStack() as stack:
        aliases = {}
        for target in targets:
            assert target.sshd
            port = target.sshd.port
            if link.trip:
                port = stack.enter_context(Delay(target.machine, port, link.trip / 2)).port
            aliases[target.name] = f"{target.name}-{port}"
            target.client.add_host(aliases[target.name], target.machine.address, port)
        yield aliases


@contextlib.contextmanager
def limited(targets: Sequence[Engine], link: Link) -> Iterator[None]:
    """While it lasts, both directions have the link's rate."""
    networks = [target.machine.network for target in targets]
    try:
        for network in networks:
            assert network
            if link.rate:
                network.shape(link.rate, burst=link.burst)
        yield
    finally:
        for network in networks:
            assert network
            if link.rate:
                network.shape(None)


def seen(target: Engine, link: Link) -> dict[str, Any]:
    """What the link carries in this run, by a plain connection through the same limit and the same relay."""
    with limited([target], link), _sink(target.machine) as sink, contextlib.ExitStack() as stack:
        port = stack.enter_context(Delay(target.machine, sink, link.trip / 2)).port if link.trip else sink
        there = (target.machine.address, port)
        trip = _trip(there)
        rate = _rate(there, int(link.bits / 8 * 3) + _BURST if link.rate else _UNSHAPED)
    return {
        "name": link.name,
        "target": target.kind.name,
        "rate": link.rate,
        "trip": link.trip,
        "seen_mbit": rate * 8 / 1e6,
        "seen_trip": trip,
    }


@contextlib.contextmanager
def _sink(machine: Machine) -> Iterator[int]:
    inside = ["nsenter", "--target", str(machine.init.pid), "--net", "--"]
    command = [*inside, sys.executable, "-c", _SINK, machine.address, str(_BURST)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _trip(there: tuple[str, int]) -> float:
    """The least of five round trips."""
    with socket.create_connection(there) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trips = []
        for _ in range(5):
            began = time.monotonic()
            line.sendall(b"p")
            line.recv(1)
            trips.append(time.monotonic() - began)
    return min(trips)


def _rate(there: tuple[str, int], size: int) -> float:
    """Bytes a second of payload."""
    data = bytes(1 << 18)
    with socket.create_connection(there) as line:
        line.sendall(b"d" + data[1:])
        for _ in range(size // len(data)):
            line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        return float(line.recv(64))
