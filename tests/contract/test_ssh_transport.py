"""A daemon behind ssh: what ssh is called with, and what is said when it fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from layerferry.errors import SourceError, UsageError
from layerferry.sources.daemon.api import Daemon
from layerferry.sources.daemon.ssh_transport import DialAdapter, command, ssh_target
from layerferry.targets.address import Ssh
from layerferry.targets.ssh_target import SshTarget, ssh_words

LAST = "docker system dial-stdio"
SSH = Ssh(("IdentityFile=/proc/7/fd/9", "User=x"), Path("/my/config"))


def tail(url: str) -> list[str]:
    """What follows the options that every ssh of ours is called with."""
    words = command(url, SSH)
    start = ssh_words(SshTarget("any"), options=SSH.options, config=SSH.config)
    assert words[: len(start)] == start
    assert start[:6] == ["ssh", "-T", "-F", "/my/config", "-o", "IdentityFile=/proc/7/fd/9"]
    return words[len(start) :]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ssh://build.example", ["--", "build.example", LAST]),
        ("ssh://me@build.example:2222", ["-p", "2222", "-l", "me", "--", "build.example", LAST]),
        ("ssh://me@[2001:db8::1]", ["-l", "me", "--", "2001:db8::1", LAST]),
        ("ssh://[fe80::1%25eth0]:22", ["-p", "22", "--", "fe80::1%eth0", LAST]),
        ("ssh://MyHost", ["--", "MyHost", LAST]),
        ("ssh://user%40corp@MyHost", ["-l", "user@corp", "--", "MyHost", LAST]),
        ("ssh://CORP%5Cuser@MyHost/", ["-l", "CORP\\user", "--", "MyHost", LAST]),
        (
            "ssh://user%40corp@MyHost/run/user/1000/docker.sock",
            ["-l", "user@corp", "--", "MyHost", "docker --host=unix:///run/user/1000/docker.sock system dial-stdio"],
        ),
        (
            "ssh://h/run/a%20b;id/Docker.sock",
            ["--", "h", "docker '--host=unix:///run/a b;id/Docker.sock' system dial-stdio"],
        ),
    ],
)
def test_ssh_is_called_as_dockers_own_client_calls_it(url: str, words: list[str]) -> None:
    """Path, case and escapes as docker/cli, cli/connhelper, has them."""
    assert tail(url) == words


@pytest.mark.parametrize(
    "url", ["ssh://", "ssh://-oProxyCommand=x", "ssh://-l@host", "ssh://h?x=1", "ssh://h#x", "ssh://h:x", "ssh://a%0ab"]
)
def test_an_address_that_is_none_or_an_option_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="names no host"):
        command(url, SSH)
    with pytest.raises(UsageError):
        Daemon({"DOCKER_HOST": url})


def test_the_daemons_host_is_any_other_host_for_ssh() -> None:
    """Where a port of it is to lead back to us, the same parts count; its socket does not."""
    assert ssh_target("ssh://user%40corp@MyHost:22/run/d.sock") == SshTarget("user@corp@MyHost", 22)


def test_what_ssh_said_last_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ssh").write_text("#!/bin/sh\necho 'me@build.example: Permission denied (publickey).' >&2\nexit 255\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(SourceError, match=r"Permission denied \(publickey\)"):
        Daemon({"DOCKER_HOST": "ssh://me@build.example"})


def test_closing_waits_for_the_ssh_of_an_answer_that_nobody_has_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a saved image we read what we want, and no more."""
    pid = tmp_path / "pid"
    answer = r"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nfirst"
    (tmp_path / "ssh").write_text(f"#!/bin/sh\necho $$ >{pid}\nprintf '{answer}'\nexec sleep 600\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with requests.Session() as session:
        session.mount("http://", DialAdapter("ssh://build.example", Ssh()))
        response = session.get("http://localhost/images/get", stream=True)
        assert response.raw.read(5) == b"first"
        assert Path(f"/proc/{pid.read_text().strip()}").exists()
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


@pytest.mark.parametrize("words", [("push", "app:1", "host"), ("run",), ("doctor",)])
def test_the_jobs_key_and_known_hosts_are_for_the_daemons_host_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """ssh is the job's own: it says what it was called with, and that the key could be read."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (tmp_path / "ssh").write_text(
        f"""#!/bin/sh
case "$*" in
*dial-stdio*) ;;
*-G*) echo "userknownhostsfile /my/known_hosts /my/known_hosts2"; exit 0 ;;
*) for _ in $(seq 200); do test -e {tmp_path}/asked && exit 255 || sleep 0.05; done ;;
esac
for word; do
    case $word in IdentityFile=*) path=${{word#*=\\"}}; cmp "${{path%\\"}}" {key} || exit 9 ;; esac
done
echo "$*" >>{tmp_path}/asked
exit 255
"""
    )
    (tmp_path / "ssh").chmod(0o755)
    environ = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "DOCKER_HOST": "ssh://me@build.example",
        "LAYERFERRY_IMAGES": "app:1",
        "LAYERFERRY_TARGETS": "host",
        "LAYERFERRY_SSH_KEY": key.read_text(),
        "LAYERFERRY_SSH_KNOWN_HOSTS": f"build.example {key.with_suffix('.pub').read_text()}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "layerferry", *words], env=environ, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr
    asked = (tmp_path / "asked").read_text()
    assert "IdentityFile=" in asked
    assert re.search(r'UserKnownHostsFile="[^"]+" /my/known_hosts /my/known_hosts2 ', asked)
    assert "GlobalKnownHostsFile" not in asked
    assert asked.startswith("-T ")
