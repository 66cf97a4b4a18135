"""The host script, put together from its parts."""

import re
from functools import cache
from importlib.resources import files

#: In the order in which they are sent: what starts all of it comes last.
PARTS = ("words", "cli", "api", "ctr", "containerd", "find", "inventory", "archive", "names", "main")
#: What stands first in each part, for shellcheck. What another part sets or uses is no fault there; in the whole it is.
_PART = re.compile(r"# shellcheck shell=sh .*\n")
_WHOLE = "# shellcheck shell=sh disable=SC2086,SC2329 # words are made of variables, names of functions of $way\n"
#: Where an awk program goes: between single quotes, so that it has none.
_AWK = re.compile(r"@(\w+\.awk)@")
#: Blanks that awk does not need; a string or a regular expression is left as it is.
_BLANKS = re.compile(r'("(?:\\.|[^"\\])*"|/(?:\\.|[^/\\])+/)| *([-+=!<>&|(){};,?:]+) *')


def assembled() -> str:
    """The whole script for people and shellcheck, with its comments."""
    parts = (_PART.sub("", _read(f"{part}.sh"), count=1) for part in PARTS)
    return _WHOLE + _AWK.sub(lambda found: f"\n{_program(found[1])}\n", "\n".join(parts))


@cache
def script() -> bytes:
    """The script as it is sent: without comments, blank lines and indents."""
    return "".join(f"{line}\n" for line in _lines(assembled())).encode()


def _program(name: str) -> str:
    """An awk program as it is sent."""
    return "\n".join(_BLANKS.sub(lambda found: found[1] or found[2], line) for line in _lines(_read(name)))


def _lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
