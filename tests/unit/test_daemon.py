import threading
from collections.abc import Iterator

import pytest

from layerferry.chunks import Ahead
from layerferry.sources.daemon.history import HistoryEntry, layer_entries


def entry(size: int, created_by: str = "RUN make") -> HistoryEntry:
    return HistoryEntry(size, created_by)


def test_sizes_are_those_of_the_entries_that_made_layers() -> None:
    assert [one.size for one in layer_entries([entry(5), entry(0, "ENV A=1"), entry(7), entry(0, 'CMD ["x"]')], 2)] == [
        5,
        7,
    ]


def test_an_empty_layer_is_told_from_what_makes_none() -> None:
    history = [entry(5), entry(0, "/bin/sh -c #(nop)  ENV A=1"), entry(0, "WORKDIR /"), entry(7)]
    assert [one.size for one in layer_entries(history, 3)] == [5, 0, 7]


def test_a_history_that_does_not_add_up_still_gives_a_size_for_each_layer() -> None:
    assert [one.size for one in layer_entries([entry(5)], 3)] == [5, 0, 0]
    assert [one.size for one in layer_entries([], 1)] == [0]
    assert [one.size for one in layer_entries([entry(1), entry(2), entry(3)], 2)] == [1, 2]


def test_reading_ahead_gives_the_same_chunks() -> None:
    assert list(Ahead(bytes([number]) for number in range(100))) == [bytes([number]) for number in range(100)]


def test_reading_ahead_hands_an_error_on() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"1"
        raise OSError("gone")

    stream = iter(Ahead(chunks()))
    assert next(stream) == b"1"
    with pytest.raises(OSError, match="gone"):
        next(stream)


def test_reading_ahead_begins_before_anybody_asks() -> None:
    asked = threading.Event()

    def chunks() -> Iterator[bytes]:
        asked.set()
        yield b"1"

    stream = Ahead(chunks())
    assert asked.wait(timeout=60)
    assert list(stream) == [b"1"]


def test_reading_ahead_stops_when_nobody_reads_on() -> None:
    before = threading.active_count()
    stream = Ahead(iter(lambda: b"endless", b""), depth=2)
    next(iter(stream))
    stream.close()
    for thread in threading.enumerate()[before:]:
        thread.join(timeout=5)
    assert threading.active_count() == before
