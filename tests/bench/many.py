"""Many targets in one command, beside each of them alone: time, what is read of the source, memory.

    python tests/bench/many.py [--targets 20] [--megabytes 100] [--jobs 8]

So many sshds on three engines of this machine (docker with either store, podman), so that all of them, the source and
layerferry share its cores: what the table shows is work saved, not links that wait side by side. `bare` is the floor:
`ssh HOST true` to all of them, as many at a time.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rig import Engine, Noise, Rig, Text, cannot_run
from rig.command import Layerferry
from rig.ssh import start_sshd

TARGETS = ("docker28-overlay2", "docker28-containerd", "podman5")
MB = 1_000_000


class Bench:
    def __init__(self, rig: Rig, targets: int, jobs: int) -> None:
        self.rig = rig
        self.jobs = jobs
        self.layerferry = Layerferry(rig)
        self.source = rig.engine("docker28-overlay2", name="source")
        self.engines = [rig.engine(kind) for kind in TARGETS]
        hosts = [self.engines[number % len(self.engines)] for number in range(targets)]
        self.aliases = [f"web{number}" for number in range(targets)]
        for alias, engine in zip(self.aliases, hosts, strict=True):
            start_sshd(engine.machine, engine.client, alias)

    def bare(self) -> float:
        """Seconds for `ssh HOST true` to all targets."""
        began = time.monotonic()
        command = ["xargs", f"-P{self.jobs}", "-I@", "ssh", "@", "true"]
        names, environment = "\n".join(self.aliases), os.environ | self.rig.environment
        subprocess.run(command, input=names, text=True, env=environment, check=True)
        return time.monotonic() - began

    def measure(self, case: str, name: str, size: int) -> str:
        """Each engine alone, then all targets at once; `name` is taken away again in between."""
        alone = []
        for engine in self.engines:
            alone.append(self.layerferry("push", name, engine.ssh_alias, "--json", source=self.source).seconds)
            self.forget(engine, name)
        words = [word for alias in self.aliases for word in ("--to", alias)]
        run = self.layerferry("push", name, *words, "--jobs", str(self.jobs), "--json", source=self.source)
        results = run.json["results"]
        assert all(result["verified"] for result in results), run.stdout
        for engine in self.engines:
            self.forget(engine, name)
        read = max(result["bytes"]["received"] for result in results)
        bare = self.bare()
        return (
            f"{case:<6} {len(results):>7} {size / MB:>8.1f} MB {max(alone):>8.2f} s {sum(alone) / len(alone):>8.2f} s "
            f"{run.seconds:>8.2f} s {run.seconds / max(alone):>8.1f}x {run.seconds / len(results):>11.2f} s "
            f"{bare:>6.2f} s {read / MB:>8.1f} MB {run.peak / MB:>6.0f} MB"
        )

    @staticmethod
    def forget(engine: Engine, name: str) -> None:
        for shown in engine.images():
            if shown.endswith(name):
                engine.docker("rmi", shown)


HEAD = (
    "case   targets        size    slowest      mean  together  of slowest  each, together     bare      read    peak"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=8)
    options = parser.parse_args()
    if reason := cannot_run():
        sys.exit(reason)
    with Rig() as rig:
        bench = Bench(rig, options.targets, options.jobs)
        shop, size = rig.workshop, options.megabytes * MB // 2
        base = shop.image([shop.layer({"noise": Noise(size, "many")}), shop.layer({"text": Text(size, "many")})])
        archive = shop.archive({"docker.io/library/app:base": base})
        bench.source.load(archive)
        print(HEAD, flush=True)
        print(bench.measure("cold", "app:base", options.megabytes * MB), flush=True)
        for engine in bench.engines:
            engine.load(archive)
        bench.source.build(
            "app:new", "FROM app:base\nCOPY new /new\n", {"new": b"".join(Noise(10_000, "new").chunks())}
        )
        print(bench.measure("delta", "app:new", 10_000), flush=True)


if __name__ == "__main__":
    main()
