"""Whose a name is under which a daemon pushes to us, and which of them may go."""

import os
import re
import time
from collections.abc import Iterable

import pytest

from layerferry.errors import SourceError
from layerferry.sources.daemon.push_tags import PUSH_TAG, left, sweep

NOW = int(time.time())
DAY = 24 * 3600
HERE = PUSH_TAG.rpartition("-")[2]
ELSEWHERE = "0123456789ab"
REPOSITORY = "127.0.0.1:41873/layerferry/" + "5f" * 16


def name(age: int = 60, pid: int = 4242, place: str = HERE, repository: str = REPOSITORY) -> str:
    return f"{repository}:layerferry-{NOW - age:08x}-{pid}-{place}"


def found(*names: str, alive: Iterable[int] = ()) -> list[str]:
    return list(left(names, NOW, lives=set(alive).__contains__))


def test_the_tag_of_this_run_is_one_that_docker_takes_and_that_stays_while_we_live() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", PUSH_TAG)
    assert PUSH_TAG.split("-")[2] == str(os.getpid())
    ours = f"{REPOSITORY}:{PUSH_TAG}"
    assert list(left([ours], NOW)) == []
    assert found(ours) == [ours], "without a process that lives it would go: it is read"


def test_what_a_process_of_here_has_left_goes_at_once() -> None:
    assert found(name()) == [name()]
    assert found(name(repository="registry.internal:5000/layerferry/" + "a" * 16)) != []


def test_what_lives_stays_here_and_elsewhere() -> None:
    assert found(name(), alive=[4242]) == []
    assert found(name(place=ELSEWHERE)) == []
    assert found(name(DAY, place=ELSEWHERE)) == []


def test_after_days_all_of_it_goes() -> None:
    assert found(name(3 * DAY, place=ELSEWHERE)) == [name(3 * DAY, place=ELSEWHERE)]
    assert found(name(3 * DAY), alive=[4242]) == [name(3 * DAY)], "the number is another process's now"


@pytest.mark.parametrize(
    "other",
    [
        "app:1",
        "127.0.0.1:5000/layerferry/app:layerferry",
        "127.0.0.1:5000/layerferry/app:layerferry-6b49d200-1-0123456789ab",
        f"{REPOSITORY}:layerferry",
        f"{REPOSITORY}:latest",
        f"{REPOSITORY}:layerferry-6b49d200-0-0123456789ab",
        f"acme/{REPOSITORY}:layerferry-6b49d200-1-{HERE}",
        f"{REPOSITORY}:layerferry-6b49d200-1-{HERE}x",
        f"{REPOSITORY}:layerferry-6b49d200-1-{HERE}\n",
        "<none>:<none>",
        "",
    ],
)
def test_what_has_not_wholly_our_form_is_nobodys_to_remove(other: str) -> None:
    assert found(other) == []


def test_what_was_removed_is_told_in_a_sentence() -> None:
    removed: list[str] = []
    names = [name(3 * DAY, pid, ELSEWHERE) for pid in range(1, 4)]
    assert sweep(lambda: ["app:1"], removed.append) == ""
    assert sweep(lambda: [*names, "app:1"], removed.append).startswith("removed 3 names that earlier runs")
    assert removed == names


def test_what_this_run_could_not_take_away_goes_at_its_end() -> None:
    """The daemon was restarted in the middle; nothing is told of it, since nobody was killed."""
    removed: list[str] = []
    assert sweep(lambda: [f"{REPOSITORY}:{PUSH_TAG}", f"acme/app:{PUSH_TAG}"], removed.append) == ""
    assert removed == [f"{REPOSITORY}:{PUSH_TAG}"]


def test_a_daemon_with_very_many_is_not_asked_for_ever() -> None:
    removed: list[str] = []
    sweep(lambda: [name(3 * DAY, pid, ELSEWHERE) for pid in range(1, 5000)], removed.append)
    assert len(removed) == 100


def test_a_daemon_that_refuses_fails_no_push() -> None:
    def refuse(_name: str = "") -> list[str]:
        raise SourceError("no")

    assert sweep(refuse, lambda _: None) == ""

    def remove(_name: str) -> None:
        raise SourceError("no")

    assert sweep(lambda: [name(3 * DAY)], remove) == ""
