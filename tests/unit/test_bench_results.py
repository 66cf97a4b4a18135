"""The benchmark's tables say what its JSON has: medians, who is first, what failed, what was reckoned."""

import json
from dataclasses import replace
from pathlib import Path

from bench.results import (
    DIRECT,
    SPREAD,
    Cell,
    Point,
    Results,
    Sample,
    amount,
    best_other,
    cells,
    crossover,
    duration,
    tables,
)

SAMPLE = Sample("docker", "code", "unshaped", "layerferry", 0, 0.5, sent=18_000, heard=2_000, memory=40_000_000)


def to_fleet(push: str, seconds: dict[int, tuple[float, float]]) -> list[Point]:
    """By the number of hosts, what it takes to each of them, and through their registry."""
    return [
        Point("fleet", push, count, way, 1, of_way, sent=900_000 * (1 if way == SPREAD else count), heard=100_000)
        for count, both in seconds.items()
        for way, of_way in zip((DIRECT, SPREAD), both, strict=True)
    ]


def results() -> Results:
    """Ours, another way, a slow one, a floor; three runs, of which the other way failed in one."""
    found = Results(
        made={"date": "2026-01-02"},
        links=[
            {"name": "unshaped", "target": "docker", "rate": None, "trip": 0, "seen_mbit": 9e3, "seen_trip": 0.0001}
        ],
        ways={"layerferry": "layerferry", "save-zstd": "save", "skopeo": "skopeo", "bare": "session"}
        | {DIRECT: "each", SPREAD: "registry"},
        absent={"crane": "crane is not on PATH"},
        workloads={"code": "10 kB of code"},
        growth=[Point("layers", "cold", 1270, "layerferry", 3, 1.5, memory=41_000_000)],
        fleet=[*to_fleet("cold", {1: (4.0, 9.0), 5: (20.0, 10.0)}), *to_fleet("code", {1: (1.0, 2.0), 5: (2.0, 4.0)})],
    )
    for run, seconds in enumerate((0.5, 0.9, 0.7)):
        found.samples.append(replace(SAMPLE, run=run, seconds=seconds))
        found.samples.append(replace(SAMPLE, run=run, way="save-zstd", seconds=1.4, sent=5_000_000))
        found.samples.append(replace(SAMPLE, run=run, way="bare", seconds=0.1, sent=3_000))
    found.samples.append(replace(SAMPLE, way="skopeo", seconds=400.0, reckoned=True))
    return found


def row(text: str, begins: str) -> list[str]:
    """The cells of the first row of a table that begins so."""
    (first, *_) = [line for line in text.splitlines() if line.startswith(f"| {begins} |")]
    return [cell.strip() for cell in first.strip("|").split("|")]


def test_a_row_has_medians_the_best_in_bold_and_our_ratio_to_the_best_other() -> None:
    assert row(tables(results()), "10 kB of code") == [
        "10 kB of code",
        "**0.70 s**, **20.0 kB**",
        "1.40 s, 5.00 MB",
        "(400 s)",
        "0.10 s, 5.0 kB",
        "0.50 (save-zstd)",
    ]


def test_where_another_way_is_first_the_table_says_so() -> None:
    found = results()
    found.samples = [replace(sample, seconds=0.35) if sample.way == "save-zstd" else sample for sample in found.samples]
    assert row(tables(found), "10 kB of code")[1:3] == ["0.70 s, **20.0 kB**", "**0.35 s**, 5.00 MB"]
    assert row(tables(found), "10 kB of code")[-1] == "2.00 (save-zstd)"


def test_a_way_of_which_a_run_failed_is_told_and_is_nobodys_rival() -> None:
    found = results()
    found.samples.append(replace(SAMPLE, way="save-zstd", run=3, seconds=0.1, failure="docker save is empty"))
    text = tables(found)
    assert row(text, "10 kB of code")[2] == "failed"
    assert row(text, "10 kB of code")[-1] == "0.00 (skopeo)"
    assert "- save to docker, 10 kB of code: docker save is empty" in text


def test_the_median_is_that_of_the_runs_that_worked() -> None:
    failed = replace(SAMPLE, seconds=9.0, failure="broken")
    cell = Cell.of([failed, SAMPLE, replace(SAMPLE, seconds=0.7)])
    assert (cell.runs, cell.failure) == (2, "broken")
    assert duration(cell.seconds) == "0.60 s"


def test_links_growth_and_what_was_not_measured_are_shown() -> None:
    text = tables(results())
    assert "- not measured: crane: crane is not on PATH" in text
    assert "| unshaped | docker | no limit | 9000.0 mbit | 0 ms | 0.1 ms |" in text
    assert "| layers | 1,270 | cold | layerferry | 1.50 s | 0 B | 41.00 MB |  |" in text


def test_floors_and_our_own_other_ways_are_no_rivals() -> None:
    cell = Cell.of([SAMPLE])
    assert best_other({"layerferry": cell, "layerferry-whole": cell, "bare": cell, "load": cell}) == ("", 0.0)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "folder/results.json"
    results().write(file)
    assert Results.read(file) == results()
    assert [path.name for path in file.parent.iterdir()] == ["results.json"]


def test_samples_are_kept_apart_by_target_workload_link_and_way() -> None:
    keys = cells([SAMPLE, replace(SAMPLE, run=1), replace(SAMPLE, link="1 gbit")])
    assert [(key[2], cell.runs) for key, cell in keys.items()] == [("unshaped", 2), ("1 gbit", 1)]


def test_sizes_and_times_are_as_one_reads_them() -> None:
    assert [amount(size) for size in (0, 999, 21_540, 26_340_000, 8e9)] == [
        *("0 B", "999 B", "21.5 kB", "26.34 MB", "8.00 GB"),
    ]
    assert [duration(seconds) for seconds in (0.284, 10.44, 752.4)] == ["0.28 s", "10.4 s", "752 s"]


def test_a_fleet_has_a_column_for_each_count_of_hosts_and_a_count_from_which_its_registry_is_better() -> None:
    rows = [
        line for line in tables(results()).splitlines() if line.startswith(("| push |", "| cold |", "| code | reg"))
    ]
    assert rows == [
        "| push | way | 1 host | 5 hosts | better: seconds | bytes |",
        "| cold | each | 4.00 s, 1.00 MB | 20.0 s, 4.60 MB |  |  |",
        "| cold | registry | 9.00 s, 1.00 MB | 10.0 s, 1.00 MB | 3 | 2 |",
        "| code | registry | 2.00 s, 1.00 MB | 4.00 s, 1.00 MB | never | 2 |",
    ]


def test_the_registry_is_better_from_where_it_stays_better() -> None:
    both = {1: (3.0, 2.0), 2: (2.0, 3.0), 10: (8.0, 4.0), 20: (16.0, 5.0)}
    assert crossover(to_fleet("code", both), "code", "seconds") == 4  # 1 s behind at 2, 4 s ahead at 10: even at 3.6
    assert crossover(to_fleet("code", {2: (3.0, 2.0)}), "code", "seconds") == 2
    assert crossover(to_fleet("code", {1: (3.0, 2.0), 2: (2.0, 2.0)}), "code", "seconds") == 0
    assert crossover(to_fleet("code", {1: (2.0, 2.0), 2: (3.0, 2.0)}), "code", "seconds") == 2
    assert crossover([], "code", "seconds") == 0


def test_a_push_to_a_fleet_that_failed_is_told_and_not_compared() -> None:
    found = results()
    found.fleet[3] = replace(found.fleet[3], failure="node4: the target does not show app:2")
    text = tables(found)
    assert row(text, "cold")[3] == "20.0 s, 4.60 MB"
    assert "| cold | registry | 9.00 s, 1.00 MB | failed | never | never |" in text
    assert "- cold to 5, registry: node4: the target does not show app:2" in text


def test_results_of_an_older_run_have_no_fleet(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    results().write(file)
    raw = json.loads(file.read_text())
    del raw["fleet"]
    file.write_text(json.dumps(raw))
    assert Results.read(file) == replace(results(), fleet=[])
