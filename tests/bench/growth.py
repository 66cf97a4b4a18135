"""How the cost of a push grows: with images on the target, layers, size, and targets; memory beside it."""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bench.links import alias
from bench.meter import Measured
from bench.results import Point, Results, duration
from bench.verify import failure
from bench.ways import Bare, Ours, SaveZstd, Way
from bench.workloads import Yard
from rig import Engine, Rig, RigError

#: By how far it goes: the counts of images, layers, MB, and hosts. docker's graph drivers take 125 layers at most, and
#: the containerd store more; so do the 127 of an image that comes out of a file.
STEPS: dict[str, dict[str, tuple[int, ...]]] = {
    "small": {"images": (10, 200), "layers": (1, 40), "megabytes": (20, 80), "hosts": (1, 8)},
    "some": {
        "images": (10, 100, 500, 1000, 2000),
        "layers": (1, 10, 40, 80, 125),
        "megabytes": (100, 300, 1000, 2000),
        "hosts": (1, 5, 10, 20),
    },
    "all": {
        "images": (10, 100, 500, 1000, 2000, 5000),
        "layers": (1, 10, 40, 80, 125, 127),
        "megabytes": (100, 300, 1000, 2000, 4000, 8000),
        "hosts": (1, 5, 10, 20, 35, 50),
    },
}
TITLES = {
    "images": "images on the target",
    "layers": "layers of the image",
    "megabytes": "MB of the image",
    "hosts": "targets",
}
CODE, COLD, BARE = "10 kB of code", "cold", "a bare session"


class Run(Protocol):
    """Of the benchmark, what this uses."""

    rig: Rig
    yard: Yard
    options: argparse.Namespace
    results: Results
    file: Path

    def measured(self, script: str, targets: Sequence[Engine]) -> Measured: ...


class Growth:
    """Pushes to one target over a link without a limit."""

    def __init__(self, run: Run, target: Engine) -> None:
        self.run = run
        self.rig, self.yard, self.options, self.results = run.rig, run.yard, run.options, run.results
        self.target = target
        self.ours, self.save, self.bare = (kind(run.rig, run.yard.source) for kind in (Ours, SaveZstd, Bare))
        self.results.ways.update({way.key: way.label for way in (self.ours, self.save, self.bare)})

    def push(self, growth: str, what: str, count: int, way: Way, *, names: Sequence[str]) -> None:
        """Measure; `names` are one for each run."""
        aliases = [self.target.ssh_alias]
        if growth == "hosts":
            aliases = [f"growth-{number}" for number in range(count)]
            alias(self.target, aliases)
        took, wrong = [], ""
        for name in names:
            took.append(self.run.measured(way.script([name], aliases), [self.target]))
            if took[-1].code:
                wrong = wrong or f"exit code {took[-1].code}: {took[-1].stderr.strip()[-300:]}"
            elif way is not self.bare:
                wrong = wrong or failure(self.yard.source, self.target, [name])
        medians = {name: statistics.median(getattr(one, name) for one in took) for name in ("seconds", "sent")}
        memory = {name: max(getattr(one, name) for one in took) for name in ("memory", "memory_target")}
        self.keep(Point(growth, what, count, way.key, len(took), **medians, **memory, failure=wrong))

    def keep(self, found: Point) -> None:
        self.results.growth.append(found)
        self.results.write(self.run.file)
        print(
            f"growth: {found.count:>5} {TITLES[found.growth]:<22} {found.what:<15} {found.way:<12} "
            f"{duration(found.seconds):>8} {found.failure}",
            flush=True,
        )

    def _new(self, growth: str, count: int, below: str) -> list[str]:
        """An image for each run, with a layer that nobody has."""
        names = [f"growth/{growth}-{count}:{run}" for run in range(self.options.runs)]
        return [self.yard.build(name, below, self.yard.sizes.code) for name in names]

    def _on_source(self, name: str, layers: int, size: int) -> Path:
        """An image of so many layers and MB on the source; returns its archive."""
        if layers == 1 or size >= layers:
            made = self.yard.layers(name, size, layers)
        else:
            made = [self.rig.workshop.layer({f"{name}/{n}": f"{name} {n}".encode() * 100}) for n in range(layers)]
        return self.yard.load({f"docker.io/library/{name}:1": self.rig.workshop.image(made)}, self.yard.source)

    def _session(self, growth: str, count: int, name: str) -> None:
        self.push(growth, BARE, count, self.bare, names=[name] * self.options.runs)

    def images(self, count: int) -> None:
        """All else being equal, the target keeps more and more images."""
        self.target.clear()
        below = self._on_source("few", 2, 4)
        self.target.crowd(self.rig.workshop, count)
        self.target.load(below)
        names = self._new("images", count, "few:1")
        self.push("images", CODE, count, self.ours, names=names)
        self._session("images", count, names[-1])

    def layers(self, count: int) -> None:
        """All layers but the last are there."""
        self.target.clear()
        name = f"layers-{count}"
        self.target.load(self._on_source(name, count - 1 or 1, 1))
        self.push("layers", CODE, count, self.ours, names=self._new("layers", count, f"{name}:1"))

    def megabytes(self, count: int) -> None:
        """Cold, then with a new layer; then cold by another way."""
        self.target.clear()
        name = f"size-{count}"
        archive = self._on_source(name, 5, count)
        self.ours.forget()
        self.push("megabytes", COLD, count, self.ours, names=[f"{name}:1"])
        self.push("megabytes", CODE, count, self.ours, names=self._new("megabytes", count, f"{name}:1"))
        self.target.clear()
        self.push("megabytes", COLD, count, self.save, names=[f"{name}:1"])
        archive.unlink()
        self.target.clear()
        self.yard.source.docker("rmi", "--force", f"{name}:1")

    def hosts(self, count: int) -> None:
        """As many aliases of one host; each push is to all of them."""
        self.target.clear()
        self.target.load(self._on_source("few", 2, 4))
        names = self._new("hosts", count, "few:1")
        self.push("hosts", CODE, count, self.ours, names=names)
        self._session("hosts", count, names[-1])


def grow(run: Run, target: Engine) -> None:
    """All growths, each step; a step that the engine refuses is told, and the next one follows."""
    here = Growth(run, target)
    have = {(found.growth, found.count) for found in run.results.growth}
    for name, counts in STEPS[run.options.growth].items():
        for count in counts:
            if (name, count) in have:
                continue
            try:
                getattr(here, name)(count)
            except RigError as error:
                here.keep(Point(name, CODE, count, Ours.key, 0, 0.0, failure=str(error)[-300:]))
