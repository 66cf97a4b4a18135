"""A target's greeting and its answer to our ask, as values. Only what was asked for is taken, each word by its type.

What we do not know is skipped: a target of tomorrow says it. What is beyond what was asked counts for nothing.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from layerferry.errors import LayerferryError, TargetError
from layerferry.oci import limits
from layerferry.oci.image import (
    DOCKER_LAYER_TYPES,
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_LAYER_ZSTD,
    Descriptor,
    Platform,
    Word,
    engine_name,
    is_digest,
)
from layerferry.oci.store_kind import StoreKind
from layerferry.protocol import Capability, Fact, Reply

#: What a manifest of ours may name: of an encrypted or a foreign layer we know too little.
_LAYER_TYPES = frozenset({MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_LAYER_ZSTD, *DOCKER_LAYER_TYPES})
#: Facts of today are five, and three lines are said of an image beside those for its layers.
_FACTS, _LINES_AN_IMAGE, _LINES_A_LAYER = 64, 8, 4
_WORDS_OF_A_FACT = 16
_MOST_SIGNERS = 100
#: Printable characters that no `Word` has.
_ODD = re.compile(r"[!-*,/:-@\[-^`{|}]")
#: Characters that no user's name has; a directory's may be `CORP\\ana` or `ana@corp.example`.
_ODD_USER = re.compile(r"[^A-Za-z0-9._@\\ +-]")
#: It becomes a part of a tag, which has 128 characters at most (distribution-spec, "Pulling manifests").
_MAKER = re.compile(r"[0-9a-f](?:-?[0-9a-f]){0,79}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer is on the target: in an image, by its ID, with so many layers below."""

    holder: str
    below: int


@dataclass(frozen=True, slots=True)
class Holding:
    """What a target holds of one image: all of it, or its first `depth` layers in image `holder`, and `loose` ones."""

    present: bool = False
    #: The full names that it has there, where it is present and the target tells.
    names: frozenset[str] = frozenset()
    #: The target's image ID, where the image is there under another one than the source's.
    same: str = ""
    depth: int = 0
    holder: str = ""
    #: By diff ID, layers beyond the chain's prefix.
    loose: dict[str, Place] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Greeting:
    """A target's answer to our ask. `holdings` goes by asked image ID."""

    engine: str
    version: str
    driver: str
    store: StoreKind
    platform: Platform
    accept: tuple[str, ...]
    #: What the engine unpacks of layers: `tar`, `gzip`, `zstd`. docker before 23 knows no zstd.
    layers: tuple[str, ...]
    holdings: dict[str, Holding]
    #: By diff ID, the blobs that the target's store has for the layers that were asked for, as far as it tells.
    blobs: dict[str, Descriptor] = field(default_factory=dict)
    capability: tuple[str, ...] = ()
    #: Whose images they are, where the target tells.
    owner: str = ""
    #: What throw-away names of this session end with, or nothing; and bytes that are free for layers.
    maker: str = ""
    free: int | None = None
    #: The compressions that a recipe of an archive may have; none where nothing is patched.
    patch: tuple[str, ...] = ()
    #: How many signers the target requires of an image; 0 where it asks for none.
    signers: int = 0

    def __str__(self) -> str:
        store = ", ".join(filter(None, (self.store_name, self._whose)))
        return f"{self.engine} {self.version.partition('+')[0]} ({store})".replace("  ", " ")

    @property
    def _whose(self) -> str:
        """Whose they are, where that is no matter of course: podman has as many storages as it has users."""
        if self.owner == "root":
            return "root's" if self.engine == "podman" else ""
        return f"rootless of {self.owner}" if self.owner else ""

    @property
    def hint(self) -> str:
        """What Kubernetes does with an image that no pod uses (kubelet's imageGCHighThresholdPercent)."""
        if self.store_name != "namespace k8s.io":
            return ""
        return "Kubernetes may remove what no pod uses when the disk fills (?pin=yes keeps it)"

    @property
    def resumes(self) -> bool:
        return Capability.RESUME in self.capability

    @property
    def takes_zstd_layers(self) -> bool:
        return "zstd" in self.layers

    @property
    def store_name(self) -> str:
        if self.engine in {"k3s", "rke2", "k0s", "microk8s", "ctr"}:
            return f"namespace {self.driver}"
        return "containerd store" if self.store is StoreKind.BLOB else self.driver


class Reader:
    """Reads the lines of a greeting. `asked` has the diff IDs of each image that was asked for, by image ID."""

    def __init__(self, target: str, asked: Mapping[str, Sequence[str]]) -> None:
        self._target = target
        self._asked = asked
        self._diff_ids = {diff_id for diff_ids in asked.values() for diff_id in diff_ids}
        self._facts: dict[str, list[str]] = {}
        self._holdings: dict[str, Holding] = {}
        self._blobs: dict[str, Descriptor] = {}

    def read(self, lines: Iterable[str]) -> Greeting:
        """Take in all `lines`; raises `TargetError` where they are more than was asked for, or lack a fact."""
        layers = sum(map(len, self._asked.values()))
        left = _FACTS + _LINES_AN_IMAGE * len(self._asked) + _LINES_A_LAYER * layers
        image = ""
        for line in lines:
            if (left := left - 1) < 0:
                raise TargetError(f"{self._target} says more than it was asked for")
            match line.split():
                case [Reply.IMAGE, image_id]:
                    image = image_id if image_id in self._asked else ""
                    if image:
                        self._holdings.setdefault(image, Holding())
                case [Reply.BLOB, diff_id, digest, size, media_type]:
                    self._blob(diff_id, digest, size, media_type)
                case words if image:
                    self._hold(image, words)
                case [word, *values] if not self._holdings and len(self._facts) < _FACTS:
                    self._facts[word] = values[:_WORDS_OF_A_FACT]
        return self._greeting()

    def _hold(self, image: str, words: list[str]) -> None:
        diff_ids = self._asked[image]
        match words:
            case [Reply.PRESENT, *names]:
                self._holdings[image] = Holding(present=True, names=frozenset(full_names(names)))
            case [Reply.SAME, image_id] if is_digest(image_id):
                self._holdings[image] = Holding(same=image_id)
            case [Reply.CHAIN, depth] if _number(depth, len(diff_ids)) is not None:
                self._holdings[image] = Holding(depth=int(depth))
            case [Reply.CHAIN, depth, holder] if _number(depth, len(diff_ids)) is not None and is_digest(holder):
                self._holdings[image] = Holding(depth=int(depth), holder=holder)
            case [Reply.LOOSE, diff_id, below, holder] if diff_id in diff_ids and is_digest(holder):
                if _number(below, limits.LAYERS) is not None:
                    self._holdings[image].loose[diff_id] = Place(holder, int(below))

    def _blob(self, diff_id: str, digest: str, size: str, media_type: str) -> None:
        known = diff_id in self._diff_ids and is_digest(digest) and media_type in _LAYER_TYPES
        if known and _number(size, limits.SIZE) is not None:
            self._blobs.setdefault(diff_id, Descriptor(media_type, digest, int(size)).in_oci_words)

    def _greeting(self) -> Greeting:
        try:
            engine, version, driver = (*self._facts[Fact.ENGINE][:3], "", "")[:3]
            engine, version, driver = Word(engine), _version(version), Word(driver)
            owner = _ODD_USER.sub("?", " ".join(self._facts.get(Fact.OWNER, ())))
            platform, store = Platform.parse(self._facts[Fact.PLATFORM][0]), StoreKind(self._facts[Fact.STORE][0])
            accept, layers, capability, patch = (
                _words(self._facts, key) for key in (Fact.ACCEPT, Fact.LAYERS, Fact.CAPABILITY, Fact.PATCH)
            )
        except (KeyError, IndexError, ValueError, LayerferryError):
            engine = ""
        if not engine:
            raise TargetError(f"{self._target} does not say what engine it has")
        maker, free = ((self._facts.get(key) or [""])[0] for key in (Fact.MAKER, Fact.FREE))
        return Greeting(
            engine,
            version,
            driver,
            store,
            platform,
            accept,
            layers,
            self._holdings,
            self._blobs,
            capability,
            owner,
            maker if _MAKER.fullmatch(maker) else "",
            _number(free, limits.SIZE),
            patch,
            self._signers() if Capability.SIGNED in capability else 0,
        )

    def _signers(self) -> int:
        """One, where the number is not to be read: how many it takes is the target's to say."""
        return _number(" ".join(self._facts.get(Fact.SIGNATURES, ())), _MOST_SIGNERS) or 1


def _version(text: str) -> Word:
    """A version, which is only shown: who builds an engine himself may call it `(devel)` or `1:27.5`."""
    return Word(_ODD.sub("-", text).lstrip("._+~-").rstrip("-"))


def full_names(texts: Iterable[str]) -> tuple[str, ...]:
    """Those of an engine's names that a client may give, in full: with a tag, and without a digest."""
    return tuple(name.tagged for text in texts if (name := engine_name(text)) is not None and not name.digest)


def _words(facts: Mapping[str, list[str]], key: str) -> tuple[str, ...]:
    return tuple(Word(word) for word in facts.get(key, ()))


def _number(text: str, most: int) -> int | None:
    """A decimal number of at most `most`. Others have digits, too, that we would not write."""
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(limits.SIZE))):
        return None
    return int(text) if int(text) <= most else None
