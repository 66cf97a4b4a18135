"""The edge, the public end of a tunnel, and the proof that it asks for credentials."""

import contextlib
import errno
import http.client
import re
import secrets
import ssl
import time
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from layerferry.deadline import cut_off
from layerferry.embedded_registry.credentials import Credentials
from layerferry.errors import RouteError
from layerferry.routes.ngrok.failures import ADVICE, explain, find_code

#: The realm of the edge's own challenge; any other comes from behind it.
EDGE_REALM = "layerferry-edge"
#: The statuses of an edge until it knows of a new tunnel, or has reached its other end.
_PASSING = frozenset({404, 421, 502, 503, 504})
#: ERR_NGROK_3200, the endpoint is offline: said for a moment after it has come up.
_PASSING_CODES = frozenset({"", "3200", "8012"})
_PAUSE = 0.2
_ONE_REQUEST = 10.0


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    realm: str = ""
    code: str = ""


def check_edge(
    url: str, credentials: Credentials, *, own_realm: str = "", tls: ssl.SSLContext | None = None, timeout: float = 15.0
) -> None:
    """Prove that `url` asks for credentials, refuses wrong ones and takes ours; raises `RouteError` otherwise.

    `own_realm` is the realm of the registry behind the tunnel, if that asks for credentials too: a challenge of its own
    means that the edge let a request without credentials through. `tls` stands in for the system's certificates.
    """
    if urlsplit(url).scheme != "https":
        raise _open("it is not encrypted")
    deadline = time.monotonic() + timeout
    context = tls or ssl.create_default_context()
    bare = _settled(url, None, context, deadline)
    if bare.status != HTTPStatus.UNAUTHORIZED:
        raise _judged(bare, "a request without credentials")
    if own_realm and bare.realm == own_realm:
        raise _open("its edge passes requests without credentials on")
    wrong = _settled(url, Credentials(credentials.user, secrets.token_urlsafe(32)), context, deadline)
    if wrong.status != HTTPStatus.UNAUTHORIZED:
        raise _judged(wrong, "wrong credentials")
    right = _settled(url, credentials, context, deadline)
    if right.status == HTTPStatus.UNAUTHORIZED:
        raise RouteError(
            "the tunnel refuses the credentials that it was opened with",
            hint="Something between ngrok's edge and the registry drops the Authorization header.",
        )
    if right.status != HTTPStatus.OK:
        raise explain(right.code, f"the registry behind it answers with HTTP {right.status}")


def edge_trouble(url: str, credentials: Credentials, tls: ssl.SSLContext | None = None) -> RouteError | None:
    """The error for which ngrok's edge lets nothing through any more, such as a quota; None where it names none."""
    context = tls or ssl.create_default_context()
    try:
        code = _ask(url, credentials, context, time.monotonic() + _ONE_REQUEST).code
    except (OSError, http.client.HTTPException):
        return None
    return explain(code) if code else None


def _judged(reply: _Reply, what: str) -> RouteError:
    """The error for an answer that is no 401: the edge counts as open, unless it plainly refuses."""
    if reply.code or reply.status >= HTTPStatus.BAD_REQUEST:
        return explain(reply.code, f"its edge answers {what} with HTTP {reply.status}")
    return _open(f"it answers {what} with HTTP {reply.status}")


def _open(reason: str) -> RouteError:
    return RouteError(
        f"the tunnel would be open to everybody: {reason}",
        hint="It was closed before the daemon was told of it. Update ngrok's agent, or use another route.",
    )


def _settled(url: str, credentials: Credentials | None, context: ssl.SSLContext, deadline: float) -> _Reply:
    """The first answer that does not say that the tunnel is new; raises `RouteError` where none comes in time."""
    trouble = ""
    while time.monotonic() < deadline:
        try:
            reply = _ask(url, credentials, context, deadline)
        except ssl.SSLCertVerificationError as error:
            raise RouteError(
                f"the tunnel's certificate is not trusted here: {error.verify_message}",
                hint="Something between this job and ngrok breaks TLS open; give the job its certificate authority.",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            trouble = getattr(error, "strerror", None) or type(error).__name__
        else:
            if reply.status not in _PASSING or reply.code not in _PASSING_CODES:
                return reply
            trouble = f"HTTP {reply.status}" + (f", {ADVICE[reply.code].message}" if reply.code else "")
        time.sleep(_PAUSE)
    raise RouteError(
        "the tunnel's public address does not answer in time" + (f": {trouble}" if trouble else ""),
        hint="This job has to reach its own tunnel, over HTTPS, to prove that it is closed to others.",
    )


def _ask(url: str, credentials: Credentials | None, context: ssl.SSLContext, deadline: float) -> _Reply:
    seconds = min(_ONE_REQUEST, max(deadline - time.monotonic(), 0.1))
    connection = http.client.HTTPSConnection(urlsplit(url).netloc, timeout=seconds, context=context)
    headers = {"Accept": "application/json", "User-Agent": "layerferry", "Connection": "close"}
    with contextlib.closing(connection), cut_off(seconds, lambda: connection.sock) as late:
        connection.request(
            "GET", "/v2/", headers=headers | ({"Authorization": credentials.header} if credentials else {})
        )
        response = connection.getresponse()
        if late.is_set():  # an end of the headers that was none
            raise TimeoutError(errno.ETIMEDOUT, "no whole answer in time")
        realm = re.search(r'realm="([^"]*)"', response.headers.get("WWW-Authenticate", ""))
        code = find_code(response.headers.get("Ngrok-Error-Code", ""))
        return _Reply(response.status, realm[1] if realm else "", code)
