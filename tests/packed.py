"""Small images, and every way that tools write them: layouts, archives, a registry. Made in Python, byte for byte.

`Picture` is an image with its layers as they are stored; `write_*` put it on disk as the tool of that name does.
"""

import functools
import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import zstandard

Compression = Literal["", "gzip", "zstd"]

_OCI = "application/vnd.oci.image"
_DOCKER_LAYERS = {
    "": "application/vnd.docker.image.rootfs.diff.tar",
    "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "zstd": "application/vnd.docker.image.rootfs.diff.tar.zstd",
}


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def dumps(document: object) -> bytes:
    return json.dumps(document).encode()


def layer_tar(seed: str, size: int = 3000) -> bytes:
    """A layer's tar with one file of `size` bytes that do not compress."""
    return tar_of({f"{seed}.bin": random.Random(seed).randbytes(size)})


def tar_of(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, where in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, where
            tar.addfile(info)
    return out.getvalue()


@functools.lru_cache(maxsize=64)
def packed(data: bytes, compression: Compression) -> bytes:
    match compression:
        case "gzip":
            return gzip.compress(data, 1, mtime=0)
        case "zstd":
            return zstandard.ZstdCompressor().compress(data)
        case _:
            return data


def unpacked(data: bytes) -> bytes:
    """`data` without its compression, by its magic number."""
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


@dataclass(frozen=True, slots=True)
class Picture:
    """An image: its layers' tars, bottom first, and how each is stored."""

    tars: tuple[bytes, ...]
    compressions: tuple[Compression, ...]
    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""
    docker: bool = False

    @classmethod
    def of(cls, seed: str = "app", *compressions: Compression, **platform: Any) -> "Picture":
        tars = tuple(layer_tar(f"{seed}{number}") for number in range(len(compressions)))
        return cls(tars, compressions, **platform)

    @classmethod
    def plain(cls, *tars: bytes) -> "Picture":
        none: Compression = ""
        return cls(tars, (none,) * len(tars))

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple(map(digest_of, self.tars))

    @property
    def config(self) -> bytes:
        document = {"os": self.os, "architecture": self.architecture, "config": {"Cmd": ["/app"]}}
        variant = {"variant": self.variant} if self.variant else {}
        history = [{"created": "2024-02-29T12:00:00Z", "created_by": f"step {n}"} for n in range(len(self.tars))]
        rootfs = {"type": "layers", "diff_ids": list(self.diff_ids)}
        return dumps({**document, **variant, "rootfs": rootfs, "history": history})

    @property
    def id(self) -> str:
        return digest_of(self.config)

    @property
    def layers(self) -> tuple[bytes, ...]:
        """The layers as they are stored."""
        return tuple(packed(tar, how) for tar, how in zip(self.tars, self.compressions, strict=True))

    @property
    def manifest_type(self) -> str:
        return f"{_OCI}.manifest.v1+json" if not self.docker else "application/vnd.docker.distribution.manifest.v2+json"

    @property
    def manifest(self) -> bytes:
        kinds = (
            _DOCKER_LAYERS[how] if self.docker else f"{_OCI}.layer.v1.tar" + (f"+{how}" if how else "")
            for how in self.compressions
        )
        config = "application/vnd.docker.container.image.v1+json" if self.docker else f"{_OCI}.config.v1+json"
        return dumps(
            {
                "schemaVersion": 2,
                "mediaType": self.manifest_type,
                "config": descriptor(config, self.config),
                "layers": [descriptor(kind, layer) for kind, layer in zip(kinds, self.layers, strict=True)],
            }
        )

    @property
    def platform(self) -> dict[str, str]:
        stated = {"os": self.os, "architecture": self.architecture, "variant": self.variant}
        return {key: value for key, value in stated.items() if value}

    @property
    def documents(self) -> dict[str, bytes]:
        """By digest, all that a content store has of it."""
        return {digest_of(data): data for data in (self.manifest, self.config, *self.layers)}


def descriptor(media_type: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def attestation() -> tuple[dict[str, Any], dict[str, bytes]]:
    """What BuildKit puts beside an image: its descriptor, with the blobs by digest."""
    statement, config = dumps({"_type": "https://in-toto.io/Statement/v0.1"}), dumps({"os": "unknown"})
    manifest = dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": descriptor(f"{_OCI}.config.v1+json", config),
            "layers": [descriptor("application/vnd.in-toto+json", statement)],
        }
    )
    entry = descriptor(
        f"{_OCI}.manifest.v1+json",
        manifest,
        annotations={"vnd.docker.reference.type": "attestation-manifest"},
        platform={"os": "unknown", "architecture": "unknown"},
    )
    return entry, {digest_of(data): data for data in (manifest, config, statement)}


def index_of(
    pictures: Iterable[Picture], *, attested: bool = True, platforms: bool = True
) -> tuple[bytes, dict[str, bytes]]:
    """An index of pictures, one a platform, as BuildKit writes it; and all blobs by digest."""
    entries: list[dict[str, Any]] = []
    blobs: dict[str, bytes] = {}
    for picture in pictures:
        stated = {"platform": picture.platform} if platforms else {}
        entries.append(descriptor(picture.manifest_type, picture.manifest, **stated))
        blobs |= picture.documents
        if attested:
            entry, more = attestation()
            entries.append(entry)
            blobs |= more
    index = dumps({"schemaVersion": 2, "mediaType": f"{_OCI}.index.v1+json", "manifests": entries})
    return index, blobs | {digest_of(index): index}


def layout_files(
    entries: Sequence[Mapping[str, Any]], blobs: Mapping[str, bytes], *, prefix: str = ""
) -> dict[str, bytes]:
    """The files of an OCI layout, by path."""
    files = {f"blobs/sha256/{digest.removeprefix('sha256:')}": data for digest, data in blobs.items()}
    files["index.json"] = dumps({"schemaVersion": 2, "manifests": list(entries)})
    files["oci-layout"] = dumps({"imageLayoutVersion": "1.0.0"})
    return {prefix + name: data for name, data in files.items()}


def named_entry(picture: Picture, name: str) -> dict[str, Any]:
    """The descriptor of a picture as docker and buildx annotate it: `name` is a full name."""
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    return descriptor(picture.manifest_type, picture.manifest, annotations=names)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def _hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _records(config: str, layers: Sequence[str], name: str) -> bytes:
    return dumps([{"Config": config, "RepoTags": [name], "Layers": list(layers)}])


def docker20(picture: Picture, name: str) -> bytes:
    """`docker save` before 25: a folder a layer, and a link where a layer comes twice."""
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    first: dict[bytes, str] = {}
    paths = []
    for number, tar in enumerate(picture.tars):
        folder = _hex(f"{number}".encode() + tar)
        files |= {f"{folder}/VERSION": b"1.0", f"{folder}/json": dumps({"id": folder})}
        paths.append(f"{folder}/layer.tar")
        if tar in first:
            links[paths[-1]] = f"../{first[tar]}"
        else:
            files[paths[-1]] = tar
            first[tar] = paths[-1]
    config = f"{_hex(picture.config)}.json"
    files |= {config: picture.config, "manifest.json": _records(config, paths, name), "repositories": b"{}"}
    return tar_of(files, links)


def podman(picture: Picture, name: str) -> bytes:
    """`podman save` and skopeo: a tar a layer by its diff ID, and links for readers of old."""
    paths = [f"{_hex(tar)}.tar" for tar in picture.tars]
    files = dict(zip(paths, picture.tars, strict=True))
    links = {f"{_hex(path.encode())}/layer.tar": f"../{path}" for path in paths}
    config = f"{_hex(picture.config)}.json"
    return tar_of(files | {config: picture.config, "manifest.json": _records(config, paths, name)}, links)


def kaniko(picture: Picture, name: str) -> bytes:
    """kaniko, crane and ko: layers as stored, by their blob digest, the config under its digest with colon."""
    paths = [f"{_hex(layer)}.tar.gz" for layer in picture.layers]
    config = picture.id
    files = {config: picture.config} | dict(zip(paths, picture.layers, strict=True))
    return tar_of(files | {"manifest.json": _records(config, paths, name)})


def nix(picture: Picture, name: str) -> bytes:
    """nix's dockerTools: paths that begin with a dot."""
    paths = [f"{_hex(tar)}/layer.tar" for tar in picture.tars]
    config = f"{_hex(picture.config)}.json"
    files = dict(zip(paths, picture.tars, strict=True)) | {config: picture.config}
    files["manifest.json"] = _records(config, paths, name)
    return tar_of({f"./{path}": data for path, data in files.items()})


def docker25(picture: Picture, name: str) -> bytes:
    """`docker save` since 25, and buildx: a layout and a manifest.json in one."""
    full = name if name.count("/") else f"docker.io/library/{name}"
    files = layout_files([named_entry(picture, full)], picture.documents)
    paths = [f"blobs/sha256/{_hex(layer)}" for layer in picture.layers]
    return tar_of(files | {"manifest.json": _records(f"blobs/sha256/{_hex(picture.config)}", paths, name)})


def oci_archive(picture: Picture, name: str) -> bytes:
    """`podman save --format oci-archive`, `buildx --output type=oci`."""
    return tar_of(layout_files([named_entry(picture, name)], picture.documents))


def oci_archive_with_dots(picture: Picture, name: str) -> bytes:
    """`tar -C layout -cf` of a layout."""
    return tar_of(layout_files([named_entry(picture, name)], picture.documents, prefix="./"))


ARCHIVES: Mapping[str, Callable[[Picture, str], bytes]] = {
    "docker20": docker20,
    "docker25": docker25,
    "podman": podman,
    "kaniko": kaniko,
    "nix": nix,
    "oci-archive": oci_archive,
    "oci-archive-with-dots": oci_archive_with_dots,
}
