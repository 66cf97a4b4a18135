"""What a registry has of an image. It keys on blob digests, so a layer is asked for under each digest we can name.

Two know digests: the source, of what it holds as blobs; and the images that are in the repository already. Their
configs tell the diff ID of each position, their manifests the blob: a base is found again, whoever compressed it.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from layerferry.errors import SourceError, TargetError
from layerferry.image import Descriptor, Image, Name, Platform, digest_of
from layerferry.sources.manifest import Found, find
from layerferry.sources.remote import RemoteStore
from layerferry.upload.shelf import Shelf

#: Tags to look at beside those that are to be set. Each costs two or three requests.
_MOST_OTHERS = 4
#: Blobs to ask for at a time.
_ASKERS = 4


@dataclass(frozen=True, slots=True)
class Stock:
    """What there is of an image: by diff ID the blobs, and the very image with its manifest, if that is there."""

    blobs: Mapping[str, Descriptor] = field(default_factory=dict)
    same: Found | None = None


def look(shelf: Shelf, tags: Iterable[str], image: Image, held: Mapping[str, Descriptor]) -> Stock:
    """Find out. `held` are the source's own blobs by diff ID, and go first: with them an image keeps its digest."""
    known: list[Mapping[str, Descriptor]] = [held]
    for tag in _tags(shelf, list(tags)):
        found, ids = _read(shelf, tag, image.platform)
        if found is None:
            continue
        if image.id in ids and found.image.diff_ids == image.diff_ids:
            return Stock(found.descriptors, found)
        known.append(found.descriptors)
        if all(any(layer.diff_id in blobs for blobs in known[1:]) for layer in image.layers):
            break
    candidates = {diff_id: _each(diff_id, known) for diff_id in image.diff_ids}
    there = _ask(shelf, {blob.digest for blobs in candidates.values() for blob in blobs})
    blobs = {diff_id: [blob for blob in blobs if blob.digest in there] for diff_id, blobs in candidates.items()}
    return Stock({diff_id: found[0] for diff_id, found in blobs.items() if found})


def _each(diff_id: str, known: Sequence[Mapping[str, Descriptor]]) -> list[Descriptor]:
    return list(dict.fromkeys(blobs[diff_id] for blobs in known if diff_id in blobs))


def _ask(shelf: Shelf, digests: Iterable[str]) -> set[str]:
    """Those that are there. A manifest may outlive its blobs."""
    asked = sorted(digests)
    with ThreadPoolExecutor(_ASKERS) as pool:
        return {digest for digest, there in zip(asked, pool.map(shelf.has, asked), strict=True) if there}


def _tags(shelf: Shelf, wanted: Sequence[str]) -> Iterator[str]:
    """The wanted tags, then `latest`, then what reads like the newest versions: a registry does not tell their age."""
    yield from wanted
    others: list[str] = []
    with contextlib.suppress(SourceError, TargetError):
        others = sorted(set(shelf.tags()) - set(wanted), key=_version, reverse=True)
    yield from sorted(others, key=lambda tag: tag != "latest")[:_MOST_OTHERS]


def _version(tag: str) -> list[tuple[int, int, str]]:
    """1.10 after 1.9."""
    parts = re.findall(r"\d+|\D+", tag)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def _read(shelf: Shelf, tag: str, platform: Platform) -> tuple[Found | None, set[str]]:
    """The image of a tag for a platform, and all that it may be called by: its config, manifest and index.

    None where there is none; nor where this login may not see it: whether it may push is told when it does.
    """
    store = RemoteStore(shelf)
    try:
        root = store.root(tag, "")
        name = Name(shelf.name.domain, shelf.name.path, tag)
        found = find(store, [root], name.tagged, platform)
    except (SourceError, TargetError):
        return None, set()
    manifest = digest_of(found.manifest[1]) if found.manifest else ""
    return found, {root.descriptor.digest, manifest, found.image.id}
