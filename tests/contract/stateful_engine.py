"""An engine that keeps its images in $ENGINE/state.json, with a door for each command of an engine, and docker's API.

It loads what such an engine loads: a layer that is not in the archive has to be there, by the rule of its store. What
it is to get wrong stands in the state as "lie". It is started some hundred times, with -IS, and imports little.
"""

# ruff: noqa: PTH105, PTH123, PLC0415 - what it seldom needs takes as long to import as all the rest
from __future__ import annotations

import hashlib
import json
import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

ROOT = os.environ.get("ENGINE", "")
GC = "containerd.io/gc.ref.content"
FOLDERS = "{{with .GraphDriver.Data}}{{.UpperDir}}{{with .LowerDir}}:{{.}}{{end}}{{end}}"

NAMES = "{{range .RepoTags}}{{.}} {{end}}"


def digest_of(text: bytes) -> str:
    return "sha256:" + hashlib.sha256(text).hexdigest()


class EngineError(Exception):
    """What the engine says instead."""


class State:
    """`images` has of each ID the manifest and the config, as parsed JSON, and `here` the digest of each blob."""

    def __init__(self) -> None:
        self.lock: Any = None
        self.read()

    def read(self) -> None:
        with open(f"{ROOT}/state.json") as file:
            self.data: dict[str, Any] = json.load(file)
        self.store: str = self.data["store"]
        self.images: dict[str, Any] = self.data["images"]
        self.names: dict[str, str] = self.data["names"]
        self.lie: str = self.data["lie"]
        #: Of each the image's ID, and the name that it was made of; and when images were built.
        self.containers: list[tuple[str, str]] = self.data.get("containers", [])
        self.created: dict[str, str] = self.data.get("created", {})

    def change(self) -> None:
        """Read it anew, before it is changed; until this process ends, no other changes it."""
        import fcntl

        if self.lock is None:
            self.lock = open(f"{ROOT}/lock", "w")  # noqa: SIM115 - it is open until then
            fcntl.flock(self.lock, fcntl.LOCK_EX)
            self.read()

    def save(self) -> None:
        with open(f"{ROOT}/state.new", "w") as file:
            json.dump(self.data, file)
        os.replace(f"{ROOT}/state.new", f"{ROOT}/state.json")

    def note(self, verb: str) -> None:
        with open(f"{ROOT}/calls", "a") as file:
            file.write(f"{verb}\n")

    def noted(self, verb: str) -> int:
        with open(f"{ROOT}/calls") as file:
            return file.read().split().count(verb)

    def find(self, name: str) -> str:
        """The ID of what goes by a name or an ID; empty where nothing does."""
        full = name if "/" in name else f"docker.io/library/{name}"
        return self.names.get(full) or (name if name in self.images else "")

    def diff_ids(self, image: str) -> list[str]:
        found: list[str] = self.images[image]["config"]["rootfs"]["diff_ids"]
        return found

    def folders(self, image: str) -> list[str]:
        """Those of its layers, the uppermost first, where the test has made them."""
        found: list[str] = self.data.get("folders", {}).get(image, [])
        return found

    def shown(self, image: str) -> list[str]:
        """Its diff IDs, as the engine shows them."""
        loaded = image in self.data.get("loaded", [])
        return [] if loaded and self.lie == "empty" else self.diff_ids(image)

    def has(self, diff_ids: list[str], position: int, blob: str) -> bool:
        if self.store == "blob":
            return any(
                blob == layer["digest"] for image in self.images.values() for layer in image["manifest"]["layers"]
            )
        held = map(self.diff_ids, self.images)
        if self.store == "chain":
            return any(layers[: position + 1] == diff_ids[: position + 1] for layers in held)
        return any(diff_ids[position] in layers for layers in held)

    def load(self, stream: Any) -> None:
        import io
        import tarfile

        self.note("load")
        data = stream.read()
        if data[:4] == b"\x28\xb5\x2f\xfd":
            import subprocess

            data = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout
        if self.lie == "fail":
            raise EngineError("write /var/lib/engine/tmp: no space left on device")
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            files = {info.name: archive.extractfile(info).read() for info in archive if info.isfile()}  # type: ignore[union-attr]
        self.change()
        for entry in json.loads(files["index.json"])["manifests"]:
            text = files["blobs/" + entry["digest"].replace(":", "/")]
            manifest = json.loads(text)
            config = json.loads(files["blobs/" + manifest["config"]["digest"].replace(":", "/")])
            diff_ids = config["rootfs"]["diff_ids"]
            assert entry["digest"] == digest_of(text)
            for number, layer in enumerate(manifest["layers"]):
                path = "blobs/" + layer["digest"].replace(":", "/")
                if path in files:
                    if digest_of(files[path]) != layer["digest"]:
                        raise EngineError(f"wrong diff id calculated on extraction of {layer['digest']}")
                elif not self.has(diff_ids, number, layer["digest"]):
                    raise EngineError(f"blob {layer['digest']}: no such file or directory")
            image = entry["digest"] if self.store == "blob" else manifest["config"]["digest"]
            if self.lie != "nothing":
                self.images[image] = {"manifest": manifest, "config": config}
                self.data["loaded"] = [*self.data.get("loaded", []), image]
                self.names[entry["annotations"]["io.containerd.image.name"]] = image
        self.save()

    def tag(self, image: str, name: str) -> None:
        self.note("tag")
        self.change()
        if self.lie == "tag" or (self.lie == "tag once" and self.noted("tag") == 1):
            raise EngineError("invalid reference format")
        found = self.find(image)
        if not found:
            raise EngineError(f"No such image: {image}")
        self.names[name] = next(iter(self.images)) if self.lie == "moves" else found
        self.save()

    def discard(self, image: str) -> bool:
        """Remove an image by its ID, with its name; not where it has several (moby, daemon/images/image_delete.go)."""
        self.change()
        if self.lie == "keeps":
            raise EngineError(f"conflict: unable to delete {image}, it is in use")
        names = [name for name, held in self.names.items() if held == image]
        if len(names) > 1:
            why = "(must be forced) - image is referenced in multiple repositories"
            raise EngineError(f"conflict: unable to delete {image[7:19]} {why}")
        for name in names:
            del self.names[name]
        gone = self.images.pop(image, None)
        self.save()
        return gone is not None

    def remove(self, name: str) -> bool:
        """Remove a name, and with its last one the image."""
        self.note("remove")
        self.change()
        name = name if "/" in name else f"docker.io/library/{name}"
        if self.lie == "keeps" and name in self.names and "layerferry" not in name:
            raise EngineError(f"conflict: unable to remove {name}, it is in use")
        gone = self.names.pop(name, "")
        if gone not in self.names.values():
            self.images.pop(gone, None)
        self.save()
        return bool(gone)


def docker(state: State, words: list[str], *, podman: bool = False) -> int:  # noqa: C901 - one for each verb
    """docker's command, or podman's."""
    verb, *rest = words[1:] if words[0] == "image" else words
    code = 0
    if verb == "info":
        print(state.data["info"])
    elif verb == "ls":
        for name, image in state.names.items():
            short = name if podman else name.removeprefix("docker.io/").removeprefix("library/")
            print(image, short)
        print(*(f"{image} <none>:<none>" for image in state.images if image not in state.names.values()), sep="\n")
    elif verb == "inspect":
        code = inspect(state, rest[1], rest[2:], podman=podman)
    elif verb == "load":
        state.load(sys.stdin.buffer)
    elif verb == "tag":
        state.tag(*rest)
    elif verb == "ps":
        for image, name in state.containers:
            template = rest[rest.index("--format") + 1]
            print(template.replace("{{.ImageID}}", image.removeprefix("sha256:")).replace("{{.Image}}", name))
    elif verb == "rm":
        found = [state.remove(name) or state.discard(name) for name in rest]
        code = 0 if all(found) else 1
        if code:
            print(f"Error: No such image: {rest[0]}", file=sys.stderr)
    else:
        code = 1
    return code


def _chain_id(diff_ids: list[str]) -> str:
    chain = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = digest_of(f"{chain} {diff_id}".encode())
    return chain


def _unix(time: str) -> int:
    import datetime as dt

    return int(dt.datetime.fromisoformat(time).timestamp())


def called(state: State, image: str, *, podman: bool = False) -> list[str]:
    """The names of an image, as the engine writes them."""
    names = [name for name, held in state.names.items() if held == image]
    return names if podman else [name.removeprefix("docker.io/").removeprefix("library/") for name in names]


def inspect(state: State, template: str, names: list[str], *, podman: bool) -> int:
    state.note("inspect")
    code = 0
    for name in names:
        image = state.find(name)
        if not image:
            print(f"Error: No such image: {name}", file=sys.stderr)
            code = 1
            continue
        layers = "".join(f" {layer}" for layer in state.shown(image))
        line = template.replace("{{range .RootFS.Layers}} {{.}}{{end}}", layers)
        line = line.replace(NAMES, " ".join(called(state, image, podman=podman)))
        line = line.replace(FOLDERS, ":".join(state.folders(image)))
        created = state.created.get(image, "2026-01-01T00:00:00Z")
        line = line.replace("{{.Created}}", created).replace("{{.Created.Unix}}", str(_unix(created)))
        print(line.replace("{{.ID}}", image.removeprefix("sha256:") if podman else image))
    return code


def curl(state: State, words: list[str]) -> int:
    """docker's API, as curl brings it."""
    assert words[:4] == ["-qgsS", "--noproxy", "*", "--unix-socket"], words
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    many = [word for word in words if word.startswith("http:")]
    if "-K" in words:
        many = re.findall('^url = "(.*)"$', sys.stdin.read(), re.MULTILINE)
    code = 0
    for url in many:
        try:
            answer = api(state, method, url.removeprefix("http://docker"))
        except EngineError as error:
            answer = (
                {"errorDetail": {"message": str(error)}, "error": str(error)}
                if "load" in url
                else {"message": str(error)}
            )
        if answer is None:
            code = 22
        elif answer != "":
            print(json.dumps(answer, separators=(",", ":")))
    return code


def api(state: State, method: str, url: str) -> Any:  # noqa: C901, PLR0911 - one for each path
    from urllib.parse import parse_qs

    path, _, query = url.partition("?")
    given = {key: values[0] for key, values in parse_qs(query).items()}
    if path == "/info":
        version, platform, driver, *more = state.data["info"].split()
        system, machine = platform.split("/")
        status = [["driver-type", word] for word in more]
        return {
            "Driver": driver,
            "DriverStatus": status,
            "OSType": system,
            "Architecture": machine,
            "ServerVersion": version,
        }
    if path == "/version":
        return {"Platform": {"Name": "Docker"}, "Os": "linux", "Arch": "amd64", "BuildTime": "x"}
    if path == "/images/json":
        wanted = "localhost/layerferry" if "filters" in given else ""
        tags: dict[str, list[str]] = {}
        for name, image in state.names.items():
            if name.startswith(wanted):
                tags.setdefault(image, []).append(name.removeprefix("docker.io/").removeprefix("library/"))
        return [
            {
                "Created": _unix(state.created.get(image, "2026-01-01T00:00:00Z")),
                "Id": image,
                "Labels": {"Created": '"Created":1'},
                "RepoTags": tags.get(image, []),
            }
            for image in state.images
            if image in tags or not wanted
        ]
    if path == "/containers/json":
        labels = {"a": '"Image":"x'}
        return [{"Id": "c", "Image": name, "ImageID": image, "Labels": labels} for image, name in state.containers]
    if path == "/images/load":
        state.load(sys.stdin.buffer)
        return {"stream": "Loaded"}
    name, _, verb = (
        path.removeprefix("/images/").rpartition("/") if method != "DELETE" else (path.removeprefix("/images/"), "", "")
    )
    if method == "DELETE":
        return [{"Untagged": name}] if state.remove(name) or state.discard(name) else {"message": "No such image"}
    if verb == "tag":
        state.tag(name, f"{given['repo']}:{given['tag']}")
        return ""
    state.note("inspect")
    image = state.find(name)
    layers = {"Layers": shown} if (shown := state.shown(image) if image else []) else {}
    if not image:
        return None
    upper, *lower = state.folders(image) or [""]
    driver = {"GraphDriver": {"Data": {"LowerDir": ":".join(lower), "UpperDir": upper}, "Name": "overlay2"}}
    filesystem = {"Type": "layers", **layers}
    return {"Id": image, "RepoTags": called(state, image), **driver, "RootFS": filesystem, "Metadata": {}}


def ctr(state: State, words: list[str]) -> int:  # noqa: C901 - one for each verb
    """containerd's, in one namespace."""
    while words[0] in {"-n", "-a", "--connect-timeout"}:
        words = words[2:]
    verb, rest = " ".join(words[:2]), words[2:]
    if words[0] == "version":
        print("Client:\n  Version:  9\n\nServer:\n  Version:  2.1.9")
    elif verb == "namespaces ls":
        print("default")
    elif verb == "content ls":
        print("DIGEST\tSIZE\tAGE\tLABELS", *content(state), sep="\n")
    elif verb == "content get":
        print(json.dumps(document(state, rest[0])))
    elif verb == "snapshots --snapshotter":
        return snapshot(state, rest[1:])
    elif verb == "images import":
        state.load(sys.stdin.buffer)
    elif verb == "containers ls":
        print("CONTAINER IMAGE RUNTIME", *(f"c {name} runc" for _, name in state.containers), sep="\n")
    elif verb == "plugins ls":
        print("io.containerd.snapshotter.v1 overlayfs linux/amd64 ok")
    elif verb == "images tag":
        state.tag(*[word for word in rest if word != "--force"])
    elif verb == "images rm":
        return 0 if sum(not state.remove(name) for name in rest if name != "--sync") == 0 else 1
    else:
        print(*listed(state, rest), sep="\n")
    return 0


def snapshot(state: State, words: list[str]) -> int:
    """The list of snapshots; a view of one, and its end."""
    if words == ["ls"]:
        print("KEY PARENT KIND")
        print(*(f"c {_chain_id(state.diff_ids(image))} Active" for image, _ in state.containers), sep="\n")
        return 0
    views: list[str] = state.data.setdefault("views", [])
    if words[0] == "rm":
        views.remove(words[1])
        state.save()
        return 0
    _, _, _, key, chain = words
    for image in state.images:
        over = ""
        for layer in state.diff_ids(image):
            over = digest_of(f"{over} {layer}".encode()) if over else layer
        if over == chain and state.folders(image):
            views.append(key)
            state.save()
            print(f"mount -t overlay overlay / -o index=off,lowerdir={':'.join(state.folders(image))}")
            return 0
    return 1


def listed(state: State, filters: list[str]) -> Iterable[str]:
    """What `images ls` and `images check` print."""
    if filters == ["-q"]:
        yield from state.names
        return
    yield "REF TYPE DIGEST STATUS"
    for name, image in state.names.items():
        if not filters or {f"name=={name}", f"target.digest=={image}"} & set(filters):
            yield f"{name} {state.images[image]['manifest']['mediaType']} {image} complete (3/3) 1 KiB true"


def nerdctl(state: State, words: list[str]) -> int:
    """nerdctl's, which in its native mode shows more (containerd/nerdctl, pkg/cmd/image, of 2.x)."""
    if words[:2] == ["image", "ls"]:
        assert words[2:] == ["--format", "{{.Digest}} {{.Name}}"], words
        print(*(f"{image} {name}" for name, image in state.names.items()), sep="\n")
        return 0
    if words[0] == "ps":
        print(*(f"c{number}" for number, _ in enumerate(state.containers)), sep="\n")
        return 0
    if words[:4] == ["container", "inspect", "--mode", "native"]:
        print(*(f"{name} 2000000000" for _, name in state.containers), sep="\n")
        return 0
    if words[:4] == ["image", "inspect", "--mode", "native"]:
        for name in words[6:]:
            image = state.find(name)
            # By its digest, once under each of its names.
            for under in called(state, image, podman=True):
                print(*([under] if words[5] == "{{.Image.Name}}" else native(state, image, words[5])), sep="\n")
        return 0
    return docker(state, words)


def native(state: State, image: str, template: str) -> Iterable[str]:
    manifest = state.images[image]["manifest"]
    if ".Created" in template:
        created = state.created.get(image, "")
        yield f"{image} {_unix(created) if created else ''}"
        return
    if ".UpdatedAt" in template:
        moved = state.data.get("moved", 0)
        yield from (f"{moved} {name}" for name, held in state.names.items() if held == image)
        return
    if ".Manifest" not in template:
        assert template == "{{.Image.Target.Digest}}{{range .ImageConfig.RootFS.DiffIDs}} {{.}}{{end}}"
        yield " ".join([image, *state.shown(image)])
        return
    layers = manifest["layers"]
    for diff_id, layer in zip(state.diff_ids(image), layers, strict=True):
        yield f"{layer['digest']} {layer['size']} {layer['mediaType']} containerd.io/uncompressed={diff_id}"
    yield manifest["config"]["digest"]
    refs = "".join(f" gc.ref.content.l.={layer['digest']}" for layer in layers)
    yield f"{image} gc.ref.content.config={manifest['config']['digest']}{refs}"


def content(state: State) -> Iterable[str]:
    for image, held in state.images.items():
        layers, config = held["manifest"]["layers"], held["manifest"]["config"]["digest"]
        for diff_id, layer in zip(held["config"]["rootfs"]["diff_ids"], layers, strict=True):
            yield f"{layer['digest']}\t{layer['size']}B\t2 days\tcontainerd.io/uncompressed={diff_id}"
        yield f"{config}\t1B\t2 days\t-"
        labels = [f"{GC}.config={config}", *(f"{GC}.l.{n}={layer['digest']}" for n, layer in enumerate(layers))]
        yield f"{image}\t1kB\t2 days\t{','.join(labels)}"


def document(state: State, digest: str) -> Any:
    if digest in state.images:
        return state.images[digest]["manifest"]
    image = next(image for image, held in state.images.items() if held["manifest"]["config"]["digest"] == digest)
    config = {**state.images[image]["config"], "created": state.created.get(image, "")}
    return {**config, "rootfs": {"type": "layers", "diff_ids": state.shown(image)}}


def main(door: str, words: list[str]) -> int:
    state = State()
    try:
        if door == "podman":
            return docker(state, words, podman=True)
        return {"docker": docker, "curl": curl, "ctr": ctr, "nerdctl": nerdctl}[door](state, words)
    except EngineError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
