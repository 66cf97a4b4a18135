"""A layer as a registry gets it: a file in the spool. What is compressed stays as it is, a plain tar gets compressed.

By gzip, unless the user says otherwise: docker before 23 cannot pull a zstd layer, and a registry cannot know who will.
The same tar makes the same bytes (no time, no name in the header), so that a layer which was sent once is found again.
"""

from pathlib import Path

from layerferry.archive import Blob, Piece
from layerferry.compression import Compression, Method, compress
from layerferry.errors import SourceError
from layerferry.image import MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_LAYER_ZSTD, Descriptor
from layerferry.sources.streams import Hashed, copied, exhaust
from layerferry.upload.pigz import gzipped

_MEDIA_TYPES = {
    Method.GZIP: MEDIA_TYPE_LAYER_GZIP,
    Method.ZSTD: MEDIA_TYPE_LAYER_ZSTD,
    Method.NONE: MEDIA_TYPE_LAYER,
}
#: A registry keeps it, and others fetch it: what docker takes, though it is slower than what suits a wire.
_GZIP_LEVEL = 6


def pack(blob: Blob, compression: Compression, folder: Path) -> tuple[Descriptor, Path]:
    """Write a layer into `folder`, checked: nobody behind a registry looks whether a blob is what we say.

    Raises `SourceError` where it is something else than its diff ID, or its digest, says.
    """
    method = compression.method or Method.GZIP
    read = Hashed(blob.chunks)
    stream, media_type = read, blob.descriptor.media_type
    if not blob.descriptor.is_compressed:
        if method is Method.GZIP:
            stream = Hashed(gzipped(read, compression.level or _GZIP_LEVEL))
        else:
            stream = Hashed(compress(map(Piece, read), method, compression.level))
        media_type = _MEDIA_TYPES[method]
    path = folder / f"{blob.diff_id.removeprefix('sha256:')}.layer"
    with path.open("wb") as file:
        exhaust(copied(stream, file))
    wanted = blob.descriptor.digest if blob.descriptor.is_compressed else blob.diff_id
    if read.digest != wanted:
        raise SourceError(f"the source is damaged: what should be layer {wanted} is {read.digest}")
    return Descriptor(media_type, stream.digest, stream.size), path
