"""Longer parts of the conversation: the ask, frames that go to a target, and what it tells in base85."""

import base64
from collections.abc import Iterable, Mapping, Sequence

from layerferry.errors import TargetError
from layerferry.oci.content import Piece
from layerferry.protocol import Verb


def asking(names: Iterable[str], asked: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """The lines of the ask; `asked` has the diff IDs of each image."""
    lines: list[tuple[str, ...]] = [(Verb.NAME, name) for name in names]
    for image_id, diff_ids in asked.items():
        lines += [(Verb.IMAGE, image_id), *((Verb.LAYER, diff_id) for diff_id in diff_ids)]
    return [*lines, (Verb.END,)]


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
