"""Who waits for long says so, and then ever more seldom."""

from layerferry.events import Patience
from layerferry.oci import limits


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_said_before_its_time_and_then_after_twice_as_long_each_time() -> None:
    said: list[str] = []
    clock = Clock()
    patience = Patience(said.append, clock)
    for _ in range(500):
        patience.look("it has given nothing")
        clock.now += 1
    assert said == [f"it has given nothing for {seconds} s" for seconds in (30, 60, 120, 240, 480)]
    assert limits.STALLED == 30


def test_whoever_moves_is_given_time_again() -> None:
    said: list[str] = []
    clock = Clock()
    patience = Patience(said.append, clock)
    for _ in range(20):
        clock.now += limits.STALLED - 1
        patience.look("x")
        patience.moved()
        assert patience.left == limits.STALLED
    assert said == []
