"""The mended key is one that OpenSSH itself reads, for every kind of key that ssh-keygen makes."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from layerferry.ci import ssh_key
from layerferry.ci.askpass import open_askpass
from layerferry.ci.ssh_identity import open_identity, read_key
from layerferry.errors import ConnectError, UsageError
from layerferry.settings import load
from rig.processes import wait_until

KINDS = {
    "ed25519": ["-t", "ed25519"],
    "ecdsa": ["-t", "ecdsa"],
    "rsa": ["-t", "rsa", "-b", "2048"],
    "rsa PEM": ["-t", "rsa", "-b", "2048", "-m", "PEM"],
    "ecdsa PEM": ["-t", "ecdsa", "-m", "PEM"],
    "rsa PKCS8": ["-t", "rsa", "-b", "2048", "-m", "PKCS8"],
}


def make(folder: Path, kind: str, passphrase: str = "") -> Path:
    path = folder / "key"
    command = ["ssh-keygen", "-q", "-N", passphrase, "-C", "a comment", "-f", str(path), *KINDS[kind]]
    subprocess.run(command, check=True, capture_output=True)
    return path


def public(path: Path) -> list[str]:
    command = ["ssh-keygen", "-y", "-P", "", "-f", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.split()[:2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("newline", [" ", "\\n", "\r\n"], ids=["spaces", "literal", "CRLF"])
def test_openssh_reads_what_was_mended(kind: str, newline: str, tmp_path: Path) -> None:
    path = make(tmp_path, kind)
    spoilt = path.read_text(encoding="utf-8").strip().replace("\n", newline)
    with open_identity(os.environ, key=spoilt) as identity:
        assert identity.key is not None
        assert public(identity.key) == public(path)


def test_openssh_reads_a_key_as_openssl_writes_it_behind_the_parameters_of_its_curve(tmp_path: Path) -> None:
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert text.startswith("-----BEGIN EC PARAMETERS-----")
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    with open_identity(os.environ, key=text) as identity:
        assert identity.key is not None
        assert public(identity.key) == public(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_passphrase_is_recognised_without_running_anything(kind: str, tmp_path: Path) -> None:
    path = make(tmp_path, kind, "correct horse")
    with pytest.raises(UsageError, match="passphrase"):
        read_key(path.read_text(encoding="utf-8"), setting="LAYERFERRY_SSH_KEY")


def test_ssh_understands_the_options(tmp_path: Path) -> None:
    odd = tmp_path / "a 100%h"
    odd.mkdir()
    key = make(tmp_path, "ed25519").read_text(encoding="utf-8")
    host = "web1 " + (tmp_path / "key.pub").read_text(encoding="utf-8")
    with open_identity(os.environ, key=key, known_hosts=host, folder=odd) as identity:
        options = [part for option in identity.options for part in ("-o", option)]
        done = subprocess.run(["ssh", "-F", "none", "-G", *options, "web1"], check=True, capture_output=True, text=True)
        shown = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        assert shown["identityfile"] == str(identity.key)
        assert shown["userknownhostsfile"].strip('"') == str(identity.known_hosts)
        assert shown["identitiesonly"] == "yes"
        assert shown["stricthostkeychecking"] in {"true", "yes"}


@pytest.fixture
def no_memfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system that is not Linux."""
    monkeypatch.delattr(os, "memfd_create")


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("secret", [b"correct horse", "caf\xe9".encode(), b"caf\xe9 \xff'$(id)\\n"])
def test_ssh_is_told_a_password_in_the_very_bytes_of_its_variable(
    secret: bytes, monkeypatch: pytest.MonkeyPatch, *, memory: bool
) -> None:
    """A variable need be no UTF-8, nor a password."""
    if not memory:
        monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setenv("LAYERFERRY_SSH_PASSWORD", os.fsdecode(secret))
    with open_askpass(load().ssh_password, None) as asked:
        program = dict(asked.variables)["SSH_ASKPASS"]
        done = subprocess.run([program, "anna@host's password: "], check=True, capture_output=True)
    assert done.stdout == secret + b"\n"


@pytest.mark.usefixtures("no_memfd")
@pytest.mark.parametrize("kind", KINDS)
def test_without_files_in_memory_an_agent_of_ours_has_the_key(kind: str, tmp_path: Path) -> None:
    path = make(tmp_path, kind)
    odd = tmp_path / "a 100%h"
    odd.mkdir()
    with open_identity(os.environ, key=path.read_text(encoding="utf-8"), folder=odd) as identity:
        assert identity.agent is not None
        env = {**os.environ, "SSH_AUTH_SOCK": str(identity.agent)}
        listed = subprocess.run(["ssh-add", "-L"], check=True, capture_output=True, text=True, env=env).stdout
        assert listed.split()[:2] == public(path)
        assert "PRIVATE" not in "".join(file.read_text() for file in odd.rglob("*") if file.is_file())
        options = [part for option in identity.options for part in ("-o", option)]
        done = subprocess.run(["ssh", "-F", "none", "-G", *options, "web1"], check=True, capture_output=True, text=True)
        shown = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        assert shown["identityagent"].replace("%%", "%") == str(identity.agent)
    assert list(odd.iterdir()) == []
    assert subprocess.run(["ssh-add", "-L"], check=False, capture_output=True, env=env).returncode == 2


@pytest.mark.usefixtures("no_memfd")
@pytest.mark.parametrize("missing", ["ssh-agent", "ssh-add"])
def test_where_nothing_keeps_it_in_memory_the_key_is_refused(missing: str, tmp_path: Path) -> None:
    key = make(tmp_path, "ed25519").read_text(encoding="utf-8")
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in {"sh", "ssh-agent", "ssh-add"} - {missing}:
        (tools / tool).symlink_to(f"/usr/bin/{tool}")
    empty = tmp_path / "empty"
    empty.mkdir()
    identity = open_identity({"PATH": str(tools)}, key=key, folder=empty)
    with pytest.raises(ConnectError, match="cannot be kept in memory") as caught, identity:
        pass
    assert missing in caught.value.message + caught.value.hint
    assert list(empty.iterdir()) == []


@pytest.mark.usefixtures("no_memfd")
@pytest.mark.parametrize(
    ("agent", "says"),
    [
        ("#!/bin/sh\nexit 1\n", "ssh-agent does not start"),
        (None, "sh cannot be started: No such file or directory"),
    ],
)
def test_an_agent_that_does_not_start_is_told(
    agent: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make(tmp_path, "ed25519").read_text(encoding="utf-8")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ssh-agent").write_text(agent or "")
    (tools / "ssh-agent").chmod(0o755)
    if agent:
        (tools / "sh").symlink_to("/usr/bin/sh")
    monkeypatch.setattr(ssh_key, "_PATIENCE", 0.1)
    with pytest.raises(ConnectError) as caught, open_identity({"PATH": str(tools)}, key=key, folder=tmp_path / "bin"):
        pass
    assert caught.value.message == f"the private key cannot be kept in memory here: {says}"


#: Holds a key as a run does, and says where. It is killed with SIGKILL.
HOLDER = """
import os, sys, time
from layerferry.ci.ssh_identity import open_identity
if sys.argv[2] == "agent":
    del os.memfd_create
with open_identity(os.environ, key=sys.stdin.read(), known_hosts=sys.argv[3]) as identity:
    print(identity.agent or identity.key, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("way", ["memory", "agent"])
def test_after_a_kill_the_key_is_nowhere_and_the_next_run_sweeps_the_rest(way: str, tmp_path: Path) -> None:
    key = make(tmp_path, "ed25519").read_text(encoding="utf-8")
    host = "web1 " + (tmp_path / "key.pub").read_text(encoding="utf-8")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = {**os.environ, "TMPDIR": str(scratch)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "", way, host],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    )
    with process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(key)
        process.stdin.close()
        where = Path(process.stdout.readline().strip())
        assert where.exists()
        alive = subprocess.run([sys.executable, "-c", SWEEP], check=True, capture_output=True, text=True, env=env)
        assert alive.stdout == "\n", "it is not swept while it lives"
        os.killpg(process.pid, signal.SIGKILL)
    left = [path for path in scratch.rglob("*") if path.is_file()]
    assert left
    assert not [path for path in left if "PRIVATE" in path.read_text(encoding="utf-8")]
    if way == "memory":
        assert not where.exists()
    else:
        ask = partial(subprocess.run, ["ssh-add", "-L"], env={**os.environ, "SSH_AUTH_SOCK": str(where)})
        wait_until(lambda: ask(check=False, capture_output=True).returncode == 2, "the agent answers")
    swept = subprocess.run([sys.executable, "-c", SWEEP], check=True, capture_output=True, text=True, env=env)
    assert "which were killed" in swept.stdout
    assert list(scratch.iterdir()) == []


SWEEP = "from layerferry.temporary import sweep; print(sweep())"
