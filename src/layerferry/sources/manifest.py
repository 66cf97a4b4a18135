"""From an index or a manifest to an image: which platform, which layers, under which names. No I/O of its own.

Specs: OCI image-spec 1.1, image-index.md, manifest.md, config.md and annotations.md; docker's are the same documents by
other media types (https://distribution.github.io/distribution/spec/manifest-v2-2/).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeVar

from layerferry.errors import SourceError, UsageError
from layerferry.image import (
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    Image,
    Layer,
    Name,
    Platform,
    digest_of,
    is_digest,
)

#: Bytes of a manifest, index or config at most (distribution-spec, "Pushing Manifests": 4 MiB and more may be refused).
LARGEST_DOCUMENT = 4 << 20
INDEX_TYPES = frozenset((MEDIA_TYPE_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"))
MANIFEST_TYPES = frozenset((MEDIA_TYPE_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"))
_NAME = "org.opencontainers.image.ref.name"
_FULL_NAME = "io.containerd.image.name"
#: What BuildKit marks provenance and SBOMs with (moby/buildkit, docs/attestations/attestation-storage.md).
_ATTESTATION = "vnd.docker.reference.type"
_T = TypeVar("_T")
#: An index in an index in an index; nobody needs more.
_DEEPEST = 3


class SeveralPlatformsError(SourceError):
    """The image is there for several platforms, and none was asked for."""

    def __init__(self, reference: str, choices: Sequence[Platform]) -> None:
        listed = ", ".join(map(str, choices))
        super().__init__(f"{reference} is there for {listed}", hint="Say which: --platform.")
        self.choices = tuple(choices)


class Documents(Protocol):
    """Where manifests and configs are found. `place` names it in errors: `the OCI layout build/app`."""

    @property
    def place(self) -> str: ...

    def has(self, digest: str) -> bool:
        """Whether a document can be had; True where only reading it would tell."""

    def document(self, descriptor: Descriptor) -> bytes:
        """Read a manifest, index or config of at most `LARGEST_DOCUMENT` bytes; what it says is not yet checked."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A manifest or index as an index names it. `platform` is None where the index does not tell."""

    descriptor: Descriptor
    platform: Platform | None = None
    name: str = ""
    full_name: str = ""
    is_image: bool = True

    @classmethod
    def parse(cls, document: Mapping[str, Any], place: str) -> Self:
        """Raises `SourceError` where `document` is no descriptor with a sha256 digest."""
        annotations = document.get("annotations") or {}
        stated = document.get("platform") or {}
        system, architecture = str(stated.get("os", "")), str(stated.get("architecture", ""))
        return cls(
            parse_descriptor(document, place),
            Platform(system, architecture, str(stated.get("variant", ""))) if system and architecture else None,
            str(annotations.get(_NAME, "")),
            str(annotations.get(_FULL_NAME, "")),
            is_image=_ATTESTATION not in annotations and system != "unknown" and not document.get("artifactType"),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The full name that the index gives, if one: tools write it to either annotation, or a bare tag."""
        texts = (self.full_name, self.name if set(self.name) & set(":/") else "")
        return next(((full,) for text in texts if (full := full_name(text))), ())

    def answers_to(self, selector: str) -> bool:
        """Whether the user may mean this by `selector`: its tag, its name as written or in full, or its digest."""
        tags = {name.rpartition(":")[2] for name in self.names}
        meant = {self.name, self.full_name, self.descriptor.digest, *self.names, *tags}
        return selector in meant or full_name(selector) in self.names


@dataclass(frozen=True, slots=True)
class Found:
    """An image that was found: what describes it, and by diff ID its layers as they are stored."""

    image: Image
    config: bytes
    descriptors: Mapping[str, Descriptor]
    #: Its manifest and the media type of that, where it has one.
    manifest: tuple[str, bytes] | None = None
    #: The full names that the source knows it by.
    names: tuple[str, ...] = ()


def full_name(text: str) -> str:
    """`docker.io/library/app:1` for `app:1`; empty where `text` is no image name."""
    try:
        return Name.parse(text).tagged
    except UsageError:
        return ""


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Raises `SourceError` where `data` is no JSON object."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise SourceError(f"{what} is damaged: it is not a JSON object")
    return document


def parse_descriptor(document: Any, place: str) -> Descriptor:
    """Raises `SourceError` where `document` is no descriptor, or goes by something else than sha256."""
    try:
        media_type, digest, size = document.get("mediaType", ""), document["digest"], document["size"]
        algorithm = str(digest).partition(":")[0]
    except (AttributeError, KeyError, TypeError):
        raise SourceError(f"{place} is damaged: a descriptor lacks its digest or size") from None
    if re.fullmatch(r"[a-z0-9+._-]+", algorithm) and algorithm != "sha256":
        raise SourceError(f"{place} uses {algorithm} digests", hint="Engines take sha256 alone: build it with that.")
    if not isinstance(digest, str) or not is_digest(digest) or not isinstance(size, int) or size < 0:
        raise SourceError(f"{place} is damaged: {str(digest)[:80]!r} of {size!r} bytes is no descriptor")
    return Descriptor(str(media_type), digest, size)


def read_document(documents: Documents, descriptor: Descriptor) -> bytes:
    """A document, checked against its descriptor."""
    if descriptor.size > LARGEST_DOCUMENT:
        raise SourceError(f"{documents.place}: {descriptor.digest} has {descriptor.size} bytes, too many for its kind")
    data = documents.document(descriptor)
    if len(data) != descriptor.size or digest_of(data) != descriptor.digest:
        raise SourceError(f"{documents.place} is damaged: what should be {descriptor.digest} is {digest_of(data)}")
    return data


def parse_index(data: bytes, place: str) -> tuple[Entry, ...]:
    """The entries of an index. Raises `SourceError`."""
    manifests = parse_json(data, f"an index in {place}").get("manifests") or []
    if not isinstance(manifests, list):
        raise SourceError(f"{place} is damaged: its index lists no manifests")
    return tuple(Entry.parse(manifest, place) for manifest in manifests if isinstance(manifest, dict))


def find(documents: Documents, entries: Iterable[Entry], reference: str, platform: Platform | None) -> Found:
    """The image among `entries`, and what they lead to, that is for `platform`, or is the only one.

    Raises `SeveralPlatformsError` where a platform must be said, `SourceError` where there is no image for it.
    """
    here = {entry.descriptor.digest: entry for entry in reversed(tuple(_images(documents, entries, _DEEPEST)))}
    if not here:
        raise SourceError(f"{documents.place} has no image {reference}, or none that is complete")
    if platform is None and len(here) == 1:
        return _read(documents, next(iter(here.values())), reference)
    offered = [(entry.platform or _platform(documents, entry, reference), entry) for entry in reversed(here.values())]
    choices = tuple(dict.fromkeys(choice for choice, _ in offered))
    if platform is None and len(choices) > 1:
        raise SeveralPlatformsError(reference, choices)
    chosen = pick(offered, platform or choices[0])
    if chosen is None:
        listed = ", ".join(map(str, choices))
        raise SourceError(f"{reference} is not there for {platform}", hint=f"It is there for {listed}.")
    return _read(documents, chosen, reference)


def pick(offered: Iterable[tuple[Platform, _T]], wanted: Platform) -> _T | None:
    """What suits `wanted` best: of the same system, and of its variants the highest that is not above it.

    As containerd ranks them (containerd/platforms, compare.go): arm is arm/v7, arm64 is arm64/v8, amd64 is amd64/v1.
    """
    bound = _level(wanted)
    suitable = [(choice, thing) for choice, thing in offered if wanted.runs(choice) and _level(choice) <= bound]
    return max(suitable, key=lambda pair: _level(pair[0]))[1] if suitable else None


def _level(platform: Platform) -> int:
    """The number of a variant."""
    number = platform.variant.removeprefix("v")
    return int(number) if number.isdecimal() else {"arm": 7, "arm64": 8, "amd64": 1}.get(platform.architecture, 0)


def _images(documents: Documents, entries: Iterable[Entry], deeper: int) -> Iterator[Entry]:
    """The manifests of images, in order. A nested index's name goes for what it names."""
    for entry in entries:
        if not entry.is_image or not documents.has(entry.descriptor.digest):
            continue
        if entry.descriptor.media_type in INDEX_TYPES and deeper:
            nested = parse_index(read_document(documents, entry.descriptor), documents.place)
            named = (replace(child, name=entry.name, full_name=entry.full_name) for child in nested)
            yield from _images(documents, named, deeper - 1)
        elif entry.descriptor.media_type not in INDEX_TYPES:
            yield entry


def _platform(documents: Documents, entry: Entry, reference: str) -> Platform:
    return _read(documents, entry, reference).image.platform


def _read(documents: Documents, entry: Entry, reference: str) -> Found:
    """Raises `SourceError` where it is no image, or its parts do not fit together."""
    place, media_type = documents.place, entry.descriptor.media_type
    if media_type not in MANIFEST_TYPES:
        raise SourceError(f"{reference} is no image, but {media_type or 'of no known type'}")
    data = read_document(documents, entry.descriptor)
    manifest = parse_json(data, f"a manifest in {place}")
    stated = parse_descriptor(manifest.get("config"), place)
    config = read_document(documents, stated)
    layers = manifest.get("layers") or []
    descriptors = [_layer(layer, place) for layer in layers]
    sizes = [descriptor.size for descriptor in descriptors]
    image = parse_config(config, reference, sizes, kind=stated.media_type)
    by_diff_id = dict(reversed(tuple(zip(image.diff_ids, descriptors, strict=True))))
    return Found(image, config, by_diff_id, (media_type, data), entry.names)


def parse_config(config: bytes, reference: str, sizes: Sequence[int], *, kind: str = "") -> Image:
    """The image of a config whose layers are stored in so many bytes; raises `SourceError`."""
    document = parse_json(config, f"the config of {reference}")
    system, architecture = document.get("os"), document.get("architecture")
    rootfs = document.get("rootfs")
    if not isinstance(rootfs, dict) or not isinstance(system, str) or not isinstance(architecture, str):
        raise SourceError(f"{reference} is no container image" + (f", but {kind}" if kind else ""))
    diff_ids = rootfs.get("diff_ids") or []
    if not all(isinstance(diff_id, str) and is_digest(diff_id) for diff_id in diff_ids):
        raise SourceError(f"{reference} is damaged: its config names layers by something else than sha256")
    if len(diff_ids) != len(sizes):
        raise SourceError(f"{reference} is damaged: its config names {len(diff_ids)} layers, it has {len(sizes)}")
    platform = Platform(system, architecture, str(document.get("variant") or ""))
    return Image(reference, digest_of(config), platform, Layer.chain(diff_ids, sizes))


def _layer(document: Any, place: str) -> Descriptor:
    layer = parse_descriptor(document, place)
    if layer.media_type.endswith("+encrypted"):
        raise SourceError(f"{place} holds encrypted layers", hint="Decrypt them first: skopeo copy --decryption-key.")
    return layer.in_oci_words
