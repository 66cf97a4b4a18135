"""The probe whether this job reaches a registry: one `GET /v2/`, bounded in time."""

import http.client
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from layerferry.ci.services import split_address

#: Seconds for a probe. A registry of the same job answers in milliseconds, or not at all.
PROBE_TIMEOUT = 3.0
_MOST_BODY = 64 * 1024


class Answer(StrEnum):
    """The answer of a registry's base endpoint (OCI distribution-spec, "Determining Support")."""

    OPEN = "answers"
    GUARDED = "asks for credentials"
    OTHER = "is no registry"
    SILENT = "does not answer"

    @property
    def is_registry(self) -> bool:
        return self in {Answer.OPEN, Answer.GUARDED}


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe and its answer. `scheme` is the one that was answered, `seconds` the time that it took."""

    address: str
    answer: Answer
    detail: str
    seconds: float
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}"


def probe(address: str, *, timeout: float = PROBE_TIMEOUT) -> Probe:
    """Request `/v2/` of `address` (host:port), in plain HTTP, and by TLS where the server wants that.

    Never raises for what the server does. `timeout`, in seconds, bounds all of it: the look-up of a name, which has no
    bound of its own, and a server that answers byte by byte, go on in a thread that nobody waits for.
    """
    start = time.monotonic()
    answers: list[Probe] = []
    thread = threading.Thread(target=lambda: answers.append(_probe(address, timeout)), daemon=True)
    thread.start()
    thread.join(timeout)
    if answers:
        return answers[0]
    return Probe(address, Answer.SILENT, f"nothing within {timeout:g} s", time.monotonic() - start)


def _probe(address: str, timeout: float) -> Probe:
    start = time.monotonic()
    scheme = "http"
    answer, detail, wants_tls = _ask(scheme, address, timeout)
    if wants_tls:
        scheme = "https"
        answer, detail, _ = _ask(scheme, address, timeout)
    return Probe(address, answer, detail, time.monotonic() - start, scheme)


def _ask(scheme: str, address: str, timeout: float) -> tuple[Answer, str, bool]:  # noqa: PLR0911  one for each end
    """Make one request; the last value says whether to repeat it over TLS."""
    host, port = split_address(address)
    if scheme == "http":
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    try:
        connection.request("GET", "/v2/", headers={"Accept": "application/json", "Connection": "close"})
        response = connection.getresponse()
        return _judge(response, response.read(_MOST_BODY))
    except ssl.SSLCertVerificationError as error:
        return Answer.OTHER, f"its certificate is not trusted: {error.verify_message}", False
    except ssl.SSLError:
        return Answer.OTHER, "speaks neither HTTP nor TLS", False
    except TimeoutError:
        return Answer.SILENT, f"nothing within {timeout:g} s", False
    except socket.gaierror:
        return Answer.SILENT, f"the name {host} is not known here", False
    except http.client.HTTPException as error:
        # A TLS server answers a plain request with an alert, which is no status line, or by closing.
        return Answer.OTHER, type(error).__name__, scheme == "http"
    except OSError as error:
        return Answer.SILENT, error.strerror or type(error).__name__, scheme == "http" and _is_reset(error)
    finally:
        connection.close()


def _judge(response: http.client.HTTPResponse, body: bytes) -> tuple[Answer, str, bool]:
    status, challenge = response.status, response.headers.get("WWW-Authenticate")
    page = response.headers.get_content_type() == "text/html"
    if status == HTTPStatus.OK and not page:
        return Answer.OPEN, "200", False
    if status == HTTPStatus.UNAUTHORIZED and challenge:
        return Answer.GUARDED, f"401, {challenge.partition(' ')[0]}", False
    # Go's net/http says so with 400 and this sentence, since Go 1.12; registry:2 and registry:3 are written in it.
    tls = status == HTTPStatus.BAD_REQUEST and b"HTTP request to an HTTPS server" in body
    return Answer.OTHER, f"HTTP {status}{', a page' if page else ''}", tls


def _is_reset(error: OSError) -> bool:
    return isinstance(error, ConnectionResetError | BrokenPipeError)
