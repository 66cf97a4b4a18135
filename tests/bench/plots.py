"""Plots of a results.json, as PNG and SVG: seconds by link, bytes by workload, and each growth."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.growth import TITLES
from bench.results import DIRECT, FLOORS, OURS, SPREAD, Cell, Key, Point, Results, amount, cells, crossover

#: Okabe and Ito's colours, which those who see few of them can tell apart; ours is always the same.
_COLOURS = ("#0072B2", "#E69F00", "#CC79A7", "#009E73", "#56B4E9", "#D55E00", "#F0E442", "#999999", "#882255")
_MARKS = "osD^vPX*h"
#: So that the same results give the same file.
_SETTINGS = {"svg.hashsalt": "layerferry", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}


def draw(results: Results, folder: Path) -> Iterator[Path]:
    """Write them all; yields their paths."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    matplotlib.rcParams.update(_SETTINGS | {"axes.spines.right": False, "legend.frameon": False})
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    found = cells(results.samples)
    for target in dict.fromkeys(key[0] for key in found):
        name = target.replace(" ", "-")
        of_target = {key: cell for key, cell in found.items() if key[0] == target}
        yield from _save(pyplot, _seconds(pyplot, results, of_target, target), folder / f"seconds-{name}")
        yield from _save(pyplot, _bytes(pyplot, results, of_target, target), folder / f"bytes-{name}")
    for growth in dict.fromkeys(point.growth for point in results.growth):
        points = [point for point in results.growth if point.growth == growth and not point.failure]
        if points:
            yield from _save(pyplot, _growth(pyplot, results, growth, points), folder / f"growth-{growth}")
    if results.fleet:
        yield from _save(pyplot, _fleet(pyplot, results), folder / "fleet")


def _save(pyplot: Any, figure: Any, path: Path) -> Iterator[Path]:
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
        figure.savefig(path.with_suffix(suffix), dpi=144, bbox_inches="tight", metadata=metadata)
        yield path.with_suffix(suffix)
    pyplot.close(figure)


def _ways(results: Results, found: Mapping[Key, Cell]) -> list[str]:
    """Ours first, floors last."""
    there = [way for way in results.ways if any(key[3] == way for key in found)]
    return sorted(there, key=lambda way: (way in FLOORS, not way.startswith(OURS)))


def _style(results: Results, way: str) -> dict[str, Any]:
    number = list(results.ways).index(way) % len(_COLOURS)
    if way in FLOORS:
        return {"color": "#444444", "marker": "_", "linestyle": ":", "linewidth": 1, "zorder": 1}
    ours = way == OURS
    return {
        "color": _COLOURS[number],
        "marker": _MARKS[number % len(_MARKS)],
        "linewidth": 2.5 if ours else 1.3,
        "markersize": 6 if ours else 5,
        "zorder": 3 if ours else 2,
    }


def _seconds(pyplot: Any, results: Results, found: Mapping[Key, Cell], target: str) -> Any:
    """One panel a workload: the links go right, from quick to slow; hollow marks are reckoned."""
    workloads = [name for name in results.workloads if any(key[1] == name for key in found)]
    links = list(dict.fromkeys(link["name"] for link in results.links))
    columns = min(3, len(workloads))
    rows = -(-len(workloads) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.2 * columns, 3.0 * rows + 0.6), squeeze=False)
    for axis in axes.flat[len(workloads) :]:
        axis.remove()
    for axis, workload in zip(axes.flat, workloads, strict=False):
        shown = [link for link in links if any(key[1:3] == (workload, link) for key in found)]
        for way in _ways(results, found):
            _line(axis, results, {link: found.get((target, workload, link, way)) for link in shown}, way)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_xticks(range(len(shown)), [link.replace(", ", "\n") for link in shown])
        axis.set_xlim(-0.3, len(shown) - 0.7)
        axis.set_title(results.workloads[workload], loc="left", fontsize=10)
        axis.grid(axis="y", which="major", color="#dddddd", linewidth=0.6)
    for axis in axes[:, 0]:
        axis.set_ylabel("seconds")
    _legend(figure, axes)
    figure.suptitle(f"Seconds of a push to {target} (less is better; hollow: reckoned)", x=0.02, ha="left")
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    return figure


def _line(axis: Any, results: Results, by_link: Mapping[str, Cell | None], way: str) -> None:
    links = list(by_link)
    there = [(links.index(link), cell) for link, cell in by_link.items() if cell and not cell.failure]
    if not there:
        return
    style = _style(results, way)
    axis.plot([x for x, _ in there], [cell.seconds for _, cell in there], label=results.ways[way], **style)
    reckoned = [(x, cell.seconds) for x, cell in there if cell.reckoned]
    if reckoned:
        xs, ys = zip(*reckoned, strict=True)
        hollow = {"marker": style["marker"], "edgecolor": style["color"], "facecolor": "white"}
        axis.scatter(xs, ys, s=30, zorder=4, **hollow)


def _bytes(pyplot: Any, results: Results, found: Mapping[Key, Cell], target: str) -> Any:
    """Bars by workload, of both directions, over the first link that was measured."""
    workloads = [name for name in results.workloads if any(key[1] == name for key in found)]
    ways = [way for way in _ways(results, found) if way not in FLOORS]
    figure, axis = pyplot.subplots(figsize=(9, 0.22 * len(ways) * len(workloads) + 1.5))
    height = 0.8 / len(ways)
    for number, way in enumerate(ways):
        for row, workload in enumerate(workloads):
            cell = next((cell for key, cell in found.items() if (key[1], key[3]) == (workload, way)), None)
            if cell is None or cell.failure or cell.reckoned:
                continue
            place = row + (number - (len(ways) - 1) / 2) * height
            axis.barh(place, cell.bytes, height * 0.9, color=_style(results, way)["color"])
            label = f"{amount(cell.bytes)}  {results.ways[way]}"
            axis.annotate(label, (cell.bytes, place), (3, 0), textcoords="offset points", va="center", fontsize=7)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: amount(value))
    axis.set_yticks(range(len(workloads)), [results.workloads[name] for name in workloads])
    axis.invert_yaxis()
    left, right = axis.get_xlim()
    axis.set_xlim(left, right * 8)
    axis.grid(axis="x", which="major", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.set_title(f"Bytes over the link of a push to {target} (less is better)", loc="left")
    figure.tight_layout()
    return figure


def _growth(pyplot: Any, results: Results, growth: str, points: Sequence[Point]) -> Any:
    """Seconds on the left, the client's peak memory on the right."""
    figure, (seconds, memory) = pyplot.subplots(1, 2, figsize=(9, 3.4))
    series = dict.fromkeys((point.what, point.way) for point in points)
    for what, way in series:
        line = [point for point in points if (point.what, point.way) == (what, way)]
        style = _style(results, way) | ({"linestyle": "--"} if what == "cold" else {})
        counts = [point.count for point in line]
        label = what if way in FLOORS else f"{results.ways[way]}, {what}"
        seconds.plot(counts, [point.seconds for point in line], label=label, **style)
        if way not in FLOORS:
            memory.plot(counts, [point.memory / 1e6 for point in line], label=label, **style)
    for axis, title in ((seconds, "seconds"), (memory, "MB, peak memory of the client")):
        axis.set_xlabel(TITLES[growth])
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_ylim(bottom=0)
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    _legend(figure, [[seconds]])
    figure.suptitle(f"A push, by {TITLES[growth]}", x=0.02, ha="left")
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    return figure


def _fleet(pyplot: Any, results: Results) -> Any:
    """Above seconds, below bytes, one column a push; a dotted line where the registry begins to be the better way."""
    pushes = list(dict.fromkeys(point.what for point in results.fleet))
    figure, axes = pyplot.subplots(2, len(pushes), figsize=(3.6 * len(pushes), 5.6), squeeze=False)
    for row, (measure, unit) in enumerate((("seconds", 1), ("bytes", 1e6))):
        for axis, push in zip(axes[row], pushes, strict=True):
            for way, colour, mark in ((DIRECT, _COLOURS[1], "s"), (SPREAD, _COLOURS[0], "o")):
                points = [p for p in results.fleet if (p.what, p.way) == (push, way) and not p.failure]
                line = [getattr(point, measure) / unit for point in points]
                counts = [point.count for point in points]
                axis.plot(counts, line, label=results.ways[way], color=colour, marker=mark, linewidth=2)
            if better := crossover(results.fleet, push, measure):
                axis.axvline(better, color="#444444", linestyle=":", linewidth=1, zorder=1)
                axis.annotate(
                    f" from {better} on", (better, 1), xycoords=("data", "axes fraction"), va="top", fontsize=8
                )
            axis.set_xticks(sorted({point.count for point in results.fleet}))
            axis.set_ylim(bottom=0)
            axis.grid(axis="y", color="#dddddd", linewidth=0.6)
            axis.set_title(push if not row else "", loc="left", fontsize=10)
    axes[0][0].set_ylabel("seconds")
    axes[1][0].set_ylabel("MB over the uplink")
    for axis in axes[1]:
        axis.set_xlabel("hosts")
    _legend(figure, axes)
    figure.suptitle("A fleet behind one uplink of 10 mbit, 40 ms (less is better)", x=0.02, ha="left")
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return figure


def _legend(figure: Any, axes: Any) -> None:
    """One for all panels, below them."""
    known: dict[str, Any] = {}
    for axis in (axis for row in axes for axis in row):
        handles, labels = axis.get_legend_handles_labels()
        known |= {label: handle for handle, label in zip(handles, labels, strict=True) if label not in known}
    figure.legend(known.values(), known.keys(), loc="lower center", ncols=min(5, max(1, len(known))), fontsize=8)
