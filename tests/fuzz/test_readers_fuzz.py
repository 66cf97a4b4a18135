"""A fuzzer for each reader of foreign bytes on the pushing side: whatever comes, one error of ours, short, and in time.

A short run belongs to the suite (deterministic), `--slow` takes a thousand examples of each. As long as you like:

    HYPOTHESIS_MAX_EXAMPLES=100000 python -m pytest tests/fuzz/test_readers_fuzz.py --hypothesis-profile=long
"""

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

hypothesis = pytest.importorskip("hypothesis")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from layerferry.ci.escape import json_text, message, neutralise  # noqa: E402
from layerferry.embedded_registry.error_answers import Refused  # noqa: E402
from layerferry.embedded_registry.pushed_manifest import PushedManifest  # noqa: E402
from layerferry.errors import LayerferryError, SourceError, UsageError  # noqa: E402
from layerferry.oci.documents import Document, load  # noqa: E402
from layerferry.oci.image import MEDIA_TYPE_MANIFEST, Name  # noqa: E402
from layerferry.oci.manifest import parse_config, parse_index, parse_manifest  # noqa: E402
from layerferry.registry_client.challenge import bearer  # noqa: E402
from layerferry.registry_client.logins import find_login  # noqa: E402
from layerferry.sources.daemon.answers import lines, members  # noqa: E402
from layerferry.sources.daemon.history import HistoryEntry, layer_entries  # noqa: E402
from layerferry.sources.files.docker_archive import parse_records  # noqa: E402
from layerferry.tar_headers import Headers  # noqa: E402
from layerferry.targets.greeting import Reader  # noqa: E402
from layerferry.targets.ssh_failures import explain  # noqa: E402
from layerferry.targets.verdict import verdict  # noqa: E402

if examples := os.environ.get("HYPOTHESIS_MAX_EXAMPLES"):
    settings.register_profile("long", max_examples=int(examples), database=None, deadline=None, print_blob=True)

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
#: Words that mean something to one of the readers, beside any text.
WORDS = st.sampled_from(
    [A, B, A + "\n", "app:1", "linux", "amd64", "application/vnd.oci.image.manifest.v1+json", "\x1b]0;x\x07", "::x",
     "##vso[x]", "image", "present", "chain", "loose", "blob", "engine", "store", "platform", "accept", "7",
     "-1", "", " "]
)  # fmt: skip
TEXT = st.one_of(WORDS, st.text(max_size=40))
KEYS = st.one_of(
    st.sampled_from(
        ["config", "layers", "manifests", "digest", "size", "mediaType", "annotations", "platform", "os",
         "architecture", "variant", "rootfs", "diff_ids", "Config", "Layers", "RepoTags", "auths", "auth",
         "credHelpers", "credsStore",
         "Size", "CreatedBy", "artifactType", "schemaVersion", "org.opencontainers.image.ref.name"]
    ),
    st.text(max_size=8),
)  # fmt: skip
NUMBERS = st.one_of(st.integers(-(10**20), 10**20), st.floats(), st.booleans(), st.none())
VALUES = st.recursive(
    st.one_of(TEXT, NUMBERS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=25,
)
JSON = st.one_of(VALUES.map(lambda value: json.dumps(value).encode()), st.binary(max_size=200))


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Nothing but an error of ours, in a few words."""
    told = ""
    try:
        yield
    except (LayerferryError, Refused) as error:
        told = str(error)
    assert len(told) < 6_000


@given(JSON)
def test_documents(data: bytes) -> None:
    with refused():
        load(data, "it")
    with refused():
        document = Document.parse(data, "it")
        for key in (*list(document.members)[:5], "missing"):
            for reader in (document.text, document.count, document.word, document.digest, document.media_type,
                           document.object, document.objects, document.texts, document.digests):  # fmt: skip
                with refused():
                    reader(key)


@given(JSON)
def test_manifests_indexes_and_configs(data: bytes) -> None:
    with refused():
        parse_index(data, "it")
    with refused():
        parse_config(data, "app:1", [("base", 1)])
    with refused():
        parse_manifest(Document.parse(data, "it"), "it")
    with refused():
        parse_records(data, "it")
    with refused():
        PushedManifest.parse(data, media_type=MEDIA_TYPE_MANIFEST)


@given(JSON, st.lists(st.binary(max_size=60), max_size=6))
def test_a_daemons_answers(data: bytes, chunks: list[bytes]) -> None:
    with refused():
        list(members(data))
    with refused():
        list(lines(chunks, "it"))
    with refused():
        layer_entries(
            [HistoryEntry.of(Document.of(entry, "it")) for entry in load(data, "it")[:5]] if data[:1] == b"[" else [], 3
        )


@given(st.text(max_size=300), JSON)
def test_challenges_and_logins(header: str, config: bytes) -> None:
    for text in (header, f"Bearer {header}", f'Bearer realm="https://x/{header}",scope="{header}"'):
        with refused():
            bearer(text)
    with refused():
        find_login("a.example", "app", {"DOCKER_AUTH_CONFIG": config.decode(errors="replace"), "HOME": "/missing"})


@given(st.lists(st.lists(TEXT, max_size=6).map(" ".join), max_size=12))
def test_a_targets_greeting(said: list[str]) -> None:
    asked = {A: (B,)}
    with refused():
        greeting = Reader("prod", asked).read(said)
        assert set(greeting.holdings) <= set(asked)
        assert set(greeting.blobs) <= {B}
        assert all(holding.depth <= 1 for holding in greeting.holdings.values())


@given(st.text(max_size=400), st.integers(-20, 300))
def test_what_targets_and_ssh_say_when_they_fail(text: str, code: int) -> None:
    assert len(verdict("prod", f"failed {text}").message) < 6_000
    assert len(explain("prod", code, text).message) < 6_000


@st.composite
def tars(draw: Any) -> bytes:
    """A tar of some files, with a few bytes of it changed."""
    out = io.BytesIO()
    form = draw(st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name in draw(st.lists(st.text(st.characters(codec="ascii"), min_size=1, max_size=150), max_size=4)):
            info = tarfile.TarInfo(name)
            info.size = draw(st.integers(0, 700))
            with contextlib.suppress(ValueError):
                tar.addfile(info, io.BytesIO(bytes(info.size)))
    data = bytearray(out.getvalue())
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=6)):
        data[place % len(data)] = byte
    return bytes(data[: draw(st.integers(0, len(data)))])


@given(st.one_of(tars(), st.binary(max_size=1_500)))
def test_tars(data: bytes) -> None:
    read = 0
    with contextlib.suppress(SourceError, tarfile.TarError, EOFError):
        for header, part in Headers(io.BytesIO(data)):
            assert header.size >= 0
            read += len(part.read())
    assert read <= len(data)


@given(st.text(max_size=200))
def test_names(text: str) -> None:
    with contextlib.suppress(UsageError):
        name = Name.parse(text)
        assert Name.parse(name.tagged).tagged == name.tagged
        assert name.tagged.isascii()
        assert name.tagged.isprintable()
        assert " " not in name.tagged


@given(st.text(max_size=400))
def test_what_is_shown(text: str) -> None:
    for shown in (neutralise(text), message(text), json_text({"x": text})):
        assert not [sign for sign in shown if sign < " " and sign not in "\n\t"]
        assert not any(line.lstrip().startswith("::") for line in shown.splitlines())
        assert "##vso[" not in shown.lower()
        assert "##teamcity[" not in shown.lower()
    assert json.loads(json_text({"x": text})) == {"x": text}
