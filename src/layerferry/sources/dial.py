"""HTTP to a docker daemon at a unix socket, or behind ssh: `docker system dial-stdio`, as docker's own client does.

The SDK's transport for ssh wants paramiko even where it does not use it, knows no timeout, and splits hosts on `:`;
neither of its transports bounds an answer.
"""

import http.client
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from layerferry.sources.answers import Answer
from layerferry.sources.piped import Piped, last_line


def command(url: str) -> list[str]:
    """The command line for an ssh:// address; raises `ValueError` on one without a host or with an odd one."""
    parts = urlsplit(url)
    host, user = parts.hostname or "", parts.username or ""
    if not host or host.startswith("-") or user.startswith("-"):
        raise ValueError(f"{url} names no host")
    port = ["-p", str(parts.port)] if parts.port else []
    return ["ssh", *(["-l", user] if user else []), *port, "--", host, "docker system dial-stdio"]


class DialAdapter(HTTPAdapter):
    """Sends every request to the daemon at `url`, unix:// or ssh://, whatever host the request names."""

    def __init__(self, url: str) -> None:
        self._pool = _Pool(_connection(url))
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
    response_class = Answer


class _UnixConnection(_Connection):
    def __init__(self, path: str, **options: Any) -> None:
        super().__init__("localhost", **options)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _SshConnection(_Connection):
    """One ssh process."""

    def __init__(self, argv: Sequence[str], **options: Any) -> None:
        super().__init__("localhost", **options)
        self._argv = argv
        self._piped: Piped | None = None
        self._last = ""

    def connect(self) -> None:
        self._piped = Piped(self._argv, self.timeout)
        self.sock = self._piped.socket

    def getresponse(self) -> urllib3.response.HTTPResponse:  # type: ignore[override]
        try:
            return super().getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            self.close()
            raise ConnectionError(self._last or "ssh ended without a word") from None

    def close(self) -> None:
        super().close()
        if self._piped is not None:
            self._last = last_line(self._piped.end())
            self._piped = None


def _connection(url: str) -> Callable[..., _Connection]:
    """What makes a connection to `url`; raises `ValueError` on one that leads nowhere."""
    if url.startswith("ssh://"):
        argv = command(url)
        return lambda **options: _SshConnection(argv, **options)
    path = url.removeprefix("unix://")
    return lambda **options: _UnixConnection(path, **options)


class _Pool(urllib3.HTTPConnectionPool):
    def __init__(self, connect: Callable[..., _Connection]) -> None:
        super().__init__("localhost")
        self._connect = connect

    def _new_conn(self) -> _Connection:
        return self._connect(timeout=self.timeout.connect_timeout)
