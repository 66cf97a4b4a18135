"""One source for many targets: what is read once, who waits for whom, and what a failure does to the others."""

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard

from layerferry.compression.stream import Compression
from layerferry.errors import SourceError
from layerferry.oci.content import Blob, Content, Route, Summary
from layerferry.oci.image import MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP, Descriptor, Image, Layer, Platform
from layerferry.oci.plan import Inventory, Plan, plan
from layerferry.push import shared_read as module
from layerferry.push.shared_read import SharedReader, SharedSource
from layerferry.sources import Source, SourceImage


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


LAYERS = {digest(data): data for data in (b"base" * 50_000, b"middle" * 1000, b"top")}
DIFF_IDS = tuple(LAYERS)
IMAGE = Image("app:1", digest(b"config"), Platform("linux", "amd64"), Layer.chain(DIFF_IDS, map(len, LAYERS.values())))


class FakeContent:
    def __init__(self, source: "FakeSource", wanted: frozenset[str]) -> None:
        self._source = source
        self._wanted = wanted
        self._received = 0

    def finish(self) -> Summary:
        return Summary(b"config", {}, None, self._received)

    def blobs(self) -> Iterator[Blob]:
        for diff_id in DIFF_IDS:
            if diff_id in self._wanted:
                self._source.read.append(diff_id)
                yield Blob(diff_id, Descriptor(self._source.media_type, diff_id, len(LAYERS[diff_id])),
                           self._chunks(LAYERS[diff_id]))  # fmt: skip

    def _chunks(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), 10_000):
            self._source.gate.wait(10)
            if self._source.fails:
                raise SourceError("the daemon broke off")
            self._received += len(data[start : start + 10_000])
            chunk = data[start : start + 10_000]
            yield chunk.replace(b"b", b"x") if self._source.lies else chunk


class FakeImage(SourceImage):
    image = IMAGE
    names = ()
    held: Mapping[str, Descriptor] = {}

    def __init__(self, source: "FakeSource") -> None:
        self._source = source

    def fetch_config_id(self) -> str:
        return IMAGE.id

    def choose(self, plan: Plan) -> Route:
        self._source.chosen.append(plan.wanted)
        return Route("export", "as asked")

    def fetch(
        self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path
    ) -> contextlib.AbstractContextManager[Content]:
        assert spool.is_dir()
        return contextlib.nullcontext(FakeContent(self._source, wanted))


class FakeSource(Source):
    """Tells what is done with it."""

    media_type = MEDIA_TYPE_LAYER

    def __init__(self) -> None:
        self.read: list[str] = []
        self.opened = self.prepared = self.closed = 0
        self.chosen: list[frozenset[str]] = []
        self.fails = self.lies = False
        self.gate = threading.Event()
        self.gate.set()

    def open(self, reference: str, platform: Platform | None = None) -> SourceImage:
        self.opened += 1
        if reference != IMAGE.reference:
            raise SourceError(f"there is no {reference}")
        return FakeImage(self)

    def prepare(self) -> None:
        self.prepared += 1

    def expect(self, plans: Sequence[tuple[SourceImage, Plan]]) -> None:
        raise AssertionError("the source hears of what all of them lack together")

    def close(self) -> None:
        self.closed += 1


def lacking(*diff_ids: str) -> Plan:
    return plan(IMAGE, Inventory(diff_ids=frozenset(DIFF_IDS) - set(diff_ids)))


def take(reader: SharedReader, plan: Plan, folder: Path) -> dict[str, bytes]:
    """All that a target does with its reader."""
    with contextlib.closing(reader):
        image = reader.open(IMAGE.reference)
        reader.prepare()
        reader.expect([(image, plan)])
        route = image.choose(plan)
        with image.fetch(plan, route, plan.wanted, folder) as content:
            got = {blob.diff_id: b"".join(blob.chunks) for blob in content.blobs()}
            assert content.finish().config == b"config"
            assert content.finish().received > 0
        return got


def test_what_several_targets_lack_is_read_once_and_each_gets_what_it_lacks(tmp_path: Path) -> None:
    source = FakeSource()
    plans = [lacking(*DIFF_IDS), lacking(DIFF_IDS[2]), lacking(*DIFF_IDS[1:])]
    with SharedSource(lambda: source, Compression(), 3) as shared, ThreadPoolExecutor(3) as pool:
        readers = [shared.reader() for _ in plans]
        got = list(pool.map(take, readers, plans, [tmp_path] * len(plans)))
    assert got == [{diff_id: LAYERS[diff_id] for diff_id in DIFF_IDS if diff_id in plan.wanted} for plan in plans]
    assert sorted(source.read) == sorted(DIFF_IDS)
    assert source.chosen == [frozenset(DIFF_IDS)]
    assert (source.opened, source.prepared, source.closed) == (1, 1, 1)


def test_who_comes_later_finds_the_layers_and_has_only_the_rest_read(tmp_path: Path) -> None:
    source = FakeSource()
    with SharedSource(lambda: source, Compression(), 1) as shared:
        take(shared.reader(), lacking(*DIFF_IDS[1:]), tmp_path)
        assert take(shared.reader(), lacking(*DIFF_IDS), tmp_path) == LAYERS
        take(shared.reader(), lacking(*DIFF_IDS), tmp_path)
    assert source.read == [*DIFF_IDS[1:], DIFF_IDS[0]]


def test_a_plain_layer_is_kept_packed_and_a_compressed_one_as_it_is(tmp_path: Path) -> None:
    for media_type, compression, packed in (
        (MEDIA_TYPE_LAYER, "auto", True),
        (MEDIA_TYPE_LAYER, "zstd:1", True),
        (MEDIA_TYPE_LAYER, "gzip", False),
        (MEDIA_TYPE_LAYER_GZIP, "auto", False),
    ):
        source = FakeSource()
        source.media_type = media_type
        with SharedSource(lambda: source, Compression.parse(compression), 1) as shared:  # noqa: B023
            reader, wanted = shared.reader(), lacking(DIFF_IDS[0])
            image = reader.open(IMAGE.reference)
            reader.expect([(image, wanted)])
            with image.fetch(wanted, image.choose(wanted), wanted.wanted, tmp_path) as content:
                (blob,) = content.blobs()
                assert (blob.packed is not None) is packed
                if blob.packed is not None:
                    stream = b"".join(blob.packed)
                    assert len(stream) < 1000
                    assert zstandard.ZstdDecompressor().decompressobj().decompress(stream) == LAYERS[DIFF_IDS[0]]


def test_one_that_says_nothing_holds_nobody_up_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_FOR_OTHERS", 0.05)
    with SharedSource(FakeSource, Compression(), 2) as shared:
        silent = shared.reader()
        assert take(shared.reader(), lacking(*DIFF_IDS), tmp_path) == LAYERS
        assert take(silent, lacking(*DIFF_IDS), tmp_path) == LAYERS


def test_nobody_waits_for_one_that_has_left(tmp_path: Path) -> None:
    with SharedSource(FakeSource, Compression(), 2) as shared:
        shared.reader().close()
        assert take(shared.reader(), lacking(*DIFF_IDS), tmp_path) == LAYERS


def test_a_target_that_lacks_nothing_has_nothing_read() -> None:
    source = FakeSource()
    with SharedSource(lambda: source, Compression(), 1) as shared:
        reader = shared.reader()
        reader.expect([])
        reader.close()
    assert source.read == []
    assert source.chosen == []


def test_a_source_that_fails_fails_everybody_and_a_later_one_tries_again(tmp_path: Path) -> None:
    source = FakeSource()
    source.fails = True
    with SharedSource(lambda: source, Compression(), 2) as shared, ThreadPoolExecutor(2) as pool:
        pushes = [pool.submit(take, shared.reader(), lacking(*DIFF_IDS), tmp_path) for _ in range(2)]
        for push in pushes:
            with pytest.raises(SourceError, match="broke off"):
                push.result()
        source.fails = False
        assert take(shared.reader(), lacking(*DIFF_IDS), tmp_path) == LAYERS


def test_bytes_that_are_not_the_layer_go_to_nobody(tmp_path: Path) -> None:
    source = FakeSource()
    source.lies = True
    with (
        SharedSource(lambda: source, Compression(), 1) as shared,
        pytest.raises(SourceError, match="damaged"),
    ):
        take(shared.reader(), lacking(DIFF_IDS[0]), tmp_path)


def test_a_source_that_gives_too_little_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeContent, "blobs", lambda _: iter(()))
    with SharedSource(FakeSource, Compression(), 2) as shared, ThreadPoolExecutor(2) as pool:
        for push in [pool.submit(take, shared.reader(), lacking(DIFF_IDS[0]), tmp_path) for _ in range(2)]:
            with pytest.raises(SourceError, match=f"^the source of app:1 has not given its layer {DIFF_IDS[0]}$"):
                push.result(timeout=10)


def test_an_image_that_is_not_there_is_looked_for_once() -> None:
    source = FakeSource()
    with SharedSource(lambda: source, Compression(), 1) as shared:
        for _ in range(2):
            with pytest.raises(SourceError, match="no other:1"):
                shared.reader().open("other:1")
    assert source.opened == 1


def test_what_is_broken_off_waits_for_nothing(tmp_path: Path) -> None:
    source = FakeSource()
    source.gate.clear()
    with SharedSource(lambda: source, Compression(), 1) as shared, ThreadPoolExecutor(1) as pool:
        push = pool.submit(take, shared.reader(), lacking(*DIFF_IDS), tmp_path)
        while not source.read:
            pass
        shared.break_off()
        with pytest.raises(SourceError, match="broken off"):
            push.result(timeout=10)
        source.gate.set()
    assert source.closed == 1


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device"), r"layers cannot be kept in .*: No space left on device"),
        (KeyError("odd"), r"reading failed: a fault in layerferry: KeyError: 'odd' \(--log FILE shows where\)"),
    ],
)
def test_whatever_ends_the_reading_is_told_to_who_waits(
    error: Exception, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(FakeImage, "fetch", fail)
    with SharedSource(FakeSource, Compression(), 1) as shared, pytest.raises(SourceError) as caught:
        take(shared.reader(), lacking(*DIFF_IDS), tmp_path)
    assert re.fullmatch(says, caught.value.message)
