"""A docker daemon as the source: what it says of an image, and the image's bytes.

Whoever answers there is not believed: an answer is bounded while it is read, and is a `Document` from there on.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Self

from layerferry.chunks import ahead
from layerferry.errors import LayerferryError, SourceError
from layerferry.oci import limits
from layerferry.oci.documents import Document, load
from layerferry.oci.image import Digest, Image, Layer, Platform
from layerferry.oci.store_kind import StoreKind
from layerferry.sources.daemon import push_tags
from layerferry.sources.daemon.answers import members
from layerferry.sources.daemon.client import FAULTS, DaemonClient, DaemonRefusal, find_address, first_line, words_of
from layerferry.sources.daemon.history import HistoryEntry, layer_sizes
from layerferry.sources.daemon.save_stream import Save

_TIMEOUT = 60
#: docker before 25 writes the whole archive to its own disk before the first byte comes.
_SAVE_TIMEOUT = 3600
#: Seconds that a daemon has to tell whether it reaches a registry.
_PROBE_TIMEOUT = 5
#: docker's own storage drivers; with the containerd image store, an image shows a snapshotter, or nothing at all.
_GRAPH_DRIVERS = {"overlay2", "fuse-overlayfs", "btrfs", "zfs", "vfs", "aufs", "devicemapper", "overlay"}
_OTHER_PLATFORM = "A daemon shows, and gives, one platform of an image: pull or build the other one first."
#: Images to look at for layers whose digest the daemon knows.
_MOST_BASES = 16


class Daemon:
    """A docker daemon, reached as the docker CLI would reach it: DOCKER_HOST and TLS variables, else the context."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._arguments, self.address = find_address(environ)
        self._version = ""
        self._client = self._connect(_TIMEOUT)
        self._stores: dict[str, StoreKind] = {}
        self._known: dict[str, frozenset[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def _connect(self, timeout: int) -> DaemonClient:
        with self._asking():
            client = DaemonClient(self._arguments, self._version, timeout)
            self._version = client.api_version  # is asked for once
            return client

    @contextmanager
    def _asking(self, what: str = "does not answer") -> Iterator[None]:
        """Raise `SourceError` where the daemon refuses, answers with something else, or is not there."""
        try:
            yield
        except DaemonRefusal as refusal:
            raise SourceError(f"the docker daemon at {self.address} {what}: {refusal}") from None
        except FAULTS as error:
            raise SourceError(
                f"the docker daemon at {self.address} does not answer ({words_of(error)})",
                hint="Start it, or point DOCKER_HOST or a docker context at it: `docker version` must work here.",
            ) from None

    def version(self) -> str:
        """The daemon's version and storage driver, for people."""
        with self._asking():
            info = Document.parse(self._client.info(), "what the docker daemon says of itself")
        version, driver, system = (info.word(key, "") for key in ("ServerVersion", "Driver", "OSType"))
        return f"docker {version} ({driver}), {system}"

    def inspect(self, reference: str, platform: Platform | None = None) -> Image:
        """Describe an image; nothing of its layers is read.

        Raises `SourceError` where there is none of that name, or it is for another platform than the one asked for.
        """
        with self._asking(f"does not show {reference}"):
            found = Document.parse(self._find(reference), f"the daemon's answer about {reference}")
            sizes = self._history(reference)
        diff_ids = found.object("RootFS").digests("Layers")
        theirs = Platform(found.word("Os"), found.word("Architecture"), found.word("Variant", ""))
        if platform and not platform.runs(theirs):
            raise SourceError(f"{reference} is for {theirs}, not for {platform}", hint=_OTHER_PLATFORM)
        image = Image(reference, _image_id(found), theirs, Layer.chain(diff_ids, layer_sizes(sizes, len(diff_ids))))
        classic = found.object("GraphDriver").text("Name", "") in _GRAPH_DRIVERS
        self._stores[image.id] = StoreKind.CHAIN if classic else StoreKind.BLOB
        self._known[image.id] = self._find_known(image, found) if classic else frozenset(diff_ids)
        return image

    def _find(self, reference: str) -> bytes:
        try:
            shown: bytes = self._client.inspect_image(reference)
        except DaemonRefusal as refusal:
            if refusal.status != HTTPStatus.NOT_FOUND:
                raise
            raise SourceError(
                f"the docker daemon at {self.address} has no image {reference}",
                hint="Build or pull it first; `docker image ls` shows what is there.",
            ) from None
        return shown

    def _history(self, reference: str) -> list[HistoryEntry]:
        """The history of an image, bottom first."""
        what = f"the daemon's history of {reference}"
        told = Document({"entries": load(self._client.history(reference), what)}, what)
        return [HistoryEntry.of(entry) for entry in reversed(told.objects("entries"))]

    def _find_known(self, image: Image, found: Document) -> frozenset[str]:
        """Layers of images that were pulled or pushed; a base is one of the largest that are no larger than ours."""
        if found.texts("RepoDigests"):
            return frozenset(image.diff_ids)
        known: set[str] = set()
        with self._asking("does not list its images"):
            for other in self._largest(found.count("Size", 0)):
                try:
                    shown = Document.parse(self._client.inspect_image(other), f"the daemon's answer about {other}")
                except DaemonRefusal:
                    continue  # an image may go away meanwhile, and this is a guess all the same
                known.update(shown.object("RootFS").digests("Layers"))
        return frozenset(image.diff_ids) & known

    def _largest(self, most: int) -> list[Digest]:
        """The largest images of at most so many bytes whose layers the daemon knows digests for."""
        sizes: dict[Digest, int] = {}
        for data in members(self._client.images()):
            row = Document.parse(data, "the daemon's list of images", most=limits.LISTED)
            if row.texts("RepoDigests") and row.count("Size") <= most:
                sizes[_image_id(row)] = row.count("Size")
        return heapq.nlargest(_MOST_BASES, sizes, key=sizes.__getitem__)

    def known(self, image: Image) -> frozenset[str]:
        """The diff IDs that the daemon, as far as we can see, knows a blob digest for.

        A push of any other layer uploads it, whatever a registry claims to hold (moby, distribution/push_v2.go).
        """
        return self._known.get(image.id, frozenset())

    def store(self, image: Image) -> StoreKind:
        """How the daemon stores an image: `CHAIN` (a graph driver), or `BLOB` (the containerd image store)."""
        return self._stores.get(image.id, StoreKind.CHAIN)

    def export(self, image: Image, wanted: frozenset[str], spool: Path) -> "Export":
        """Stream the image out of the daemon (`docker save`), and pick the `wanted` layers."""
        return Export(self._connect(_SAVE_TIMEOUT), image, wanted, spool)

    def reaches(self, name: str, auth: Mapping[str, str] | None = None) -> str:
        """Ask the daemon for an image of a registry that has none; why it does not reach it, or an empty string.

        An answer that tells the image unknown is the sign of success; a bare 404 is podman's for the whole endpoint.
        """
        try:
            with closing(self._connect(_PROBE_TIMEOUT)) as client:
                client.inspect_distribution(name, auth_config=dict(auth or {}))
        except DaemonRefusal as refusal:
            said = str(refusal)
            return "" if "manifest unknown" in said or "name unknown" in said else said
        except (*FAULTS, LayerferryError) as error:
            return words_of(error)
        return ""

    @contextmanager
    def pushing(
        self, image: Image, repository: str, auth: Mapping[str, str] | None = None
    ) -> Iterator[Callable[[], None]]:
        """A call that lets the daemon push an image under a name in `repository`; afterwards it looks as it did before.

        The credentials go with the request alone: nothing is logged in, no credential helper is asked. Any of it raises
        `SourceError`.
        """
        name = f"{repository}:{push_tags.PUSH_TAG}"
        with closing(self._connect(_SAVE_TIMEOUT)) as client:

            def push() -> None:
                with (
                    self._asking("could not push"),
                    closing(client.push(name, stream=True, auth_config=dict(auth or {}))) as said,
                ):
                    for line in said:
                        _check_progress(line)

            with self._asking("could not push"):
                found = Document.parse(client.inspect_image(image.id), f"the daemon's answer about {image.reference}")
                # It would go with the name that we take away.
                if not (found.texts("RepoTags") or found.texts("RepoDigests")):
                    raise SourceError(f"{image.reference} has no name in the docker daemon, and would be lost")
                client.tag(image.id, repository, push_tags.PUSH_TAG, force=True)
            try:
                yield push
            finally:
                with self._asking("could not push"):
                    client.remove_image(name, noprune=True)

    def sweep(self) -> str:
        """Take away the names that killed runs have left here; a sentence on it, or an empty string."""

        def shown() -> Iterator[str]:
            with self._asking("does not list its images"):
                for data in members(self._client.images(filters={"reference": push_tags.PATTERN})):
                    yield from Document.parse(data, "the daemon's list of images", most=limits.LISTED).texts("RepoTags")

        def remove(name: str) -> None:
            with self._asking("does not remove a name"):
                self._client.remove_image(name, noprune=True)

        return push_tags.sweep(shown, remove)


def _check_progress(line: bytes) -> None:
    """A push that failed says so in its stream, after a status of 200."""
    if line.strip():
        told = Document.parse(line, "what the docker daemon says of its push", most=limits.PROGRESS_LINE)
        if error := str(told.members.get("error") or ""):
            raise SourceError(f"the docker daemon could not push: {first_line(error)}")


class Export(Save):
    """The content of an image, read through the daemon's API. Close it when done: the daemon then stops reading."""

    def __init__(self, client: DaemonClient, image: Image, wanted: frozenset[str], spool: Path) -> None:
        self._client = client
        self.received = 0
        super().__init__(image, wanted, self._read(image), spool)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    def _read(self, image: Image) -> Iterator[bytes]:
        try:
            with closing(ahead(self._client.get_image(image.id))) as chunks:
                for chunk in chunks:
                    self.received += len(chunk)
                    yield chunk
        except (DaemonRefusal, *FAULTS) as error:
            raise SourceError(f"the docker daemon broke off reading {image.reference}: {words_of(error)}") from None


def _image_id(found: Document) -> Digest:
    """Podman's have no algorithm before them."""
    text = found.text("Id")
    try:
        return Digest(text if text.startswith("sha256:") else f"sha256:{text}")
    except ValueError as error:
        raise found.damaged(f"Id {error}") from None
