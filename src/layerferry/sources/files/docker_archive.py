"""A docker archive: `manifest.json` names a config and, by path, the layers in the order of its diff IDs.

Spec: https://github.com/moby/docker-image-spec/blob/main/spec.md ("Combined Image JSON + Filesystem Changeset Format").
As docker save, podman save, skopeo, kaniko, crane, bazel and nix write it. Nothing tells a layer's digest: of a plain
tar it is the diff ID, and a compressed one (kaniko, buildx) is read to know it, if it is wanted.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from layerferry.chunks import (
    Hashed,
    at_most,
    checked,
    copied,
    damage,
    drain,
    exhaust,
    layer_type,
    most_of,
    plain_chunks,
)
from layerferry.disk import KeptFile
from layerferry.errors import SourceError
from layerferry.oci.content import Blob, Summary
from layerferry.oci.documents import Document, load
from layerferry.oci.image import MEDIA_TYPE_LAYER, Descriptor, Platform, digest_of
from layerferry.oci.manifest import Found, full_name, parse_config
from layerferry.sources.files.tar_index import Member, Tarball

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Record:
    """One image in manifest.json: paths of its config and its layers, bottom first, and its names in full."""

    config: str
    layers: tuple[str, ...]
    names: tuple[str, ...]

    def answers_to(self, selector: str) -> bool:
        tags = {name.rpartition(":")[2] for name in self.names}
        return selector in tags or full_name(selector) in self.names


def parse_records(data: bytes, place: str) -> tuple[Record, ...]:
    """Read manifest.json; raises `SourceError`."""
    what = f"the manifest.json of {place}"
    listed = Document({"records": load(data, what)}, what).objects("records")
    return tuple(
        Record(
            record.text("Config"),
            tuple(record.texts("Layers")),
            tuple(filter(None, map(full_name, record.texts("RepoTags")))),
        )
        for record in listed
    )


def select(records: Sequence[Record], selector: str, place: str) -> Record:
    """The record that `selector` means; without one, the only image's. Raises `SourceError` that tells the choices."""
    names = ", ".join(sorted(name for record in records for name in record.names))
    chosen = {record.config: record for record in records if not selector or record.answers_to(selector)}
    if not chosen:
        hint = f"It has {names}." if names else "It gives no names: leave the name out."
        raise SourceError(f"{place} has no {selector!r}" if selector else f"{place} has no image", hint=hint)
    if len(chosen) > 1:
        raise SourceError(f"{place} has several images", hint=f"Say which, after a colon: {names}.")
    return next(iter(chosen.values()))


def read(tarball: Tarball, reference: str, selector: str, platform: Platform | None) -> tuple[Found, Mapping[str, str]]:
    """The image that `selector` means, and by diff ID the paths of its layers. Raises `SourceError`."""
    record = select(parse_records(tarball.document("manifest.json"), tarball.place), selector, tarball.place)
    config = tarball.document(record.config)
    named = _HEX.search(record.config)
    if named and digest_of(config) != f"sha256:{named[0]}":
        raise SourceError(f"{tarball.place} is damaged: {record.config} is {digest_of(config)}")
    members = [_member(tarball, path) for path in record.layers]
    image = parse_config(config, reference, [(member.number, member.size) for member in members])
    image = image.as_stored(layer_type(member.head) != MEDIA_TYPE_LAYER for member in members)
    if platform and not platform.runs(image.platform):
        raise SourceError(f"{reference} is not there for {platform}", hint=f"It is there for {image.platform}.")
    descriptors = {
        diff_id: Descriptor(MEDIA_TYPE_LAYER, diff_id, member.size)
        for diff_id, member in zip(image.diff_ids, members, strict=True)
        if layer_type(member.head) == MEDIA_TYPE_LAYER
    }
    paths = dict(zip(image.diff_ids, record.layers, strict=True))
    return Found(image, config, descriptors, names=record.names), paths


def _member(tarball: Tarball, path: str) -> Member:
    member = tarball.member(path)
    if member is None:
        raise SourceError(f"{tarball.place} lacks {path}: it is incomplete, or cut short")
    return member


class Layers:
    """The content of one image; of compressed layers it describes those that were wanted."""

    def __init__(
        self, found: Found, paths: Mapping[str, str], wanted: frozenset[str], tarball: Tarball, spool: Path
    ) -> None:
        self._paths = {paths[diff_id]: diff_id for diff_id in wanted}
        self._tarball = tarball
        self._spool = spool
        self._config = found.config
        self._descriptors = dict(found.descriptors)
        self._received = 0

    def blobs(self) -> Iterator[Blob]:
        for path, chunks in self._tarball.stream(self._paths):
            diff_id, place = self._paths[path], f"{self._tarball.place}: {path}"
            if diff_id in self._descriptors:
                blob = self._descriptors[diff_id]
                yield Blob(diff_id, blob, self._counted(checked(chunks, blob, place)))
            elif self._tarball.is_compressed:
                yield self._spooled(diff_id, path, chunks)
            else:
                blob = self._descriptors[diff_id] = self._identify(diff_id, path, chunks)
                again = chain.from_iterable(again for _, again in self._tarball.stream([path]))
                yield Blob(diff_id, blob, self._counted(checked(again, blob, place)))

    def finish(self) -> Summary:
        return Summary(self._config, self._descriptors, received=self._received)

    def _spooled(self, diff_id: str, path: str, chunks: Iterator[bytes]) -> Blob:
        """A compressed layer in a compressed archive: it passes just once, and its digest is known when it has."""
        kept = self._spool / diff_id.removeprefix("sha256:")
        with KeptFile(kept, _member(self._tarball, path).size) as file:
            blob = self._descriptors[diff_id] = self._identify(diff_id, path, copied(chunks, file))
        return Blob(diff_id, blob, self._counted(drain(kept)))

    def _identify(self, diff_id: str, path: str, chunks: Iterator[bytes]) -> Descriptor:
        """Describe a compressed layer by reading it to its end; raises `SourceError` where it is not its diff ID's."""
        member, place = _member(self._tarball, path), f"{self._tarball.place}: {path}"
        media_type, stored = layer_type(member.head), Hashed(chunks)
        layer = Hashed(at_most(plain_chunks(stored, media_type), most_of(member.size), place))
        with damage(place):
            exhaust(layer)
        exhaust(stored)
        if layer.digest != diff_id:
            raise SourceError(f"{place} is damaged: what should be {diff_id} is {layer.digest}")
        return Descriptor(media_type, stored.digest, stored.size)

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._received += len(chunk)
            yield chunk
