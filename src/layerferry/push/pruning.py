"""Which images of a repository are no longer needed on a target. Pure: it decides, and others remove.

How old an image is, is when it was built: what `docker image ls` sorts by, the one time that every engine knows. Where
builds are reproducible, and all have one time, none of them is older than another, and all stay.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime

from layerferry.oci.image import Name, chain_ids, engine_name, may_be_image_id
from layerferry.targets.named_images import ImagesThere, TargetImage

#: RFC 3339 as engines write it, with up to nine digits of a second, of which Python reads six.
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,6})?\d*(Z|[+-]\d\d:\d\d)")
_SECONDS = re.compile(r"-?\d{1,12}")
#: An image that Kubernetes' part of containerd names by the digest of its config (containerd, internal/cri).
_ALIAS = re.compile(r"sha256:[0-9a-f]{64}")


def seconds(text: str) -> float | None:
    """Seconds since 1970 of a time as an engine writes it; None where it is none."""
    if _SECONDS.fullmatch(text):
        return float(text)
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    try:
        zone = "+00:00" if match[3] == "Z" else match[3]
        return datetime.fromisoformat(f"{match[1]}{match[2] or ''}{zone}").astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def obsolete(
    there: ImagesThere,
    repository: str,
    newest: int,
    *,
    pushed: Collection[str],
    nameless: Collection[str],
    keepers: AbstractSet[str],
) -> list[TargetImage]:
    """The images of a repository that go.

    Those stay that a container uses, running or not; the `newest` ones; the `pushed` ones, by ID; what has a name of
    `keepers`; what has a name elsewhere; and whatever cannot be told. Of images without any name those go that are
    `nameless` by this very push, by ID: it has taken their last name, and nothing is called by them any more.
    """
    ages = {
        image.id: age
        for image in there.images.values()
        if any(name.repository == repository for name in _names(image).values())
        and (age := seconds(image.created)) is not None
    }
    ranked = [float("inf"), *sorted(ages.values(), reverse=True)]
    oldest_kept = ranked[newest] if newest < len(ranked) else float("-inf")
    uses = _Uses(there)

    def is_old(image: TargetImage) -> bool:
        return _is_of(image, repository) and ages.get(image.id, oldest_kept) < oldest_kept

    return [
        image
        for image in there.images.values()
        if image.id not in pushed
        and not keepers & _names(image).keys()
        and not uses.has(image)
        and (
            (_is_of(image, repository) and ages.get(image.id, oldest_kept) < oldest_kept)
            or _has_no_name(image, nameless)
        )
    ]


def move(there: ImagesThere, names: Mapping[str, str]) -> None:
    """Let full names stand for other images, by ID."""
    for image in there.images.values():
        image.names = [text for text in image.names if (name := engine_name(text)) is None or name.tagged not in names]
    for moved, image_id in names.items():
        if image_id in there.images:
            there.images[image_id].names.append(moved)


def _names(image: TargetImage) -> Mapping[str, Name]:
    """By full name, those of the image that are references."""
    return {name.tagged: name for text in image.names if (name := engine_name(text)) is not None}


def _is_of(image: TargetImage, repository: str) -> bool:
    """Whether it has names, all of them in that repository, but for what an engine calls it by itself."""
    names = [engine_name(text) for text in image.names if not _ALIAS.fullmatch(text)]
    return bool(names) and all(name is not None and name.repository == repository for name in names)


def _has_no_name(image: TargetImage, nameless: Collection[str]) -> bool:
    return image.id in nameless and all(map(_ALIAS.fullmatch, image.names))


class _Uses:
    """What containers use: by ID, whole or its beginning, by name and by chain ID."""

    def __init__(self, there: ImagesThere) -> None:
        self._words = {*there.used, *_full(there.used)}
        self._short = tuple(word for word in there.used if may_be_image_id(word))

    def has(self, image: TargetImage) -> bool:
        top = chain_ids(image.diff_ids)[-1:]
        told = self._words & {image.id, *image.names, *_full(image.names), *top}
        return (
            bool(told) or image.id.startswith(self._short) or image.id.removeprefix("sha256:").startswith(self._short)
        )


def _full(words: Iterable[str]) -> set[str]:
    return {name.tagged for word in words if not _ALIAS.fullmatch(word) and (name := engine_name(word)) is not None}
