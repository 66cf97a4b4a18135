"""Manifests and indexes as they are pushed: checked as far as a registry checks them, and read for what they name."""

import json
from dataclasses import dataclass
from typing import Any, Self

from layerferry.image import Descriptor, digest_of, is_digest
from layerferry.registry import refusal


@dataclass(frozen=True, slots=True)
class PushedManifest:
    """A manifest or index as it was put. `tag` is empty where it was put by digest.

    `config`, `layers` (bottom first) and `children` (an index's manifests) are its descriptors. A classic store copies
    the sizes of layers that it did not upload from our answers, so those are no better than what was claimed. `blobs`
    are the digests that a registry must have before it takes the manifest: not those of layers that say themselves
    where else they are found (image-spec v1.1.1, "Non-distributable Layers").
    """

    media_type: str
    digest: str
    data: bytes
    tag: str = ""
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    blobs: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: bytes, *, media_type: str, tag: str = "") -> Self:
        """Read `data`; raises `Refused`, as MANIFEST_INVALID, where it is not a manifest of type `media_type`."""
        try:
            document = json.loads(data)
            if document.get("mediaType", media_type) != media_type:
                raise refusal.manifest_invalid("mediaType and Content-Type differ")
            config, layers = document.get("config"), document.get("layers", ())
            own = [config, *(layer for layer in layers if not layer.get("urls"))]
            return cls(
                media_type=media_type,
                digest=digest_of(data),
                data=data,
                tag=tag,
                config=_descriptor(config) if config is not None else None,
                layers=tuple(_descriptor(layer) for layer in layers),
                children=tuple(_descriptor(child) for child in document.get("manifests", ())),
                blobs=tuple(blob["digest"] for blob in own if blob is not None),
            )
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise refusal.manifest_invalid("this is not a manifest") from error

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.data)
        return document


def _descriptor(document: dict[str, Any]) -> Descriptor:
    """Raises `KeyError`, `TypeError` or `ValueError` where `document` is no descriptor with a sha256 digest.

    A classic store leaves out a size of 0, which is what it heard of a blob whose size we did not know.
    """
    digest, size = document["digest"], document.get("size", 0)
    if not is_digest(digest) or not isinstance(size, int) or size < 0:
        raise ValueError(digest)
    return Descriptor(str(document["mediaType"]), digest, size)
