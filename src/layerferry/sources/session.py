"""How a registry's HTTP client meets the world: certificates, proxies, no logins but those it is told, and relays."""

import contextlib
import ssl
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from layerferry import __version__
from layerferry.sources.relay import Relay, RelayAdapter

#: Where docker looks for a registry's own CA.
CERTIFICATES = Path("/etc/docker/certs.d")


class Session(requests.Session):
    """Proxies as the environment says; no login out of a .netrc; the system's certificates, and docker's for `host`.

    With a `relay` every connection goes through that, to whichever host: a token service's and a blob store's as well.
    """

    def __init__(self, host: str, relay: Relay | None = None) -> None:
        super().__init__()
        self.auth = _as_it_is
        self.headers.update({"User-Agent": f"layerferry/{__version__}", "Accept-Encoding": "identity"})
        context = ssl.create_default_context()
        for path in sorted((CERTIFICATES / host).glob("*.crt")):
            with contextlib.suppress(OSError):
                context.load_verify_locations(path)
        self.mount("https://", RelayAdapter(relay, context) if relay else _Trusting(context))
        if relay:
            self.mount("http://", RelayAdapter(relay, context))

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
