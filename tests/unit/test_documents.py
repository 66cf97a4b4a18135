"""What others send as JSON: each wrong shape is one sentence, none is a traceback."""

from typing import Any

import pytest

from layerferry.errors import SourceError, TargetError
from layerferry.oci import limits
from layerferry.oci.documents import Document, load
from layerferry.oci.image import Descriptor, Digest, Image, Layer, MediaType, Name, Platform, Word, digest_of

A = "sha256:" + "a" * 64
DEEP = b"[" * 10_000 + b"]" * 10_000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"nothing",
        b'{"size": NaN}',
        b'{"size": Infinity}',
        b'{"size": ' + b"9" * 5_000 + b"}",
        DEEP,
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b"[" + b"0," * limits.MEMBERS + b"0]",
        b" " * (limits.DOCUMENT + 1),
    ],
    ids=lambda data: data[:12].decode(errors="replace"),
)
def test_what_is_no_bounded_json_is_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(SourceError, match=r"^the index (is damaged|is refused): [^\n]{1,100}$"):
        load(data, "the index")


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'"text"', b"true"])
def test_what_is_no_object_is_no_document(data: bytes) -> None:
    with pytest.raises(TargetError, match="the index is damaged: it is not a JSON object"):
        Document.parse(data, "the index", error=TargetError)


READERS: dict[str, list[Any]] = {
    "text": [5, [], {}, True, "x" * (limits.TEXT + 1)],
    "count": ["5", 5.0, float("inf"), True, -1, limits.SIZE + 1, []],
    "word": [5, "two words", "line\nend", "\x1b[0m", "x" * 129, []],
    "digest": [5, A + "\n", A.upper(), "sha256:", "sha512:" + "a" * 128, A + "\nend\ntag x y", None],
    "media_type": [5, "gzip", "a/b\r\nX: y", "a/b c"],
    "object": [5, [], "text", True],
    "objects": [5, {}, "abc", [5], ["abc"], [[]]],
    "texts": [5, {}, "abc", [5], [None], [{}]],
    "digests": [5, {}, "abc", [5], ["abc"], [A + "\n"], [A] * (limits.LAYERS + 1)],
}


@pytest.mark.parametrize(
    ("reader", "value"), [(reader, value) for reader, values in READERS.items() for value in values]
)
def test_a_member_of_another_type_is_refused_in_a_sentence(reader: str, value: Any) -> None:
    document = Document({"key": value}, "the index")
    with pytest.raises(SourceError) as caught:
        getattr(document, reader)("key")
    assert "the index" in caught.value.message
    assert len(caught.value.message) < 200
    assert caught.value.message.isprintable()


def test_a_member_that_is_missing_or_null_gives_the_default() -> None:
    for document in (Document({}, "it"), Document({"key": None}, "it")):
        assert (document.text("key", ""), document.count("key", 0), document.word("key", "")) == ("", 0, "")
        assert (document.objects("key"), document.texts("key"), document.digests("key")) == ([], [], [])
        assert document.object("key").members == {}
        with pytest.raises(SourceError, match="it is damaged: it has no key"):
            document.text("key")


@pytest.mark.parametrize("kind", [Digest, MediaType, Word])
@pytest.mark.parametrize("text", ["a b", "a\n", "\x1b", "a\x85", "a\u202eb", 5, None, b"a", ["a"]])
def test_a_checked_word_is_built_from_nothing_else(kind: Any, text: Any) -> None:
    with pytest.raises(ValueError, match="is not a"):
        kind(text)


def test_values_of_an_image_cannot_hold_what_is_none() -> None:
    linux = Platform("linux", "amd64")
    wrong: list[Any] = [
        lambda: Descriptor("a/b", A + "\n", 1),
        lambda: Descriptor("a/b\n", A, 1),
        lambda: Descriptor("a/b", A, -1),
        lambda: Descriptor("a/b", A, True),
        lambda: Platform("li\n##vso[x]", "amd64"),
        lambda: Platform("linux", "amd64", "\x1b[0m"),
        lambda: Layer.chain([A + "\nend"], [1]),
        lambda: Layer(A, A, -1),
        lambda: Image("app:1", A + "\nend", linux, ()),
        lambda: Image("app:1", A, linux, Layer.chain([A] * (limits.LAYERS + 1), [0] * (limits.LAYERS + 1))),
        lambda: Name("docker.io", "library/../volumes/prune?x="),
        lambda: Name("docker.io", "library/app", "1\ndone"),
        lambda: Name("docker.io", "a" * 300),
    ]
    for build in wrong:
        with pytest.raises(ValueError, match=r"."):
            build()


def test_a_digest_is_what_is_made_of_bytes() -> None:
    assert digest_of(b"") == Digest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
