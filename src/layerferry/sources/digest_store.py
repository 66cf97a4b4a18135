"""Sources that hold an image's blobs by digest, and give them as they hold them: gzip stays gzip.

What a layout, an archive and a registry have in common: they only differ in where a document and a blob come from.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from layerferry.chunks import checked
from layerferry.errors import SourceError
from layerferry.events import Route
from layerferry.oci.delta_archive import Blob, Content
from layerferry.oci.image import Descriptor, Image, Platform
from layerferry.oci.manifest import Documents, Found
from layerferry.oci.plan import Plan


class Store(Documents, Protocol):
    """Where the blobs of images are found."""

    def stream(self, blobs: Sequence[Descriptor]) -> Iterator[tuple[Descriptor, Iterator[bytes]]]:
        """The bytes of each of `blobs`, in the store's own order; each is read to its end before the next."""


class Stored:
    """The content of one image, out of a `Store`. A `delta_archive.Content`."""

    def __init__(self, found: Found, wanted: frozenset[str], store: Store) -> None:
        self._found = found
        self._wanted = wanted
        self._store = store
        self.config = found.config
        self.descriptors: Mapping[str, Descriptor] = found.descriptors
        self.manifest = found.manifest
        self.received = 0

    def blobs(self) -> Iterator[Blob]:
        lacking = {blob.digest: diff_id for diff_id, blob in self.descriptors.items() if diff_id in self._wanted}
        blobs = tuple(self.descriptors[diff_id] for diff_id in lacking.values())
        for blob, chunks in self._store.stream(blobs):
            yield Blob(lacking.pop(blob.digest), blob, checked(self._counted(chunks), blob, self._store.place))
        if lacking:
            raise SourceError(f"{self._store.place} lacks layer {min(lacking)} of {self._found.image.reference}")

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.received += len(chunk)
            yield chunk


@dataclass(frozen=True, slots=True)
class Described:
    """An image, and how its content is opened: with the wanted diff IDs, and a private folder."""

    found: Found
    open: Callable[[frozenset[str], Path], Content]


class DirectSource:
    """A `sources.Source` whose image is at hand: `describe` finds it, and there is one route."""

    #: What `choose` gives as its reason.
    reason = ""

    def __init__(self) -> None:
        self._described: dict[tuple[str, str], Described] = {}

    def describe(self, reference: str, platform: Platform | None) -> Described:
        """Find an image; raises `SourceError`."""
        raise NotImplementedError

    def inspect(self, reference: str, platform: Platform | None = None) -> Image:
        """Describe the image for `platform`. A layer's size is that of its blob as stored.

        Raises `SeveralPlatformsError` where a platform must be said, and `SourceError`.
        """
        described = self.describe(reference, platform)
        image = described.found.image
        self._described[reference, image.id] = described
        return image

    def names(self, image: Image) -> tuple[str, ...]:
        """The full names that the source itself gives an image that was inspected; often none."""
        return self._described[image.reference, image.id].found.names

    def held(self, image: Image) -> Mapping[str, Descriptor]:
        """Every compressed blob: a plain tar is none that anybody else would have."""
        found = self._described[image.reference, image.id].found
        return {diff_id: blob for diff_id, blob in found.descriptors.items() if blob.is_compressed}

    def config_id(self, image: Image) -> str:
        return image.id

    def prepare(self) -> None:
        """Nothing takes long."""

    def expect(self, plans: Sequence[Plan]) -> None:
        """Nothing is read ahead."""

    def choose(self, plan: Plan) -> Route:
        del plan
        return Route("direct", self.reason)

    def fetch(self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path) -> AbstractContextManager[Content]:
        del route
        described = self._described[plan.image.reference, plan.image.id]
        return contextlib.nullcontext(described.open(wanted, spool))

    def close(self) -> None:
        """Nothing is held."""
