"""Whether a layer goes as a patch: by what both would take, from the sizes that its source tells."""

import base64
import io
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from layerferry.errors import PatchError, SourceError, TargetError
from layerferry.oci.content import Blob
from layerferry.oci.image import MEDIA_TYPE_LAYER, Descriptor, Image, Layer, Platform
from layerferry.oci.plan import Action, Inventory, plan, whole
from layerferry.patch.recipe import Recipe
from layerferry.patch.target_program import whole_digest
from layerferry.push import patching
from layerferry.push.host_load import HostLoad
from layerferry.push.patching import Estimate
from layerferry.push.request import Options
from packed import tar_of

MB = 1_000_000
IDS = [f"sha256:{letter * 64}" for letter in "abc"]


def layer(size: int, *, packed: bool = False) -> Layer:
    return Layer(IDS[0], IDS[0], size, packed)


@pytest.mark.parametrize("rate", [0.1 * MB, 1 * MB, 5 * MB, 12 * MB, 100 * MB])
def test_a_layer_that_is_stored_compressed_costs_what_the_same_layer_of_a_daemon_does(rate: float) -> None:
    """Registries, layouts and archives tell sizes of blobs, of which most are packed: nothing shrinks twice."""
    plain, packed = (
        Estimate.of([one], rate, 0.01) for one in (layer(280 * MB), layer(round(280 * MB * 0.35), packed=True))
    )
    assert packed.whole == pytest.approx(plain.whole, rel=0.01)
    assert packed.patch == pytest.approx(plain.patch, rel=0.01)
    assert packed.pays is plain.pays


def test_some_layers_of_an_image_may_be_packed_and_others_plain() -> None:
    both = Estimate.of([layer(35 * MB, packed=True), layer(100 * MB)], MB, 0)
    assert both.whole == pytest.approx(70)


def test_what_may_find_nothing_has_to_promise_more_than_it_costs() -> None:
    even = Estimate.of([layer(40 * MB)], 12 * MB, 0)
    assert even.patch < even.whole
    assert not even.pays
    assert Estimate.of([layer(40 * MB)], 8 * MB, 0).pays


@pytest.mark.parametrize(("rate", "pays"), [(1.25 * MB, True), (0.25 * MB, True), (100 * MB, False)])
def test_a_slow_line_pays_and_a_quick_one_does_not(rate: float, pays: bool) -> None:
    assert Estimate.of([layer(264 * MB)], rate, 0.04).pays is pays
    assert Estimate.of([layer(70 * MB, packed=True)], rate, 0.04).pays is pays


def test_a_small_layer_does_not_pay_on_a_line_with_a_long_way() -> None:
    assert not Estimate.of([layer(2 * MB)], 1.25 * MB, 0.3).pays


def test_a_layer_that_goes_whole_says_why_and_one_that_is_reused_does_not() -> None:
    image = Image("app:1", IDS[0], Platform("linux", "amd64"), Layer.chain(IDS, [900, 100, 50]))
    before = plan(image, Inventory(chain_ids=frozenset([image.layers[0].chain_id])))
    told = whole(before, [IDS[0], IDS[1]], "as asked")
    assert [step.reason for step in told.steps] == [
        "the target has it with all layers below",
        "the target lacks it; whole, as asked",
        "the target lacks it",
    ]
    assert [step.lacking for step in told.steps] == [0, 100, 50]
    assert [step.action for step in told.steps] == [Action.REUSE, Action.SEND, Action.SEND]


class Target:
    """A conversation with a target that has a python3, or none, and digests of older files."""

    def __init__(self, *, runs: bool = True, told: bytes = b"", exports: bool = False) -> None:
        self.runs, self.told, self.exports, self.asked = runs, told, exports, list[str]()

    def prepare(self, word: str) -> bytes:
        assert base64.b64decode(word)
        return bytes(3) + bytes((self.exports,)) if self.runs else b""

    def probe(self, data: bytes) -> None:
        self.asked.append(f"probe {len(data)}")

    def files(self, image_id: str, candidates: Iterable[str]) -> Iterable[bytes]:
        self.asked += [f"files {image_id}", *candidates]
        return [self.told]


class Line(Target):
    """One that carries so many bytes a second, behind a round trip; and where each answer may take longer, too."""

    def __init__(self, rate: float, trip: float, busy: Sequence[float] = ()) -> None:
        super().__init__()
        self.rate, self.trip, self.busy, self.clock = rate, trip, list(busy), 0.0

    def probe(self, data: bytes) -> None:
        super().probe(data)
        self.clock += self.trip + len(data) / self.rate + (self.busy.pop(0) if self.busy else 0)


@pytest.mark.parametrize(("rate", "trip"), [(0.25 * MB, 0.15), (1.25 * MB, 0.04), (12 * MB, 0.0), (100 * MB, 0.002)])
def test_probes_tell_what_a_line_carries(monkeypatch: Any, rate: float, trip: float) -> None:
    line: Any = Line(rate, trip)
    monkeypatch.setattr("layerferry.push.patching.time.monotonic", lambda: line.clock)
    found, way = patching._line(line)
    assert way == pytest.approx(trip)
    assert rate / 4 < found <= rate * 1.01
    assert len(line.asked) == (2 if rate < 3 * MB else 3)


def test_a_target_that_was_busy_at_first_makes_no_line_quick(monkeypatch: Any) -> None:
    line: Any = Line(1.25 * MB, 0.04, busy=[2.0])
    monkeypatch.setattr("layerferry.push.patching.time.monotonic", lambda: line.clock)
    rate, _ = patching._line(line)
    assert rate < 6 * MB


class Item:
    names = ("docker.io/library/app:1",)

    def __init__(self) -> None:
        self.image = Image("app:1", IDS[0], Platform("linux", "amd64"), Layer.chain(IDS[:1], [100 * MB]))
        self.plan = plan(self.image, Inventory())


@pytest.mark.parametrize(
    ("target", "rate", "why"),
    [
        (Target(runs=False), MB, "for nothing on the target may read older files of it"),
        (Target(), MB, "for the target has no older files of it"),
        (Target(), 50 * MB, "which takes 0.7 s at 50.0 MB/s, and as a patch 2.1 s"),
        (Target(exports=True), 10 * MB, "which takes 3.5 s at 10.0 MB/s, and as a patch 3.7 s"),
        (Target(told=bytes(32)), MB, ""),
        (Target(told=bytes(32), exports=True), MB, ""),
    ],
)
def test_why_there_are_no_patches_is_told(monkeypatch: Any, tmp_path: Path, target: Any, rate: float, why: str) -> None:
    monkeypatch.setattr(patching, "_line", lambda _: (rate, 0.0))
    item: Any = Item()
    found = patching.find_patches(target, [item], item.image.layers, [IDS[1], ""], tmp_path, begun=False)
    assert found.why == why
    assert bool(found.layers) is not bool(why)
    if not why:
        assert target.asked == [f"files {IDS[0]}", "docker.io/library/app:1", IDS[1]]


def test_without_room_for_what_is_new_a_layer_goes_whole(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(patching, "_line", lambda _: (MB, 0.0))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=99 * MB))
    item: Any = Item()
    target: Any = Target(told=bytes(32))
    found = patching.find_patches(target, [item], item.image.layers, [], tmp_path, begun=False)
    assert found.why == "for a patch may keep 100.0 MB in TMPDIR, which has 99.0 MB free"
    assert not found.layers
    assert not target.asked


def test_a_layer_that_is_another_is_not_patched(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w"):
        pass
    data = out.getvalue()
    blob = Blob(IDS[0], Descriptor(MEDIA_TYPE_LAYER, IDS[0], len(data)), iter([data]))
    content: Any = SimpleNamespace(blobs=lambda: [blob])
    patches: Any = SimpleNamespace(layers={IDS[0]}, known=patching.ToldFiles(()))
    with pytest.raises(SourceError, match=rf"^layer {IDS[0]} is not {IDS[0]}, but sha256:"):
        patching.PatchedContent(content, patches, lambda *_: (), tmp_path)


@pytest.mark.parametrize("cut", [1, 16, 17, 1000])
def test_old_files_are_counted_in_their_order_however_they_are_told(cut: int) -> None:
    digests = [bytes((letter,)) * 16 for letter in b"abacd"]
    told = b"".join(digests)
    known = patching.ToldFiles(told[start : start + cut] for start in range(0, len(told), cut))
    assert known.any()
    known.wait()
    assert [known.get(digest) for digest in digests] == [0, 1, 0, 3, 4]
    assert known.get(bytes(16)) is None


def test_what_goes_wrong_while_a_target_tells_of_its_files_is_raised_where_they_are_wanted() -> None:
    def told() -> Iterator[bytes]:
        yield b"a" * 16
        raise TargetError("it says no more")

    known = patching.ToldFiles(told())
    with pytest.raises(TargetError, match="it says no more"):
        known.wait()


class Late(dict[bytes, int]):
    """What a target has told, and what it tells at last."""

    def __init__(self, told: Sequence[bytes], last: Sequence[bytes]) -> None:
        super().__init__({digest: number for number, digest in enumerate(told)})
        self.last, self.waited = {digest: number for number, digest in enumerate(last)}, 0

    def wait(self) -> None:
        self.waited += 1
        self.update(self.last)


def test_what_a_target_tells_after_a_file_was_read_counts_too(tmp_path: Path) -> None:
    contents = {f"f{number}": bytes((number,)) * (100 + 200 * number) for number in range(8)}
    layer = tar_of(contents)
    digests = [whole_digest(data) for data in contents.values()]
    made = []
    for before in (0, 3, 8):
        recipe = Recipe(known := Late(digests[:before], digests), tmp_path / "kept")
        recipe.read([layer], len(layer))
        assert not known.waited
        recipe.resolve(lambda *_: ())
        made.append((b"".join(recipe.encoded()), recipe.literal))
    assert made[0] == made[1] == made[2]
    assert made[0][1] == len(layer) - sum(map(len, contents.values()))


def test_no_more_is_kept_than_is_said_before_a_target_has_told_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerferry.patch.recipe._AHEAD", 10_000)
    contents = {f"f{number}": bytes((number,)) * 5000 for number in range(100)}
    layer = tar_of(contents)
    recipe = Recipe(known := Late((), [whole_digest(data) for data in contents.values()]), tmp_path / "kept")
    recipe.read([layer], len(layer))
    assert known.waited
    kept = (tmp_path / "kept").stat().st_size
    assert kept < 10_000 + 5000 + 101 * 1024
    recipe.resolve(lambda *_: ())
    assert recipe.literal == len(layer) - 100 * 5000


def test_what_goes_wrong_meanwhile_ends_the_reading_of_a_layer(tmp_path: Path) -> None:
    def told() -> Iterator[bytes]:
        yield b"a" * 16
        raise TargetError("it says no more")

    known = patching.ToldFiles(told())
    assert known._ended.wait(60)
    layer = tar_of({"f": bytes(5000)})

    def chunks() -> Iterator[bytes]:
        yield layer
        pytest.fail("it is read on")

    with pytest.raises(TargetError, match="it says no more"):
        Recipe(known, tmp_path / "kept").read(chunks(), len(layer))


def test_a_target_that_cannot_tell_of_its_files_gets_whole_layers(monkeypatch: Any, tmp_path: Path) -> None:
    """As where it fails a moment later; the second session is for the error alone that says so."""

    def fail(*_: Any, **__: Any) -> None:
        raise TargetError("it takes too long", hint="See why.")

    monkeypatch.setattr(patching, "find_patches", fail)
    item: Any = Item()
    greeting: Any = SimpleNamespace(patch=("zstd",), holdings={IDS[0]: SimpleNamespace(holder="")})
    conduit: Any = SimpleNamespace(is_here=False)
    loading = HostLoad(Target(), conduit, greeting, Options(), lambda _: None)  # type: ignore[arg-type]
    with pytest.raises(PatchError, match=r"^it takes too long$"):
        loading._find_patches([item], None, tmp_path)
