"""The escaping of text for CI logs: foreign text must be no command to the CI, and our own must be escaped right."""

import re
from collections.abc import Collection
from typing import Any

_LINE_ENDS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
#: Where Azure's agent, GitHub's runner (its older form) and TeamCity's agent look for a command, anywhere in a line.
_HASH_COMMAND = re.compile(r"##(?=\[|vso\[|teamcity\[)", re.IGNORECASE)
#: .NET's TrimStart, which GitHub's runner calls first, and characters that nobody sees.
_LEADING = re.compile(r"[\s\u180e\u200b-\u200f\u2060\ufeff]*::")
#: Controls but the tab, lone surrogates, ends of lines and paragraphs, and what reorders that which a reader sees:
#: Unicode's categories Cc, Cs, Zl and Zp, and UAX 9's explicit formatting characters.
_UNSEEN = re.compile(
    "[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\u2028\\u2029\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]"
)
#: Bytes of UTF-8 that a message has at most. Ours have a few hundred; what an engine says beyond that, nobody reads.
LONGEST_MESSAGE = 2000
_ELLIPSIS = "…"
_MOST_ONE_UNIT = 0xFFFF
_ASCII = 0x7F


def as_text(text: str) -> str:
    """What a variable or an argument says, in UTF-8, whatever the locale: what that lacks, Python has in surrogates.

    PEP 383. A path stays as it is where it is opened.
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # other surrogates are nobody's text
        return text


def neutralise(text: str) -> str:
    """Foreign text (an image's name, an engine's message) as lines that no CI takes for a command.

    GitHub's runner, and act's, take `::name …::value` at the start of a line, spaces apart; a line that holds two `::`
    is broken up wherever it stands, for it may be wrapped. Control characters are spelt out: an escape opens a section
    in GitLab's logs, a carriage return a new line everywhere.
    """
    return "\n".join(_neutralise_line(line) for line in _LINE_ENDS.split(text))


def one_line(text: str) -> str:
    """The text on one line, neutralised."""
    return neutralise(" ".join(part.strip() for part in _LINE_ENDS.split(text) if part.strip()))


def message(text: str, limit: int = LONGEST_MESSAGE) -> str:
    """The text on one line, neutralised, in at most `limit` bytes of UTF-8: one that is too long lacks its middle."""
    text = _shortened(text, limit)
    indent = " " * (len(text) - len(text.lstrip(" ")))
    return cut(indent + one_line(text), limit)


def paragraph(text: str, limit: int = LONGEST_MESSAGE) -> str:
    """The text as lines, which its newlines alone separate, neutralised, in at most `limit` bytes of UTF-8."""
    return cut("\n".join(one_line(line) for line in _shortened(text, limit).split("\n")), limit)


def cut(text: str, limit: int) -> str:
    """The text, or its beginning and end around an ellipsis, in at most `limit` bytes of UTF-8."""
    data = text.encode(errors="backslashreplace")
    if len(data) <= limit:
        return text
    half = (limit - len(_ELLIPSIS.encode())) // 2
    return data[:half].decode(errors="ignore") + _ELLIPSIS + data[-half:].decode(errors="ignore")


def beginning(text: str, limit: int) -> str:
    """The text, or its beginning of `limit` bytes of UTF-8 and an ellipsis."""
    data = text.encode(errors="replace")
    return text if len(data) <= limit else data[:limit].decode(errors="ignore") + _ELLIPSIS


def _shortened(text: str, limit: int) -> str:
    """The text, cut before it is neutralised: somebody may send megabytes."""
    return text if len(text) <= 2 * limit else text[:limit] + _ELLIPSIS + text[-limit:]


def cleaned(document: Any, *, keep: Collection[str] = ()) -> Any:
    """A JSON document whose texts are messages, since scripts print them, save those of the keys to `keep`."""
    match document:
        case str():
            return message(document)
        case dict():
            return {key: value if key in keep else cleaned(value, keep=keep) for key, value in document.items()}
        case list() | tuple():
            return [cleaned(value, keep=keep) for value in document]
    return document


def json_text(document: object) -> str:
    """A document as JSON that no terminal and no CI takes for a command; parsed, it has the same values.

    It is ASCII, and of a command's opening one sign is written as an escape. Outside of strings, JSON has neither `##`
    nor `::`.
    """
    import json  # noqa: PLC0415 - ssh is to start at once

    text = json.dumps(document, indent=2).replace("\x7f", "\\u007f")
    return _HASH_COMMAND.sub(r"#\\u0023", text).replace("::", r":\u003a")


def _neutralise_line(line: str) -> str:
    visible = _UNSEEN.sub(_spelt_out, line)
    visible = _HASH_COMMAND.sub("# #", visible)
    if visible.count("::") > 1 or _LEADING.match(visible):
        visible = re.sub(r":(?=:)", ": ", visible)
    return visible


def _spelt_out(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def github_data(text: str) -> str:
    """The value of a workflow command (actions/toolkit, packages/core/src/command.ts, escapeData)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def github_property(text: str) -> str:
    """A property of a workflow command (the same file, escapeProperty)."""
    return github_data(text).replace(":", "%3A").replace(",", "%2C")


def azure_data(text: str) -> str:
    """The value of a logging command (microsoft/azure-pipelines-agent, CommandStringConvertor)."""
    return text.replace("%", "%AZP25").replace("\r", "%0D").replace("\n", "%0A")


def azure_property(text: str) -> str:
    """A property of a logging command (the same file)."""
    return azure_data(text).replace(";", "%3B").replace("]", "%5D")


def teamcity(text: str) -> str:
    """An attribute of a service message (TeamCity's documentation, Service Messages, "Escaped Values")."""
    return "".join(_teamcity_character(character) for character in text)


def _teamcity_character(character: str) -> str:
    plain = {"|": "||", "'": "|'", "\n": "|n", "\r": "|r", "[": "|[", "]": "|]"}
    if character in plain:
        return plain[character]
    point = ord(character)
    if point <= _ASCII:
        return character
    if point <= _MOST_ONE_UNIT:
        return f"|0x{point:04x}"
    # The escape takes UTF-16 units, as Java's strings have them.
    units = character.encode("utf-16-be")
    return f"|0x{units[:2].hex()}|0x{units[2:].hex()}"


def markdown_cell(text: str) -> str:
    """The text as a code span in a cell of a Markdown table: it makes no link, no mention, no HTML and no new cell."""
    return "`" + message(text).replace("`", "'").replace("|", "\\|") + "`" if text.strip() else ""
