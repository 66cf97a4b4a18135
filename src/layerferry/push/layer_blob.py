"""A layer as a registry gets it: a file in the spool. What is compressed stays as it is, a plain tar gets compressed.

By gzip, unless the user says otherwise: docker before 23 cannot pull a zstd layer, and a registry cannot know who will.
The same tar makes the same bytes (no time, no name in the header), so that a layer which was sent once is found again.
"""

from pathlib import Path

from layerferry.chunks import Hashed, copied, exhaust
from layerferry.compression.pigz import gzipped
from layerferry.compression.stream import Compression, Method, compress
from layerferry.disk import KeptFile
from layerferry.errors import SourceError
from layerferry.oci import limits
from layerferry.oci.content import Blob
from layerferry.oci.delta_archive import ArchiveBytes
from layerferry.oci.image import MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_LAYER_ZSTD, Descriptor
from layerferry.push.blob_cache import Seen
from layerferry.push.blob_proof import unpack

_MEDIA_TYPES = {
    Method.GZIP: MEDIA_TYPE_LAYER_GZIP,
    Method.ZSTD: MEDIA_TYPE_LAYER_ZSTD,
    Method.NONE: MEDIA_TYPE_LAYER,
}
#: A registry keeps it, and others fetch it: what docker takes, though it is slower than what suits a wire.
_GZIP_LEVEL = 6


def pack(blob: Blob, compression: Compression, folder: Path) -> tuple[Descriptor, Path, Seen]:
    """Write a layer into `folder`, checked: nobody behind a registry looks whether a blob is what we say.

    Its descriptor has the source's media type, and what was seen of it is proved. Raises `SourceError` where it is
    something else than its diff ID, or its digest, says.
    """
    path = folder / f"{blob.diff_id.removeprefix('sha256:')}.layer"
    with KeptFile(path, blob.descriptor.size, exact=blob.descriptor.is_compressed) as file:
        if blob.descriptor.is_compressed:
            seen = unpack(copied(blob.chunks, file), f"layer {blob.descriptor.digest}", limits.UNPACKED)
            layer = Descriptor(blob.descriptor.media_type, seen.blob.digest, seen.blob.size)
        else:
            seen = _compress(blob, compression, file)
            layer = seen.blob
    stored = blob.descriptor.digest if blob.descriptor.is_compressed else layer.digest
    for wanted, found in ((stored, layer.digest), (blob.diff_id, seen.diff_id)):
        if wanted != found:
            raise SourceError(f"the source is damaged: what should be layer {wanted} is {found}")
    return layer, path, seen


def _compress(blob: Blob, compression: Compression, file: KeptFile) -> Seen:
    method = compression.method or Method.GZIP
    read = Hashed(blob.chunks)
    if method is Method.GZIP:
        stream = Hashed(gzipped(read, compression.level or _GZIP_LEVEL))
    else:
        stream = Hashed(compress(map(ArchiveBytes, read), method, compression.level))
    exhaust(copied(stream, file))
    return Seen(read.digest, Descriptor(_MEDIA_TYPES[method], stream.digest, stream.size))
