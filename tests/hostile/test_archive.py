"""An archive that lies, or that unpacks to more than it should, harms nobody."""

from pathlib import Path

import pytest

from hostile import archives
from hostile.claims import one_sentence, only_asked
from hostile.command import Command
from hostile.conduits import honest
from hostile.selection import params


@pytest.mark.parametrize("case", params(archives.CASES, 30))
def test_a_hostile_archive_reaches_no_target(case: archives.Case, layerferry: Command, tmp_path: Path) -> None:
    archive, record = tmp_path / "app.tar", tmp_path / "heard"
    case.write(archive)
    more = ("--dry-run",) if case.dry else ()
    run = layerferry("push", f"archive:{archive}", "--name", "app:1", *more, "--", *honest(record))
    one_sentence(run, case.codes, case.says)
    only_asked(record, sent=not case.dry)


def test_an_honest_archive_is_believed(layerferry: Command, tmp_path: Path) -> None:
    archive, record = tmp_path / "app.tar", tmp_path / "heard"
    archive.write_bytes(archives.HONEST)
    run = layerferry("push", f"archive:{archive}", "--", *honest(record))
    one_sentence(run, (0,), "verified")
    assert record.read_text().endswith("done\n")


def test_there_are_enough_of_them() -> None:
    assert len({case.name for case in archives.CASES}) == len(archives.CASES) >= 60
