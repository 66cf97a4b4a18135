"""A network of a machine's own: a veth pair with a rate on both ends. It goes away with the machine."""

import subprocess
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Network:
    """`here` and `there` are the two ends' addresses; `pid` is a process on the far end."""

    pid: int
    here: str
    there: str

    @property
    def device(self) -> str:
        return f"lf{self.pid}"

    def shape(self, rate: str | None, *, burst: str = "128kb") -> None:
        """Limit each direction to `rate`, such as `10mbit`; None takes the limit away.

        What is sent after a pause goes unlimited up to `burst`, in tc's units: its `kb` are 1024 bytes.
        """
        for device, inside in ((self.device, []), ("eth0", ["nsenter", "--target", str(self.pid), "--net"])):
            subprocess.run(
                [*inside, "tc", "qdisc", "del", "dev", device, "root"], stderr=subprocess.DEVNULL, check=False
            )
            if rate:
                tbf = ["root", "tbf", "rate", rate, "burst", burst, "latency", "400ms"]
                subprocess.run([*inside, "tc", "qdisc", "add", "dev", device, *tbf], check=True)


def connect(pid: int, rate: str | None = None) -> Network:
    """Join the network namespace of `pid` to this one, at addresses that no other living process has been given."""
    block = pid % 2**14 * 4
    here, there = (f"10.213.{(block + end) // 256}.{(block + end) % 256}" for end in (1, 2))
    network = Network(pid, here, there)
    inside = ["nsenter", "--target", str(pid), "--net", "ip"]
    for command in (
        ["ip", "link", "add", network.device, "type", "veth", "peer", "name", "eth0", "netns", str(pid)],
        ["ip", "address", "add", f"{here}/30", "dev", network.device],
        ["ip", "link", "set", network.device, "up"],
        [*inside, "address", "add", f"{there}/30", "dev", "eth0"],
        [*inside, "link", "set", "eth0", "up"],
        [*inside, "link", "set", "lo", "up"],
    ):
        subprocess.run(command, check=True)
    if rate:
        network.shape(rate)
    return network
