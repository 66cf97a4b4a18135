"""What shells offer: in real ones, with an ssh_config that includes another, and a daemon that answers, or does not."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROWS = b'[{"RepoTags": ["app:1", "app:2", "host.example:5000/app:3"]}, {"RepoTags": null}, {"RepoTags": ["<none>:"]}]'


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / ".ssh" / "conf.d").mkdir(parents=True)
    (tmp_path / ".ssh" / "config").write_text("Include conf.d/*\nHost prod prod-*\nHost !not\nInclude config\n")
    (tmp_path / ".ssh" / "conf.d" / "team").write_text('Host "quoted" staging\n  HostName 10.0.0.1\nhost=equal\n')
    command = tmp_path / "bin" / "layerferry"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m layerferry "$@"\n')
    command.chmod(0o755)
    return {
        "PATH": f"{command.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "DOCKER_HOST": f"unix://{tmp_path}/d.sock",
        "LANG": "C.UTF-8",
    }


@contextmanager
def daemon(env: dict[str, str], answer: bytes, *, hold: bool = False) -> Iterator[None]:
    """One that gives an answer to each request, or, for none, is silent."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(env["DOCKER_HOST"].removeprefix("unix://"))
        server.listen()
        held = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                held.append(connection)
                connection.recv(4096)
                if answer:
                    connection.sendall(answer)
                    if not hold:
                        connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


def http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def offered(env: dict[str, str], line: str) -> list[str]:
    """What our own side tells fish, and that nothing is said on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "layerferry"],
        env={
            **env,
            "_LAYERFERRY_COMPLETE": "fish_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": line.rsplit(" ", maxsplit=1)[-1],
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return [row.partition(",")[2].split("\t")[0] for row in done.stdout.splitlines()]


def test_images_come_first_and_hosts_behind_them(env: dict[str, str]) -> None:
    with daemon(env, http(ROWS)):
        assert offered(env, "layerferry push ") == ["app:1", "app:2", "host.example:5000/app:3"]
        assert offered(env, "layerferry push app:2 p") == ["prod"]
        assert offered(env, "layerferry push app:2 deploy@s") == ["deploy@staging"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("layerferry push --route e", ["export"]),
        ("layerferry push --compression z", ["zstd"]),
        ("layerferry push --engine root", ["root@podman"]),
        ("layerferry push --to e", ["equal"]),
        ("layerferry doctor st", ["staging"]),
        ("layerferry completion z", ["zsh"]),
        ("layerferry ver", ["verify"]),
    ],
)
def test_values_are_known(env: dict[str, str], line: str, words: list[str]) -> None:
    assert offered(env, line) == words


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no HTTP",
        http(b"no JSON"),
        http(b'{"RepoTags": 5}'),
        http(b'[{"RepoTags": ["\\u001b[2J", "a b", 5]}]'),
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_daemon_that_answers_otherwise_offers_nothing_and_is_no_error(env: dict[str, str], answer: bytes) -> None:
    with daemon(env, answer):
        assert offered(env, "layerferry push ") == []


def test_a_daemon_that_never_ends_is_not_waited_for(env: dict[str, str]) -> None:
    with daemon(env, b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 60_000, hold=True):
        assert offered(env, "layerferry push ") == []


def test_a_pull_is_offered_what_the_projects_file_names_and_no_image_of_this_daemon(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "layerferry.toml").write_text('[targets]\npreview = "ana@web1"\n[images]\napp = "team/app"\n')
    monkeypatch.chdir(tmp_path)
    with daemon(env, http(ROWS)):
        assert offered(env, "layerferry pull ") == ["app"]
        assert offered(env, "layerferry pull app p") == ["preview", "prod"]


def test_no_daemon_and_no_ssh_config_are_no_error(env: dict[str, str], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / ".ssh")
    assert offered(env, "layerferry push ") == []
    for address in ("tcp://127.0.0.1:1", "ssh://nobody", "nonsense"):
        assert offered({**env, "DOCKER_HOST": address}, "layerferry push ") == []
    assert [word for word in offered(env, "layerferry push app:1 ") if "prod" in word] == []


@pytest.mark.parametrize(
    ("line", "reply"),
    [("layerferry push app:", "1 2"), ("layerferry push app:2 pr", "prod"), ("layerferry push --route r", "registry")],
)
def test_bash_completes_a_name_behind_its_colon(env: dict[str, str], line: str, reply: str) -> None:
    script = f"""
eval "$(layerferry completion bash)"
COMP_LINE='{line}' COMP_POINT={len(line)}
_layerferry_completion layerferry
printf '%s\\n' "${{COMPREPLY[*]}}"
"""
    with daemon(env, http(ROWS)):
        done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (reply, "")


def test_fish_completes(env: dict[str, str]) -> None:
    script = "source (layerferry completion fish | psub); complete -C 'layerferry push app:2 deploy@p'"
    with daemon(env, http(ROWS)):
        done = subprocess.run(["fish", "-c", script], env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["deploy@prod"]


def test_zsh_takes_the_script_and_gets_an_answer(env: dict[str, str]) -> None:
    script = """
autoload -Uz compinit && compinit -u -D
eval "$(layerferry completion zsh)"
[[ $_comps[layerferry] == _layerferry_completion ]] || exit 7
_LAYERFERRY_COMPLETE=zsh_complete COMP_WORDS='layerferry push --route e' COMP_CWORD=3 layerferry
"""
    done = subprocess.run(["zsh", "-f", "-c", script], env=env, capture_output=True, text=True, check=True, timeout=60)
    assert "export" in done.stdout.split()


def test_a_shell_that_is_none_is_refused(env: dict[str, str]) -> None:
    done = subprocess.run(["layerferry", "completion", "tcsh"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "bash, zsh, fish" in done.stderr


def test_the_manual_page_is_one_that_man_takes_and_has_each_option_and_variable(env: dict[str, str]) -> None:
    page = subprocess.run(["layerferry", "man"], env=env, capture_output=True, text=True, check=True).stdout
    for word in (r"\-\-route NAME", "LAYERFERRY_TARGETS", ".SS doctor", ".SH EXIT STATUS", r"\-h, \-\-help"):
        assert word in page
    assert all(line.startswith((".", "\\")) or not line.startswith("'") for line in page.splitlines())
    if shutil.which("groff", path=os.defpath):
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", "-z"], input=page, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_version_and_verbose(env: dict[str, str]) -> None:
    done = subprocess.run(["layerferry", "-V"], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("layerferry, version ")
    done = subprocess.run(
        ["layerferry", "push", "-v", "oci:missing", "host"], env=env, capture_output=True, text=True, check=False
    )
    assert "layerferry   " in done.stderr
    assert done.stdout == "" or "layerferry   " not in done.stdout
