"""Ways to a registry that turn out to be none: each is told in a sentence."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest

from layerferry.errors import RouteError, SourceError
from layerferry.oci.image import Image, Layer, Platform
from layerferry.routes import reachability, service_registry
from layerferry.routes.reachability import Reachability, ServiceEndpoint
from layerferry.routes.service_registry import Served

A, B = (f"sha256:{letter * 64}" for letter in "ab")
LINUX = Platform("linux", "amd64")


def image(diff_id: str) -> Image:
    return Image("app:1", A, LINUX, Layer.chain([diff_id], [1]))


def way(*, token: str | None = "token") -> Reachability:
    """One whose registries and stack are not there."""
    here = object.__new__(Reachability)
    here._ngrok = SimpleNamespace(token=token, domain="", install=False) if token else None  # type: ignore[assignment]
    here._stack, here._environ, here._credentials, here._tunnel = MagicMock(), {}, Mock(), None
    here._registry = lambda _: Mock(port=1)  # type: ignore[method-assign, assignment]
    return here


def test_a_tunnel_that_the_daemon_does_not_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    here = way()
    monkeypatch.setattr("layerferry.routes.ngrok.tunnel.open_tunnel", Mock())
    monkeypatch.setattr(Reachability, "_ask", lambda *_: "no such host")
    monkeypatch.setattr(Reachability, "trouble", lambda _: None)
    with pytest.raises(RouteError, match=r"^the daemon does not reach the tunnel: no such host$"):
        here.tunnel()


def test_a_tunnel_needs_a_token() -> None:
    with pytest.raises(RouteError, match=r"^the route ngrok has no token$"):
        way(token=None).tunnel()


def test_a_host_that_forwards_no_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    here = way()
    here._topology, here._daemon = Mock(), Mock(host=None, ssh=SimpleNamespace(arguments={}))
    here._topology.daemon.url = "ssh://host"
    conduit = Mock(reverse=lambda _: None)
    conduit.name = "host"
    here._stack.enter_context = lambda _: conduit  # type: ignore[method-assign, assignment]
    monkeypatch.setattr(reachability, "SshConduit", Mock())
    with pytest.raises(RouteError, match=r"^host forwards no port back to us$"):
        here._forward(5000)


def test_a_service_that_serves_another_image_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = Mock()
    source.open.return_value.image = image(B)
    monkeypatch.setattr(service_registry, "RemoteSource", lambda _: source)
    endpoint = ServiceEndpoint("registry:5000", "http://registry:5000", "layerferry/x", {})
    inspected: Any = SimpleNamespace(image=image(A))
    served = Served(MagicMock(), endpoint, inspected, frozenset([A]), tmp_path)
    with served, pytest.raises(SourceError) as told:
        list(served.blobs())
    assert told.value.message == "the registry service at http://registry:5000 serves another image than was pushed"
