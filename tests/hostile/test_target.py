"""A target that lies, hangs or shouts is told of in one sentence, in bounds."""

from pathlib import Path

import pytest

from hostile import layouts, target
from hostile.claims import clean_json, one_sentence
from hostile.command import Command
from hostile.conduits import hostile
from hostile.selection import params


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> layouts.ImageFolder:
    return layouts.ImageFolder(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("case", params(target.CASES, 45))
def test_a_hostile_target_is_told_of(case: target.Case, layerferry: Command, images: layouts.ImageFolder) -> None:
    run = layerferry("push", images.of(case.size), "--name", "app:1", *case.options, "--", *hostile(case.name))
    one_sentence(run, case.codes, case.says)


@pytest.mark.parametrize(
    "name", ["verdict: painted", "greeting: engine painted", "before: painted noise", "done: painted"]
)
def test_nor_does_it_paint_an_object(name: str, layerferry: Command, images: layouts.ImageFolder) -> None:
    run = layerferry("push", images.of(3000), "--name", "app:1", "--json", "--", *hostile(name))
    assert len(clean_json(run)["results"]) == 1
    assert run.code in {0, 4, 5}


def test_there_are_enough_of_them(tmp_path: Path) -> None:
    assert len({case.name for case in target.CASES}) == len(target.CASES) >= 60
