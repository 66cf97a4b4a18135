"""What the receiver reads: lines, frames, tar headers, JSON, gzip; and what it tells of its images."""

import gzip
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from layerferry.oci.image import MEDIA_TYPE_MANIFEST, Descriptor, Name
from layerferry.oci.store_kind import StoreKind
from layerferry.protocol import VerdictKind
from layerferry.receive import strict_json
from layerferry.receive.blob_digests import BlobDigests
from layerferry.receive.byte_limits import Day, Meter
from layerferry.receive.decompression import GzipDecoder, sniff
from layerferry.receive.deployment import confirm, give, settle
from layerferry.receive.engine import find_engine
from layerferry.receive.frames import LONGEST_LINE, Client
from layerferry.receive.refusal import HungUp, Refusal
from layerferry.receive.signatures import Signatures
from layerferry.receive.strict_json import LARGEST_DOCUMENT, parse, read_docker_manifest, read_index, read_manifest
from layerferry.receive.strict_tar import StrictTar, read_header, write_header
from layerferry.receive.visible_images import Ask, VisibleImages

A, B, C, D = (f"sha256:{letter * 64}" for letter in "abcd")
ONE, TWO = (f"sha256:{number * 64}" for number in "12")


@pytest.fixture
def pair() -> Iterator[tuple[Client, int]]:
    """A client's end as the receiver sees it, and the descriptor that the client writes to."""
    reading, writing = os.pipe()
    yield Client(reading, writing, idle=0.05, until=time.monotonic() + 5), writing
    os.close(reading)
    os.close(writing)


def test_reads_lines_and_frames_one_after_the_other(pair: tuple[Client, int]) -> None:
    client, writing = pair
    os.write(writing, b"load none\n3\nabc4\nde\nf0\ndone\n")
    assert client.read_line() == "load none"
    assert b"".join(client.frames()) == b"abcde\nf"
    assert client.read_line() == "done"


def test_skips_just_the_script(pair: tuple[Client, int]) -> None:
    client, writing = pair
    os.write(writing, b"12\n4end\n")
    client.skip(4)
    assert client.read_line() == "end"


def test_refuses_a_line_before_its_end_when_it_is_no_text(pair: tuple[Client, int]) -> None:
    client, writing = pair
    os.write(writing, b"\0\0\0\5")
    with pytest.raises(Refusal, match="printable"):
        client.read_line()


def test_waits_no_longer_than_it_is_told(pair: tuple[Client, int]) -> None:
    with pytest.raises(Refusal, match=r"nothing came for 0\.05 s"):
        pair[0].read_line()


def test_bounds_a_line(pair: tuple[Client, int]) -> None:
    client, writing = pair
    os.write(writing, b"x" * (LONGEST_LINE // 2))
    with pytest.raises(Refusal, match="nothing came"):
        client.read_line()
    os.write(writing, b"x" * (LONGEST_LINE // 2) + b"xx\n")
    with pytest.raises(Refusal, match="longer than"):
        client.read_line()


def test_tells_the_end_of_input_from_silence() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    with pytest.raises(HungUp):
        Client(reading, -1, idle=1, until=time.monotonic() + 1).read_line()
    os.close(reading)


# --- tar


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 1 << 40])
def test_headers_read_as_they_were_written_here_and_in_tarfile(size: int) -> None:
    block = write_header("index.json", size)
    assert read_header(block) == ("index.json", size)
    info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    assert (info.name, info.size, info.mode, info.uid, info.isreg()) == ("index.json", size, 0o644, 0, True)


def test_headers_of_the_client_are_taken() -> None:
    info = tarfile.TarInfo("oci-layout")
    info.size = 9 << 30
    assert read_header(info.tobuf(tarfile.GNU_FORMAT)) == ("oci-layout", 9 << 30)
    info.size = 9
    assert read_header(info.tobuf(tarfile.USTAR_FORMAT)) == ("oci-layout", 9)


def test_what_a_reader_leaves_of_an_entry_is_passed_over() -> None:
    data = write_header("index.json", 3) + b"abc".ljust(512, b"\0") + write_header("oci-layout", 0) + bytes(1024)
    pieces = iter([data[start : start + 7] for start in range(0, len(data), 7)])
    assert [entry.name for entry in StrictTar(pieces).entries()] == ["index.json", "oci-layout"]


# --- JSON


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"a":{"b":1,"b":2}}',
        "[NaN]",
        "[Infinity]",
        "[1] x",
        "",
        "{",
        '"' + '\\"' * 200_000,
        "[" * 33 + "]" * 33,
        '{"a":' * 33 + "1" + "}" * 33,
    ],
)
def test_json_that_reads_in_more_ways_than_one_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        strict_json.parse(text.encode(), "it")


def test_brackets_in_strings_are_no_depth() -> None:
    assert strict_json.parse(b'["' + b"[" * 1000 + b'","\\"[[", {}]', "it")[2] == {}


def test_a_config_may_say_what_we_do_not_look_at() -> None:
    text = b'{"os":"linux","architecture":"arm","variant":"v7","Labels":{"OS":"x","os":"y"},"rootfs":{"type":"layers"}}'
    config = strict_json.read_config(text)
    assert (str(config.platform), config.diff_ids) == ("linux/arm/v7", ())


# --- decompression


def test_gzip_comes_out_in_small_steps() -> None:
    pieces = list(GzipDecoder().feed(gzip.compress(bytes(50 << 20))))
    assert sum(map(len, pieces)) == 50 << 20
    assert max(map(len, pieces)) <= 1 << 20


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_gzip_members_may_be_cut_anywhere(step: int) -> None:
    data = gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two" * 999)
    decoder = GzipDecoder()
    found = [piece for start in range(0, len(data), step) for piece in decoder.feed(data[start : start + step])]
    assert b"".join([*found, *decoder.finish()]) == b"one" + b"two" * 999


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"", "none"),
        (b"\x1f", "none"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x5a\x2a\x4d\x18", "zstd"),
        (b"BZh9", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"etc/motd", "none"),
    ],
)
def test_a_compression_is_known_by_its_start(start: bytes, name: str) -> None:
    assert sniff(start) == name


# --- limits


def test_each_state_of_a_push_is_bounded() -> None:
    for state in ("sent", "archived", "unpacked"):
        meter = Meter(100, None)
        getattr(meter, state)(100)
        with pytest.raises(Refusal, match="a push may have 100 bytes here"):
            getattr(meter, state)(1)


def test_a_day_is_charged_once_for_the_largest_state(tmp_path: Path) -> None:
    day = Day(tmp_path / "state" / "x.day", 1000)
    meter = Meter(1000, day)
    meter.sent(10)
    meter.unpacked(600)
    meter.settle()
    meter.settle()
    day.charge(400)
    with pytest.raises(Refusal, match="used up"):
        day.charge(1)
    assert (tmp_path / "state" / "x.day").stat().st_mode & 0o077 == 0


def test_a_day_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = Day(tmp_path / "x.day", 10)
    monkeypatch.setattr(time, "gmtime", lambda *_: time.struct_time((2026, 1, 2, 0, 0, 0, 0, 0, 0)))
    day.charge(10)
    monkeypatch.setattr(time, "gmtime", lambda *_: time.struct_time((2026, 1, 1, 0, 0, 0, 0, 0, 0)))
    with pytest.raises(Refusal, match="used up"):  # the clock went back
        day.charge(1)
    monkeypatch.setattr(time, "gmtime", lambda *_: time.struct_time((2026, 1, 3, 0, 0, 0, 0, 0, 0)))
    day.charge(10)


def test_a_count_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "x.day").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refusal, match="cannot be kept"):
        Day(tmp_path / "x.day", 10).charge(1)
    assert not (tmp_path / "elsewhere").exists()


# --- visible images


def test_tells_of_the_longest_chain_only() -> None:
    visible = VisibleImages(StoreKind.CHAIN, {ONE: (A, B), TWO: (A, B, C)})
    assert visible.answer(Ask(D, (A, B, C, D))) == [f"image {D}", f"chain 3 {TWO}"]
    assert visible.answer(Ask(D, (B, A))) == [f"image {D}", "chain 0"]
    assert visible.answer(Ask(ONE, (A, B))) == [f"image {ONE}", "present"]


def test_tells_of_layers_elsewhere_where_that_helps() -> None:
    visible = VisibleImages(StoreKind.LAYER, {ONE: (A, B, C)})
    assert visible.answer(Ask(TWO, (A, C, D, B)))[1:] == [f"chain 1 {ONE}", f"loose {C} 2 {ONE}", f"loose {B} 1 {ONE}"]


def test_a_layer_counts_with_all_layers_below_it_where_the_store_is_keyed_so() -> None:
    layer = Descriptor("", C, 1)
    chain, loose = VisibleImages(StoreKind.CHAIN, {ONE: (A, B, C)}), VisibleImages(StoreKind.LAYER, {ONE: (A, B, C)})
    assert chain.stand_in(layer, (A, B, C), 2) == layer
    assert chain.stand_in(layer, (B, A, C), 2) is None
    assert loose.stand_in(layer, (B, A, C), 2) == layer
    assert loose.stand_in(Descriptor("", D, 1), (B, A, C), 2) is None


def test_of_a_containerd_store_only_what_was_learned_counts() -> None:
    blobs = (Descriptor("a/gzip", D, 5), Descriptor("a/gzip", C, 6))
    visible = VisibleImages(StoreKind.BLOB, {ONE: (A, B), TWO: (C,)}, {ONE: BlobDigests(D, blobs)})
    assert visible.told_store == "layer"
    assert visible.present(D) == ONE
    assert visible.ids(ONE) == (ONE, D)
    assert visible.answer(Ask(A, (A, C)))[1:] == [f"chain 1 {ONE}"]
    assert visible.stand_in(Descriptor("", A, 0), (A, C), 0) == blobs[0]
    assert visible.stand_in(Descriptor("", C, 0), (A, C), 1) is None
    assert VisibleImages(StoreKind.BLOB, {ONE: (A, B)}).told_store == "blob"


INDEX = {"schemaVersion": 2, "manifests": []}
MANIFEST = {"schemaVersion": 2, "mediaType": MEDIA_TYPE_MANIFEST, "config": {}, "layers": []}


@pytest.mark.parametrize(
    ("read", "said", "says"),
    [
        (read_index, INDEX | {"mediaType": "a/b"}, "index.json is of another kind"),
        (read_manifest, MANIFEST | {"mediaType": "a/b"}, "the image's manifest is of another kind"),
        (read_manifest, MANIFEST | {"annotations": {"a": 1}}, "the image's manifest has broken annotations"),
        (read_docker_manifest, [{"Config": 1, "RepoTags": [], "Layers": []}],
         "manifest.json does not say just what it should"),
    ],
)  # fmt: skip
def test_a_document_of_another_kind_is_refused(read: Callable[[bytes], object], said: object, says: str) -> None:
    with pytest.raises(Refusal) as caught:
        read(json.dumps(said).encode())
    assert caught.value.message == says


def test_a_document_is_bounded() -> None:
    with pytest.raises(Refusal, match=f"^it is larger than {LARGEST_DOCUMENT} bytes$"):
        parse(b" " * (LARGEST_DOCUMENT + 1), "it")


def test_a_client_that_has_gone_hears_nothing(pair: tuple[Client, int]) -> None:
    client, _ = pair
    reading, writing = os.pipe()
    os.close(reading)
    client._out = writing
    with pytest.raises(HungUp, match=r"^the client has gone$"):
        client.say("done")
    os.close(writing)


def test_a_session_has_an_end() -> None:
    reading, writing = os.pipe()
    with pytest.raises(Refusal, match=r"^the session takes too long$"):
        Client(reading, writing, idle=60, until=time.monotonic()).read_line()
    os.close(reading)
    os.close(writing)


class Engine:
    """Shows images by name or ID, as `Engine.inspect` does, and refuses the name `refused`."""

    def __init__(self, **shown: str) -> None:
        self._shown = shown

    def tag(self, image: str, name: str) -> None:
        if "refused" in name:
            raise Refusal("no such thing", kind=VerdictKind.TAG)

    def inspect(self, name: str) -> Any:
        found = self._shown.get(name.rpartition("/")[2].partition(":")[0])
        return SimpleNamespace(id=found) if found else None


def test_an_image_that_goes_while_it_gets_its_name_is_told() -> None:
    names: Any = [("incoming", Name.parse("app:1"))]
    gone: Any = Engine()
    with pytest.raises(Refusal, match=r"^the image has gone$"):
        settle(gone, names, immutable=False)


def names_of(*names: str) -> Any:
    return [("incoming", Name.parse(name)) for name in names]


def test_names_that_somebody_else_has_moved_are_told_with_what_they_show() -> None:
    moved: Any = Engine(incoming=ONE, app=TWO, web=ONE)
    with pytest.raises(Refusal, match=rf"^moved docker.io/library/app:1={TWO} docker.io/library/gone:1=$") as caught:
        confirm(moved, names_of("app:1", "web:1", "gone:1"))
    assert caught.value.kind == VerdictKind.VERIFY


def test_a_refusal_tells_the_last_name_that_was_given_before() -> None:
    engine: Any = Engine(incoming=ONE, app=ONE, web=ONE)
    with pytest.raises(Refusal) as caught:
        give(engine, names_of("refused:1", "app:1"))
    assert caught.value.message == "no such thing"
    with pytest.raises(Refusal) as caught:
        give(engine, names_of("app:1", "web:1", "refused:1"))
    assert (caught.value.message, caught.value.kind) == ("after docker.io/library/web:1: no such thing", "tag")


def test_signatures_must_be_of_the_image_whatever_its_config_is() -> None:
    session = object.__new__(Signatures)
    for checked, says in (((), "the image is not signed"), ((Mock(),), "the signatures are of another image")):
        session._checked = checked  # type: ignore[assignment]
        with pytest.raises(Refusal, match=rf"^{says}, and its config must be, here$"):
            session._about("", [], None)


def test_a_host_without_an_engine_tells_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"^looked for docker and podman$"):
        find_engine("", {"PATH": str(tmp_path)})
