"""Thousands of small images on an engine, in seconds: what a host that nobody cleans up looks like."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

from rig.images import Image, Layer, Workshop, digest_of
from rig.machine import Machine

_STORE = "/var/lib/containers/storage"


def import_into_containerd(machine: Machine, workshop: Workshop, images: dict[str, Image]) -> None:
    """Let `ctr` do it, without unpacking: four times as fast as `docker load` into the containerd store."""
    inside = "/tmp/crowd.tar"
    shutil.copyfile(workshop.archive(images), machine.path(inside))
    try:
        machine.run("ctr", "--namespace", "moby", "images", "import", "--no-unpack", inside)
    finally:
        machine.path(inside).unlink()


def write_into_podman(machine: Machine, workshop: Workshop, count: int) -> None:
    """Write podman's own lists, after the pattern of the one image in them: `podman load` takes minutes.

    Each image has a layer of its own, for with a common one `podman images` takes time that is quadratic in their
    number: 90 s for 400 images.
    """
    store = machine.path(_STORE)
    images, layers = store / "overlay-images/images.json", store / "overlay-layers/layers.json"
    (pattern,), (layer,) = json.loads(images.read_text()), json.loads(layers.read_text())
    manifest = json.loads((images.parent / pattern["id"] / "manifest").read_text())
    image_rows, layer_rows = [pattern], [layer]
    for number in range(1, count):
        tar = f"layer {number}".encode()  # nobody unpacks it
        image = workshop.image([Layer(Path(), digest_of(tar), len(tar))])
        layer_rows.append(_write_layer(store, layer, image.diff_ids[0]))
        image_rows.append(_write_image(images.parent, pattern, manifest, f"crowd:{number:05}", image))
    images.write_text(json.dumps(image_rows))
    layers.write_text(json.dumps(layer_rows))


def _write_layer(store: Path, pattern: dict[str, Any], diff_id: str) -> dict[str, Any]:
    """One layer's folder, and its row in the list (containers/storage, layers.go)."""
    name = diff_id.removeprefix("sha256:")
    folder = store / "overlay" / name
    for inside in ("diff", "empty", "merged", "work"):
        (folder / inside).mkdir(parents=True)
    link = name[:26].upper()
    (folder / "link").write_text(link)
    (store / "overlay/l" / link).symlink_to(f"../{name}/diff")
    return pattern | {"id": name, "compressed-diff-digest": diff_id, "diff-digest": diff_id}


def _write_image(
    images: Path, pattern: dict[str, Any], manifest: dict[str, Any], name: str, image: Image
) -> dict[str, Any]:
    """One image's folder, and its row in the list (containers/storage, images.go)."""
    config = manifest["config"] | {"digest": image.id, "size": len(image.config)}
    layers = [manifest["layers"][0] | {"digest": image.diff_ids[0]}]
    own = json.dumps(manifest | {"config": config, "layers": layers}).encode()
    items = {image.id: image.config, f"manifest-{digest_of(own)}": own, "manifest": own}
    folder = images / image.id.removeprefix("sha256:")
    folder.mkdir(exist_ok=True)
    for key, data in items.items():
        file = key if key == "manifest" else "=" + base64.b64encode(key.encode()).decode()
        (folder / file).write_bytes(data)
    return pattern | {
        "id": folder.name,
        "layer": image.diff_ids[0].removeprefix("sha256:"),
        "digest": digest_of(own),
        "names": [f"localhost/{name}"],
        "names-history": [f"localhost/{name}"],
        "metadata": "{}",
        "big-data-names": list(items),
        "big-data-sizes": {key: len(data) for key, data in items.items()},
        "big-data-digests": {key: digest_of(data) for key, data in items.items()},
    }
