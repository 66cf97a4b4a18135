"""A layout that lies, or that unpacks to more than there is room for, harms nobody."""

from pathlib import Path

import pytest

from hostile import layouts
from hostile.claims import one_sentence, only_asked
from hostile.command import Command
from hostile.conduits import honest
from hostile.selection import params


@pytest.mark.parametrize("case", params(layouts.CASES, 32))
def test_a_hostile_layout_reaches_no_target(case: layouts.Case, layerferry: Command, tmp_path: Path) -> None:
    folder, record = case.write(tmp_path / "app"), tmp_path / "heard"
    more = ("--dry-run",) if case.dry else ()
    run = layerferry("push", f"oci:{folder}", "--name", "app:1", *more, "--", *honest(record, *case.target))
    one_sentence(run, case.codes, case.says)
    only_asked(record, sent=not case.dry)


def test_an_honest_layout_is_believed(layerferry: Command, tmp_path: Path) -> None:
    record = tmp_path / "heard"
    run = layerferry("push", f"oci:{layouts.Case('honest').write(tmp_path / 'app')}", "--", *honest(record))
    one_sentence(run, (0,), "verified")
    assert (
        record.read_text().endswith("tag docker.io/library/app:1\ndone\n")
        or "docker.io/library/app:1" in record.read_text()
    )


def test_there_are_enough_of_them() -> None:
    assert len({case.name for case in layouts.CASES}) == len(layouts.CASES) >= 60
