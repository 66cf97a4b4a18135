"""The JSON of an archive, read so strictly that no other parser can read it differently.

Engines are written in Go, whose encoding/json takes the last of two equal keys, and takes `Layers` and `LAYERS` for the
same one. So keys that come twice are refused, and so are keys that differ only in case from one that we look at.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layerferry.oci.image import (
    DOCKER_LAYER_TYPES,
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_LAYER_ZSTD,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    Platform,
    is_digest,
)
from layerferry.receive.refusal import Refusal

#: Bytes. Configs of real images stay below 100 kB; parsed, a document takes at most some forty times its size.
LARGEST_DOCUMENT = 1 << 20
_DEEPEST = 32
#: A string, closed or not: what may go unclosed is never tried twice, so this takes linear time.
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")

#: Docker's names for the same things (distribution, manifest/schema2).
_MANIFESTS = {MEDIA_TYPE_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"}
_CONFIGS = {MEDIA_TYPE_CONFIG, "application/vnd.docker.container.image.v1+json"}
_COMPRESSION = {MEDIA_TYPE_LAYER: "none", MEDIA_TYPE_LAYER_GZIP: "gzip", MEDIA_TYPE_LAYER_ZSTD: "zstd"}
LAYER_TYPES = frozenset(_COMPRESSION)


@dataclass(frozen=True, slots=True)
class StrictManifest:
    """An image manifest (OCI image-spec, manifest.md). `document` is the whole of it."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Config:
    """What is looked at of an image's config (OCI image-spec, config.md)."""

    platform: Platform
    diff_ids: tuple[str, ...]


def parse(data: bytes, what: str) -> Any:
    """Read JSON; raises `Refusal` where it is broken, ambiguous, too large or too deep."""
    if len(data) > LARGEST_DOCUMENT:
        raise Refusal(f"{what} is larger than {LARGEST_DOCUMENT} bytes")
    try:
        text = data.decode("utf-8")
        if _depth(text) > _DEEPEST:
            raise Refusal(f"{what} is nested too deep")
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refusal(f"{what} is not JSON that can be read in just one way") from None


def _depth(text: str) -> int:
    deepest = depth = 0
    for sign in re.findall(r"[][{}]", _STRING.sub("", text)):
        depth += 1 if sign in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(text)


def _members(document: Any, what: str, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Any]:
    """`document`, which must be an object with all of `required` and otherwise only `optional`."""
    if not isinstance(document, dict) or not set(required) <= set(document) <= {*required, *optional}:
        raise Refusal(f"{what} does not say just what it should")
    return document


def _open_members(document: Any, what: str, known: Collection[str]) -> dict[str, Any]:
    """`document`, an object with whatever members, but none that Go would take for one of `known`."""
    if not isinstance(document, dict):
        raise Refusal(f"{what} is not an object")
    folded = {name.casefold() for name in known}
    if any(key.casefold() in folded and key not in known for key in document):
        raise Refusal(f"{what} can be read in two ways")
    return document


def _list(document: Any, what: str) -> list[Any]:
    if not isinstance(document, list):
        raise Refusal(f"{what} is not a list")
    return document


def read_config(data: bytes) -> Config:
    """Read an image's config; raises `Refusal`."""
    what = "the image's config"
    known = ("rootfs", "os", "architecture", "variant")
    document = _open_members(parse(data, what), what, known)
    rootfs = _open_members(document.get("rootfs"), what, ("type", "diff_ids"))
    diff_ids = rootfs.get("diff_ids")
    words = [document.get("os"), document.get("architecture"), document.get("variant") or "v0"]
    if not all(isinstance(word, str) and _WORD.fullmatch(word) for word in words):
        raise Refusal(f"{what} does not say its platform")
    if rootfs.get("type") != "layers" or not all(map(_is_digest, _list(diff_ids or [], what))):
        raise Refusal(f"{what} does not say its layers")
    platform = Platform(document["os"], document["architecture"], document.get("variant") or "")
    return Config(platform, tuple(diff_ids or ()))


def read_manifest(data: bytes) -> StrictManifest:
    """Read an image manifest; raises `Refusal`."""
    what = "the image's manifest"
    document = _members(parse(data, what), what, ("schemaVersion", "mediaType", "config", "layers"), ("annotations",))
    _check_version(document, what)
    media_type = document["mediaType"]
    if not isinstance(media_type, str) or media_type not in _MANIFESTS:
        raise Refusal(f"{what} is of another kind")
    _annotations(document, what)
    config = _descriptor(document["config"], _CONFIGS, what)
    kinds = {*_COMPRESSION, *DOCKER_LAYER_TYPES}
    layers = tuple(_descriptor(layer, kinds, what) for layer in _list(document["layers"], what))
    return StrictManifest(media_type, config, layers, document)


def compression_of(descriptor: Descriptor) -> str:
    """The compression that a layer's media type tells: `none`, `gzip` or `zstd`."""
    return _COMPRESSION[DOCKER_LAYER_TYPES.get(descriptor.media_type, descriptor.media_type)]


def read_index(data: bytes) -> dict[str, Descriptor]:
    """By throw-away name, the manifests that index.json names (OCI image-spec, image-layout.md)."""
    what = "index.json"
    document = _members(parse(data, what), what, ("schemaVersion", "manifests"), ("mediaType",))
    _check_version(document, what)
    if document.get("mediaType", MEDIA_TYPE_INDEX) != MEDIA_TYPE_INDEX:
        raise Refusal(f"{what} is of another kind")
    found: dict[str, Descriptor] = {}
    for entry in _list(document["manifests"], what):
        descriptor = _descriptor(entry, _MANIFESTS, what)
        keys = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
        annotations = _members(_annotations(entry, what), what, keys)
        name = annotations[keys[0]]
        if name in found or annotations[keys[1]] != name.rpartition(":")[2]:
            raise Refusal(f"{what} names an image in two ways")
        found[name] = descriptor
    return found


def read_docker_manifest(data: bytes) -> dict[str, tuple[str, list[str]]]:
    """By throw-away name, the paths of config and layers in manifest.json (moby, image/tarexport)."""
    what = "manifest.json"
    found: dict[str, tuple[str, list[str]]] = {}
    for entry in _list(parse(data, what), what):
        item = _members(entry, what, ("Config", "RepoTags", "Layers"))
        names, paths = _list(item["RepoTags"], what), _list(item["Layers"], what)
        if not all(isinstance(text, str) for text in (item["Config"], *names, *paths)):
            raise Refusal(f"{what} does not say just what it should")
        if len(names) != 1 or names[0] in found:
            raise Refusal(f"{what} names an image in two ways")
        found[names[0]] = item["Config"], paths
    return found


def read_layout(data: bytes) -> None:
    """Check oci-layout (OCI image-spec, image-layout.md)."""
    if parse(data, "oci-layout") != {"imageLayoutVersion": "1.0.0"}:
        raise Refusal("oci-layout does not say just what it should")


def _check_version(document: Mapping[str, Any], what: str) -> None:
    if type(document["schemaVersion"]) is not int or document["schemaVersion"] != 2:  # noqa: PLR2004
        raise Refusal(f"{what} is of another version")


def _annotations(document: Mapping[str, Any], what: str) -> dict[str, str]:
    annotations = document.get("annotations", {})
    if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
        raise Refusal(f"{what} has broken annotations")
    return annotations


def _descriptor(document: Any, kinds: Collection[str], what: str) -> Descriptor:
    """Read a descriptor: no `urls` to fetch from, no `data` beside the blob."""
    members = _members(document, what, ("mediaType", "digest", "size"), ("annotations",))
    media_type, digest, size = members["mediaType"], members["digest"], members["size"]
    if not isinstance(media_type, str) or media_type not in kinds:
        raise Refusal(f"{what} names a blob of another kind")
    if not _is_digest(digest) or type(size) is not int or not 0 <= size < 1 << 63:
        raise Refusal(f"{what} names a blob without saying which")
    _annotations(members, what)
    return Descriptor(media_type, digest, size)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and is_digest(value)
