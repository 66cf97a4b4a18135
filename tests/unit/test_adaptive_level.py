"""Which level keeps a line busy, and what a compressor may take."""

import pytest

from layerferry.compression.adaptive_level import AdaptiveLevel, Passed

MB = 1 << 20
#: MB a second that a thread packs with each level, and what is left of them.
SPEED = {1: 390, 3: 218, 6: 80, 9: 45, 12: 24}
LEFT = {1: 0.33, 3: 0.28, 6: 0.26, 9: 0.25, 12: 0.22}


def settled(line: float, size: int = MB, threads: int = 2, pieces: int = 400, reading: float = 1e9) -> list[int]:
    """The levels of pieces that go over a line of so many MB a second, whose source gives so many."""
    adaptive = AdaptiveLevel(threads)
    levels = []
    for _ in range(pieces):
        level = adaptive.of(size)
        packing, left = size / MB / SPEED[level], size * LEFT[level]
        sending = left / MB / line
        read = size / MB / reading
        waited = max(0.0, packing / threads - sending - read)
        adaptive.passed(Passed(round(left), size, packing, waited, sending, waited + sending + read))
        levels.append(level)
    return levels


@pytest.mark.parametrize(("line", "level"), [(0.25, 12), (1.2, 12), (8, 12), (11, 9), (30, 3), (90, 3), (900, 1)])
def test_the_slower_the_line_the_higher_the_level(line: float, level: int) -> None:
    levels = settled(line)
    assert levels[0] == 3
    assert set(levels[-50:]) == {level}, "and it stays there"


def test_a_line_that_was_never_the_slowest_changes_nothing() -> None:
    assert set(settled(90, reading=20)) == {3}


def test_what_does_not_shrink_gets_the_first_level_and_what_follows_it_a_higher_one_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of a layer may be archives and pictures (seen at 100 mbit: 9 instead of 3 took a second in 18)."""
    monkeypatch.setitem(LEFT, 9, 1.0)
    assert set(settled(8)[8:]) == {3, 6, 9}, "it is left as soon as it is seen, and tried where data shrink again"
    for level in LEFT:
        monkeypatch.setitem(LEFT, level, 1.0)
    assert set(settled(8)) == {3}


def test_what_buffers_take_at_once_does_not_tell_that_a_line_is_quick() -> None:
    adaptive = AdaptiveLevel(2)
    for _ in range(12):
        adaptive.passed(Passed(300_000, MB, 0.01, 0.005, 0.0, 0.006))
    assert adaptive.of(MB) == 3


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_level_that_takes_too_much_memory_is_not_taken(threads: int, size: int) -> None:
    highest = max(settled(0.25, size * MB, threads))
    assert highest == (12 if size * threads <= 4 else 9)
