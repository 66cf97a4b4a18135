"""A soak: pushes in a row, then many at once, something broken in every tenth; what grows meanwhile, on either side.

    python tests/bench/soak.py [--pushes 200] [--at-once 20] [--kind docker28-overlay2] [--out build/soak]

One process of ours pushes them all to a real engine behind a real sshd. After each, a row of a CSV: this process's
memory (VmRSS) and open files, the bytes of its temporary folder, names of ours on the source and on the target, all
images and processes there. It ends with 1 where something is left, or has grown. With matplotlib, which is no
dependency, it is a picture, too.
"""

import argparse
import contextlib
import csv
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from layerferry import settings
from layerferry.context import Context
from layerferry.push.fan_out import fan_out
from layerferry.push.request import Wanted
from layerferry.result import exit_code
from layerferry.targets.address import Ssh, start
from rig import Engine, Noise, Rig
from rig.processes import Process, started_at

NAME = "soak/app"
FIELDS = (
    *("push", "fault", "code", "seconds", "rss", "fds", "threads", "temporary"),
    *("source names", "target names", "images", "runs"),
)
#: What happens to every tenth push, one after the other; seconds after its start it does.
FAULTS = ("ssh killed", "session killed", "engine restarted", "interrupted")
AFTER = 0.35


class Soak:
    """A source, a target, and pushes of ever another small layer on the same base."""

    def __init__(self, rig: Rig, kind: str) -> None:
        self.rig = rig
        self.source = rig.engine("docker28-overlay2", name="soak-source")
        self.target = rig.engine(kind, name="soak-target")
        self._base = rig.workshop.layer({"base": Noise(3_000_000, "base")})
        self._lock = threading.Lock()
        self.rows: list[dict[str, Any]] = []

    def image(self, number: int) -> str:
        """A new image on the source; its layer's file is gone afterwards."""
        shop, name = self.rig.workshop, f"{NAME}-{number % 25}:1"
        with self._lock:
            layer = shop.layer({"new": Noise(200_000, f"{number}")})
            archive = shop.archive({f"docker.io/{name}": shop.image([self._base, layer])})
            self.source.load(archive)
            layer.path.unlink()
            archive.unlink()
        return name

    def push(self, number: int, fault: str) -> int:
        """One push in this process; its exit code."""
        name = self.image(number)
        breaking = threading.Timer(AFTER, self._break, [fault]) if fault else None
        if breaking is not None:
            breaking.start()
        began = time.monotonic()
        code = self._run(name, interrupted=fault == "interrupted")
        seconds = time.monotonic() - began
        if breaking is not None:
            breaking.join()
        self.rows.append(self._look(number, fault, code, seconds))
        return code

    def _run(self, name: str, *, interrupted: bool) -> int:
        """What the command does, without a process for each; one that is interrupted has one of its own."""
        words = ["push", name, self.target.ssh_alias]
        if interrupted:
            command = [str(Path(sys.executable).with_name("layerferry")), *words]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                time.sleep(AFTER)
                process.send_signal(signal.SIGKILL)
                return process.wait()
        return _deliver(name, self.target.ssh_alias)

    def _break(self, fault: str) -> None:
        match fault:
            case "ssh killed":
                for pid in _children(os.getpid(), "ssh")[:1]:
                    Process(pid, started_at(pid) or 0).send(signal.SIGKILL)
            case "session killed":
                if self.target.sshd is not None:
                    self.target.sshd.drop_sessions()
            case "engine restarted":
                with self._lock:
                    self.target.stop()
                    self.target.start()

    def _look(self, number: int, fault: str, code: int, seconds: float) -> dict[str, Any]:
        status = Path("/proc/self/status").read_text()
        facts = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        images = self.target.images()
        values = (
            number, fault, code, round(seconds, 2), int(facts["VmRSS"].split()[0]) * 1024,
            len(list(Path("/proc/self/fd").iterdir())), int(facts["Threads"]),
            sum(file.stat().st_size for file in self.rig.scratch.rglob("*") if file.is_file()),
            sum("layerferry" in name for name in self.source.images()), sum("layerferry" in name for name in images),
            len(images), len(self.target.machine.processes()),
        )  # fmt: skip
        return dict(zip(FIELDS, values, strict=True))


def _deliver(name: str, target: str) -> int:
    """A push as the command line makes it, in this process."""
    with contextlib.ExitStack() as stack:
        there = start(stack, target, Ssh(), settings.environment())
        around = Context.look(settings.load({}), settings.environment())
        results = fan_out(
            [Wanted.of(name)],
            [there],
            around.options(),
            lambda _: None,
            lambda: around.source(lambda _: None),
        )
    return exit_code(results)


def _children(pid: int, name: str) -> list[int]:
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in file.read_text().split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text().strip() == name:
                    found.append(int(child))
    return found


def rows_of(soak: Soak, pushes: int, at_once: int) -> Iterator[dict[str, Any]]:
    """All pushes in a row, then so many at once, and one more that sweeps."""
    for number in range(pushes):
        soak.push(number, FAULTS[number // 10 % len(FAULTS)] if number % 10 == 9 else "")
        yield soak.rows[-1]
    threads = [threading.Thread(target=soak.push, args=(pushes + number, "")) for number in range(at_once)]
    for thread in threads:
        thread.start()
    if at_once:
        time.sleep(AFTER)
        soak._break("session killed")
    for thread in threads:
        thread.join()
    yield from soak.rows[pushes:]
    soak.push(pushes + at_once, "")
    yield soak.rows[-1]


def verdict(rows: Sequence[dict[str, Any]], at_once: int) -> list[str]:
    """What has grown or is left; nothing where all is well.

    The first pushes load modules and fill caches. Of memory those in a row count: threads that end leave arenas behind.
    """
    last, tenth = {**rows[-1], "rss": rows[-2 - at_once]["rss"]}, rows[min(len(rows) // 4, 30)]
    faults = [f"{name}: {last[name]} are left" for name in ("temporary", "source names", "target names") if last[name]]
    for name, room in (("fds", 4), ("threads", 4), ("runs", 6), ("rss", 40_000_000)):
        if last[name] > tenth[name] + room:
            faults.append(f"{name}: {tenth[name]} at first, {last[name]} at last")
    failed = [row["push"] for row in rows if row["code"] and not row["fault"]]
    return [*faults, *([f"failed without a fault: {failed}"] if failed else [])]


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A picture of it, where matplotlib is at hand."""
    with contextlib.suppress(ImportError):
        pyplot: Any = importlib.import_module("matplotlib.pyplot")
        figure, axes = pyplot.subplots(4, 1, sharex=True, figsize=(9, 9))
        for axis, name in zip(axes, ("rss", "fds", "temporary", "target names"), strict=True):
            axis.plot([row[name] for row in rows])
            axis.set_ylabel(name)
        figure.savefig(path)


def environment(rig: Rig, source: Engine) -> dict[str, str]:
    return {**rig.environment, "DOCKER_HOST": source.host, "LAYERFERRY_RETRIES": "3"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pushes", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--kind", default="docker28-overlay2")
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with Rig() as rig, (chosen.out / "soak.csv").open("w", newline="") as file:
        soak = Soak(rig, chosen.kind)
        os.environ.update(environment(rig, soak.source))
        tempfile.tempdir = str(rig.scratch)
        table = csv.DictWriter(file, FIELDS)
        table.writeheader()
        for row in rows_of(soak, chosen.pushes, chosen.at_once):
            table.writerow(row)
            file.flush()
            print(*row.values(), flush=True)
        plot(soak.rows, chosen.out / "soak.png")
        faults = verdict(soak.rows, chosen.at_once)
    print(*(faults or ["flat: nothing has grown, nothing is left"]), sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
