"""OCI layouts on disk: honest ones by their size, and a table of those that lie."""

import json
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostile.words import (
    DEEP,
    DIGEST,
    DIGITS,
    LONG,
    NO_LISTS,
    NO_OBJECTS,
    NO_SIZES,
    NO_STRINGS,
    OTHER,
    PAINT,
    SPEECH,
    SURROGATE,
    dumps,
)
from packed import Picture, digest_of, layout_files, named_entry, packed, tar_of, write_folder

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_NAME = "docker.io/library/app:1"
_BLOBS = Path("blobs") / "sha256"


class ImageFolder:
    """Honest layouts in a folder, each made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, size: int) -> str:
        """`oci:PATH` of an image whose one layer has `size` bytes that do not compress."""
        folder = self._folder / str(size)
        if not folder.exists():
            picture = Picture((tar_of({"a": random.Random(size).randbytes(size)}),), ("",))
            write_folder(folder, layout_files([named_entry(picture, _NAME)], picture.documents))
        return f"oci:{folder}"


PICTURE = Picture.of("app", "gzip", "gzip")


class Draft:
    """An image's documents, to be bent before they are written; each may become any bytes.

    What is left of them is consistent again: sizes and digests of config and manifest are those that they have.
    """

    def __init__(self, picture: Picture = PICTURE) -> None:
        self.config: Any = json.loads(picture.config)
        self.manifest: Any = json.loads(picture.manifest)
        self.entry: Any = named_entry(picture, _NAME)
        self.index: Any = {"schemaVersion": 2, "manifests": [self.entry]}
        self.blobs = {digest_of(layer): layer for layer in picture.layers}

    def documents(self) -> tuple[bytes, dict[str, bytes]]:
        """index.json, and all blobs by digest."""
        config = _bytes(self.config)
        self._point(self.manifest, "config", config)
        manifest = _bytes(self.manifest)
        if isinstance(self.entry, dict) and self.entry.get("digest") == digest_of(PICTURE.manifest):
            self.entry["digest"], self.entry["size"] = digest_of(manifest), len(manifest)
        blobs = {**self.blobs, digest_of(config): config, digest_of(manifest): manifest}
        return _bytes(self.index), blobs

    @staticmethod
    def _point(manifest: Any, name: str, data: bytes) -> None:
        config = manifest.get(name) if isinstance(manifest, dict) else None
        if isinstance(config, dict) and config.get("digest") == PICTURE.id:
            config["digest"] = digest_of(data)
            if config.get("size") == len(PICTURE.config):
                config["size"] = len(data)

    def files(self) -> dict[str, bytes]:
        index, blobs = self.documents()
        return layout_files([], blobs) | {"index.json": index}


def _bytes(document: Any) -> bytes:
    return document if isinstance(document, bytes) else dumps(document)


@dataclass(frozen=True, slots=True)
class Case:
    """How the documents are bent, or what is done to the folder afterwards."""

    name: str
    bend: Callable[[Draft], None] = lambda _: None
    codes: tuple[int, ...] = (3,)
    says: str = ""
    spoil: Callable[[Path], object] = lambda _: None
    #: Whether it shows before anything is sent.
    dry: bool = True
    target: tuple[str, ...] = ()

    def write(self, folder: Path) -> Path:
        draft = Draft()
        self.bend(draft)
        write_folder(folder, draft.files())
        self.spoil(folder)
        return folder


def _replaced(document: Any, path: tuple[str | int, ...], value: Any) -> None:
    """Set, or with `...` take away, what stands at `path`."""
    for step in path[:-1]:
        document = document[step]
    if value is ...:
        del document[path[-1]]
    else:
        document[path[-1]] = value


def bent(where: str, name: str, value: Any, codes: tuple[int, ...] = (3,)) -> Case:
    """`where`: `config.rootfs.diff_ids`, `manifest.layers.0.size`, `entry.annotations`."""
    part, *steps = where.split(".")
    path = tuple(int(step) if step.isdecimal() else step for step in steps)

    def bend(draft: Draft) -> None:
        if path:
            _replaced(getattr(draft, part), path, value)
        else:
            setattr(draft, part, value)

    return Case(f"{where}: {name}", bend, codes)


def each(where: str, values: Mapping[str, Any], codes: tuple[int, ...] = (3,), *, but: str = "") -> tuple[Case, ...]:
    return tuple(bent(where, name, value, codes) for name, value in values.items() if name not in but.split())


def _wide(draft: Draft) -> None:
    """An index of 400 indexes of 400 indexes of 400 manifests that are none; all of one blob each."""
    inner = dumps({"manifests": [{"mediaType": MANIFEST_TYPE, "digest": OTHER, "size": 5}] * 400})
    for _ in range(2):
        draft.blobs[digest_of(inner)] = inner
        inner = dumps({"manifests": [{"mediaType": INDEX_TYPE, "digest": digest_of(inner), "size": len(inner)}] * 400})
    draft.index = inner


def _selfish(draft: Draft) -> None:
    entry = {"mediaType": INDEX_TYPE, "digest": DIGEST, "size": 300}
    draft.index = {"manifests": [entry]}
    draft.blobs[DIGEST] = dumps({"manifests": [entry]}).ljust(300)


def _several(**more: Any) -> Callable[[Draft], None]:
    """Two images, of which the user must choose: what tells them apart is shown."""

    def bend(draft: Draft) -> None:
        other = Draft(Picture.of("other", ""))
        other.config["os"] = more.get("os", "linux")
        config = _bytes(other.config)
        other.manifest["config"].update(digest=digest_of(config), size=len(config))
        manifest = _bytes(other.manifest)
        annotations = {"org.opencontainers.image.ref.name": more.get("name", "2")}
        entry = {"mediaType": MANIFEST_TYPE, "digest": digest_of(manifest), "size": len(manifest)}
        draft.blobs |= {**other.blobs, digest_of(config): config, digest_of(manifest): manifest}
        if "platform" in more:
            draft.entry.pop("annotations")
            draft.index["manifests"].append({**entry, "platform": more["platform"]})
        else:
            draft.index["manifests"].append({**entry, "annotations": annotations})

    return bend


def bomb(draft: Draft) -> None:
    """A layer of 200 kB that unpacks to 6 GiB: a zstd frame of blocks that repeat one byte (RFC 8878, 3.1.1.2)."""
    block = ((128 << 10) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    data = b"\x28\xb5\x2f\xfd\x00\x58" + block * (6 << 13) + b"\x01\x00\x00"
    draft.blobs[digest_of(data)] = data
    draft.manifest["layers"][0] = {"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
                                   "digest": digest_of(data), "size": len(data)}  # fmt: skip


def _zstd(draft: Draft) -> None:
    data = packed(b"another layer", "zstd")
    draft.blobs[digest_of(data)] = data
    draft.manifest["layers"][0] = {"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
                                   "digest": digest_of(data), "size": len(data)}  # fmt: skip


_LAYER, _SIZE = _BLOBS / digest_of(PICTURE.layers[0])[7:], len(PICTURE.layers[0])


def _instead(name: Path | str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return spoil


FILES: Mapping[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link out": lambda path: path.symlink_to("/etc/passwd"),
    "a file that is larger": lambda path: path.write_bytes(b"[" * (5 << 20)),
}  # fmt: skip

CASES = (
    *each("index", NO_OBJECTS, but="painted string true"),
    *each("index.manifests", NO_LISTS, but="true"),
    *each("index.manifests", {"of-objects": [{}], "deep": DEEP, "a-hundred-thousand": [{}] * 100_000}),
    bent("index", "large", b" " * (5 << 20) + b"{}"),
    *each("entry.annotations", {"a-list": ["x"], "a-string": "x"}),
    bent("entry.annotations", "of lists", {"org.opencontainers.image.ref.name": [1]}, (0, 3)),
    bent("entry.annotations", "painted", {"org.opencontainers.image.ref.name": PAINT}, (0, 3)),
    bent("entry.annotations", "long", {"io.containerd.image.name": LONG}, (0, 3)),
    bent("entry.annotations", "speech", {"io.containerd.image.name": "app:1" + SPEECH}, (0, 3)),
    *each("entry.platform", {"a-list": ["x"], "a-string": "linux"}),
    bent("entry.platform", "of numbers", {"os": 5, "architecture": [5]}, (0, 3)),
    bent("entry.artifactType", "painted", PAINT),
    bent("entry.mediaType", "painted", PAINT),
    bent("entry.mediaType", "long", LONG),
    bent("entry.mediaType", "a list", [MANIFEST_TYPE]),
    bent("entry.digest", "painted", PAINT),
    bent("entry.digest", "a path", "sha256:../../../../etc/passwd"),
    bent("entry.digest", "long", "sha256:" + LONG),
    bent("entry.digest", "painted algorithm", f"{PAINT}:{'a' * 64}"),
    bent("entry.digest", "another algorithm", "md5:" + "a" * 64),
    Case("entry.size: digits", lambda draft: draft.entry.update(digest=DIGEST, size=DIGITS)),
    Case("several: painted names", _several(name=PAINT), says="several"),
    Case("several: a long name", _several(name=LONG)),
    Case("several: painted platforms", _several(platform={"os": PAINT, "architecture": "amd64"}), codes=(0, 3)),
    Case("several: platforms told by a painted config", _several(platform={}, os=PAINT), codes=(0, 3)),
    Case("an index, 400 wide, 3 deep", _wide),
    Case("an index of itself", _selfish),
    *each("manifest", NO_OBJECTS, but="painted true utf-16 cut-short"),
    *each("manifest.config", {**NO_LISTS, "null": None, "taken-away": ...}, but="true of-lists of-nulls of-numbers"),
    *each("manifest.config.digest", {**NO_STRINGS, "painted": PAINT}, but="true"),
    *each("manifest.config.size", NO_SIZES),
    bent("manifest.config.mediaType", "painted", PAINT, (0, 3)),
    bent("manifest.config.mediaType", "a list", [], (0, 3)),
    *each("manifest.layers", {**NO_LISTS, "null": None, "deep": DEEP, "taken-away": ...}),
    bent("manifest.layers", "one blob for both", json.loads(PICTURE.manifest)["layers"][:1] * 2),
    bent("manifest.layers", "a hundred thousand", [{"mediaType": "x", "digest": DIGEST, "size": 1}] * 20_000),
    *each("manifest.layers.0.size", NO_SIZES, but="digits string null list object"),
    bent("manifest.layers.0.size", "huge", 1 << 70),
    *each("manifest.layers.0.digest", {"painted": PAINT, "speech": DIGEST + SPEECH, "null": None}),
    bent("manifest.layers.0.mediaType", "painted", PAINT),
    bent("manifest.layers.0.mediaType", "painted and encrypted", f"{PAINT}+encrypted"),
    bent("manifest.layers.0.mediaType", "a list", ["x"]),
    *each("config", NO_OBJECTS, but="painted true utf-16 cut-short empty null"),
    *each("config.os", NO_STRINGS, but="true"),
    *each("config.os", {"painted": PAINT, "surrogate": SURROGATE, "long": LONG, "taken-away": ...}),
    *each("config.architecture", {"painted": PAINT, "list": ["amd64"], "null": None, "two words": "amd 64"}),
    *each("config.variant", {"painted": PAINT, "list": ["v8"], "object": {"a": 1}, "long": LONG}),
    *each("config.rootfs", {**NO_LISTS, "null": None, "taken-away": ...}, but="true of-lists of-numbers object"),
    *each("config.rootfs.diff_ids", {**NO_LISTS, "null": None, "deep": DEEP, "taken-away": ...}),
    bent("config.rootfs.diff_ids", "speech", [DIGEST + SPEECH, OTHER]),
    bent("config.rootfs.diff_ids", "a line feed at the end", [DIGEST + "\n", OTHER]),
    bent("config.rootfs.diff_ids", "one too few", [DIGEST]),
    *each("config.history", {"number": 5, "painted": [{"created_by": PAINT}], "deep": DEEP}, (0, 3)),
    Case("a layer that is a bomb", bomb, dry=False, target=("no-zstd",)),
    Case("a layer that is another", _zstd, dry=False, target=("no-zstd",)),
    Case("a layer cut short", spoil=lambda folder: os.truncate(folder / _LAYER, 100), dry=False),
    Case("a layer too long", spoil=lambda folder: os.truncate(folder / _LAYER, 1 << 33), dry=False),
    Case("a layer of other bytes", spoil=_instead(_LAYER, lambda path: path.write_bytes(bytes(_SIZE))), dry=False),
    *(Case(f"index.json: {name}", spoil=_instead("index.json", make)) for name, make in FILES.items()),
    *(Case(f"a layer: {name}", spoil=_instead(_LAYER, make), dry=False) for name, make in FILES.items()),
)  # fmt: skip
