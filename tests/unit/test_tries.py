"""How often a registry is asked, and how long between: by urllib3's Retry, with bounds of ours."""

import email.utils
import time

import pytest
from urllib3 import HTTPResponse

from layerferry.registry_client import tries
from layerferry.registry_client.tries import TRIES, Tries


def answer(told: str | None) -> HTTPResponse:
    return HTTPResponse(status=503, headers={} if told is None else {"Retry-After": told})


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def test_there_are_four_and_each_wait_is_longer_and_never_the_same(waits: list[float]) -> None:
    left, numbers = Tries(), [1]
    while not left.last:
        left = left.increment()
        numbers.append(left.next)
        left.sleep()
    assert numbers == list(range(1, TRIES + 1))
    assert all(least <= wait <= least + 0.5 for least, wait in zip((0.5, 1, 2), waits, strict=True))
    assert len({Tries().increment().get_backoff_time() for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("told", "expected"),
    [("0", 0), ("7", 7), (" 7 ", 7), ("21", 20), ("9" * 5000, 20), ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
     (email.utils.formatdate(4e9, usegmt=True), 20)],
)  # fmt: skip
def test_a_registry_says_how_long_within_bounds(waits: list[float], told: str, expected: float) -> None:
    Tries().increment().sleep(answer(told))
    assert waits == [expected]


@pytest.mark.parametrize(
    "told",
    [None, "", "-1", "1.5", "soon", "9" * 5000 + "x", "Fri, 31 Dec 99999999999 23:59:59 GMT", "Mon, 99", "\x1b[2J"],
)
def test_what_is_no_time_is_none(waits: list[float], told: str | None) -> None:
    Tries().increment().sleep(answer(told))
    assert len(waits) == 1
    assert tries._BACKOFF <= waits[0] <= tries._BACKOFF + tries._JITTER


def test_a_wait_ends_with_the_push(waits: list[float]) -> None:
    def check() -> None:
        if len(waits) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        Tries(check=check).increment().sleep(answer("20"))
    assert waits == [tries._LOOK_EVERY] * 3
