"""Images whose blobs are held by digest, and are given as they are held: gzip stays gzip.

What a layout, an archive and a registry have in common: they only differ in where a document and a blob come from.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Protocol

from layerferry.chunks import HEAD, UNSURE, checked, layer_type, packing
from layerferry.errors import SourceError
from layerferry.oci.content import Blob, Content, Route, Summary
from layerferry.oci.image import Descriptor, Image
from layerferry.oci.manifest import Documents, Found
from layerferry.oci.plan import Plan
from layerferry.sources import SourceImage


class Store(Documents, Protocol):
    """Where the blobs of images are found."""

    def stream(self, blobs: Sequence[Descriptor]) -> Iterator[tuple[Descriptor, Iterator[bytes]]]:
        """The bytes of each of `blobs`, in the store's own order; each is read to its end before the next."""


class Stored:
    """The content of one image, out of a `Store`."""

    def __init__(self, found: Found, wanted: frozenset[str], store: Store) -> None:
        self._found = found
        self._wanted = wanted
        self._store = store
        self._received = 0
        #: By diff ID, what turned out to be packed otherwise than its media type says.
        self._corrected: dict[str, Descriptor] = {}

    def blobs(self) -> Iterator[Blob]:
        descriptors = self._found.descriptors
        lacking = {blob.digest: diff_id for diff_id, blob in descriptors.items() if diff_id in self._wanted}
        blobs = tuple(descriptors[diff_id] for diff_id in lacking.values())
        for blob, stored in self._store.stream(blobs):
            diff_id = lacking.pop(blob.digest)
            told, chunks = _told_by_content(blob, checked(self._counted(stored), blob, self._store.place))
            if told != blob:
                self._corrected[diff_id] = told
            yield Blob(diff_id, told, chunks)
        if lacking:
            raise SourceError(f"{self._store.place} lacks layer {min(lacking)} of {self._found.image.reference}")

    def finish(self) -> Summary:
        descriptors = {**self._found.descriptors, **self._corrected}
        return Summary(self._found.config, descriptors, self._found.manifest, self._received)

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._received += len(chunk)
            yield chunk


def _told_by_content(blob: Descriptor, chunks: Iterator[bytes]) -> tuple[Descriptor, Iterator[bytes]]:
    """A layer by the compression that it has: a media type is what somebody wrote, and engines look at the content."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= HEAD:
            break
    found = layer_type(head) if head else blob.media_type
    told = blob if packing(found) == packing(blob.media_type) else replace(blob, media_type=found)
    return told, chain((head,), chunks)


class DirectImage(SourceImage):
    """An image that is at hand: it was found, and there is one route, with its `reason`.

    `content` opens it, with the wanted diff IDs and a private folder.
    """

    def __init__(self, found: Found, reason: str, content: Callable[[frozenset[str], Path], Content]) -> None:
        self._found = found
        self._reason = reason
        self._content = content

    @classmethod
    def stored(cls, found: Found, reason: str, store: Store) -> "DirectImage":
        """One whose blobs are in a store by digest."""
        return cls(found, reason, lambda wanted, _spool: Stored(found, wanted, store))

    @property
    def image(self) -> Image:
        """What was found; a layer's size is that of its blob as stored."""
        return self._found.image

    @property
    def names(self) -> tuple[str, ...]:
        return self._found.names

    @property
    def held(self) -> Mapping[str, Descriptor]:
        """Every compressed blob that an engine takes: a plain tar is none that anybody else would have."""
        packed = {diff_id: blob for diff_id, blob in self._found.descriptors.items() if blob.is_compressed}
        return {diff_id: blob for diff_id, blob in packed.items() if packing(blob.media_type) not in UNSURE}

    def fetch_config_id(self) -> str:
        return self.image.id

    def choose(self, plan: Plan) -> Route:
        del plan
        return Route("direct", self._reason)

    def fetch(self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path) -> AbstractContextManager[Content]:
        del plan, route
        return contextlib.nullcontext(self._content(wanted, spool))
