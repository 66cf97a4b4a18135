"""From an index or a manifest to an image: which platform, which layers, under which names. No I/O of its own.

Specs: OCI image-spec 1.1, image-index.md, manifest.md, config.md and annotations.md; docker's are the same documents by
other media types (https://distribution.github.io/distribution/spec/manifest-v2-2/).
"""

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

from layerferry.errors import SourceError, UsageError
from layerferry.oci import limits
from layerferry.oci.documents import Document
from layerferry.oci.image import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    Image,
    Layer,
    Name,
    Platform,
    digest_of,
    is_digest,
)

INDEX_TYPES = frozenset((MEDIA_TYPE_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"))
MANIFEST_TYPES = frozenset((MEDIA_TYPE_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"))
CONFIG_TYPES = frozenset((MEDIA_TYPE_CONFIG, "application/vnd.docker.container.image.v1+json"))
#: What says nothing: an entry without a media type, and what servers call whatever they hold.
_UNTOLD = frozenset(("", "application/json", "application/octet-stream", "text/plain"))
_NAME = "org.opencontainers.image.ref.name"
_FULL_NAME = "io.containerd.image.name"
#: What BuildKit marks provenance and SBOMs with (moby/buildkit, docs/attestations/attestation-storage.md).
_ATTESTATION = "vnd.docker.reference.type"
_T = TypeVar("_T")
#: An index in an index in an index; nobody needs more.
_DEEPEST = 3
#: Names or platforms in one sentence, and characters of one.
_MOST_LISTED = 12
_LONGEST_LISTED = 100


class SeveralPlatformsError(SourceError):
    """The image is there for several platforms, and none was asked for."""

    def __init__(self, reference: str, choices: Sequence[Platform]) -> None:
        super().__init__(f"{reference} is there for {listed(choices)}", hint="Say which: --platform.")
        self.choices = tuple(choices)


class Documents(Protocol):
    """Where manifests and configs are found. `place` names it in errors: `the OCI layout build/app`."""

    @property
    def place(self) -> str: ...

    def has(self, digest: str) -> bool:
        """Whether a document can be had; True where only reading it would tell."""

    def document(self, descriptor: Descriptor) -> bytes:
        """Read a manifest, index or config of at most `limits.DOCUMENT` bytes; what it says is not yet checked."""


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A manifest or index as an index names it. `platform` is None where the index does not tell."""

    descriptor: Descriptor
    platform: Platform | None = None
    name: str = ""
    full_name: str = ""
    is_image: bool = True
    #: Full names that further entries give to the same.
    others: tuple[str, ...] = ()

    @classmethod
    def parse(cls, document: Document, place: str) -> Self:
        """Raises the document's error where it is no descriptor with a sha256 digest.

        An artifactType is that of an image where it says what the config is (manifest.md, "artifactType"): crane, ko
        and kaniko copy it from there.
        """
        annotations, stated = document.object("annotations"), document.object("platform")
        system, architecture = stated.word("os", ""), stated.word("architecture", "")
        artifact = document.media_type("artifactType", "")
        return cls(
            parse_descriptor(document, place),
            Platform(system, architecture, stated.word("variant", "")) if system and architecture else None,
            annotations.text(_NAME, ""),
            annotations.text(_FULL_NAME, ""),
            is_image=_ATTESTATION not in annotations.members
            and system != "unknown"
            and (not artifact or artifact in CONFIG_TYPES),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The full names that the index gives: tools write one to either annotation, or a bare tag."""
        texts = (self.full_name, self.name if set(self.name) & set(":/") else "")
        own = next(((full,) for text in texts if (full := full_name(text))), ())
        return tuple(dict.fromkeys((*own, *self.others)))

    def with_names_of(self, other: Self) -> Self:
        """The same, by the names of another entry too."""
        return replace(self, others=tuple(dict.fromkeys((*self.others, *other.names))))

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


def listed(choices: Iterable[object]) -> str:
    """Some of `choices`, for people, on one line."""
    texts = [" ".join(str(choice)[:_LONGEST_LISTED].split()) for choice in choices]
    more = len(texts) - _MOST_LISTED
    return ", ".join(texts[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def parse_descriptor(document: Document, place: str) -> Descriptor:
    """Raises the document's error where it is no descriptor, or goes by something else than sha256."""
    digest = document.text("digest")
    algorithm = digest.partition(":")[0]
    if re.fullmatch(r"[a-z0-9+._-]{1,32}", algorithm) and algorithm != "sha256":
        raise document.error(f"{place} uses {algorithm} digests", hint="Engines take sha256 alone: build it with that.")
    size = document.count("size")
    if not is_digest(digest):
        raise document.error(f"{place} is damaged: {digest[:80]!r} of {size} bytes is no descriptor")
    return Descriptor(document.media_type("mediaType", ""), digest, size)


def parse_index(data: bytes, place: str) -> tuple[IndexEntry, ...]:
    """The entries of an index. Raises `SourceError`."""
    document = Document.parse(data, f"an index in {place}")
    if {"layers", "config"} & document.members.keys():
        raise document.damaged("it is a manifest as well")  # two readers would see two images: CVE-2021-41190
    return tuple(IndexEntry.parse(manifest, place) for manifest in document.objects("manifests"))


def media_type_of(data: bytes, told: str, place: str) -> str:
    """The media type of a manifest or index: what it says itself, or else what it was `told` to be, or its content."""
    document = Document.parse(data, f"a manifest in {place}")
    stated = document.media_type("mediaType", "")
    for media_type in (stated, told):
        if media_type not in _UNTOLD:
            return media_type
    if "manifests" in document.members:
        return MEDIA_TYPE_INDEX
    return MEDIA_TYPE_MANIFEST if {"layers", "config"} & document.members.keys() else stated or told


def find(documents: Documents, entries: Iterable[IndexEntry], reference: str, platform: Platform | None) -> Found:
    """The image among `entries`, and what they lead to, that is for `platform`, or is the only one.

    Raises `SeveralPlatformsError` where a platform must be said, and `SourceError` where there is no image for it, or
    two entries are two for the same one: a tool that appends leaves the old one there, as BuildKit does without a name.
    """
    search = _Search(documents, reference)
    here: dict[str, tuple[int, IndexEntry]] = {}
    for number, top in enumerate(entries):
        for entry in search.images([top], _DEEPEST):
            before = here.get(entry.descriptor.digest, (number, entry))
            here[entry.descriptor.digest] = before[0], before[1].with_names_of(entry)
    if not here:
        raise SourceError(f"{documents.place} has no image {reference}, or none that is complete")
    if platform is None and len(here) == 1:
        return search.read(next(iter(here.values()))[1])
    offers = [_Offer(entry.platform or search.read(entry).image.platform, top, entry) for top, entry in here.values()]
    choices = tuple(dict.fromkeys(offer.platform for offer in offers))
    if len(choices) > limits.PLATFORMS:
        raise SourceError(f"{documents.place} is refused: {reference} is there for {len(choices)} platforms")
    if platform is None and len(choices) > 1:
        raise SeveralPlatformsError(reference, choices)
    chosen = pick([(offer.platform, offer) for offer in offers], platform or choices[0])
    if chosen is None:
        raise SourceError(f"{reference} is not there for {platform}", hint=f"It is there for {listed(choices)}.")
    return search.only([offer.entry for offer in offers if offer is chosen or offer.rivals(chosen)], chosen.entry)


@dataclass(frozen=True, slots=True)
class _Offer:
    """An image, for which platform it is, and the number of the entry that leads to it."""

    platform: Platform
    top: int
    entry: IndexEntry

    def rivals(self, other: Self) -> bool:
        """Whether another entry leads to this one for the same platform. Within an index, the first counts."""
        return self.platform == other.platform and self.top != other.top


def pick(offered: Iterable[tuple[Platform, _T]], wanted: Platform) -> _T | None:
    """What suits `wanted` best: of the same system, and of its variants the highest that is not above it.

    As containerd ranks them (containerd/platforms, compare.go): arm is arm/v7, arm64 is arm64/v8, amd64 is amd64/v1.
    """
    suitable = [(choice, thing) for choice, thing in offered if wanted.runs(choice) and choice.level <= wanted.level]
    return max(suitable, key=lambda pair: pair[0].level)[1] if suitable else None


class _Search:
    """The way from some entries to an image. All that it looks at is bounded: entries, and bytes of documents."""

    def __init__(self, documents: Documents, reference: str) -> None:
        self._documents = documents
        self._place = documents.place
        self._reference = reference
        self._entries = 0
        self._bytes = 0
        self._indexes: set[str] = set()

    def images(self, entries: Iterable[IndexEntry], deeper: int) -> Iterator[IndexEntry]:
        """The manifests of images, in order. A nested index's name goes for what it names; each is read once."""
        for entry in entries:
            self._entries += 1
            if self._entries > limits.ENTRIES:
                raise SourceError(f"{self._place} is refused: its indexes have more than {limits.ENTRIES} entries")
            if not entry.is_image or not self._documents.has(entry.descriptor.digest):
                continue
            media_type = entry.descriptor.media_type
            if media_type in _UNTOLD:
                media_type = media_type_of(self._read(entry.descriptor), media_type, self._place)
            if media_type not in INDEX_TYPES:
                yield replace(entry, descriptor=replace(entry.descriptor, media_type=media_type))
            elif deeper and entry.descriptor.digest not in self._indexes:
                self._indexes.add(entry.descriptor.digest)
                nested = parse_index(self._read(entry.descriptor), self._place)
                named = (replace(child, name=entry.name, full_name=entry.full_name) for child in nested)
                yield from self.images(named, deeper - 1)

    def only(self, entries: Sequence[IndexEntry], chosen: IndexEntry) -> Found:
        """Read what was chosen; raises `SourceError` where the others are another image. One has many manifests."""
        found = self.read(chosen)
        if any(self.read(entry).image.id != found.image.id for entry in entries if entry is not chosen):
            digests = listed(entry.descriptor.digest for entry in entries)
            raise SourceError(
                f"{self._place} has several images for {found.image.platform}",
                hint=f"Say which, after an @, the last is what was added last: {digests}.",
            )
        return found

    def read(self, entry: IndexEntry) -> Found:
        """Raises `SourceError` where it is no image, or its parts do not fit together."""
        place, media_type, reference = self._place, entry.descriptor.media_type, self._reference
        if media_type not in MANIFEST_TYPES:
            told = f", but {media_type}" if media_type else ": it does not say its media type"
            raise SourceError(f"{reference} is no image{told}")
        data = self._read(entry.descriptor)
        manifest = Document.parse(data, f"a manifest in {place}")
        if "manifests" in manifest.members:
            raise manifest.damaged("it is an index as well")
        stated, descriptors = parse_manifest(manifest, place)
        config = self._read(stated)
        stored = [(blob.digest, blob.size) for blob in descriptors]
        image = parse_config(config, reference, stored, kind=stated.media_type)
        image = image.as_stored(blob.media_type != MEDIA_TYPE_LAYER for blob in descriptors)
        by_diff_id = dict(reversed(tuple(zip(image.diff_ids, descriptors, strict=True))))
        return Found(image, config, by_diff_id, (media_type, data), entry.names)

    def _read(self, descriptor: Descriptor) -> bytes:
        """A document, checked against its descriptor."""
        digest, size = descriptor.digest, descriptor.size
        self._bytes += size
        if size > limits.DOCUMENT:
            raise SourceError(f"{self._place}: {digest} has {size} bytes, more than a document may have")
        if self._bytes > limits.DOCUMENTS:
            raise SourceError(f"{self._place} is refused: its documents have more than {limits.DOCUMENTS} bytes")
        data = self._documents.document(descriptor)
        if (found := digest_of(data)) != digest:
            raise SourceError(f"{self._place} is damaged: what should be {digest} is {found}")
        if len(data) != size:
            raise SourceError(f"{self._place} is damaged: {digest} has {len(data)} bytes, and is said to have {size}")
        return data


def parse_manifest(manifest: Document, place: str) -> tuple[Descriptor, list[Descriptor]]:
    """The config and the layers that a manifest names. Raises its error."""
    layers = manifest.objects("layers")
    if len(layers) > limits.LAYERS:
        raise manifest.damaged(f"it has more than {limits.LAYERS} layers")
    return parse_descriptor(manifest.object("config"), place), [_layer(layer, place) for layer in layers]


def parse_config(config: bytes, reference: str, stored: Sequence[tuple[Hashable, int]], *, kind: str = "") -> Image:
    """The image of a config. `stored` has, for each layer, which blob it is, and its bytes. Raises `SourceError`."""
    document = Document.parse(config, f"the config of {reference}")
    if not {"os", "architecture", "rootfs"} <= document.members.keys():
        raise SourceError(f"{reference} is no container image" + (f", but {kind}" if kind else ""))
    platform = Platform(document.word("os"), document.word("architecture"), document.word("variant", ""))
    if not platform.os or not platform.architecture:
        raise document.damaged("it does not say for which system and architecture it is")
    diff_ids = document.object("rootfs").digests("diff_ids")
    check_stored(diff_ids, [blob for blob, _ in stored], reference)
    image = Image(reference, digest_of(config), platform, Layer.chain(diff_ids, (size for _, size in stored)))
    return image.created(_history(document, len(diff_ids)))


def check_stored(diff_ids: Sequence[str], blobs: Sequence[Hashable], what: str) -> None:
    """Raise `SourceError` where there is not a blob for each layer, or one for two: unpacked it is one of them."""
    if len(diff_ids) != len(blobs):
        raise SourceError(f"{what} is damaged: its config names {len(diff_ids)} layers, it has {len(blobs)}")
    layers: dict[Hashable, str] = {}
    for diff_id, blob in zip(diff_ids, blobs, strict=True):
        if layers.setdefault(blob, diff_id) != diff_id:
            raise SourceError(f"{what} is damaged: it has one blob for two layers, {layers[blob]} and {diff_id}")


def _history(config: Document, count: int) -> list[str]:
    """What a config says of each of its layers (config.md, "history"); nothing, where that is not one text for each.

    A history is only shown: one that cannot be read does no harm.
    """
    told = config.members.get("history")
    entries = [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []
    texts = [entry.get("created_by") for entry in entries if entry.get("empty_layer") is not True]
    return [text if isinstance(text, str) else "" for text in texts] if len(texts) == count else [""] * count


def _layer(document: Document, place: str) -> Descriptor:
    layer = parse_descriptor(document, place)
    if layer.media_type.endswith("+encrypted"):
        raise SourceError(f"{place} holds encrypted layers", hint="Decrypt them first: skopeo copy --decryption-key.")
    return layer.in_oci_words
