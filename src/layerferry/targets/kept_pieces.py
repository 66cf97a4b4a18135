"""What pushes that broke off have left on a target: the pieces of large layers, and how all of it is removed."""

import time
from collections.abc import Iterable
from functools import cache

from layerferry.oci import limits
from layerferry.oci.piece import kept_content
from layerferry.protocol import Reply, Verb
from layerferry.targets import host
from layerferry.targets.conversation import Conversation
from layerferry.targets.host import python_program
from layerferry.targets.host.script import resuming

_DIGITS = 16


@cache
def program() -> bytes:
    """What the target runs to keep pieces: a part of the host script, and what its python3 does of that."""
    keeper = python_program.word(python_program.bare(host.__name__, "keeper.py").encode())
    return f"keeper={keeper}\n".encode() + resuming()


def find_kept(conversation: Conversation, needed: int, diff_ids: Iterable[str]) -> tuple[dict[str, str], int]:
    """Tell that layers of `needed` bytes come: the pieces of them that are there, and the bytes that may be kept.

    The pieces go by what they are known by (`layerferry.oci.piece`), and have the target's names.
    """
    kept: dict[str, str] = {}
    room = 0
    line = (Verb.RESUME, str(needed), *diff_ids)
    for words in conversation.put(line, program(), "it to look at what an earlier push has left"):
        match words:
            case [Reply.KEPT, name] if len(kept) < limits.PIECES and (content := kept_content(name)):
                kept[content] = name
            case [Reply.ROOM, count]:
                room = _number(count)
    return kept, room


def collect(conversation: Conversation) -> tuple[int, int]:
    """Let all go that dead sessions have left: how many throw-away names, and bytes of layers, there were."""
    swept = freed = 0
    line = (Verb.GC, f"{int(time.time()):x}")
    for words in conversation.put(line, resuming(), "it to remove what earlier pushes have left"):
        match words:
            case [Reply.SWEPT, count]:
                swept = _number(count)
            case [Reply.FREED, count]:
                freed = _number(count)
    return swept, freed


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else 0
