"""The blobs of a containerd store: its daemon pushes an image to a registry on our loopback, which has them all.

A containerd store finds a layer by its blob's digest, and no inspection tells it. A push does: the daemon asks for each
blob, hears that it is there, and ends with the manifest. No byte of a layer moves, and no client needs a port of ours:
this is what a key with `restrict` cannot have.

The daemon shows credentials that it has from us, so nobody else is believed: they stand in a configuration folder of
docker's that only we may read (and root, if docker is started through `sudo`), and that is removed with the registry.
"""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerferry.oci.image import DOCKER_LAYER_TYPES, MEDIA_TYPE_LAYER, Descriptor, Digest, Platform
from layerferry.receive import strict_json
from layerferry.receive.blob_registry import BlobRegistry, Push
from layerferry.receive.engine import Engine
from layerferry.receive.refusal import Refusal

#: Seconds for all pushes of a session. A stall of 30 s was seen once while an engine was busy; layers are sent then.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class BlobDigests:
    """An image's config digest and its layers' blobs, bottom first, as the store has them."""

    config: str
    layers: tuple[Descriptor, ...]


@contextlib.contextmanager
def open_registry(engine: Engine) -> Iterator["BlobDigestRegistry"]:
    """A registry that an engine can push to, for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="layerferry-") as folder, BlobRegistry() as registry:
        _configure(Path(folder), engine, registry)
        yield BlobDigestRegistry(engine, registry, Path(folder))


@dataclass(slots=True)
class BlobDigestRegistry:
    """A registry that learns the blobs of one engine, within a bound of time."""

    _engine: Engine
    _registry: BlobRegistry
    _folder: Path
    _until: float = field(default_factory=lambda: time.monotonic() + _PATIENCE)
    #: By digest, what a blob was said to be: its layer's diff ID, and its size.
    _blobs: dict[str, tuple[str, int]] = field(default_factory=dict)

    def learn(self, image_id: str, diff_ids: Sequence[str]) -> BlobDigests | None:
        """The blobs that the store has of an image with these layers; None where it does not tell them in time."""
        left = self._until - time.monotonic()
        if left <= 0:
            return None
        push, name = self._registry.open()
        try:
            self._engine.tag(image_id, name)
            pushed = self._engine.push(name, self._folder, left)
        except Refusal:
            return None
        finally:
            self._registry.push = None
            self._engine.remove(name)
        if not pushed:
            self._until = 0  # it does not reach us: nor will it for the next one
            return None
        digests = None if push.void else _read(push, image_id, self._engine.platform)
        return digests if digests and self._fits(digests, push, diff_ids) else None

    def _fits(self, digests: BlobDigests, push: Push, diff_ids: Sequence[str]) -> bool:
        """Whether they agree with what the engine shows of the image, what it asked for, and what it told before."""
        if len(digests.layers) != len(diff_ids):
            return False
        if not {digests.config, *(layer.digest for layer in digests.layers)} <= push.asked:
            return False
        pairs = list(zip(digests.layers, diff_ids, strict=True))
        told = {layer.digest: (diff_id, layer.size) for layer, diff_id in pairs}
        if not all(
            _is_blob_of(layer, diff_id) and told[layer.digest] == (diff_id, layer.size) for layer, diff_id in pairs
        ):
            return False
        if any(self._blobs.get(digest, what) != what for digest, what in told.items()):
            return False
        self._blobs.update(told)
        return True


def _is_blob_of(layer: Descriptor, diff_id: str) -> bool:
    """Whether a blob can hold a layer: one that is not compressed has the diff ID for its digest, and only that has."""
    kind = DOCKER_LAYER_TYPES.get(layer.media_type, layer.media_type)
    return (
        kind in strict_json.LAYER_TYPES and layer.size > 0 and (kind == MEDIA_TYPE_LAYER) is (layer.digest == diff_id)
    )


def _read(push: Push, image_id: str, platform: Platform) -> BlobDigests | None:
    """The blobs of the manifest that was pushed; of an index, which must be the image itself, that for `platform`."""
    try:
        document = strict_json.parse(push.manifests[push.tagged], "a manifest")
        if "manifests" in document:
            own = [entry["digest"] for entry in document["manifests"] if _is_for(platform, entry.get("platform", {}))]
            document = strict_json.parse(push.manifests[own[0] if push.tagged == image_id else ""], "a manifest")
        layers = tuple(Descriptor(layer["mediaType"], layer["digest"], layer["size"]) for layer in document["layers"])
        return BlobDigests(Digest(document["config"]["digest"]), layers)
    except (Refusal, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _is_for(platform: Platform, told: dict[str, str]) -> bool:
    return (platform.os, platform.architecture) == (told.get("os", ""), told.get("architecture", ""))


def _configure(folder: Path, engine: Engine, registry: BlobRegistry) -> None:
    """Write docker's configuration: our login, and of the user's own what it takes to reach the same daemon."""
    home = engine.environment.get("HOME", "/nonexistent") if engine.command[0] != "sudo" else "/nonexistent"
    users = Path(engine.environment.get("DOCKER_CONFIG") or f"{home}/.docker")
    said: dict[str, Any] = {"auths": {registry.host: {"auth": registry.login}}}
    if context := _context(users):
        said["currentContext"] = context
    for name in ("contexts", "ca.pem", "cert.pem", "key.pem"):  # links that lead nowhere are as good as none
        (folder / name).symlink_to((users / name).absolute())
    descriptor = os.open(folder / "config.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(said, file)


def _context(users: Path) -> str:
    """The context that the user's docker is set to (docker CLI, config.json, "currentContext"), or nothing."""
    try:
        with (users / "config.json").open("rb") as file:
            context = json.loads(file.read(strict_json.LARGEST_DOCUMENT))["currentContext"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return context if isinstance(context, str) else ""
