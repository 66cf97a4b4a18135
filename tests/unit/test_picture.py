"""The picture of the display is what a terminal would show: of what rich writes, the last word on each line."""

from xml.etree import ElementTree as ET

import pytest

import picture

_UP, _CLEAR = "\x1b[1A", "\x1b[2K"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("a\r\nb\r\n", "a\nb"),
        (f"kept\r\nbar 1\r{_CLEAR}bar 2\r{_CLEAR}done\r\n", "kept\ndone"),
        (f"one\r\ntwo\r{_CLEAR}{_UP}{_CLEAR}new", "new"),
        ("\x1b[?25l\x1b[1mbold\x1b[0m", "\x1b[1mbold\x1b[0m"),
    ],
)
def test_a_screen_has_what_was_written_last(written: str, shown: str) -> None:
    screen = picture.Screen()
    screen.write(written)
    assert screen.shown == shown


def test_the_half_is_of_the_middle_of_a_transfer() -> None:
    output = "prod\r\n" + "".join(f"\r{_CLEAR}{'━' * done}{'─' * (10 - done)}" for done in range(11))
    half, end = picture.pictures(f"{output}\r{_CLEAR}ended\r\n")
    assert half == f"prod\n{'━' * 5}{'─' * 5}"
    assert end == "prod\nended"


def test_the_picture_asks_for_nothing_of_others() -> None:
    drawn = picture.drawn("half", "\x1b[32mend\x1b[0m")
    ET.fromstring(drawn)
    assert "@font-face" not in drawn
    assert "url(http" not in drawn
