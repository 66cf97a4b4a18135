"""The words of an image: digests, descriptors, layers, platforms, names. Frozen values, no I/O."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, ClassVar, Literal, Self

from layerferry.errors import UsageError
from layerferry.oci import limits

MEDIA_TYPE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_TYPE_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_TYPE_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_TYPE_LAYER = "application/vnd.oci.image.layer.v1.tar"
MEDIA_TYPE_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
MEDIA_TYPE_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
#: What docker's schema 2 calls the same things.
DOCKER_LAYER_TYPES: Mapping[str, str] = {
    "application/vnd.docker.image.rootfs.diff.tar": MEDIA_TYPE_LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": MEDIA_TYPE_LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": MEDIA_TYPE_LAYER_ZSTD,
}


class _Checked(str):
    """A string of one form, which cannot be built from anything else: `ValueError` says what it is not."""

    __slots__ = ()
    _form: ClassVar[re.Pattern[str]]
    _kind: ClassVar[str]

    def __new__(cls, text: str) -> Self:
        if type(text) is cls:
            return text
        if not isinstance(text, str) or cls._form.fullmatch(text) is None:
            raise ValueError(f"{str(text)[:80]!r} is not {cls._kind}")
        return super().__new__(cls, text)


class Digest(_Checked):
    """A sha256 digest as the OCI image-spec writes it (descriptor.md, "Digests"): `sha256:` and 64 hex digits."""

    __slots__ = ()
    _form = re.compile(r"sha256:[0-9a-f]{64}")
    _kind = "a sha256 digest"


class MediaType(_Checked):
    """A media type (RFC 6838, section 4.2), or nothing."""

    __slots__ = ()
    _form = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126})?")
    _kind = "a media type"


class Word(_Checked):
    """An operating system, an architecture, a variant, a driver or a version, or nothing."""

    __slots__ = ()
    _form = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._+~-]{0,127})?")
    _kind = "a word"


def is_digest(text: str) -> bool:
    """Whether `text` has the form of a `Digest`."""
    try:
        Digest(text)
    except ValueError:
        return False
    return True


def digest_of(data: bytes) -> Digest:
    """The sha256 digest of `data`."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def _check_size(size: int) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= limits.SIZE:
        raise ValueError(f"{str(size)[:80]} is no number of bytes")


def chain_ids(diff_ids: Iterable[str]) -> tuple[str, ...]:
    """The ChainID of each layer, bottom first (OCI image-spec, config.md, "Layer ChainID")."""
    return tuple(accumulate(diff_ids, lambda parent, diff_id: digest_of(f"{parent} {diff_id}".encode())))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An OCI content descriptor. `size` is in bytes, of the blob as stored or sent."""

    media_type: str
    digest: str
    size: int

    def __post_init__(self) -> None:
        MediaType(self.media_type)
        Digest(self.digest)
        _check_size(self.size)

    @property
    def in_oci_words(self) -> Self:
        """The same blob; its media type is OCI's where docker has one of its own for it."""
        return replace(self, media_type=DOCKER_LAYER_TYPES.get(self.media_type, self.media_type))

    def to_json(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}

    @property
    def is_compressed(self) -> bool:
        return self.media_type not in {MEDIA_TYPE_LAYER, "application/vnd.docker.image.rootfs.diff.tar"}


#: GOARCH, and the variant of OCI, of what `uname -m` says; and distributions (containerd/platforms, database.go).
_MACHINES: Mapping[str, tuple[str, str]] = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "aarch64": ("arm64", ""), "loongarch64": ("loong64", ""),
    **dict.fromkeys(("i386", "i486", "i586", "i686"), ("386", "")),
    **dict.fromkeys(("armv5tel", "armv5tejl"), ("arm", "v5")),
    **dict.fromkeys(("armv6l", "armel"), ("arm", "v6")), **dict.fromkeys(("armv7l", "armhf"), ("arm", "v7")),
    "armv8l": ("arm", "v8"),
}  # fmt: skip
#: The highest variant where none is said (containerd/platforms, database.go); amd64's say which instructions it needs.
_VARIANTS = {"arm": 7, "arm64": 8, "amd64": 1}


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and an architecture, in GOOS and GOARCH words."""

    os: str
    architecture: str
    variant: str = ""

    def __post_init__(self) -> None:
        for word in (self.os, self.architecture, self.variant):
            Word(word)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `os/arch[/variant]`; raises `UsageError` on anything else.

        Each may be a word of the kernel's: an engine of 32 bits on a kernel of 64 is `linux/arm/aarch64`.
        """
        parts = text.strip().lower().split("/")
        if len(parts) not in {2, 3} or not all(parts):
            raise UsageError(f"{text!r} is not a platform", hint="Write it as os/arch, such as linux/arm64.")
        os, told, *variants = parts
        architecture, variant = _MACHINES.get(told, (told, ""))
        if variants:
            variant = _variant(architecture, variants[0])
        try:
            return cls(os, architecture, variant)
        except ValueError as error:
            raise UsageError(f"{text!r} is not a platform: {error}") from None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def to_json(self) -> dict[str, str]:
        """As the image-spec writes it (image-index.md, "platform"), and docker's API takes it."""
        variant = {"variant": self.variant} if self.variant else {}
        return {"os": self.os, "architecture": self.architecture, **variant}

    def runs(self, image: "Platform") -> bool:
        """Whether a host of this platform runs `image`.

        Of variants, arm's count: what is built for arm/v7 dies on armv6l. Images of arm often say none, and may do.
        """
        if (self.os, self.architecture) != (image.os, image.architecture):
            return False
        return image.architecture != "arm" or not image.variant or image.level <= self.level

    @property
    def level(self) -> int:
        """The number of the variant: one runs what is built for those below."""
        number = self.variant.removeprefix("v")
        return int(number) if number.isdecimal() else _VARIANTS.get(self.architecture, 0)


def _variant(architecture: str, told: str) -> str:
    """The variant of an architecture; `told` may be the machine's, as its kernel calls it."""
    of, variant = _MACHINES.get(told, ("", told))
    if not of:
        return "" if told == architecture else told
    return variant if of == architecture else "v8" if (architecture, of) == ("arm", "arm64") else ""


@dataclass(frozen=True, slots=True)
class Layer:
    """One change set.

    `size` is in bytes: of a daemon's layer uncompressed, as its history says, so it is an estimate; of one in a layout,
    an archive or a registry that of its blob as stored, which is `packed` where that is compressed.
    """

    diff_id: str
    chain_id: str
    size: int = 0
    packed: bool = False
    #: What the image's history says of it, a Dockerfile's instruction for one, as far as it says anything.
    created_by: str = ""

    def __post_init__(self) -> None:
        Digest(self.diff_id)
        Digest(self.chain_id)
        _check_size(self.size)

    @classmethod
    def chain(cls, diff_ids: Iterable[str], sizes: Iterable[int]) -> tuple[Self, ...]:
        """The layers of an image, bottom first."""
        ids = tuple(diff_ids)
        return tuple(cls(*triple) for triple in zip(ids, chain_ids(ids), sizes, strict=True))


@dataclass(frozen=True, slots=True)
class Image:
    """An image as its source describes it before anything of it is read.

    `id` is what the source calls its image ID: the config's digest, or, with docker's containerd image store,
    that of the manifest or index.
    """

    reference: str
    id: str
    platform: Platform
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        Digest(self.id)
        if len(self.layers) > limits.LAYERS:
            raise ValueError(f"it has more than {limits.LAYERS} layers")

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple(layer.diff_id for layer in self.layers)

    @property
    def size(self) -> int:
        """Bytes of all layers, as `sizes_are` says."""
        return sum(layer.size for layer in self.layers)

    def as_stored(self, packed: Iterable[bool]) -> Self:
        """The same, its layers being blobs of which some are compressed."""
        layers = tuple(replace(layer, packed=one) for layer, one in zip(self.layers, packed, strict=True))
        return replace(self, layers=layers)

    def created(self, by: Iterable[str]) -> Self:
        """The same, with what a history says of each layer, of which the beginning is kept."""
        told = (" ".join(text[: limits.CREATED_BY].split()) for text in by)
        layers = tuple(replace(layer, created_by=text) for layer, text in zip(self.layers, told, strict=True))
        return replace(self, layers=layers)

    @property
    def sizes_are(self) -> Literal["uncompressed", "stored"]:
        """What the sizes of the layers are, and all that is counted by them."""
        return "stored" if any(layer.packed for layer in self.layers) else "uncompressed"


_NAME_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST_PART = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_NAME_PART}(?:/{_NAME_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
#: Characters of domain and path together (distribution/reference, `RepositoryNameTotalLengthMax`, which has 255, and
#: with `docker.io/library/` before it).
_LONGEST_REPOSITORY = 255 + len("docker.io/library/")
_SHORT_ID = re.compile(r"(?:sha256:)?[0-9a-f]{1,64}")
_IMAGE_ID = re.compile(r"(?:sha256:)?(?P<hex>[0-9a-f]{12,64})")


@dataclass(frozen=True, slots=True)
class Name:
    """A normalised image name, as docker's distribution/reference normalises it: `app` is docker.io/library/app."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        tag, digest = self.tag and f":{self.tag}", self.digest and f"@{self.digest}"
        if not _REFERENCE.fullmatch(f"{self.repository}{tag}{digest}") or len(self.repository) > _LONGEST_REPOSITORY:
            raise ValueError(f"{self.repository[:80]!r} is not an image name")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `[DOMAIN/]PATH[:TAG][@DIGEST]`; raises `UsageError` with the rule that `text` breaks."""
        match = _REFERENCE.fullmatch(text) if len(text) <= limits.TEXT else None
        domain, path = (match["domain"] or "", match["path"]) if match else ("", "")
        if domain and not (set(domain) & set(".:[")) and domain != "localhost" and domain == domain.lower():
            domain, path = "", f"{domain}/{path}"
        if domain in {"", "docker.io", "index.docker.io"}:
            domain, path = "docker.io", path if "/" in path else f"library/{path}"
        if match is None or len(f"{domain}/{path}") > _LONGEST_REPOSITORY:
            from layerferry.mistakes import shown  # noqa: PLC0415 - where there is one

            hint = "Names are lower case." if text != text.lower() else "Write it as [HOST/]NAME[:TAG]."
            raise UsageError(f"{shown(text)} is not an image name", hint=hint)
        return cls(domain, path, match["tag"] or "", match["digest"] or "")

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}"

    def with_tag(self, tag: str) -> Self:
        """The name in the same repository with that tag; raises `UsageError` where it is none."""
        if not _TAG.fullmatch(tag):
            raise UsageError(f"{tag[:200]!r} is not a tag", hint="Write it as previous, or v1.2.")
        return replace(self, tag=tag, digest="")

    @property
    def tagged(self) -> str:
        """The full name with its tag, `latest` where it has none: `docker.io/library/app:latest`."""
        return f"{self.repository}:{self.tag or 'latest'}"

    @property
    def familiar(self) -> str:
        """The name as docker shows it: `app:latest`."""
        return self.tagged.removeprefix("docker.io/").removeprefix("library/")


def engine_name(text: str) -> Name | None:
    """The name that an engine writes so; None where it is no reference, but the engine's own word for an image."""
    if is_digest(text):
        return None
    try:
        return Name.parse(text)
    except UsageError:
        return None


def may_be_image_id(text: str) -> bool:
    """Whether `text` may be the beginning of an image ID as well as a name: `cafe`, `9f2c41`, `sha256:9f2c`."""
    return _SHORT_ID.fullmatch(text) is not None


def is_image_id(text: str) -> bool:
    """Whether `text` reads as an image ID: `sha256:` and hex, or at least 12 hex digits alone."""
    return _IMAGE_ID.fullmatch(text) is not None
