"""What the settings mean beyond their values: whether a tunnel is wanted, what is secret, where each came from."""

from typing import Any

import pytest

from layerferry.errors import UsageError
from layerferry.settings import load
from layerferry.settings.values import FIELDS, Settings, origins, variables

TOKEN, OTHER = "2aToken_of_these_tests", "2bAnother_token"


@pytest.mark.parametrize(
    ("own", "older", "token", "wanted"),
    [
        (None, None, "", False),
        (TOKEN, None, TOKEN, True),
        (None, OTHER, OTHER, True),
        (TOKEN, OTHER, TOKEN, True),
        (None, "true", "", True),
        (None, "TRUE", "", True),
        (None, "1", "", True),
        (None, "false", "", False),
        (None, "0", "", False),
        (None, "", "", False),
        (TOKEN, "true", TOKEN, True),
        (TOKEN, "false", TOKEN, True),
        ("", "true", "", True),
        (f" {TOKEN}\n", None, TOKEN, True),
    ],
)
def test_a_tunnel_is_wanted_with_a_token_or_where_the_older_switch_says_so(
    monkeypatch: pytest.MonkeyPatch, own: str | None, older: str | None, token: str, *, wanted: bool
) -> None:
    for name, value in (("LAYERFERRY_NGROK_AUTHTOKEN", own), ("DOCKER_REGISTRY_NGROK", older)):
        if value is not None:
            monkeypatch.setenv(name, value)
    settings = load()
    assert settings.ngrok_token == token
    assert settings.wants_ngrok is wanted


def test_every_secret_that_was_given_is_known_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token that is not used is as secret as the one that is."""
    monkeypatch.setenv("NGROK_AUTHTOKEN", TOKEN)
    monkeypatch.setenv("DOCKER_REGISTRY_NGROK", OTHER)
    monkeypatch.setenv("LAYERFERRY_SSH_KEY", "a key")
    assert set(load().known_secrets) == {TOKEN, OTHER, "a key"}


@pytest.mark.parametrize("switch", ["true", "0", "False", "on"])
def test_a_switch_is_no_secret(monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    """Else every `true` of the log would read `***`."""
    monkeypatch.setenv("DOCKER_REGISTRY_NGROK", switch)
    assert load().known_secrets == ()


def test_the_secrets_are_in_no_picture_of_the_settings() -> None:
    secrets: dict[str, Any] = {field.name: "SECRET" for field in FIELDS if field.metadata["secret"]}
    assert len(secrets) == 7
    assert "SECRET" not in repr(Settings(**secrets))


@pytest.mark.parametrize("name", [field.name for field in FIELDS])
def test_each_setting_has_a_variable_with_our_prefix_that_counts_first(name: str) -> None:
    assert variables(name)[0] == f"LAYERFERRY_{name.upper()}"


def test_a_setting_of_the_command_line_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERFERRY_ROUTE", "export")
    given = {"route": "ngrok", "platform": ""}
    shown = {one.variable: one for one in origins(load(given), {"LAYERFERRY_ROUTE": "export"}, given, {})}
    assert (shown["LAYERFERRY_ROUTE"].value, shown["LAYERFERRY_ROUTE"].source) == ("ngrok", "command line")
    assert (shown["LAYERFERRY_PLATFORM"].value, shown["LAYERFERRY_PLATFORM"].source) == ("", "default")


def test_no_origin_shows_a_secret_or_a_second_line() -> None:
    secrets = {"ssh_key": "SECRET\nSECRET", "ngrok_authtoken": "SECRET"}
    settings = load({**secrets, "ssh_known_hosts": "one\ntwo\r\nthree"})
    shown = {one.variable: one.value for one in origins(settings, {}, {}, {})}
    assert shown["LAYERFERRY_SSH_KNOWN_HOSTS"] == "one two three"
    assert not [value for value in shown.values() if "SECRET" in value or "\n" in value]


def test_no_origin_shows_the_password_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused where the host is called, and that may come later, or never."""
    monkeypatch.setenv("LAYERFERRY_TARGETS", "one deploy:SECRET@prod registry://r?via=me:SECRET@b")
    monkeypatch.setenv("LAYERFERRY_VIA", "ssh://me:SECRET@b")
    monkeypatch.setenv("LAYERFERRY_THEN_ON", "me:SECRET@node1, me@node2:22")
    monkeypatch.setenv("LAYERFERRY_IMAGES", f"app:1@sha256:{'a' * 64}")
    shown = {one.variable: one.value for one in origins(load(), {}, {}, {})}
    assert shown["LAYERFERRY_TARGETS"] == "one deploy:***@prod registry://r?via=me:***@b"
    assert shown["LAYERFERRY_VIA"] == "ssh://me:***@b"
    assert shown["LAYERFERRY_THEN_ON"] == "me:***@node1 me@node2:22"
    assert shown["LAYERFERRY_IMAGES"] == f"app:1@sha256:{'a' * 64}"


@pytest.mark.parametrize("address", ["registry", "registry:5000", "http://registry:5000/", "[::1]:5000"])
def test_a_registry_is_given_as_an_address(address: str) -> None:
    assert load({"registry": address}).registry == address


@pytest.mark.parametrize("address", ["registry:port", "a b:5000", "registry/path", "registry:0", "me@registry:5000"])
def test_what_is_no_address_is_a_mistake(address: str) -> None:
    with pytest.raises(UsageError, match="--registry: it is not an address"):
        load({"registry": address})
