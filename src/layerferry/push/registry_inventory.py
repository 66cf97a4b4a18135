"""What a registry has of an image. It keys on blob digests, so a layer is asked for under each digest we can name.

Three know digests: the source, of what it holds as blobs; our own memory; and the images that are in the repository
already. Their configs tell the diff ID of each position, their manifests the blob: a base is found again, whoever
compressed it. But anybody who may push there has written them, so that what they say is read and checked, where that
is less than to send the layer.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from layerferry.chunks import UNSURE, packing
from layerferry.errors import SourceError, TargetError
from layerferry.oci import limits
from layerferry.oci.documents import Document
from layerferry.oci.image import MEDIA_TYPE_LAYER, Descriptor, Image, Layer, Name, Platform, digest_of
from layerferry.oci.manifest import CONFIG_TYPES, Found, find, parse_manifest
from layerferry.push import blob_proof as proof
from layerferry.push.blob_cache import Memory
from layerferry.registry_client.pusher import RepositoryPusher
from layerferry.sources.registry import RemoteStore

#: Tags to look at beside those that are to be set. Each costs two or three requests.
_MOST_OTHERS = 4
#: Blobs to ask for at a time.
_ASKERS = 4
#: Bytes that a layer is taken to have whose size the source does not know.
_UNKNOWN_SIZE = limits.MIB


@dataclass(frozen=True, slots=True)
class RegistryInventory:
    """What there is of an image: by diff ID the blobs, and the very image with its manifest, if that is there."""

    blobs: Mapping[str, Descriptor] = field(default_factory=dict)
    same: Found | None = None
    #: By diff ID, how it is known, or why it is not believed.
    why: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """How to look: with what we remember, and whether blobs are read. `told` hears what that costs before it begins.

    `check` raises where the push was broken off.
    """

    memory: Memory
    reads: bool = True
    told: Callable[[str], None] = lambda _: None
    check: Callable[[], None] = lambda: None


def look(
    pusher: RepositoryPusher, tags: Iterable[str], image: Image, held: Mapping[str, Descriptor], how: Look
) -> RegistryInventory:
    """Find out. `held` are the source's own blobs by diff ID, and go first: with them an image keeps its digest."""
    twin: Found | None = None
    said: list[Mapping[str, Descriptor]] = []
    for tag in _tags(pusher, list(tags)):
        found, ids = _read(pusher, tag, image.platform)
        if found is None:
            continue
        if found.image.diff_ids == image.diff_ids:
            if image.id in ids:  # the source's own manifest: it says which blobs the layers are
                return RegistryInventory(found.descriptors, found)
            if image.id == found.image.id:
                twin = twin or found
        said.append(found.descriptors)
        if all(any(layer.diff_id in blobs for blobs in said) for layer in image.layers):
            break
    known = _Known(pusher, image, held, [*([twin.descriptors] if twin else []), *said], how)
    known.prove()
    same = twin if twin and _is_all_of(twin, known) else None
    return RegistryInventory(known.chosen, same, known.why)


class _Known:
    """What is known of an image's layers, by diff ID: the blobs that they are for certain, the best one first."""

    def __init__(
        self,
        pusher: RepositoryPusher,
        image: Image,
        held: Mapping[str, Descriptor],
        said: Sequence[Mapping[str, Descriptor]],
        how: Look,
    ) -> None:
        self._pusher = pusher
        self._held = held
        self._how = how
        self._layers = {layer.diff_id: layer for layer in image.layers}
        self._said = {diff_id: _each(diff_id, said) for diff_id in self._layers}
        named = {blob.digest for blobs in self._said.values() for blob in blobs}
        ours = {held[diff_id].digest for diff_id in self._layers if diff_id in held}
        self._sizes = _sizes(pusher, named | ours)
        self.blobs: dict[str, list[Descriptor]] = {diff_id: list(self._certain(diff_id)) for diff_id in self._layers}
        self.why: dict[str, str] = {}

    @property
    def chosen(self) -> dict[str, Descriptor]:
        return {diff_id: blobs[0] for diff_id, blobs in self.blobs.items() if blobs}

    def _certain(self, diff_id: str) -> Iterator[Descriptor]:
        """The blobs for which nobody's word is needed: the source's, those that we have seen, the plain tar."""
        if (ours := self._held.get(diff_id)) and ours.digest in self._sizes:
            yield ours
        for blob in self._said[diff_id]:
            if blob.digest not in self._sizes:
                continue
            seen = self._how.memory.get(blob.digest)
            if seen and seen.diff_id == diff_id:
                yield seen.blob
            elif blob.digest == diff_id and self._sizes[blob.digest]:
                yield Descriptor(MEDIA_TYPE_LAYER, diff_id, self._sizes[blob.digest])

    def prove(self) -> None:
        """Look at what is only said, where that costs less than to send the layer."""
        open_questions = [
            (layer, claims)
            for diff_id, layer in self._layers.items()
            if not self.blobs[diff_id] and (claims := list(self._claims(diff_id)))
        ]
        cost = sum(claims[0].size for layer, claims in open_questions if claims[0].size <= self._cost(layer))
        if cost > _UNKNOWN_SIZE and self._how.reads:
            self._how.told(
                f"that {self._pusher.place} has {len(open_questions)} layers is only said by other images there: "
                f"{cost / 1e6:.0f} MB are read to check it, this once"
            )
        for layer, claims in open_questions:
            self._look_at(layer, claims)

    def _claims(self, diff_id: str) -> Iterator[Descriptor]:
        """What is there, is said to be this layer, and was never seen to be another; with its real size."""
        for blob in self._said[diff_id]:
            if blob.digest in self._sizes and self._how.memory.get(blob.digest) is None:
                yield Descriptor(blob.media_type, blob.digest, self._sizes[blob.digest] or blob.size)

    def _look_at(self, layer: Layer, claims: Sequence[Descriptor]) -> None:
        left = self._cost(layer)
        self.why[layer.diff_id] = "only another image there says that the target has it, and it is less to send"
        for blob in claims:
            left -= blob.size
            if left < 0:
                return
            if not self._how.reads:
                self.blobs[layer.diff_id] = [blob]
                self.why[layer.diff_id] = f"another image there says so, and {blob.size} bytes would be read to check"
                return
            seen = proof.read(self._pusher, blob, self._how.check)
            if seen is not None:
                self._how.memory.add(seen)
            if seen is None or seen.diff_id != layer.diff_id:
                self.why[layer.diff_id] = f"another image there says that {blob.digest} is it, and it is not"
            elif (how := packing(seen.blob.media_type)) in UNSURE:
                self.why[layer.diff_id] = f"the target has it as {how}, which not every engine unpacks"
            else:
                self.blobs[layer.diff_id] = [seen.blob]
                self.why[layer.diff_id] = f"{blob.size} bytes were read to check"
                return

    def _cost(self, layer: Layer) -> int:
        """Bytes to send at most; what is compressed on the way is not known yet."""
        held = self._held.get(layer.diff_id)
        return held.size if held else layer.size or _UNKNOWN_SIZE


def _is_all_of(twin: Found, known: _Known) -> bool:
    """Whether an image with our config has our layers, each of them, and its manifest says nothing beside.

    An annotation is read by some engines before a layer is, and may name other content (zstd:chunked, estargz).
    """
    if twin.manifest is None:
        return False
    manifest = Document.parse(twin.manifest[1], "a manifest")
    config, layers = parse_manifest(manifest, "a manifest")
    parts = [manifest.object("config"), *manifest.objects("layers")]
    return (
        config.media_type in CONFIG_TYPES
        and manifest.members.keys() <= {"schemaVersion", "mediaType", "config", "layers"}
        and all(part.members.keys() <= {"mediaType", "digest", "size"} for part in parts)
        and all(blob in known.blobs[diff_id] for diff_id, blob in zip(twin.image.diff_ids, layers, strict=True))
    )


def _each(diff_id: str, known: Sequence[Mapping[str, Descriptor]]) -> list[Descriptor]:
    return list(dict.fromkeys(blobs[diff_id] for blobs in known if diff_id in blobs))


def _sizes(pusher: RepositoryPusher, digests: Iterable[str]) -> dict[str, int]:
    """The sizes of those that are there, 0 where that is not told. A manifest may outlive its blobs."""
    asked = sorted(digests)
    with ThreadPoolExecutor(_ASKERS) as pool:
        pairs = zip(asked, pool.map(pusher.size, asked), strict=True)
        return {digest: size for digest, size in pairs if size is not None}


def _tags(pusher: RepositoryPusher, wanted: Sequence[str]) -> Iterator[str]:
    """The wanted tags, then `latest`, then what reads like the newest versions: a registry does not tell their age."""
    yield from wanted
    others: list[str] = []
    with contextlib.suppress(SourceError, TargetError):
        others = sorted(set(pusher.tags()) - set(wanted), key=_version, reverse=True)
    yield from sorted(others, key=lambda tag: tag != "latest")[:_MOST_OTHERS]


def _version(tag: str) -> list[tuple[int, int, str]]:
    """1.10 after 1.9."""
    parts = re.findall(r"\d+|\D+", tag)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def _read(pusher: RepositoryPusher, tag: str, platform: Platform) -> tuple[Found | None, set[str]]:
    """The image of a tag for a platform, and the digests of its manifest and index.

    None where there is none; nor where this login may not see it: whether it may push is told when it does.
    """
    store = RemoteStore(pusher)
    try:
        root = store.root(tag, "")
        name = Name(pusher.name.domain, pusher.name.path, tag)
        found = find(store, [root], name.tagged, platform)
    except (SourceError, TargetError):
        return None, set()
    manifest = digest_of(found.manifest[1]) if found.manifest else ""
    return found, {root.descriptor.digest, manifest}
