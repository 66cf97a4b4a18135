"""How long a daemon is waited for at the end of a push, by a clock of ours."""

import contextlib
from concurrent.futures import Future

import pytest

from layerferry.errors import Halt, Interrupted, SourceError
from layerferry.oci import limits
from layerferry.sources.daemon.last_words import Aside, LastWords


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_where_nothing_was_interrupted_it_takes_as_long_as_it_takes() -> None:
    words = LastWords(Clock())
    assert words.seconds() is None
    assert words.seconds(SourceError("it broke off")) is None


@pytest.mark.parametrize("raised", [Halt(Interrupted()), KeyboardInterrupt()])
def test_after_an_interruption_each_thing_has_some_seconds_and_all_of_them_some_more(raised: BaseException) -> None:
    clock = Clock()
    words = LastWords(clock)
    assert words.seconds(raised) == limits.LAST_WORDS
    clock.now += limits.FAREWELL - 1
    assert words.seconds() == 1, "it is remembered"
    clock.now += 2
    assert words.seconds() == 0


def test_the_interruption_that_is_being_handled_counts_and_one_behind_another_error() -> None:
    words, others, asked = LastWords(Clock()), LastWords(Clock()), list[float | None]()
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.raises(Halt))
        stack.callback(lambda: asked.append(words.seconds()))
        raise Halt(Interrupted())
    assert asked == [limits.LAST_WORDS]  # type: ignore[unreachable]
    error = SourceError("it keeps the name")
    error.__context__ = Halt(Interrupted())
    assert others.seconds(error) == limits.LAST_WORDS


def test_who_was_not_heard_in_time_is_told_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LAST_WORDS", 0.0)
    words = LastWords()
    assert not Aside(words).wait(Future[None](), Halt(Interrupted()))
    monkeypatch.undo()
    assert words.seconds() == 0


def test_what_is_done_aside_is_done_in_order_and_raises_where_it_is_asked_for() -> None:
    aside, done = Aside(LastWords()), list[int]()

    def fail() -> None:
        raise SourceError("it keeps the name")

    failed, last = aside.submit(fail), aside.submit(lambda: done.append(2))
    assert aside.wait(failed)
    assert aside.wait(last)
    assert done == [2]
    with pytest.raises(SourceError, match=r"^it keeps the name$"):
        failed.result()
