"""layerferry beside the other ways to move an image to a host behind ssh, on real engines and rate-limited links.

    bash tests/bench/run.sh [--quick] [--runs 3] [--link "10 mbit, 40 ms"]... [--workload code]... [--way skopeo]...

All of it on this machine, of tests/rig: a source, a target of each store of docker in a network of its own, whose link
has a rate and a round trip that are measured before anything is. The ways take turns. After each push the target has to
show the source's layers, under the source's image ID where both have it, and, once for each way and workload, a `docker
save` with all of them in a containerd store; then a container is made. Bytes are those of the link's interface, TCP and
ssh included. Last comes a fleet behind one uplink (`bench.fleet`), which `--fleet` measures by itself. `levels`, to be
asked for by its name, holds the compression that layerferry takes by itself against fixed ones.

It writes results.json after each push, and tables and plots out of that: `--from FILE` makes only these.
"""

import argparse
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from bench import fleet, growth, plots, workloads
from bench.links import LINKS, Link, alias, joined, limited, seen
from bench.meter import Measured, measure
from bench.results import FLOORS, Results, Sample, duration, tables
from bench.verify import create_seconds, failure, save_failure
from bench.ways import FIXED, Ours, ThroughRegistry, Way, found
from bench.workloads import Sizes, Workload, Yard, made
from rig import Engine, Rig, cannot_run, packages

SOURCE = "docker28-overlay2"
TARGETS = ("docker28-overlay2", "docker28-containerd")
QUICK_LINKS = ("unshaped", "10 mbit, 40 ms")
QUICK_WORKLOADS = ("unchanged", "code-first", "code", "dependencies", "cold", "eight", "fleet-code")
#: What takes longer is run once.
LONG = 60.0
ROOT = Path(__file__).parents[2]


class Benchmark:
    """One run. What `file` has already is not measured again."""

    def __init__(self, rig: Rig, options: argparse.Namespace, results: Results, file: Path) -> None:
        self.rig = rig
        self.options = options
        self.results = results
        self.file = file
        self.source = rig.engine(options.source, name="source")
        self.targets = [rig.engine(kind, name=f"target-{kind}", isolated=True) for kind in options.target]
        self.yard = Yard(rig, self.source, options.sizes)
        self.ways, absent = found(rig, self.source, options.way)
        results.absent.update(absent)
        results.ways.update({way.key: way.label for way in self.ways})
        self._saved: set[tuple[str, str, str]] = set()

    def look_around(self) -> None:
        """Machine, date and versions; and what the links carry."""
        versions = {way.label: way.version() for way in self.ways}
        engines = {engine.name: str(engine.api.get("/version")["Version"]) for engine in (self.source, *self.targets)}
        made = self.results.made
        known = {key: made.get(key, {}) | found for key, found in (("versions", versions), ("engines", engines))}
        made.update((about_machine() if "date" not in made else {}) | known)
        print(*(f"{name}: {value}" for name, value in self.results.made.items()), sep="\n")
        print(*(f"not measured: {way}: {why}" for way, why in self.results.absent.items()), sep="\n", flush=True)
        for target in self.targets:
            for link in self.links():
                row = seen(target, link)
                place = row["target"], row["name"]
                self.results.links[:] = [old for old in self.results.links if (old["target"], old["name"]) != place]
                self.results.links.append(row)
                asked = f"{link.rate or 'no limit'}, {link.trip * 1000:.0f} ms"
                print(
                    f"link to {target.kind.name}: {asked}; seen {row['seen_mbit']:.1f} mbit, "
                    f"{row['seen_trip'] * 1000:.1f} ms",
                    flush=True,
                )

    def links(self, workload: Workload | None = None) -> list[Link]:
        chosen = self.options.link or list(LINKS)
        return [
            link for name, link in LINKS.items() if name in chosen and (not workload or self._tells(workload, name))
        ]

    def _tells(self, workload: Workload, link: str) -> bool:
        return not workload.links or link in workload.links

    def run(self) -> None:
        """All workloads to each target, then those to many targets."""
        chosen = self.options.workload or [*workloads.ALL, *workloads.FLEETS]
        for target in self.targets:
            for key in chosen:
                if key not in workloads.FLEETS:
                    self._workload(made(self.yard, key), [target])
        for key in chosen:
            if key in workloads.FLEETS:
                self._workload(made(self.yard, key), self.targets)

    def _workload(self, workload: Workload, targets: Sequence[Engine]) -> None:
        self.results.workloads[workload.key] = workload.title
        title = targets[0].kind.name if not workload.hosts else f"{workload.hosts} hosts"
        ways = [way for way in self.ways if self._fits(way, workload)]
        left = {link.name: self._left(title, workload, link, ways) for link in self.links(workload)}
        if not any(left.values()):
            return
        workload.begin(ways, targets)
        for link in self.links(workload):
            with joined(targets, link) as aliases:
                for run in range(self.options.runs):
                    for way in ways[run % len(ways) :] + ways[: run % len(ways)]:
                        if (way.key, run) in left[link.name]:
                            self._one(Sample(title, workload.key, link.name, way.key, run, 0.0), workload, way, aliases)

    @staticmethod
    def _fits(way: Way, workload: Workload) -> bool:
        return way.key in workload.special or (
            not workload.alone and way.key not in {*FLOORS, *FIXED, "layerferry-whole"}
        )

    def _left(self, title: str, workload: Workload, link: Link, ways: Sequence[Way]) -> set[tuple[str, int]]:
        have = {
            (sample.way, sample.run)
            for sample in self.results.samples
            if (sample.target, sample.workload, sample.link) == (title, workload.key, link.name)
        }
        return {(way.key, run) for way in ways for run in range(self.options.runs)} - have

    def _one(self, empty: Sample, workload: Workload, way: Way, aliases: Mapping[str, str]) -> None:
        """One push, measured, or reckoned, or left out where one is enough."""
        link = LINKS[empty.link]
        targets = [target for target in self.targets if target.name in aliases]
        expected = self._expected(empty, link)
        if empty.run and expected > LONG:
            return
        if expected > self.options.longest:
            self._keep(replace(empty, seconds=expected, reckoned=True))
            return
        names = workload.ready(way, targets)
        script = way.script(names, self._hosts(list(aliases.values()), targets, workload.hosts))
        sample = replace(empty, load=os.getloadavg()[0])
        try:
            with limited(targets, link):
                took = self.measured(script, targets)
        except TimeoutError as error:
            self._keep(replace(sample, failure=str(error)))
            return
        sample = replace(sample_of(sample, took), failure=self._wrong(way, workload, took, targets, names))
        if not sample.failure and way.key not in FLOORS:
            sample = replace(sample, create=max(create_seconds(target, names[0]) for target in targets))
        self._keep(sample)

    @staticmethod
    def _hosts(aliases: Sequence[str], targets: Sequence[Engine], count: int) -> list[str]:
        """So many names for hosts that are few, if any are wanted."""
        names = [f"{aliases[number % len(targets)]}-{number}" for number in range(count)]
        for number, target in enumerate(targets):
            alias(target, names[number :: len(targets)])
        return names or list(aliases)

    def measured(self, script: str, targets: Sequence[Engine]) -> Measured:
        return measure(script, self.yard.environment, self.source, targets, self.options.longest * 4 + 300)

    def _wrong(
        self, way: Way, workload: Workload, took: Measured, targets: Sequence[Engine], names: Sequence[str]
    ) -> str:
        if took.code:
            return f"exit code {took.code}: {took.stderr.strip()[-300:]}"
        if way.key == "bare":
            return ""
        for target in targets:
            wrong = failure(self.source, target, names)
            once = (target.name, workload.key, way.key)
            if not wrong and target.kind.store == "containerd" and once not in self._saved and way.key not in FLOORS:
                wrong = save_failure(target, names)
                if not wrong:
                    self._saved.add(once)
            if wrong:
                return wrong
        return ""

    def _expected(self, empty: Sample, link: Link) -> float:
        """Seconds, by what this way has taken over links that were quicker, and what it has sent."""
        rows = [
            sample
            for sample in self.results.samples
            if (sample.target, sample.workload, sample.way) == (empty.target, empty.workload, empty.way)
            and not (sample.failure or sample.reckoned)
        ]
        if not rows:
            return 0.0
        line = min(sample.sent for sample in rows) * 8 / link.bits if link.bits else 0.0
        return max(line, min(sample.seconds for sample in rows))

    def _keep(self, sample: Sample) -> None:
        self.results.samples.append(sample)
        self.results.write(self.file)
        says = sample.failure or (
            "reckoned" if sample.reckoned else f"{sample.sent:,} B sent, {sample.heard:,} B heard"
        )
        print(
            f"{time.strftime('%H:%M:%S')} {sample.target} {sample.workload:<12} {sample.link:<15} {sample.way:<16} "
            f"{duration(sample.seconds):>8} {says}",
            flush=True,
        )


def sample_of(sample: Sample, took: Measured) -> Sample:
    names = {field.name for field in fields(Measured)} & {field.name for field in fields(Sample)}
    return replace(sample, **{name: getattr(took, name) for name in names})


def about_machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": f"{os.cpu_count()} cores ({model}), {memory / 1e9:.0f} GB, source, targets and client at once",
        "kernel": platform.release(),
        "load at the start": f"{os.getloadavg()[0]:.1f}",
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bash tests/bench/run.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small images, two links, one run")
    parser.add_argument("--runs", type=int, help="how often each is measured (3; 1 with --quick)")
    parser.add_argument("--link", action="append", choices=LINKS)
    parser.add_argument("--workload", action="append", choices=workloads.KINDS)
    parser.add_argument("--way", action="append", default=[], help="such as layerferry, save-zstd, skopeo, registry")
    parser.add_argument("--source", default=SOURCE)
    parser.add_argument("--target", action="append")
    longest = "seconds; what would take longer is reckoned (300; 20 with --quick)"
    parser.add_argument("--longest", type=float, help=longest)
    parser.add_argument("--growth", choices=("none", "small", "some", "all"), help="how far ('some'; 'small' if quick)")
    behind = "only pushes to so many hosts behind one uplink, each and through their registry (1 2 5 10 20)"
    parser.add_argument("--fleet", type=int, nargs="*", metavar="COUNT", help=behind)
    parser.add_argument("--resume", action="store_true", help="keep what results.json has, and measure the rest")
    parser.add_argument("--out", type=Path, help="the folder (docs/benchmark; build/bench/quick or fleet)")
    parser.add_argument("--from", dest="made", type=Path, metavar="FILE", help="tables and plots of this results.json")
    options = parser.parse_args()
    options.runs = options.runs or (1 if options.quick else 3)
    options.longest = options.longest or (20 if options.quick else 300)
    options.sizes = workloads.QUICK if options.quick else Sizes()
    folder = "docs/benchmark" if options.fleet is None else "build/bench/fleet"
    options.out = options.out or ROOT / ("build/bench/quick" if options.quick else folder)
    choose_fleet(options)
    if options.quick:
        options.link = options.link or list(QUICK_LINKS)
        options.workload = options.workload or list(QUICK_WORKLOADS)
    options.growth = options.growth or ("small" if options.quick else "some")
    return options


def choose_fleet(options: argparse.Namespace) -> None:
    """With --fleet there is nothing else; a run that is narrowed down has none without it."""
    counts = fleet.FEW if options.quick else fleet.COUNTS
    if options.fleet is not None:
        options.fleet = options.fleet or counts
        options.target, options.way = [], [Ours.key]
    else:
        options.fleet = () if options.workload or options.way or options.link or options.target else counts
        options.target = options.target or list(TARGETS)


def show(results: Results, out: Path) -> None:
    """Write tables and plots, beside results.json."""
    out.mkdir(parents=True, exist_ok=True)
    drawn = list(plots.draw(results, out))
    shown = [f"![{path.stem}]({path.name})\n" for path in drawn if path.suffix == ".svg"]
    (out / "README.md").write_text("\n".join((tables(results), "## Plots\n", *shown)), encoding="utf-8")
    print(out / "README.md", *drawn, sep="\n")


def main() -> None:
    options = parsed()
    if options.made:
        show(Results.read(options.made), options.out)
        return
    if reason := cannot_run():
        sys.exit(reason)
    file = options.out / "results.json"
    results = Results.read(file) if options.resume and file.exists() else Results()
    packages.install(("bzip2", "zstd", *(() if shutil.which("docker") else ("docker.io",))))
    began = time.monotonic()
    with ExitStack() as stack:
        benchmark = Benchmark(stack.enter_context(Rig()), options, results, file)
        for target in benchmark.targets:
            stack.enter_context(target.machine.python())
        for way in benchmark.ways:
            if isinstance(way, ThroughRegistry):
                stack.callback(way.stop)
        if benchmark.targets:
            benchmark.look_around()
            benchmark.run()
            if options.growth != "none" and (not options.way or Ours.key in options.way):
                growth.grow(benchmark, benchmark.targets[0])
        elif not results.made:
            results.made.update(about_machine())
        if options.fleet:
            fleet.measure_fleet(benchmark, options.fleet)
    goes = (results.made.get("took"), f"{(time.monotonic() - began) / 60:.0f} minutes")
    results.made["took"] = ", then ".join(filter(None, goes))
    results.write(file)
    show(results, options.out)


if __name__ == "__main__":
    main()
