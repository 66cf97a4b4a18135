"""`layerferry pull`: what its words may be, and what is told before anything is pulled."""

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from layerferry.cli import main
from layerferry.errors import ConnectError, SourceError
from layerferry.sources.daemon.daemon_host import DaemonHost
from layerferry.targets.conduit import LocalConduit

if TYPE_CHECKING:
    from layerferry.targets.conduit import Conduit


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["app:1"], "there must be an image and a host"),
        (["app:1", "registry://r.example"], "registry://r.example is a registry, and no host"),
        (["oci:app", "prod"], "oci:app is no image of a host's docker"),
        (["app:1", "both"], "both is 2 hosts, and images are pulled from one"),
    ],
)
def test_words_that_are_no_image_and_host_are_refused(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "layerferry.toml").write_text('[targets]\nboth = ["web1", "web2"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit) as caught:
        main(["pull", *words])
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_of_a_projects_file_counts_what_says_how_to_pull(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = 'to = "deploy@host"\nretries = 1\ntimeout = 420\nkeep-previous = "before"\nroute = "export"\n'
    (tmp_path / "layerferry.toml").write_text(f"[targets.prod]\n{target}")
    (tmp_path / "ssh").write_text("#!/bin/sh\nexit 255\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    pulled: list[Any] = []
    monkeypatch.setattr("layerferry.cli.pull_command._pull", lambda *given: pulled.append(given))
    with pytest.raises(SystemExit) as caught:
        main(["pull", "app:1", "prod", "--retries", "2"])
    assert caught.value.code == 0
    ((_, there, _, chosen, _),) = pulled
    assert there.name == "deploy@host"
    assert (chosen.retries, chosen.timeout, chosen.keep_previous, chosen.route) == (2, 420, "", "auto")
    assert "prod is deploy@host (layerferry.toml)\n" in capsys.readouterr().err


def host(script: str, *, broken: Exception | None = None) -> DaemonHost:
    """A host whose next session is that script."""
    made = object.__new__(DaemonHost)
    made.name, made._docker = "prod", "docker"
    conduit: Any = type("Session", (), {"beside": lambda *_: [sys.executable, "-c", script], "ended": True})()
    conduit.broken = lambda: broken
    made._conduit = cast("Conduit", conduit)
    return made


def test_a_host_that_starts_no_further_session_is_told_before_anything_is_named_there() -> None:
    with (
        pytest.raises(SourceError, match=r"^prod starts no further session$"),
        host("pass").guarding("127.0.0.1:5000/a:b"),
    ):
        pytest.fail("nothing guards the name")


def test_a_session_that_breaks_is_told_as_what_has_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys; print('up', flush=True); sys.stdin.readline()"
    with pytest.raises(SourceError, match=r"^prod does not answer: reset$"), host(script).guarding("r/a:b"):
        raise ConnectionResetError("reset")
    broke = ConnectError("the line broke", transient=True)
    with pytest.raises(ConnectError, match=r"^the line broke$"), host(script, broken=broke).guarding("r/a:b"):
        raise ConnectionResetError("reset")


def test_where_no_process_can_be_started_here_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.Popen", full)
    with pytest.raises(ConnectError, match=r"^this machine: cannot start 'sh': Resource temporarily unavailable$"):
        LocalConduit()
