"""What follows a push, over a conversation whose other end says what it should not."""

import threading
from pathlib import Path
from typing import Any

import pytest

from layerferry.errors import ConnectError, FollowError
from layerferry.oci import limits
from layerferry.push import turns
from layerferry.push.follow_up import After, FollowUp
from layerferry.push.following import follow, not_done
from layerferry.push.turns import Turns


class Conversation:
    """Says lines, one by one, and nothing more."""

    target = "host"

    def __init__(self, *lines: str) -> None:
        self._lines = iter(lines)

    def tell(self, *_: object, **__: object) -> None:
        pass

    def hear(self, what: str, timeout: float) -> str | None:
        assert what
        assert timeout
        return next(self._lines, None)


def wanted(*, copies: tuple[str, ...] = (), seconds: float = 60.0) -> FollowUp:
    read = FollowUp.read("true", None, copies, after="each", on=(), seconds=seconds)
    assert read is not None
    return read


def after(said: Any, what: FollowUp) -> str:
    error = follow(said, what, [], lambda _: None, lambda: "The way back.").error
    assert isinstance(error, FollowError)
    return error.message


def test_a_command_that_says_no_word_of_ours_may_have_done_its_work() -> None:
    assert after(Conversation("odd"), wanted()) == (
        "the image is there, but the command after it may have done some of its work, or all: "
        "host does not say what the command does or how it has ended"
    )


def test_a_command_whose_time_is_over_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert after(Conversation("ran 0"), wanted(seconds=0)) == (
        "host: the image is there, but the command after it did not end within 0 s"
    )
    monkeypatch.setattr(limits, "ENDED", -1)
    assert "host does not end the command, whose time is over" in after(Conversation(), wanted(seconds=0))


def test_a_file_of_which_nobody_knows_whether_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert after(Conversation("odd"), wanted(copies=(f"{tmp_path}/file:file",))) == (
        "the image is there, but what was to follow was not done: host does not say whether the files were written"
    )


def test_what_was_not_begun_is_told() -> None:
    error = not_done("host", "its turn did not come").error
    assert error is not None
    assert error.message == "host: the image is there, but what was to follow was not done: its turn did not come"


def test_who_waits_for_its_turn_waits_no_more_once_all_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    ended.set()
    monkeypatch.setattr(turns, "_LOOK", 0)
    here = Turns(After.ALL, ["one", "two"], 2, ended)
    with here.at_work(0), pytest.raises(ConnectError, match=r"^the push was broken off$"):
        here.take(0)
