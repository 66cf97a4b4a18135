"""HTTP and HTTPS through a relay: each connection is a process, such as `ssh -W HOST:PORT BASTION`.

Its stdin and stdout carry what a TCP connection would carry: TLS ends at the server, whose own name is checked.
"""

import http.client
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import requests
import urllib3
from requests.adapters import HTTPAdapter

from layerferry.errors import LayerferryError
from layerferry.process_socket import Piped
from layerferry.registry_client.connections import Bounded, BoundedTls, pools

#: Seconds that a process has to end once its connection has.
_PATIENCE = 2.0
#: What a connection raises when the other end has gone.
_GONE = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError, http.client.BadStatusLine)


class Relay(Protocol):
    """A way to addresses that are not reached from here."""

    def command(self, host: str, port: int) -> Sequence[str]:
        """The command line whose stdin and stdout are a connection. Raises `LayerferryError` where there is no way."""

    def failure(self, host: str, port: int, said: str) -> LayerferryError:
        """The error for a connection that was not made, from the command's stderr."""


class RelayAdapter(HTTPAdapter):
    """An adapter whose connections all go through `relay`, and none through a proxy of the environment."""

    def __init__(self, relay: Relay, context: ssl.SSLContext) -> None:
        self._relay = relay
        self._context = context
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)
        self.poolmanager.pool_classes_by_scheme = _pools(self._relay)

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        del proxies
        return super().get_connection_with_tls_context(request, verify, None, cert)

    def request_url(self, request: requests.PreparedRequest, proxies: Mapping[str, str] | None) -> str:
        del proxies
        return request.path_url


class _Relayed(Bounded):
    """A connection that is a process. Where that ends before a response, there was no connection: no other is tried."""

    relay: Relay
    _piped: Piped | None = None
    _answered = False

    def _new_conn(self) -> socket.socket:
        self._answered = False
        self._piped = Piped(self.relay.command(self.host, self.port or self.default_port), self.timeout)
        return self._piped.socket

    def connect(self) -> None:
        try:
            super().connect()
        except _GONE:
            self._tell()
            raise

    def getresponse(self) -> urllib3.response.HTTPResponse:  # type: ignore[override]
        try:
            response = super().getresponse()
        except _GONE:
            self._tell()
            raise
        self._answered = True
        return response

    def _tell(self) -> None:
        if self._answered or self._piped is None or not self._piped.failed(_PATIENCE):
            return
        said, self._piped = self._piped.end(), None
        raise self.relay.failure(self.host, self.port or self.default_port, said) from None

    def close(self) -> None:
        super().close()
        if self._piped is not None:
            self._piped.end()
            self._piped = None


def _pools(through: Relay) -> dict[str, Any]:
    """The pools of urllib3, whose connections go through a relay."""

    class Plain(_Relayed):
        relay = through

    class Encrypted(_Relayed, BoundedTls):
        relay = through

    return pools(Plain, Encrypted)
