"""A repository of a registry: its manifests and blobs, with the user's login.

Specs: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md ("Pull"),
https://distribution.github.io/distribution/spec/auth/token/ and .../auth/oauth/ for tokens.
"""

import base64
import contextlib
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from urllib.parse import urlencode, urljoin, urlsplit

import requests

from layerferry import log
from layerferry.causes import reason
from layerferry.chunks import CHUNK
from layerferry.errors import LayerferryError
from layerferry.oci import limits
from layerferry.oci.documents import Document
from layerferry.oci.image import Descriptor, MediaType, Name
from layerferry.oci.manifest import INDEX_TYPES, MANIFEST_TYPES
from layerferry.registry_client.challenge import bearer
from layerferry.registry_client.connections import BROKEN, chunks_of, whole
from layerferry.registry_client.endpoint import Endpoint, UploadBody, origin
from layerferry.registry_client.logins import Login, find_login

_ACCEPT = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
_FORM = "application/x-www-form-urlencoded"
_SUCCESS = range(200, 300)
_DENIED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Repository:
    """A repository to read from. Errors are of the classes of the endpoint's `blame`."""

    def __init__(self, endpoint: Endpoint, name: Name) -> None:
        self.place = endpoint.place
        self.name = name
        self._endpoint = endpoint
        self._authorization = ""
        self._login_from = ""
        self._base = f"{endpoint.url}/{name.path}"

    def close(self) -> None:
        self._endpoint.close()

    def manifest(self, reference: str) -> tuple[str, bytes]:
        """The media type, empty where none is told, and the bytes of a manifest or index, by tag or digest."""
        with contextlib.closing(self._find(reference)) as response:
            if response.status_code == HTTPStatus.NOT_FOUND:
                raise self._refused(response.status_code, _said(response))
            return self._manifest(response)

    def _manifest(self, response: requests.Response) -> tuple[str, bytes]:
        return _media_type(response.headers.get("Content-Type", "")), self._document(response)

    def _find(self, reference: str) -> requests.Response:
        return self._ask(
            "GET", f"manifests/{reference}", {"Accept": _ACCEPT}, expect={HTTPStatus.OK, HTTPStatus.NOT_FOUND}
        )

    def document(self, descriptor: Descriptor) -> bytes:
        """A manifest, an index or a config."""
        if descriptor.media_type in MANIFEST_TYPES | INDEX_TYPES:
            return self.manifest(descriptor.digest)[1]
        with contextlib.closing(self._get(f"blobs/{descriptor.digest}")) as response:
            return self._document(response)

    def blob(self, blob: Descriptor) -> Generator[bytes, None, None]:
        """The bytes of a blob. Where the connection breaks, another request asks for the rest.

        These tries are ours, since no library's go on in the midst of a body.
        """
        done, marked, tries = 0, 0, self._endpoint.tries()
        while done < blob.size:
            try:
                for chunk in self._rest(blob.digest, done):
                    done += len(chunk)
                    if done - marked >= CHUNK:
                        tries, marked = self._endpoint.tries(), done
                    yield chunk
                    if done > blob.size:
                        return
                why = f"it ended after {done} of {blob.size} bytes"
            except BROKEN as error:
                why = reason(error)
            if done < blob.size:
                if tries.last:
                    raise self._endpoint.blame.answer(f"{self.place} broke off {blob.digest}: {why}")
                tries = self._endpoint.again(f"it broke off {blob.digest[:19]} ({why})", tries)

    def _rest(self, digest: str, offset: int) -> Iterator[bytes]:
        """The bytes of a blob from `offset` on; where a registry knows no ranges, those before it are skipped."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with contextlib.closing(self._get(f"blobs/{digest}", headers)) as response:
            skip = offset if response.status_code != HTTPStatus.PARTIAL_CONTENT else 0
            for chunk in chunks_of(response):
                if rest := chunk[skip:]:
                    yield rest
                skip = max(0, skip - len(chunk))

    def _document(self, response: requests.Response) -> bytes:
        try:
            data = whole(response, limits.DOCUMENT)
        except BROKEN as error:
            raise self._endpoint.blame.answer(f"{self.place} broke off: {reason(error)}") from None
        if data is None:
            raise self._endpoint.blame.answer(
                f"{self.place} answers with more than {limits.DOCUMENT} bytes for {self.name.path}"
            )
        return data

    def _get(self, path: str, headers: Mapping[str, str] = _NOTHING) -> requests.Response:
        return self._ask("GET", path, headers, expect={HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT})

    def _ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] = _NOTHING,
        body: bytes | UploadBody | None = None,
        *,
        expect: Collection[int],
        stores: int = 0,
    ) -> requests.Response:
        """The response, with one of the statuses `expect`; raises for any other. `path` may be a whole URL.

        The login goes to the registry alone. A token that has expired is renewed once, save where the body is an
        `UploadBody`, which has been read by then: a 401 is the caller's to handle. `stores` is for `Endpoint.send`.
        """
        url = urljoin(f"{self._base}/", path)
        by_digest = path.startswith("blobs/sha256:")
        send = partial(self._endpoint.send, method, url, body=body, by_digest=by_digest, stores=stores)
        response = send({**headers, **self._login(url)})
        replayable = body is None or isinstance(body, bytes)
        if response.status_code == HTTPStatus.UNAUTHORIZED and self._is_ours(url) and replayable:
            response.close()
            self._authorization = self._authorize(response.headers.get("WWW-Authenticate", ""))
            response = send({**headers, **self._login(url)})
        if response.status_code not in expect:
            with contextlib.closing(response):
                raise self._refused(response.status_code, _said(response))
        return response

    def _login(self, url: str) -> dict[str, str]:
        return {"Authorization": self._authorization} if self._authorization and self._is_ours(url) else {}

    def _is_ours(self, url: str) -> bool:
        return origin(url) == origin(self._base)

    def _authorize(self, challenge: str) -> str:
        """The Authorization header that answers a challenge (RFC 9110, section 11.6.1)."""
        login, self._login_from = find_login(self._endpoint.domain, self.name.path, self._endpoint.environ)
        log.mask(*(login.secrets if login else ()))
        if len(challenge) > limits.TEXT:
            raise self._endpoint.blame.answer(f"{self.place} asks for a login in more than {limits.TEXT} characters")
        if not challenge.replace("\t", " ").isprintable():  # RFC 9110 has tabs as blanks
            raise self._endpoint.blame.answer(f"{self.place} asks for a login in signs that are no text")
        if (parameters := bearer(challenge)) is not None:
            if login and login.bearer:
                return f"Bearer {login.bearer}"
            return f"Bearer {self._token(parameters, login)}"
        if login is None or not login.password:
            raise self._refused(HTTPStatus.UNAUTHORIZED)
        return _basic(login)

    def _scopes(self, asked: str) -> Sequence[str]:
        """The scopes that a token is to have; `asked` is that of the challenge, several with spaces between."""
        return asked.split() or [f"repository:{self.name.path}:pull"]

    def _token(self, parameters: Mapping[str, str], login: Login | None) -> str:
        """A token of the registry's token service. A login goes there through TLS, unless the registry has none."""
        realm = parameters.get("realm", "")
        if not realm.lower().startswith(("https://", "http://")):
            raise self._endpoint.blame.answer(f"{self.place} names no token service")
        if self._base.startswith("https:") and not realm.lower().startswith("https:"):
            raise self._endpoint.blame.answer(f"{self.place} names a token service that is not encrypted")
        realm = self._endpoint.leads(self._base, realm)
        query = {"service": parameters["service"]} if "service" in parameters else {}
        service = f"the token service of {self._endpoint.domain}"
        try:
            with contextlib.closing(self._ask_for_token(service, realm, query, parameters, login)) as response:
                if response.status_code in _DENIED:
                    raise self._refused(response.status_code)
                if response.status_code not in _SUCCESS:
                    told = f"{service} answers with HTTP {response.status_code}"
                    said = _said(response)
                    raise self._endpoint.blame.answer(told + (f" ({said})" if said else ""))
                data = whole(response, limits.REPLY)
        except BROKEN as error:
            raise self._endpoint.unreachable(error, service) from None
        what = f"the answer of {service}"
        if data is None:
            raise self._endpoint.blame.answer(f"{what} is refused: it has more than {limits.REPLY} bytes")
        answer = Document.parse(data, what, error=self._endpoint.blame.answer)
        token = answer.text("token", "", most=limits.TOKEN) or answer.text("access_token", "", most=limits.TOKEN)
        if not token:
            raise self._refused(HTTPStatus.UNAUTHORIZED)
        if not (token.isascii() and token.isprintable()):
            raise answer.damaged("its token is none")
        return token

    def _ask_for_token(
        self, service: str, realm: str, query: Mapping[str, str], parameters: Mapping[str, str], login: Login | None
    ) -> requests.Response:
        """The token service's response. An identity token goes to the realm's URL alone, a password to its host."""
        scopes = self._scopes(parameters.get("scope", ""))
        if login and login.identity_token:
            form = {"grant_type": "refresh_token", "client_id": "layerferry", "refresh_token": login.identity_token}
            body = urlencode({**query, **form, "scope": " ".join(scopes)}).encode()
            return self._endpoint.send("POST", realm, {"Content-Type": _FORM}, body, who=service)
        joint = "&" if urlsplit(realm).query else "?"
        url = f"{realm}{joint}{urlencode({**query, 'scope': scopes}, doseq=True)}"
        headers = {"Authorization": _basic(login)} if login else {}
        return self._endpoint.send("GET", url, headers, elsewhere=not headers, who=service)

    def _refused(self, status: int, said: str = "") -> LayerferryError:
        error = self._endpoint.blame.answer
        image = f"{self.place} has no {self.name.path}"
        match status:
            case 401 | 403:
                return error(f"{image}, or not for this login", hint=self._login_hint())
            case 404:
                return error(f"{image}:{self.name.tag or 'latest'}")
            case 429:
                return error(f"{self.place} allows no more requests for now", hint="A login may allow more.")
            case _:
                return error(f"{self.place} answers with HTTP {status}" + (f" ({said})" if said else ""))

    def _login_hint(self) -> str:
        where = self._login_from
        return f"`docker login {self._endpoint.domain}` gives one. Used was: {where}." if where else ""


def _said(response: requests.Response) -> str:
    """The first error of a response's body (distribution-spec, "Error Codes"), in one line."""
    try:
        answer = Document.parse(whole(response, limits.REPLY) or b"", "an error")
        first = answer.objects("errors")[0]
        return " ".join(f"{first.text('code', '')} {first.text('message', '')}".split())[:200]
    except (*BROKEN, LayerferryError, LookupError):
        return ""


def _media_type(header: str) -> str:
    """The media type of a Content-Type (RFC 9110, section 8.3); empty where it is none."""
    try:
        return MediaType(header.partition(";")[0].strip())
    except ValueError:
        return ""


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
