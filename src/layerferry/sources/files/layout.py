"""`oci:PATH[:TAG]`: an OCI layout on disk, as buildx, buildah, skopeo, kaniko, ko and crane write them.

Spec: OCI image-spec 1.1, image-layout.md.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from layerferry.chunks import chunks_of
from layerferry.errors import SourceError
from layerferry.oci import limits
from layerferry.oci.delta_archive import blob_path
from layerferry.oci.image import Descriptor, Platform
from layerferry.oci.manifest import IndexEntry, find, listed, parse_index
from layerferry.sources import Source, SourceImage
from layerferry.sources.digest_store import DirectImage

_DIGEST = re.compile(r"(?P<path>.+)@(?P<digest>sha256:[0-9a-f]{64})", re.DOTALL)


def split_path(text: str) -> tuple[Path, str]:
    """Split `PATH[:NAME]` or `PATH@DIGEST`; a path may have colons, so the longest one that is there goes."""
    if match := _DIGEST.fullmatch(text):
        return Path(match["path"]), match["digest"]
    path = text
    while path:
        if _exists(Path(path)):
            return Path(path), text[len(path) + 1 :]
        path = path.rpartition(":")[0]
    return Path(text), ""


def _exists(path: Path) -> bool:
    """Whether it is there, and to be reached; a name that is too long is not."""
    with contextlib.suppress(OSError):
        return path.exists()
    return False


def select(entries: Sequence[IndexEntry], selector: str, place: str) -> tuple[IndexEntry, ...]:
    """The entries that `selector` means; without one, the only image's. Raises `SourceError` that tells the choices."""
    chosen = tuple(entry for entry in entries if entry.answers_to(selector)) if selector else tuple(entries)
    names = sorted({entry.full_name or entry.name for entry in entries if entry.is_image} - {""})
    if not chosen:
        hint = f"It has {listed(names)}." if names else "Its index gives no names: leave the tag out."
        raise SourceError(f"{place} has no {selector!r}" if selector else f"{place} has no image", hint=hint)
    named = {entry.descriptor.digest: entry.full_name or entry.name for entry in chosen if entry.is_image}
    if len(named) > 1 and len(set(named.values())) > 1:
        raise SourceError(f"{place} has several images", hint=f"Say which, after a colon: {listed(names)}.")
    return chosen


class Layout:
    """A `digest_store.Store`: the folder of a layout. Nothing outside of it is read, wherever its links lead."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self.place = f"the OCI layout {path}"

    def entries(self) -> tuple[IndexEntry, ...]:
        """What index.json lists. Raises `SourceError` where there is no layout."""
        try:
            if not self._root.is_dir():
                raise SourceError(f"there is no OCI layout {self._root}", hint="Write it as oci:PATH or oci:PATH:TAG.")
            if not (self._root / "index.json").exists():
                raise SourceError(f"{self._root} is no OCI layout: it has no index.json")
        except OSError as error:
            raise SourceError(f"{self.place} cannot be read: {error.strerror}") from None
        return parse_index(self._read("index.json"), self.place)

    def has(self, digest: str) -> bool:
        try:
            (self._root / blob_path(digest)).stat()
        except PermissionError as error:
            raise self._unreadable(blob_path(digest), error) from None
        except OSError:
            return False
        return True

    def document(self, descriptor: Descriptor) -> bytes:
        return self._read(blob_path(descriptor.digest))

    def stream(self, blobs: Sequence[Descriptor]) -> Iterator[tuple[Descriptor, Iterator[bytes]]]:
        for blob in blobs:
            yield blob, self._chunks(blob_path(blob.digest))

    def _read(self, name: str) -> bytes:
        data = bytearray()
        for chunk in self._chunks(name):
            data += chunk
            if len(data) > limits.DOCUMENT:
                raise SourceError(f"{self.place} is damaged: {name} is too large for its kind")
        return bytes(data)

    def _chunks(self, name: str) -> Iterator[bytes]:
        try:
            path = (self._root / name).resolve(strict=True)
            if not path.is_relative_to(self._root.resolve()) or not path.is_file():
                raise SourceError(
                    f"{self.place} is refused: {name} is no file inside of it",
                    hint="Where links lead out of it, copy it with `cp -rL` first.",
                )
            with path.open("rb") as file:
                yield from chunks_of(file)
        except RuntimeError:  # Path.resolve has it where links go in a circle (an OSError from Python 3.13 on)
            raise self._unreadable(name, OSError(errno.ELOOP, os.strerror(errno.ELOOP))) from None
        except OSError as error:
            raise self._unreadable(name, error) from None

    def _unreadable(self, name: str, error: OSError) -> SourceError:
        return SourceError(f"{self.place} cannot be read: {name}: {error.strerror}")


class LayoutSource(Source):
    """A source for references of the form `oci:PATH[:TAG]`."""

    def open(self, reference: str, platform: Platform | None = None) -> SourceImage:
        path, selector = split_path(reference.removeprefix("oci:"))
        layout = Layout(path)
        found = find(layout, select(layout.entries(), selector, layout.place), reference, platform)
        return DirectImage.stored(found, "the layout is on this machine's disk", layout)
