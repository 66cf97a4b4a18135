"""The few calls of the engine API that the rig makes, over a unix socket, without a client library."""

import http.client
import json
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from rig.processes import RigError


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=600)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Api:
    """An engine's HTTP API. Every call opens a connection of its own, so that none outlives an engine's restart."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def call(self, method: str, path: str, body: IO[bytes] | bytes | None = None) -> bytes:
        """The answer's body; raises `RigError` with the engine's words on a status of 400 and more."""
        connection = _UnixConnection(self.path)
        try:
            chunked = body is not None and not isinstance(body, bytes)
            headers = {"Content-Type": "application/x-tar"} if body is not None else {}
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

    def pings(self) -> bool:
        try:
            return self.call("GET", "/_ping") == b"OK"
        except (OSError, http.client.HTTPException, RigError):
            return False
