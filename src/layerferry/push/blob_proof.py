"""What a blob is, unpacked: nobody else's word is taken for it."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader

from layerferry.chunks import (
    CHUNK,
    HEAD,
    ChunkReader,
    Hashed,
    chunks_of,
    damage,
    exhaust,
    layer_type,
    unpacked,
)
from layerferry.errors import SourceError, TargetError
from layerferry.oci import limits
from layerferry.oci.image import Descriptor
from layerferry.push.blob_cache import Seen
from layerferry.registry_client.pusher import RepositoryPusher


def unpack(chunks: Iterable[bytes], place: str, most: int) -> Seen:
    """Read a layer as it is stored to its end, and tell what it is: by its first bytes, not by its media type.

    Raises `SourceError` where it is damaged, or has more than `most` bytes unpacked.
    """
    stored = Hashed(chunks)
    reader = BufferedReader(ChunkReader(stored), CHUNK)
    with damage(place):
        media_type = layer_type(reader.peek(HEAD)[:HEAD])
        layer = Hashed(chunks_of(unpacked(reader, media_type)))
        for _ in layer:
            if layer.size > most:
                raise SourceError(f"{place} has more than {most} bytes unpacked")
        exhaust(chunks_of(reader))  # what may stand behind the last frame is part of the blob
    return Seen(layer.digest, Descriptor(media_type, stored.digest, stored.size))


def read(pusher: RepositoryPusher, blob: Descriptor, check: Callable[[], None]) -> Seen | None:
    """Read a blob out of a registry, and tell what it is; None where it is not to be had, or unpacks to too much.

    `check` raises where the push was broken off.
    """

    def watched(chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            check()
            yield chunk

    most = max(limits.UNPACKED_AT_LEAST, limits.RATIO * blob.size)
    try:
        with contextlib.closing(pusher.blob(blob)) as chunks:
            seen = unpack(watched(chunks), pusher.place, most)
    except (SourceError, TargetError):
        return None
    return seen if seen.blob.digest == blob.digest else None
