"""A registry as HTTP reaches it: its address, encrypted or not, tries that go on, and words for what went wrong."""

import contextlib
import http.client
import ipaddress
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlsplit

import requests
import urllib3

from layerferry.errors import LayerferryError, SourceError
from layerferry.sources import session
from layerferry.sources.causes import cause_of, reason
from layerferry.sources.relay import Relay

#: Seconds to connect, and from one byte to the next; and until a blob that was sent is stored.
TIMEOUT = (15, 60)
_UPLOAD_TIMEOUT = (15, 600)
#: Tries of one request, or of one blob since its last byte, and seconds to wait at most where a registry says so.
TRIES = 4
_LONGEST_WAIT = 20.0
PASSING = frozenset((429, 500, 502, 503, 504))
BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)


class Body(Protocol):
    """A request's body that knows its length."""

    def __len__(self) -> int: ...
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Blame:
    """Which errors are raised: for a registry's answer, and for none."""

    answer: type[LayerferryError] = SourceError
    silence: type[LayerferryError] = SourceError


class Endpoint:
    """A registry. Without `plain_http` only one on this machine, or the relay's, is spoken to unencrypted."""

    def __init__(
        self,
        domain: str,
        environ: Mapping[str, str],
        *,
        plain_http: bool = False,
        relay: Relay | None = None,
        blame: Blame | None = None,
    ) -> None:
        self.domain = domain
        self.place = f"the registry {domain}"
        self.environ = environ
        self.blame = blame or Blame()
        self.session = session.Session(domain, relay)
        host = "registry-1.docker.io" if domain == "docker.io" else domain
        plain = plain_http or (_is_here(host) and self._speaks_plain(host))
        self.scheme = "http" if plain else "https"
        self.url = f"{self.scheme}://{host}/v2"

    def close(self) -> None:
        self.session.close()

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | Body | None = None
    ) -> requests.Response:
        """Ask until there is an answer that is no passing trouble, or too often. A `Body` is sent once.

        What breaks then is raised as it is: whoever has the body knows whether it can be sent again.
        """
        once = body is not None and not isinstance(body, bytes)
        for attempt in range(TRIES if once else 1, TRIES + 1):
            try:
                response = self.session.request(
                    method,
                    url,
                    headers=headers,
                    data=body,
                    stream=True,
                    timeout=_UPLOAD_TIMEOUT if body is not None else TIMEOUT,
                    allow_redirects=method in {"GET", "HEAD"},
                )
            except BROKEN as error:
                if once:
                    raise
                if attempt == TRIES or isinstance(error, requests.exceptions.SSLError):
                    raise self.unreachable(error) from None
                wait(attempt)
                continue
            if response.status_code not in PASSING or attempt == TRIES:
                return response
            response.close()
            wait(attempt, response.headers.get("Retry-After", ""))
        raise AssertionError

    def answer(self) -> str:
        """What it answers to whoever has no login, for people (distribution-spec, "Determining Support")."""
        with contextlib.closing(self.send("GET", f"{self.url}/", {})) as response:
            challenge = response.headers.get("WWW-Authenticate", "").partition(" ")[0].lower()
            wants = f", wants a login ({challenge})" if response.status_code == HTTPStatus.UNAUTHORIZED else ""
            return f"answers with HTTP {response.status_code}{wants}"

    def unreachable(self, error: Exception) -> LayerferryError:
        hint = "Check its address, and whether it is up."
        if isinstance(error, requests.exceptions.SSLError):
            ca = session.CERTIFICATES / self.domain / "ca.crt"
            hint = f"Its CA goes to {ca}; registry:http://… is for one without TLS."
        return self.blame.silence(f"{self.place} does not answer: {reason(error)}", hint=hint)

    def _speaks_plain(self, host: str) -> bool:
        """Whether a registry on this machine takes HTTP; a server of TLS answers that with 400, or not at all."""
        try:
            with contextlib.closing(self.session.get(f"http://{host}/v2/", timeout=TIMEOUT)) as response:
                return response.status_code != HTTPStatus.BAD_REQUEST
        except requests.exceptions.ConnectionError as error:
            if isinstance(cause_of(error), ConnectionRefusedError):
                raise self.unreachable(error) from None
            return False
        except BROKEN as error:
            raise self.unreachable(error) from None


def _is_here(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost" or name.endswith(".localhost")


def wait(attempt: int, told: str = "") -> None:
    """Wait before the next try."""
    time.sleep(_pause(attempt, told))


def _pause(attempt: int, told: str = "") -> float:
    """Seconds before the next try; `told` is a Retry-After (RFC 9110, section 10.2.3), dates are not followed."""
    return min(float(told), _LONGEST_WAIT) if told.isdecimal() else 0.25 * 2.0**attempt
