"""What signed images cost: a push to a receiver that wants them, beside the same push to one that does not.

    python tests/bench/signed.py [--runs 15] [--engine docker28-overlay2]

A 10 kB layer on a base that both sides have, under a real sshd with `restrict,command=`; in each run the three ways
follow each other, and the differences are those of one run: their median and quartiles; and the difference between the
least of each, which other work on the machine disturbs less. `file`: the signature was made before. `key`: the
push makes it, with an ed25519 key.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines.lock import Lock
from rig import Engine, Noise, Rig, Text, cannot_run
from rig.command import Layerferry
from signed import Keys


class Bench:
    def __init__(self, rig: Rig, target: Engine, folder: Path) -> None:
        self.rig = rig
        self.layerferry = Layerferry(rig)
        self.source = rig.engine("docker20-overlay2", name="source")
        self.keys = Keys(folder / "keys")
        signers, state = folder / "signers", folder / "state"
        signers.write_text(f"ann@example.com {self.keys.public('ed25519')}\n")
        state.mkdir()
        plain, wanting = folder / "plain", folder / "wanting"
        plain.mkdir()
        wanting.mkdir()
        self.plain, self.wanting = Lock(plain, rig, target), Lock(wanting, rig, target)
        self.plain.allow("--allow", "app:*")
        self.wanting.allow("--allow", "app:*", "--signers", str(signers), "--state", str(state))
        self.base = rig.workshop.layer({"usr/base": Text(20_000_000, "base")})
        self.number = self.rounds = 0

    def build(self) -> str:
        self.number += 1
        shop = self.rig.workshop
        name = f"app:{self.number}"
        image = shop.image([self.base, shop.layer({"srv/change": Noise(10_000, name)})])
        self.source.load(shop.archive({f"docker.io/library/{name}": image}))
        return name

    def push(self, name: str, lock: Lock, *more: str) -> float:
        run = self.layerferry("push", name, lock.alias, "--json", *more, source=self.source)
        assert run.result["verified"], run.stdout
        return run.seconds

    def once(self) -> tuple[float, float, float]:
        """Seconds of the three ways, each with an image of its own."""
        self.rounds += 1
        key = str(self.keys.private("ed25519"))
        ready, file = self.build(), str(self.keys.folder / f"{self.number}.sig")
        self.layerferry("sign", ready, "--key", key, "--output", file, source=self.source)
        ways = {
            "plain": lambda: self.push(self.build(), self.plain),
            "file": lambda: self.push(ready, self.wanting, "--signature", file),
            "key": lambda: self.push(self.build(), self.wanting, "--sign-key", key),
        }
        order = sorted(ways, key=lambda way: (list(ways).index(way) + self.rounds) % len(ways))
        took = {way: ways[way]() for way in order}
        return took["plain"], took["file"], took["key"]

    def stop(self) -> None:
        self.plain.stop()
        self.wanting.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--engine", default="docker28-overlay2")
    given = parser.parse_args()
    if reason := cannot_run():
        sys.exit(reason)
    with Rig() as rig, tempfile.TemporaryDirectory() as folder:
        bench = Bench(rig, rig.engine(given.engine), Path(folder))
        try:
            bench.once()
            runs = [bench.once() for _ in range(given.runs)]
        finally:
            bench.stop()
    plain = statistics.median(run[0] for run in runs)
    print(f"{given.engine}: a push without signatures takes {plain:.3f} s")
    for number, way in ((1, "file"), (2, "key")):
        added = [run[number] - run[0] for run in runs]
        least = min(run[number] for run in runs) - min(run[0] for run in runs)
        print(
            f"{way:>6}: {statistics.median(added) * 1000:+.0f} ms ({_quartiles(added)}), least {least * 1000:+.0f} ms"
        )


def _quartiles(values: list[float]) -> str:
    low, _, high = statistics.quantiles(values, n=4)
    return f"{low * 1000:+.0f} to {high * 1000:+.0f}"


if __name__ == "__main__":
    main()
