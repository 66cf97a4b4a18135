"""The content of an image by way of a registry service: the daemon pushes all of it, we read what is missing."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Self

from layerferry.errors import SourceError
from layerferry.oci.content import Blob, Content, Summary
from layerferry.oci.image import Descriptor
from layerferry.oci.plan import Inventory, plan
from layerferry.routes.reachability import ServiceEndpoint
from layerferry.sources.daemon.api import Daemon, Inspected
from layerferry.sources.daemon.push_tags import PUSH_TAG
from layerferry.sources.registry import RemoteSource


class Served:
    """The content of one image, from a registry service that the daemon has pushed to."""

    def __init__(
        self, daemon: Daemon, endpoint: ServiceEndpoint, inspected: Inspected, wanted: frozenset[str], spool: Path
    ) -> None:
        self.pending = set(wanted)
        self._daemon = daemon
        self._endpoint = endpoint
        self._inspected = inspected
        self._image = inspected.image
        self._spool = spool
        self._stack = ExitStack()
        self._content: Content | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def blobs(self) -> Iterator[Blob]:
        endpoint = self._endpoint
        with self._daemon.pushing(self._inspected, f"{endpoint.address}/{endpoint.repository}") as push:
            push()
        source = self._stack.enter_context(closing(RemoteSource(endpoint.environ)))
        reference = f"registry:{endpoint.url.removeprefix('https://')}/{endpoint.repository}:{PUSH_TAG}"
        served = source.open(reference, self._image.platform)
        if served.image.diff_ids != self._image.diff_ids:
            raise SourceError(f"the registry service at {endpoint.url} serves another image than was pushed")
        nothing_there = plan(served.image, Inventory())
        route = served.choose(nothing_there)
        self._content = self._stack.enter_context(
            served.fetch(nothing_there, route, frozenset(self.pending), self._spool)
        )
        for blob in self._content.blobs():
            self.pending.discard(blob.diff_id)
            yield blob

    def finish(self) -> Summary:
        assert self._content is not None  # `blobs` has it before its first blob
        return self._content.finish()

    @property
    def descriptors(self) -> Mapping[str, Descriptor]:
        """The descriptors of the layers that are known so far."""
        return self._content.finish().descriptors if self._content else {}

    @property
    def received(self) -> int:
        """The bytes that were read so far."""
        return self._content.finish().received if self._content else 0
