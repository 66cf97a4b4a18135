"""A receiver that wants signed images, before clients who hold no signer's key: each is refused, with its own line."""

import re
from pathlib import Path

import pytest

from fuzz.bench import BEFORE
from fuzz.shipment import NAME
from hostile.signatures import CASES, Case, Stage
from signed import Keys


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def stage(tmp_path: Path, keys: Keys) -> Stage:
    return Stage(tmp_path, keys)


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 30
    assert len({case.name for case in CASES}) == len(CASES)


def test_an_honest_client_is_served(stage: Stage) -> None:
    answer = stage.serve()
    assert (answer.lines[-1], answer.code, answer.stderr) == ("done", 0, "")
    assert stage.bench.names.keys() == {*BEFORE, NAME}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refuses(case: Case, stage: Stage) -> None:
    case.play(stage)
    answer = stage.serve()
    assert re.fullmatch(f"failed refused .*({case.expected}).*", answer.failed)
    assert (answer.lines[-1], answer.code, answer.stderr) == (answer.failed, 1, "")
    assert stage.bench.names == BEFORE
    assert bool(stage.bench.loads) is case.loads
    assert not list(stage.bench.spool.iterdir())
    last = stage.bench.events[-2]
    assert last["event"] == "failed"
    assert re.search(case.expected, last["text"])
    assert "naming" not in [event["event"] for event in stage.bench.events]
