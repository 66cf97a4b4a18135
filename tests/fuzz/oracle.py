"""An engine in memory that trusts nobody: it reads what a receiver gives it as engines do, by other means than ours.

It unpacks with `tarfile`, `gzip` and a JSON reader that is as lenient as Go's, checks every digest again, and raises
`AcceptedBadByteError` for anything that a careful reader would not have let through.
"""

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz.bench import BASE_ID, BEFORE, SECRET_ID
from fuzz.shipment import BASE, SECRET, digest
from layerferry.oci.image import Name, Platform
from layerferry.oci.store_kind import StoreKind
from layerferry.receive.engine import Engine, Shown

_OURS = re.compile(r"localhost/layerferry:[0-9a-f]{8}-[0-9a-f]{16}(-[0-9a-f]+){5}")
_PLACE = re.compile(r"oci-layout|index\.json|manifest\.json|blobs/sha256/[0-9a-f]{64}")
MAX_BYTES = 1 << 20


class AcceptedBadByteError(BaseException):
    """No Exception, so that no receiver hides it."""


def need(truth: object, what: str) -> None:
    if not truth:
        raise AcceptedBadByteError(what)


def read_like_go(data: bytes) -> Any:
    """JSON as encoding/json fills a struct: names in any case, the last of several wins."""
    return json.loads(
        data.decode("utf-8", "replace"), object_pairs_hook=lambda pairs: {key.casefold(): value for key, value in pairs}
    )


@dataclass(frozen=True)
class Oracle(Engine):
    images: dict[str, tuple[str, ...]] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)
    #: The image IDs by digest of config and of manifest.
    accepted: set[str] = field(default_factory=set)

    def names(self) -> Iterator[tuple[str, Name]]:
        return ((image_id, Name.parse(name)) for name, image_id in self.called.items())

    def layers(self, ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
        return {image_id: self.images[image_id] for image_id in ids}

    def inspect(self, name: str) -> Shown | None:
        image_id = self.called.get(name, name)
        return Shown(image_id, self.images[image_id]) if image_id in self.images else None

    def tag(self, image: str, name: str) -> None:
        need(image in self.called or image in self.images, "a name for nothing")
        need(re.fullmatch(r"docker\.io/library/app:[\w][\w.-]{0,127}", name), f"the name {name}")
        self.called[name] = self.called.get(image, image)

    def remove(self, name: str) -> bool:
        need(_OURS.fullmatch(name), f"the end of {name}")
        self.called.pop(name, None)
        return True

    def push(self, name: str, folder: Path, seconds: float) -> bool:
        raise AcceptedBadByteError("a push")

    def load(self, archive: Iterable[bytes]) -> None:
        data = b"".join(archive)
        need(len(data) <= 2 * MAX_BYTES, "a large archive")
        held: dict[str, bytes] = {}
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for info in tar:
                need(info.isreg() and not info.linkname and not info.pax_headers, f"the kind of {info.name}")
                need(_PLACE.fullmatch(info.name) and info.name not in held, f"the entry {info.name}")
                stream = tar.extractfile(info)
                assert stream is not None
                held[info.name] = stream.read()
        for name, blob in held.items():
            need("/" not in name or name == f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", f"the digest of {name}")
        index, docker = read_like_go(held["index.json"])["manifests"], read_like_go(held["manifest.json"])
        need(len(index) == len(docker), "two lists of images")
        used = {"oci-layout", "index.json", "manifest.json"}
        for entry, told in zip(index, docker, strict=True):
            used |= self._take(held, entry, told)
        need(used >= set(held), "a stowaway")

    def _take(self, held: dict[str, bytes], entry: dict[str, Any], told: dict[str, Any]) -> set[str]:
        def blob(name: str) -> bytes:
            return held["blobs/" + name.replace(":", "/")]

        manifest = read_like_go(blob(entry["digest"]))
        config_name = manifest["config"]["digest"]
        config = read_like_go(blob(config_name))
        [name] = told["repotags"]
        need(_OURS.fullmatch(name) and entry["annotations"]["io.containerd.image.name"] == name, f"the name {name}")
        need(told["config"] == "blobs/" + config_name.replace(":", "/"), "two configs")
        need(config["os"] == "linux" and config["architecture"] == "amd64", "the platform")
        diff_ids = config["rootfs"]["diff_ids"] or []
        layers = [layer["digest"] for layer in manifest["layers"]]
        need(["blobs/" + layer.replace(":", "/") for layer in layers] == told["layers"], "two lists of layers")
        need(len(layers) == len(diff_ids), "the number of layers")
        used = {"blobs/" + wanted.replace(":", "/") for wanted in (entry["digest"], config_name)}
        for layer, diff_id in zip(manifest["layers"], diff_ids, strict=True):
            used |= self._check_layer(held, layer, diff_id, diff_ids)
        self.images[config_name] = tuple(diff_ids)
        self.called[name] = config_name
        self.accepted.update({config_name, entry["digest"]})
        return used

    def _check_layer(
        self, held: dict[str, bytes], layer: dict[str, Any], diff_id: str, diff_ids: Sequence[str]
    ) -> set[str]:
        need(not layer.get("urls") and not layer.get("data"), "a layer from elsewhere")
        place = "blobs/" + layer["digest"].replace(":", "/")
        if place not in held:
            need(diff_id == digest(BASE) and diff_ids[0] == digest(BASE), "a layer that is not there")
            return set()
        blob = held[place]
        plain = gzip.decompress(blob) if blob[:2] == b"\x1f\x8b" else blob
        need(len(plain) <= MAX_BYTES, "a bomb")
        need(digest(plain) == diff_id, "the diff ID of a layer")
        need(layer["size"] == len(blob), "the size of a layer")
        return {place}


def new() -> Oracle:
    """A host that has what `fuzz.bench` has."""
    return Oracle(
        "docker",
        ("docker",),
        {"PATH": ""},
        "28.5.2",
        Platform("linux", "amd64"),
        "overlay2",
        StoreKind.CHAIN,
        "root",
        {BASE_ID: (digest(BASE),), SECRET_ID: (digest(SECRET),)},
        dict(BEFORE),
    )
