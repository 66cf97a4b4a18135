"""The host script, put together from its parts."""

import gzip
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

#: In the order in which they are sent: what starts all of it comes last.
PARTS = (
    "words", "cli", "api", "ctr", "nerdctl", "containerd", "find", "inventory", "archive", "patch", "names", "main",
)  # fmt: skip
#: What goes along, before the last part, where a push asks about the images that were there before.
UPKEEP = ("upkeep",)
#: What goes along where something follows a push; `login` comes before all other parts, the rest before the last.
FOLLOWING = ("login", "follow")
#: What goes along where the client has a password for sudo.
SUDO = ("sudo",)
#: The same on a host that gets no image, but runs what follows; it needs no engine, and no way to one.
ON_NODES = (*FOLLOWING, "node")
_OF_ENGINES = frozenset({"cli", "api", "ctr", "nerdctl", "containerd", "patch"})
#: What goes behind, where there is something to patch, or something large to send.
PATCHING = "patching"
RESUMING = "resuming"
#: What stands first in each part, for shellcheck. What another part sets or uses is no fault there; in the whole it is.
_PART = re.compile(r"# shellcheck shell=sh .*\n")
_WHOLE = "# shellcheck shell=sh disable=SC2086,SC2329 # words are made of variables, names of functions of $way\n"
#: Where an awk program goes that has a file of its own: between single quotes, so that it has none.
_INCLUDED = re.compile(r"@(\w+\.awk)@")
_AWK = re.compile(r"(\bawk [^'\n|]*)'([^']*)'")
#: Blanks that awk does not need; a string or a regular expression is left as it is.
_AWK_BLANKS = re.compile(r'("(?:\\.|[^"\\])*"|/(?:\\.|[^/\\])+/)| *([-+=!<>&|(){};,?:]+) *')
#: What a reader of sh has to look at outside of double quotes, and inside: quotes, brackets, blanks around what ends a
#: command or leads elsewhere; and nothing, that a variable gets.
_COMMANDS = re.compile(
    r"""\\.|(?P<nothing>(?<=\w=)''(?=[\s;]))|'[^']*'|"|\(\) (?={)|[()]| *(?:\|\||&&|;;|[|;]) *|(?<!\d) +(?=[<>])""",
    re.DOTALL,
)
_QUOTED = re.compile(r"""\\.|"|\$\((?!\()""", re.DOTALL)

_TIGHT = frozenset({"||", "&&", ";;", "|", ";", "()", ""})


def assembled(also: Sequence[str] = ()) -> str:
    """The whole script for people and shellcheck, with its comments; `also` are parts that most pushes do without."""
    first = [part for part in also if part == FOLLOWING[0]]
    left_out = _OF_ENGINES if also == ON_NODES else frozenset[str]()
    needed = (part for part in PARTS[:-1] if part not in left_out)
    order = (*first, *needed, *(part for part in also if part not in first), PARTS[-1])
    parts = (_PART.sub("", _read(f"{part}.sh"), count=1) for part in order)
    return _WHOLE + _INCLUDED.sub(lambda found: _tight(_read(found[1])), "\n".join(parts))


@cache
def script(also: Sequence[str] = ()) -> bytes:
    """The script as it is sent: without comments, blank lines, indents and blanks that a shell does not need."""
    text = _AWK.sub(lambda found: f"{found[1]}'{_program(found[2])}'", _tight(assembled(also)))
    return f"{_squeezed(text)}\n".encode()


@cache
def packed(also: Sequence[str] = ()) -> bytes:
    """The script as it is sent through ssh: `gzip -dc` is everywhere, nearly."""
    return gzip.compress(script(also), 9, mtime=0)


@cache
def patching() -> bytes:
    """What the target runs beside the script to patch layers, as it is sent."""
    return _late(PATCHING)


@cache
def resuming() -> bytes:
    """What the target runs beside the script to keep what has arrived of large layers, as it is sent."""
    return _late(RESUMING)


def _late(part: str) -> bytes:
    text = _AWK.sub(lambda found: f"{found[1]}'{_program(found[2])}'", _tight(_read(f"{part}.sh")))
    return f"{_squeezed(text)}\n".encode()


def _program(text: str) -> str:
    """An awk program as it is sent."""
    return "\n".join(_AWK_BLANKS.sub(lambda found: found[1] or found[2], line) for line in text.split("\n"))


def _squeezed(text: str) -> str:
    """Commands without the blanks that a shell does not need. No `case` may stand in `$(...)` in double quotes."""
    told: list[str] = []
    position, quoted = 0, False
    #: Of each `$(` in double quotes that is still open, the brackets that are open in it.
    nested: list[int] = []
    while found := (_QUOTED if quoted else _COMMANDS).search(text, position):
        word = "" if found.lastgroup else found[0]
        told += [text[position : found.start()], word.strip(" ") if word.strip(" ") in _TIGHT else word]
        position = found.end()
        match found[0]:
            case '"':
                quoted = not quoted
            case "$(":
                nested.append(0)
                quoted = False
            case "(" if nested:
                nested[-1] += 1
            case ")" if nested and nested[-1]:
                nested[-1] -= 1
            case ")" if nested:
                nested.pop()
                quoted = True
    return "".join([*told, text[position:]])


def _tight(text: str) -> str:
    """Without comments, indents and blank lines."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
