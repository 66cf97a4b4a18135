"""Variables that are wrong, or made to harm: each is one sentence of ours, which repeats no secret and no control."""

import base64
import re
from pathlib import Path

import pytest

from layerferry import settings
from layerferry.ci.daemon_address import check_daemon_url
from layerferry.ci.machine import Machine
from layerferry.ci.ssh_identity import read_key, read_known_hosts
from layerferry.ci.topology import detect
from layerferry.errors import UsageError
from layerferry.settings.values import FIELDS, variables
from layerferry.targets.ssh_target import SshTarget

HOSTS = "web1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE5vdEFLZXlCdXRUaGVTaGFwZU9mT25lISEhISEh"
#: What a terminal, a CI or ssh_config could take for its own.
CONTROLS = ["\x1b]0;x\x07", "\x9b2J", "\x7f", "\x00", "a\rProxyCommand=x", "\u202eevil", "\u2028::add-mask::x"]
PASSWORD = "s3cr3t-of-these-tests"


def complaint(overrides: dict[str, object]) -> str:
    with pytest.raises(UsageError) as caught:
        settings.load(overrides)
    text = caught.value.message + caught.value.hint
    assert text.isprintable()
    return text


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize(
    "name", ["via", "route", "registry", "ngrok_authtoken", "ngrok_domain", "platform", "compression", "dotenv"]
)
def test_a_control_character_is_refused_and_not_repeated(name: str, control: str) -> None:
    assert complaint({name: f"web{control}1"}) == f"--{name.replace('_', '-')}: it has a control character in it"


@pytest.mark.parametrize("control", ["\x1b]0;x\x07", "\x9b2J", "\x7f", "\x00", "\u202eevil"])
@pytest.mark.parametrize("name", ["images", "targets"])
def test_so_it_is_in_a_word_of_a_list(name: str, control: str) -> None:
    assert complaint({name: f"app:1 we{control}b:2"}) == f"--{name}: it has a control character in it"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("jobs", "many", "it is not a whole number"),
        ("jobs", "1.5", "it is not a whole number"),
        ("jobs", "9" * 5000, "it is not a whole number of a sensible size"),
        ("jobs", "0", "it must be 1 or more"),
        ("timeout", "soon", "it is not a number"),
        ("timeout", "inf", "it is not a number"),
        ("timeout", "nan", "it is not a number"),
        ("timeout", "1e400", "it is not a number"),
        ("timeout", "1e300", "it must be 31622400 or less"),
        ("timeout", "-1", "it must be 0 or more"),
        ("summary", "perhaps", "it is neither true nor false"),
        ("route", "teleport", "it is none of 'auto', 'registry', 'ngrok' or 'export'"),
        ("local_docker_registry_port", "70000", "it must be 65535 or less"),
        ("ngrok_domain", "me.ngrok.app/x?y", "it is not the name of a domain, such as me.ngrok.app"),
        ("ngrok_domain", "me:pw@ngrok.app", "it is not the name of a domain, such as me.ngrok.app"),
        ("ngrok_domain", "-x", "it is not the name of a domain, such as me.ngrok.app"),
        ("ngrok_domain", "a" * 300, "it is not the name of a domain, such as me.ngrok.app"),
    ],
)
def test_a_mistake_is_told_in_our_words_and_the_value_is_not_repeated(name: str, value: str, sentence: str) -> None:
    assert complaint({name: value}) == f"--{name.replace('_', '-')}: {sentence}"


#: What a sentence of ours begins with, and pydantic's do not: those speak of inputs, types and URLs of its own.
OURS = re.compile(r"it (is|must|has|cannot|takes)\b|'[^']*' is|[a-z:]+ takes")
WRONG = [
    "",
    " ",
    "-1",
    "0",
    "99999999999999999999",
    "1e999",
    "nan",
    "perhaps",
    "[]",
    '["a"]',
    "{",
    "{}",
    "null",
    "x" * 5000,
    "a\nb",
]


def said_of(variable: str) -> str:
    try:
        settings.load()
    except UsageError as error:
        return error.message
    return f"{variable}: it is taken"


@pytest.mark.parametrize("name", [field.name for field in FIELDS])
def test_no_sentence_of_pydantic_reaches_anybody(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    variable = f"LAYERFERRY_{name.upper()}"
    for value in WRONG:
        monkeypatch.setenv(variable, value)
        start, _, sentence = said_of(variable).partition(": ")
        assert start == variable
        assert OURS.match(sentence), sentence
        assert not re.search(r"pydantic|input|type=|\bvalid\b|greater|should", sentence), sentence


# Variables that are none.


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LAYERFERRY_TARGET", "LAYERFERRY_TARGETS"),
        ("layerferry_target", "LAYERFERRY_TARGETS"),
        ("LAYERFERRY_HOST", "LAYERFERRY_TARGETS"),
        ("LAYERFERRY_IMAGE", "LAYERFERRY_IMAGES"),
        ("LAYERFERRY_KNOWN_HOSTS", "LAYERFERRY_SSH_KNOWN_HOSTS"),
        ("LAYERFERRY_SSH_PRIVATE_KEY", "LAYERFERRY_SSH_KEY"),
        ("LAYERFERRY_NGROK_TOKEN", "LAYERFERRY_NGROK_AUTHTOKEN"),
        ("LAYERFERRY_COMPRESION", "LAYERFERRY_COMPRESSION"),
        ("LAYERFERRY_XYZZY", ""),
    ],
)
def test_a_misspelt_variable_is_named_with_the_right_one(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, PASSWORD)
    (sentence,) = settings.unknown()
    assert sentence.startswith(f"{name} is no variable of layerferry, and was not read")
    assert sentence.endswith(f"{meant} may be meant" if meant else "not read")
    assert PASSWORD not in sentence


def test_variables_of_ours_and_of_others_are_no_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [variable for field in FIELDS for variable in variables(field.name)]
    others = ["OUTPUT_IMAGE_ID", "ACTION_VERSION", "TEST_ENGINES", "RIG_CACHE", "LIVE_NGROK_AUTHTOKEN"]
    for name in [*known, *(f"LAYERFERRY_{other}" for other in others), "LAYERFERRYX", "layerferry_jobs"]:
        monkeypatch.setenv(name, "1")
    assert settings.unknown() == ()


def test_a_name_of_a_thousand_characters_and_a_thousand_names_are_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1000):
        monkeypatch.setenv(f"LAYERFERRY_{'X' * 1000}{number}", "1")
    told = settings.unknown()
    assert 1 < len(told) < 100
    assert all(len(sentence) < 300 for sentence in told)


@pytest.mark.parametrize("domain", ["me.ngrok.app", "*.me.example", "a"])
def test_a_domain_is_taken(domain: str) -> None:
    assert settings.load({"ngrok_domain": domain}).ngrok_domain == domain


@pytest.mark.parametrize("pasted", ["https://me.ngrok.app", "https://me.ngrok.app/", " me.ngrok.app"])
def test_a_domain_as_the_address_bar_has_it_is_taken(pasted: str) -> None:
    assert settings.load({"ngrok_domain": pasted}).ngrok_domain == "me.ngrok.app"


def test_values_that_only_end_in_a_newline_are_taken() -> None:
    assert settings.load({"registry": "registry:5000\n", "ngrok_authtoken": "token\n"}).ngrok_token == "token"


@pytest.mark.parametrize("control", ["\x1b[2J", "\x00", "\x85", "\u2028", "\x0b"])
@pytest.mark.parametrize("encoded", [False, True])
def test_known_hosts_with_a_control_character_are_refused(control: str, *, encoded: bool) -> None:
    text = f"{HOSTS}\nweb{control}2 ssh-rsa AAAA\n"
    with pytest.raises(UsageError, match=r"^X has a control character in it$"):
        read_known_hosts(base64.b64encode(text.encode()).decode() if encoded else text, setting="X")


def test_known_hosts_may_have_tabs() -> None:
    text = HOSTS.replace(" ", "\t") + "\n"
    assert read_known_hosts(f"{HOSTS}\n{text}", setting="X") == f"{HOSTS}\n{text}"


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    for read in (read_key, read_known_hosts):
        with pytest.raises(UsageError, match="names a file of more than"):
            read("/dev/zero", setting="X")


def test_a_key_of_beginnings_alone_is_refused_without_being_gone_through_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for size, sentence in ((3_800, "cut off"), (60_000, "more than a private key")):
        path.write_text("-----BEGIN A-----" * size, encoding="utf-8")
        with pytest.raises(UsageError, match=sentence):
            read_key(str(path), setting="X")


@pytest.mark.parametrize(
    "text",
    [
        f"deploy:{PASSWORD}@host",
        f"ssh://deploy:{PASSWORD}@host:22",
        f"deploy:{PASSWORD}?@host",
        f"deploy:?{PASSWORD}@host",
        f"deploy:{PASSWORD}/@host?engine=k3s",
        f"deploy:p@{PASSWORD}@host",
        f" ssh://:{PASSWORD}@[::1]:22",
        f"ssh://deploy%3A{PASSWORD}@host",
        f"ssh://deploy:{PASSWORD}%40host",
        f"ssh://deploy%3a{PASSWORD}?%40host",
    ],
)
def test_a_password_in_a_target_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        SshTarget.parse(text)
    assert "password" in caught.value.message
    assert PASSWORD not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_character_in_a_target_is_refused(control: str) -> None:
    for text in (f"we{control}b", f"de{control}ploy@web"):
        with pytest.raises(UsageError) as caught:
            SshTarget.parse(text)
        assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "url",
    [
        f"ssh://me:{PASSWORD}@host",
        f"tcp://me:{PASSWORD}@host:2375",
        f"me:{PASSWORD}@host:2375",
        f"ssh://me:{PASSWORD}@[::1",
        f"http://me:{PASSWORD}@host\x1b",
        "ssh://[x",
        "tcp://[::1",
        "tcp://h\x1b[31m:2375",
    ],
)
def test_an_address_of_a_daemon_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match=r"^DOCKER_HOST (?:has|is)") as caught:
        detect({"DOCKER_HOST": url}, Machine())
    text = caught.value.message + caught.value.hint
    assert text.isprintable()
    assert PASSWORD not in text
    with pytest.raises(UsageError, match=r"^docker's current context"):
        detect({}, Machine(context_host=url))


@pytest.mark.parametrize(
    "url",
    [
        "unix:///run/a:b@c.sock",
        "tcp://host:2376",
        "ssh://me@host:2222",
        "ssh://me@[::1]",
        "host:2375",
        "npipe:////./pipe",
    ],
)
def test_an_address_of_a_daemon_is_taken(url: str) -> None:
    assert check_daemon_url(url, "DOCKER_HOST") == url
