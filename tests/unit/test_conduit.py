"""Targets as users write them, what is said to ssh, and what is made of ssh's own words."""

import contextlib
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from layerferry.errors import ConnectError, TargetError, UsageError
from layerferry.oci import limits
from layerferry.targets import ssh_way
from layerferry.targets.bastion import Bastion
from layerferry.targets.conduit import BOOTSTRAP, SshConduit
from layerferry.targets.link import Link
from layerferry.targets.ssh_failures import explain, explain_forward
from layerferry.targets.ssh_target import SshTarget
from layerferry.targets.ssh_way import Way

# Targets.


@pytest.mark.parametrize(
    ("text", "destination", "port", "shown"),
    [
        ("host", "host", None, "host"),
        ("deploy@host", "deploy@host", None, "deploy@host"),
        ("deploy@host:2222", "deploy@host", 2222, "deploy@host:2222"),
        ("host:22", "host", 22, "host:22"),
        ("host:", "host", None, "host"),
        ("ssh://deploy@host:22", "deploy@host", 22, "deploy@host:22"),
        ("ssh://host/", "host", None, "host"),
        ("[::1]:22", "::1", 22, "[::1]:22"),
        ("[::1]", "::1", None, "::1"),
        ("::1", "::1", None, "::1"),
        ("my-alias_2.x", "my-alias_2.x", None, "my-alias_2.x"),
        ("a@b@host", "a@b@host", None, "a@b@host"),
        (" host ", "host", None, "host"),
        ("CORP\\ana@host:22", "CORP\\ana@host", 22, "CORP\\ana@host:22"),
        ("ssh://ana%40corp@host", "ana@corp@host", None, "ana@corp@host"),
        ("ssh://CORP%5Cana@host", "CORP\\ana@host", None, "CORP\\ana@host"),
        ("fe80::1%eth0", "fe80::1%eth0", None, "fe80::1%eth0"),
        ("ana@[fe80::1%eth0]:22", "ana@fe80::1%eth0", 22, "ana@[fe80::1%eth0]:22"),
        ("ssh://ana@[fe80::1%25eth0]:22", "ana@fe80::1%eth0", 22, "ana@[fe80::1%eth0]:22"),
    ],
)
def test_a_target_is_read_as_ssh_would(text: str, destination: str, port: int | None, shown: str) -> None:
    target = SshTarget.parse(text)
    assert (target.destination, target.port) == (destination, port)
    assert str(target) == shown


@pytest.mark.parametrize("text", ["[fe80::1%eth0]:2200", "user@[::1]:2200"])
def test_an_address_with_colons_is_shown_as_it_can_be_written_again(text: str) -> None:
    target = SshTarget.parse(text)
    assert target.port == 2200
    assert SshTarget.parse(str(target)) == target


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "@", "user@", ":22", "-oProxyCommand=x", "user@-oProxyCommand=x", "-user@host", "ssh://-host",
        "host name", "host;ls", "host|ls", "$(ls)@host", "`ls`", "host:0", "host:65536", "host:x",
        "host:\u00b2", f"host:{'9' * 5000}",
        "[::1", "[::1]22", "[::1]:x", "ho'st", 'ho"st', "a\\b", "a\nb", "a>b",
        "a\\@host", "ana@CORP\\host", "ssh://a%0Ab@host", "ssh://%2Dx", "ssh://ana%3Apw@host", "ssh://a%20b@host",
    ],
)  # fmt: skip
def test_what_ssh_could_misread_is_refused(text: str) -> None:
    """A host that begins with a dash would be an option."""
    with pytest.raises(UsageError) as caught:
        SshTarget.parse(text)
    assert caught.value.hint


# What ssh is told.


def test_what_a_login_shell_is_told_means_the_same_in_every_shell() -> None:
    """One line; single quotes around all that is special; nothing that a shell expands even there."""
    outside = BOOTSTRAP.split("'")
    assert len(outside) == 3
    assert not set("".join(outside[::2])) & set('$`"\\!{}*?;&|<>()')
    assert "\n" not in BOOTSTRAP
    assert not set(outside[1]) & set("!\\")


# What ssh says.


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("ssh: Could not resolve hostname nope: Name or service not known\n", "its name cannot be resolved", "DNS"),
        ("ssh: connect to host h port 22: Connection refused\r\n", "it refused the connection", "sshd"),
        ("ssh: connect to host h port 22: Connection timed out", "did not answer in time", "up"),
        ("ssh: connect to host h port 22: No route to host", "no route leads to it", "network"),
        ("ssh: connect to host h port 22: Network is unreachable", "no route leads to it", "network"),
        ("No ED25519 host key is known for h and you have requested strict checking.\r\nHost key verification failed.",
         "its host key is not known here", "ssh-keyscan"),
        ("@@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n@@@@@\nHost key verification failed.\n",
         "its host key is not the one we know", "ssh-keygen -R"),
        ("u@h: Permission denied (publickey,password).", "it refused our authentication", "ssh -v"),
        ("Received disconnect from h port 22:2: Too many authentication failures", "after too many keys",
         "IdentitiesOnly"),
        ("@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\nLoad key: bad permissions\n", "readable by others", "chmod 600"),
        ("kex_exchange_identification: Connection closed by remote host", "it closed the connection", "log"),
        ("client_loop: send disconnect: Broken pipe", "it closed the connection", "log"),
        ("command-line: line 0: Bad configuration option: nosuch", "does not understand an option", "--ssh-option"),
    ],
)  # fmt: skip
def test_ssh_failures_are_told_in_words_with_what_to_do(text: str, says: str, hint: str) -> None:
    error = explain("host", 255, text)
    assert isinstance(error, ConnectError)
    assert error.message.startswith("cannot connect to host: ")
    assert says in error.message
    assert hint in error.hint
    assert "\n" not in error.message
    assert "\r" not in error.message


@pytest.mark.parametrize(
    ("text", "transient"),
    [
        ("kex_exchange_identification: read: Connection reset by peer", True),
        ("ssh: connect to host h port 22: Network is unreachable", True),
        ("ssh: Could not resolve hostname h: Temporary failure in name resolution", True),
        ("Timeout, server h not responding.", True),
        ("client_loop: send disconnect: Broken pipe", True),
        ("ssh: Could not resolve hostname nope: Name or service not known", False),
        ("Host key verification failed.", False),
        ("u@h: Permission denied (publickey).", False),
        ("command-line: line 0: Bad configuration option: nosuch", False),
        ("something new", False),
    ],
)
def test_what_may_pass_is_told_from_what_will_not(text: str, *, transient: bool) -> None:
    assert explain("host", 255, text).transient is transient


CHANGED = """@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@
Add correct host key in {file} to get rid of this message.
Offending ECDSA key in {file}:12
  remove with:
  ssh-keygen -f "{file}" -R "[h]:2222"
Host key for [h]:2222 has changed and you have requested strict checking.
Host key verification failed.
"""


def test_a_host_key_that_has_changed_is_told_with_its_line_and_the_command_that_removes_it() -> None:
    hint = explain("host", 255, CHANGED.format(file="/home/me/.ssh/known_hosts")).hint
    assert hint.startswith("Line 12 of /home/me/.ssh/known_hosts has another key.")
    assert hint.endswith('remove it: ssh-keygen -f "/home/me/.ssh/known_hosts" -R "[h]:2222"')
    ours = explain("host", 255, CHANGED.format(file="/tmp/layerferry-run-abcd1234/known_hosts")).hint
    assert ours.startswith("Line 12, blank ones not counted, of LAYERFERRY_SSH_KNOWN_HOSTS has another key.")
    assert "/tmp" not in ours


BEHIND = "kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535\n"


@pytest.mark.parametrize(
    ("behind", "says"),
    [
        (0, "cannot connect to prod: it refused"),
        (1, "cannot connect to near, a jump host on the way to prod: it refused"),
        (2, "cannot connect to far, a jump host on the way to prod: it refused"),
        (3, "cannot connect to far, a jump host on the way to prod: it refused"),
    ],
)
def test_it_is_told_which_of_several_hosts_refused(behind: int, says: str) -> None:
    text = "ssh: connect to host h port 22: Connection refused\n" + behind * BEHIND
    assert explain("prod", 255, text, to=Way((), {"proxyjump": "far,near"})).message.startswith(says)


def test_a_target_that_closes_at_once_is_not_taken_for_its_jump_host() -> None:
    error = explain("prod", 255, BEHIND, to=Way((), {"proxyjump": "near"}))
    assert error.message.startswith("cannot connect to prod: it closed the connection before")
    text = f"kex_exchange_identification: Connection reset\nConnection reset by 10.0.0.1 port 22\n{BEHIND}"
    assert explain("prod", 255, text, to=Way((), {"proxyjump": "near"})).message.startswith("cannot connect to near,")


def test_a_forward_that_a_jump_host_did_not_make_is_told_as_such() -> None:
    text = "channel 0: open failed: connect failed: No route to host\nstdio forwarding failed\n" + BEHIND
    error = explain("prod", 255, text, to=Way((), {"proxyjump": "far,near"}))
    assert error.message.startswith("near, a jump host on the way to prod, finds no way to prod")


def test_a_session_that_broke_is_no_failure_to_connect() -> None:
    error = explain("host", 255, "client_loop: send disconnect: Broken pipe", 4711)
    assert error.message.startswith("the connection to host broke after about 4711 bytes: it closed the connection")
    assert explain("host", 255, "", 4711).transient


def test_what_ssh_has_read_ahead_had_not_gone_when_the_line_broke() -> None:
    conduit: Any = object.__new__(SshConduit)
    conduit.name, conduit._way, conduit._heard = "host", None, True
    conduit.sent, conduit._backlog = 11_000_000, Mock(held=lambda sent: sent - 9_000_000)
    assert "broke after about 9000000 bytes" in str(conduit._explain(255, ""))


@pytest.mark.parametrize(
    ("methods", "says"),
    [
        ("publickey,password", "it refused the password of LAYERFERRY_SSH_PASSWORD"),
        ("publickey", "it takes no password"),
    ],
)
def test_a_password_that_did_not_help_is_told(methods: str, says: str) -> None:
    to = Way((), {}, material=("BatchMode=no",))
    error = explain("host", 255, f"u@h: Permission denied ({methods}).", to=to)
    assert error.message == f"cannot connect to host: {says} (u@h: Permission denied ({methods}).)"


def test_jump_hosts_that_lead_to_each_other_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_way, "own_of", lambda hop, _: {"proxyjump": f"{hop}1"})
    with pytest.raises(ConnectError, match=f"^more than {limits.HOPS} jump hosts lead to host$"):
        ssh_way.proxy_command(SshTarget.parse("host"), ["jump"], (), config=None, interactive=False)


def test_a_bastion_needs_an_ssh_and_says_when_it_was_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    bastion = object.__new__(Bastion)
    bastion.name, bastion.closed, bastion._destination = "bastion", True, "bastion"
    bastion._base, bastion._needed, bastion._socket, bastion._log = (), [], tmp_path / "s", tmp_path / "log"
    with pytest.raises(ConnectError, match=r"^the connection to bastion was closed$"):
        bastion.command("host", 22)
    monkeypatch.setattr("layerferry.targets.bastion.subprocess.Popen", refuse)
    with pytest.raises(ConnectError, match=r"^bastion: cannot start 'ssh': Permission denied$"):
        bastion._start("")


def test_who_has_hung_up_for_good_connects_no_more() -> None:
    with contextlib.ExitStack() as stack:
        link: Link[Any] = Link(stack, False, lambda: pytest.fail("nothing connects"))
        link.hang_up()
        with pytest.raises(ConnectError, match=r"^the push was broken off$"):
            link()


def test_words_of_ssh_that_we_do_not_know_are_passed_on() -> None:
    error = explain("host", 255, "\n\nsomething new\n")
    assert error.message == "cannot connect to host: something new"
    assert explain("host", 255, "").message == "cannot connect to host: ssh ended without a word"


@pytest.mark.parametrize("code", [1, 126, 127, 137])
def test_another_status_is_the_remote_commands(code: int) -> None:
    error = explain("host", code, "Welcome\nsh: dd: not found\n")
    assert isinstance(error, TargetError)
    assert error.message == f"host: the remote command ended with status {code}: sh: dd: not found"
    assert "POSIX sh" in error.hint


def test_a_warning_before_does_not_hide_what_failed() -> None:
    text = "Warning: Permanently added 'h' to the list of known hosts.\nu@h: Permission denied (publickey).\n"
    assert "u@h: Permission denied (publickey)." in explain("host", 255, text).message


def test_a_banner_of_any_length_costs_nothing_and_hides_nothing() -> None:
    """The pattern for unknown host keys once took minutes for a line of a MiB."""
    banner = "No " * 400_000
    error = explain("host", 255, f"{banner}\nu@h: Permission denied (publickey).\n")
    assert "it refused our authentication" in error.message
    assert len(explain("host", 255, banner).message) < 2000
    assert len(explain("host", 1, banner).message) < 2000
    assert len(explain_forward("host", "a:1", f"{banner}\nchannel 0: open failed: {banner}").message) < 2000


@pytest.mark.parametrize(
    "text", ["ssh://u:hush@host", "u:hush@host:22", "u:hush@[::1]:22", "ssh://u:hush@h;x", ":hush@host"]
)
def test_a_password_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError, match="has a password in it") as caught:
        SshTarget.parse(text)
    assert "hush" not in caught.value.message + caught.value.hint
