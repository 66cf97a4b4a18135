"""Hosts with containerd alone: `ctr`, and a node of Kubernetes as k3s makes one, whose part is played."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from rig.engine import Engine
from rig.images import Workshop
from rig.processes import RigError, stop, wait_until

_NO_CRI = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"]\n'
_FOREIGN = ("/usr/bin/docker", "/usr/sbin/dockerd", "/usr/bin/podman")
#: `k3s ctr` is ctr with another socket and another namespace to begin with (k3s, pkg/ctr/main.go).
_K3S = """\
#!/bin/sh
[ "$1" = ctr ] || exit 1
shift
export CONTAINERD_ADDRESS="${CONTAINERD_ADDRESS:-/run/k3s/containerd/containerd.sock}"
export CONTAINERD_NAMESPACE="${CONTAINERD_NAMESPACE:-k8s.io}"
exec /usr/local/lib/k3s-ctr "$@"
"""


class Containerd(Engine):
    """containerd without docker. With k3s, Kubernetes' own plugin (CRI) watches the images, as on a node."""

    @property
    def _k3s(self) -> bool:
        return self.kind.program == "k3s"

    @property
    def namespace(self) -> str:
        return "k8s.io" if self._k3s else "default"

    @property
    def host(self) -> str:
        raise RigError(f"{self.name} has no docker API")

    def start(self) -> None:
        """Start containerd and wait until it answers; raises `RigError` when its version is not its kind's."""
        machine = self.machine
        if self._k3s and machine.path("/usr/bin/ctr").exists():
            machine.run("mkdir", "-p", "/usr/local/lib", "/run/k3s/containerd")
            machine.run("mv", "/usr/bin/ctr", "/usr/local/lib/k3s-ctr")
            machine.write("/usr/local/bin/k3s", _K3S, mode=0o755)
        machine.hide(*_FOREIGN)
        socket = "/run/k3s/containerd/containerd.sock" if self._k3s else "/run/containerd/containerd.sock"
        machine.write("/run/rig/containerd.toml", "version = 2\n" if self._k3s else _NO_CRI)
        process = machine.spawn(
            "containerd", "--config", "/run/rig/containerd.toml", "--address", socket, log="containerd.log"
        )
        self._daemons = [process]
        wait_until(lambda: self._answers() or not process.alive, f"{self.name} does not answer")
        self._check_version(self._server().removeprefix("v"))

    def _server(self) -> str:
        told = self.ctr("version").partition("Server:")[2].split()
        return told[told.index("Version:") + 1]

    def _answers(self) -> bool:
        try:
            return bool(self._server())
        except (RigError, ValueError):
            return False

    def ctr(self, *arguments: str, stdin: bytes | IO[bytes] | None = None) -> str:
        """What `ctr` prints in the namespace that pushes go to."""
        return self.machine.run(*self._words, *arguments, stdin=stdin)

    @property
    def _words(self) -> tuple[str, ...]:
        return (*(("k3s", "ctr") if self._k3s else ("ctr",)), "--namespace", self.namespace)

    def docker(self, *arguments: str, stdin: bytes | IO[bytes] | None = None) -> str:
        raise RigError(f"{self.name} knows no docker {arguments[0]}")

    def pull(self, name: str) -> None:
        self.ctr("images", "pull", "--plain-http", name)

    def load(self, archive: Path) -> None:
        with archive.open("rb") as file:
            self.ctr("images", "import", "-", stdin=file)

    def save(self, *names: str) -> bytes:
        full = [row["name"] for row in self.rows() if row["name"].removeprefix("docker.io/") in names]
        local = ["--local"] if self.kind.version == "2." else []  # else 2.1 ends before all of it is written
        return self.machine.run_bytes(*self._words, "images", "export", *local, "-", *full)

    def inspect(self, name: str) -> dict[str, Any]:
        """Its config, in the shape that docker gives it."""
        manifest = json.loads(self.ctr("content", "get", self.images()[name]))
        config = json.loads(self.ctr("content", "get", manifest["config"]["digest"]))
        return {"Config": config["config"], "RootFS": {"Layers": config["rootfs"]["diff_ids"]}}

    def makes_container(self, name: str) -> None:
        self.ctr("containers", "create", f"docker.io/{name}", "trial", "/app")
        self.ctr("containers", "rm", "trial")

    def rows(self) -> list[dict[str, str]]:
        """Every image: name, digest, and the labels that it has."""
        lines = [line.split() for line in self.ctr("images", "ls").splitlines()[1:]]
        return [{"name": words[0], "digest": words[2], "labels": words[-1]} for words in lines]

    def images(self) -> dict[str, str]:
        """Every name with its image ID; Kubernetes' own second names, `sha256:...`, too."""
        return {
            row["name"].removeprefix("docker.io/library/").removeprefix("docker.io/"): row["digest"]
            for row in self.rows()
        }

    @property
    def leases(self) -> list[str]:
        return self.ctr("leases", "ls", "-q").split()

    def build(self, name: str, dockerfile: str, files: Mapping[str, bytes] | None = None) -> str:
        raise RigError(f"{self.name} builds nothing")

    def crowd(self, workshop: Workshop, count: int = 2000) -> None:
        self.load(workshop.archive(workshop.crowd(count)))

    def clear(self) -> None:
        if names := [row["name"] for row in self.rows()]:
            self.ctr("images", "rm", "--sync", *names)

    def reset(self) -> None:
        stop(self._daemons)
        self.machine.run("find", "/var/lib/containerd", "-mindepth", "1", "-delete")
        self.start()
