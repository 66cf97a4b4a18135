"""An image's content, pushed by a daemon to a registry of ours: only the blobs that are wanted leave the daemon.

First the registry claims to hold every blob. The daemon then uploads only layers that it knows no digest for, and ends
with the manifest, which tells the digest of each position. Then it pushes once more, and finds exactly the wanted blobs
missing. A blob goes on as the daemon stores it: gzip stays gzip. To unpack it for zstd would make it some 10 % smaller,
for twice the work here, and the target would hold a blob that no registry knows.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from layerferry.chunks import bytes_of
from layerferry.embedded_registry import PushedManifest, PushRepository
from layerferry.errors import SourceError
from layerferry.events import so_far
from layerferry.oci import limits
from layerferry.oci.content import Blob, Summary
from layerferry.oci.image import Descriptor, Image
from layerferry.oci.manifest import check_stored
from layerferry.sources.daemon.last_words import Aside, LastWords

if TYPE_CHECKING:
    from concurrent.futures import Future

#: Seconds. A push ends by itself, with a manifest or an error; the bound on its bytes ends it earlier.
_ENDLESS = 24 * 3600.0


class Pushing(Protocol):
    """While it is open, the daemon pushes whenever what it gives is called; `break_off` ends that from any thread."""

    def __enter__(self) -> Callable[[], None]: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def break_off(self) -> None: ...


class Pushed:
    """The content of one image, out of a daemon's pushes into `repository`.

    `pushing` gives a call that lets the daemon push, and returns when it has; it raises `SourceError`. Its end is
    waited for by `last_words`. `budget` is in bytes: what a push may upload. A `classic` store goes on to ask for a
    denied layer under other digests that it knows it by, and must not be told that one of these is there; the
    containerd store may push more than this image (other platforms, attestations), and must be told that those are.
    `told` hears from any thread how many bytes have come, of how many, or of 0 where that is not known; both are the
    same where all has come. Raises `SourceError` when the daemon does not do as it should: another route can go on from
    there with what is still `pending`.
    """

    def __init__(
        self,
        image: Image,
        repository: PushRepository,
        pushing: Pushing,
        *,
        budget: int,
        classic: bool,
        last_words: LastWords | None = None,
        told: Callable[[int, int], None] = lambda *_: None,
    ) -> None:
        self.pending: set[str] = set()
        self.descriptors: dict[str, Descriptor] = {}
        self._manifest: tuple[str, bytes] | None = None
        self._image = image
        self._repository = repository
        self._pushing = pushing
        self._push: Callable[[], None] | None = None
        #: Whatever the daemon does, it does in another thread, one thing after the other.
        self._last_words = last_words or LastWords()
        self._aside = Aside(self._last_words)
        self._tidying: Future[None] | None = None
        self._stack = ExitStack()
        self._budget = budget
        self._classic = classic
        self._config: Descriptor | None = None
        self._before = self._expected = 0
        self._data: bytes | None = None
        self._told = told
        repository.told = lambda: told(*so_far(self.received, self._expected))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.break_off()
        tidying = self._tidying or self._aside.submit(self._stack.close)
        ended = self._aside.wait(tidying, error)
        if ended and kind is None and self._last_words.seconds() is None:
            tidying.result()

    def break_off(self) -> None:
        """End the daemon's push, if it still pushes, in whichever thread that is waited for."""
        self._repository.abort()
        self._pushing.break_off()

    def learn(self) -> str:
        """Let the daemon push what it knows no digest for, and no more; the digest of the image's config."""
        if self._config is None:
            self._repository.claim_all(except_={self._image.id}, budget=self._budget)
            with self._let_push():
                self._config = self._learn()
        return self._config.digest

    def want(self, wanted: frozenset[str], budget: int) -> None:
        """Say which layers `blobs` is to yield, and what a push may upload for them."""
        self.pending, self._budget = set(wanted), budget
        self._repository.expected = sum(layer.size for layer in self._image.layers if layer.diff_id in wanted)

    def blobs(self) -> Iterator[Blob]:
        self.learn()
        yield from self._take()
        if self._config is not None and (self.pending or self._data is None):
            yield from self._deny(self._config)
        self._tidying = self._aside.submit(self._stack.close)  # while the target loads

    @property
    def received(self) -> int:
        """Bytes that the daemon has uploaded so far."""
        return self._before + self._repository.received

    def finish(self) -> Summary:
        assert self._data is not None  # `blobs` ends with it, or raises
        return Summary(self._data, self.descriptors, self._manifest, self.received)

    def _deny(self, config: Descriptor) -> Iterator[Blob]:
        """The second push: it finds just what is wanted missing. Blobs go on while others still arrive."""
        lacking = {self.descriptors[diff_id].digest for diff_id in self.pending}
        if self._data is None:
            lacking.add(config.digest)
        known = (*self.descriptors.values(), config)
        self._before += self._repository.received
        sizes = [self.descriptors[diff_id].size for diff_id in self.pending]
        # A classic store knows a digest and no size: it tells the one that we have claimed, which is 0.
        self._expected = self._before + sum(sizes) if all(sizes) else 0
        self._repository.expected = sum(sizes) if all(sizes) else self._repository.expected
        if self._classic:
            claimed = {blob.digest: blob.size for blob in known if blob.digest not in lacking}
            self._repository.claim_only(claimed, budget=self._budget)
        else:
            self._repository.claim_all(except_=lacking, budget=self._budget)
        with self._let_push():
            for _ in self._repository.completed():
                yield from self._take()
            self._config = config = self._learn()
        yield from self._take()
        if self.pending or self._data is None:
            missing = min(self.pending, default=config.digest)
            raise SourceError(f"the daemon did not push {missing} of {self._image.reference}")

    @contextmanager
    def _let_push(self) -> Iterator[None]:
        """Let the daemon push meanwhile; what went wrong here counts most, then what it says, then what we miss."""
        pushed = self._aside.submit(self._push_once)
        try:
            try:
                yield
            except SourceError as missed:
                ended = self._aside.wait(pushed)
                raise self._repository.failure or (pushed.exception() if ended else None) or missed from None
            self._aside.wait(pushed)
        except SourceError:
            raise
        except BaseException:
            self.break_off()
            raise

    def _push_once(self) -> None:
        try:
            self._push = self._push or self._stack.enter_context(self._pushing)
            self._push()
        finally:
            self._repository.finish()

    def _learn(self) -> Descriptor:
        """Read the manifest that ended the push: the blob of each position, and the config if it was uploaded."""
        manifest = self._of_platform(self._repository.manifest(_ENDLESS))
        if manifest.config is None or len(manifest.layers) != len(self._image.layers):
            raise SourceError(f"the daemon pushed another image than {self._image.reference}")
        check_stored(self._image.diff_ids, [layer.digest for layer in manifest.layers], self._image.reference)
        self._manifest = manifest.media_type, manifest.data
        for diff_id, layer in zip(self._image.diff_ids, manifest.layers, strict=True):
            self.descriptors[diff_id] = layer.in_oci_words
        if config := self._repository.blobs.get(manifest.config.digest):
            if config.size > limits.DOCUMENT:
                raise SourceError(f"the daemon pushed a config of {config.size} bytes for {self._image.reference}")
            self._data = config.path.read_bytes()
        return manifest.config

    def _of_platform(self, manifest: PushedManifest) -> PushedManifest:
        """The manifest itself, or that of the image's platform where it is an index."""
        if not manifest.children:
            return manifest
        for child, named in zip(manifest.children, manifest.platforms, strict=True):
            if named and named.runs(self._image.platform) and child.digest in self._repository.manifests:
                return self._repository.manifests[child.digest]
        raise SourceError(f"the daemon pushed no manifest of {self._image.reference} for {self._image.platform}")

    def _take(self) -> Iterator[Blob]:
        """Yield what has arrived of what is pending."""
        here = self._repository.blobs
        if self.pending and all(self.descriptors[diff_id].digest in here for diff_id in self.pending):
            self._told(self.received, self.received)
        for diff_id in sorted(self.pending):
            descriptor = self.descriptors[diff_id]
            if blob := here.get(descriptor.digest):
                self.pending.discard(diff_id)
                yield Blob(diff_id, Descriptor(descriptor.media_type, blob.digest, blob.size), bytes_of(blob.path))
                self._repository.drop(blob.digest)
