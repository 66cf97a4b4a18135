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

from layerferry.process_socket import Piped, last_line
from layerferry.registry_client.connections import Bounded, BoundedTls, pools


def command(url: str) -> list[str]:
    """The command line for an ssh:// address; raises `ValueError` on one without a host or with an odd one."""
    parts = urlsplit(url)
    host, user = parts.hostname or "", parts.username or ""
    if not host or host.startswith("-") or user.startswith("-"):
        raise ValueError("it names no host")
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


class BoundedAdapter(HTTPAdapter):
    """Sends requests as they are sent otherwise, through connections whose answers are bounded."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = pools(Bounded, BoundedTls)

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        if not str(proxy).lower().startswith("socks"):  # those have connections of their own
            manager.pool_classes_by_scheme = pools(Bounded, BoundedTls)
        return manager


class _UnixConnection(Bounded):
    def __init__(self, path: str, **options: Any) -> None:
        super().__init__("localhost", **options)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _SshConnection(Bounded):
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
        piped, self._piped = self._piped, None
        if piped is not None:
            self._last = last_line(piped.end())


def _connection(url: str) -> Callable[..., Bounded]:
    """What makes a connection to `url`; raises `ValueError` on one that leads nowhere."""
    if url.startswith("ssh://"):
        argv = command(url)
        return lambda **options: _SshConnection(argv, **options)
    path = url.removeprefix("unix://")
    return lambda **options: _UnixConnection(path, **options)


class _Pool(urllib3.HTTPConnectionPool):
    def __init__(self, connect: Callable[..., Bounded]) -> None:
        super().__init__("localhost")
        self._connect = connect
        self._made: list[Bounded] = []

    def _new_conn(self) -> Bounded:
        self._made.append(self._connect(timeout=self.timeout.connect_timeout))
        return self._made[-1]

    def close(self) -> None:
        """End every process, that of an answer which nobody has read to its end too: urllib3 knows only idle ones."""
        super().close()
        while self._made:
            self._made.pop().close()
