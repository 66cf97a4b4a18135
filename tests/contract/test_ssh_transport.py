"""A daemon behind ssh: what ssh is called with, and what is said when it fails."""

from pathlib import Path

import pytest
import requests

from layerferry.errors import SourceError
from layerferry.sources.daemon.api import Daemon
from layerferry.sources.daemon.ssh_transport import DialAdapter, command

LAST = "docker system dial-stdio"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ssh://build.example", ["ssh", "--", "build.example", LAST]),
        ("ssh://me@build.example:2222", ["ssh", "-l", "me", "-p", "2222", "--", "build.example", LAST]),
        ("ssh://me@[2001:db8::1]", ["ssh", "-l", "me", "--", "2001:db8::1", LAST]),
    ],
)
def test_ssh_is_called_as_dockers_own_client_calls_it(url: str, words: list[str]) -> None:
    assert command(url) == words


@pytest.mark.parametrize("url", ["ssh://", "ssh://-oProxyCommand=x", "ssh://-l@host"])
def test_an_address_that_is_an_option_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="it names no host"):
        command(url)


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
        session.mount("http://", DialAdapter("ssh://build.example"))
        response = session.get("http://localhost/images/get", stream=True)
        assert response.raw.read(5) == b"first"
        assert Path(f"/proc/{pid.read_text().strip()}").exists()
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
