"""The host script, put together from its parts."""

import gzip
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

from layerferry.protocol import Reply, Verb

#: All of it that has to do with images, in an order in which what is defined later counts; what starts it comes last.
PARTS = (
    "words", "api", "api_names", "api_load", "cli", "ctr", "nerdctl", "containerd", "layers", "find", "engines",
    "inventory", "archive", "patch", "names", "learn", "main",
)  # fmt: skip
#: What a docker that answers on its socket needs to tell what it has.
FIRST = ("words", "api", "find", "inventory", "main")
#: What other hosts need besides, by the word with which they ask for it.
NEEDED = {
    "engines": ("cli", "ctr", "nerdctl", "containerd", "layers", "engines"),
    "blobs": ("containerd", "layers"),
}
#: What goes along, before the last part, where a push asks about the images that were there before.
UPKEEP = ("upkeep",)
#: What goes along where something follows a push; `login` comes before all other parts, the rest before the last.
FOLLOWING = ("login", "follow")
#: What goes along where the client has a password for sudo.
SUDO = ("sudo",)
#: The same on a host that gets no image, but runs what follows; it needs no engine, and no way to one.
ON_NODES = (*FOLLOWING, "node")
_ON_A_NODE = ("words", "inventory", "archive", "names", "main")
_NAMES = ("api_names", "names")
_ARCHIVE = (*_NAMES, "api_load", "archive")
#: The parts that each verb needs, but for those of the ask.
_OF_VERBS: dict[str, Sequence[str]] = {
    **dict.fromkeys((Verb.TAG, Verb.DONE, Verb.WAS, Verb.RESOLVE, Verb.KEEP, Verb.IMAGES, Verb.REMOVE), _NAMES),
    Verb.LEARN: (*_NAMES, "api_load", "learn"),
    **dict.fromkeys((Verb.EXPECT, Verb.LOAD, Verb.RESUME, Verb.GC, Verb.COPY, Verb.PLACE, Verb.THEN), _ARCHIVE),
    **dict.fromkeys((Verb.PROGRAM, Verb.PROBE, Verb.FILES, Verb.MATCH), (*_ARCHIVE, "patch")),
}
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
    return _assembled(PARTS, also)


def _assembled(parts: Sequence[str], also: Sequence[str]) -> str:
    first = [part for part in also if part == FOLLOWING[0]]
    order = (*first, *parts[:-1], *(part for part in also if part not in first), *parts[-1:])
    return _WHOLE + "\n".join(_part(name) for name in order)


def _part(name: str) -> str:
    text = _PART.sub("", _read(f"{name}.sh"), count=1)
    return _INCLUDED.sub(lambda found: _tight(_read(found[1])), text)


@cache
def script(also: Sequence[str] = ()) -> bytes:
    """The whole script without comments, blank lines, indents and blanks that a shell does not need."""
    return _sent(assembled(also))


class SentScript:
    """The script as one host gets it: first what every host needs, then the parts that turn out to be needed.

    A part comes with its line, `part BYTES [gzip]`, and is packed where the host has unpacked the first.
    """

    def __init__(self, also: Sequence[str] = (), *, engines: bool = False, packed: bool = False) -> None:
        """`engines`: it is known beforehand that what finds other engines than docker is needed."""
        self._also = tuple(also)
        self._packed = packed
        sudo = SUDO[0] in also
        engine = (*(NEEDED["engines"] if engines or sudo else ()), *(("archive",) if sudo else ()))
        self._parts = _ON_A_NODE if also == ON_NODES else (*FIRST[:-1], *engine, FIRST[-1])
        self._there = frozenset((*self._parts, *also))

    def first(self) -> bytes:
        """What is sent before the host has said anything."""
        return _first(self._parts, self._also, packed=self._packed)

    def plainly(self) -> bytes:
        """The same for a host that has no gzip."""
        self._packed = False
        return self.first()

    def before(self, verbs: Iterable[str]) -> bytes:
        """The line and the parts that must be there before such lines are said; nothing where all are."""
        return self._further({part: None for verb in verbs for part in _OF_VERBS.get(verb, ())})

    def needed(self, line: str) -> bytes:
        """What a host asks for with a line, once; nothing where it asks for nothing."""
        verb, _, word = line.partition(" ")
        return self._further(NEEDED.get(word, ())) if verb == Reply.NEED else b""

    def _further(self, parts: Iterable[str]) -> bytes:
        missing = tuple(part for part in parts if part not in self._there)
        if not missing:
            return b""
        self._there |= set(missing)
        text = _late(missing, packed=self._packed)
        return f"{Verb.PART} {len(text)}{' gzip' if self._packed else ''}\n".encode() + text


@cache
def _first(parts: Sequence[str], also: Sequence[str], *, packed: bool) -> bytes:
    return _wrapped(_sent(_assembled(parts, also)), packed=packed)


@cache
def _late(parts: Sequence[str], *, packed: bool) -> bytes:
    return _wrapped(_sent("\n".join(_part(name) for name in parts)), packed=packed)


def _wrapped(text: bytes, *, packed: bool) -> bytes:
    """As it goes through ssh: `gzip -dc` is everywhere, nearly."""
    return gzip.compress(text, 9, mtime=0) if packed else text


@cache
def patching() -> bytes:
    """What the target runs beside the script to patch layers, as it is sent."""
    return _sent(_part(PATCHING))


@cache
def resuming() -> bytes:
    """What the target runs beside the script to keep what has arrived of large layers, as it is sent."""
    return _sent(_part(RESUMING))


def _sent(text: str) -> bytes:
    text = _AWK.sub(lambda found: f"{found[1]}'{_program(found[2])}'", _tight(text))
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
