"""Hostile clients against a receiver process: each is refused, in one sentence, and leaves nothing."""

import re
from pathlib import Path

import pytest

from fuzz.bench import BEFORE, Bench
from fuzz.shipment import NAME, Shipment
from fuzz.tricks import TRICKS, Trick
from layerferry.targets.receive.expand import Expander
from layerferry.targets.receive.refusal import Refusal


def test_there_are_enough_of_them() -> None:
    assert len(TRICKS) >= 60
    assert len({trick.name for trick in TRICKS}) == len(TRICKS)


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.name)
def test_refuses(trick: Trick, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    shipment = Shipment()
    trick.play(shipment)
    answer = bench.serve(shipment.session(), *trick.options)
    assert re.fullmatch(f"failed refused .*({trick.expected}).*", answer.failed)
    assert answer.lines[-1] == answer.failed
    assert answer.code == 1
    assert answer.stderr == ""
    assert bench.names == BEFORE
    assert trick.loads or not bench.loads
    assert not list(bench.spool.iterdir())
    assert bench.events[-2]["event"] == "failed"
    assert not [call for call in bench.calls if "push" in call]


@pytest.mark.parametrize("part", [0.02, 0.2, 0.5, 0.9])
def test_a_client_that_goes_leaves_nothing(part: float, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    data = Shipment().session()
    answer = bench.serve(data[: int(len(data) * part)])
    assert not answer.failed
    assert not bench.loads
    assert bench.names == BEFORE


def test_a_client_does_not_choose_where_an_image_is_pushed_to(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    shipment = Shipment()
    shipment.expect = ["learn docker.io/library/vault:1 192.0.2.1:5000/loot:1", *shipment.header()[4:-1]]
    answer = bench.serve(shipment.session())
    assert "learned no" in answer.lines
    assert bench.names.keys() == {*BEFORE, NAME}
    assert not [call for call in bench.calls if "push" in call or "192.0.2.1:5000/loot:1" in call]


def test_takes_no_zstd_where_there_is_no_zstd() -> None:
    assert Expander("", {}).methods == ("none", "gzip")
    with pytest.raises(Refusal, match="compression zstd is not taken"):
        Expander("", {}).open("zstd")
