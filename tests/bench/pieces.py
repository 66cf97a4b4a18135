"""Rebuilt layers of `pip install` and `npm install`, pushed as patches and whole: seconds, bytes, CPU and memory.

    python tests/bench/pieces.py [--quick] [--layer pip]... [--line 10mbit]... [--case patch]...

Each layer is installed twice into a folder of its own, as two builds do, from lists of versions of which a few differ:
every file has another time, and so has every `.pyc`. They are kept in build/bench, and need registries that pip and npm
reach. The target, the docker of this machine behind a network of that rate and delay, has the first; the second is
pushed. `load` is its archive's load from a file, with the first there: what the engine itself takes. Bytes are those of
the network's interface, ssh and TCP included; CPU is that of all of the target's processes, engine and sshd too; memory
that of layerferry and of the target's python3.
"""

import argparse
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rig import Rig, cannot_run
from rig.command import Layerferry
from rig.delay import Delay

KEPT = Path(__file__).parents[2] / "build/bench"
NAME = "docker.io/library/app:1"
MB = 1_000_000
_PIP = ("django==5.0.6", "pandas==2.2.2", "numpy==1.26.4", "sqlalchemy==2.0.30", "celery==5.4.0")
_NPM = ("react@18.3.1", "typescript@5.4.5", "aws-sdk@2.1691.0")
#: By layer: who installs, the old versions and the new.
LAYERS = {
    "pip": (
        "pip",
        (*_PIP, "requests==2.32.2", "boto3==1.34.109"),
        (*_PIP, "requests==2.32.3", "boto3==1.34.110"),
    ),
    "lodash": ("npm", (*_NPM, "next@14.2.3", "lodash@4.17.20"), (*_NPM, "next@14.2.3", "lodash@4.17.21")),
    "next": ("npm", (*_NPM, "next@14.2.3", "lodash@4.17.21"), (*_NPM, "next@14.2.4", "lodash@4.17.21")),
}
#: By line: the rate each way, and seconds of delay each way.
LINES: dict[str, tuple[str | None, float]] = {
    "free": (None, 0),
    "100mbit": ("100mbit", 0),
    "10mbit": ("10mbit", 0.02),
    "2mbit": ("2mbit", 0.075),
}


def install(who: str, packages: tuple[str, ...], folder: Path) -> None:
    """Install packages below a folder, as a build step does."""
    if who == "pip":
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), *packages]
    else:
        folder.mkdir(parents=True)
        command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent", *packages]
    subprocess.run(command, check=True)


def tar_of(name: str, number: int) -> Path:
    """The tar of the layer's old (0) or new (1) version; made where it is not there."""
    who, *versions = LAYERS[name]
    path = KEPT / f"{name}-{number}.tar"
    if not path.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "packages")
            install(who, versions[number], folder)
            with tarfile.open(path.with_suffix(".part"), "w", format=tarfile.GNU_FORMAT) as tar:
                tar.add(folder, "opt/packages")
        path.with_suffix(".part").rename(path)
    return path


@dataclass(frozen=True, slots=True)
class Row:
    """One push: what became of the layers, seconds, bytes to and from the target, and what it took."""

    actions: str
    seconds: float
    sent: int
    heard: int
    cpu: float
    here: int
    there: int

    def __str__(self) -> str:
        sizes = f"{self.sent / MB:>8.2f} {self.heard / MB:>7.2f}"
        memory = f"{self.here / MB:>6.0f} {self.there / MB:>6.0f}"
        return f"{self.seconds:>8.1f} {sizes} {self.cpu:>7.1f} {memory}  {self.actions}"


class Bench:
    """A target behind a line, and a layer of which it has the old version."""

    def __init__(self, rig: Rig, line: str) -> None:
        self.rate, self.delay = LINES[line]
        self.rig = rig
        self.layerferry = Layerferry(rig)
        self.target = rig.engine("this-machine", name=f"pieces-{line}", isolated=True)
        self.machine = self.target.machine
        assert self.machine.network
        self.network = self.machine.network
        self.base = rig.workshop.layer({"etc/base": b"base"})

    def archives(self, name: str) -> tuple[Path, Path]:
        made = []
        for number in (0, 1):
            layer = self.rig.workshop.raw_layer(tar_of(name, number).read_bytes())
            made.append(self.rig.workshop.archive({NAME: self.rig.workshop.image([self.base, layer])}))
        return made[0], made[1]

    def load_alone(self, old: Path, new: Path) -> float:
        """Seconds that the engine takes to load the new version from a file."""
        self.prepare(old)
        began = time.monotonic()
        self.target.load(new)
        return time.monotonic() - began

    def prepare(self, old: Path) -> None:
        self.target.clear()
        self.target.load(old)
        os.sync()

    def push(self, old: Path, new: Path, *words: str) -> Row:
        self.prepare(old)
        self.network.shape(self.rate)
        cpu, before = self.cpu(), self.passed()
        with self.alias() as alias, self.watched() as peak:
            run = self.layerferry("push", f"archive:{new}", alias, "--json", *words, timeout=3000)
        sent, heard = (now - then for now, then in zip(self.passed(), before, strict=True))
        cpu = self.cpu() - cpu
        self.network.shape(None)
        assert run.result["verified"], run.stdout
        actions = ",".join(step["action"] for step in run.result["layers"])
        return Row(actions, run.seconds, sent, heard, cpu, run.peak, max(peak, default=0))

    @contextmanager
    def alias(self) -> Iterator[str]:
        """What leads to the target, with the delay of the line."""
        sshd = self.target.sshd
        assert sshd
        if not self.delay:
            yield sshd.alias
            return
        with Delay(self.machine.address, sshd.port, self.delay) as relay:
            alias = f"{sshd.alias}-{relay.port}"
            self.target.client.add_host(alias, "127.0.0.1", relay.port)
            yield alias

    @contextmanager
    def watched(self) -> Iterator[list[int]]:
        """The peaks of memory of the target's python3, in bytes, seen each 0.1 s."""
        peaks: list[int] = []
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.1):
                for pid, line in self.machine.processes().items():
                    if "python3 -I -c" in line:
                        peaks.append(_peak(pid))

        watch = threading.Thread(target=look)
        watch.start()
        try:
            yield peaks
        finally:
            over.set()
            watch.join()

    def passed(self) -> tuple[int, int]:
        """Bytes to and from the target since it started."""
        counters = Path("/sys/class/net", self.network.device, "statistics")
        return int((counters / "tx_bytes").read_text()), int((counters / "rx_bytes").read_text())

    def cpu(self) -> float:
        """Seconds of CPU of the target's processes, and of those that they have waited for."""
        ticks = 0
        for pid in self.machine.processes():
            try:
                ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
            except OSError:
                continue
        return ticks / os.sysconf("SC_CLK_TCK")


def _peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the pip layer on 10mbit alone")
    parser.add_argument("--layer", action="append", choices=LAYERS)
    parser.add_argument("--line", action="append", choices=LINES)
    parser.add_argument("--case", action="append", choices=("whole", "patch"))
    parser.add_argument("--make", action="store_true", help="make the layers, and no more")
    options = parser.parse_args()
    layers = ["pip"] if options.quick else options.layer or list(LAYERS)
    lines = ["10mbit"] if options.quick else options.line or list(LINES)
    if options.make:
        print(*(tar_of(name, number) for name in layers for number in (0, 1)), sep="\n")
        return
    if reason := cannot_run():
        sys.exit(reason)
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {platform.release()}, load {os.getloadavg()[0]:.1f}")
    print("layer   line     case   seconds  sent MB   heard     cpu   here  there  layers", flush=True)
    with Rig() as rig:
        for line in lines:
            bench = Bench(rig, line)
            for name in layers:
                old, new = bench.archives(name)
                print(f"{name:<7} {line:<8} {'load':<5} {bench.load_alone(old, new):>8.1f}", flush=True)
                for case in options.case or ("whole", "patch"):
                    row = bench.push(old, new, *(("--whole-layers",) if case == "whole" else ()))
                    print(f"{name:<7} {line:<8} {case:<5} {row}", flush=True)


if __name__ == "__main__":
    main()
