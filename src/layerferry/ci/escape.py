"""Text for CI logs: what is not ours must not be able to speak to the CI, and what is ours must be spelt right."""

import re
import unicodedata

_LINE_ENDS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
#: Where Azure's agent, GitHub's runner (its older form) and TeamCity's agent look for a command, anywhere in a line.
_HASH_COMMAND = re.compile(r"##(?=\[|vso\[|teamcity\[)", re.IGNORECASE)
#: .NET's TrimStart, which GitHub's runner calls first, and characters that nobody sees.
_LEADING = re.compile(r"[\s\u180e\u200b-\u200f\u2060\ufeff]*::")
#: Characters that reorder what a reader sees.
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MOST_ONE_UNIT = 0xFFFF
_ASCII = 0x7F


def neutralise(text: str) -> str:
    """`text` from elsewhere (an image's name, an engine's message) as lines that no CI takes for a command.

    GitHub's runner, and act's, take `::name …::value` at the start of a line, spaces apart; a line that holds two `::`
    is broken up wherever it stands, for it may be wrapped. Control characters are spelt out: an escape opens a section
    in GitLab's logs, a carriage return a new line everywhere.
    """
    return "\n".join(_neutralise_line(line) for line in _LINE_ENDS.split(text))


def one_line(text: str) -> str:
    """`text` on one line, neutralised."""
    return neutralise(" ".join(part.strip() for part in _LINE_ENDS.split(text) if part.strip()))


def _neutralise_line(line: str) -> str:
    visible = "".join(_visible(character) for character in line)
    visible = _HASH_COMMAND.sub("# #", visible)
    if visible.count("::") > 1 or _LEADING.match(visible):
        visible = re.sub(r":(?=:)", ": ", visible)
    return visible


def _visible(character: str) -> str:
    if character == "\t":
        return character
    if character in _REORDERING or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
        return character.encode("unicode_escape").decode()
    return character


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
    """`text` as a code span in a cell of a Markdown table: it makes no link, no mention, no HTML and no new cell."""
    return "`" + one_line(text).replace("`", "'").replace("|", "\\|") + "`" if text.strip() else ""
