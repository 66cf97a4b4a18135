"""Whose a throw-away name of the receiver's is, and which of them may go."""

import os
import re

import pytest

from layerferry.receive.throw_away_names import left, new_name

OURS = new_name()
STAMP, _, PID, STARTED, *PLACE = OURS.partition(":")[2].split("-")


def name(pid: int = 1 << 29, started: str = STARTED, *, place: str = "-".join(PLACE)) -> str:
    return f"localhost/layerferry:{STAMP}-0123456789abcdef-{pid}-{started}-{place}"


def test_a_name_is_a_tag_that_an_engine_takes_and_tells_its_process() -> None:
    assert re.fullmatch(r"localhost/layerferry:[0-9a-f-]{40,128}", OURS)
    assert str(os.getpid()) == PID
    assert new_name() != OURS
    assert list(left([OURS])) == []


def test_what_a_dead_process_of_here_has_left_goes() -> None:
    assert list(left([name()])) == [name()]
    again = name(os.getpid(), "1")
    assert list(left([again])) == [again], "the number is another process's now"


@pytest.mark.parametrize(
    "other",
    [
        name(place="0123abcd-4026531836-0"),
        "localhost/layerferry:0123456789abcdef0123456789abcdef",
        f"localhost/layerferry:{STAMP}-0123456789abcdef",
        name().replace("localhost", "example.org"),
        f"{name()}x",
        f"{name()}\n",
        "",
    ],
    ids=["another host", "an older form", "no process", "not ours", "a letter more", "a line more", "none"],
)
def test_what_is_not_of_here_or_has_another_form_stays(other: str) -> None:
    assert list(left([other])) == []
