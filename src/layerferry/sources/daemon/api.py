"""A docker daemon as the source: what it says of an image, and the image's bytes.

Whoever answers there is not believed: an answer is bounded while it is read, and is a `Document` from there on.
"""

import heapq
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self

from layerferry import ci
from layerferry.ci.daemon_address import DaemonAddress, find_address
from layerferry.errors import LayerferryError, MissingImageError, SourceError
from layerferry.oci import limits
from layerferry.oci.documents import Document, load
from layerferry.oci.image import Digest, Image, Layer, Name, Platform, is_image_id, may_be_image_id
from layerferry.oci.manifest import full_name, pick
from layerferry.oci.store_kind import StoreKind
from layerferry.sources.daemon import push_tags
from layerferry.sources.daemon.answers import members
from layerferry.sources.daemon.client import FAULTS, DaemonClient, DaemonRefusal, check_progress, patience, words_of
from layerferry.sources.daemon.history import HistoryEntry, layer_entries
from layerferry.sources.daemon.last_words import DaemonPush, LastWords
from layerferry.sources.daemon.ssh_transport import with_own_hosts
from layerferry.targets.address import Ssh

if TYPE_CHECKING:
    from layerferry.sources.daemon.daemon_host import DaemonHost
    from layerferry.sources.daemon.export import Export

#: docker's own storage drivers; with the containerd image store, an image shows a snapshotter, or nothing at all.
_GRAPH_DRIVERS = {"overlay2", "fuse-overlayfs", "btrfs", "zfs", "vfs", "aufs", "devicemapper", "overlay"}
_OTHER_PLATFORM = "Pull or build it for that platform first: `docker pull --platform`, or `docker build --platform`."
#: The API's version that shows each variant of an image: docker 28.1's.
_SHOWS_VARIANTS = (1, 49)
#: For what Go's net/http answers to plain HTTP; seen on docker 20.10 to 28.5.
_WANTS_TLS = "Set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder of ca.pem, cert.pem and key.pem."
#: Images to look at for layers whose digest the daemon knows.
_MOST_BASES = 16
#: Tags that are named where another one was asked for.
_MOST_TAGS = 5


@dataclass(frozen=True, slots=True)
class Inspected:
    """An image as its daemon shows it.

    `store` says how the daemon stores images: `chain` (a graph driver), or `blob` (the containerd image store). `known`
    has the diff IDs that the daemon, as far as we can see, knows a blob digest for: a push of any other layer uploads
    it, whatever a registry claims to hold (moby, distribution/push_v2.go).
    """

    image: Image
    store: StoreKind
    known: frozenset[str]
    #: The full name that it was asked for by; none where that was an ID, or the beginning of one.
    names: tuple[str, ...] = ()
    #: The folder of its uppermost layer on the daemon's machine, where its store has such.
    upper: str = ""
    #: The ID of all variants, where the image is one that the daemon does not show by itself: it knows no other.
    parent: str = ""

    @property
    def name(self) -> str:
        """What the daemon calls it."""
        return self.parent or self.image.id

    @property
    def variant(self) -> Platform | None:
        """What has to be said beside that name; None where it is what the daemon means by it."""
        return self.image.platform if self.parent else None


class Daemon:
    """A docker daemon, reached as the docker CLI would reach it: DOCKER_HOST and TLS variables, else the context."""

    def __init__(self, environ: Mapping[str, str], ssh: Ssh | None = None, host: "DaemonHost | None" = None) -> None:
        """`ssh` calls a daemon behind it, unless that is a `host`'s. Raises `SourceError`, and `UsageError`."""
        self._place = DaemonAddress(f"ssh://{host.name}", host.name) if host else find_address(environ)
        self._environ = environ
        self.host = host
        #: How to call ssh for its host, where it is behind one.
        dials = not host and self._place.url.startswith("ssh://")
        self.ssh = with_own_hosts(self._place.url, ssh or Ssh()) if dials else Ssh()
        self._version = ""
        self.last_words = LastWords()
        #: Those that a push waits for; nobody does any more once it was `ended`.
        self._clients = weakref.WeakSet[DaemonClient]()
        self._ended = False
        self._client = self._connect(limits.DAEMON)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def break_off(self) -> None:
        """Let whatever waits for the daemon, in whichever thread, hear at once that nothing more comes."""
        self.last_words.seconds()
        self._ended = True
        for client in list(self._clients):
            client.break_off()

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return self._place.shown

    @property
    def url(self) -> str:
        return self._place.url

    def _connect(self, timeout: float, platform: Platform | None = None) -> DaemonClient:
        """A client for what a push waits for."""
        client = self._open(timeout, platform)
        self._clients.add(client)
        if self._ended:
            client.break_off()
        return client

    def _open(self, timeout: float, platform: Platform | None = None) -> DaemonClient:
        """A client that is not broken off: it is for what has to be done at the end."""
        with self._asking():
            words = self.host.words if self.host else ()
            client = DaemonClient(self._place, self.ssh, self._version, timeout, platform, words=words)
            self._version = client.api_version  # is asked for once
            return client

    @contextmanager
    def _asking(self, what: str = "does not answer") -> Iterator[None]:
        """Raise `SourceError` where the daemon refuses, answers with something else, or is not there."""
        try:
            yield
        except (DaemonRefusal, SourceError, *FAULTS) as error:
            # Whatever is said then comes over a connection that ssh has made anew, or is of one that has ended.
            if self.host and (broken := self.host.broken(patient=not isinstance(error, (DaemonRefusal, SourceError)))):
                raise broken from None
            raise self._told(error, what) from None

    def _told(self, error: Exception, what: str) -> SourceError:
        if isinstance(error, SourceError):
            return error
        if isinstance(error, DaemonRefusal):
            hint = _WANTS_TLS if "HTTPS server" in str(error) else ""
            return SourceError(f"the docker daemon at {self.address} {what}: {error}", hint=hint)
        hint = "Start it, or point DOCKER_HOST or a docker context at it: `docker version` must work here."
        return SourceError(
            f"the docker daemon at {self.address} does not answer ({words_of(error)})",
            hint=ci.without_daemon(self._environ) or hint,
        )

    def version(self) -> tuple[str, StoreKind]:
        """The daemon's version and storage driver, for people, and how it stores images."""
        with self._asking():
            info = Document.parse(self._client.info(), "what the docker daemon says of itself")
        version, driver, system = (info.word(key, "") for key in ("ServerVersion", "Driver", "OSType"))
        store = StoreKind.CHAIN if driver in _GRAPH_DRIVERS else StoreKind.BLOB
        return f"docker {version} ({driver}), {system}", store

    def inspect(self, reference: str, platform: Platform | None = None) -> Inspected:
        """Describe an image; nothing of its layers is read.

        Raises `SourceError` where there is none of that name, or it is for another platform than the one asked for.
        """
        with self._asking(f"does not show {reference}"):
            found = Document.parse(self._find(self._client, reference), f"the daemon's answer about {reference}")
            if platform and not pick([(_platform_of(found), True)], platform):
                return self._inspect_variant(reference, platform, found)
            return self._describe(self._client, reference, found)

    def _inspect_variant(self, reference: str, platform: Platform, shown: Document) -> Inspected:
        """Describe the image's variant for a platform, which a containerd store may have beside the one it shows."""
        refusal = SourceError(f"{reference} is for {_platform_of(shown)}, not for {platform}", hint=_OTHER_PLATFORM)
        if _is_classic(shown) or not self._client.is_at_least(*_SHOWS_VARIANTS):
            raise refusal
        with closing(self._connect(limits.DAEMON, platform)) as client:
            try:
                found = Document.parse(client.inspect_image(reference), f"the daemon's answer about {reference}")
            except DaemonRefusal as said:
                raise refusal if said.status == HTTPStatus.NOT_FOUND else said from None
            if not pick([(_platform_of(found), True)], platform):
                raise refusal
            return replace(self._describe(client, reference, found), parent=_image_id(shown))

    def _describe(self, client: DaemonClient, reference: str, found: Document) -> Inspected:
        diff_ids = found.object("RootFS").digests("Layers")
        entries = layer_entries(self._history(client, reference), len(diff_ids))
        layers = Layer.chain(diff_ids, (entry.size for entry in entries))
        image = Image(reference, _image_id(found), _platform_of(found), layers)
        image = image.created(entry.created_by for entry in entries)
        if not _is_classic(found):
            return Inspected(image, StoreKind.BLOB, frozenset(diff_ids), _names(reference, found))
        known, upper = self._find_known(image, found), found.object("GraphDriver").object("Data").text("UpperDir", "")
        return Inspected(image, StoreKind.CHAIN, known, _names(reference, found), upper)

    def has(self, reference: str) -> bool:
        """Whether there is an image of that name."""
        with self._asking(f"does not show {reference}"):
            try:
                self._client.inspect_image(reference)
            except DaemonRefusal as refusal:
                if refusal.status != HTTPStatus.NOT_FOUND:
                    raise
                return False
        return True

    def _find(self, client: DaemonClient, reference: str) -> bytes:
        try:
            shown: bytes = client.inspect_image(reference)
        except DaemonRefusal as refusal:
            if refusal.status != HTTPStatus.NOT_FOUND:
                raise
            tags = self._tags_beside(client, reference)
            there = "`docker image ls` there shows what it has."
            verb, cure = ("pull", there) if self.host else ("push", ci.without_image(self._environ))
            missing = MissingImageError(
                f"the docker daemon at {self.address} has no image {reference}{_said_of(tags)}",
                hint=f"Say which: layerferry {verb} {tags[0]} ..." if tags else cure,
            )
            missing.tags = tags
            raise missing from None
        return shown

    def _tags_beside(self, client: DaemonClient, reference: str) -> list[str]:
        """Other tags of the name of an image that is not there, newest first; none where that cannot be told."""
        if is_image_id(reference):
            return []
        with suppress(LayerferryError, DaemonRefusal, *FAULTS):
            name = Name.parse(reference).familiar.rpartition(":")[0]
            listed = members(client.images(filters={"reference": name}))
            rows = (Document.parse(data, "the daemon's list of images", most=limits.LISTED) for data in listed)
            return list(islice((tag for row in rows for tag in row.texts("RepoTags")), _MOST_TAGS))
        return []

    def _history(self, client: DaemonClient, reference: str) -> list[HistoryEntry]:
        """The history of an image, bottom first."""
        what = f"the daemon's history of {reference}"
        told = Document({"entries": load(client.history(reference), what)}, what)
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

    def export(
        self,
        inspected: Inspected,
        wanted: frozenset[str],
        spool: Path,
        told: Callable[[str], None] = lambda _: None,
        moved: Callable[[int, int], None] = lambda *_: None,
    ) -> "Export":
        """Stream the image out of the daemon (`docker save`), and pick the `wanted` layers.

        `told` hears where nothing comes for long, `moved` how many bytes have come.
        """
        from layerferry.sources.daemon.export import Export  # noqa: PLC0415 - where something is fetched, and this way

        client = self._connect(patience(inspected.image), inspected.variant)
        return Export(client, inspected.image, inspected.name, wanted, spool, told=told, moved=moved)

    def find(self, name: str, auth: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Ask the daemon for an image in a registry: its digest, if it is there, and why no registry is reached, if so.

        An answer that tells the image unknown is a registry's; a bare 404 is podman's for the whole endpoint.
        """
        try:
            with closing(self._connect(limits.DAEMON_PROBED)) as client:
                shown = client.inspect_distribution(name, auth_config=dict(auth or {}))
            found = Document.parse(shown, f"the daemon's answer about {name}").object("Descriptor")
            return found.text("digest", ""), ""
        except DaemonRefusal as refusal:
            said = str(refusal)
            return "", "" if "manifest unknown" in said or "name unknown" in said else said
        except (*FAULTS, LayerferryError) as error:
            return "", words_of(error)

    def pushing(self, inspected: Inspected, repository: str, auth: Mapping[str, str] | None = None) -> DaemonPush:
        """A push of an image under a name in `repository`; afterwards the daemon looks as it did before.

        The credentials go with the request alone: nothing is logged in, no credential helper is asked. Any of it raises
        `SourceError`.
        """
        client = self._connect(limits.DAEMON, inspected.variant)
        return DaemonPush(client, self._named(client, inspected, repository, auth), self.last_words)

    @contextmanager
    def _named(
        self, pushing: DaemonClient, inspected: Inspected, repository: str, auth: Mapping[str, str] | None
    ) -> Iterator[Callable[[], None]]:
        """Give an image a name as long as it is pushed; the name goes by a client of its own."""
        name, image = f"{repository}:{push_tags.PUSH_TAG}", inspected.image

        def push() -> None:
            pushing.timeout = patience(image)
            with (
                self._asking("could not push"),
                closing(pushing.push(name, stream=True, auth_config=dict(auth or {}))) as said,
            ):
                for line in said:
                    check_progress(line)

        with (
            self.host.guarding(name) if self.host else nullcontext(),
            closing(self._open(limits.DAEMON, inspected.variant)) as client,
            closing(pushing),
        ):
            with self._asking("could not push"):
                shown = pushing.inspect_image(inspected.name)
                found = Document.parse(shown, f"the daemon's answer about {image.reference}")
                # It would go with the name that we take away.
                if not (found.texts("RepoTags") or found.texts("RepoDigests")):
                    raise SourceError(f"{image.reference} has no name in the docker daemon, and would be lost")
                pushing.tag(inspected.name, repository, push_tags.PUSH_TAG, force=True)
            try:
                yield push
            finally:
                with self._asking("could not push"):
                    client.remove_image(name, noprune=True)

    def sweep(self) -> str:
        """Take away the names that killed runs have left here; a sentence on it, or an empty string."""

        def shown() -> Iterator[str]:
            with self._asking("does not list its images"):
                for data in members(client.images(filters={"reference": push_tags.PATTERN})):
                    yield from Document.parse(data, "the daemon's list of images", most=limits.LISTED).texts("RepoTags")

        def remove(name: str) -> None:
            with self._asking("does not remove a name"):
                client.remove_image(name, noprune=True)

        with closing(self._open(limits.DAEMON)) if self._ended else nullcontext(self._client) as client:
            return push_tags.sweep(shown, remove)


def _said_of(tags: Sequence[str]) -> str:
    return f", but {' and '.join(filter(None, (', '.join(tags[:-1]), tags[-1])))}" if tags else ""


def _platform_of(found: Document) -> Platform:
    platform = Platform(found.word("Os"), found.word("Architecture"), found.word("Variant", ""))
    if not platform.os or not platform.architecture:
        raise found.damaged("it does not say for which system and architecture it is")
    return platform


def _is_classic(found: Document) -> bool:
    return found.object("GraphDriver").text("Name", "") in _GRAPH_DRIVERS


def _names(reference: str, found: Document) -> tuple[str, ...]:
    """What an image was called, as the daemon understood it: a name goes before the beginning of an ID.

    moby, daemon/images/image.go and daemon/containerd/image.go (`resolveImage`). podman finds a name in any registry.
    """
    name = full_name(reference)
    if not may_be_image_id(reference):
        return (name,) if name else ()
    begun = _image_id(found).startswith(f"sha256:{reference.removeprefix('sha256:')}")
    called = name.removeprefix("docker.io/library/")
    is_name = any(tag == called or tag.endswith(f"/{called}") for tag in found.texts("RepoTags"))
    return (name,) if name and (is_name or not begun) else ()


def _image_id(found: Document) -> Digest:
    """Podman's have no algorithm before them."""
    text = found.text("Id")
    try:
        return Digest(text if text.startswith("sha256:") else f"sha256:{text}")
    except ValueError as error:
        raise found.damaged(f"Id {error}") from None
