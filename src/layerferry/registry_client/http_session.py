"""The session of a registry's HTTP client: certificates, proxies and relays, and no login that we do not set."""

import contextlib
import ssl
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from layerferry import __version__, log
from layerferry.registry_client.connections import Bounded, BoundedTls, pools
from layerferry.registry_client.ssh_relay import Relay, RelayAdapter
from layerferry.registry_client.this_machine import is_here

#: Where docker looks for a registry's own CA.
CERTIFICATES = Path("/etc/docker/certs.d")


class RegistrySession(requests.Session):
    """A session with the environment's proxies, the system's CAs and docker's for `host`, and no login out of a .netrc.

    With a `relay` every connection goes through that, also those to a token service and a blob store.
    No redirect is followed here, since requests would first read its body whole, and unpack it. No cookie is kept.
    """

    def __init__(self, host: str, relay: Relay | None = None) -> None:
        super().__init__()
        self.auth = _as_it_is
        self.hooks["response"].append(log.answered("registry"))
        self.headers.update({"User-Agent": f"layerferry/{__version__}", "Accept-Encoding": "identity"})
        context = ssl.create_default_context()
        # Python 3.13 has it by default; docker's own client trusts what a private authority leaves out.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        for path in sorted((CERTIFICATES / host).glob("*.crt")):
            with contextlib.suppress(OSError):
                context.load_verify_locations(path)
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self.mount(scheme, RelayAdapter(relay, context) if relay else _Trusting(context))

    def merge_environment_settings(self, url: Any, *settings: Any) -> dict[str, Any]:
        """What requests takes of the environment. No proxy leads to this machine; Go, and so docker, has it so too."""
        merged = super().merge_environment_settings(url, *settings)
        return {**merged, "proxies": {}} if is_here(urlsplit(url).hostname or "") else merged

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: `Endpoint.follow` decides where a redirect may lead, and what goes there."""
        del resp


class _Trusting(HTTPAdapter):
    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)
        self.poolmanager.pool_classes_by_scheme = pools(Bounded, BoundedTls)

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options, ssl_context=self._context)
        if not str(proxy).lower().startswith("socks"):  # those have connections of their own
            manager.pool_classes_by_scheme = pools(Bounded, BoundedTls)
        return manager


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
