"""`docker ferry`: docker's words and ours, and the file by which docker finds us."""

import json
import os
import signal
from pathlib import Path

import pytest

from layerferry import docker_plugin, plugin_launcher, settings
from layerferry.cli import cli, main
from layerferry.cli.completion import answer_docker
from layerferry.docker_plugin import _Signals, _variables, divided
from layerferry.errors import Halt, OutputError, UsageError
from layerferry.plugin_launcher import install, place, remove

COMMAND = ("/opt/a b/python", "-P", "-m", "layerferry")


def said(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        docker_plugin.main(words)
    return capsys.readouterr().out


def test_the_metadata_are_what_docker_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """cli-plugins/manager/plugin.go: this very version of the schema, and a vendor."""
    docker_plugin.main(["docker-cli-plugin-metadata"])
    told = json.loads(capsys.readouterr().out)
    assert told.keys() == {"SchemaVersion", "Vendor", "Version", "ShortDescription", "URL"}
    assert told["SchemaVersion"] == "0.1.0"
    assert all(told.values())


@pytest.mark.parametrize(
    ("line", "options", "verb", "rest"),
    [
        ("ferry push a b", {}, "", "push a b"),
        ("ferry", {}, "", ""),
        ("--context x ferry push", {"context": "x"}, "", "push"),
        ("--context=x -D ferry push", {"context": "x", "debug": "true"}, "", "push"),
        ("-cx ferry push --host y", {"context": "x"}, "", "push --host y"),
        ("-Dc x ferry push", {"context": "x", "debug": "true"}, "", "push"),
        ("-H tcp://h -l debug ferry push", {"host": "tcp://h", "log-level": "debug"}, "", "push"),
        ("--config ferry ferry push", {"config": "ferry"}, "", "push"),
        ("--tls=false --tlsverify ferry gc", {"tls": "false", "tlsverify": "true"}, "", "gc"),
        ("--help ferry push", {"help": "true"}, "", "push"),
        ("help ferry push", {}, "help", "push"),
        ("__complete ferry push a", {}, "__complete", "push a"),
        ("ferry push ferry help", {}, "", "push ferry help"),
        ("push a ferry", {}, "", "push a ferry"),
        ("--version", {"version": "true"}, "", ""),
        ("-c", {"context": "true"}, "", ""),
    ],
)
def test_what_is_dockers_and_what_is_ours(line: str, options: dict[str, str], verb: str, rest: str) -> None:
    assert divided(line.split()) == (options, verb, rest.split())


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        ({}, {}),
        ({"context": "x"}, {"DOCKER_CONTEXT": "x", "DOCKER_HOST": ""}),
        ({"host": "tcp://h"}, {"DOCKER_HOST": "tcp://h", "DOCKER_CONTEXT": ""}),
        ({"context": "", "debug": "true"}, {}),
        ({"config": "/c"}, {"DOCKER_CONFIG": "/c"}),
        ({"tls": "true", "tlsverify": "False"}, {"DOCKER_TLS": "1", "DOCKER_TLS_VERIFY": ""}),
        ({"tlscacert": "/c/ca.pem", "tlskey": "/c/key.pem"}, {"DOCKER_CERT_PATH": "/c"}),
    ],
)
def test_global_options_become_dockers_variables(options: dict[str, str], variables: dict[str, str]) -> None:
    assert dict(_variables(options)) == variables


@pytest.mark.parametrize(
    "files", [{"tlscacert": "/c/other.pem"}, {"tlscacert": "/c/ca.pem", "tlskey": "/d/key.pem"}], ids=["name", "folder"]
)
def test_files_for_tls_that_are_not_together_are_refused(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--{name}={file}" for name, file in files.items()]
    with pytest.raises(SystemExit) as ended:
        docker_plugin.main([*words, "ferry", "gc", "host"])
    assert ended.value.code == 2
    assert "have to be in one folder" in capsys.readouterr().err


def test_a_context_goes_before_the_variable_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    names = ("DOCKER_HOST", "DOCKER_CONTEXT")
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere")
    monkeypatch.setattr("layerferry.cli.main", lambda *_, **__: seen.extend(map(settings.environment().get, names)))
    docker_plugin.main(["--context", "x", "ferry", "push"])
    assert seen == ["", "x"]
    assert (settings.environment()["DOCKER_HOST"], settings.environment().get("DOCKER_CONTEXT")) == (
        "tcp://elsewhere",
        None,
    )


@pytest.mark.parametrize("words", [("ferry", "push", "--help"), ("help", "ferry", "push"), ("--help", "ferry", "push")])
def test_help_says_what_one_types(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    told = said(*words, capsys=capsys)
    assert told.startswith("Usage: docker ferry push [OPTIONS]")
    assert "  docker ferry push app:2 deploy@prod\n" in told
    assert "  layerferry push" not in told


def test_a_hint_says_what_one_types_too(capsys: pytest.CaptureFixture[str]) -> None:
    for program, start in (("docker ferry", docker_plugin.main), ("layerferry", main)):
        with pytest.raises(SystemExit) as caught:
            start([*program.split()[1:], "push", "app:1"])
        assert caught.value.code == 2
        assert f"\n  {program} push app:1 deploy@host\n" in capsys.readouterr().err


def test_help_of_the_command_itself_stays(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["push", "--help"])
    assert "  layerferry push app:2 deploy@prod\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["plugin", ""], ["install", "remove", ":4"]),
        (["push", "--route", "ng"], ["ngrok", ":4"]),
        (["push", "--ssh-conf"], ["--ssh-config\tssh's -F.", ":4"]),
        (["push", "--ssh-config", ""], [":0"]),
        (["nothing", ""], [":4"]),
    ],
)
def test_completion_is_in_cobras_lines(words: list[str], told: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGALRM)
    try:
        assert answer_docker(cli, "docker ferry", words) == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert capsys.readouterr().out.splitlines()[-len(told) :] == told


def interruptions(signals: _Signals, *numbers: int) -> list[bool]:
    ended = []
    for number in numbers:
        try:
            signals.handle(number, None)
            ended.append(False)
        except Halt:
            ended.append(True)
    return ended


def test_one_ctrl_c_is_one_interruption_in_either_order() -> None:
    """The terminal sends it to us and to docker, which then closes its socket: a clean end is not broken off."""
    signals = _Signals()
    assert interruptions(signals, signal.SIGINT) == [True]
    signals.closed = True
    assert interruptions(signals, signal.SIGTERM) == [False]
    signals = _Signals()
    signals.closed = True
    assert interruptions(signals, signal.SIGTERM, signal.SIGINT) == [True, False]


def test_a_second_ctrl_c_breaks_off_all_the_same() -> None:
    signals = _Signals()
    assert interruptions(signals, signal.SIGINT, signal.SIGINT, signal.SIGTERM) == [True, True, True]
    signals = _Signals()
    signals.closed = True
    assert interruptions(signals, signal.SIGTERM, signal.SIGINT, signal.SIGINT) == [True, False, True]


# The file.


def test_the_place_is_the_one_where_docker_looks(tmp_path: Path) -> None:
    assert place({"HOME": "/h"}, system=False) == Path("/h/.docker/cli-plugins/docker-ferry")
    assert place({"HOME": "/h", "DOCKER_CONFIG": "/c"}, system=False) == Path("/c/cli-plugins/docker-ferry")
    assert place({}, system=True) == Path("/usr/local/lib/docker/cli-plugins/docker-ferry")
    with pytest.raises(UsageError, match="there is no home folder"):
        place({"HOME": "relative"}, system=False)


def test_it_is_written_replaced_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "docker-ferry"
    install(path, ("/old",), system=False)
    install(path, COMMAND, system=False)
    assert path.read_text().splitlines()[-1] == "exec '/opt/a b/python' -P -m layerferry docker-plugin \"$@\""
    assert path.stat().st_mode & 0o777 == 0o755
    assert list(path.parent.iterdir()) == [path]
    assert remove(path)
    assert not remove(path)


@pytest.mark.parametrize("what", ["program", "link", "dangling", "folder"])
def test_what_is_not_ours_is_never_touched(tmp_path: Path, what: str) -> None:
    path = tmp_path / "docker-ferry"
    (tmp_path / "ours").write_text(plugin_launcher._HEAD)
    if what == "program":
        path.write_text("#!/bin/sh\necho another\n")
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / ("ours" if what == "link" else "nothing"))
    before = (path.lstat(), sorted(tmp_path.iterdir()))
    for act in (lambda: install(path, COMMAND, system=False), lambda: remove(path)):
        with pytest.raises(UsageError, match="is not layerferry's, and stays"):
            act()
    assert (path.lstat(), sorted(tmp_path.iterdir())) == before


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be changed: "):
        install(tmp_path / "file" / "docker-ferry", COMMAND, system=False)


def test_nobody_but_root_may_change_what_all_users_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "layerferry"
    program.parent.mkdir()
    program.touch()
    path = tmp_path / "docker-ferry"
    stat = os.stat

    def owned(what: Path, *given: object, **more: object) -> os.stat_result:
        found = list(stat(what))
        found[4] = 1000 if what == program.parent else 0
        return os.stat_result(found)

    monkeypatch.setattr(Path, "stat", owned)
    with pytest.raises(UsageError, match="belongs to a user"):
        install(path, (str(program),), system=True)
    monkeypatch.undo()
    assert not path.exists()


def test_the_command_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    path = tmp_path / "cli-plugins" / "docker-ferry"
    for verb, told in (("install", "docker ferry is layerferry: "), ("remove", ""), ("remove", "there is no ")):
        with pytest.raises(SystemExit) as ended:
            main(["plugin", verb])
        assert ended.value.code == 0
        assert f"{told}{path}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["plugin", "upgrade"])
    assert ended.value.code == 2
    assert "is nothing to do with a plugin" in capsys.readouterr().err
