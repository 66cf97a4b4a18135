"""Hostile words and documents: what a field may hold where something else is meant."""

import json
from typing import Any

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
#: Lines of the conversation, as somebody would speak them for us.
SPEECH = f"\nend\ntag {OTHER} docker.io/library/victim:prod\ndone\n"
#: All that paints a screen or speaks to a CI, in one word.
PAINT = (
    "x\n::error::owned\r::add-mask::x\x1b]0;owned\x07\x9b31m\x7f\u202e\u2028\n##vso[task.x]y ##[group]z ##teamcity[x]"
)
#: The same for where a line feed cannot be: a line of the conversation, a header.
LINE_PAINT = PAINT.replace("\n", "").replace("\u2028", "")
#: A string that no encoding has.
SURROGATE = "x\ud800y"
LONG = "x" * 1_000_000

#: What `dumps` writes instead of these.
DIGITS, INFINITE, DEEP, DEEP_OBJECT = "@digits@", "@infinite@", "@deep@", "@deep-object@"
_WRITTEN = {
    DIGITS: "9" * 5000,
    INFINITE: "1e400",
    DEEP: "[" * 10_000 + "]" * 10_000,
    DEEP_OBJECT: '{"a":' * 10_000 + "1" + "}" * 10_000,
}
NAN = float("nan")

#: What is no string.
NO_STRINGS: dict[str, Any] = {"null": None, "list": ["x"], "object": {"a": 1}, "number": 5, "true": True}
#: What is no list of objects.
NO_LISTS: dict[str, Any] = {"object": {"a": 1}, "string": "abc", "number": 5, "true": True, "of-strings": ["abc"],
                            "of-lists": [[1]], "of-nulls": [None], "of-numbers": [5]}  # fmt: skip
#: What is no number of bytes.
NO_SIZES: dict[str, Any] = {"true": True, "negative": -1, "string": "5", "null": None, "digits": DIGITS,
                            "infinite": INFINITE, "nan": NAN, "fraction": 1.5, "list": [5], "object": {}}  # fmt: skip
#: What is no JSON object.
NO_OBJECTS: dict[str, bytes] = {
    "empty": b"", "list": b"[]", "string": b'"abc"', "null": b"null", "true": b"true", "number": b"5",
    "digits": b"9" * 5000, "not-json": b"<html>", "cut-short": b'{"a": ', "not-utf-8": b'{"a": "\xff\xfe"',
    "deep": b"[" * 10_000 + b"]" * 10_000, "deep-object": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "utf-16": '{"a": 1}'.encode("utf-16")[:-1], "painted": json.dumps(PAINT).encode(),
}  # fmt: skip


def dumps(document: object) -> bytes:
    """JSON, with numbers and depths that Python would not write."""
    text = json.dumps(document)
    for name, written in _WRITTEN.items():
        text = text.replace(f'"{name}"', written)
    return text.encode()
