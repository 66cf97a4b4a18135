"""Patterns, policies and the line for authorized_keys."""

import base64
import os
import shlex
import signal
from pathlib import Path
from unittest.mock import Mock

import pytest

from layerferry.errors import Interrupted, OutputError, UsageError
from layerferry.oci.image import Name, Platform
from layerferry.receive import program
from layerferry.receive.authorized_key import authorized_key
from layerferry.receive.patterns import Pattern
from layerferry.receive.policy import MAX_BYTES, Policy, Rules, is_there, read_file

A = "sha256:" + "a" * 64
B = "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("app:*", "app:1"),
        ("app:*", "docker.io/library/app:latest"),
        ("app", "app:latest"),
        ("app", "app"),
        ("docker.io/app:1", "app:1"),
        ("index.docker.io/app:1", "app:1"),
        ("acme/*:*", "docker.io/acme/web:2"),
        ("ghcr.io/acme/**:v[0-9]*", "ghcr.io/acme/a/b:v1.2"),
        ("ghcr.io/acme/*:v?", "ghcr.io/acme/a:v1"),
        ("localhost:5000/app:*", "localhost:5000/app:1"),
        ("localhost/app:*", "localhost/app:1"),
        ("[::1]:5000/app:*", "[::1]:5000/app:1"),
        ("**:*", "anything.example:99/a/b/c:d"),
        ("**/app:*", "ghcr.io/acme/app:1"),
        ("app:[!0-9]*", "app:rc1"),
        (f"app@{A}", "app:7"),
        (f"app:7@{A}", "app:7"),
    ],
)
def test_a_pattern_allows(pattern: str, name: str) -> None:
    assert Pattern.parse(pattern).matches(Name.parse(name), A)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("app:*", "app2:1"),
        ("app:*", "acme/app:1"),
        ("app:*", "ghcr.io/app:1"),
        ("app:*", "ghcr.io/library/app:1"),
        ("app", "app:2"),
        ("app:1", "app:10"),
        ("app:1", "app:x1"),
        ("a.p:1", "aap:1"),
        ("*:*", "acme/app:1"),
        ("acme/*:*", "acme/a/b:1"),
        ("ghcr.io/acme/*:*", "ghcr.io/acme-evil/app:1"),
        ("ghcr.io/*:*", "ghcr.io.evil.example/app:1"),
        ("ghcr.io/acme/app:*", "ghcrxio/acme/app:1"),
        ("app:[!0-9]*", "app:1"),
        ("localhost:5000/app:*", "localhost:5001/app:1"),
        (f"app:8@{A}", "app:7"),
        (f"app@{B}", "app:7"),
    ],
)
def test_a_pattern_does_not_allow(pattern: str, name: str) -> None:
    assert not Pattern.parse(pattern).matches(Name.parse(name), A)


@pytest.mark.parametrize(
    "text", ["", ":", "app:", "app:1@", "app@sha256:ab", "app:1 ", "a$b:1", "app:(1|2)", "[x", "a\\b"]
)
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Pattern.parse(text)


def policy(*sources: dict[str, object]) -> Policy:
    return Policy(tuple(Rules.read(source) for source in sources))


def test_nothing_is_allowed_by_default() -> None:
    nothing = policy({})
    assert not nothing.names(Name.parse("app:1"))
    assert not nothing.shows(Name.parse("app:1"), A)
    assert not nothing.admits(A)
    assert nothing.max_bytes == MAX_BYTES


def test_both_sources_must_allow_a_name() -> None:
    both = policy({"allow": ["acme/*:*"]}, {"allow": ["**:*"], "reuse": ["debian:*"]})
    assert both.names(Name.parse("acme/app:1"))
    assert not both.names(Name.parse("app:1"))
    assert not both.shows(Name.parse("debian:12"), A)


def test_a_name_that_is_only_reused_is_shown_and_not_given() -> None:
    one = policy({"allow": ["app:*"], "reuse": ["debian:*"]})
    assert one.shows(Name.parse("debian:12"), A)
    assert not one.names(Name.parse("debian:12"))


def test_a_pinned_image_is_admitted_by_either_digest() -> None:
    pinned = policy({"allow": [f"app@{A}"]})
    assert pinned.admits(B, A)
    assert not pinned.admits(B)
    assert pinned.names(Name.parse("app:1"))
    assert not pinned.names(Name.parse("app:1"), B)


def test_the_smaller_limit_and_the_stricter_word_count() -> None:
    strict = {"max_bytes": "1K", "max_bytes_per_day": 5000, "immutable_tags": True, "run": ["/bin/true"], "idle": 3}
    loose = {"max_bytes": "2G", "run": "/bin/false", "idle": 300, "run_timeout": 7}
    for sources in ((strict, loose), (strict, {}), ({}, strict)):
        both = policy(*sources)
        assert (both.max_bytes, both.max_bytes_per_day, both.immutable_tags, both.idle) == (1024, 5000, True, 3)
        assert both.run == ("/bin/true",)
    assert policy(strict, loose).run_timeout == 7


def test_by_default_an_image_must_be_for_the_hosts_platform() -> None:
    host, other = Platform.parse("linux/x86_64"), Platform.parse("linux/arm64")
    assert policy({}).runs(host, host)
    assert not policy({}).runs(other, host)
    assert policy({"platforms": ["linux/arm64"]}).runs(other, host)
    assert not policy({"platforms": ["linux/arm64"]}, {"platforms": ["linux/amd64"]}).runs(other, host)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("allows", ["app:*"]),
        ("allow", "app:*"),
        ("allow", [1]),
        ("max_bytes", "much"),
        ("max_bytes", 0),
        ("max_bytes", -5),
        ("max_bytes", True),
        ("max_bytes", "1e9"),
        ("immutable_tags", "no"),
        ("run", "deploy"),
        ("run", []),
        ("run", "/bin/sh 'unclosed"),
        ("engine", "/bin/sh"),
        ("engine", "../docker"),
        ("label", "../../etc/cron.d/x"),
        ("state", "relative"),
        ("log", "relative"),
        ("idle", 0),
        ("session", "nan"),
    ],
)
def test_what_a_policy_cannot_mean_is_refused(key: str, value: object) -> None:
    with pytest.raises(UsageError):
        Rules.read({key: value})


# --- the line for authorized_keys


def public_key(tmp_path: Path, text: str | None = None) -> Path:
    blob = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)).decode()
    file = tmp_path / "KEY.pub"
    file.write_text(text or f"ssh-ed25519 {blob} deploy@ci\n")
    return file


def command_of(line: str) -> list[str]:
    """The words that a shell makes of the command, which sshd reads as `opt_dequote` does."""
    assert line.startswith('restrict,command="')
    quoted, _, key = line.removeprefix('restrict,command="').rpartition('" ssh-ed25519 ')
    assert key
    return shlex.split(quoted.replace('\\"', '"'))


def test_the_line_restricts_the_key_to_the_receiver(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = public_key(tmp_path)
    assert program.main(["--print-authorized-key", str(key), "--allow", "app:*"], {}) == 0
    assert capsys.readouterr().out == (
        f"restrict,command=\"layerferry receive --allow 'app:*'\" {key.read_text().strip()}\n"
    )


def test_the_line_quotes_whatever_a_policy_says(tmp_path: Path) -> None:
    hard = ["--allow", "app:[!0-9]*", "--run", """/bin/x 'it''s "quoted" $HOME `id` \\ !'"""]
    line = authorized_key(public_key(tmp_path), "/opt/a b/layerferry", ["--print-authorized-key", "K", *hard])
    assert command_of(line) == ["/opt/a b/layerferry", "receive", *hard]


def test_the_line_leaves_out_what_is_for_the_line_alone(tmp_path: Path) -> None:
    given = ["--allow", "a", "--print-authorized-key=K", "--program", "x", "--program=y", "--immutable-tags"]
    line = authorized_key(public_key(tmp_path), "layerferry", given)
    assert command_of(line) == ["layerferry", "receive", "--allow", "a", "--immutable-tags"]


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n",
        'command="sh" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5',
        "ssh-ed25519 AAAAB3NzaC1yc2E= mislabelled",
        "ssh-ed25519 !!!!",
        "ssh-ed25519",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA a\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA b",
    ],
)
def test_what_is_not_one_public_key_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        authorized_key(public_key(tmp_path, text), "layerferry", [])


def test_a_policy_that_has_no_meaning_gets_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = public_key(tmp_path)
    assert program.main(["--print-authorized-key", str(key), "--allow", "app:*", "--max-bytes", "lots"], {}) == 2
    told = capsys.readouterr()
    assert not told.out
    assert "max_bytes" in told.err


def test_a_further_file_does_not_take_the_place_of_the_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, further = tmp_path / "receive.toml", tmp_path / "further.toml"
    host.write_text('allow = ["app:*"]\n')
    further.write_text("")
    monkeypatch.setattr(program, "POLICY_FILE", host)
    monkeypatch.setattr(program, "read_file", lambda path: read_file(path, os.geteuid()))
    merged = program._policy(further, {"allow": ["**:*"]})
    assert merged.names(Name.parse("app:1"))
    assert not merged.names(Name.parse("vault:1"))


def test_a_policy_file_that_cannot_be_seen_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    assert not is_there(tmp_path / "missing/receive.toml")
    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(UsageError, match="cannot be read"):
        is_there(Path("/etc/layerferry/receive.toml"))


def test_a_folder_is_no_policy_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^the policy file {tmp_path} is not a file$"):
        read_file(tmp_path, os.geteuid())


def test_a_receiver_does_not_speak_to_a_person(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "isatty", lambda _: True)
    assert program.main(["--allow", "app:*"], {}) == 2
    assert "this speaks to `layerferry push`, not to a person" in capsys.readouterr().err


def test_a_line_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "stdout", lambda: Mock(trouble="No space left on device"))
    with pytest.raises(OutputError, match=r"^stdout could not be written: No space left on device$"):
        program._print("a line")


def test_a_signal_is_told_and_ends_a_session_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ignored = []
    monkeypatch.setattr(signal, "signal", lambda number, _: ignored.append(number))
    with pytest.raises(Interrupted, match=r"^ended by signal 15$"):
        program._interrupt(signal.SIGTERM, None)
    assert set(ignored) == {signal.SIGTERM, signal.SIGHUP, signal.SIGINT}
