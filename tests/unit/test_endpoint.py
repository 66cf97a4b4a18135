"""A registry's address: whose a URL is, and who hears a login."""

from collections.abc import Mapping
from io import BytesIO

import pytest
import requests
import urllib3

from layerferry.oci.image import Name
from layerferry.registry_client.endpoint import Endpoint
from layerferry.registry_client.http_session import RegistrySession
from layerferry.registry_client.repository import Repository


@pytest.mark.parametrize(
    ("domain", "plain_http", "ours"),
    [
        ("r.example", False, "https://r.example:443/upload/1"),
        ("r.example:443", False, "https://r.example/upload/1"),
        ("R.Example", False, "https://r.example/upload/1"),
        ("r.example:80", True, "http://r.example/upload/1"),
        ("r.example", True, "HTTP://R.EXAMPLE:80/upload/1"),
        ("[::1:2]:5000", False, "https://[::1:2]:5000/upload/1"),
    ],
)
def test_a_registry_is_the_same_however_its_address_is_written(domain: str, plain_http: bool, ours: str) -> None:
    repository = Repository(Endpoint(domain, {}, plain_http=plain_http), Name(domain, "app"))
    repository._authorization = "Bearer t0ken"
    assert repository._login(ours) == {"Authorization": "Bearer t0ken"}


@pytest.mark.parametrize(("place", "with_login"), [("https://r.example:443", True), ("https://cdn.example", False)])
def test_a_redirect_takes_the_login_along_to_the_registry_alone(
    place: str, with_login: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, heard = Endpoint("r.example", {}), list[Mapping[str, str]]()

    def request(_: str, url: str, headers: Mapping[str, str]) -> requests.Response:
        heard.append(headers)
        response = requests.Response()
        response.raw = urllib3.HTTPResponse(BytesIO(), preload_content=False)
        response.status_code = 307 if url == endpoint.url else 200
        response.headers["Location"] = f"{place}/blob"
        return response

    monkeypatch.setattr(endpoint, "request", request)
    assert endpoint.follow("GET", endpoint.url, {"Authorization": "Basic eA=="}).status_code == 200
    assert ["Authorization" in headers for headers in heard] == [True, with_login]


@pytest.mark.parametrize(
    ("host", "proxied"),
    [("127.0.0.1:5000", False), ("127.8.9.1", False), ("[::1]:5000", False), ("LocalHost", False), ("r.example", True)],
)
def test_no_proxy_leads_to_this_machine(host: str, proxied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    settings = RegistrySession(host).merge_environment_settings(f"https://{host}/v2/", {}, None, None, None)
    assert ("https" in settings["proxies"]) is proxied


@pytest.mark.parametrize(
    "url",
    [
        "http://r.example/x",
        "https://r.example:80/x",
        "http://r.example:443/x",
        "https://r.example:5000/x",
        "https://r.example.evil/x",
        "https://cdn.r.example/x",
    ],
)
def test_a_login_goes_nowhere_else(url: str) -> None:
    repository = Repository(Endpoint("r.example", {}), Name("r.example", "app"))
    repository._authorization = "Bearer t0ken"
    assert repository._login(url) == {}
