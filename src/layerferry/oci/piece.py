"""The pieces of a large layer on their way: a target keeps each until all of the layer is loaded.

A piece is a part of a layer's bytes, compressed by itself, so that it does not matter who compresses the rest, and how.
A push that comes later makes the same parts, and leaves out those that the target says it has.
"""

import hashlib
import re

from layerferry.oci.image import digest_of

#: Bytes that a layer has, from which on its pieces are kept.
SMALLEST_LAYER = 1 << 20
#: Bytes of a piece, before compression: a 128th of its image, but at most a 32nd of its layer, in these bounds. In
#: pieces of 1 MiB a layer has 2 % more bytes than in one stream, in those of 4 MiB 0.3 % (200 MB of /usr, zstd 3), and
#: each takes a host some processes: with 75 instead of 300 it needed 1.1 s less of its CPU.
_SMALLEST, _LARGEST = 1 << 20, 4 << 20
_OF_IMAGE, _OF_LAYER = 128, 32
#: Hexadecimal digits of a layer's diff ID, of what tells its content, and of the digest of its bytes as sent. What is
#: made of all of them is checked by the engine.
_KEY, _DIGITS = 16, 32
#: What a target adds to a name is its own matter.
_KEPT = re.compile(r"([0-9a-f]{16}\.[0-9a-f]{32})\.[0-9a-f]{32}(?:\.[0-9a-f-]{1,90})?")


def piece_size(layer: int, image: int) -> int:
    """The bytes of each piece of a layer of `layer` bytes, but for the last; an image's are the same in every push."""
    size = _SMALLEST
    while size < min(image // _OF_IMAGE, layer // _OF_LAYER, _LARGEST):
        size *= 2
    return size


def recipe_id(diff_id: str) -> str:
    """What a layer's recipe goes by, as its bytes do by its diff ID: the pieces of one are none of the other."""
    return digest_of(f"recipe of {diff_id}".encode())


def key_of(diff_id: str) -> str:
    """What the names of a layer's pieces begin with; of a recipe's by its `recipe_id`."""
    return diff_id.removeprefix("sha256:")[:_KEY]


def content_of(diff_id: str, form: str, data: bytes = b"") -> str:
    """What a piece is known by, of `data` in a form, unless that says all of it already; however it is compressed."""
    told = hashlib.sha256(f"{form} ".encode())
    told.update(data)
    return f"{key_of(diff_id)}.{told.hexdigest()[:_DIGITS]}"


def name_of(content: str, data: bytes) -> str:
    """The name of a piece: by its end, the target finds that the bytes as sent are what they were."""
    return f"{content}.{hashlib.sha256(data).hexdigest()[:_DIGITS]}"


def digest_begins(digest: str, name: str) -> bool:
    """Whether a piece of that name has the digest, in hexadecimal digits."""
    return digest.startswith(name.rpartition(".")[2])


def kept_content(name: str) -> str:
    """What a piece that a target has is known by; empty where `name` is no piece's."""
    match = _KEPT.fullmatch(name)
    return match[1] if match else ""
