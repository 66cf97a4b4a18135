"""Layers unpacked on their way, for an engine that cannot: docker before 23 takes no zstd layer.

A tar header tells a layer's size before its bytes, so each is unpacked to the spool first, one at a time; its digest is
its diff ID then, and is checked before a byte is sent.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from layerferry.chunks import Hashed, copied, damage, drain, exhaust, most_of, packing, plain_chunks
from layerferry.disk import KeptFile
from layerferry.errors import SourceError
from layerferry.oci.content import Blob, Content, Summary
from layerferry.oci.image import MEDIA_TYPE_LAYER, Descriptor


class Unpacked:
    """A content whose layers of the given packings, in whoever's media types for them, come as plain tars."""

    def __init__(self, content: Content, packings: Collection[str], spool: Path) -> None:
        self._content = content
        self._packings = packings
        self._spool = spool
        self._plain: dict[str, Descriptor] = {}

    def blobs(self) -> Iterator[Blob]:
        for blob in self._content.blobs():
            yield self._unpack(blob) if packing(blob.descriptor.media_type) in self._packings else blob

    def finish(self) -> Summary:
        summary = self._content.finish()
        return replace(summary, descriptors={**summary.descriptors, **self._plain})

    def _unpack(self, blob: Blob) -> Blob:
        path = self._spool / f"{blob.diff_id.removeprefix('sha256:')}.tar"
        stored = iter(blob.chunks)
        layer = Hashed(plain_chunks(stored, blob.descriptor.media_type))
        size, place = blob.descriptor.size, f"layer {blob.descriptor.digest}"
        with KeptFile(path, size, exact=False, most=most_of(size), what=place) as file, damage(place):
            exhaust(copied(layer, file))
        exhaust(stored)
        if layer.digest != blob.diff_id:
            raise SourceError(f"layer {blob.descriptor.digest} is not {blob.diff_id}, but {layer.digest}")
        descriptor = self._plain[blob.diff_id] = Descriptor(MEDIA_TYPE_LAYER, layer.digest, layer.size)
        return Blob(blob.diff_id, descriptor, drain(path))
