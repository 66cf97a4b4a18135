"""One push to each of several targets, some at a time: each has a session of its own, and each layer is read once."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from layerferry import log
from layerferry.errors import SIGNALS_WAIT, LayerferryError, PatchError, ResumeError, interruption
from layerferry.events import Connecting, Emit, Warned
from layerferry.oci.content import Route
from layerferry.push.delivery import Delivery, Destination, Tried
from layerferry.push.request import NO_ROUTE, Options, Wanted
from layerferry.result import Result
from layerferry.sources import Source
from layerferry.targets.address import AnyTarget, Target
from layerferry.temporary import sweep

if TYPE_CHECKING:
    from layerferry.push.shared_read import SharedSource
    from layerferry.push.turns import Turns

# What most pushes do without is loaded when it is needed: hence the imports inside functions.
# ruff: noqa: PLC0415

#: Seconds before the second try, how many times longer it is before each further one, and by how much chance moves it.
_PAUSE = 2.0
_LONGER = 3.0
_CHANCE = 0.5
_NOT_CHOSEN = Route("none", "it failed before one was chosen")


def fan_out(
    wanted: Sequence[Wanted],
    targets: Sequence[AnyTarget],
    options: Options,
    emit: Emit,
    open_source: Callable[[], Source],
    *,
    tell: Callable[[Sequence[Result]], None] = lambda _: None,
) -> list[Result]:
    """Push the images to every target.

    One target's failure does not stop the others; of several, `tell` hears of each one's results as soon as they are
    there. A signal ends what is not done yet: those results have its error.
    """
    if said := sweep():
        emit(Warned("this machine", said))
    delivery = Delivery(wanted, options, emit)
    if len(targets) == 1:
        results = deliver(delivery, targets[0], open_source)
    else:
        results = _to_several(delivery, targets, open_source, tell)
    return _followed_on_nodes(results, targets, options, emit)


def _followed_on_nodes(
    results: list[Result], targets: Sequence[AnyTarget], options: Options, emit: Emit
) -> list[Result]:
    """The results, after what follows: hosts have done it in their sessions, for registries nodes do it."""
    registries = {target.name for target in targets if not isinstance(target, Target)}
    pushed = [result for result in results if result.target in registries]
    if options.follow_up is None or not options.nodes or not pushed:
        return results
    from layerferry.push.nodes import Nodes

    nodes = Nodes(options, options.follow_up, emit, partial(_pause, emit))
    hosts = [result for result in results if result.target not in registries]
    followed = dict(zip(map(id, pushed), nodes.follow(pushed, hosts), strict=True))
    return [followed.get(id(result), result) for result in results]


def _to_several(
    delivery: Delivery,
    targets: Sequence[AnyTarget],
    open_source: Callable[[], Source],
    tell: Callable[[Sequence[Result]], None],
) -> list[Result]:
    from layerferry.push.shared_read import SharedSource

    jobs = min(delivery.options.jobs, len(targets))
    outcomes = _Outcomes(tell)
    turns = _turns(delivery.options, targets, jobs, outcomes.ended)
    threads = len(targets) if turns else jobs
    with SharedSource(open_source, delivery.options.compression, jobs) as shared, ThreadPoolExecutor(threads) as pool:

        def push_to(number: int, target: AnyTarget) -> None:
            with outcomes.underway() as begun:
                if begun:
                    push = partial(_deliver_shared, shared, target, outcomes.ended)
                    outcomes.add(target, _in_turn(turns, number, delivery, push))

        try:
            _wait({pool.submit(push_to, number, target) for number, target in enumerate(targets)})
        except BaseException as raised:
            outcomes.break_off(interruption(raised))
            pool.shutdown(wait=False, cancel_futures=True)
            shared.break_off()
            for target in targets:
                target.connect.hang_up()
            outcomes.wait()
            if outcomes.error is None:
                raise
    return [result for target in targets for result in outcomes.of(target) or _failed(delivery, target, outcomes.error)]


def _deliver_shared(
    shared: "SharedSource", target: AnyTarget, ended: threading.Event, delivery: Delivery
) -> list[Result]:
    with contextlib.closing(shared.reader()) as first:
        readers = chain([first], iter(shared.reader, None))  # one for each try
        return deliver(delivery, target, lambda: next(readers), ended)


def _in_turn(
    turns: "Turns | None", number: int, delivery: Delivery, push: Callable[[Delivery], list[Result]]
) -> list[Result]:
    """Push, where others are waited for before what follows, if they are."""
    if turns is None:
        return push(delivery)
    with turns.at_work(number) as well:
        results = push(replace(delivery, turn=partial(turns.take, number)))
        well.append(not any(result.error for result in results))
    return results


def _turns(options: Options, targets: Sequence[AnyTarget], jobs: int, ended: threading.Event) -> "Turns | None":
    """Where the targets wait for each other, before what follows."""
    if options.follow_up is None or options.follow_up.after == "each" or options.dry_run:
        return None
    from layerferry.push.turns import Turns

    return Turns(options.follow_up.after, [target.name for target in targets], jobs, ended)


def _wait(deliveries: set[Future[None]]) -> None:
    """Wait for all of them; raises what one of them raised."""
    while deliveries:
        done, deliveries = wait(deliveries, SIGNALS_WAIT, FIRST_COMPLETED)
        for delivery in done:
            delivery.result()


class _Outcomes:
    """The results of several targets, each told in the thread that it comes from: no signal cuts it short there."""

    def __init__(self, tell: Callable[[Sequence[Result]], None]) -> None:
        self._tell = tell
        self._lock = threading.Condition()
        self._underway = 0
        self._results: dict[int, list[Result]] = {}
        #: The signal's, that has ended the push.
        self.error: LayerferryError | None = None
        self.ended = threading.Event()

    @contextlib.contextmanager
    def underway(self) -> Iterator[bool]:
        """While one target's push goes on; False where all has ended before it began."""
        with self._lock:
            begun = not self.ended.is_set()
            self._underway += begun
        try:
            yield begun
        finally:
            with self._lock:
                self._underway -= begun
                self._lock.notify_all()

    def wait(self) -> None:
        """Wait for those that are under way. A pool does not know all of its threads where a signal came in between."""
        with self._lock:
            self._lock.wait_for(lambda: not self._underway)

    def add(self, target: AnyTarget, results: list[Result]) -> None:
        """Keep and tell them; where it is our own hanging up that has made them failures, they fail of its reason."""
        with self._lock:
            if self.error is None or not any(result.error for result in results):
                self._results[id(target)] = results
                self._tell(results)
            else:
                self._results[id(target)] = [replace(result, error=self.error) for result in results]

    def break_off(self, error: LayerferryError | None) -> None:
        with self._lock:
            self.error = error
            self.ended.set()

    def of(self, target: AnyTarget) -> list[Result] | None:
        return self._results.get(id(target))


def deliver(
    delivery: Delivery,
    target: AnyTarget,
    open_source: Callable[[], Source],
    ended: threading.Event | None = None,
) -> list[Result]:
    """Push to one target, once more where something failed that may pass; what fails for good is in the results.

    Each try asks anew what the target has. There is none after `ended`. Results count the bytes and seconds of all.
    """
    log.note("step", f"begun: {target.name}")
    began, sent, tries, named = time.monotonic(), 0, 0, ""
    delivery = replace(delivery, tried=Tried())
    error: LayerferryError | None = None
    while True:
        try:
            if error is not None:
                if (again := _again(delivery, target, error, tries, ended)) is None:
                    if named and not error.named:  # an earlier try gave them, and this one came not so far
                        error.hint = f"{error.hint} {named}".strip()
                    return _failed(delivery, target, error, sent, time.monotonic() - began)
                tries += again is delivery
                delivery = again
            delivery.emit(Connecting(target.name))
            results = delivery.run(partial(_connect, delivery, target), open_source)
            return _of_all_tries(results, sent, time.monotonic() - began)
        except BaseException as raised:  # a signal may come while we wait for the next try, too
            log.failure("error", raised)
            failure = interruption(raised) or raised
            if not isinstance(failure, LayerferryError):
                raise
            error, named = failure, failure.named or named
            sent += max(error.sent, delivery.tried.sent)
            delivery.tried.sent = 0


def _again(
    delivery: Delivery, target: AnyTarget, error: LayerferryError, tries: int, ended: threading.Event | None
) -> Delivery | None:
    """The next try, when it is time for it, and with a new connection; None where there is to be none.

    One that leaves out what did not do is another delivery, and does not count as a further try.
    """
    if isinstance(error, (PatchError, ResumeError)):
        again = _without(delivery, target, error)
    elif (
        tries == delivery.options.retries
        or not error.transient
        or not _pause(delivery.emit, target, error, tries, ended)
    ):
        return None
    else:
        again = delivery
    target.connect.renew()
    return again


def _of_all_tries(last: Sequence[Result], sent: int, seconds: float) -> list[Result]:
    """The results of the last try, and with them the bytes that those before had sent, and what all took."""
    first, *others = last
    first = replace(first, bytes=replace(first.bytes, sent=first.bytes.sent + sent))
    results = [replace(result, seconds=seconds) for result in (first, *others)]
    for result in results:
        log.note("step", f"done: {result.target}  {result.image} is {result.image_id or 'as it was'}, {seconds:.3f} s")
    return results


def _without(delivery: Delivery, target: AnyTarget, error: PatchError | ResumeError) -> Delivery:
    """The same without what did not do: old files of the target, or what an earlier try had left there."""
    if isinstance(error, PatchError):
        delivery.emit(Warned(target.name, f"patches do not do, whole layers go: {error.after(target.name)}"))
        return replace(delivery, options=replace(delivery.options, whole_layers="for its patch failed"))
    told = f"what an earlier try has left does not do, all goes again: {error.after(target.name)}"
    delivery.emit(Warned(target.name, told))
    return replace(delivery, options=replace(delivery.options, resume=False))


def _pause(emit: Emit, target: AnyTarget, error: LayerferryError, number: int, ended: threading.Event | None) -> bool:
    """Tell why there is another try, and wait for its time; False where the push has ended meanwhile.

    What fails after that end fails of our own hanging up. Of many that were refused together no two are to come again
    together: hence a pause by chance.
    """
    seconds = _PAUSE * _LONGER**number * random.uniform(1 - _CHANCE, 1 + _CHANCE)  # noqa: S311 - nothing is kept secret by it
    ended = ended or threading.Event()
    if not ended.is_set():
        emit(Warned(target.name, f"{error.after(target.name)}; tried again in {seconds:.0f} s"))
    while seconds > 0 and not ended.wait(min(seconds, SIGNALS_WAIT)):
        seconds -= SIGNALS_WAIT
    return not ended.is_set()


def _connect(delivery: Delivery, target: AnyTarget) -> AbstractContextManager[Destination]:
    """The kind of a target: a kind of its own is one more line here, and one file."""
    if isinstance(target, Target):
        from layerferry.push.to_host import connect_host

        return connect_host(target, delivery.options, delivery.emit, delivery.tried.before)
    from layerferry.push.to_registry import connect_registry

    return connect_registry(target, delivery.options, delivery.emit, delivery.tried.before)


def _failed(
    delivery: Delivery, target: AnyTarget, error: LayerferryError | None, sent: int = 0, seconds: float = 0.0
) -> list[Result]:
    """The results of a push that has failed, with all that is known of it; the first has what `sent` no other has."""
    others = error
    if error is not None and error.image:
        others = type(error)(f"not pushed, for {error.image} could not be")
        others.because = error
    results = [
        replace(result, error=error if error is None or error.image in {"", result.image} else others)
        for result in _known(delivery, target, seconds)
    ]
    first = results[0].bytes
    left = max(0, sent - sum(result.bytes.sent for result in results))
    return [replace(results[0], bytes=replace(first, sent=first.sent + left)), *results[1:]]


def _known(delivery: Delivery, target: AnyTarget, seconds: float) -> list[Result]:
    """What is known of the images when a push fails."""
    greeted, items, source = delivery.tried.greeted, delivery.tried.items, delivery.options.source
    engine = greeted.engine if greeted else ""
    if greeted is None or not items:
        return [
            Result(one.reference, target.name, _NOT_CHOSEN, engine, seconds=seconds, names=one.names, source=source)
            for one in delivery.wanted
        ]
    return [
        replace(
            delivery.result(greeted, item, seconds),
            route=_NOT_CHOSEN if item.route is NO_ROUTE and not item.present else item.route,
            image_id="",
            verified=False,
        )
        for item in items
    ]
