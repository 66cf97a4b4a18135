"""The scene that pushes are tested in: a source, a target, and eyes for what a push may leave on either.

What these eyes see is tested here; the other `test_push*` files use them.
"""

import gzip
import hashlib
import io
import json
import signal
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from rig import Containerd, Engine, Layer, Noise, Registry, Rig, RigError, Sshd, Text
from rig.command import Layerferry, Run
from rig.processes import command_lines, wait_until
from rig.ssh import start_sshd

APP = "push-test/app:1"
SMALL = 64 << 10
#: One engine of each way to find a layer: by its chain, by its blob, by its diff ID.
EACH_STORE = ("docker28-overlay2", "docker28-containerd", "podman5")
NEWEST = ("docker28-overlay2",)

Json = dict[str, Any]


def look(engine: Engine) -> Json:
    """All that a push might leave on an engine and its machine: names, digests, nameless images, containers, files.

    A podman that is only a target has no API service: its lists are read as they are stored.
    """
    folders = ("/tmp", "/var/tmp", "/root", "/etc/docker", "/dev/shm")
    files = engine.machine.run("find", *folders, "-type", "f", "-not", "-path", "*/.local/share/fish/*")
    if isinstance(engine, Containerd):
        images = engine.images() | dict.fromkeys(engine.leases)
        containers = engine.ctr("containers", "ls", "-q").split()
    elif engine.kind.program == "podman":
        images = {row["id"]: (row.get("names"), row.get("digest")) for row in engine.podman_rows("images")}
        containers = sorted(row["id"] for row in engine.podman_rows("containers"))
    else:
        rows = engine.api.get("/images/json?all=1")
        images = {row["Id"]: (row["RepoTags"], row["RepoDigests"]) for row in rows}
        containers = [row["Id"] for row in engine.api.get("/containers/json?all=1")]
    return {"images": images, "containers": containers, "files": sorted(files.splitlines())}


def running(engine: Engine) -> set[int]:
    """What runs on a machine, but for what an engine itself starts whenever it likes."""
    own = ("containerd", "dockerd", "conmon", "catatonit", "podman system service")
    lines = engine.machine.processes().items()
    return {pid for pid, line in lines if not line.removeprefix("/usr/bin/").startswith(own)}


def our_ssh(rig: Rig) -> list[str]:
    """The ssh processes of this rig's hosts that still run on this side."""
    found = []
    for _, line in command_lines():
        words = line.split(b"\0")
        if words[0].endswith(b"ssh") and str(rig.ssh.config).encode() in words:
            found.append(b" ".join(words).decode(errors="replace"))
    return found


@contextmanager
def unchanged(engine: Engine) -> Iterator[None]:
    """The engine has the same images under the same names, and nothing more runs there, when the block has ended."""
    before, processes = look(engine), running(engine)
    yield
    wait_until(lambda: running(engine) <= processes, f"what runs on {engine.name} does not end", seconds=15)
    assert look(engine) == before


def asked_with(target: Engine) -> str:
    """The command that the target's engine is asked with: docker's API where there is a curl."""
    if target.kind.program != "docker":
        return target.kind.program
    return target.machine.run("sh", "-c", "command -v curl >/dev/null && echo curl || echo docker").strip()


@contextmanager
def without_ctr(target: Engine) -> Iterator[None]:
    """A docker whose containerd nobody can ask but docker, for a while."""
    target.machine.run("mv", "/usr/bin/ctr", "/usr/bin/ctr-is-away")
    try:
        yield
    finally:
        target.machine.run("mv", "/usr/bin/ctr-is-away", "/usr/bin/ctr")


@dataclass
class Scene:
    """A source and a target. After a push the source looks as it did before, and nothing of ours is on the target."""

    rig: Rig
    layerferry: Layerferry
    source: Engine
    target: Engine
    seed: str
    _stops: list[Registry | Sshd] = field(default_factory=list)

    def close(self) -> None:
        for started in self._stops:
            started.stop()

    def registry(self) -> Registry:
        registry = self.rig.registry()
        self._stops.append(registry)
        return registry

    def sshd(self, *options: str) -> str:
        """Another sshd on the target, with lines of sshd_config; returns its alias."""
        alias = f"{self.target.name}-{hashlib.sha256(self.seed.encode()).hexdigest()[:8]}-{len(self._stops)}"
        sshd = start_sshd(self.target.machine, self.target.client, alias, options=options)
        self._stops.append(sshd)
        return alias

    def layer(self, size: int = 100_000, name: str = "file") -> Layer:
        """A layer of noise that no other test has: a classic store remembers blobs of images that were removed."""
        return self.rig.workshop.layer({name: Noise(size, f"{self.seed} {name}")})

    def load(self, layers: Sequence[Layer | None], name: str = APP, **options: Any) -> None:
        """Put an image on the source; a containerd store takes names in full only."""
        workshop = self.rig.workshop
        full = name if "." in name.partition("/")[0] else f"docker.io/{name}"
        self.source.load(workshop.archive({full: workshop.image(layers, **options)}))

    def base(self, *, size: int = 2_000_000) -> str:
        """A base of two layers that source and target pulled, its layers compressed by another gzip than docker's."""
        shop = self.rig.workshop
        large = Text(size, self.seed) if size < 10_000_000 else Noise(size, self.seed)
        image = shop.image([shop.layer({"usr/large": large}), self.layer(name="usr/small")])
        repository = f"base-{hashlib.sha256(self.seed.encode()).hexdigest()[:12]}"
        name = self.rig.common_registry.push(
            f"{repository}:1", image, compression="gzip-9" if size < 10_000_000 else "gzip-0"
        )
        for engine in (self.source, self.target):
            engine.pull(name)
        return name

    def build(self, base: str, name: str = APP, *, size: int = 10_000, text: str = "") -> None:
        """Build `name` on the source: one new layer on `base`."""
        content = b"".join(Noise(size, f"{self.seed} {name} {text}").chunks())
        self.source.build(name, f"FROM {base}\nCOPY new /new\n", {"new": content})

    def strays(self, before: Mapping[str, str]) -> list[str]:
        """Throw-away names, and images without a name that had not been there under one."""
        images = self.target.images()
        return [
            name
            for name, image in images.items()
            if "layerferry" in name or (name.startswith("<none>") and image not in before.values())
        ]

    def push(self, *arguments: str, to: str | None = None, env: Mapping[str, str] | None = None, code: int = 0) -> Run:
        """`layerferry push ... --to TARGET --json`, and what must hold after any push, whatever came of it."""
        target = ["--to", self.target.ssh_alias if to is None else to] if to != "" else []
        words = ["push", *target, "--json", *arguments]
        processes, images = running(self.target), self.target.images()
        with unchanged(self.source):
            run = self.layerferry(*words, source=self.source, env=env, code=code)
        wait_until(lambda: running(self.target) <= processes, "what runs on the target does not end", seconds=15)
        assert self.strays(images) == []
        assert our_ssh(self.rig) == []
        assert "Traceback" not in run.stderr
        return run

    def shell(self) -> list[str]:
        """A local command that is a `sh` on the target's machine. What our environment says holds here, not there."""
        return self.target.machine.argv("env", "-u", "DOCKER_HOST", "-u", "TMPDIR", "HOME=/root", "sh")


def actions(result: Json) -> list[str]:
    return [layer["action"] for layer in result["layers"]]


def id_of(engine: Engine, name: str) -> str:
    """The image ID under `name`, which podman may show as `docker.io/...` or `localhost/...`."""
    return engine.images()[name]


def saved_layers(archive: bytes) -> list[str]:
    """The diff IDs of a saved image's layers as they really are; fails where a blob is not what its name says."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {}
        for member in tar:
            if member.isreg() or member.issym():
                file = tar.extractfile(member)
                assert file is not None
                files[member.name] = file.read()
    for path, data in files.items():
        if path.startswith("blobs/sha256/"):
            assert digest(data) == f"sha256:{path.rpartition('/')[2]}"
    (listing,) = json.loads(files["manifest.json"])
    return [digest(unpacked(files[path])) for path in listing["Layers"]]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def unpacked(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def assert_complete(target: Engine, name: str, diff_ids: Sequence[str]) -> None:
    """The target shows the image, gives all of it back, and makes a container of it."""
    assert target.diff_ids(name) == list(diff_ids)
    assert saved_layers(target.save(name)) == list(diff_ids)
    target.makes_container(name)


def assert_arrived(scene: Scene, result: Json, name: str = APP) -> None:
    """`--json` tells the target's image ID, which is the source's where both call an image by its config."""
    there = id_of(scene.target, name)
    assert result["image_id"] == there
    assert result["verified"] is True
    assert result["error"] is None
    assert_complete(scene.target, name, scene.source.diff_ids(name))
    if "containerd" not in {scene.target.kind.store, scene.source.kind.store}:
        assert there == id_of(scene.source, name)


# The eyes see.


@pytest.mark.kinds(engine=EACH_STORE)
def test_a_new_name_an_image_a_container_and_a_file_are_seen(engine: Engine, rig: Rig) -> None:
    shop = rig.workshop
    engine.load(shop.archive({f"docker.io/{APP}": shop.image([shop.layer({"a": b"a"})])}))
    seen = [look(engine)]
    for change in (
        ("tag", APP, "push-test/other:2"),
        ("create", APP, "/app"),
    ):
        engine.docker(*change)
        seen.append(look(engine))
    engine.machine.write("/tmp/file-left-behind", "")
    seen.append(look(engine))
    engine.machine.run("rm", "/tmp/file-left-behind")
    assert len({json.dumps(each, sort_keys=True) for each in seen}) == 4
    with pytest.raises(AssertionError), unchanged(engine):
        engine.docker("tag", APP, "localhost/layerferry:00")


@pytest.mark.kinds(engine=NEWEST)
def test_a_process_that_stays_is_seen(engine: Engine) -> None:
    before = running(engine)
    process = engine.machine.spawn("sleep", "60", log="stays.log")
    assert running(engine) - before
    process.send(signal.SIGKILL)
    wait_until(lambda: running(engine) <= before, "it does not end")


@pytest.mark.kinds(engine=("docker28-containerd",))
def test_a_broken_image_is_not_taken_for_a_complete_one(engine: Engine, rig: Rig) -> None:
    """The containerd store loads an archive whose layers are missing, and says that all is well."""
    shop = rig.workshop
    image = shop.image([shop.layer({"a": b"a"}), shop.layer({"b": b"b"})])
    whole, broken = io.BytesIO(shop.archive({APP: image}).read_bytes()), io.BytesIO()
    with tarfile.open(fileobj=whole) as source, tarfile.open(fileobj=broken, mode="w") as out:
        for member in source:
            if image.diff_ids[0].removeprefix("sha256:") not in member.name:
                out.addfile(member, source.extractfile(member))
    engine.docker("load", stdin=broken.getvalue())
    with pytest.raises((AssertionError, RigError, KeyError)):
        assert_complete(engine, APP, image.diff_ids)
