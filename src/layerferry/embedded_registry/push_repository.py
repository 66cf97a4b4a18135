"""A repository of the embedded registry: the blobs that it claims to have, and those that a daemon has pushed."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from layerferry.embedded_registry import error_answers
from layerferry.embedded_registry.claims import ClaimedBlobs
from layerferry.embedded_registry.http_server import BrokenRequest, RequestBody
from layerferry.embedded_registry.pushed_manifest import PushedManifest
from layerferry.embedded_registry.spool import BlobUpload, Spool, SpooledBlob, SpoolFull, WrongDigest
from layerferry.errors import SIGNALS_WAIT, SourceError
from layerferry.oci import limits


@dataclass(slots=True)
class _Push:
    """The state of a push, which the last `claim_…` began."""

    holdings: ClaimedBlobs = field(default_factory=ClaimedBlobs)
    budget: int | None = None
    received: int = 0
    documented: int = 0
    arrived: dict[str, SpooledBlob] = field(default_factory=dict)
    manifests: dict[str, PushedManifest] = field(default_factory=dict)
    tags: dict[str, PushedManifest] = field(default_factory=dict)
    top: PushedManifest | None = None
    once: bool = False
    refused: str = ""
    failure: SourceError | None = None
    finished: bool = False

    @property
    def ended(self) -> bool:
        return self.finished or self.top is not None


class PushRepository:
    """A repository, made by `Registry.repository`. Every method may be called from any thread.

    A push begins with `claim_all`, `claim_only` or, for an ordinary registry, nothing at all; it ends with the manifest
    that carries the tag, or with `finish` or `abort`. Blobs stay from one push to the next, manifests do not: a daemon
    would not put again what it finds.
    """

    def __init__(self, name: str, spool: Spool) -> None:
        self.name = name
        self._spool = spool
        self._changed = threading.Condition()
        self._uploads: dict[str, BlobUpload] = {}
        #: The IDs of those that a request works on.
        self._borrowed: set[str] = set()
        self._blobs: dict[str, SpooledBlob] = {}
        self._push = _Push()
        #: Bytes that the push is to upload, as far as that is known: told where there is no room for them.
        self.expected = 0
        #: Called when bytes of a blob have come, from the thread that reads them.
        self.told: Callable[[], None] = lambda: None

    # -- the sender's side ---------------------------------------------------------------------------------------------

    def claim_all(
        self,
        *,
        except_: AbstractSet[str] = frozenset(),
        sizes: Mapping[str, int] = MappingProxyType({}),
        budget: int | None = None,
        once: bool = False,
    ) -> None:
        """Begin a push that finds every blob here, but for the digests of `except_`.

        A daemon then uploads only layers that it knows no digest for, and ends with the manifest. `sizes` and `budget`
        are in bytes; uploads of more than `budget` in sum are refused, because an upload does not tell beforehand what
        it is. With `once`, a second manifest under a tag makes the push void: one of the two is not the daemon's, and
        nothing tells which. Ask for the manifest when the daemon has said that it has pushed.
        """
        self._begin(ClaimedBlobs(everything=True, digests=frozenset(except_), sizes=dict(sizes)), budget, once=once)

    def claim_only(self, sizes: Mapping[str, int], *, budget: int | None = None) -> None:
        """Begin a push that finds exactly the digests of `sizes` (in bytes) here, besides what was uploaded.

        For a second push, after `claim_all` told the digests: a classic store that is denied a large layer goes on to
        ask for other digests that it knows the same layer by, and must not be told that we have one of these.
        """
        self._begin(ClaimedBlobs(digests=frozenset(sizes), sizes=dict(sizes)), budget)

    def manifest(self, timeout: float) -> PushedManifest:
        """Wait for the manifest that ends the push; at most `timeout` seconds.

        With an index, the manifests that it names are in `manifests`. Raises `SourceError` where none comes.
        """
        with self._changed:
            push = self._push
            until = time.monotonic() + timeout
            while not push.ended and (left := until - time.monotonic()) > 0:
                self._changed.wait(min(SIGNALS_WAIT, left))
        if push.top:
            return push.top
        if push.refused:
            raise push.failure or SourceError(f"the push into our registry was broken off: {push.refused}")
        if push.finished:
            raise SourceError("the push into our registry ended without a manifest")
        raise SourceError(f"no manifest was pushed into our registry within {timeout:g} s")

    def completed(self) -> Iterator[SpooledBlob]:
        """Yield this push's blobs as each arrives, until the push ends. Those that arrived before come first."""
        push, seen = self._push, 0
        while True:
            with self._changed:
                while not (len(push.arrived) > seen or push.ended):
                    self._changed.wait(SIGNALS_WAIT)
                fresh = list(push.arrived.values())[seen:]
            if not fresh:
                return
            seen += len(fresh)
            yield from fresh

    def finish(self) -> None:
        """End the push, which the daemon says is over, well or badly: no thread waits for it any longer."""
        with self._changed:
            self._push.finished = True
            self._changed.notify_all()

    def abort(self, reason: str = "it was cancelled") -> None:
        """Refuse all further requests, and the bodies under way, until the next push begins."""
        self._break_off(self._push, reason)

    def drop(self, digest: str) -> None:
        """Remove a blob that is no longer needed, and give its bytes back to the bound.

        Until the push ends, the daemon is told that the blob is here: it asks once more before it puts the manifest.
        """
        with self._changed:
            blob = self._blobs.pop(digest, None)
        if blob:
            self._spool.remove(blob)

    @property
    def blobs(self) -> Mapping[str, SpooledBlob]:
        """The blobs that are here, by digest."""
        with self._changed:
            return dict(self._blobs)

    @property
    def manifests(self) -> Mapping[str, PushedManifest]:
        """The manifests and indexes of this push, by digest."""
        with self._changed:
            return dict(self._push.manifests)

    @property
    def received(self) -> int:
        """Bytes of blobs that this push has uploaded so far, also those of uploads that were refused in the end."""
        return self._push.received

    @property
    def refused(self) -> str:
        """Why this push was broken off, in one clause: over budget, spool full, aborted. Empty if it was not."""
        return self._push.refused

    @property
    def failure(self) -> SourceError | None:
        """What broke this push off where there was no room here. A daemon tells it in a text, without the hint."""
        return self._push.failure

    # -- the daemon's side: methods raise `Refused` --------------------------------------------------------------------

    def check(self) -> None:
        """Refuse whatever comes, if the push was broken off."""
        if self._push.refused:
            raise error_answers.denied(self._push.refused)

    def size_of(self, digest: str) -> int | None:
        """The size of a blob that is here or claimed, in bytes; None if it is neither."""
        with self._changed:
            push = self._push
            if blob := self._blobs.get(digest) or push.arrived.get(digest):
                return blob.size
            return push.holdings.size(digest) if push.holdings.claims(digest) else None

    def open_upload(self) -> BlobUpload:
        with self._changed:
            if len(self._uploads) >= limits.UPLOADS:
                raise self._break_off(self._push, f"it has more than {limits.UPLOADS} uploads at a time")
            try:
                upload = BlobUpload(self._spool)
            except SpoolFull as full:
                raise self._break_off(self._push, str(full), full.error) from full
            self._uploads[upload.id] = upload
        return upload

    @contextmanager
    def borrow(self, upload_id: str) -> Iterator[BlobUpload]:
        """Hand an upload to one request alone; another one that asks meanwhile finds it unknown."""
        with self._changed:
            upload = self._uploads.get(upload_id)
            if upload is None or upload_id in self._borrowed:
                raise error_answers.upload_unknown()
            self._borrowed.add(upload_id)
        try:
            yield upload
        finally:
            with self._changed:
                self._borrowed.discard(upload_id)
                if not upload.open:
                    self._uploads.pop(upload_id, None)

    def receive(self, upload: BlobUpload, body: RequestBody) -> None:
        """Append `body` to `upload`; where that fails, the upload is gone."""
        push = self._push
        try:
            self._admit(push, body.length or 0, at_least=body.length or 0)
            for chunk in body:
                self._admit(push, len(chunk))
                upload.append(chunk, self._needed(push))
                with self._changed:
                    push.received += len(chunk)
                self.told()
        except SpoolFull as full:
            upload.discard()
            raise self._break_off(push, str(full), full.error) from full
        except (BrokenRequest, error_answers.Refused):
            upload.discard()
            raise

    def commit(self, upload: BlobUpload, digest: str) -> None:
        try:
            blob = upload.commit(digest)
        except WrongDigest as wrong:
            raise error_answers.digest_invalid(str(wrong)) from wrong
        with self._changed:
            known = self._blobs.setdefault(digest, blob)
            if known is blob:
                self._push.arrived[digest] = blob
                self._changed.notify_all()
        if known is not blob:
            self._spool.remove(blob)

    def find_manifest(self, reference: str) -> PushedManifest:
        with self._changed:
            manifest = self._push.manifests.get(reference) or self._push.tags.get(reference)
        if manifest is None:
            raise error_answers.manifest_unknown()
        return manifest

    def put_manifest(self, manifest: PushedManifest) -> None:
        with self._changed:
            push = self._push
            if push.refused:
                raise error_answers.denied(push.refused)
            if push.once and manifest.tag and push.top is not None and push.top.digest != manifest.digest:
                push.top = None
                raise self._break_off(push, "two manifests were put, and one is a stranger's")
            if manifest.digest not in push.manifests:
                push.documented += len(manifest.data)
            push.manifests[manifest.digest] = manifest
            if push.documented > limits.DOCUMENTS or len(push.manifests) + len(push.tags) > limits.ENTRIES:
                raise self._break_off(push, "it puts too many manifests")
            if manifest.tag:
                push.tags[manifest.tag] = push.top = manifest
            self._changed.notify_all()

    def close(self) -> None:
        """Break the push off, and discard the uploads that nobody is working on."""
        self.abort("the registry was closed")
        with self._changed:
            idle = [upload for upload_id, upload in self._uploads.items() if upload_id not in self._borrowed]
            self._uploads = {upload_id: self._uploads[upload_id] for upload_id in self._borrowed}
        for upload in idle:
            upload.discard()

    # -- within --------------------------------------------------------------------------------------------------------

    def _begin(self, holdings: ClaimedBlobs, budget: int | None, *, once: bool = False) -> None:
        with self._changed:
            self._push.finished = True
            self._push.refused = self._push.refused or "another push has begun"
            self._push = _Push(holdings, budget, once=once)
            self._changed.notify_all()

    def _admit(self, push: _Push, size: int, *, at_least: int = 0) -> None:
        """Refuse `size` more bytes if the push was broken off, or where they would exceed a bound.

        So many bytes are to come `at_least`, as far as that is known.
        """
        if push.refused:
            raise error_answers.denied(push.refused)
        if push.budget is not None and push.received + size > push.budget:
            raise self._break_off(push, f"it uploads more than the {push.budget} bytes that it may cost")
        self._spool.require(size, max(self._needed(push), at_least))

    def _needed(self, push: _Push) -> int:
        """The bytes that are still to come; 0 where that is not known."""
        return max(self.expected - push.received, 0)

    def _break_off(self, push: _Push, reason: str, failure: SourceError | None = None) -> error_answers.Refused:
        with self._changed:
            push.failure = push.failure or (None if push.refused else failure)
            push.refused = push.refused or reason
            push.finished = True
            self._changed.notify_all()
            return error_answers.denied(push.refused)
