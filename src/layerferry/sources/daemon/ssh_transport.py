"""HTTP to a docker daemon: at a unix socket, over TCP, or behind ssh with `docker system dial-stdio`, as docker has it.

The SDK's transport for ssh wants paramiko even where it does not use it, knows no timeout, and splits hosts on `:`;
none of its transports bounds an answer.
"""

import http.client
import shlex
import socket
import ssl
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from layerferry.ci.daemon_address import DaemonTls, SshAddress
from layerferry.errors import SourceError
from layerferry.process_socket import Piped, last_line
from layerferry.registry_client.connections import Bounded, BoundedTls, pools
from layerferry.targets.address import Ssh
from layerferry.targets.ssh_settings import needed
from layerferry.targets.ssh_target import SshTarget
from layerferry.targets.ssh_way import beside_own, own_of, way


def ssh_target(url: str) -> SshTarget:
    """The host of an ssh:// address, as any other host that ssh connects to."""
    address = SshAddress.parse(url)
    return SshTarget(f"{address.user}@{address.host}" if address.user else address.host, address.port)


def command(url: str, ssh: Ssh) -> list[str]:
    """The command line for an ssh:// address, with the options, key and known hosts of every other ssh of ours."""
    address = SshAddress.parse(url)
    login = ["-l", address.user] if address.user else []
    to = way(SshTarget(address.host, address.port), **ssh.arguments, login=login)
    socket = [f"--host=unix://{address.socket}"] if address.socket else []
    return [*to.words, *needed(to.told), "--", address.host, shlex.join(["docker", *socket, "system", "dial-stdio"])]


def with_own_hosts(url: str, ssh: Ssh) -> Ssh:
    """How to call ssh for a daemon's host: key and known hosts of this job's go before the user's, and replace none.

    For a target they are all there is; but docker's client reaches its daemon's host by the user's, and so do we.
    """
    if not ssh.material:
        return ssh
    return replace(ssh, material=beside_own(ssh.material, own_of(ssh_target(url), ssh.config)))


class Sockets:
    """The sockets of an adapter's connections. To close one wakes nobody who waits for it in another thread."""

    def __init__(self) -> None:
        self._open = weakref.WeakSet[socket.socket]()
        self._ended = False

    def add(self, sock: socket.socket) -> None:
        """Take a connected socket in."""
        self._open.add(sock)
        if self._ended:
            self.shut_down()

    def shut_down(self, *, for_good: bool = False) -> None:
        """End what goes on over them: who waits for it hears of that. `for_good`: over later ones, too."""
        self._ended = self._ended or for_good
        for sock in list(self._open):
            with suppress(OSError):  # it has been closed
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # a TLS socket's own would take its state away


class DialAdapter(HTTPAdapter):
    """Sends every request to the daemon at `url`, unix:// or ssh://, whatever host the request names.

    `words`, where there are any, are the command line whose stdin and stdout lead there.
    """

    def __init__(self, url: str, ssh: Ssh, words: Sequence[str] = ()) -> None:
        self.sockets = Sockets()
        self._pool = _Pool(_connection(url, ssh, words, self.sockets))
        super().__init__()

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> urllib3.HTTPConnectionPool:
        return self._pool

    def request_url(self, request: requests.PreparedRequest, proxies: Mapping[str, str] | None) -> str:
        """The path alone: no proxy stands between."""
        del proxies
        return request.path_url

    def close(self) -> None:
        self.sockets.shut_down()  # what another thread reads from cannot be closed
        self._pool.close()
        super().close()


class TcpAdapter(HTTPAdapter):
    """Sends requests over TCP, with TLS where it is asked for. Raises `SourceError` on a certificate that is none."""

    def __init__(self, tls: DaemonTls | None) -> None:
        self._context = None if tls is None else _context(tls)
        self.sockets = Sockets()
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)
        self.poolmanager.pool_classes_by_scheme = _pools(self.sockets)

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, *_: Any, **__: Any
    ) -> urllib3.HTTPConnectionPool:
        return self.poolmanager.connection_from_url(str(request.url))

    def cert_verify(self, *_: Any) -> None:
        """The context knows what to trust; requests would have it trust its own bundle, too."""

    def close(self) -> None:
        self.sockets.shut_down()
        super().close()


def _pools(sockets: Sockets) -> dict[str, Any]:
    class PlainWatched(Bounded):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class TlsWatched(BoundedTls):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    return pools(PlainWatched, TlsWatched)


def _context(tls: DaemonTls) -> ssl.SSLContext:
    """As Go has it: no other authority than the one given, and certificates that RFC 5280 would have told more of."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        # Python 3.13 has it by default, and refuses what docker:dind writes: no Authority Key Identifier.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not tls.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the user has asked for it
        if tls.certificate and tls.key:
            context.load_cert_chain(tls.certificate, tls.key, _no_passphrase)
    except (OSError, ValueError) as error:
        files = ", ".join(str(path) for path in (tls.ca, tls.certificate, tls.key) if path)
        raise SourceError(
            f"the docker daemon's TLS cannot be used: {_words(error)}", hint=f"Look at {files}."
        ) from None
    return context


def _no_passphrase() -> str:
    raise ValueError("its key is encrypted, and nobody is there to type the passphrase")


def _words(error: OSError | ValueError) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)


class _UnixConnection(Bounded):
    def __init__(self, path: str, sockets: Sockets, **options: Any) -> None:
        super().__init__("localhost", **options)
        self._path = path
        self._sockets = sockets

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
        self._sockets.add(self.sock)


class _SshConnection(Bounded):
    """One ssh process."""

    def __init__(self, argv: Sequence[str], sockets: Sockets, **options: Any) -> None:
        super().__init__("localhost", **options)
        self._argv = argv
        self._sockets = sockets
        self._piped: Piped | None = None
        self._last = ""

    def connect(self) -> None:
        self._piped = Piped(self._argv, self.timeout)
        self.sock = self._piped.socket
        self._sockets.add(self.sock)

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


def _connection(url: str, ssh: Ssh, words: Sequence[str], sockets: Sockets) -> Callable[..., Bounded]:
    """What makes a connection to `url`, and puts its socket among the others."""
    if url.startswith("ssh://"):
        argv = words or command(url, ssh)
        return lambda **options: _SshConnection(argv, sockets, **options)
    path = url.removeprefix("unix://")
    return lambda **options: _UnixConnection(path, sockets, **options)


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
