"""Sets in patterns: what they stand for, against a matcher that is written by other means."""

import string
from functools import cache

import pytest

from layerferry.errors import UsageError
from layerferry.oci.image import Name
from layerferry.receive.patterns import Pattern

hypothesis = pytest.importorskip("hypothesis")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

_PLAIN = "abyz019._-"
_SET = st.builds(
    "[{}{}]".format,
    st.sampled_from(["", "!"]),
    st.text("abzAZ09._-", min_size=1, max_size=5).filter(lambda s: s != "!"),
)
_TOKENS = st.one_of(st.sampled_from([*_PLAIN, "*", "**", "?", "/", ":"]), _SET)


def matches(tokens: tuple[str, ...], text: str) -> bool:
    """Whether `text` is what the tokens of a pattern stand for, found by trying."""

    @cache
    def tries(token: int, place: int) -> bool:
        if token == len(tokens):
            return place == len(text)
        sign = tokens[token]
        if sign in {"*", "**"}:
            if tries(token + 1, place):
                return True
            return place < len(text) and (sign == "**" or text[place] != "/") and tries(token, place + 1)
        return place < len(text) and stands_for(sign, text[place]) and tries(token + 1, place + 1)

    return tries(0, 0)


def as_read(tokens: list[str]) -> list[str]:
    """The tokens as they are read when they are written one after the other: two `*` are one `**`."""
    read: list[str] = []
    for token in tokens:
        if token == "*" and read[-1:] == ["*"]:
            read[-1] = "**"
        else:
            read.append(token)
    return read


def stands_for(token: str, sign: str) -> bool:
    if token == "?":
        return sign != "/"
    return sign == token if len(token) == 1 else sign not in "/:" and in_set(token[1:-1], sign)


def in_set(members: str, sign: str) -> bool:
    negated, members = members.startswith("!"), members.removeprefix("!")
    found, place = False, 0
    while place < len(members):
        end = place + 2 if members[place + 1 : place + 2] == "-" and place + 2 < len(members) else place
        found = found or ord(members[place]) <= ord(sign) <= ord(members[end])
        place = end + 1
    return found is not negated


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.lists(_TOKENS, max_size=8), st.text("abyzABZ019._-/:", max_size=10))
def test_a_pattern_matches_what_its_signs_stand_for_and_nothing_else(tokens: list[str], text: str) -> None:
    """A host before and a name behind, so that no rule about what docker leaves out comes in between."""
    try:
        pattern = Pattern.parse(f"h.io/{''.join(tokens)}x:t")
    except UsageError:
        return
    signs = as_read(tokens)
    assert bool(pattern.repository.fullmatch(f"h.io/{text}x")) is matches((*"h.io/", *signs, "x"), f"h.io/{text}x")


_PLACES = (
    ("h.io/a{}b:t", "h.io/a{}b"),
    ("h.io/a{}:t", "h.io/a{}"),
    ("h.io/{}a:t", "h.io/{}a"),
    ("h.io{}a/b:t", "h.io{}a/b"),
    ("h.io:5{}/b:t", "h.io:5{}/b"),
    ("h.io:{}5/b:t", "h.io:{}5/b"),
    ("{}a:t", "docker.io/library/{}a"),
    ("a{}b/c:t", "docker.io/a{}b/c"),
    ("h.io/a:{}", "{}"),
    ("h.io/a:v{}1", "v{}1"),
)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(_SET, st.sampled_from(_PLACES))
def test_a_set_stands_for_no_slash_and_no_colon_wherever_it_is(written: str, place: tuple[str, str]) -> None:
    try:
        pattern = Pattern.parse(place[0].format(written))
    except UsageError:
        return
    expressions = (pattern.repository, pattern.tag)
    assert not any(expression.fullmatch(place[1].format(sign)) for expression in expressions for sign in "/:")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("acme/a[!b]*:*", "acme/a/evil:1"),
        ("acme/a[.-0]evil:*", "acme/a/evil:1"),
        ("acme/a[--9]evil:*", "acme/a/evil:1"),
        ("acme/a[--z]evil:*", "acme/a/evil:1"),
        ("acme/a[!a-z]evil:*", "acme/a/evil:1"),
        ("ghcr.io[!x]*/app:*", "ghcr.io/evil/app:1"),
        ("ghcr.io[!x]*/app:*", "ghcr.io:443/app:1"),
        ("ghcr.io[.-z]443/app:*", "ghcr.io:443/app:1"),
        ("ghcr.io[.-z]evil/app:*", "ghcr.io/evil/app:1"),
        ("[!x]/app:*", "y/z/app:1"),
    ],
)
def test_a_set_leads_out_of_no_part_of_a_name(pattern: str, name: str) -> None:
    assert not Pattern.parse(pattern).allows(Name.parse(name))


def test_a_set_stands_for_what_it_names() -> None:
    allowed = [
        sign for sign in string.printable if Pattern.parse("h.io/a[!0-9]b:t").repository.fullmatch(f"h.io/a{sign}b")
    ]
    assert set(allowed) == set(string.ascii_letters + "._-")
    assert Pattern.parse("[ab]pp:[0-9]").allows(Name.parse("app:1"))
    assert Pattern.parse("app:[a-c-]").allows(Name.parse("app:c"))


@pytest.mark.parametrize(
    "text", ["app:[z-a]", "a[9-0]:*", "app:[^x]", "app:[]", "app:[!]", "app:[!--z]", "app:[+-0]", "[::1]"]
)
def test_a_set_that_stands_for_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Pattern.parse(text)
