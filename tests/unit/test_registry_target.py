"""A registry as a target: how it is written, what images are called there, and who leads there."""

import traceback

import pytest

from layerferry.errors import ConnectError, UsageError
from layerferry.targets import is_registry
from layerferry.targets.address import host_of
from layerferry.targets.registry_address import Address, check_via, through
from layerferry.targets.ssh_failures import explain_forward
from layerferry.targets.ssh_target import SshTarget


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("registry://registry.internal:5000", Address("registry.internal:5000")),
        ("registry://harbor/team/apps", Address("harbor", "team/apps")),
        ("registry://[::1]:5000/x/", Address("[::1]:5000", "x")),
        ("registry:http://r:80", Address("r:80", plain_http=True)),
        ("registry:https://r/x", Address("r", "x")),
        ("registry://r?via=me@b", Address("r", via=SshTarget("me@b"))),
        ("registry://r/x?via=[::1]:22", Address("r", "x", via=SshTarget("::1", 22))),
        ("registry:http://r/x?via=b:2222", Address("r", "x", plain_http=True, via=SshTarget("b", 2222))),
    ],
)
def test_an_address_is_read_and_can_be_written_again(text: str, expected: Address) -> None:
    assert is_registry(text)
    assert Address.parse(text) == expected
    assert Address.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    ["registry://", "registry:///x", "registry://h/UPPER", "registry://h?x=1", "registry://h?via=-o", "registry://h?via=",
     "registry://h/a b", "registry://h#x", "registry://h:port", "registry://-h", "registry://h?via=a&via=b;c"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(text)


@pytest.mark.parametrize("login", ["anna:hunter2", "hunter2", "anna:a/hunter2", "anna:a@hunter2", "anna:a?hunter2"])
def test_a_password_in_an_address_is_refused_and_not_shown(login: str) -> None:
    with pytest.raises(UsageError) as caught:
        Address.parse(f"registry://{login}@h/x")
    shown = caught.value.message + caught.value.hint + "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in shown
    assert "docker login" in caught.value.hint
    assert caught.value.__context__ is None, "the log has it, too"


@pytest.mark.parametrize("way", ["me:hunter2@b", "me%3Ahunter2@b", "ssh://me:hunter2@b"])
def test_nor_is_the_password_of_a_bastion(way: str) -> None:
    for text in (f"registry://h/x?via={way}", f"registry://h x?via={way}"):
        with pytest.raises(UsageError) as caught:
            Address.parse(text)
        assert "hunter2" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("text", ["registry", "registry:22", "me@registry:22", "registry.internal", "ssh://registry"])
def test_a_host_of_that_name_is_none(text: str) -> None:
    assert not is_registry(text)


@pytest.mark.parametrize(
    ("address", "name", "expected"),
    [
        ("registry://r:5000", "docker.io/library/app:1", "r:5000/app:1"),
        ("registry://r:5000", "docker.io/acme/app:1", "r:5000/acme/app:1"),
        ("registry://r:5000", "ghcr.io/acme/app:1", "r:5000/acme/app:1"),
        ("registry://r:5000/team", "docker.io/library/app:1", "r:5000/team/app:1"),
        ("registry://r:5000/team", "r:5000/other/app:1", "r:5000/other/app:1"),
        ("registry://docker.io/acme", "docker.io/library/app:1", "docker.io/acme/app:1"),
        ("registry://docker.io", "docker.io/library/app", "docker.io/library/app:latest"),
    ],
)
def test_an_images_name_goes_under_the_registrys(address: str, name: str, expected: str) -> None:
    assert Address.parse(address).name(name).tagged == expected


def test_a_way_is_for_registries_that_name_none() -> None:
    assert through("registry://r", "me@b") == "registry://r?via=me@b"
    assert through("registry://r?via=other", "me@b") == "registry://r?via=other"
    assert through("me@host", "me@b") == "me@host"
    assert through("registry://r", "") == "registry://r"
    check_via(["me@host", ("sh",), "registry://r"], "--via")
    with pytest.raises(UsageError, match="--via is for a registry"):
        check_via(["me@host", ("sh",)], "--via")


def test_the_host_that_ssh_connects_to() -> None:
    assert host_of("registry://r?via=me@b:22") == ("registry://r?via=me@b:22", SshTarget("me@b", 22))
    assert host_of("registry://r") == ("registry://r", None)
    assert host_of("me@host") == ("me@host", SshTarget("me@host"))


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("channel 2: open failed: administratively prohibited: open failed\r\n", "does not let connections through",
         "AllowTcpForwarding"),
        ("channel 2: open failed: administratively prohibited\n channel 3: open failed: Connection refused",
         "reached nobody at r:5000", "port"),
        ("channel 2: open failed: connect failed: Name or service not known", "cannot resolve the name in", "name"),
        ("channel 2: open failed: connect failed: No route to host", "finds no way to r:5000", "network"),
        ("channel 2: open failed: unknown channel type: x", "did not connect us to r:5000: unknown", "ssh -W"),
        ("Stdio forwarding request failed: Session open refused by peer", "r:5000: Stdio", "ssh -W"),
        ("channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed\n", "reached nobody", ""),
        ("u@b: Permission denied (publickey).", "it refused our authentication", "key"),
        ("", "ssh ended without a word", ""),
    ],
)  # fmt: skip
def test_a_forward_that_failed_is_told_in_words(text: str, says: str, hint: str) -> None:
    error = explain_forward("u@b", "r:5000", text)
    assert isinstance(error, ConnectError)
    assert says in error.message
    assert hint in error.hint
    assert "\r" not in error.message
