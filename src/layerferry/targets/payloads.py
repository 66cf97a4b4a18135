"""Bytes in the conversation: frames that go to a target, and what it tells in base85."""

import base64

from layerferry.errors import TargetError
from layerferry.oci.content import Piece


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
