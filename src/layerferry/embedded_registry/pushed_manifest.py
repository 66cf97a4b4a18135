"""The manifests and indexes that are pushed, checked as far as a registry checks them, and the blobs they name."""

from dataclasses import dataclass
from typing import Self

from layerferry.embedded_registry import error_answers
from layerferry.errors import SourceError
from layerferry.oci.documents import Document
from layerferry.oci.image import Descriptor, MediaType, Platform, digest_of


@dataclass(frozen=True, slots=True)
class PushedManifest:
    """A manifest or index as it was put. `tag` is empty where it was put by digest.

    `config`, `layers` (bottom first) and `children` (an index's manifests) are its descriptors; `platforms` has what
    the index says of each child, None where it says nothing. A classic store copies the sizes of layers that it did not
    upload from our answers, so those are no better than what was claimed. `blobs` are the digests that a registry must
    have before it takes the manifest: not those of layers that say themselves where else they are found (image-spec
    v1.1.1, "Non-distributable Layers").
    """

    media_type: str
    digest: str
    data: bytes
    tag: str = ""
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    platforms: tuple[Platform | None, ...] = ()
    blobs: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: bytes, *, media_type: str, tag: str = "") -> Self:
        """Read `data`; raises `Refused`, as MANIFEST_INVALID, where it is not a manifest of type `media_type`."""
        try:
            document = Document.parse(data, "the manifest")
            kind = MediaType(media_type)
            if document.media_type("mediaType", kind) != kind:
                raise error_answers.manifest_invalid("mediaType and Content-Type differ")
            layers, children = document.objects("layers"), document.objects("manifests")
            own = [document.object("config")] if document.members.get("config") is not None else []
            return cls(
                media_type=kind,
                digest=digest_of(data),
                data=data,
                tag=tag,
                config=_descriptor(own[0]) if own else None,
                layers=tuple(map(_descriptor, layers)),
                children=tuple(map(_descriptor, children)),
                platforms=tuple(map(_platform, children)),
                blobs=tuple(blob.digest("digest") for blob in (*own, *layers) if not _is_elsewhere(blob)),
            )
        except (SourceError, ValueError) as error:
            raise error_answers.manifest_invalid("this is not a manifest") from error


def _descriptor(document: Document) -> Descriptor:
    """A descriptor. Without a size it has 0, which a classic store leaves out, and heard of a blob we claim."""
    return Descriptor(document.media_type("mediaType"), document.digest("digest"), document.count("size", 0))


def _platform(child: Document) -> Platform | None:
    stated = child.object("platform")
    if not stated.members:
        return None
    return Platform(*(stated.word(key, "") for key in ("os", "architecture", "variant")))


def _is_elsewhere(layer: Document) -> bool:
    return bool(layer.texts("urls"))
