"""Layers in files, each written once and read by many, also while it still grows.

A plain layer is compressed once, as it is kept, for every target that takes zstd.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from layerferry.chunks import CHUNK, checked, plain_chunks
from layerferry.compression.stream import Compression, Method, compress
from layerferry.disk import KeptFile
from layerferry.errors import LayerferryError, SourceError
from layerferry.oci.content import Blob
from layerferry.oci.delta_archive import ArchiveBytes
from layerferry.oci.image import MEDIA_TYPE_LAYER_ZSTD, Descriptor


@dataclass(slots=True)
class _Kept:
    """A layer in a file: `written` bytes of it so far, packed with zstd or as the source has them."""

    path: Path
    descriptor: Descriptor
    packed: bool
    written: int = 0
    whole: bool = False
    error: LayerferryError | None = None


class KeptLayers:
    """Layers in a private folder, by diff ID. `news` guards them, and tells when one has grown."""

    def __init__(self, folder: Path, compression: Compression, news: threading.Condition) -> None:
        self._folder = folder
        self._level = compression.level
        self._packs = compression.method in {None, Method.ZSTD}
        self._news = news
        self._layers: dict[str, _Kept] = {}

    @property
    def here(self) -> AbstractSet[str]:
        """The diff IDs of the layers that are here, or on their way."""
        return self._layers.keys()

    def keep(self, blob: Blob, go_on: Callable[[], None]) -> None:
        """Write a layer, checked. `go_on` raises where it is no longer wanted.

        Raises `SourceError` where it is not what it should be, and where the disk is full.
        """
        packed = self._packs and not blob.descriptor.is_compressed
        kept = _Kept(self._folder / blob.diff_id.removeprefix("sha256:"), blob.descriptor, packed)
        passed = checked(blob.chunks, blob.descriptor, "what the source gave")
        with KeptFile(kept.path, blob.descriptor.size, exact=not packed) as file:
            with self._news:
                self._layers[blob.diff_id] = kept
            for data in self._pack(passed) if packed else passed:
                file.write(data)
                with self._news:
                    go_on()
                    kept.written = file.written
                    self._news.notify_all()
        with self._news:
            kept.whole = True
            self._news.notify_all()

    def _pack(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        return compress(map(ArchiveBytes, chunks), Method.ZSTD, self._level)

    def forget_parts(self, why: LayerferryError | None) -> None:
        """Forget the layers that broke off; whoever reads one hears why."""
        for kept in self._layers.values():
            kept.error = None if kept.whole else why or SourceError("reading was broken off")
        self._layers = {diff_id: kept for diff_id, kept in self._layers.items() if kept.whole}

    def blobs(self, wanted: Iterable[str], wait: Callable[[], None]) -> Iterator[Blob]:
        """The wanted layers, each as soon as it begins to come. `wait` waits for news, or raises."""
        pending = set(wanted)
        while pending:
            with self._news:
                while not (found := sorted(pending & self.here)):
                    wait()
                layers = [(diff_id, self._layers[diff_id]) for diff_id in found]
            for diff_id, kept in layers:
                pending.discard(diff_id)
                chunks = self._follow(kept, wait)
                if kept.packed:
                    plain = plain_chunks(chunks, MEDIA_TYPE_LAYER_ZSTD)
                    yield Blob(diff_id, kept.descriptor, plain, packed=chunks)
                else:
                    yield Blob(diff_id, kept.descriptor, chunks)

    def _follow(self, kept: _Kept, wait: Callable[[], None]) -> Iterator[bytes]:
        """The bytes of a file that may still grow."""
        count = 0
        with kept.path.open("rb") as file:
            while True:
                if data := file.read(CHUNK):
                    count += len(data)
                    yield data
                    continue
                with self._news:
                    while count >= kept.written and not kept.whole:
                        if kept.error is not None:
                            raise kept.error
                        wait()
                    if count >= kept.written:
                        return
                data = file.read(CHUNK)
                if not data:
                    raise SourceError(f"{kept.path} has been cut short")
                count += len(data)
                yield data
