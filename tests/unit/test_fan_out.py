"""Several targets: each one's results are there as soon as it is done, and stay, whatever becomes of the others."""

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, cast
from unittest.mock import Mock

import jsonschema  # type: ignore[import-untyped]
import pytest

from layerferry.errors import (
    ConnectError,
    DeadlineError,
    Halt,
    Interrupted,
    LayerferryError,
    PatchError,
    ResumeError,
    TargetError,
)
from layerferry.events import Event, Greeted, Warned
from layerferry.oci.content import Route
from layerferry.oci.image import Image, Layer, Platform, digest_of
from layerferry.oci.plan import Action, Inventory, plan
from layerferry.push import fan_out as module
from layerferry.push.delivery import Delivery, Item
from layerferry.push.fan_out import fan_out
from layerferry.push.request import NO_ROUTE, Options, Wanted
from layerferry.report import document
from layerferry.result import Bytes, Result, exit_code, failures
from layerferry.targets.address import AnyTarget, Target
from layerferry.targets.link import Link

WANTED = [Wanted("app:1", ("docker.io/library/app:1",)), Wanted("web:2", ("docker.io/library/web:2",))]


def results(target: str, error: LayerferryError | None = None) -> list[Result]:
    return [
        Result(item.reference, target, NO_ROUTE, names=item.names, verified=error is None, error=error)
        for item in WANTED
    ]


class Hosts:
    """Targets by how they behave; those that hang do so until somebody hangs up."""

    def __init__(self, stack: contextlib.ExitStack, *names: str) -> None:
        self.ended = threading.Event()
        self.hung = threading.Semaphore(0)
        self.targets = [Target(name, Link(stack, False, self._never)) for name in names]
        for target in self.targets:
            cast("Any", target.connect).hang_up = self.ended.set

    def _never(self) -> Any:
        raise AssertionError("nothing connects here")

    def deliver(self, _: object, target: AnyTarget, *__: object) -> list[Result]:
        match target.name.partition("-")[0]:
            case "good":
                return results(target.name)
            case "bad":
                return results(target.name, TargetError(f"{target.name}: its disk is full"))
            case "broken":
                raise ValueError("a fault of ours")
            case "just":  # it gets its answer in the very moment
                self.hung.release()
                assert self.ended.wait(10)
                return results(target.name)
        self.hung.release()
        assert self.ended.wait(10)
        return results(target.name, ConnectError(f"{target.name} closed the connection"))


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Hosts]]:
    with contextlib.ExitStack() as stack:

        def make(*names: str) -> Hosts:
            made = Hosts(stack, *names)
            monkeypatch.setattr(module, "deliver", made.deliver)
            return made

        yield make


def fan(hosts: Hosts, tell: Callable[[Sequence[Result]], None] = lambda _: None, jobs: int = 8) -> list[Result]:
    return fan_out(
        WANTED, hosts.targets, Options(jobs=jobs), lambda _: None, lambda: pytest.fail("no source"), tell=tell
    )


@contextlib.contextmanager
def handled(number: signal.Signals, error: LayerferryError) -> Iterator[None]:
    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Halt(error)

    before = signal.signal(number, ring)
    try:
        yield
    finally:
        signal.signal(number, before)


def interrupted_after(
    hosts: Hosts, *, hanging: int, done: int, error: LayerferryError, jobs: int = 8
) -> tuple[list[Result], list[str]]:
    """What comes of it when a signal comes as soon as so many hang and so many are done; and who was told of."""
    told: list[str] = []
    enough = threading.Semaphore(0)

    def tell(found: Sequence[Result]) -> None:
        told.append(found[0].target)
        enough.release()

    def watch() -> None:
        for _ in range(hanging):
            assert hosts.hung.acquire(timeout=10)
        for _ in range(done):
            assert enough.acquire(timeout=10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    watcher = threading.Thread(target=watch)
    with handled(signal.SIGTERM, error):
        watcher.start()
        found = fan(hosts, tell, jobs)
        watcher.join()
    return found, told


def test_each_is_told_when_it_is_done_and_all_are_given_in_order(hosts: Callable[..., Hosts]) -> None:
    told: list[str] = []
    here = hosts("good-1", "bad", "good-2")
    found = fan(here, lambda some: told.append(some[0].target))
    assert sorted(told) == ["bad", "good-1", "good-2"]
    assert [result.target for result in found] == ["good-1", "good-1", "bad", "bad", "good-2", "good-2"]


def test_a_single_ones_outcome_is_told_at_the_end(hosts: Callable[..., Hosts]) -> None:
    found = fan(hosts("good"), lambda _: pytest.fail("told too early"))
    assert found == results("good")


@pytest.mark.parametrize("error", [Interrupted(), DeadlineError("gave up after 5 s")])
def test_a_signal_ends_what_hangs_and_leaves_what_is_done(hosts: Callable[..., Hosts], error: LayerferryError) -> None:
    found, told = interrupted_after(hosts("hang", "good", "bad"), hanging=1, done=2, error=error)
    assert sorted(told) == ["bad", "good"]
    assert [(result.target, result.error) for result in found[:4]] == [
        ("hang", error), ("hang", error), ("good", None), ("good", None),
    ]  # fmt: skip
    assert [str(result.error) for result in found[4:]] == ["bad: its disk is full"] * 2
    assert [result.names for result in found[:2]] == [item.names for item in WANTED]


def test_who_ends_well_in_that_moment_has_ended_well(hosts: Callable[..., Hosts]) -> None:
    found, told = interrupted_after(hosts("hang", "just"), hanging=2, done=0, error=Interrupted())
    assert told == ["just"]
    assert [result.error is None for result in found] == [False, False, True, True]


def test_a_signal_while_a_thread_starts_loses_no_outcome(
    hosts: Callable[..., Hosts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Thread.start` waits for the new thread, and a signal that ends that wait leaves the pool without knowing it."""
    here = hosts("hang", "just")

    class Pool(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **words: Any) -> Any:
            submitted = super().submit(*arguments, **words)
            assert here.hung.acquire(timeout=10)
            if len(self._threads) == len(here.targets):
                self._threads.clear()  # type: ignore[attr-defined]
                raise Halt(Interrupted())
            return submitted

    monkeypatch.setattr(module, "ThreadPoolExecutor", Pool)
    told: list[str] = []
    returned = threading.Event()

    def tell(some: Sequence[Result]) -> None:
        returned.wait(0.2)  # whoever does not wait for this thread returns meanwhile
        told.append(some[0].target)

    found = fan(here, tell)
    assert told == ["just"]
    returned.set()
    assert [result.error is None for result in found] == [False, False, True, True]


def test_those_that_have_not_begun_have_its_error_too(hosts: Callable[..., Hosts]) -> None:
    here = hosts("hang-1", "hang-2", "good-3", "good-4")
    error = Interrupted()
    found, told = interrupted_after(here, hanging=2, done=0, error=error, jobs=2)
    assert told == []
    assert {result.target: result.error for result in found[:4]} == {"hang-1": error, "hang-2": error}
    assert {result.target for result in found} == {target.name for target in here.targets}


def test_a_fault_of_ours_is_no_result(hosts: Callable[..., Hosts]) -> None:
    with pytest.raises(ValueError, match="a fault of ours"):
        fan(hosts("hang", "broken"))


def test_a_single_target_has_the_signals_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        target = Target("host", Link(stack, False, lambda: pytest.fail("nothing connects here")))
        for raised in (Halt(DeadlineError("gave up")), Halt(Interrupted()), KeyboardInterrupt()):

            def run(*_: object, raised: BaseException = raised) -> list[Result]:
                raise raised

            monkeypatch.setattr(Delivery, "run", run)
            (one, two) = fan_out(WANTED, [target], Options(), lambda _: None, lambda: pytest.fail("no source"))
            assert one.error is two.error
            assert isinstance(one.error, DeadlineError | Interrupted)


# Further tries.


class Tries:
    """A target that fails some times before it does well."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *errors: LayerferryError) -> None:
        self.errors = list(errors)
        self.renewed = self.opened = 0
        self.events: list[Event] = []
        monkeypatch.setattr(module, "_PAUSE", 0.0)

    def push(self, retries: int, *names: str) -> list[Result]:
        with contextlib.ExitStack() as stack:
            targets = [Target(name, Link(stack, False, lambda: pytest.fail("nothing connects"))) for name in names]
            for target in targets:
                cast("Any", target.connect).renew = self.renew
            return fan_out(WANTED, targets, Options(retries=retries), self.events.append, self.open)

    def renew(self) -> None:
        self.renewed += 1

    def open(self) -> Any:
        self.opened += 1
        return contextlib.nullcontext()

    def run(self, _connect: object, open_source: Callable[[], Any]) -> list[Result]:
        open_source()
        if self.errors:
            raise self.errors.pop(0)
        return results("host")


BROKE = ConnectError("the connection to host broke after 5 bytes", transient=True)


@pytest.mark.parametrize("names", [("host",), ("host", "other")])
def test_what_may_pass_is_tried_again_as_often_as_is_allowed(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    tries = Tries(monkeypatch, BROKE, BROKE)
    monkeypatch.setattr(Delivery, "run", lambda _, *arguments: tries.run(*arguments))
    assert not failures(tries.push(3, *names))
    assert tries.renewed == 2
    warnings = [event.message for event in tries.events if isinstance(event, Warned)]
    assert warnings == ["the connection to host broke after 5 bytes; tried again in 0 s"] * 2


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TargetError("host: its engine does not run", transient=True), "its engine does not run; tried again in 0 s"),
        (PatchError("host: a file has gone"), "patches do not do, whole layers go: a file has gone"),
        (ResumeError("host: it is damaged"), "what an earlier try has left does not do, all goes again: it is damaged"),
    ],
)
def test_a_warning_about_a_target_names_it_once(
    monkeypatch: pytest.MonkeyPatch, error: LayerferryError, says: str
) -> None:
    tries = Tries(monkeypatch, error)
    monkeypatch.setattr(Delivery, "run", lambda _, *arguments: tries.run(*arguments))
    assert not failures(tries.push(1, "host"))
    assert [event for event in tries.events if isinstance(event, Warned)] == [Warned("host", says)]


def test_results_count_the_bytes_and_seconds_of_all_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    broke = [ConnectError("the connection broke", transient=True) for _ in range(2)]
    broke[0].sent, broke[1].sent = 70, 5
    tries = Tries(monkeypatch, *broke)
    monkeypatch.setattr(Delivery, "run", lambda _, *arguments: tries.run(*arguments))
    clock = iter([100.0, *[107.0] * 9])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    alone = results("host")
    told = tries.push(3, "host")
    assert [result.bytes.sent for result in told] == [alone[0].bytes.sent + 75, alone[1].bytes.sent]
    assert {result.seconds for result in told} == {7.0}


@pytest.mark.parametrize(
    ("retries", "error", "renewed"), [(1, BROKE, 1), (0, BROKE, 0), (3, ConnectError("it refused our key"), 0)]
)
def test_what_goes_on_failing_or_cannot_pass_fails(
    monkeypatch: pytest.MonkeyPatch, retries: int, error: LayerferryError, renewed: int
) -> None:
    tries = Tries(monkeypatch, *[error] * 9)
    monkeypatch.setattr(Delivery, "run", lambda _, *arguments: tries.run(*arguments))
    assert [result.error for result in tries.push(retries, "host")] == [error, error]
    assert tries.renewed == renewed


def test_the_names_that_an_earlier_try_gave_are_told_with_what_ends_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = TargetError("host: its engine does not run", hint="Start it.", transient=True)
    stopped.named = "The new image is already under app:1."
    stopped.hint += f" {stopped.named}"
    tries = Tries(monkeypatch, stopped, TargetError("host: its engine cannot be used", hint="Or choose another."))
    monkeypatch.setattr(Delivery, "run", lambda _, *arguments: tries.run(*arguments))
    (error, _) = [result.error for result in tries.push(3, "host")]
    assert error is not None
    assert error.hint == "Or choose another. The new image is already under app:1."


def test_nobody_tries_again_after_the_push_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = Tries(monkeypatch, BROKE)
    monkeypatch.setattr(Delivery, "run", lambda _, *arguments: tries.run(*arguments))
    ended = threading.Event()
    ended.set()
    with contextlib.ExitStack() as stack:
        target = Target("host", Link(stack, False, lambda: pytest.fail("nothing connects")))
        found = module.deliver(Delivery(WANTED, Options(), tries.events.append), target, tries.open, ended)
    assert [result.error for result in found] == [BROKE, BROKE]
    assert not [event for event in tries.events if isinstance(event, Warned)], "nothing is tried again"


def test_a_signal_while_the_next_try_is_waited_for_leaves_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    broke = ConnectError("the line broke", hint="Push again.", transient=True)
    broke.sent, broke.named = 70, "The new image may be under app:1."
    tries = Tries(monkeypatch, broke)
    monkeypatch.setattr(Delivery, "run", lambda _, *arguments: tries.run(*arguments))
    over = DeadlineError("gave up after 5 s", hint="--timeout sets it.")
    monkeypatch.setattr(module, "_pause", Mock(side_effect=Halt(over)))
    first, second = tries.push(3, "host")
    assert first.error is second.error is over
    assert over.hint == "--timeout sets it. The new image may be under app:1."
    assert (first.bytes.sent, second.bytes.sent, tries.renewed) == (70, 0, 0)


# What is known of a push that has failed.

ROUTE = Route("registry", "the daemon reaches 127.0.0.1:1")
LAYERS = Layer.chain([digest_of(b"base"), digest_of(b"new")], [5, 7])
IMAGE = Image("app:1", digest_of(b"config"), Platform("linux", "amd64"), LAYERS)


class Failing:
    """A destination that has a plan for each image, and fails while it is sent to."""

    has_platform = True
    follow = None

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *fails: tuple[int, BaseException]) -> None:
        self.fails = list(fails)
        self.sent = 0
        self.greets: list[Greeted] = [Greeted("host", "docker 28.5.2 (overlay2)", "linux/amd64")]
        monkeypatch.setattr(module, "_PAUSE", 0.0)
        monkeypatch.setattr(module, "_connect", lambda *_: contextlib.nullcontext(self))

    def ask(self, *_: object) -> None: ...

    def greet(self) -> Greeted:
        if not self.greets:
            raise self.fails.pop(0)[1]
        return self.greets[0]

    def plan(self, wanted: Sequence[Wanted], _: object) -> list[Item]:
        source: Any = Mock(image=IMAGE, choose=lambda _: ROUTE)
        return [Item(one, source, plan(IMAGE, Inventory()), one.names) for one in wanted]

    def deliver(self, _: object) -> None:
        self.sent, error = self.fails.pop(0)
        raise error

    def push(self, retries: int = 0) -> list[Result]:
        with contextlib.ExitStack() as stack:
            target = Target("host", Link(stack, False, lambda: pytest.fail("nothing connects")))
            cast("Any", target.connect).renew = lambda: None
            return fan_out(WANTED, [target], Options(retries=retries), lambda _: None, Mock)


def test_a_failure_has_what_was_known_of_the_push_and_the_bytes_and_seconds_of_all_tries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = TargetError("host: its disk is full")
    failing = Failing(monkeypatch, (100, BROKE), (50, disk))
    clock = iter([100.0, *[107.0] * 99])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    first, second = failing.push(1)
    assert (first.error, second.error) == (disk, disk)
    assert (first.bytes.image, first.bytes.delta) == (12, 12)
    assert (first.bytes.sent, second.bytes.sent) == (150, 0)
    assert (first.seconds, first.route, first.engine) == (7.0, ROUTE, "docker 28.5.2 (overlay2)")
    assert [(step.layer.diff_id, step.action) for step in first.steps] == [
        (layer.diff_id, Action.SEND) for layer in LAYERS
    ]
    assert (first.image_id, first.verified, first.platform) == ("", False, "linux/amd64")
    schema = Path(__file__).parents[2] / "docs/report.schema.json"
    jsonschema.Draft202012Validator(json.loads(schema.read_text())).validate(document([first, second], 7.0))


def test_an_interruption_has_the_bytes_that_went(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Failing(monkeypatch, (17, Halt(Interrupted()))).push()
    assert isinstance(first.error, Interrupted)
    assert (first.bytes.sent, second.bytes.sent, first.route) == (17, 0, ROUTE)


def test_a_failure_before_anything_is_known_has_no_route_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Failing(monkeypatch, (0, TargetError("host: its engine does not run")))
    failing.greets = []
    (first, _) = failing.push()
    assert first.route == Route("none", "it failed before one was chosen")
    assert (first.engine, first.steps, first.names) == ("", (), WANTED[0].names)


def test_what_our_hanging_up_has_made_fail_keeps_what_is_known_of_it() -> None:
    outcomes = module._Outcomes(lambda _: pytest.fail("it is not told"))
    target: Any = Mock()
    interrupted, sent = Interrupted(), [replace(one, bytes=Bytes(sent=9)) for one in results("host", BROKE)]
    outcomes.break_off(interrupted)
    outcomes.add(target, sent)
    assert outcomes.of(target) == [replace(one, error=interrupted) for one in sent]


# Exit codes.


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([None, None], 0),
        ([ConnectError("x"), None, TargetError("y")], 5),
        ([DeadlineError("gave up"), TargetError("y")], 4),
        ([TargetError("y"), DeadlineError("gave up"), Interrupted()], 130),
    ],
)
def test_the_code_is_that_of_what_ended_the_push_else_of_the_worst(
    errors: list[LayerferryError | None], code: int
) -> None:
    assert exit_code([result for error in errors for result in results("host", error)]) == code


def test_one_error_of_several_images_is_one() -> None:
    error = TargetError("no")
    assert list(failures([*results("a", error), *results("b"), *results("c", error)])) == [error]
