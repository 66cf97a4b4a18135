"""A registry: Debian's docker-registry on a port of this machine, with or without a password."""

import base64
import http.client
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from rig import tls
from rig.images import Compression, Image
from rig.machine import Machine
from rig.processes import Ledger, Process, RigError, stop, wait_until
from rig.ssh import answers, free_port

#: The addresses of a hidden registry that has a name, and of its mirror, in the network of their machine.
_HIDDEN, _MIRROR = "10.99.0.1", "10.99.0.2"


@dataclass(slots=True)
class Registry:
    """A registry that runs. `user` and `password` are empty where it asks for none."""

    state: Path
    port: int
    user: str
    password: str
    process: Process
    host: str = "127.0.0.1"

    @property
    def address(self) -> str:
        """What goes before the first slash of an image name."""
        return f"{self.host}:{self.port}"

    @property
    def log(self) -> str:
        return (self.state / "log").read_text(errors="replace")

    @property
    def repositories(self) -> list[str]:
        return list(json.loads(self._call("GET", "/v2/_catalog")[1])["repositories"] or [])

    def push(self, name: str, image: Image, *, compression: Compression = "gzip-9") -> str:
        """Store `image` as `name` (`base:1`), its layers compressed by zlib, not by docker; returns its full name."""
        repository, _, tag = name.partition(":")
        manifest, blobs = image.blobs(compression)
        for blob in {blob.digest: blob for blob in blobs}.values():
            location, _ = self._call("POST", f"/v2/{repository}/blobs/uploads/")
            joint = "&" if "?" in location else "?"
            with blob.open() as file:
                self._call("PUT", f"{location}{joint}digest={blob.digest}", file, length=blob.size)
        self._call(
            "PUT", f"/v2/{repository}/manifests/{tag or 'latest'}", manifest.data, media_type=manifest.media_type
        )
        return f"{self.address}/{name}"

    def get(self, path: str) -> bytes:
        """The body of an answer; a manifest's as an OCI manifest."""
        return self._call("GET", path, media_type="", accept="application/vnd.oci.image.manifest.v1+json")[1]

    def _call(
        self,
        method: str,
        path: str,
        body: IO[bytes] | bytes | None = None,
        *,
        length: int | None = None,
        media_type: str = "application/octet-stream",
        accept: str = "*/*",
    ) -> tuple[str, bytes]:
        """The answer's Location, as a path, and its body; raises `RigError` on a status of 400 and more."""
        headers = {"Content-Type": media_type, "Accept": accept}
        if length is not None:
            headers["Content-Length"] = str(length)
        if self.user:
            login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            headers["Authorization"] = f"Basic {login}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise RigError(f"{method} {path}: {response.status} {data.decode(errors='replace')}")
        location = urlsplit(response.headers.get("Location", ""))
        return f"{location.path}?{location.query}" if location.query else location.path, data

    def stop(self) -> None:
        stop([self.process])

    def start(self, ledger: Ledger) -> None:
        """Serve again, what was killed, at the same port."""
        self.process = ledger.start(["docker-registry", "serve", self.state / "config.yml"], log=self.state / "log")
        _wait(self.process, self.port)


def start_hidden_registry(
    state: Path,
    ledger: Ledger,
    machine: Machine,
    host: str,
    *,
    user: str = "",
    password: str = "",
    encrypted: bool = False,
    mirrored: Registry | None = None,
) -> Registry:
    """Start one in the network of `machine`, where it alone reaches it: on its loopback, or by a name that it knows.

    With `encrypted` it has a certificate for `host`, of the authority in `state`/tls/ca.pem. With `mirrored` it is a
    pull-through mirror of that one, whose authority it trusts; it knows it by its address, being on no machine.
    """
    state.mkdir(parents=True)
    inside = ["nsenter", "--target", str(machine.init.pid), "--net", "--"]
    address = "127.0.0.1"
    if host != "localhost":
        address = _MIRROR if mirrored else _HIDDEN
        subprocess.run([*inside, "ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True)
        hosts = machine.path("/etc/hosts").read_text()
        machine.write("/etc/hosts", f"{hosts}{address} {host}\n")
    port = 5443 if encrypted else 5000
    config = _config(state, f"{address}:{port}", user, password)
    if encrypted:
        tls.create(state / "tls", address, host)
        config["http"]["tls"] = {
            "certificate": str(state / "tls/server-cert.pem"),
            "key": str(state / "tls/server-key.pem"),
        }
    trusted = None
    if mirrored:
        config["proxy"] = {"remoteurl": f"https://{_HIDDEN}:{mirrored.port}"}
        trusted = {**os.environ, "SSL_CERT_FILE": str(mirrored.state / "tls/ca.pem")}
    (state / "config.yml").write_text(json.dumps(config))
    process = ledger.start([*inside, "docker-registry", "serve", state / "config.yml"], log=state / "log", env=trusted)
    wait_until(lambda: "listening on" in (state / "log").read_text(), f"the registry does not listen: see {state}/log")
    return Registry(state, port, user, password, process, host)


def _config(state: Path, address: str, user: str, password: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(state / "data")}, "delete": {"enabled": True}},
        "http": {"addr": address, "relativeurls": True},
    }
    if user:
        (state / "htpasswd").write_text(f"{user}:{_bcrypt(password)}\n")
        config["auth"] = {"htpasswd": {"realm": "rig", "path": str(state / "htpasswd")}}
    return config


def start_registry(state: Path, ledger: Ledger, *, user: str = "", password: str = "") -> Registry:
    """Start an empty registry whose files lie in `state`; with `user`, only for who knows `password`."""
    state.mkdir(parents=True)
    for _ in range(5):
        port = free_port()
        (state / "config.yml").write_text(
            json.dumps(_config(state, f"127.0.0.1:{port}", user, password))
        )  # JSON is YAML
        process = ledger.start(["docker-registry", "serve", state / "config.yml"], log=state / "log")
        _wait(process, port)
        if process.alive:
            return Registry(state, port, user, password, process)
    raise RigError(f"the registry did not start: see {state}/log")


def _wait(process: Process, port: int) -> None:
    wait_until(lambda: answers("127.0.0.1", port) or not process.alive, "the registry does not answer")


def _bcrypt(password: str) -> str:
    """The only hash that the registry takes; perl, which every Debian has, reaches the C library's crypt()."""
    program = "chomp(my $p = <STDIN>); print crypt($p, q($2b$05$) . q(riglayerferryriglayerfu))"
    return subprocess.run(["perl", "-e", program], input=password, capture_output=True, text=True, check=True).stdout
