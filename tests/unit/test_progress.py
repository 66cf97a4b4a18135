"""What is shown of an archive on its way is true: a line of a known rate, by a clock that only that line moves."""

import itertools
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, cast

import pytest

from layerferry.compression.stream import Method, compress, in_blocks
from layerferry.events import Event, Loading, Sending
from layerferry.oci.content import Blob, Summary
from layerferry.oci.delta_archive import Archive, ArchivedImage
from layerferry.oci.image import MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP, Descriptor, Image, Layer, Platform, digest_of
from layerferry.oci.plan import Inventory, plan
from layerferry.protocol import FRAME
from layerferry.push.progress import Progress
from layerferry.report.rate import Rate

CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers"}}'
_SLICE, _STEP = 64 << 10, 0.1


class Line:
    """A line of `rate` bytes a second, behind something that takes `window` bytes ahead of it; its clock, too."""

    name = "prod"
    is_here = False

    def __init__(self, rate: float, window: int, *, measured: bool = True, cost: float = 0.0) -> None:
        """`cost` is in seconds: what a look at what has gone takes."""
        self.rate, self.window, self.measured, self.cost = rate, window, measured, cost
        self.now, self.sent, self.carried = 0.0, 500, 500.0

    def clock(self) -> float:
        return self.now

    def measure(self) -> None:
        assert self.sent == 500

    @property
    def taken(self) -> int:
        self.now += self.cost
        return int(self.carried) if self.measured else self.sent

    def go_on(self) -> None:
        self.now += _STEP
        self.carried = min(self.sent, self.carried + self.rate * _STEP)

    def write(self, data: bytes, meanwhile: Callable[[], object]) -> None:
        for start in range(0, len(data), _SLICE):
            while self.sent - self.carried > self.window:
                self.go_on()
                meanwhile()
            self.sent += len(data[start : start + _SLICE])


class Gives:
    """A content of layers, and what its source says of their sizes."""

    def __init__(self, layers: Iterable[bytes], *, packed: bool = False) -> None:
        media_type = MEDIA_TYPE_LAYER_GZIP if packed else MEDIA_TYPE_LAYER
        plain = [data if not packed else zlib.compress(data, 1) for data in layers]
        self.held = [(digest_of(data), Descriptor(media_type, digest_of(data), len(data)), data) for data in plain]

    def blobs(self) -> Iterator[Blob]:
        for diff_id, descriptor, data in self.held:
            yield Blob(diff_id, descriptor, (data[at : at + 100_000] for at in range(0, len(data), 100_000)))

    def finish(self) -> Summary:
        return Summary(CONFIG, {diff_id: descriptor for diff_id, descriptor, _ in self.held})


def noise(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


@cache
def text(count: int, seed: int = 1) -> bytes:
    """Shrinks to some third, evenly, as files do."""
    words = [noise(5, number) * 2 for number in range(3000)]
    choose = random.Random(seed)
    return b"".join(choose.choice(words) for _ in range(count // 10))


Moment = tuple[float, Sending, float, float | None]


def push(
    content: Gives, line: Line, *, told: float = 1.0, method: Method = Method.ZSTD
) -> tuple[list[Moment], int, list[Event]]:
    """The moments of a push: when, what was told, bytes that have gone in truth, and the time left; and all bytes.

    `told` is by how much the source's sizes are off.
    """
    sizes = [int(descriptor.size * told) for _, descriptor, _ in content.held]
    image = Image(
        "app:1", digest_of(b"id"), Platform("linux", "amd64"), Layer.chain([one[0] for one in content.held], sizes)
    )
    image = image.as_stored(descriptor.is_compressed for _, descriptor, _ in content.held)
    moments: list[Moment] = []
    events: list[Event] = []
    rate = Rate(line.clock)

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, Sending):
            rate.add(event.done)
            moments.append((line.now, event, line.carried - 500, rate.left(event.total)))

    made = plan(image, Inventory())
    progress = Progress([made], cast("Any", line), emit, line.clock)
    archive = Archive(progress.counting([ArchivedImage(made, cast("Any", content), "localhost/layerferry:1")]))
    for frame in in_blocks(compress(archive.pieces(), method, flow=progress.flow), FRAME):
        progress.look()
        line.write(frame, progress.look)
    while progress.look():
        line.go_on()
    return moments, line.sent - 500, events


CASES: dict[str, Callable[[], tuple[Gives, dict[str, Any]]]] = {
    "noise": lambda: (Gives([noise(12_000_000)]), {}),
    "text": lambda: (Gives([text(16_000_000)]), {}),
    "sizes of a daemon's history": lambda: (Gives([text(6_000_000, seed) for seed in range(3)]), {"told": 0.9}),
    "gzip": lambda: (Gives([text(16_000_000)]), {"method": Method.GZIP}),
    "none": lambda: (Gives([text(16_000_000)]), {"method": Method.NONE}),
    "layers as stored": lambda: (Gives([text(6_000_000, seed) for seed in range(3)], packed=True), {}),
}


@pytest.mark.parametrize("rate", [150e3, 1e6])
@pytest.mark.parametrize("name", CASES)
def test_at_any_moment_after_two_seconds_share_and_time_left_are_true(name: str, rate: float) -> None:
    content, how = CASES[name]()
    line = Line(rate, 2 << 20)
    moments, total, events = push(content, line, **how)
    seen = [moment for moment in moments if moment[0] >= 2]
    assert len(seen) > 5
    worst_share = max(abs(event.done / event.total - gone / total) for _, event, gone, _ in seen)
    assert worst_share <= 0.05, worst_share
    errors = [
        abs(left - (total - gone) / rate) / max((total - gone) / rate, 1.0)
        for _, _, gone, left in seen
        if left is not None
    ]
    assert len(errors) == len(seen)
    assert max(errors) <= 0.25, max(errors)
    assert [type(event) for event in events][-1] is Loading


def test_the_end_is_told_when_all_has_gone_and_not_before() -> None:
    line = Line(150e3, 4 << 20)
    moments, total, events = push(Gives([noise(3_000_000)]), line)
    assert line.carried - 500 == total
    assert line.now == pytest.approx(total / 150e3, abs=0.2)
    assert [event for event in events if isinstance(event, Loading)] == [Loading("prod")]
    assert all(event.done < event.total for _, event, _, _ in moments[:-1])


def test_a_line_that_nobody_measures_is_told_by_what_it_has_been_given() -> None:
    line = Line(150e3, 1 << 20, measured=False)
    moments, total, _ = push(Gives([noise(12_000_000)]), line)
    assert (
        max(abs(event.done / event.total - gone / total) for _, event, gone, _ in moments) <= (1 << 20) / total + 0.05
    )


@pytest.mark.parametrize(("cost", "pause"), [(0.001, 0.1), (0.01, 0.5), (0.04, 2.0), (3.0, 5.0)])
def test_a_look_costs_two_percent_of_the_time_at_most(cost: float, pause: float) -> None:
    """The kernel makes a table of all of its sockets for each; and after one that was held up, the next is not far."""
    line = Line(50e3, 1 << 18, cost=cost)
    moments, _, events = push(Gives([noise(2_000_000)]), line)
    assert isinstance(events[-1], Loading)
    pauses = [after - before for (before, *_), (after, *_) in itertools.pairwise(moments)]
    assert len(pauses) > 5
    assert pause - 1e-6 <= min(pauses)
    assert max(pauses) <= pause + _STEP + cost + 1e-6
