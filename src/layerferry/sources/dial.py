"""A docker daemon behind ssh: HTTP through `docker system dial-stdio`, as docker's own client reaches it.

The SDK's transport for this wants paramiko even where it does not use it, knows no timeout, and splits hosts on `:`.
"""

import http.client
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

_PATIENCE = 5


def command(url: str) -> list[str]:
    """The command line for an ssh:// address; raises `ValueError` on one without a host or with an odd one."""
    parts = urlsplit(url)
    host, user = parts.hostname or "", parts.username or ""
    if not host or host.startswith("-") or user.startswith("-"):
        raise ValueError(f"{url} names no host")
    port = ["-p", str(parts.port)] if parts.port else []
    return ["ssh", *(["-l", user] if user else []), *port, "--", host, "docker system dial-stdio"]


class DialAdapter(HTTPAdapter):
    """Sends every request through ssh to the daemon at `url`, whatever host the request names."""

    def __init__(self, url: str) -> None:
        self._pool = _Pool(command(url))
        super().__init__()

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> urllib3.HTTPConnectionPool:
        return self._pool

    def request_url(self, request: requests.PreparedRequest, proxies: Mapping[str, str] | None) -> str:
        """The path alone: a proxy of the environment is for other hosts."""
        del proxies
        return request.path_url

    def close(self) -> None:
        self._pool.close()
        super().close()


class _Connection(urllib3.connection.HTTPConnection):
    """One ssh process, whose stdin and stdout are a socket, so that timeouts are as on any other."""

    def __init__(self, argv: Sequence[str], **options: Any) -> None:
        super().__init__("localhost", **options)
        self._argv = argv
        self._process: subprocess.Popen[bytes] | None = None
        self._words: IO[bytes] | None = None
        self._last = ""

    def connect(self) -> None:
        ours, theirs = socket.socketpair()
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe would have to be read
        with theirs:
            self._process = subprocess.Popen(
                self._argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=self._words
            )
        if isinstance(self.timeout, int | float):
            ours.settimeout(self.timeout)
        self.sock = ours

    def getresponse(self) -> urllib3.response.HTTPResponse:  # type: ignore[override]
        try:
            return super().getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            self.close()
            raise ConnectionError(self._last or "ssh ended without a word") from None

    def close(self) -> None:
        super().close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._words is not None:
            with self._words as words:
                words.seek(0)
                lines = words.read().decode(errors="replace").splitlines()
            self._last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            self._words = None


class _Pool(urllib3.HTTPConnectionPool):
    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__("localhost")
        self._argv = argv

    def _new_conn(self) -> _Connection:
        return _Connection(self._argv, timeout=self.timeout.connect_timeout)
