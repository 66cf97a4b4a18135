"""What a target shows after a push: exit codes of commands that move images prove nothing."""

import json
import subprocess
import tarfile
import time
from collections.abc import Sequence

from rig import Engine, RigError


def failure(source: Engine, target: Engine, names: Sequence[str]) -> str:
    """What is wrong with images there, in one sentence; empty where they are the source's."""
    for name in names:
        wanted = source.inspect(name)
        try:
            found = target.inspect(name)
        except RigError:
            return f"the target does not show {name}"
        if (found["RootFS"].get("Layers") or []) != wanted["RootFS"]["Layers"]:
            return f"the target shows other layers of {name}"
        if source.kind.store == target.kind.store == "overlay2" and found["Id"] != wanted["Id"]:
            return f"the target shows another image ID of {name}"
    return ""


def save_failure(target: Engine, names: Sequence[str]) -> str:
    """What is missing in the archive that the target's `docker save` writes; it is read, and not kept."""
    for name in names:
        wanted = len(target.diff_ids(name))
        command = ["docker", "--host", target.host, "save", name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stderr
            sizes, listing = _members(process)
            error = process.stderr.read().decode(errors="replace").strip()
        layers = [layer for image in listing for layer in image.get("Layers") or []]
        if process.returncode or error:
            return f"docker save of {name} on the target fails: {error[-200:]}"
        if len(layers) != wanted or not all(sizes.get(layer) for layer in layers):
            whole = sum(bool(sizes.get(layer)) for layer in layers)
            return f"docker save of {name} on the target has {whole} of {wanted} layers"
    return ""


def _members(process: "subprocess.Popen[bytes]") -> tuple[dict[str, int], list[dict[str, list[str] | None]]]:
    """The sizes of an archive's files by name, and its manifest.json. Older docker links layers that are equal."""
    sizes: dict[str, int] = {}
    listing: list[dict[str, list[str] | None]] = []
    assert process.stdout
    try:
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                sizes[member.name] = 1 if member.issym() or member.islnk() else member.size
                if member.name == "manifest.json" and (file := archive.extractfile(member)):
                    listing = json.load(file)
    except tarfile.ReadError:
        return {}, []
    return sizes, listing


def create_seconds(target: Engine, name: str) -> float:
    """How long the first container's making takes: some stores unpack only then."""
    began = time.monotonic()
    container = target.api.create(name, "/app")
    seconds = time.monotonic() - began
    target.api.delete([f"/containers/{container}"])
    return seconds
