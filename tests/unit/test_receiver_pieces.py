"""What a receiver keeps of large layers: bounded in number and in bytes, whatever came before, and all of it can go."""

import hashlib
import shutil
from pathlib import Path

import pytest

from layerferry.oci import limits
from layerferry.oci.piece import content_of, name_of
from layerferry.receive.arrived_pieces import ArrivedPieces

LAYER, OTHER = (f"sha256:{letter * 64}" for letter in "ab")
MOST = 1000


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PIECES", 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "arrived" / "policy"


def piece(number: int, data: bytes, layer: str = LAYER) -> str:
    return name_of(content_of(layer, str(number)), data)


def session(folder: Path, *pieces: tuple[str, bytes], layers: tuple[str, ...] = (LAYER,)) -> list[str]:
    """A client keeps pieces, and hangs up; what it was told at first."""
    arrived = ArrivedPieces(folder, MOST)
    told = arrived.answer("0", layers)
    for name, data in pieces:
        assert b"".join(arrived.keep(name, [data])) == data
    arrived.close()
    return told


def kept(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_kept_is_told_and_taken_off_the_room(folder: Path) -> None:
    name = piece(1, bytes(300))
    assert session(folder, (name, bytes(300))) == [f"room {MOST}"]
    assert session(folder) == [f"kept {name}", f"room {MOST - 300}"]


def test_many_small_pieces_hide_no_large_ones(folder: Path) -> None:
    """So that each session could keep as many bytes again."""
    session(folder, *((piece(number, b"x"), b"x") for number in range(9)))
    assert len(kept(folder)) == limits.PIECES
    assert session(folder, (piece(10, bytes(500)), bytes(500)))[-1] == "room 0"
    assert sum(path.stat().st_size for path in kept(folder)) == limits.PIECES


def test_pieces_of_before_count_all(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
    for number in range(20):
        (folder / piece(number, bytes(100), OTHER)).write_bytes(bytes(100))
    assert session(folder, (piece(1, b"x"), b"x")) == ["room 0"]
    assert len(kept(folder)) == 20


def test_a_piece_of_no_layer_that_is_coming_is_passed_on_and_not_kept(folder: Path) -> None:
    session(folder, (piece(1, b"x", OTHER), b"x"))
    assert not folder.exists()


def test_the_same_piece_again_and_again_takes_room_each_time(folder: Path) -> None:
    session(folder, *[(piece(1, bytes(400)), bytes(400))] * 4, (piece(2, b"x"), b"x"))
    assert [path.name for path in kept(folder)] == [piece(1, bytes(400))]


@pytest.mark.parametrize("by", ["forget", "collect"])
def test_all_pieces_go_however_many_they_are(folder: Path, by: str) -> None:
    folder.mkdir(parents=True, mode=0o700)
    for number in range(20):
        data = hashlib.sha256(bytes((number,))).digest()
        (folder / piece(number, data)).write_bytes(data)
    arrived = ArrivedPieces(folder, MOST)
    told = arrived.answer("0", [LAYER])
    assert len(told) == limits.PIECES + 1
    assert getattr(arrived, by)() in {None, 20 * 32}
    arrived.close()
    assert not folder.exists()


def test_where_the_disk_has_no_room_nothing_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 0, 99))
    arrived = ArrivedPieces(folder, MOST)
    assert arrived.answer("100", [LAYER]) == ["room 0"]
    arrived.close()
