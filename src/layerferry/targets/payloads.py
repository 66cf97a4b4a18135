"""What is said to a target, and what it tells: lines, the ask, frames, and bytes in base85."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence

from layerferry import log
from layerferry.errors import SourceError, TargetError
from layerferry.oci.content import Piece
from layerferry.protocol import Verb

_WORD = re.compile(r"[!-~]+")


def said(lines: Sequence[Sequence[str]], target: str) -> bytes:
    """Lines as they are said, which the log gets, too. Raises `SourceError` where a word is none."""
    for word in (word for line in lines for word in line):
        if not _WORD.fullmatch(word):
            raise SourceError(f"{word[:80]!r} cannot be said to {target}: it is not one word")
    texts = [" ".join(line) for line in lines]
    for text in texts:
        log.note(f"> {target}", text)
    return "".join(f"{text}\n" for text in texts).encode("ascii")


def asking(names: Iterable[str], asked: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """The lines of the ask; `asked` has the diff IDs of each image."""
    lines: list[tuple[str, ...]] = [(Verb.NAME, name) for name in names]
    for image_id, diff_ids in asked.items():
        lines += [(Verb.IMAGE, image_id), *((Verb.LAYER, diff_id) for diff_id in diff_ids)]
    return [*lines, (Verb.END,)]


def expecting(
    expected: Mapping[str, Sequence[str]], asked: Mapping[str, Sequence[str]], *, recalled: bool
) -> list[tuple[str, ...]]:
    """The header of an archive: by throw-away name, the diff IDs to show.

    `recalled`: the target knows those of the images that it was `asked` for, by image ID, which is less to say.
    """
    known = {tuple(diff_ids): ("of", image_id) for image_id, diff_ids in asked.items() if diff_ids and recalled}
    return [(Verb.EXPECT, name, *known.get(tuple(diff_ids), diff_ids)) for name, diff_ids in expected.items()]


def framed(frame: Piece) -> bytes:
    """A frame with its line before it; of a piece that the target has, that line alone."""
    if not frame.data:
        return f"+ {frame.name}\n".encode()
    return f"{len(frame.data)} {frame.name}".rstrip().encode() + b"\n" + frame.data


def decoded(text: str, target: str) -> bytes:
    """Bytes of a line `data`; raises `TargetError`."""
    try:
        return base64.b85decode(text)
    except ValueError:
        raise TargetError(f"{target} tells of its files in other signs than those of base85") from None
