"""The few calls of the engine API that the rig makes, over a unix socket, without a client library."""

import contextlib
import http.client
import io
import json
import socket
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from rig.processes import RigError


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=600, blocksize=1 << 20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Api:
    """An engine's HTTP API. Every call opens a connection of its own, so that none outlives an engine's restart."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def call(
        self, method: str, path: str, body: IO[bytes] | bytes | None = None, *, media_type: str = "application/x-tar"
    ) -> bytes:
        """The answer's body; raises `RigError` with the engine's words on a status of 400 and more."""
        connection = _UnixConnection(self.path)
        try:
            chunked = body is not None and not isinstance(body, bytes)
            headers = {"Content-Type": media_type} if body is not None else {}
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has answered before it read all
                connection.request(method, path, body, headers, encode_chunked=chunked)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise RigError(f"{method} {path}: {response.status} {data.decode(errors='replace').strip()}")
        return data

    def get(self, path: str) -> Any:
        return json.loads(self.call("GET", path))

    def stream(self, path: str, body: IO[bytes] | bytes) -> list[dict[str, Any]]:
        """POST `body` and return the messages that the engine streams back; raises `RigError` when one is an error."""
        messages = [json.loads(line) for line in self.call("POST", path, body).splitlines() if line.strip()]
        for message in messages:
            if "error" in message:
                raise RigError(f"POST {path}: {message['error']}")
        return messages

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            self.call("DELETE", path)

    def load(self, archive: IO[bytes]) -> None:
        self.stream("/images/load?quiet=1", archive)

    def save(self, names: Iterable[str]) -> bytes:
        return self.call("GET", "/images/get?" + urlencode([("names", name) for name in names]))

    def pull(self, name: str) -> None:
        """Pull `name`, a full one with a tag, without a login."""
        repository, _, tag = name.rpartition(":")
        self.stream("/images/create?" + urlencode({"fromImage": repository, "tag": tag}), b"")

    def inspect(self, name: str) -> dict[str, Any]:
        return dict(self.get(f"/images/{name}/json"))

    def create(self, name: str, command: str) -> str:
        """Make a container of an image; returns its ID."""
        wanted = json.dumps({"Image": name, "Cmd": [command]}).encode()
        return str(json.loads(self.call("POST", "/containers/create", wanted, media_type="application/json"))["Id"])

    def build(self, name: str, context: Mapping[str, bytes]) -> None:
        """Build with the classic builder, without network, from the files of `context`."""
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as out:
            for path, data in context.items():
                member = tarfile.TarInfo(path)
                member.size = len(data)
                out.addfile(member, io.BytesIO(data))
        self.stream("/build?" + urlencode({"t": name, "networkmode": "none", "q": "1", "rm": "1"}), tar.getvalue())

    def pings(self) -> bool:
        try:
            return self.call("GET", "/_ping") == b"OK"
        except (OSError, http.client.HTTPException, RigError):
            return False
