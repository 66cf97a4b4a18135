"""What the cost model of `layerferry.routes.choose` goes by: how fast daemons save, push, and push nothing.

    python tests/bench/rates.py [--runs 5] [--megabytes 200]

One table, medians, in one run. `save`: the daemon's export stream, read and thrown away. `upload`: a push of layers
that it knows no digest for into our registry. `push`: a push in which the registry claims to hold everything.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from layerferry.embedded_registry import PushRepository, Registry
from layerferry.oci.store_kind import StoreKind
from layerferry.routes.choose import RATES
from layerferry.sources.daemon.api import Daemon, Inspected
from rig import DOCKERS, Engine, Noise, Rig, Text, cannot_run

MB = 1_000_000


def built(rig: Rig, engine: Engine, megabytes: int, number: int) -> str:
    """An image of which the daemon has never pushed or pulled a layer."""
    size = megabytes * MB // 2
    layers = [
        rig.workshop.layer({"noise": Noise(size, f"{number}")}),
        rig.workshop.layer({"text": Text(size, f"{number}")}),
    ]
    name = f"rates:{number}"
    engine.load(rig.workshop.archive({name: rig.workshop.image(layers)}))
    return name


def seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def saved(daemon: Daemon, image: Inspected) -> None:
    with tempfile.TemporaryDirectory() as spool, daemon.export(image, frozenset(), Path(spool)) as export:
        for _ in export._read(image.image):
            pass


def pushed(
    daemon: Daemon, image: Inspected, registry: Registry, repository: PushRepository, *, everything: bool
) -> None:
    if everything:
        repository.claim_all()
    with daemon.pushing(image, f"127.0.0.1:{registry.port}/{repository.name}") as push:
        push()


def measure(rig: Rig, kind: str, runs: int, megabytes: int) -> tuple[float, float, float]:
    engine = rig.engine(kind, ssh=False)
    saves, uploads, pushes = [], [], []
    for number in range(runs):
        name = built(rig, engine, megabytes, number)
        daemon = Daemon({"DOCKER_HOST": engine.host})
        with tempfile.TemporaryDirectory() as spool, Registry(spool=Path(spool), limit=10_000 * MB) as registry:
            image = daemon.inspect(name)
            saves.append(image.image.size / seconds(partial(saved, daemon, image)))
            repository = registry.repository()
            push = partial(pushed, daemon, image, registry, repository)
            uploads.append(image.image.size / seconds(partial(push, everything=False)))
            pushes.append(seconds(partial(push, everything=True)))
        daemon.close()
        engine.clear()
    return statistics.median(saves), statistics.median(uploads), statistics.median(pushes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=200)
    options = parser.parse_args()
    if reason := cannot_run():
        sys.exit(reason)
    print(f"medians of {options.runs}, image of {options.megabytes} MB, half of it noise and half of it text")
    print(f"{'engine':<20} {'save MB/s':>10} {'upload MB/s':>12} {'push s':>8}   the model says")
    with Rig() as rig:
        for kind in DOCKERS:
            save, upload, push = measure(rig, kind, options.runs, options.megabytes)
            model = RATES[StoreKind.CHAIN if kind.endswith("overlay2") else StoreKind.BLOB]
            says = f"{model.save / MB:.0f} {model.upload / MB:.0f} {model.push:g}"
            print(f"{kind:<20} {save / MB:10.1f} {upload / MB:12.1f} {push:8.3f}   {says}", flush=True)


if __name__ == "__main__":
    main()
