"""Hostile clients against a receiver process: each is refused, in one sentence, and leaves nothing."""

import re
import resource
import shutil
from pathlib import Path

import pytest

from fuzz.bench import BEFORE, Bench
from fuzz.shipment import NAME, Shipment
from fuzz.tricks import TRICKS, Trick
from fuzz.tricks_streams import frame, xz
from layerferry.oci import limits
from layerferry.receive import decompression
from layerferry.receive.decompression import Expander, ZstdDecoder
from layerferry.receive.refusal import Refusal
from layerferry.receive.zstd_frames import Walker


def test_there_are_enough_of_them() -> None:
    assert len(TRICKS) >= 200
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
    shipment.expect = [
        "learn docker.io/library/vault:1 192.0.2.1:5000/loot:1",
        "learn a b c d",
        *shipment.header()[4:-1],
    ]
    answer = bench.serve(shipment.session())
    assert "learned no" in answer.lines
    assert bench.names.keys() == {*BEFORE, NAME}
    assert not [call for call in bench.calls if "push" in call or "192.0.2.1:5000/loot:1" in call]


@pytest.mark.parametrize("zstd", ["", "/usr/bin/zstd"])
def test_takes_no_zstd_where_there_is_none_or_its_memory_has_no_bound(
    monkeypatch: pytest.MonkeyPatch, zstd: str
) -> None:
    """As on macOS: who does not announce it is not sent it."""
    if zstd:
        monkeypatch.delattr(resource, "prlimit")
    expander = Expander(zstd, {})
    assert expander.methods == ("none", "gzip")
    with pytest.raises(Refusal, match="compression zstd is not taken"):
        expander.open("zstd")


needs_zstd = pytest.mark.skipif(not shutil.which("zstd"), reason="no zstd binary")


def unpacked(decoder: ZstdDecoder, data: bytes) -> int:
    """How many bytes come out."""
    try:
        return sum(map(len, decoder.feed(data))) + sum(map(len, decoder.finish()))
    finally:
        decoder.close()


@needs_zstd
def test_the_process_that_unpacks_zstd_has_little_memory() -> None:
    decoder = ZstdDecoder(shutil.which("zstd") or "", {})
    found = resource.prlimit(decoder._process.pid, resource.RLIMIT_AS)
    decoder.close()
    assert found == (limits.ZSTD_MEMORY, limits.ZSTD_MEMORY)


@needs_zstd
def test_the_largest_window_that_is_taken_fits_into_it() -> None:
    assert unpacked(ZstdDecoder(shutil.which("zstd") or "", {}), frame(bytes(1 << 20), window=0x88)) == 1 << 20


@needs_zstd
def test_should_a_foreign_stream_get_there_its_dictionary_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Walker, "feed", lambda *_: None)
    monkeypatch.setattr(Walker, "finish", lambda *_: None)
    with pytest.raises(Refusal, match="the zstd stream is broken"):
        unpacked(ZstdDecoder(shutil.which("zstd") or "", {}), frame(b"") + xz(bytes(64 << 20)))


def test_a_zstd_that_does_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "zstd"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(decompression, "_PATIENCE", 0.1)
    with pytest.raises(Refusal, match=r"^zstd does not get on$"):
        unpacked(ZstdDecoder(str(program), {"PATH": "/usr/bin:/bin"}), frame(b"x"))
