"""A rebuilt layer of `pip install`, pushed as a patch and whole over a slow line: seconds and bytes.

    python tests/bench/patches.py [--rate 10mbit] [--runs 1]

Two lists of packages, of which two versions differ, are installed each into a folder of its own, as two builds do:
every file has another time, and so has every `.pyc`. The target, the docker of this machine behind a network of that
rate, has the first image; the second is pushed. Bytes are those of the network's interface, ssh and TCP included. It
needs a package index that pip reaches.
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rig import Rig, cannot_run
from rig.command import Layerferry
from rig.images import Layer

PACKAGES = ("django==5.0.6", "pandas==2.2.2", "numpy==1.26.4", "sqlalchemy==2.0.30", "celery==5.4.0")
OLD = ("requests==2.31.0", "boto3==1.34.100")
NEW = ("requests==2.32.3", "boto3==1.34.110")
NAME = "docker.io/library/app:1"
MB = 1_000_000


def installed(rig: Rig, packages: tuple[str, ...]) -> Layer:
    """The layer of a build step `pip install`."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "site-packages")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), *packages]
        subprocess.run(pip, check=True)
        path = Path(scratch, "layer.tar")
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
            tar.add(folder, "opt/site-packages")
        return rig.workshop.raw_layer(path.read_bytes())


@dataclass(frozen=True, slots=True)
class Row:
    """One push: the layers' actions, seconds, and the bytes to and from the target."""

    actions: str
    seconds: float
    sent: int
    heard: int


class Bench:
    def __init__(self, rig: Rig, rate: str) -> None:
        self.layerferry = Layerferry(rig)
        self.target = rig.engine("this-machine", name="slow", rate=rate)
        shop = rig.workshop
        base = shop.layer({"etc/base": b"base"})
        old, self.new = installed(rig, PACKAGES + OLD), installed(rig, PACKAGES + NEW)
        self.before, self.after = (shop.archive({NAME: shop.image([base, layer])}) for layer in (old, self.new))

    def push(self, *words: str) -> Row:
        """A push of the second image to a target that has the first."""
        self.target.clear()
        self.target.load(self.before)
        before = self.passed()
        run = self.layerferry("push", f"archive:{self.after}", self.target.ssh_alias, "--json", *words)
        assert run.result["verified"], run.stdout
        sent, heard = (now - then for now, then in zip(self.passed(), before, strict=True))
        return Row(",".join(step["action"] for step in run.result["layers"]), run.seconds, sent, heard)

    def passed(self) -> tuple[int, int]:
        """Bytes to and from the target since it started."""
        network = self.target.machine.network
        assert network
        counters = Path("/sys/class/net", network.device, "statistics")
        return int((counters / "tx_bytes").read_text()), int((counters / "rx_bytes").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", default="10mbit")
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    if reason := cannot_run():
        sys.exit(reason)
    with Rig() as rig:
        bench = Bench(rig, options.rate)
        began = time.monotonic()
        bench.target.clear()
        bench.target.load(bench.after)
        print(f"layer {bench.new.size / MB:.1f} MB, loaded here in {time.monotonic() - began:.1f} s", flush=True)
        print("case   actions            seconds         sent      heard", flush=True)
        for case, words in (("whole", ("--whole-layers",)), ("patch", ())):
            rows = [bench.push(*words) for _ in range(options.runs)]
            row = sorted(rows, key=lambda row: row.seconds)[len(rows) // 2]
            moved = f"{row.sent / MB:>9.2f} MB {row.heard / MB:>7.2f} MB"
            print(f"{case:<6} {row.actions:<16} {row.seconds:>7.1f} s {moved}", flush=True)


if __name__ == "__main__":
    main()
