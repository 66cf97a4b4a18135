"""Settings: where they come from, what counts, and how mistakes are told."""

import dataclasses
import sys

import pytest

from layerferry import settings
from layerferry.compression.stream import Compression, Method
from layerferry.errors import UsageError
from layerferry.oci.image import Platform
from layerferry.settings.values import FIELDS, Settings, origins, table, variables

SECRET = "2abcSECRETtoken"


def test_nothing_needs_to_be_set() -> None:
    chosen = settings.load()
    assert (chosen.images, chosen.targets, chosen.route, chosen.timeout) == ((), (), "auto", 0)
    assert chosen.parsed_platform is None
    assert chosen.parsed_compression == Compression()
    assert chosen.ngrok_token == ""
    assert chosen.wants_ngrok is False
    assert chosen.known_secrets == ()


@pytest.mark.parametrize(
    "text",
    ["app:1,web:2", "app:1 web:2", "app:1\nweb:2\n", " app:1 ,\n\t web:2 ,", "app:1,,web:2", "\r\napp:1\r\nweb:2\r\n"],
)
def test_lists_are_separated_by_commas_spaces_or_newlines(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("LAYERFERRY_IMAGES", text)
    monkeypatch.setenv("LAYERFERRY_TARGETS", text)
    chosen = settings.load()
    assert chosen.images == chosen.targets == ("app:1", "web:2")


@pytest.mark.parametrize("text", ["", "  ", ",", "\n"])
def test_an_empty_list_is_empty(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("LAYERFERRY_IMAGES", text)
    assert settings.load().images == ()


def test_each_kind_of_value_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ROUTE": "registry", "PLATFORM": "linux/arm64", "COMPRESSION": "zstd:9", "TIMEOUT": "2.5",
        "REGISTRY": "registry:5000", "SUMMARY": "false", "NGROK_INSTALL": "true", "SSH_KNOWN_HOSTS": "h ssh-rsa A",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"LAYERFERRY_{name}", value)
    chosen = settings.load()
    assert (chosen.route, chosen.timeout, chosen.summary, chosen.ngrok_install) == ("registry", 2.5, False, True)
    assert chosen.parsed_platform == Platform("linux", "arm64")
    assert chosen.parsed_compression == Compression(Method.ZSTD, 9)


@pytest.mark.parametrize("name", ["ROUTE", "COMPRESSION", "TIMEOUT", "PLATFORM", "REGISTRY", "SUMMARY"])
def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"LAYERFERRY_{name}", "")
    field = name.lower()
    chosen = settings.load()
    assert getattr(chosen, field) == getattr(Settings(), field)
    assert chosen.parsed_compression == Compression()


def test_the_command_line_goes_before_the_environment_and_none_of_it_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAYERFERRY_ROUTE", "registry")
    monkeypatch.setenv("LAYERFERRY_TIMEOUT", "5")
    chosen = settings.load({"route": "export", "timeout": None, "compression": ""})
    assert (chosen.route, chosen.timeout, chosen.compression) == ("export", 5, "auto")


def test_all_mistakes_are_told_at_once_each_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ROUTE": "teleport", "COMPRESSION": "lz4", "PLATFORM": "linux", "TIMEOUT": "soon"}.items():
        monkeypatch.setenv(f"LAYERFERRY_{name}", value)
    with pytest.raises(UsageError) as caught:
        settings.load({"platform": "also-wrong"})
    message = caught.value.message
    for name in ("LAYERFERRY_ROUTE", "LAYERFERRY_COMPRESSION", "LAYERFERRY_TIMEOUT", "--platform"):
        assert f"{name}: " in message
    assert "LAYERFERRY_PLATFORM" not in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("word", ["none", "None", "null", "undefined"])
def test_a_word_for_no_token_is_none_and_is_not_masked(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("NGROK_AUTHTOKEN", word)
    chosen = settings.load()
    assert (chosen.wants_ngrok, chosen.ngrok_token, chosen.known_secrets) == (False, "", ())


@pytest.mark.parametrize(
    "name", ["LAYERFERRY_NGROK_AUTHTOKEN", "NGROK_AUTHTOKEN", "DOCKER_REGISTRY_NGROK", "LAYERFERRY_SSH_KEY"]
)
def test_a_secret_is_in_no_message_and_no_picture_of_the_settings(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, SECRET)
    chosen = settings.load()
    assert SECRET in chosen.known_secrets
    assert SECRET not in repr(chosen) + str(chosen)
    assert SECRET not in str([*origins(chosen, {name: SECRET}, {}, {})])
    monkeypatch.setenv("LAYERFERRY_ROUTE", "teleport")
    with pytest.raises(UsageError) as caught:
        settings.load()
    assert SECRET not in str(caught.value) + caught.value.hint
    assert caught.value.__cause__ is None


def test_what_older_pipelines_set_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_DOCKER_REGISTRY_PORT", "5000")
    monkeypatch.setenv("DOCKER_REGISTRY_NGROK", "true")
    chosen = settings.load()
    assert (chosen.local_docker_registry_port, chosen.wants_ngrok, chosen.ngrok_token) == (5000, True, "")
    monkeypatch.setenv("DOCKER_REGISTRY_NGROK", SECRET)
    assert settings.load().ngrok_token == SECRET
    monkeypatch.setenv("DOCKER_REGISTRY_NGROK", "false")
    assert settings.load().wants_ngrok is False


@pytest.mark.parametrize("port", ["0", "70000", "http"])
def test_a_port_that_is_none_is_told_by_the_variable_that_was_set(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("LOCAL_DOCKER_REGISTRY_PORT", port)
    with pytest.raises(UsageError, match=r"^LOCAL_DOCKER_REGISTRY_PORT: "):
        settings.load()


def test_our_own_name_goes_before_an_older_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGROK_AUTHTOKEN", "older")
    monkeypatch.setenv("LAYERFERRY_NGROK_AUTHTOKEN", SECRET)
    assert settings.load().ngrok_token == SECRET


@pytest.mark.parametrize("empty", ["", " ", "\n"])
@pytest.mark.parametrize("field", [field for field in FIELDS if field.metadata["older"]], ids=lambda field: field.name)
def test_an_empty_variable_hides_no_older_one(
    monkeypatch: pytest.MonkeyPatch, field: "dataclasses.Field[object]", empty: str
) -> None:
    own, older = variables(field.name)
    monkeypatch.setenv(own, empty)
    monkeypatch.setenv(older, "5000")
    chosen = settings.load()
    assert str(getattr(chosen, field.name)) == "5000"
    told = {origin.variable: origin.source for origin in origins(chosen, settings.environment(), {}, {})}
    assert told[own] == older


def test_with_an_older_token_behind_an_empty_one_a_tunnel_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERFERRY_NGROK_AUTHTOKEN", "")
    monkeypatch.setenv("NGROK_AUTHTOKEN", SECRET)
    assert (settings.load().wants_ngrok, settings.load().ngrok_token) == (True, SECRET)


def test_a_mistake_in_an_older_variable_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERFERRY_LOCAL_DOCKER_REGISTRY_PORT", "")
    monkeypatch.setenv("LOCAL_DOCKER_REGISTRY_PORT", "http")
    with pytest.raises(UsageError, match=r"^LOCAL_DOCKER_REGISTRY_PORT: "):
        settings.load()


def test_an_empty_secret_alone_is_not_taken_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs it says so."""
    monkeypatch.setenv("LAYERFERRY_SSH_KEY", "")
    assert settings.load().ssh_key == ""


def test_where_a_setting_in_small_letters_comes_from_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("layerferry_route", "export")
    chosen = settings.load()
    told = {origin.variable: origin.source for origin in origins(chosen, settings.environment(), {}, {})}
    assert (chosen.route, told["LAYERFERRY_ROUTE"]) == ("export", "layerferry_route")


def test_settings_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.load().route = "export"  # type: ignore[misc]


def test_the_model_is_not_loaded_where_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer to load than ssh takes to start."""
    monkeypatch.delattr(settings, "model", raising=False)
    monkeypatch.setitem(sys.modules, "layerferry.settings.model", None)
    assert settings.load({"route": None}) == Settings()
    monkeypatch.setenv("layerferry_route", "export")
    with pytest.raises(ImportError):
        settings.load()


def test_where_a_setting_comes_from_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERFERRY_TIMEOUT", "5")
    overrides = {"route": "export"}
    chosen = settings.load(overrides)
    told = {
        origin.variable: (origin.value, origin.source)
        for origin in origins(chosen, settings.environment(), overrides, {})
    }
    assert told["LAYERFERRY_ROUTE"] == ("export", "command line")
    assert told["LAYERFERRY_TIMEOUT"] == ("5.0", "LAYERFERRY_TIMEOUT")
    assert told["LAYERFERRY_COMPRESSION"] == ("auto", "default")


def test_every_setting_is_described_and_in_the_table() -> None:
    for field in FIELDS:
        assert field.metadata["says"]
        assert all(f"`{variable}`" in table() for variable in variables(field.name))


def test_ssh_waits_for_the_settings_only_where_they_say_something_of_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.has_ssh_material() is False
    monkeypatch.setenv("LAYERFERRY_SSH_KEY", SECRET)
    assert settings.has_ssh_material() is True
