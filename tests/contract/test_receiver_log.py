"""A log whose disk is full: what it cannot hold is not done, and what it holds are whole lines."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.bench import BEFORE, Answer, Bench
from fuzz.shipment import NAME, Shipment

_PAGE = 4096
_EVENTS = ["start", "asked", "checked", "naming", "named", "running", "ran", "end"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a tmpfs")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def small(bench: Bench) -> Iterator[Path]:
    """A disk of one page, for the log alone."""
    place = bench.home / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "layerferry-test", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def options(bench: Bench) -> tuple[str, ...]:
    script = bench.bin / "hook"
    script.write_text('#!/bin/sh\ntouch "$HOME/ran"\n')
    script.chmod(0o755)
    return ("--allow", "app:*", "--run", str(script))


def serve_with_room_for(bench: Bench, small: Path, count: int) -> tuple[Answer, list[str]]:
    """A session whose log takes `count` lines and half of the next; the events that the log has."""
    assert bench.serve(Shipment().session(), *options(bench)).lines[-1] == "done"
    lines = bench.log.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["event"] for line in lines] == _EVENTS
    (bench.home / "ran").unlink()
    bench.save()
    bench.log = small / "log"
    room = sum(map(len, lines[:count])) + len(lines[count]) // 2
    filled = json.dumps({"event": "filler", "x": "x" * (_PAGE - room - 31)}) + "\n"
    assert len(filled) + room <= _PAGE + 31
    bench.log.write_text(filled)
    answer = bench.serve(Shipment().session(), *options(bench))
    assert bench.log.read_bytes().endswith(b"\n")
    return answer, [event["event"] for event in bench.events][1:]


@needs_root
@pytest.mark.parametrize("count", range(4))
def test_what_cannot_be_logged_is_not_done(bench: Bench, small: Path, count: int) -> None:
    answer, events = serve_with_room_for(bench, small, count)
    assert answer.failed == "failed refused the receiver's log cannot be written"
    assert (answer.lines[-1], answer.code, answer.stderr) == (answer.failed, 1, "")
    assert bench.names == BEFORE
    assert not (bench.home / "ran").exists()
    assert events[:count] == _EVENTS[:count]
    assert _EVENTS[count] not in events
    assert ("load" in [call[0] for call in bench.calls[len(bench.calls) // 2 :]]) is (count == 3)


@needs_root
@pytest.mark.parametrize("count", [4, 5, 6])
def test_names_that_the_log_announced_and_cannot_confirm_are_told_as_what_they_are(
    bench: Bench, small: Path, count: int
) -> None:
    answer, events = serve_with_room_for(bench, small, count)
    assert answer.failed == ("failed refused the images have their names, but the receiver's log cannot be written")
    assert answer.code == 1
    assert "naming" in events
    assert bench.names.keys() == {*BEFORE, NAME}
    assert (bench.home / "ran").exists() is (count == 6)


@needs_root
def test_a_session_of_which_the_log_has_all_but_the_end_is_done(bench: Bench, small: Path) -> None:
    answer, events = serve_with_room_for(bench, small, 7)
    assert (answer.lines[-1], answer.code, answer.stderr) == ("done", 0, "")
    assert events == _EVENTS[:-1]


def test_the_log_tells_of_names_before_they_are_given(bench: Bench) -> None:
    bench.engine["say"] = {"tag": [1, "", "Error: no\n"]}
    bench.save()
    assert bench.serve(Shipment().session()).failed == "failed tag Error: no"
    assert [event["event"] for event in bench.events][-3:] == ["naming", "failed", "end"]
    assert list(bench.events[-3]["images"]) == [NAME]
