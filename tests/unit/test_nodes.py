"""The nodes that run what follows a push to a registry: what a signal does to them."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from layerferry.errors import (
    ConnectError,
    DeadlineError,
    FollowError,
    Halt,
    Interrupted,
    LayerferryError,
    TargetError,
)
from layerferry.push import fan_out
from layerferry.push import nodes as module
from layerferry.push.follow_up import After, FollowUp
from layerferry.push.following import Followed
from layerferry.push.nodes import Nodes
from layerferry.push.request import NO_ROUTE, Options
from layerferry.result import Result
from layerferry.targets.address import Target
from layerferry.targets.link import Link


def test_a_signal_while_nodes_are_begun_hangs_up_on_those_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    hung_up, was_in_time = threading.Event(), []

    class Pool(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **words: Any) -> Any:
            if self._threads:
                raise Halt(Interrupted())
            return super().submit(*arguments, **words)

    def at_work(*_: object) -> Followed:
        was_in_time.append(hung_up.wait(5))
        return Followed()

    monkeypatch.setattr(module, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(Nodes, "_on_one", at_work)
    with contextlib.ExitStack() as stack:
        hosts = [Target(name, Link(stack, False, lambda: pytest.fail("nothing connects"))) for name in ("one", "two")]
        for host in hosts:
            cast("Any", host.connect).hang_up = hung_up.set
        here = Nodes(Options(nodes=tuple(hosts)), FollowUp(b"true"), lambda _: None, lambda *_: False)
        (result,) = here.follow([Result("app:1", "registry", NO_ROUTE, verified=True)])
    assert was_in_time == [True]
    assert isinstance(result.error, Interrupted)


def test_a_signal_ends_the_pause_before_a_nodes_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the push would end when the pause does, an hour later."""
    monkeypatch.setattr(fan_out, "_PAUSE", 3600.0)
    pauses, waited = threading.Event(), threading.Event()

    def refuse() -> Any:
        raise ConnectError("Connection timed out", transient=True)

    def wait(*_: object) -> None:
        assert pauses.wait(10)
        raise Halt(Interrupted())

    def pause(*arguments: Any) -> bool:
        pauses.set()
        goes_on = fan_out._pause(lambda _: None, *arguments)
        waited.set()
        return goes_on

    monkeypatch.setattr(module, "wait", wait)
    with contextlib.ExitStack() as stack:
        node = Target("node", Link(stack, False, refuse))
        here = Nodes(Options(nodes=(node,), retries=3), FollowUp(b"true"), lambda _: None, pause)
        (result,) = here.follow([Result("app:1", "registry", NO_ROUTE, verified=True)])
    assert waited.is_set()
    assert isinstance(result.error, (Interrupted, FollowError))


ERRORS: dict[str, LayerferryError | None] = {
    "nothing": None,
    "the push": TargetError("web: its disk is full"),
    "what follows": FollowError("web: the image is there, but the command after it ended with status 1"),
    "a signal": Interrupted(),
    "the time": DeadlineError("gave up after 5 s"),
}
OFF, MISSING, BEFORE = "the push was broken off", "web has not got the image", "it failed on web, which comes before"


@pytest.mark.parametrize(
    ("after", "failed", "why"),
    [
        *((after, "nothing", "") for after in After),
        *((after, ended, OFF) for after in After for ended in ("a signal", "the time")),
        (After.EACH, "the push", ""),
        (After.EACH, "what follows", ""),
        (After.ALL, "the push", MISSING),
        (After.ALL, "what follows", ""),
        (After.ONE_BY_ONE, "the push", BEFORE),
        (After.ONE_BY_ONE, "what follows", BEFORE),
    ],
)
def test_how_hosts_fared_says_whether_nodes_go_on(
    monkeypatch: pytest.MonkeyPatch, after: After, failed: str, why: str
) -> None:
    done: list[Target] = []

    def on_one(_: Nodes, node: Target, __: object) -> Followed:
        done.append(node)
        return Followed()

    monkeypatch.setattr(Nodes, "_on_one", on_one)
    with contextlib.ExitStack() as stack:
        node = Target("node", Link(stack, False, lambda: pytest.fail("nothing connects")))
        here = Nodes(Options(nodes=(node,)), FollowUp(b"true", after=after), lambda _: None, lambda *_: False)
        registry = Result("app:1", "registry", NO_ROUTE, verified=True)
        (result,) = here.follow([registry], [Result("app:1", "web", NO_ROUTE, error=ERRORS[failed])])
    assert done == ([] if why else [node])
    assert (result.error.message if result.error else "").endswith(why)
