"""How slowly a registry may send: by a clock of the test's own."""

import io
from collections.abc import Callable

import pytest

from layerferry.oci import limits
from layerferry.registry_client.connections import _Paced


class Drip(io.RawIOBase):
    """Gives some bytes each time, after some seconds."""

    def __init__(self, count: int, seconds: float, pass_time: Callable[[float], None]) -> None:
        self._count, self._seconds, self._pass = count, seconds, pass_time

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        self._pass(self._seconds)
        return min(self._count, len(buffer))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [0.0]

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("layerferry.registry_client.connections.time.monotonic", lambda: now[0])
    return pass_time


def reads(paced: _Paced, most: int = 10_000) -> int:
    """How often it can be read before it is too slow."""
    paced.most = None
    for number in range(most):
        try:
            paced.read(1 << 16)
        except TimeoutError:
            return number
    return most


@pytest.mark.parametrize(("count", "seconds"), [(1, 50.0), (1, 1.0), (100, 1.0), (1_000, 10.0)])
def test_next_to_nothing_comes_to_an_end(clock: Callable[[float], None], count: int, seconds: float) -> None:
    assert reads(_Paced(Drip(count, seconds, clock))) <= limits.SILENCE / seconds + 1


@pytest.mark.parametrize(("count", "seconds"), [(1_000, 1.0), (1 << 16, 100.0), (1, 0.0)])
def test_a_slow_line_goes_on(clock: Callable[[float], None], count: int, seconds: float) -> None:
    assert reads(_Paced(Drip(count, seconds, clock)), 1_000) == 1_000


def test_the_first_byte_has_its_own_time_and_what_we_do_between_does_not_count(clock: Callable[[float], None]) -> None:
    paced = _Paced(Drip(10, 600.0, clock))
    assert len(paced.read(100)) == 10
    paced._raw = Drip(10, 0.0, clock)
    for _ in range(100):
        clock(600.0)
        assert len(paced.read(100)) == 10
