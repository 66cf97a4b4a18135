"""The benchmark's tables say what its JSON has: medians, who is first, what failed, what was reckoned."""

from dataclasses import replace
from pathlib import Path

from bench.results import Cell, Point, Results, Sample, amount, best_other, cells, duration, tables

SAMPLE = Sample("docker", "code", "unshaped", "layerferry", 0, 0.5, sent=18_000, heard=2_000, memory=40_000_000)


def results() -> Results:
    """Ours, another way, a slow one, a floor; three runs, of which the other way failed in one."""
    found = Results(
        made={"date": "2026-01-02"},
        links=[
            {"name": "unshaped", "target": "docker", "rate": None, "trip": 0, "seen_mbit": 9e3, "seen_trip": 0.0001}
        ],
        ways={"layerferry": "layerferry", "save-zstd": "save", "skopeo": "skopeo", "bare": "session"},
        absent={"crane": "crane is not on PATH"},
        workloads={"code": "10 kB of code"},
        growth=[Point("layers", "cold", 1270, "layerferry", 3, 1.5, memory=41_000_000)],
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
