"""layerferry beside `docker save | zstd | ssh docker load`, and a bare `ssh HOST docker version` as the floor.

One run, on real engines of tests/rig, side by side, medians of `--runs`:

    python tests/bench/delta.py [--runs 5] [--megabytes 730] [--json FILE]

For each pair of a source and a target: a 10 kB layer on a base that both sides pulled from a registry whose layers
are compressed by another gzip than docker's (delta); the same image once more (unchanged); and the whole image to a
target that has nothing of it (cold).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rig import Engine, Noise, Rig, Text, cannot_run
from rig.command import Layerferry, Run

SOURCES = ("docker20-overlay2", "docker28-overlay2", "docker28-containerd")
TARGETS = ("docker28-overlay2", "docker28-containerd")
MB = 1_000_000
SAVE_LOAD = (
    "set -o pipefail; docker save {name} | zstd -qc -T0 | tee >(wc -c >{count}) "
    "| ssh {target} 'zstd -qdc | docker load -q' >/dev/null"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One pair and one case: seconds are medians, ratios are those of pairs of runs, side by side."""

    case: str
    source: str
    target: str
    floor: float
    layerferry: float
    save_load: float
    of_floor: float
    faster: float
    sent: int
    save_load_sent: int
    received: int
    peak: int
    route: str


class Bench:
    def __init__(self, rig: Rig, runs: int, megabytes: int) -> None:
        self.rig = rig
        self.runs = runs
        self.layerferry = Layerferry(rig)
        self.number = 0
        sizes = [megabytes * MB // 10] * 10
        parts = [Noise(size, f"base {n}") if n % 2 else Text(size, f"base {n}") for n, size in enumerate(sizes)]
        layers = [rig.workshop.layer({f"usr/lib/part{number}": part}) for number, part in enumerate(parts)]
        self.base = rig.workshop.image(layers)
        self.name = rig.registry().push("base:1", self.base, compression="gzip-6")

    def engines(self) -> tuple[list[Engine], list[Engine]]:
        """All sources and targets, each with the base that it has pulled."""
        sources = [self.rig.engine(kind, name=f"source-{kind}") for kind in SOURCES]
        targets = [self.rig.engine(kind) for kind in TARGETS]
        for engine in (*sources, *targets):
            engine.docker("pull", "--quiet", self.name)
        return sources, targets

    def build(self, source: Engine) -> str:
        """A new image: the base, and a layer of 10 kB."""
        self.number += 1
        name = f"app:{self.number}"
        noise = b"".join(Noise(10_000, f"app {self.number}").chunks())
        source.build(name, f"FROM {self.name}\nCOPY change /srv/change\n", {"change": noise})
        return name

    def timed(self, script: str, source: Engine) -> float:
        began = time.monotonic()
        environment = self.rig.environment | self.layerferry.source_environment(source)
        subprocess.run(["bash", "-c", script], env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - began

    def push(self, source: Engine, target: Engine, name: str) -> Run:
        run = self.layerferry("push", name, target.ssh_alias, "--json", source=source)
        assert run.result["verified"], run.stdout
        return run

    def measure(
        self, case: str, source: Engine, target: Engine, prepare: Callable[[], str], *, compare: bool = True
    ) -> Row:
        floors, ours, theirs, runs, counts = [], [], [], [], []
        count = self.rig.state / "count"
        for _ in range(self.runs):
            floors.append(self.timed(f"ssh {target.ssh_alias} docker version", source))
            runs.append(self.push(source, target, prepare()))
            ours.append(runs[-1].seconds)
            if compare:
                name = prepare()
                script = SAVE_LOAD.format(name=name, target=target.ssh_alias, count=count)
                theirs.append(self.timed(script, source))
                time.sleep(0.1)
                counts.append(int(count.read_text()))
        last = runs[-1].result
        return Row(
            case,
            source.kind.name,
            target.kind.name,
            statistics.median(floors),
            statistics.median(ours),
            statistics.median(theirs) if theirs else 0.0,
            statistics.median(our / floor for our, floor in zip(ours, floors, strict=True)),
            statistics.median(their / our for their, our in zip(theirs, ours, strict=True)) if theirs else 0.0,
            max(run.result["bytes"]["sent"] for run in runs),
            max(counts, default=0),
            max(run.result["bytes"]["received"] for run in runs),
            max(run.peak for run in runs),
            last["route"]["name"],
        )

    def pair(self, source: Engine, target: Engine, cases: list[str]) -> list[Row]:
        rows = []
        self.reset(target)
        if "delta" in cases:
            rows.append(self.measure("delta", source, target, lambda: self.build(source)))
        if "unchanged" in cases:
            name = self.build(source)
            self.push(source, target, name)
            rows.append(self.measure("unchanged", source, target, lambda: name, compare=False))
        if "cold" in cases:

            def emptied() -> str:
                target.clear()
                return name

            name = self.build(source)
            rows.append(self.measure("cold", source, target, emptied))
        return rows

    def reset(self, target: Engine) -> None:
        """Leave the base alone: an engine's own list of its images takes the longer the more there are."""
        target.clear()
        target.docker("pull", "--quiet", self.name)


HEAD = (
    "case       source               target               floor  layerferry  xfloor  save|load   faster"
    "       sent  (save|load)   received  peak  route"
)


def show(row: Row) -> str:
    theirs = f"{row.save_load:8.2f} s {row.faster:7.1f}x" if row.save_load else f"{'':>10} {'':>8}"
    return (
        f"{row.case:<10} {row.source:<20} {row.target:<20} {row.floor:4.2f} s {row.layerferry:9.2f} s "
        f"{row.of_floor:6.1f}x {theirs} {row.sent:>10,} {row.save_load_sent:>12,} {row.received:>10,} "
        f"{row.peak / MB:4.0f}M {row.route}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=730)
    parser.add_argument("--cases", default="delta,unchanged,cold")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if reason := cannot_run():
        sys.exit(reason)
    rows = []
    with Rig() as rig:
        bench = Bench(rig, options.runs, options.megabytes)
        sources, targets = bench.engines()
        print(f"{os.cpu_count()} cores, medians of {options.runs}, image of {options.megabytes} MB\n{HEAD}", flush=True)
        for source in sources:
            for target in targets:
                for row in bench.pair(source, target, options.cases.split(",")):
                    rows.append(row)
                    print(show(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
