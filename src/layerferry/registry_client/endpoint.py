"""A registry's address and scheme; the requests that go there, with redirects and further tries, and their errors."""

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

import requests

from layerferry import log
from layerferry.causes import cause_of, reason
from layerferry.errors import LayerferryError, SourceError
from layerferry.oci import limits
from layerferry.registry_client import http_session
from layerferry.registry_client.connections import BROKEN, done
from layerferry.registry_client.ssh_relay import Relay
from layerferry.registry_client.this_machine import is_here, is_near
from layerferry.registry_client.tries import PASSING, TRIES, Check, Tries

#: Seconds to connect, and until an answer begins; after that, `connections` bounds how slowly it comes.
_TIMEOUT = (limits.REGISTRY_CONNECTED, limits.ANSWER_BEGINS)
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_PORTS = {"https": 443, "http": 80}
_LINK = re.compile(r"[\x21-\x7e]+")


class UploadBody(Protocol):
    """A request's body that knows its length."""

    def __len__(self) -> int: ...
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Blame:
    """The classes of the errors that are raised: for a registry's answer, and for none."""

    answer: type[LayerferryError] = SourceError
    silence: type[LayerferryError] = SourceError


class Endpoint:
    """A registry. Without `plain_http`, HTTP without TLS is taken only where the registry is on this machine.

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
        plain = plain_http or (is_here(urlsplit(f"//{host}").hostname or "") and self._speaks_plain(host))
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
        """Make a request once. Nothing of the response's body is read yet. Raises one of `BROKEN`."""
        return self.session.request(
            method, url, headers=headers, data=body, stream=True, timeout=timeout, allow_redirects=False
        )

    def follow(
        self, method: str, url: str, headers: Mapping[str, str], *, by_digest: bool = False, elsewhere: bool = True
    ) -> requests.Response:
        """Make a request, and follow redirects: to another host without the login, or, without `elsewhere`, not at all.

        Raises one of `BROKEN`, and `blame.answer` where a redirect is refused.
        """
        for _ in range(limits.REDIRECTS):
            response = self.request(method, url, headers)
            if response.status_code not in _REDIRECTS:
                return response
            done(response)
            there = self.leads(url, response.headers.get("Location", ""), by_digest=by_digest)
            if origin(there) != origin(url):
                if not elsewhere:
                    raise self.blame.answer(f"{self.place} sends a login on to {_shown(there)}, which is refused")
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = there
        raise self.blame.answer(f"{self.place} leads from one address to the next, {limits.REDIRECTS} times")

    def leads(self, url: str, location: str, *, by_digest: bool = False) -> str:
        """The URL of a Location from `url`. Raises `blame.answer` where it is refused.

        No redirect leads from HTTPS to HTTP, where anybody could answer, save for a blob that is checked `by_digest`. A
        registry behind a TLS proxy may call itself http: on its own host, HTTPS is kept. Only a registry on this
        machine may lead to this machine.
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
        if is_near(host) and not is_near(urlsplit(self.url).hostname or ""):
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
        elsewhere: bool = True,
        stores: int = 0,
        who: str = "",
    ) -> requests.Response:
        """Make a request until its status is not one of `PASSING`, at most `TRIES` times. A `UploadBody` is sent once.

        Where that breaks, one of `BROKEN` is raised: whoever has the body knows whether it can be sent again. `stores`
        are the bytes that have come before, and that the registry stores before it answers. `who` is asked, if that is
        not the registry itself; `by_digest` and `elsewhere` are those of `follow`.
        """
        once = body is not None and not isinstance(body, bytes)
        tries = Tries(0) if once else self.tries()
        while True:
            try:
                if method in {"GET", "HEAD"}:
                    response = self.follow(method, url, headers, by_digest=by_digest, elsewhere=elsewhere)
                else:
                    response = self.request(method, url, headers, body, _patience(max(stores, len(body or b""))))
            except BROKEN as error:
                if once:
                    raise
                if tries.last or isinstance(error, requests.exceptions.SSLError):
                    raise self.unreachable(error, who) from None
                tries = self.again(reason(error), tries, who=who)
                continue
            if response.status_code not in PASSING or tries.last:
                return response
            done(response)
            tries = self.again(f"HTTP {response.status_code}", tries, response, who=who)

    def tries(self) -> Tries:
        """The tries of a request that has not been made yet."""
        return Tries(check=self.check)

    def again(self, why: str, tries: Tries, response: requests.Response | None = None, *, who: str = "") -> Tries:
        """The tries that are left after one that failed; returns once that was told and it is time for the next."""
        if self.check is not None:
            self.check()
        log.note("registry", f"{who or self.place}: {why}; this was try {tries.next} of {TRIES}")
        left = tries.increment()
        self.told(f"{who or self.place}: {why}; this is try {left.next} of {TRIES}")
        left.sleep(None if response is None else response.raw)
        return left

    def answer(self) -> str:
        """The registry's answer to a GET without a login, for people (distribution-spec, "Determining Support")."""
        with contextlib.closing(self.send("GET", f"{self.url}/", {})) as response:
            challenge = response.headers.get("WWW-Authenticate", "").partition(" ")[0].lower()[:20]
            wants = f", wants a login ({challenge})" if response.status_code == HTTPStatus.UNAUTHORIZED else ""
            return f"answers with HTTP {response.status_code}{wants}"

    def unreachable(self, error: Exception, who: str = "") -> LayerferryError:
        hint = "Check its address, and whether it is up."
        if isinstance(error, requests.exceptions.SSLError):
            ca = http_session.CERTIFICATES / self.domain / "ca.crt"
            hint = f"Its CA goes to {ca}; registry:http://… is for one without TLS."
        return self.blame.silence(f"{who or self.place} does not answer: {reason(error)}", hint=hint)

    def _speaks_plain(self, host: str) -> bool:
        """Whether a registry on this machine takes HTTP; a TLS server answers that with 400, or not at all."""
        try:
            with contextlib.closing(self.request("GET", f"http://{host}/v2/", {})) as response:
                return response.status_code != HTTPStatus.BAD_REQUEST
        except requests.exceptions.ConnectionError as error:
            if isinstance(cause_of(error), ConnectionRefusedError):
                raise self.unreachable(error) from None
            return False
        except BROKEN as error:
            raise self.unreachable(error) from None


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of an HTTP URL; of the same server they are the same, however it is written (RFC 6454)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)


def _link(url: str, location: str) -> SplitResult:
    """The URL of a Location. Raises `ValueError` where it is no HTTP URL, or holds a login."""
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
    """The scheme and host of a URL: its query may hold a blob store's signature, which is a secret."""
    return "://".join(urlsplit(url)[:2])[:200]


def _patience(size: int) -> tuple[float, float]:
    """The seconds to connect, and those until a registry that got so many bytes has stored them."""
    return _TIMEOUT[0], limits.SILENCE + size // limits.STORING
