"""What a run of the benchmark has measured: one JSON file, its medians, and tables of them. Starts nothing."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

#: What the others are held against. Floors are no ways to move an image: they are what any way has to take.
OURS = "layerferry"
FLOORS = ("bare", "load")
#: To a fleet behind one uplink: a push to each of its hosts, and one to its registry, out of which they pull.
DIRECT, SPREAD = "direct", "spread"


@dataclass(frozen=True, slots=True)
class Sample:
    """One push by one way, and what it took; times in seconds, sizes in bytes.

    `failure` is empty where the target has shown the whole image after it. What would have taken too long was not run
    where it is `reckoned`: `seconds` come from the bytes that it sent on another link.
    """

    target: str
    workload: str
    link: str
    way: str
    run: int
    seconds: float
    create: float = 0.0
    sent: int = 0
    heard: int = 0
    cpu: float = 0.0
    cpu_source: float = 0.0
    cpu_target: float = 0.0
    memory: int = 0
    memory_target: int = 0
    load: float = 0.0
    failure: str = ""
    reckoned: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """One median of a growth: of `what`, there were `count`."""

    growth: str
    what: str
    count: int
    way: str
    runs: int
    seconds: float
    sent: int = 0
    heard: int = 0
    memory: int = 0
    memory_target: int = 0
    failure: str = ""

    @property
    def bytes(self) -> int:
        """Both ways over the link."""
        return self.sent + self.heard


@dataclass(slots=True)
class Results:
    """All of a run. `made` has machine, date and versions; `absent` the ways that could not run, with the reason."""

    made: dict[str, Any] = field(default_factory=dict)
    links: list[dict[str, Any]] = field(default_factory=list)
    ways: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    workloads: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    growth: list[Point] = field(default_factory=list)
    fleet: list[Point] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` has written; raises `TypeError` where a field has another name by now."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        raw["samples"] = [Sample(**row) for row in raw["samples"]]
        for name in ("growth", "fleet"):
            raw[name] = [Point(**row) for row in raw.get(name, [])]
        return cls(**raw)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.part")
        beside.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        beside.rename(path)


@dataclass(frozen=True, slots=True)
class Cell:
    """The medians of one way's runs of a workload over a link; of the runs that failed, the reason of the first."""

    runs: int
    seconds: float
    create: float
    sent: int
    heard: int
    cpu: float
    cpu_target: float
    memory: int
    failure: str
    reckoned: bool

    @property
    def bytes(self) -> int:
        """Both ways over the link."""
        return self.sent + self.heard

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Self:
        whole = [sample for sample in samples if not sample.failure] or list(samples)

        def median(name: str) -> float:
            return float(statistics.median(getattr(sample, name) for sample in whole))

        return cls(
            len(whole),
            median("seconds"),
            median("create"),
            int(median("sent")),
            int(median("heard")),
            median("cpu"),
            median("cpu_target"),
            int(median("memory")),
            next((sample.failure for sample in samples if sample.failure), ""),
            any(sample.reckoned for sample in samples),
        )


_LEGEND = """\
Medians, with the bytes of both directions. Bold is the best of a row; in brackets: reckoned from the bytes of another
link, since a run would have taken too long. The last column is layerferry's time over that of the best other way."""

Key = tuple[str, str, str, str]


def cells(samples: Iterable[Sample]) -> dict[Key, Cell]:
    """By target, workload, link and way, in the order in which they were measured."""
    found: dict[Key, list[Sample]] = {}
    for sample in samples:
        found.setdefault((sample.target, sample.workload, sample.link, sample.way), []).append(sample)
    return {key: Cell.of(of_key) for key, of_key in found.items()}


def best_other(row: Mapping[str, Cell]) -> tuple[str, float]:
    """Of all ways but ours and the floors, the quickest, and its seconds; an empty name where there is none."""
    others = {
        way: cell.seconds
        for way, cell in row.items()
        if not way.startswith(OURS) and way not in FLOORS and not cell.failure
    }
    if not others:
        return "", 0.0
    way = min(others, key=lambda name: others[name])
    return way, others[way]


def amount(size: float) -> str:
    """Bytes as one reads them: `21.5 kB`, `26.34 MB`."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000 or unit == "GB":
            return f"{size:.1f} {unit}" if unit == "kB" else f"{size:.2f} {unit}"
    raise AssertionError


def duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"


def _shown(cell: Cell, *, first: bool, fewest: bool) -> str:
    if cell.failure:
        return "failed"
    seconds, size = duration(cell.seconds), amount(cell.bytes)
    if cell.reckoned:
        return f"({seconds})"
    return f"{f'**{seconds}**' if first else seconds}, {f'**{size}**' if fewest else size}"


def _row(row: Mapping[str, Cell], ways: Sequence[str]) -> list[str]:
    """The cells of a table's row, with the best in bold, and what we take of the best other way."""
    rivals = {way: cell for way, cell in row.items() if not cell.failure and way not in FLOORS}
    first = min(rivals, key=lambda way: rivals[way].seconds, default="")
    fewest = min((way for way in rivals if not rivals[way].reckoned), key=lambda way: rivals[way].bytes, default="")
    shown = [_shown(row[way], first=way == first, fewest=way == fewest) if way in row else "" for way in ways]
    other, seconds = best_other(row)
    ours = row.get(OURS)
    ratio = f"{ours.seconds / seconds:.2f} ({other})" if ours and other and not ours.failure and seconds else ""
    return [*shown, ratio]


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|-|" + "-:|" * (len(head) - 1)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _rows(found: Mapping[Key, Cell], target: str, link: str) -> dict[str, dict[str, Cell]]:
    rows: dict[str, dict[str, Cell]] = {}
    for (of_target, workload, of_link, way), cell in found.items():
        if (of_target, of_link) == (target, link):
            rows.setdefault(workload, {})[way] = cell
    return rows


def _what_it_took(results: Results, rows: Mapping[str, Mapping[str, Cell]]) -> Iterable[Sequence[str]]:
    for workload, row in rows.items():
        for way, cell in row.items():
            if not cell.reckoned and not cell.failure:
                took = f"{cell.cpu:.2f} s", f"{cell.cpu_target:.2f} s", amount(cell.memory), duration(cell.create)
                yield (results.workloads[workload], results.ways[way], duration(cell.seconds), *took)


def tables(results: Results) -> str:
    """All of it in Markdown: seconds and bytes by target and link, what each way took, failures, growth."""
    found = cells(results.samples)
    lines = ["# Benchmark", "", *_about(results.made)]
    lines += [f"- not measured: {way}: {reason}" for way, reason in results.absent.items()]
    lines += ["", "## Links, as seen in this run", ""]
    lines += _markdown(
        ("link", "target", "asked for", "seen", "round trip asked for", "seen"),
        (
            (
                link["name"], link["target"], link["rate"] or "no limit", f"{link['seen_mbit']:.1f} mbit",
                f"{link['trip'] * 1000:.0f} ms", f"{link['seen_trip'] * 1000:.1f} ms",
            )
            for link in results.links
        ),
    )  # fmt: skip
    lines += [_LEGEND, ""] if found else []
    for target in dict.fromkeys(key[0] for key in found):
        for link in dict.fromkeys(key[2] for key in found if key[0] == target):
            rows = _rows(found, target, link)
            ways = [way for way in results.ways if any(way in row for row in rows.values())]
            lines += [f"## To {target}, {link}", ""]
            head = ("workload", *(results.ways[way] for way in ways), "of the best other")
            lines += _markdown(head, ([results.workloads[name], *_row(row, ways)] for name, row in rows.items()))
            if link == "unshaped":
                head = (
                    "workload",
                    "way",
                    "seconds",
                    "CPU, client",
                    "CPU, target",
                    "peak memory, client",
                    "first create",
                )
                lines += _markdown(head, _what_it_took(results, rows))
    failed = {(*key[:2], key[3]): cell.failure for key, cell in found.items() if cell.failure}
    lines += ["## Failures", ""] if failed else []
    lines += [
        f"- {results.ways[way]} to {target}, {results.workloads[workload]}: {failure}"
        for (target, workload, way), failure in failed.items()
    ]
    lines += ["", *_fleet(results)] if results.fleet else []
    lines += ["", "## Growth", ""] if results.growth else []
    lines += _growth(results) if results.growth else []
    return "\n".join(lines).rstrip("\n") + "\n"


def crossover(points: Iterable[Point], push: str, measure: str) -> int:
    """From how many hosts on the registry is the better way, by `seconds` or `bytes`; 0 where it never was.

    Between two counts that were measured the difference is taken to grow evenly.
    """
    found = {(point.way, point.count): point for point in points if point.what == push and not point.failure}
    counts = sorted(count for way, count in found if way == SPREAD and (DIRECT, count) in found)
    gains = [float(getattr(found[DIRECT, n], measure) - getattr(found[SPREAD, n], measure)) for n in counts]
    better = len(gains)
    while better and gains[better - 1] > 0:
        better -= 1
    if better == len(gains):
        return 0
    if not better:
        return counts[0]
    below, above = counts[better - 1 : better + 1]
    loss, gain = gains[better - 1 : better + 1]
    return below + int((above - below) * -loss / (gain - loss)) + 1


_FLEET = """\
One link of 10 mbit and 40 ms leads to all hosts; the bytes are those over it, both directions. The last columns say
from how many hosts on the registry is the better way: between counts that were measured, the difference is taken to
grow evenly."""


def _fleet(results: Results) -> list[str]:
    """A row for each push and way, a column for each count of hosts."""
    counts = sorted({point.count for point in results.fleet})
    found = {(point.what, point.way, point.count): point for point in results.fleet}
    rows = []
    for push in dict.fromkeys(point.what for point in results.fleet):
        better = [str(crossover(results.fleet, push, measure) or "never") for measure in ("seconds", "bytes")]
        for way in (DIRECT, SPREAD):
            cells_of_way = [_spent(found.get((push, way, count))) for count in counts]
            rows.append((push, results.ways[way], *cells_of_way, *(better if way == SPREAD else ("", ""))))
    head = ("push", "way", *(f"{count} host{'s' * (count > 1)}" for count in counts), "better: seconds", "bytes")
    failed = [
        f"- {point.what} to {point.count}, {results.ways[point.way]}: {point.failure}"
        for point in results.fleet
        if point.failure
    ]
    return ["## A fleet behind one uplink", "", _FLEET, "", *_markdown(head, rows), *failed]


def _spent(point: Point | None) -> str:
    if point is None:
        return ""
    return "failed" if point.failure else f"{duration(point.seconds)}, {amount(point.bytes)}"


def _about(made: Mapping[str, Any]) -> Iterable[str]:
    for name, value in made.items():
        parts = [f"{of}: {version}" for of, version in value.items()] if isinstance(value, dict) else [value]
        yield f"- {name}: {'; '.join(parts)}"


def _growth(results: Results) -> list[str]:
    rows = [
        (
            point.growth, f"{point.count:,}", point.what, results.ways[point.way], duration(point.seconds),
            amount(point.sent), amount(point.memory), point.failure or "",
        )
        for point in results.growth
    ]  # fmt: skip
    return _markdown(("growth", "of", "push", "way", "seconds", "sent", "peak memory", "failure"), rows)
