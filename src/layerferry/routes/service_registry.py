"""The content of an image by way of a registry service: the daemon pushes all of it, we read what is missing."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from layerferry.errors import SourceError
from layerferry.events import Route
from layerferry.oci.delta_archive import Blob, Content
from layerferry.oci.image import Descriptor, Image
from layerferry.oci.plan import Inventory, plan
from layerferry.sources.daemon.api import Daemon
from layerferry.sources.daemon.push_tags import PUSH_TAG
from layerferry.sources.registry import RemoteSource


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """A registry service: `address` is its name on the daemon's side, `url` with its scheme on ours."""

    address: str
    url: str
    repository: str
    environ: Mapping[str, str] = field(repr=False)


class Served:
    """The content of one image, from a registry service that the daemon has pushed to. A `delta_archive.Content`."""

    def __init__(
        self, daemon: Daemon, endpoint: ServiceEndpoint, image: Image, wanted: frozenset[str], spool: Path
    ) -> None:
        self.pending = set(wanted)
        self.descriptors: Mapping[str, Descriptor] = {}
        self._daemon = daemon
        self._endpoint = endpoint
        self._image = image
        self._spool = spool
        self._stack = ExitStack()
        self._content: Content | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def config(self) -> bytes:
        assert self._content is not None, "blobs() has not ended"
        return self._content.config

    @property
    def manifest(self) -> tuple[str, bytes] | None:
        return self._content.manifest if self._content else None

    @property
    def received(self) -> int:
        return self._content.received if self._content else 0

    def blobs(self) -> Iterator[Blob]:
        endpoint = self._endpoint
        with self._daemon.pushing(self._image, f"{endpoint.address}/{endpoint.repository}") as push:
            push()
        source = self._stack.enter_context(closing(RemoteSource(endpoint.environ)))
        reference = f"registry:{endpoint.url.removeprefix('https://')}/{endpoint.repository}:{PUSH_TAG}"
        served = source.inspect(reference, self._image.platform)
        if served.diff_ids != self._image.diff_ids:
            raise SourceError(f"the registry service at {endpoint.url} serves another image than was pushed")
        nothing_there = plan(served, Inventory())
        route = Route("registry", endpoint.address)
        self._content = self._stack.enter_context(
            source.fetch(nothing_there, route, frozenset(self.pending), self._spool)
        )
        self.descriptors = self._content.descriptors
        for blob in self._content.blobs():
            self.pending.discard(blob.diff_id)
            yield blob
