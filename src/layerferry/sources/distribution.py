"""A registry's pull side over HTTP: manifests and blobs, with the user's login. The HTTP library lives here alone.

Specs: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md ("Pull"),
https://distribution.github.io/distribution/spec/auth/token/ and .../auth/oauth/ for tokens.
"""

import base64
import contextlib
import http.client
import ipaddress
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from layerferry import __version__
from layerferry.errors import SourceError
from layerferry.image import Descriptor, Name
from layerferry.sources.logins import Login, find_login
from layerferry.sources.manifest import INDEX_TYPES, LARGEST_DOCUMENT, MANIFEST_TYPES
from layerferry.sources.streams import CHUNK

#: Seconds to connect, and from one byte to the next.
_TIMEOUT = (15, 60)
#: Tries of one request, or of one blob since its last byte, and seconds to wait at most where a registry says so.
_TRIES = 4
_LONGEST_WAIT = 20.0
_PASSING = frozenset((429, 500, 502, 503, 504))
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)
_ACCEPT = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
_PARAMETER = re.compile(r'([a-zA-Z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_CERTIFICATES = Path("/etc/docker/certs.d")


class Repository:
    """A repository of a registry. Without `plain_http` only a registry on this machine is spoken to unencrypted."""

    def __init__(self, name: Name, environ: Mapping[str, str], *, plain_http: bool = False) -> None:
        self.place = f"the registry {name.domain}"
        self._name = name
        self._environ = environ
        self._session = _Session(name.domain)
        self._authorization = ""
        self._login_from = ""
        host = "registry-1.docker.io" if name.domain == "docker.io" else name.domain
        plain = plain_http or (_is_here(host) and self._speaks_plain(host))
        self._base = f"{'http' if plain else 'https'}://{host}/v2/{name.path}"

    def close(self) -> None:
        self._session.close()

    def manifest(self, reference: str) -> tuple[str, bytes]:
        """The media type and the bytes of a manifest or index, by tag or digest. Raises `SourceError`."""
        with contextlib.closing(self._get(f"manifests/{reference}", {"Accept": _ACCEPT})) as response:
            return response.headers.get("Content-Type", "").partition(";")[0].strip(), self._document(response)

    def document(self, descriptor: Descriptor) -> bytes:
        """A manifest, an index or a config. Raises `SourceError`."""
        if descriptor.media_type in MANIFEST_TYPES | INDEX_TYPES:
            return self.manifest(descriptor.digest)[1]
        with contextlib.closing(self._get(f"blobs/{descriptor.digest}")) as response:
            return self._document(response)

    def blob(self, blob: Descriptor) -> Iterator[bytes]:
        """The bytes of a blob. Where the connection breaks, another goes on from there. Raises `SourceError`."""
        done, tries = 0, 0
        while done < blob.size:
            try:
                for chunk in self._rest(blob.digest, done):
                    done += len(chunk)
                    tries = 0
                    yield chunk
                    if done > blob.size:
                        return
                tries += 1
                reason = f"it ended after {done} of {blob.size} bytes"
            except _BROKEN as error:
                tries += 1
                reason = _reason(error)
            if done < blob.size:
                if tries >= _TRIES:
                    raise SourceError(f"{self.place} broke off {blob.digest}: {reason}")
                time.sleep(_pause(tries))

    def _rest(self, digest: str, offset: int) -> Iterator[bytes]:
        """A blob from `offset` on; where a registry knows no ranges, what was read before is skipped."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with contextlib.closing(self._get(f"blobs/{digest}", headers)) as response:
            skip = offset if response.status_code != HTTPStatus.PARTIAL_CONTENT else 0
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                if rest := chunk[skip:]:
                    yield rest
                skip = max(0, skip - len(chunk))

    def _document(self, response: requests.Response) -> bytes:
        data = b""
        try:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                data += chunk
                if len(data) > LARGEST_DOCUMENT:
                    raise SourceError(
                        f"{self.place} answers with more than {LARGEST_DOCUMENT} bytes for {self._name.path}"
                    )
        except _BROKEN as error:
            raise SourceError(f"{self.place} broke off: {_reason(error)}") from None
        return data

    def _get(self, path: str, headers: Mapping[str, str] = MappingProxyType({})) -> requests.Response:
        """An answer with a body that is wanted; raises `SourceError` for any other."""
        url = f"{self._base}/{path}"
        response = self._retried(url, headers)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            response.close()
            self._authorization = self._authorize(response.headers.get("WWW-Authenticate", ""))
            response = self._retried(url, headers)
        if response.status_code not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            response.close()
            raise self._refused(response.status_code)
        return response

    def _retried(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Ask until there is an answer that is no passing trouble, or too often."""
        authorization = {"Authorization": self._authorization} if self._authorization else {}
        for attempt in range(1, _TRIES + 1):
            try:
                response = self._session.get(url, headers={**headers, **authorization}, stream=True, timeout=_TIMEOUT)
            except _BROKEN as error:
                if attempt == _TRIES or isinstance(error, requests.exceptions.SSLError):
                    raise self._unreachable(error) from None
                time.sleep(_pause(attempt))
                continue
            if response.status_code not in _PASSING or attempt == _TRIES:
                return response
            response.close()
            time.sleep(_pause(attempt, response.headers.get("Retry-After", "")))
        raise AssertionError

    def _authorize(self, challenge: str) -> str:
        """The Authorization header that answers a challenge (RFC 9110, section 11.6.1)."""
        login, self._login_from = find_login(self._name.domain, self._name.path, self._environ)
        if bearer := re.search(r"\bbearer\s+(.*)", challenge, re.IGNORECASE):
            if login and login.bearer:
                return f"Bearer {login.bearer}"
            parameters = {key.lower(): quoted or bare for key, quoted, bare in _PARAMETER.findall(bearer[1])}
            return f"Bearer {self._token(parameters, login)}"
        if login is None or not login.password:
            raise self._refused(HTTPStatus.UNAUTHORIZED)
        return _basic(login)

    def _token(self, parameters: Mapping[str, str], login: Login | None) -> str:
        """Ask the registry's token service. A login goes there encrypted, unless all of it is plain."""
        realm = parameters.get("realm", "")
        secure = {"https"} if self._base.startswith("https:") else {"https", "http"}
        if urlsplit(realm).scheme not in secure:
            raise SourceError(f"{self.place} names a token service that is not encrypted")
        query = {"scope": parameters.get("scope") or f"repository:{self._name.path}:pull"}
        if "service" in parameters:
            query["service"] = parameters["service"]
        try:
            if login and login.identity_token:
                form = {"grant_type": "refresh_token", "client_id": "layerferry", "refresh_token": login.identity_token}
                response = self._session.post(realm, data={**query, **form}, timeout=_TIMEOUT)
            else:
                headers = {"Authorization": _basic(login)} if login else {}
                response = self._session.get(realm, params=query, headers=headers, timeout=_TIMEOUT)
            answer = response.json() if response.ok else {}
        except (*_BROKEN, ValueError) as error:
            raise SourceError(f"{self.place}: its token service does not answer: {_reason(error)}") from None
        token = answer.get("token") or answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise self._refused(response.status_code if not response.ok else HTTPStatus.UNAUTHORIZED)
        return token

    def _speaks_plain(self, host: str) -> bool:
        """Whether a registry on this machine takes HTTP; a server of TLS answers that with 400, or not at all."""
        try:
            with contextlib.closing(self._session.get(f"http://{host}/v2/", timeout=_TIMEOUT)) as response:
                return response.status_code != HTTPStatus.BAD_REQUEST
        except requests.exceptions.ConnectionError as error:
            if isinstance(_cause(error), ConnectionRefusedError):
                raise self._unreachable(error) from None
            return False
        except _BROKEN as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> SourceError:
        hint = ""
        if isinstance(error, requests.exceptions.SSLError):
            hint = (
                f"Its CA goes to {_CERTIFICATES / self._name.domain}/ca.crt; registry:http://… is for one without TLS."
            )
        return SourceError(f"{self.place} does not answer: {_reason(error)}", hint=hint)

    def _refused(self, status: int) -> SourceError:
        image = f"{self.place} has no {self._name.path}"
        match status:
            case 401 | 403:
                where = self._login_from
                return SourceError(
                    f"{image}, or not for this login",
                    hint=f"`docker login {self._name.domain}` gives one. Used was: {where}." if where else "",
                )
            case 404:
                return SourceError(f"{image}:{self._name.tag or 'latest'}")
            case 429:
                return SourceError(f"{self.place} allows no more requests for now", hint="A login may allow more.")
            case _:
                return SourceError(f"{self.place} answers with HTTP {status}")


class _Session(requests.Session):
    """Proxies as the environment says; no login out of a .netrc; the system's certificates, and docker's for `host`."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self.auth = _as_it_is
        self.headers.update({"User-Agent": f"layerferry/{__version__}", "Accept-Encoding": "identity"})
        context = ssl.create_default_context()
        for path in sorted((_CERTIFICATES / host).glob("*.crt")):
            with contextlib.suppress(OSError):
                context.load_verify_locations(path)
        self.mount("https://", _Trusting(context))

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """A redirect to another host, a blob store for one, gets no login; requests would look into .netrc here."""
        before, after = str(response.request.url), str(prepared_request.url)
        if self.should_strip_auth(before, after):
            prepared_request.headers.pop("Authorization", None)


class _Trusting(HTTPAdapter):
    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        return super().proxy_manager_for(*arguments, **options, ssl_context=self._context)


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _is_here(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost" or name.endswith(".localhost")


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode()


def _pause(attempt: int, told: str = "") -> float:
    """Seconds before the next try; `told` is a Retry-After (RFC 9110, section 10.2.3), dates are not followed."""
    return min(float(told), _LONGEST_WAIT) if told.isdecimal() else 0.25 * 2.0**attempt


def _cause(error: BaseException) -> BaseException:
    """What is behind an error: requests wraps urllib3's, that wraps the socket's."""
    inner = getattr(error, "reason", None) or error.__cause__ or error.__context__
    inner = next((part for part in error.args if isinstance(part, BaseException)), inner)
    return _cause(inner) if isinstance(inner, BaseException) and inner is not error else error


def _reason(error: BaseException) -> str:
    cause = _cause(error)
    return str(getattr(cause, "strerror", None) or cause)[:200] or type(cause).__name__
