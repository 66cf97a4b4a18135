"""What a client sends to a receiver, from the first byte to the last, in parts that a test bends out of shape."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

INCOMING = "localhost/layerferry:00c0ffee00c0ffee"
NAME = "docker.io/library/app:2"
LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def path(name: str) -> str:
    return "blobs/" + name.replace(":", "/")


def layer(text: str) -> bytes:
    """A layer with one small file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("etc/motd")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text.encode()))
    return stream.getvalue()


def dump(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


#: What the fake engines hold: an image that the policy names, and one that it does not.
BASE = layer("base")
SECRET = layer("secret")
TOP = layer("top")


@dataclass
class Member:
    """One entry of the archive. `head` bends its header, `size` lies about its length."""

    name: str
    data: bytes
    size: int | None = None
    head: Callable[[tarfile.TarInfo], None] | None = None
    padding: bytes | None = None

    def tar(self) -> bytes:
        info = tarfile.TarInfo(self.name)
        info.size = len(self.data) if self.size is None else self.size
        info.mode = 0o644
        if self.head:
            self.head(info)
        padding = bytes(-len(self.data) % 512) if self.padding is None else self.padding
        return info.tobuf(tarfile.GNU_FORMAT) + self.data + padding


@dataclass
class Image:
    """An image in an archive. Its parts are told by `members` unless a test has told them otherwise."""

    layers: list[bytes] = field(default_factory=lambda: [TOP])
    #: Diff IDs of layers below that are not sent.
    below: list[str] = field(default_factory=lambda: [digest(BASE)])
    incoming: str = INCOMING
    os: str = "linux"
    architecture: str = "amd64"
    media_type: str = LAYER
    #: How a layer is stored; its diff ID is that of `layers`.
    store: Callable[[bytes], bytes] = bytes
    bend_config: Callable[[dict[str, Any]], Any] | None = None
    bend_manifest: Callable[[dict[str, Any]], Any] | None = None
    config_bytes: bytes | None = None
    manifest_bytes: bytes | None = None

    @property
    def diff_ids(self) -> list[str]:
        return [*self.below, *map(digest, self.layers)]

    @property
    def blobs(self) -> list[bytes]:
        return [self.store(data) for data in self.layers]

    @property
    def config(self) -> bytes:
        document: Any = {
            "architecture": self.architecture,
            "os": self.os,
            "config": {"Cmd": ["sh"], "Labels": {"a": "b"}},
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
        }
        if self.bend_config:
            document = self.bend_config(document) or document
        return self.config_bytes or dump(document)

    @property
    def descriptors(self) -> list[dict[str, Any]]:
        below = [{"mediaType": LAYER, "digest": name, "size": len(BASE)} for name in self.below]
        sent = [{"mediaType": self.media_type, "digest": digest(blob), "size": len(blob)} for blob in self.blobs]
        return below + sent

    @property
    def manifest(self) -> bytes:
        document: Any = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(self.config), "size": len(self.config)},
            "layers": self.descriptors,
        }
        if self.bend_manifest:
            document = self.bend_manifest(document) or document
        return self.manifest_bytes or dump(document)


@dataclass
class Shipment:
    """A whole session. Everything is honest until a test changes it."""

    images: list[Image] = field(default_factory=lambda: [Image()])
    preamble: bytes = b": layerferry 1 13\nexit 1 #1234\n"
    ask: list[str] = field(default_factory=list)
    expect: list[str] | None = None
    load: str = "load none"
    bend_index: Callable[[dict[str, Any]], Any] | None = None
    bend_docker: Callable[[list[Any]], Any] | None = None
    bend_members: Callable[[list[Member]], Any] | None = None
    bend_tar: Callable[[bytes], bytes] | None = None
    encode: Callable[[bytes], bytes] = bytes
    bend_frames: Callable[[bytes], bytes] | None = None
    end: bytes = bytes(1024)
    then: list[str] = field(default_factory=lambda: [f"tag {INCOMING} {NAME}", "done"])
    bend_all: Callable[[bytes], bytes] | None = None

    def index(self) -> bytes:
        entries = [
            {
                "mediaType": MANIFEST,
                "digest": digest(image.manifest),
                "size": len(image.manifest),
                "annotations": {
                    "io.containerd.image.name": image.incoming,
                    "org.opencontainers.image.ref.name": image.incoming.rpartition(":")[2],
                },
            }
            for image in self.images
        ]
        document: Any = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        return dump((self.bend_index and self.bend_index(document)) or document)

    def docker(self) -> bytes:
        document: Any = [
            {
                "Config": path(digest(image.config)),
                "RepoTags": [image.incoming],
                "Layers": [path(told["digest"]) for told in image.descriptors],
            }
            for image in self.images
        ]
        return dump((self.bend_docker and self.bend_docker(document)) or document)

    def members(self) -> list[Member]:
        blobs = [blob for image in self.images for blob in (*image.blobs, image.config, image.manifest)]
        unique = {digest(blob): blob for blob in blobs}
        return [
            Member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            *(Member(path(name), blob) for name, blob in unique.items()),
            Member("index.json", self.index()),
            Member("manifest.json", self.docker()),
        ]

    def tar(self) -> bytes:
        members = self.members()
        if self.bend_members:
            members = self.bend_members(members) or members
        data = b"".join(member.tar() for member in members) + self.end
        return self.bend_tar(data) if self.bend_tar else data

    def header(self) -> list[str]:
        asked = [line for image in self.images for line in (f"image {digest(image.config)}", *_layers(image))]
        expect = [f"expect {image.incoming} {' '.join(image.diff_ids)}".strip() for image in self.images]
        return [*(self.ask or [*asked, "end"]), *(expect if self.expect is None else self.expect), self.load]

    def stream(self) -> bytes:
        data = frames(self.encode(self.tar()))
        return self.bend_frames(data) if self.bend_frames else data

    def session(self) -> bytes:
        """All bytes of the client."""
        data = self.preamble + lines(self.header()) + self.stream() + lines(self.then)
        return self.bend_all(data) if self.bend_all else data


def _layers(image: Image) -> Iterable[str]:
    return (f"layer {diff_id}" for diff_id in image.diff_ids)


def lines(texts: Iterable[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def frames(data: bytes, size: int = 4 << 20) -> bytes:
    cut = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%d\n%b" % (len(piece), piece) for piece in cut) + b"0\n"


def members_of_gzip(data: bytes) -> bytes:
    """gzip of two members, as clients write it."""
    return gzip.compress(data[:700], 1) + gzip.compress(data[700:], 1)
