"""Engines: docker and podman of several ages, each on a machine of its own, with an sshd beside it."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from rig import tls
from rig.api import Api
from rig.crowd import import_into_containerd, write_into_podman
from rig.images import Workshop
from rig.kinds import Kind
from rig.machine import Machine
from rig.processes import Process, RigError, stop, wait_until
from rig.ssh import SshClient, Sshd, free_port, start_sshd

_CONTAINERD_CONFIG = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'

#: What an ordinary host with one engine does not have, though the suite does.
_FOREIGN = {
    "docker": ("/usr/bin/podman",),
    # `podman info` asks dpkg-query for packages, which reads all that is installed each time: 0.1 s of CPU.
    "podman": ("/usr/bin/docker", "/usr/sbin/dockerd", "/usr/bin/containerd", "/usr/bin/ctr", "/usr/bin/dpkg-query"),
}
#: Where podman keeps its lists (containers/storage): they say at once what its command takes 50 ms of CPU for.
_PODMAN_LISTS = (
    "/var/lib/containers/storage/overlay-{0}/{0}.json",
    "/var/lib/containers/storage/overlay-{0}/volatile-{0}.json",
)

Listen = Literal["unix", "tcp", "tls"]


@dataclass(slots=True)
class Engine:
    """An engine that runs. `env` is what a client needs to use it over tcp, beyond its unix socket `host`."""

    name: str
    kind: Kind
    machine: Machine
    client: SshClient
    listen: Listen = "unix"
    env: dict[str, str] = field(default_factory=dict)
    sshd: Sshd | None = None
    _daemons: list[Process] = field(default_factory=list)
    _crowded: bool = False

    @property
    def ssh_alias(self) -> str:
        """Its name in the rig's ssh configuration: log in as root, with bash, as on any host."""
        if self.sshd is None:
            raise RigError(f"{self.name} was started without an sshd")
        return self.sshd.alias

    @property
    def host(self) -> str:
        """Its DOCKER_HOST, as seen from outside of its machine. Podman's service starts with the first question."""
        if self.kind.program == "docker":
            return f"unix://{self._socket}"
        if not self._daemons:
            self.machine.path("/run/podman").mkdir(exist_ok=True)
            service = ("podman", "system", "service", "--time=0", "unix:///run/podman/podman.sock")
            self._daemons.append(self.machine.spawn(*service, log="podman.log"))
            wait_until(Api(self._socket).pings, f"{self.name}'s API does not answer")
        return f"unix://{self._socket}"

    @property
    def _socket(self) -> Path:
        return self.machine.state / ("run/docker.sock" if self.kind.program == "docker" else "run/podman/podman.sock")

    @property
    def daemons(self) -> Sequence[Process]:
        """Its processes, by what is written down of them: dockerd and its containerd, or what it has."""
        return tuple(self._daemons)

    @property
    def api(self) -> Api:
        return Api(Path(self.host.removeprefix("unix://")))

    def start(self) -> None:
        """Start its daemons and wait until it answers; raises `RigError` when its version is not its kind's."""
        self.machine.hide(*_FOREIGN[self.kind.program])
        if self.kind.program == "podman":
            self._check_version(self.docker("version", "--format", "{{.Client.Version}}"))
            return
        run = self.machine.run_folder
        (run / "containerd.toml").write_text(_CONTAINERD_CONFIG)
        features = {"containerd-snapshotter": True} if self.kind.store == "containerd" else {}
        (run / "daemon.json").write_text(json.dumps({"features": features}))
        containerd = self.machine.spawn("containerd", "--config", "/run/rig/containerd.toml", log="containerd.log")
        containerd_socket = self.machine.state / "run/containerd/containerd.sock"
        wait_until(lambda: containerd_socket.exists() or not containerd.alive, f"{self.name}'s containerd is not up")
        dockerd = self.machine.spawn(
            *("dockerd", "--config-file", "/run/rig/daemon.json", "--containerd", "/run/containerd/containerd.sock"),
            *("--bridge=none", "--iptables=false", "--shutdown-timeout=3", "--host", "unix:///run/docker.sock"),
            f"--cgroup-parent=/{self.machine.cgroup}",
            *self._tcp_options(),
            log="dockerd.log",
        )
        self._daemons = [dockerd, containerd]
        wait_until(lambda: self.api.pings() or not dockerd.alive, f"{self.name} does not answer")
        if not dockerd.alive:
            raise RigError(f"{self.name} did not start, see {run}/dockerd.log")
        self._check_version(self.api.get("/version")["Version"])

    def _tcp_options(self) -> list[str]:
        if self.listen == "unix":
            return []
        address, folder = self.machine.address, self.machine.run_folder / "tls"
        url = self.env.get("DOCKER_HOST") or f"tcp://{address}:{free_port() if address == '127.0.0.1' else 2375}"
        self.env["DOCKER_HOST"] = url
        if self.listen == "tcp":
            return ["--host", url, "--tls=false"]
        if not folder.exists():
            tls.create(folder, address)
        self.env |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(folder)}
        files = {"tlscacert": "ca", "tlscert": "server-cert", "tlskey": "server-key"}
        return ["--host", url, "--tlsverify", *(f"--{key}=/run/rig/tls/{name}.pem" for key, name in files.items())]

    def _check_version(self, version: str) -> None:
        if not version.startswith(self.kind.version):
            raise RigError(
                f"Debian {self.kind.suite} now ships {self.kind.program} {version}, not {self.kind.version}x: "
                "mend the table in tests/rig/kinds.py"
            )

    def open_ssh(self, *, options: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        """Start its sshd, under its own name."""
        self.sshd = start_sshd(self.machine, self.client, self.name, options=options, environment=environment)

    def docker(self, *arguments: str, stdin: bytes | IO[bytes] | None = None) -> str:
        """What its own client prints, run on its machine. For podman that client is `podman`.

        Docker's takes 40 ms of CPU to start, so that the rig's own questions go to its API.
        """
        return self.machine.run(self.kind.program, *arguments, stdin=stdin, env={"DOCKER_BUILDKIT": "0"})

    def pull(self, name: str) -> None:
        """Pull out of a registry without TLS."""
        if self.kind.program == "docker":
            self.api.pull(name)
        else:
            self.docker("pull", "--quiet", "--tls-verify=false", name)

    def makes_container(self, name: str) -> None:
        """Make a container of an image, and remove it; raises `RigError` where the image is not whole."""
        if self.kind.program == "docker":
            self.api.delete([f"/containers/{self.api.create(name, '/app')}"])
        else:
            self.docker("rm", self.docker("create", name, "/app"))

    def save(self, *names: str) -> bytes:
        """The archive that `docker save` writes."""
        if self.kind.program == "docker":
            return self.api.save(names)
        return self.machine.run_bytes(self.kind.program, "save", *names)

    def load(self, archive: Path) -> None:
        """Load an archive that lies on this side."""
        with archive.open("rb") as file:
            if self.kind.program == "docker":
                self.api.load(file)
            else:
                self.docker("load", stdin=file)

    def inspect(self, name: str) -> dict[str, Any]:
        """What `docker image inspect` says of one image."""
        if self.kind.program == "docker":
            return self.api.inspect(name)
        (found,) = json.loads(self.docker("image", "inspect", name))
        return dict(found)

    def diff_ids(self, name: str) -> list[str]:
        """The diff IDs of one image, bottom first, as the engine shows them."""
        return list(self.inspect(name)["RootFS"].get("Layers") or [])

    def has(self, name: str) -> bool:
        return any(name in {known, known.removesuffix(":latest")} for known in self.images())

    def images(self) -> dict[str, str]:
        """A snapshot: every name with its image ID, `<none>@ID` for an image without a name."""
        found = {}
        for row in self._image_rows():
            identity = str(row["Id"])
            identity = identity if identity.startswith("sha256:") else f"sha256:{identity}"
            names = [name for name in row.get("RepoTags") or row.get("Names") or [] if name != "<none>:<none>"]
            for name in names or [f"<none>@{identity}"]:
                found[name.removeprefix("docker.io/library/").removeprefix("docker.io/")] = identity
        return found

    def _image_rows(self) -> list[dict[str, Any]]:
        if self.kind.program == "docker":
            return list(self.api.get("/images/json"))
        rows = self.podman_rows("images")
        if all(row.get("names") for row in rows):
            return [{"Id": row["id"], "Names": row["names"]} for row in rows]
        return list(json.loads(self.docker("images", "--format", "json")))  # which hides a build's own steps

    def podman_rows(self, what: Literal["images", "containers"]) -> list[dict[str, Any]]:
        """All that podman's store has of `images` or `containers`, those of a build too, as its lists on disk tell."""
        files = [self.machine.path(place.format(what)) for place in _PODMAN_LISTS]
        return [row for file in files if file.exists() for row in json.loads(file.read_bytes())]

    def build(self, name: str, dockerfile: str, files: Mapping[str, bytes] | None = None) -> str:
        """Build on the engine itself, without network; returns the image ID. `files` are the context."""
        if self.kind.program == "docker":
            self.api.build(name, {"Dockerfile": dockerfile.encode(), **(files or {})})
            return str(self.inspect(name)["Id"])
        context = f"/tmp/context-{len(list(self.machine.path('/tmp').iterdir()))}"
        try:
            self.machine.write(f"{context}/Dockerfile", dockerfile)
            for path, content in (files or {}).items():
                outside = self.machine.path(f"{context}/{path}")
                outside.parent.mkdir(parents=True, exist_ok=True)
                outside.write_bytes(content)
            self.docker("build", "--quiet", "--network", "none", "--tag", name, context)
        finally:
            self.machine.run("rm", "-rf", context)
        return str(self.inspect(name)["Id"])

    def crowd(self, workshop: Workshop, count: int = 2000) -> None:
        """Put `count` small images on it: 10 s with overlay2, 20 s with containerd's store, 1 s with podman."""
        self._crowded = True
        if self.kind.store == "containerd":
            import_into_containerd(self.machine, workshop, workshop.crowd(count))
        elif self.kind.store == "podman":
            self.load(workshop.archive(workshop.crowd(1)))
            write_into_podman(self.machine, workshop, count)
        else:
            self.load(workshop.archive(workshop.crowd(count)))

    def clear(self) -> None:
        """Remove every container and image; nothing of them stays in the store. Raises `RigError` where it has died."""
        if not all(daemon.alive for daemon in self._daemons):
            last = (self.machine.run_folder / "dockerd.log").read_text(errors="replace")[-20_000:]
            self.reset()  # others want it too
            raise RigError(f"{self.name} has died. It said last:\n{last}")
        if self._crowded:
            self.reset()
        elif self.kind.program == "podman":
            if self.podman_rows("containers"):
                self.docker("rm", "--all", "--force")
            if self.podman_rows("images"):
                self.docker("rmi", "--all", "--force")
        else:
            self._clear_docker()

    def _clear_docker(self) -> None:
        api = self.api
        api.delete(f"/containers/{row['Id']}?force=1&v=1" for row in api.get("/containers/json?all=1"))
        for _ in range(3):
            rows = self._image_rows()
            if not rows:
                return
            for row in rows:  # one that has children goes after them, in the next round
                with contextlib.suppress(RigError):
                    api.call("DELETE", f"/images/{row['Id']}?force=1")
        self.reset()

    def reset(self) -> None:
        """Stop the engine, empty its stores and start it again: about a second, whatever there was."""
        stop(self._daemons)
        self._daemons, self._crowded = [], False
        for store in ("docker", "containerd", "containers"):
            self.machine.run("find", f"/var/lib/{store}", "-mindepth", "1", "-delete")
        self.machine.run("rm", "-rf", "/run/containers", "/run/libpod")
        self.start()

    def stop(self) -> None:
        """Stop the engine, as on a host whose daemon died; its machine and sshd stay."""
        stop(self._daemons)
        self._daemons = []
