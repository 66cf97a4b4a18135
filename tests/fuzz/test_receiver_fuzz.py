"""A fuzzer for the receiver: hostile clients mixed, cut, flipped and spliced, against an engine that checks again.

A short run belongs to the suite, a longer one to `--slow`. As long as you like:

    python tests/fuzz/test_receiver_fuzz.py --seconds 600
"""

import argparse
import contextlib
import gzip
import itertools
import json
import math
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

sys.path.insert(0, str(Path(__file__).parents[1]))
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from fuzz import oracle  # noqa: E402
from fuzz.bench import BEFORE  # noqa: E402
from fuzz.shipment import LAYER, Image, Member, Shipment, layer  # noqa: E402
from fuzz.tricks import TRICKS  # noqa: E402
from fuzz.tricks_streams import LZ4, SKIPPABLE, frame, xz  # noqa: E402
from layerferry.errors import LayerferryError  # noqa: E402
from layerferry.oci import limits  # noqa: E402
from layerferry.oci.image import Name, Platform  # noqa: E402
from layerferry.receive import strict_json  # noqa: E402
from layerferry.receive.blob_digests import _read  # noqa: E402
from layerferry.receive.blob_registry import Push  # noqa: E402
from layerferry.receive.command import Ended  # noqa: E402
from layerferry.receive.decision_log import DecisionLog  # noqa: E402
from layerferry.receive.decompression import Expander, GzipDecoder  # noqa: E402
from layerferry.receive.dialogue import Dialogue, Host  # noqa: E402
from layerferry.receive.engine import _is_absent, _shown  # noqa: E402
from layerferry.receive.frames import Client  # noqa: E402
from layerferry.receive.patterns import Pattern  # noqa: E402
from layerferry.receive.policy import Policy, Rules  # noqa: E402
from layerferry.receive.refusal import Refusal, one_line  # noqa: E402
from layerferry.receive.strict_tar import StrictTar, read_header, write_header  # noqa: E402
from layerferry.receive.zstd_frames import Walker  # noqa: E402

_RULES = Rules.read({"allow": ["app:*"], "max_bytes": oracle.MAX_BYTES, "idle": 5, "session": 5, "spool": "/tmp"})
_SLOW = {"endless members that hold nothing", "endless entries", "bomb in the stream", "bomb in a layer"}
_MIXABLE = [trick for trick in TRICKS if trick.name not in _SLOW]
_TALK = ("image", "layer", "end", "expect", "load", "tag", "done", "learn", "engine", "name", ":", "none", "gzip")


def hold(session: bytes) -> tuple[int, list[str], oracle.Oracle]:
    """Let a client say all of `session` and hang up: exit code, what it heard, and the engine afterwards."""
    engine = oracle.new()
    decisions = contextlib.closing(DecisionLog(os.devnull))
    with tempfile.TemporaryFile() as incoming, tempfile.TemporaryFile() as outgoing, decisions as log:
        incoming.write(session)
        incoming.seek(0)
        client = Client(incoming.fileno(), outgoing.fileno(), idle=60, until=math.inf)
        host = Host(lambda _: engine, Expander("", {}), {}, Path("/dev/null/missing"))
        code = Dialogue(client, Policy((_RULES,)), host, log).run()
        outgoing.seek(0)
        heard = outgoing.read().decode("ascii")
    return code, heard.splitlines(), engine


def judge(session: bytes) -> None:
    """Whatever a client says, the receiver neither crashes nor hangs nor lets a bad byte through."""
    code, heard, engine = hold(session)
    assert code in {0, 1}
    assert all(line.isprintable() and len(line) < 70_000 for line in heard)
    assert sum(line.startswith("failed ") for line in heard) <= 1
    assert not [name for name in engine.called if "layerferry" in name]
    assert engine.called.items() >= {"docker.io/library/vault:1": BEFORE["docker.io/library/vault:1"]}.items()
    moved = {image_id for name, image_id in engine.called.items() if BEFORE.get(name) != image_id}
    assert moved <= engine.accepted | set(BEFORE.values()) - {BEFORE["docker.io/library/vault:1"]}
    assert not moved or heard[-1] == "done"


def test_the_judge_lets_an_honest_client_pass() -> None:
    code, heard, engine = hold(Shipment().session())
    assert (code, heard[-1]) == (0, "done")
    assert engine.called.keys() - BEFORE.keys() == {"docker.io/library/app:2"}


class Said(bytes):
    """A session. Hypothesis shows what fails, and would show megabytes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes: {bytes(self[:400])!r}>"


@st.composite
def splices(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Some changes to some bytes, wherever they are applied."""
    changes = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["flip", "drop", "repeat", "insert", "cut", "swap", "field"]),
                st.integers(0, 1 << 20),
                st.integers(0, 1 << 20),
                st.binary(max_size=12) | st.sampled_from([word.encode() for word in _TALK]) | st.just(bytes(512)),
            ),
            max_size=4,
        )
    )

    def apply(data: bytes) -> bytes:
        for kind, one, other, more in changes:
            data = _change(data, kind, one, other, more)
        return data

    return apply


def _change(data: bytes, kind: str, one: int, other: int, more: bytes) -> bytes:
    at = one % (len(data) + 1)
    to = min(len(data), at + other % 700)
    block = at - at % 512 + (0, 100, 124, 148, 156, 157, 257, 345)[other % 8]
    changed = {
        "flip": lambda: data[:at] + bytes(byte ^ (1 << other % 8) for byte in data[at : at + 1]) + data[at + 1 :],
        "drop": lambda: data[:at] + data[to:],
        "repeat": lambda: data[:to] + data[at:to] + data[to:],
        "insert": lambda: data[:at] + more + data[at:],
        "cut": lambda: data[:at],
        "swap": lambda: data[at // 2 : at] + data[: at // 2] + data[at:],
        "field": lambda: data[:block] + more + data[block + len(more) :],  # of a tar header, wherever one stands
    }
    return changed[kind]()


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    ["rootfs", "RootFS", "diff_ids", "type", "os", "layers", "Layers", "config", "urls", "data", "digest", "size",
     "mediaType", "mediatype", "schemaVersion", "manifests", "annotations", "Config", "RepoTags", "x"]
)  # fmt: skip


@st.composite
def bends(draw: st.DrawFn) -> Callable[[Any], Any]:
    """A change to a document: some key, at some depth, gets some value or goes."""
    steps, key, value, gone = draw(st.tuples(st.integers(0, 3), _KEYS, _JSON, st.booleans()))

    def apply(document: Any) -> None:
        place = document
        for _ in range(steps):
            inner = list(place.values() if isinstance(place, dict) else place)
            found = [item for item in inner if isinstance(item, (dict, list)) and item]
            place = found[-1] if found else place
        if isinstance(place, list):
            place.append(value)
        elif gone:
            place.pop(key, None)
        else:
            place[key] = value

    return apply


@st.composite
def swaps(draw: st.DrawFn) -> Callable[[list[Member]], None]:
    """A member that keeps its name and size, and has another letter somewhere in it."""
    which, at, sign = draw(st.tuples(st.integers(0, 20), st.integers(0, 2000), st.integers(32, 126)))

    def apply(members: list[Member]) -> None:
        member = members[which % len(members)]
        place = at % max(1, len(member.data))
        member.data = member.data[:place] + bytes([sign]) + member.data[place + 1 :]

    return apply


@st.composite
def sessions(draw: st.DrawFn) -> Said:
    shipment = Shipment()
    if draw(st.booleans()):
        shipment.images.append(Image(layers=[layer("more")], incoming="localhost/layerferry:ff"))
    if draw(st.integers(0, 9)) == 0:
        shipment.images[0].layers = [bytes(oracle.MAX_BYTES + 512 * draw(st.integers(-9, 9)))]
        shipment.images[0].store, shipment.images[0].media_type = gzip.compress, f"{LAYER}+gzip"
    if draw(st.integers(0, 4)) == 0:
        shipment.bend_members = draw(swaps())
    for trick in draw(st.lists(st.sampled_from(_MIXABLE), max_size=2)):
        trick.play(shipment)
    for place in draw(st.lists(st.sampled_from(["bend_index", "bend_docker"]), max_size=1)):
        setattr(shipment, place, draw(bends()))
    for place in draw(st.lists(st.sampled_from(["bend_config", "bend_manifest"]), max_size=1)):
        setattr(draw(st.sampled_from(shipment.images)), place, draw(bends()))
    for place in draw(st.lists(st.sampled_from(["bend_tar", "encode", "bend_frames", "bend_all"]), max_size=2)):
        before, after = getattr(shipment, place) or bytes, draw(splices())
        setattr(shipment, place, lambda data, before=before, after=after: after(before(data)))
    try:
        return Said(shipment.session())
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError):
        return Said(draw(splices())(Shipment().session()))  # two changes that do not go together


Check = Callable[..., None]
CHECKS: dict[str, tuple[Check, tuple[st.SearchStrategy[Any], ...]]] = {}


def fuzzed(*strategies: st.SearchStrategy[Any]) -> Callable[[Check], None]:
    def add(check: Check) -> None:
        CHECKS[check.__name__.removeprefix("check_")] = check, strategies

    return add


@fuzzed(sessions())
def check_sessions(session: bytes) -> None:
    judge(session)


@fuzzed(st.lists(st.sampled_from(_TALK) | st.binary(max_size=20).map(repr), max_size=12).map(" ".join))
def check_talk(text: str) -> None:
    judge(b": layerferry 1 0\n" + text.replace(" end", "\nend\n").encode())


@fuzzed(st.binary(max_size=2000))
def check_noise(data: bytes) -> None:
    judge(data)
    judge(Shipment().preamble + data)
    _quietly(lambda: list(StrictTar(iter([data, bytes(1024)])).entries()))
    _quietly(lambda: [list(GzipDecoder().feed(b"\x1f\x8b\x08" + data))])
    _quietly(lambda: strict_json.parse(data, "noise"))


@fuzzed(_JSON)
def check_documents(document: Any) -> None:
    data = json.dumps(document).encode()
    for read in (
        strict_json.read_config,
        strict_json.read_manifest,
        strict_json.read_index,
        strict_json.read_docker_manifest,
    ):
        _quietly(lambda read=read: read(data))  # type: ignore[misc]


@fuzzed(st.integers(0, (1 << 62)), splices())
def check_headers(size: int, change: Callable[[bytes], bytes]) -> None:
    """A header that we take reads the same to tarfile."""
    block = change(write_header("index.json", size))[:512].ljust(512, b"\0")
    try:
        name, told = read_header(block)
    except LayerferryError:
        return
    info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    assert (info.name, info.size, info.type) == (name, told, tarfile.REGTYPE)


@fuzzed(st.text(alphabet="apz*?[]!^-:@/.5eE_", max_size=24))
def check_patterns(text: str) -> None:
    """A pattern without `**` stays among names of as many parts as it has itself."""
    try:
        pattern = Pattern.parse(text)
    except LayerferryError:
        return
    for name in ("app:1", "a/a/p:a", "a.a/p:5", "p.p:5/a/p:e", "a/z/a/p/a:latest", "[::5]/a:p"):
        parsed = Name.parse(name)
        if pattern.allows(parsed) and "**" not in text:
            assert parsed.repository.count("/") == pattern.repository.pattern.replace("[^/]", "").count("/")


_HONEST = st.lists(st.binary(max_size=99) | st.just(bytes(200_000)), min_size=1, max_size=3)
_FOREIGN = st.sampled_from([xz(b"x"), xz(b"x", 0), gzip.compress(b"x"), LZ4, SKIPPABLE, bytes(4)]) | st.binary(
    min_size=1
)


def _walk(data: bytes, step: int) -> None:
    walker = Walker()
    for start in range(0, len(data), step):
        walker.feed(data[start : start + step])
    walker.finish()


@fuzzed(_HONEST, _FOREIGN, st.integers(1, 3000), splices())
def check_zstd(contents: list[bytes], foreign: bytes, step: int, change: Callable[[bytes], bytes]) -> None:
    """Frames are walked in whatever pieces; behind them nothing foreign is, and what is taken unpacks in little."""
    frames = [zstandard.ZstdCompressor(level=1).compress(content) for content in contents]
    data = b"".join(frames) + frame(contents[0])
    _walk(data, max(step, len(data) // 999))
    for behind in (data + foreign, foreign + data):
        with contextlib.suppress(Refusal):
            _walk(behind, len(behind))
            assert foreign.startswith(b"\x28\xb5\x2f\xfd")
    bent = change(data)
    with contextlib.suppress(Refusal, zstandard.ZstdError):
        _walk(bent, len(bent) or 1)
        told = zstandard.get_frame_parameters(bent)
        assert told.window_size <= limits.ZSTD_WINDOW
        assert not told.dict_id


_WORDS = st.sampled_from(
    ["Error:", "No such image:", "app:2", "image not known", ":", "\n", " ", "Error response from daemon:", "x", "\x1b"]
)


@fuzzed(st.lists(_WORDS | st.text(max_size=4), max_size=12).map("".join))
def check_engine_words(text: str) -> None:
    """No words about another image, and no further line, make an image absent; whatever it is comes out plain."""
    absent = _is_absent(Ended(1, b"", text.encode("utf-8", "replace")), ["docker.io/library/app:2"])
    assert not absent or all("app:2" in line for line in text.splitlines() if line.strip())
    assert one_line(text).isprintable()
    _shown(text)


@fuzzed(st.lists(st.tuples(st.sampled_from(["learn", "x"]), _JSON), max_size=3), bends())
def check_lessons(puts: list[tuple[str, Any]], bend: Callable[[Any], Any]) -> None:
    push = Push("x")
    manifest: Any = {"config": {"digest": "sha256:" + "a" * 64}, "layers": [{"mediaType": LAYER, "size": 5}]}
    _quietly(lambda: bend(manifest), KeyError, TypeError, AttributeError)
    for reference, document in [*puts, ("learn", manifest)]:
        push.take(reference, json.dumps(document).encode())
    _read(push, push.tagged, Platform("linux", "amd64"))


def _quietly(call: Callable[[], object], *besides: type[Exception]) -> None:
    """What does not like its input says so, and in no other way."""
    with contextlib.suppress(LayerferryError, *besides):
        call()


def _run(name: str, examples: int, *, derandomize: bool) -> None:
    check, strategies = CHECKS[name]
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        suppress_health_check=quiet,
    )(given(*strategies)(check))()


@pytest.mark.parametrize("name", CHECKS)
def test_survives(name: str, pytestconfig: pytest.Config) -> None:
    """The same examples each time, so that no change is blamed for another's fault; many new ones with `--slow`."""
    long = bool(pytestconfig.getoption("--slow"))
    _run(name, 3000 if long else 60, derandomize=not long)


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz the receiver.")
    parser.add_argument("--seconds", type=float, default=600)
    seconds = parser.parse_args().seconds
    start, examples = time.monotonic(), dict.fromkeys(CHECKS, 0)
    for name in itertools.cycle(["sessions", "sessions", "sessions", *CHECKS]):
        _run(name, 500, derandomize=False)
        examples[name] += 500
        if (spent := time.monotonic() - start) >= seconds:
            break
        print(f"{spent:6.0f} s  {name}", flush=True)
    print(f"{examples} in {spent:.0f} s: no crash, no hang, no bad byte accepted")


if __name__ == "__main__":
    main()
