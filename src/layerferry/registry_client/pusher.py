"""A repository to push to: its blobs, uploads, mounts, tags and manifests.

Spec: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md ("Push"). A blob goes up in one piece
(POST, then PUT), which every registry takes; it comes from a file, so that it can be sent again. A large one goes on
where it broke off, where the registry can do so (`unfinished_upload`).
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import IO, NamedTuple, Self
from urllib.parse import quote, urlsplit

import requests

from layerferry.causes import reason
from layerferry.chunks import CHUNK
from layerferry.errors import LayerferryError
from layerferry.oci import limits
from layerferry.oci.documents import Document
from layerferry.oci.image import MEDIA_TYPE_MANIFEST, Descriptor, digest_of
from layerferry.registry_client.connections import BROKEN, done
from layerferry.registry_client.repository import Repository
from layerferry.registry_client.tries import PASSING
from layerferry.registry_client.unfinished_upload import WORTH_RESUMING, can_resume, offset_of

_MOST_TAGS = 1000
#: distribution-spec, "Pulling manifests".
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
#: Seconds for a request that takes something away, and that nothing depends on.
_PARTING = 2
_LONGEST_NUMBER = 20
_BYTES = {"Content-Type": "application/octet-stream"}
_STORED = {HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}
#: What a PUT may end with beside success, and be tried again: the token ran out, the upload is gone, passing trouble.
_AGAIN = PASSING | {HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND}
_TAKEN = {HTTPStatus.ACCEPTED, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}
#: What says that an upload is at another offset, or that its bytes are not the blob's: it begins anew.
_ELSEWHERE = {HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.GONE}

#: What tells of an upload how much of it has come, or that it is no more.
_TOLD = frozenset(range(200, 600)) - PASSING - {HTTPStatus.UNAUTHORIZED}

Told = Callable[[int], None]


class Unfinished:
    """The locations of uploads that may be gone on with: this remembers none beyond its push."""

    #: Whether the next push will know of them.
    lasts = False

    def key(self, place: str, digest: str) -> str:
        return hashlib.sha256(f"{place} {digest}".encode()).hexdigest()

    def find(self, key: str) -> str:
        del key
        return ""

    def note(self, key: str, location: str) -> None:
        """An upload has begun, or goes on, there."""

    def forget(self, key: str) -> None:
        """It has ended."""


class RepositoryPusher(Repository):
    """A repository to push to. `sent` are the bytes of all bodies that went there, tries that failed included."""

    sent = 0
    #: Bytes of uploads that earlier pushes had begun.
    resumed = 0
    unfinished: Unfinished = Unfinished()
    _begun = ""

    def _scopes(self, asked: str) -> Sequence[str]:
        """The scopes to pull and push in one token; a mount is challenged for the other repository, too."""
        ours = f"repository:{self.name.path}:"
        return [f"{ours}pull,push", *(scope for scope in asked.split() if not scope.startswith(ours))]

    def has(self, digest: str) -> bool:
        return self.size(digest) is not None

    def size(self, digest: str) -> int | None:
        """The bytes of a blob that is there, 0 where the registry does not tell them; None where there is none."""
        response = self._ask("HEAD", f"blobs/{digest}", expect={HTTPStatus.OK, HTTPStatus.NOT_FOUND})
        done(response)
        if response.status_code != HTTPStatus.OK:
            return None
        told = response.headers.get("Content-Length", "")
        return min(int(told), limits.SIZE) if told.isdecimal() and len(told) < _LONGEST_NUMBER else 0

    def tags(self) -> list[str]:
        """The first thousand tags, or fewer. A `Link` to further ones is not followed."""
        with contextlib.closing(self._get(f"tags/list?n={_MOST_TAGS}")) as response:
            answer = Document.parse(
                self._document(response), f"the list of tags in {self.place}", error=self._endpoint.blame.answer
            )
        tags = answer.texts("tags")
        if not all(map(_TAG.fullmatch, tags)):
            raise answer.damaged("it lists what is no tag")
        return tags

    def mount(self, digest: str, path: str) -> bool:
        """Mount a blob from another repository of the registry; whether that was done."""
        query = f"mount={quote(digest)}&from={quote(path)}"
        try:
            response = self._ask(
                "POST", f"blobs/uploads/?{query}", expect={HTTPStatus.CREATED, HTTPStatus.ACCEPTED, HTTPStatus.OK}
            )
        except LayerferryError:
            return False  # a registry may refuse what it cannot do; an upload will tell what is really wrong
        done(response)
        if response.status_code == HTTPStatus.ACCEPTED:  # an upload was begun instead
            self.cancel(self._location(response.url, response.headers.get("Location", "")))
            return False
        return True

    def begin(self) -> None:
        """Begin the upload that the next blob uses, so that a login that may not push fails before anything is read."""
        begun = self._ask("POST", "blobs/uploads/", expect={HTTPStatus.ACCEPTED})
        done(begun)
        self._begun = self._location(begun.url, begun.headers.get("Location", ""))

    def put_blob(self, blob: Descriptor, path: Path, told: Told) -> None:
        """Upload a file; `told` hears how many of its bytes have gone."""
        tries = self._endpoint.tries()
        while True:
            if not self._begun:
                self.begin()
            if blob.size >= WORTH_RESUMING and can_resume(self._begun):
                try:
                    self._put_onward(blob, path, told)
                except BaseException:
                    if self.unfinished.lasts:
                        self._begun = ""  # which nobody is to cancel
                    raise
                return
            location, self._begun = self._begun, ""
            with path.open("rb") as file:
                body = _Counted(file, blob.size, self._count, told)
                trouble = self._put(_ending(location, blob), body, last=tries.last)
            if trouble is None:
                return
            try:
                tries = self._endpoint.again(f"{blob.digest[:19]} could not be sent ({trouble.why})", tries)
                if trouble.answer_lost and self.has(blob.digest):
                    return
            finally:
                self.cancel(location)

    def _put_onward(self, blob: Descriptor, path: Path, told: Told) -> None:
        """Upload a file to a registry that tells how much of it has come, and go on there.

        A registry that has come to nothing in as many tries as there are is given up; each that has brought more counts
        for none. Where it refuses to go on with what it has, that is cancelled, and all of it goes once more.
        """
        tries, anew = self._endpoint.tries(), False
        key = self.unfinished.key(self._base, blob.digest)
        offset = earlier = self._find_unfinished(key, blob.size)
        while True:
            location = self._begun
            self.unfinished.note(key, location)
            with path.open("rb") as file:
                file.seek(offset)
                body = _Counted(file, blob.size - offset, self._count, told, before=offset)
                trouble = self._patch(location, blob, offset, body)
            if trouble is None:
                break
            if tries.last or (anew and trouble.refused):
                raise self._given_up(blob, key, trouble)
            tries = self._endpoint.again(f"{blob.digest[:19]} could not be sent ({trouble.why})", tries)
            before, offset = offset, self._offset(location, blob.size)
            if not offset and trouble.answer_lost and self.has(blob.digest):
                break
            if trouble.refused and offset <= before:
                anew, offset = True, 0
            if not offset:
                self.cancel()
                self.begin()
                earlier = 0
            elif offset - before >= CHUNK:
                tries = self._endpoint.tries()
        self._begun = ""
        self.unfinished.forget(key)
        self.resumed += earlier

    def _given_up(self, blob: Descriptor, key: str, trouble: "_Trouble") -> LayerferryError:
        """The error of an upload that has come to nothing. One that the registry refuses is nothing to go on with."""
        what = f"{self.place} has not taken {blob.digest[:19]}: {trouble.why}"
        if trouble.refused:
            self.cancel()
            self.unfinished.forget(key)
            return self._endpoint.blame.answer(what)
        return self._endpoint.blame.silence(what, hint="Push again: it goes on where it broke off.", transient=True)

    def _find_unfinished(self, key: str, size: int) -> int:
        """Go on with an upload that an earlier push has begun, if there is one; the bytes that it has."""
        left = self.unfinished.find(key)
        if not left:
            return 0
        new, offset = self._begun, 0
        with contextlib.suppress(LayerferryError):
            offset = self._offset(self._location(self._base, left), size)
        found, self._begun = self._begun, new
        if offset:
            self.cancel()
            self._begun = found
        return offset

    def _offset(self, location: str, size: int) -> int:
        """How many bytes an upload has; it goes on at `_begun`, then. 0 where it is no more, or that is not told.

        Raises where that cannot be asked: nothing of it is lost.
        """
        answer = self._ask("GET", location, expect=_TOLD)
        done(answer)
        if answer.status_code != HTTPStatus.NO_CONTENT:
            return 0
        self._begun = self._location(answer.url, answer.headers.get("Location", "") or location)
        return offset_of(answer.headers.get("Range", ""), size)

    def _patch(self, location: str, blob: Descriptor, offset: int, body: "_Counted") -> "_Trouble | None":
        """Send a blob's bytes from an offset on, if there are any, and end its upload; why that failed, if it did."""
        there = {"Content-Range": f"{offset}-{blob.size - 1}"} if offset else {}
        try:
            if offset < blob.size:
                sent = self._ask("PATCH", location, {**_BYTES, **there}, body, expect=_TAKEN | _AGAIN | _ELSEWHERE)
                done(sent)
                if sent.status_code not in _TAKEN:
                    return _Trouble.of(sent)
                location = self._location(sent.url, sent.headers.get("Location", "") or location)
            known = _STORED | _AGAIN | _ELSEWHERE
            ended = self._ask("PUT", _ending(location, blob), _BYTES, b"", expect=known, stores=blob.size)
            done(ended)
        except BROKEN as error:
            return _Trouble(reason(error))
        return None if ended.status_code in _STORED else _Trouble.of(ended)

    def _put(self, url: str, body: "_Counted", *, last: bool) -> "_Trouble | None":
        """Send a blob's bytes; why they have to be sent again, if they have. Raises where no try is left."""
        try:
            response = self._ask("PUT", url, _BYTES, body, expect=_STORED if last else _STORED | _AGAIN)
        except BROKEN as error:
            if last:
                self.cancel(url)
                raise self._endpoint.unreachable(error) from None
            return _Trouble(reason(error))
        except BaseException:
            self.cancel(url)
            raise
        done(response)
        return None if response.status_code in _STORED else _Trouble.of(response)

    def put_manifest(self, tag: str, media_type: str, data: bytes) -> bool:
        """Give an image its name. What the manifest names has to be there.

        False where the registry takes no manifest of docker's media type, as zot takes none.
        """
        ours = media_type == MEDIA_TYPE_MANIFEST
        refused = set() if ours else {HTTPStatus.UNSUPPORTED_MEDIA_TYPE}
        headers = {"Content-Type": media_type}
        put = self._ask("PUT", f"manifests/{tag}", headers, data, expect={HTTPStatus.CREATED, HTTPStatus.OK, *refused})
        done(put)
        self._count(len(data))
        return put.status_code not in refused

    def named(self, tag: str) -> tuple[str, bytes] | None:
        """What `manifest` gives of a tag; None where there is no such tag."""
        with contextlib.closing(self._find(tag)) as response:
            return None if response.status_code == HTTPStatus.NOT_FOUND else self._manifest(response)

    def shows(self, tag: str, digest: str) -> bool:
        """Whether a tag names the manifest with this digest: its bytes are hashed, and no header is believed."""
        with contextlib.closing(self._find(tag)) as response:
            return response.status_code == HTTPStatus.OK and digest_of(self._document(response)) == digest

    def _count(self, size: int) -> None:
        self.sent += size

    def _location(self, url: str, location: str) -> str:
        """The URL of an upload, from a Location."""
        return self._endpoint.leads(url, location)

    def cancel(self, location: str = "") -> None:
        """Cancel an upload, the one that was begun for the next blob if no other is told.

        A registry drops it by itself, days later.
        """
        location = location or self._begun
        if location == self._begun:
            self._begun = ""
        if location:
            self._delete(location)

    def remove(self, path: str) -> None:
        """Take away a manifest or a blob, by its path in the repository, where the registry lets this login do so."""
        self._delete(f"{self._base}/{path}")

    def _delete(self, url: str) -> None:
        with contextlib.suppress(LayerferryError, *BROKEN):
            parting = (_PARTING, _PARTING)
            self._endpoint.request("DELETE", url, self._login(url), timeout=parting).close()

    def _refused(self, status: int, said: str = "") -> LayerferryError:
        error = self._endpoint.blame.answer
        why = f" ({said})" if said else ""
        match status:
            case 401 | 403:
                return error(
                    f"{self.place} does not let this login push to {self.name.path}{why}", hint=self._login_hint()
                )
            case 404:
                return error(
                    f"{self.place} has no place for {self.name.path}{why}",
                    hint="Create its project or repository first, or name another: registry://HOST/PREFIX, --name.",
                )
            case 413:
                return error(
                    f"{self.place} takes nothing that large{why}",
                    hint="A proxy in front of it sets the limit: nginx's client_max_body_size.",
                )
        return super()._refused(status, said)


def _ending(location: str, blob: Descriptor) -> str:
    """The URL that ends an upload."""
    return f"{location}{'&' if urlsplit(location).query else '?'}digest={quote(blob.digest)}"


class _Trouble(NamedTuple):
    """Why an upload did not come to its end, and the status that it ended with, 0 where there was no answer."""

    why: str
    status: int = 0

    @classmethod
    def of(cls, response: requests.Response) -> Self:
        return cls(f"HTTP {response.status_code}", response.status_code)

    @property
    def refused(self) -> bool:
        """Whether the registry does not go on with what it has of it."""
        return self.status in _ELSEWHERE

    @property
    def answer_lost(self) -> bool:
        """Whether it may have come to its end all the same."""
        return self.status != HTTPStatus.UNAUTHORIZED


class _Counted:
    """A file as a request's body, which counts the bytes that are read of it; `before` have gone already."""

    def __init__(self, file: IO[bytes], size: int, count: Told, told: Told, before: int = 0) -> None:
        self._file = file
        self._size = size
        self._count = count
        self._told = told
        self._done = before

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(1 << 16), b"")

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(max(size, 1 << 16))
        self._count(len(data))
        self._done += len(data)
        self._told(self._done)
        return data
