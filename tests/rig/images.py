"""Images out of nothing: layers with chosen content, written as an archive, an OCI layout, or into a registry.

Everything is derived from what is asked for, so that the same call gives the same digests on every machine.
"""

import hashlib
import io
import json
import platform
import random
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

#: Level 0 stores: as quick as can be, and still another blob than docker's.
Compression = Literal["none", "gzip-0", "gzip-1", "gzip-6", "gzip-9"]

_CHUNK = 1 << 20
_CREATED = "2024-02-29T12:00:00Z"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_GOARCH = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
#: What everybody's gzip of nothing unpacks to: a tar without members.
EMPTY_TAR = bytes(1024)


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Noise:
    """`size` bytes that do not compress."""

    size: int
    seed: str = ""

    def chunks(self) -> Iterator[bytes]:
        source = random.Random(f"noise {self.seed}")
        for start in range(0, self.size, _CHUNK):
            yield source.randbytes(min(_CHUNK, self.size - start))


@dataclass(frozen=True, slots=True)
class Text:
    """`size` bytes that compress about as program code does, to a quarter."""

    size: int
    seed: str = ""

    def chunks(self) -> Iterator[bytes]:
        source = random.Random(f"text {self.seed}")
        words = [source.randbytes(source.randint(2, 7)).hex().encode() for _ in range(2000)]
        for start in range(0, self.size, _CHUNK):
            chunk = b" ".join(source.choices(words, k=_CHUNK // 5))
            yield chunk[: min(_CHUNK, self.size - start)]


Content = bytes | Noise | Text


class _Reader(io.RawIOBase):
    """Chunks as the file that tarfile wants to read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
            if not self._rest:
                return b""
        given, self._rest = self._rest[:size], self._rest[size:]
        return bytes(given)


class _Hashing:
    """A file that is written once, and its digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's tar on disk."""

    path: Path
    diff_id: str
    size: int


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob as stored or sent. Its data is `data`, or else the file `path`."""

    media_type: str
    digest: str
    size: int
    data: bytes = b""
    path: Path | None = None

    @classmethod
    def of(cls, media_type: str, data: bytes) -> "Blob":
        return cls(media_type, digest_of(data), len(data), data)

    def open(self) -> IO[bytes]:
        return self.path.open("rb") if self.path else io.BytesIO(self.data)

    def to_json(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Image:
    """An image: its config, and its layers, bottom first."""

    config: bytes
    layers: tuple[Layer, ...]

    @property
    def id(self) -> str:
        """The config's digest: the image ID on classic stores and podman."""
        return digest_of(self.config)

    @property
    def diff_ids(self) -> list[str]:
        return [layer.diff_id for layer in self.layers]

    def blobs(self, compression: Compression = "none") -> tuple[Blob, list[Blob]]:
        """Its manifest, and what that refers to: config first, then the layers."""
        parts = [Blob.of(_CONFIG, self.config), *(_compressed(layer, compression) for layer in self.layers)]
        config, *layers = [part.to_json() for part in parts]
        manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": layers}
        return Blob.of(_MANIFEST, _json(manifest)), parts


class Workshop:
    """Makes layers and images; their files lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def layer(self, files: Mapping[str, Content]) -> Layer:
        """A layer with `files`: path to content."""
        scratch = self.folder / f"layer-{len(list(self.folder.iterdir()))}.part"
        with scratch.open("wb") as file:
            out = _Hashing(file)
            with tarfile.open(fileobj=cast("IO[bytes]", out), mode="w|", format=tarfile.USTAR_FORMAT) as tar:
                for name, content in files.items():
                    member = tarfile.TarInfo(name)
                    member.mode, member.mtime = 0o755, 1_709_208_000
                    member.size = len(content) if isinstance(content, bytes) else content.size
                    chunks = [content] if isinstance(content, bytes) else content.chunks()
                    tar.addfile(member, cast("IO[bytes]", _Reader(chunks)))
        return self._keep(scratch, out.digest, out.size)

    def raw_layer(self, tar: bytes) -> Layer:
        """A layer whose tar is `tar`, such as `EMPTY_TAR`."""
        scratch = self.folder / f"{hashlib.sha256(tar).hexdigest()}.part"
        scratch.write_bytes(tar)
        return self._keep(scratch, digest_of(tar), len(tar))

    def _keep(self, scratch: Path, digest: str, size: int) -> Layer:
        return Layer(scratch.rename(self.folder / f"{digest.removeprefix('sha256:')}.tar"), digest, size)

    def image(
        self,
        layers: Sequence[Layer | None],
        *,
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        architecture: str = "",
        created: str = _CREATED,
    ) -> Image:
        """An image of `layers`, bottom first; a None is a step that changed no file, such as ENV."""
        history = [
            {"created": created, "created_by": f"step {number}", **({} if layer else {"empty_layer": True})}
            for number, layer in enumerate(layers)
        ]
        own = tuple(layer for layer in layers if layer)
        config = {
            "architecture": architecture or _GOARCH.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": created,
            "config": {
                "Env": [f"{name}={value}" for name, value in (env or {}).items()],
                "Cmd": ["/app"],
                "Labels": dict(labels or {}),
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in own]},
            "history": history,
        }
        return Image(_json(config), own)

    def crowd_layer(self) -> Layer:
        return self.layer({"crowd": b"the same for all of them"})

    def crowd(self, count: int) -> dict[str, Image]:
        """`count` small images by name, which share one layer."""
        layer = self.crowd_layer()
        return {f"crowd:{number:05}": self.image([layer], labels={"n": str(number)}) for number in range(count)}

    def archive(self, images: Mapping[str, Image], *, compression: Compression = "none") -> Path:
        """An archive of `images` by name that every engine loads: docker's manifest.json and an OCI layout in one."""
        index, listing = [], []
        parts: dict[str, Blob] = {}
        for name, image in images.items():
            manifest, blobs = image.blobs(compression)
            parts |= {blob.digest: blob for blob in (manifest, *blobs)}
            paths = [_blob_path(blob) for blob in blobs]
            listing.append({"Config": paths[0], "RepoTags": [name], "Layers": paths[1:]})
            full = name if "/" in name else f"docker.io/library/{name}"
            names = {
                "io.containerd.image.name": full,
                "org.opencontainers.image.ref.name": name.rpartition(":")[2],
            }
            index.append(manifest.to_json() | {"annotations": names})
        path = self.folder / f"archive-{digest_of(_json(index))[7:19]}-{compression}.tar"
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for member, data in (*_layout_files(index).items(), ("manifest.json", _json(listing))):
                _add(tar, member, len(data), io.BytesIO(data))
            for blob in parts.values():
                with blob.open() as file:
                    _add(tar, _blob_path(blob), blob.size, file)
        return path

    def layout(self, images: Mapping[str, Image], folder: Path, *, compression: Compression = "gzip-6") -> Path:
        """An OCI layout with `images` by tag, as a folder."""
        index = []
        (folder / "blobs/sha256").mkdir(parents=True)
        for tag, image in images.items():
            manifest, blobs = image.blobs(compression)
            for blob in (manifest, *blobs):
                with blob.open() as file, (folder / _blob_path(blob)).open("wb") as out:
                    while chunk := file.read(_CHUNK):
                        out.write(chunk)
            index.append(manifest.to_json() | {"annotations": {"org.opencontainers.image.ref.name": tag}})
        for name, data in _layout_files(index).items():
            (folder / name).write_bytes(data)
        return folder


def _compressed(layer: Layer, compression: Compression) -> Blob:
    if compression == "none":
        return Blob(_LAYER, layer.diff_id, layer.size, path=layer.path)
    path = layer.path.with_suffix(f".{compression}")
    scratch = path.with_name(f"{path.name}.part")
    squeeze = zlib.compressobj(int(compression[-1]), zlib.DEFLATED, 31)
    with layer.path.open("rb") as file, scratch.open("wb") as raw:
        out = _Hashing(raw)
        while chunk := file.read(_CHUNK):
            out.write(squeeze.compress(chunk))
        out.write(squeeze.flush())
    return Blob(f"{_LAYER}+gzip", out.digest, out.size, path=scratch.rename(path))


def _layout_files(index: list[dict[str, Any]]) -> dict[str, bytes]:
    media_type = "application/vnd.oci.image.index.v1+json"
    return {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "mediaType": media_type, "manifests": index}),
    }


def _blob_path(blob: Blob) -> str:
    return f"blobs/sha256/{blob.digest.removeprefix('sha256:')}"


def _add(tar: tarfile.TarFile, name: str, size: int, file: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    tar.addfile(member, file)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
