"""A name that goes back, on several targets: what a broken line and a signal leave of it."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest

from layerferry import rollback
from layerferry.cli import rollback_command
from layerferry.errors import ConnectError, DeadlineError, Halt, Interrupted, LayerferryError
from layerferry.push.follow_up import FollowUp
from layerferry.push.following import Followed
from layerferry.rollback import Exchange, How
from layerferry.targets.address import Target
from layerferry.targets.link import Link

ONE, TWO = (f"sha256:{letter * 64}" for letter in "ab")
APP, KEPT = "docker.io/library/app:1", "docker.io/library/app:previous"


@pytest.fixture
def hosts() -> Iterator[list[Target]]:
    with contextlib.ExitStack() as stack:
        yield [Target(name, Link(stack, False, MagicMock())) for name in ("web1", "web2", "web3")]


@pytest.fixture
def conversation(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """One with a docker that has both names."""
    made = Mock(greeting=lambda: Mock(engine="docker"))
    monkeypatch.setattr(rollback, "Conversation", lambda *_, **__: made)
    monkeypatch.setattr(rollback, "resolve", lambda *_: {APP: ONE, KEPT: TWO})
    return made


def test_a_line_that_breaks_says_that_nobody_knows_what_came_of_it(hosts: Sequence[Target], conversation: Mock) -> None:
    """To do it once more would exchange the two again, and bring back what was rolled back."""
    broke = ConnectError("web1: the line broke", hint="Look at it. The new image may be under app:1.")
    broke.named = "The new image may be under app:1."
    conversation.commit = Mock(side_effect=broke)
    done = rollback.exchange(hosts[0], (APP, KEPT), How())
    assert done.error is broke
    assert broke.hint.startswith("Look at it. Whether app:1 has gone back is not known: look there first")
    assert "new image" not in broke.hint


def test_a_line_that_breaks_before_says_what_it_said(hosts: Sequence[Target], conversation: Mock) -> None:
    conversation.greeting = Mock(side_effect=ConnectError("web1: the line broke", hint="Look at it."))
    done = rollback.exchange(hosts[0], (APP, KEPT), How())
    assert done.error is not None
    assert done.error.hint == "Look at it."


def exchanged(hosts: Sequence[Target]) -> list[Exchange]:
    chosen: Any = Mock(timeout=0.0)
    given = {"as_json": True, "engine": "", "dry_run": False}
    return rollback_command._exchange(hosts, "app:1", "previous", chosen, given)


@pytest.mark.parametrize(
    ("when", "error"),
    [
        (when, error)
        for when in ("connecting", "the names", "the command")
        for error in (Interrupted(), DeadlineError("gave up after 5 s"))
    ],
)
def test_a_signal_ends_it_for_all_targets_and_what_is_done_is_told(
    hosts: Sequence[Target], conversation: Mock, monkeypatch: pytest.MonkeyPatch, when: str, error: LayerferryError
) -> None:
    """On the second of three."""
    rounds = iter((None, error))

    def halt(here: str) -> None:
        if here == when and (halted := next(rounds)):
            raise Halt(halted)

    def follow(*_: object) -> Followed:
        try:
            halt("the command")
        except Halt as halted:
            return Followed(error=halted.error)
        return Followed()

    conversation.ask = lambda *_: halt("connecting")
    conversation.commit = lambda *_: halt("the names")
    monkeypatch.setattr(rollback, "follow", follow)
    monkeypatch.setattr(FollowUp, "read", lambda *_, **__: FollowUp(b"true"))
    done = exchanged(hosts)
    assert [(one.target, one.error) for one in done] == [("web1", None), ("web2", error), ("web3", error)]
    assert [one.verified for one in done] == [True, when == "the command", False]
    assert json.loads(json.dumps([one.to_json() for one in done]))[2]["error"]["exit_code"] == error.exit_code


def test_a_target_that_fails_does_not_end_the_others(
    hosts: Sequence[Target], conversation: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FollowUp, "read", lambda *_, **__: None)
    conversation.commit = Mock(side_effect=[ConnectError("web1: the line broke"), None, None])
    assert [one.error is None for one in exchanged(hosts)] == [False, True, True]
