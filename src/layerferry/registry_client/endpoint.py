"""A registry as HTTP reaches it: its address, encrypted or not, tries that go on, and words for what went wrong."""

import contextlib
import http.client
import ipaddress
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3

from layerferry import log
from layerferry.causes import cause_of, reason
from layerferry.errors import LayerferryError, SourceError
from layerferry.oci import limits
from layerferry.registry_client import http_session
from layerferry.registry_client.connections import done
from layerferry.registry_client.ssh_relay import Relay
from layerferry.registry_client.tries import PASSING, TRIES, Check, Tries

#: Seconds to connect, and until an answer begins; after that, `connections` bounds how slowly it comes.
_TIMEOUT = (15, 60)
BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_LINK = re.compile(r"[\x21-\x7e]+")


class UploadBody(Protocol):
    """A request's body that knows its length."""

    def __len__(self) -> int: ...
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Blame:
    """Which errors are raised: for a registry's answer, and for none."""

    answer: type[LayerferryError] = SourceError
    silence: type[LayerferryError] = SourceError


class Endpoint:
    """A registry. Without `plain_http` only one on this machine, or the relay's, is spoken to unencrypted.

    `told` hears, in a sentence, of what goes wrong and is tried again; `check` raises where it is not to be.
    """

    def __init__(
        self,
        domain: str,
        environ: Mapping[str, str],
        *,
        plain_http: bool = False,
        relay: Relay | None = None,
        blame: Blame | None = None,
        told: Callable[[str], None] = lambda _: None,
        check: Check | None = None,
    ) -> None:
        self.domain = domain
        self.place = f"the registry {domain}"
        self.environ = environ
        self.blame = blame or Blame()
        self.told = told
        self.check = check
        self.session = http_session.RegistrySession(domain, relay)
        host = "registry-1.docker.io" if domain == "docker.io" else domain
        plain = plain_http or (_is_here(urlsplit(f"//{host}").hostname or "") and self._speaks_plain(host))
        self.scheme = "http" if plain else "https"
        self.url = f"{self.scheme}://{host}/v2"

    def close(self) -> None:
        self.session.close()

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | UploadBody | None = None,
        timeout: tuple[float, float] = _TIMEOUT,
    ) -> requests.Response:
        """Ask once. Nothing of the answer's body is read yet. Raises one of `BROKEN`."""
        return self.session.request(
            method, url, headers=headers, data=body, stream=True, timeout=timeout, allow_redirects=False
        )

    def follow(
        self, method: str, url: str, headers: Mapping[str, str], *, by_digest: bool = False, elsewhere: bool = True
    ) -> requests.Response:
        """Ask, and go where the answer leads: where that is somebody else, without the login, or, by `elsewhere`, not.

        Raises one of `BROKEN`, and `blame.answer` where it leads to nowhere that we go.
        """
        for _ in range(limits.REDIRECTS):
            response = self.request(method, url, headers)
            if response.status_code not in _REDIRECTS:
                return response
            done(response)
            there = self.leads(url, response.headers.get("Location", ""), by_digest=by_digest)
            if urlsplit(there)[:2] != urlsplit(url)[:2]:
                if not elsewhere:
                    raise self.blame.answer(f"{self.place} sends a login on to {_shown(there)}, which is refused")
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = there
        raise self.blame.answer(f"{self.place} leads from one address to the next, {limits.REDIRECTS} times")

    def leads(self, url: str, location: str, *, by_digest: bool = False) -> str:
        """Where an answer from `url` leads. Raises `blame.answer` where we do not go.

        Nothing goes down to HTTP: a registry behind a TLS proxy may not know that it is, and anybody could answer; but
        for what is known `by_digest`, whoever has it. And only a registry on this machine leads to this machine.
        """
        try:
            here, there = urlsplit(url), _link(url, location)
        except ValueError as error:
            raise self.blame.answer(f"{self.place} leads to an address that is refused: {error}") from None
        host = there.hostname or ""
        if (here.scheme, there.scheme) == ("https", "http"):
            if host == here.hostname:
                there = there._replace(scheme="https", netloc=here.netloc)
            elif not by_digest:
                raise self.blame.answer(f"{self.place} leads to {_shown(there.geturl())}, which is not encrypted")
        if _is_near(host) and not _is_near(urlsplit(self.url).hostname or ""):
            raise self.blame.answer(f"{self.place} leads to {_shown(there.geturl())}, which is this machine: refused")
        return there.geturl()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | UploadBody | None = None,
        *,
        by_digest: bool = False,
    ) -> requests.Response:
        """Ask until there is an answer that is no passing trouble, or too often. A `UploadBody` is sent once.

        What breaks then is raised as it is: whoever has the body knows whether it can be sent again.
        """
        once = body is not None and not isinstance(body, bytes)
        tries = Tries(0) if once else self.tries()
        while True:
            try:
                if method in {"GET", "HEAD"}:
                    response = self.follow(method, url, headers, by_digest=by_digest)
                else:
                    response = self.request(method, url, headers, body, _patience(len(body or b"")))
            except BROKEN as error:
                if once:
                    raise
                if tries.last or isinstance(error, requests.exceptions.SSLError):
                    raise self.unreachable(error) from None
                tries = self.again(reason(error), tries)
                continue
            if response.status_code not in PASSING or tries.last:
                return response
            done(response)
            tries = self.again(f"HTTP {response.status_code}", tries, response)

    def tries(self) -> Tries:
        """As many as a request has."""
        return Tries(check=self.check)

    def again(self, why: str, tries: Tries, response: requests.Response | None = None) -> Tries:
        """The tries that are left after one that failed, once it has been told and it is time for the next."""
        if self.check is not None:
            self.check()
        log.note("registry", f"{self.place}: {why}; this was try {tries.next} of {TRIES}")
        left = tries.increment()
        self.told(f"{self.place}: {why}; this is try {left.next} of {TRIES}")
        left.sleep(None if response is None else response.raw)
        return left

    def answer(self) -> str:
        """What it answers to whoever has no login, for people (distribution-spec, "Determining Support")."""
        with contextlib.closing(self.send("GET", f"{self.url}/", {})) as response:
            challenge = response.headers.get("WWW-Authenticate", "").partition(" ")[0].lower()[:20]
            wants = f", wants a login ({challenge})" if response.status_code == HTTPStatus.UNAUTHORIZED else ""
            return f"answers with HTTP {response.status_code}{wants}"

    def unreachable(self, error: Exception) -> LayerferryError:
        hint = "Check its address, and whether it is up."
        if isinstance(error, requests.exceptions.SSLError):
            ca = http_session.CERTIFICATES / self.domain / "ca.crt"
            hint = f"Its CA goes to {ca}; registry:http://… is for one without TLS."
        return self.blame.silence(f"{self.place} does not answer: {reason(error)}", hint=hint)

    def _speaks_plain(self, host: str) -> bool:
        """Whether a registry on this machine takes HTTP; a server of TLS answers that with 400, or not at all."""
        try:
            with contextlib.closing(self.request("GET", f"http://{host}/v2/", {})) as response:
                return response.status_code != HTTPStatus.BAD_REQUEST
        except requests.exceptions.ConnectionError as error:
            if isinstance(cause_of(error), ConnectionRefusedError):
                raise self.unreachable(error) from None
            return False
        except BROKEN as error:
            raise self.unreachable(error) from None


def _link(url: str, location: str) -> SplitResult:
    """Raises `ValueError` where it is no address that anybody may send us to."""
    if not 0 < len(location) <= limits.URL or not _LINK.fullmatch(location):
        raise ValueError("it is no URL")
    told = urlsplit(location)
    there = urlsplit(urljoin(url, location))
    if (
        (told.scheme and not told.netloc)
        or there.scheme not in {"https", "http"}
        or not there.hostname
        or there.port == 0
    ):
        raise ValueError("it is none of HTTP")
    if "@" in there.netloc:
        raise ValueError("it holds a login")
    return there._replace(fragment="")


def _shown(url: str) -> str:
    """Of a URL what holds no secret, as the signature of a blob store's address is one."""
    return "://".join(urlsplit(url)[:2])[:200]


def _patience(size: int) -> tuple[float, float]:
    """Seconds to connect, and until a body of so many bytes, which has gone, is stored."""
    return _TIMEOUT[0], limits.SILENCE + size // limits.STORING


def _is_here(name: str) -> bool:
    """Whether a host is this machine."""
    address = _address(name)
    return address.is_loopback if address else name == "localhost" or name.endswith(".localhost")


def _is_near(name: str) -> bool:
    """Whether a host is this machine, or what only this machine reaches: a cloud's metadata, at 169.254.169.254."""
    address = _address(name)
    return _is_here(name) or bool(address and (address.is_link_local or address.is_unspecified))


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that is written there, in whichever way: 127.1 and 0x7f000001 are 127.0.0.1, too."""
    with contextlib.suppress(OSError, ValueError):
        name = socket.inet_ntoa(socket.inet_aton(name))
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(name)
        return getattr(address, "ipv4_mapped", None) or address
    return None
