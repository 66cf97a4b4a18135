"""Layers on disk: a write that takes less than it is given, and a disk that is full, lose nothing without a word."""

import errno
import io
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from layerferry import disk
from layerferry.compression.stream import Compression
from layerferry.disk import KeptFile
from layerferry.errors import SourceError
from layerferry.oci.content import Blob
from layerferry.oci.image import MEDIA_TYPE_LAYER_GZIP, Descriptor, digest_of
from layerferry.push.kept_layers import KeptLayers


class Short(io.RawIOBase):
    """A file that takes a few bytes at a time, and is full after `room`."""

    def __init__(self, at_once: int, room: int) -> None:
        self.taken = b""
        self._at_once, self._room = at_once, room

    def write(self, data: Any) -> int:
        if len(self.taken) >= self._room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.taken += bytes(data[: self._at_once])
        return min(self._at_once, len(data))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Short:
    file = Short(1, 3)
    opened = Path.open

    def open_short(path: Path, mode: str, **options: Any) -> Any:
        found = opened(path, mode, **options)
        if "x" not in mode:
            return found
        found.close()
        return file

    monkeypatch.setattr(Path, "open", open_short)
    return file


def blob(data: bytes) -> Blob:
    return Blob("sha256:" + "a" * 64, Descriptor(MEDIA_TYPE_LAYER_GZIP, digest_of(data), len(data)), iter([data]))


def test_all_of_it_is_written(short: Short, tmp_path: Path) -> None:
    with KeptFile(tmp_path / "layer", 3) as file:
        assert file.write(b"abc") == file.written == 3
    assert short.taken == b"abc"


def test_a_full_disk_is_told_of_with_its_folder_and_its_room(short: Short, tmp_path: Path) -> None:
    with KeptFile(tmp_path / "layer", 10) as file, pytest.raises(SourceError) as caught:
        file.write(b"abcde")
    free = rf"layers cannot be kept in {tmp_path}: No space left on device, \d+ bytes free, 10 needed"
    caught.match(free)
    assert caught.value.exit_code == 3
    assert "TMPDIR" in caught.value.hint


@pytest.mark.parametrize(("size", "needed"), [(10, "more needed for a layer of 10 bytes"), (0, "more needed")])
def test_of_a_layer_that_is_packed_meanwhile_its_size_is_told(
    short: Short, tmp_path: Path, size: int, needed: str
) -> None:
    """And not what is written at the moment."""
    with KeptFile(tmp_path / "layer", size, exact=False) as file, pytest.raises(SourceError, match=f"free, {needed}$"):
        file.write(b"abcde")


@pytest.mark.parametrize(("size", "needed"), [(10, "more needed for a layer of 10 bytes"), (0, "more needed")])
def test_so_it_is_where_the_disk_is_looked_at_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, needed: str
) -> None:
    monkeypatch.setattr(disk, "_LOOK_EVERY", 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 1000, 0))
    with KeptFile(tmp_path / "other", size, exact=False) as file:
        file.write(b"a")
        with pytest.raises(SourceError, match=f"free, {needed}$"):
            file.write(b"a")


def test_what_the_disk_has_no_room_for_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 900, 100))
    with pytest.raises(SourceError, match=f"cannot be kept in {tmp_path}: 100 bytes free, 101 needed"):
        KeptFile(tmp_path / "layer", 101)
    with KeptFile(tmp_path / "layer", 100), KeptFile(tmp_path / "packed", 101, exact=False):
        pass


def test_the_disk_is_looked_at_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others write to it, too; whoever fills it to the last byte harms them."""
    free = [100]
    monkeypatch.setattr(disk, "_LOOK_EVERY", 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 900, free[0]))
    with KeptFile(tmp_path / "layer", 100) as file:
        file.write(b"a" * 10)
        free[0] = 80
        with pytest.raises(SourceError, match="80 bytes free, 90 needed"):
            file.write(b"a")


def test_a_file_that_somebody_reads_is_not_written_into(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    with KeptFile(path, 3) as file:
        file.write(b"old")
    with path.open("rb") as reader, KeptFile(path, 3) as file:
        file.write(b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_no_reader_waits_for_a_writer_that_has_failed(short: Short, tmp_path: Path) -> None:
    """It was asked for over and over at 100 % CPU: bytes that were counted as written never came."""
    news = threading.Condition()
    layers = KeptLayers(tmp_path, Compression(), news)
    with pytest.raises(SourceError, match="No space left on device") as caught:
        layers.keep(blob(b"abcde"), lambda: None)
    waits: list[None] = []

    def wait() -> None:
        waits.append(None)
        layers.forget_parts(caught.value)

    (found,) = layers.blobs(["sha256:" + "a" * 64], wait)
    with pytest.raises(SourceError, match="No space left on device"):
        list(found.chunks)
    assert len(waits) == 1


def test_a_file_that_is_shorter_than_it_was_is_told_of(tmp_path: Path) -> None:
    layers = KeptLayers(tmp_path, Compression(), threading.Condition())
    layers.keep(blob(b"abcde"), lambda: None)
    (tmp_path / ("a" * 64)).write_bytes(b"abc")

    def wait() -> None:
        raise AssertionError("it is whole: nothing is waited for")

    (found,) = layers.blobs(["sha256:" + "a" * 64], wait)
    with pytest.raises(SourceError, match="has been cut short"):
        list(found.chunks)
