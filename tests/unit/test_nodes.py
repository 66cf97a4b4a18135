"""The nodes that run what follows a push to a registry: what a signal does to them."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from layerferry.errors import Halt, Interrupted
from layerferry.push import nodes as module
from layerferry.push.follow_up import FollowUp
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
