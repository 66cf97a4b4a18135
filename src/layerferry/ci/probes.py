"""Whether this job reaches a registry: one `GET /v2/`, bounded in time."""

import http.client
import socket
import ssl
import time
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from layerferry.ci.services import split_address

#: Seconds for the whole question. A registry of the same job answers in milliseconds, or not at all.
PROBE_TIMEOUT = 3.0
_MOST_BODY = 64 * 1024


class Answer(StrEnum):
    """What a registry's base endpoint said (OCI distribution-spec, "Determining Support")."""

    OPEN = "answers"
    GUARDED = "asks for credentials"
    OTHER = "is no registry"
    SILENT = "does not answer"

    @property
    def is_registry(self) -> bool:
        return self in {Answer.OPEN, Answer.GUARDED}


@dataclass(frozen=True, slots=True)
class Probe:
    """One question and its answer. `scheme` is the one that was answered; `seconds` how long it took."""

    address: str
    answer: Answer
    detail: str
    seconds: float
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}"


def probe(address: str, *, timeout: float = PROBE_TIMEOUT) -> Probe:
    """Ask `address` (host:port) for `/v2/`, in plain HTTP, and by TLS where the server wants that.

    Never raises for what the other side does. `timeout`, in seconds, bounds the whole of it, name lookup apart.
    """
    start = time.monotonic()
    scheme, answer, detail = "http", Answer.SILENT, ""
    for scheme in ("http", "https"):
        left = timeout - (time.monotonic() - start)
        if left <= 0:
            answer, detail = Answer.SILENT, f"nothing within {timeout:g} s"
            break
        answer, detail, wants_tls = _ask(scheme, address, left)
        if not wants_tls:
            break
    return Probe(address, answer, detail, time.monotonic() - start, scheme)


def _ask(scheme: str, address: str, timeout: float) -> tuple[Answer, str, bool]:
    """One request; the last value says whether to ask again over TLS."""
    host, port = split_address(address)
    if scheme == "http":
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    deadline = time.monotonic() + timeout
    try:
        connection.request("GET", "/v2/", headers={"Accept": "application/json", "Connection": "close"})
        if connection.sock is not None:
            connection.sock.settimeout(max(deadline - time.monotonic(), 0.001))
        response = connection.getresponse()
        return _judge(response.status, response.headers.get("WWW-Authenticate"), response.read(_MOST_BODY))
    except ssl.SSLCertVerificationError as error:
        return Answer.OTHER, f"its certificate is not trusted: {error.verify_message}", False
    except TimeoutError:
        return Answer.SILENT, f"nothing within {timeout:.3g} s", False
    except socket.gaierror:
        return Answer.SILENT, f"the name {host} is not known here", False
    except http.client.HTTPException as error:
        # A TLS server answers a plain request with an alert, which is no status line, or by closing.
        return Answer.OTHER, type(error).__name__, scheme == "http"
    except OSError as error:
        return Answer.SILENT, error.strerror or type(error).__name__, scheme == "http" and _is_reset(error)
    finally:
        connection.close()


def _judge(status: int, challenge: str | None, body: bytes) -> tuple[Answer, str, bool]:
    if status == HTTPStatus.OK:
        return Answer.OPEN, "200", False
    if status == HTTPStatus.UNAUTHORIZED and challenge:
        return Answer.GUARDED, f"401, {challenge.split(' ', 1)[0]}", False
    # Go's net/http says so with 400 and this sentence, Go 1.12 and later; registry:2 and registry:3 are Go.
    tls = status == HTTPStatus.BAD_REQUEST and b"HTTP request to an HTTPS server" in body
    return Answer.OTHER, f"HTTP {status}", tls


def _is_reset(error: OSError) -> bool:
    return isinstance(error, ConnectionResetError | BrokenPipeError)
