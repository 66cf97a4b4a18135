"""A docker daemon that lies harms nobody, and is told of in one sentence."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile import daemon
from hostile.claims import one_sentence, only_asked
from hostile.command import Command
from hostile.conduits import honest
from hostile.selection import params
from hostile.serving import Playing, serving

ALWAYS = {case.name for case in daemon.INJECTIONS}


@pytest.fixture(scope="module")
def playing() -> Iterator[Playing]:
    with tempfile.TemporaryDirectory(prefix="lf-") as folder, serving(Path(folder) / "s") as server:
        yield server


def push(layerferry: Command, playing: Playing, case: daemon.Case, record: Path, *more: str) -> None:
    playing.play(case.answering())
    run = layerferry(
        *("push", "app:1", *case.options, *more, "--", *honest(record)),
        env={"DOCKER_HOST": playing.address},
    )
    one_sentence(run, case.codes, case.says)


@pytest.mark.parametrize("case", params(daemon.CASES, 38, ALWAYS))
def test_a_hostile_daemon_reaches_no_target(
    case: daemon.Case, playing: Playing, layerferry: Command, tmp_path: Path
) -> None:
    record = tmp_path / "heard"
    push(layerferry, playing, case, record, *(("--dry-run",) if case.dry else ()))
    if 0 not in case.codes or case.dry:
        only_asked(record, sent=not case.dry)


@pytest.mark.parametrize("case", params(daemon.INJECTIONS, 4))
def test_nor_where_something_would_be_sent(
    case: daemon.Case, playing: Playing, layerferry: Command, tmp_path: Path
) -> None:
    record = tmp_path / "heard"
    push(layerferry, playing, case, record)
    only_asked(record)


def test_an_honest_daemon_is_believed(playing: Playing, layerferry: Command, tmp_path: Path) -> None:
    record = tmp_path / "heard"
    push(layerferry, playing, daemon.Case("honest", {}, (0,), "verified"), record)
    assert f"image {daemon.PICTURE.id}" in record.read_text().splitlines()
    assert record.read_text().endswith("\ndone\n")


def test_the_beginning_of_an_id_needs_a_name(playing: Playing, layerferry: Command, tmp_path: Path) -> None:
    """It was taken for a name, and the target's image was called `9f2c41`."""
    short, record = daemon.PICTURE.id[7:13], tmp_path / "heard"
    shown = {
        f"/images/{short}/json": daemon.HONEST["/images/app:1/json"],
        f"/images/{short}/history": daemon.HONEST["/images/app:1/history"],
    }
    playing.play(daemon.Case("short", shown).answering())
    words = ("--route", "export", "--", *honest(record))
    refused = layerferry("push", short, *words, env={"DOCKER_HOST": playing.address})
    one_sentence(refused, (2,), f"{short} has no name to give it on the target")
    only_asked(record)
    named = layerferry("push", short, "--name", "app:2", *words, env={"DOCKER_HOST": playing.address})
    one_sentence(named, (0,), "app:2 is sha256:")


def test_there_are_enough_of_them() -> None:
    assert len({case.name for case in daemon.CASES}) == len(daemon.CASES) >= 60
