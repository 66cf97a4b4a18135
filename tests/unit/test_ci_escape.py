"""The CIs' own parsers, in miniature, find no command in foreign text, and read ours back as it was meant."""

import json
import random
import re

import pytest

from layerferry.ci.escape import (
    azure_data,
    azure_property,
    cleaned,
    cut,
    github_data,
    github_property,
    json_text,
    markdown_cell,
    message,
    neutralise,
    one_line,
    paragraph,
    teamcity,
)

NASTY = [
    "::add-mask::x",
    "  \t::set-output name=a::b",
    "\u00a0::error::x",
    "\u200b::error::x",
    "ok\n::error file=a::b",
    "ok\r::error::b",
    "ok\x0b::error::b",
    "ok\u2028::error::b",
    "ok\x85::error::b",
    "::::error::x",
    ":::error:::x",
    "text ::group::x",
    "##[error]x",
    "text ##[set-env name=PATH]x",
    "###[error]x",
    "##vso[task.setvariable variable=a]b",
    "x ##VSO[task.complete result=Failed]",
    "##teamcity[buildStop]",
    "####teamcity[buildStop]",
    "\x1b[0Ksection_start:1:a\r\x1b[0Khello",
    "\x1b]0;title\x07",
    "#\u200b#vso[x]",
]


def lines_as_a_runner_reads_them(text: str) -> list[str]:
    return re.split(r"\r\n|\r|\n", text)


def is_github_command(line: str) -> bool:
    """actions/runner, ActionCommand.TryParseV2 and TryParse, without the list of known commands."""
    trimmed = line.lstrip().lstrip("\u180e\u200b\ufeff").lstrip()
    if trimmed.startswith("::") and trimmed.find("::", 2) > 0:
        return True
    return "##[" in line and line.find("]", line.find("##[")) > 0


def is_command(line: str) -> bool:
    lower = line.lower()
    return is_github_command(line) or "##vso[" in lower or "##teamcity[" in lower or "\x1b" in line


@pytest.mark.parametrize("text", NASTY)
def test_foreign_text_is_no_command(text: str) -> None:
    assert not any(is_command(line) for line in lines_as_a_runner_reads_them(neutralise(text)))


@pytest.mark.parametrize("text", NASTY)
def test_nor_when_a_terminal_wraps_it(text: str) -> None:
    for line in neutralise(text).split("\n"):
        assert not any(is_command(line[cut:]) for cut in range(len(line)))


def test_nor_any_mixture_of_the_pieces() -> None:
    chance = random.Random(4)
    pieces = [
        "::",
        ":",
        "#",
        "##",
        "[",
        "]",
        "vso[",
        "teamcity[",
        "error",
        " ",
        "\n",
        "\r",
        "\x1b",
        "\u2028",
        "x",
        "\t",
    ]
    for _ in range(5_000):
        text = "".join(chance.choices(pieces, k=chance.randint(1, 12)))
        assert not any(is_command(line) for line in lines_as_a_runner_reads_them(neutralise(text))), repr(text)


@pytest.mark.parametrize(
    "text",
    [
        "dial tcp [::1]:5000: connect: connection refused",
        "app:1 on fe80::1 with # and ## and [brackets]",
        "größer, 大, \t tab, ✓ 🚢",
        "",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert neutralise(text) == text


def test_neutralising_twice_changes_nothing_more() -> None:
    for text in NASTY:
        assert neutralise(neutralise(text)) == neutralise(text)


def test_control_and_reordering_characters_are_spelt_out() -> None:
    assert neutralise("a\x1b[31m\x00\u202eb") == "a\\x1b[31m\\x00\\u202eb"


def test_one_line_is_one_line() -> None:
    assert one_line(" a \r\n\n b\u2028c ") == "a b c"


def test_github_reads_its_escapes_back() -> None:
    text = "100% of a:b, c\r\nd %0A"
    assert github_data(text) == "100%25 of a:b, c%0D%0Ad %250A"
    assert github_property(text) == "100%25 of a%3Ab%2C c%0D%0Ad %250A"


def test_azure_reads_its_escapes_back() -> None:
    assert azure_data("50% a;b]\r\n") == "50%AZP25 a;b]%0D%0A"
    assert azure_property("50% a;b]\r\n") == "50%AZP25 a%3Bb%5D%0D%0A"


def test_teamcity_reads_its_escapes_back() -> None:
    assert teamcity("it's [a|b]\r\n") == "it|'s |[a||b|]|r|n"
    assert teamcity("é\u2028🚢") == "|0x00e9|0x2028|0xd83d|0xdea2"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("app:1", "`app:1`"),
        ("a|b", "`a\\|b`"),
        ("`x` <b>@me</b> [l](http://e)", "`'x' <b>@me</b> [l](http://e)`"),
        ("a\nb", "`a b`"),
        (" ", ""),
    ],
)
def test_a_cell_is_a_code_span(text: str, cell: str) -> None:
    assert markdown_cell(text) == cell


# What others say, in few words.


@pytest.mark.parametrize("text", ["a" * 3000, "é" * 3000, "\x1b" * 3000, "🚢" * 10**6, "\n" * 10**6 + "x", ":" * 3000])
@pytest.mark.parametrize("limit", [2000, 100])
def test_a_message_fits(text: str, limit: int) -> None:
    for told in (message(text, limit), paragraph(text, limit), message("ok " + text, limit)):
        assert len(told.encode()) <= limit
        assert not any(is_command(line) for line in lines_as_a_runner_reads_them(told))


def test_what_is_cut_keeps_both_ends() -> None:
    assert message("start" + "-" * 3000 + "end", 20) == "start---…" + "-----end"
    assert message("short enough", 12) == "short enough"
    assert cut("ééé", 5) == "…"


@pytest.mark.parametrize("text", NASTY)
def test_no_cut_makes_a_command(text: str) -> None:
    for limit in range(4, 60):
        for told in (message(text * 3, limit), paragraph(text * 3, limit)):
            assert not any(is_command(line) for line in lines_as_a_runner_reads_them(told)), (limit, told)


def test_newlines_alone_part_a_paragraph() -> None:
    assert paragraph("one\rtwo\x85three\n  ::four::\u2028five") == "one two three\n: :four: : five"


# JSON.


def test_texts_of_a_document_are_messages_but_for_the_users_own() -> None:
    document = {"image": "::a::\n", "size": 5, "error": {"message": "::a::\nb", "hint": None}, "all": ["\x1b", True]}
    assert cleaned(document, keep=("image",)) == {
        "image": "::a::\n", "size": 5, "error": {"message": ": :a: : b", "hint": None}, "all": ["\\x1b", True],
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", [*NASTY, "\x7f", "\x9b", "\u202e", "\\", "\\\x7f", "\\##[x", ":::", "::::", "[::1]:22", "é🚢"]
)
def test_json_has_no_command_and_the_very_value(text: str) -> None:
    document = {text: [text, {"x": text + text}], "y": 1.5}
    told = json_text(document)
    assert json.loads(told) == document
    assert told.isascii()
    assert told.replace("\n", "").isprintable()
    assert "::" not in told
    for line in told.split("\n"):
        assert not any(is_command(line[at:]) for at in range(len(line)))
