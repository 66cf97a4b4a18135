"""A guard in front of a service registry that asks for nothing: it lets requests through that carry our credentials.

It stands between a tunnel and the registry, so that the registry is not open to the world should the tunnel's own
policy fail. The daemon's bytes pass through it block by block.
"""

import contextlib
import http.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit

from layerferry.ci.services import split_address
from layerferry.registry.credentials import Credentials as Admission
from layerferry.registry.refusal import Refused, name_unknown, unauthorized
from layerferry.registry.wire import Request, Response, Server
from layerferry.routes.edge import Credentials

#: The realm of its challenge (layerferry.registry.refusal), for `edge.check_edge` to know it by.
GUARD_REALM = "layerferry"
#: Seconds for the registry to say anything: it may store a layer's last bytes for a while.
_SILENCE = 300.0
_BLOCK = 128 * 1024
#: RFC 9110, section 7.6.1, and what tells of the way in: the registry would make addresses of it.
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect")
)
_WAY_IN = frozenset(("authorization", "host", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"))


@dataclass(frozen=True, slots=True)
class Guard:
    """What listens: `address` is host:port on the loopback. `faults` are errors of ours; there should be none."""

    address: str
    faults: list[Exception] = field(default_factory=list)


@contextlib.contextmanager
def open_guard(upstream: str, credentials: Credentials) -> Iterator[Guard]:
    """Guard the registry at `upstream` (host:port, plain HTTP) while the block lasts."""
    admission = Admission(credentials.user, credentials.password)
    faults: list[Exception] = []
    server = Server(("127.0.0.1", 0), lambda request: _answer(request, upstream, admission), faults.append)
    server.start()
    try:
        yield Guard(f"127.0.0.1:{server.port}", faults)
    finally:
        server.close()


def _answer(request: Request, upstream: str, admission: Admission) -> Response:
    try:
        if not admission.admit(request.headers.get("authorization", "")):
            raise unauthorized()
        if not request.path.startswith("/v2/"):
            raise name_unknown()
        return _forward(request, upstream)
    except Refused as refused:
        return Response(refused.status, {"Content-Type": "application/json", **refused.headers}, refused.body())


def _forward(request: Request, upstream: str) -> Response:
    connection = http.client.HTTPConnection(*split_address(upstream), timeout=_SILENCE)
    try:
        reply = _exchange(connection, request)
        status = HTTPStatus(reply.status)
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        raise Refused(HTTPStatus.BAD_GATEWAY, "UNKNOWN", f"no answer of the registry: {type(error).__name__}") from None
    except BaseException:
        connection.close()
        raise
    length = reply.headers.get("Content-Length")
    headers = _headers_of(reply)
    if request.method == "HEAD" or status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
        connection.close()
        return Response(status, headers, b"", int(length) if length else None)
    return Response(status, headers, _body_of(connection, reply), int(length) if length else None)


def _exchange(connection: http.client.HTTPConnection, request: Request) -> http.client.HTTPResponse:
    target = request.path + (f"?{urlencode(request.query)}" if request.query else "")
    headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP | _WAY_IN}
    # A body of no bytes is none; without a length it is sent as it comes, in chunks.
    body = None if request.body.length == 0 else iter(request.body)
    if body is not None and request.body.length is None:
        headers["Transfer-Encoding"] = "chunked"
    connection.request(request.method, target, body, headers, encode_chunked=request.body.length is None)
    return connection.getresponse()


def _headers_of(reply: http.client.HTTPResponse) -> Mapping[str, str]:
    """The reply's headers, with a Location that the client resolves against the address that it knows us by."""
    skipped = _HOP_BY_HOP | {"content-length", "date", "server"}
    headers = {name: value for name, value in reply.headers.items() if name.lower() not in skipped}
    location = headers.get("Location")
    if location:
        parts = urlsplit(location)
        headers["Location"] = parts.path + (f"?{parts.query}" if parts.query else "")
    return headers


def _body_of(connection: http.client.HTTPConnection, reply: http.client.HTTPResponse) -> Iterator[bytes]:
    with contextlib.closing(connection):
        while block := reply.read1(_BLOCK):
            yield block
