"""The log of a run: of the command as a process, and of who talks to whom, registries, commands and a target.

What it holds is held against the lines that were said, and a secret of the environment is nowhere in it.
"""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.test_screen import Stage, is_harmless, stage
from layerferry import log
from layerferry.embedded_registry import Registry
from layerferry.embedded_registry.http_server import Request, Response
from layerferry.registry_client.http_session import RegistrySession
from layerferry.targets.conduit import CommandConduit

__all__ = ["stage"]
SECRET = "hunter2-and/more?"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run.log"
    log.close()


def opened(path: Path, *secrets: str) -> None:
    log.open_file(path, secrets, {})


def lines(path: Path) -> list[str]:
    """Without the times, and without the line that says who runs where."""
    return [re.sub(r"^ *[0-9]+\.[0-9]{3}  ", "", line) for line in path.read_text(encoding="utf-8").splitlines()[1:]]


# The command.


def test_a_push_is_in_it_line_by_line(stage: Stage) -> None:
    path = stage.folder / "run.log"
    stage.push("prod", "--log", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    said = lines(path)
    ours = [line.removeprefix("> prod       ") for line in said if line.startswith("> ")]
    assert re.fullmatch(r": layerferry 1 ([0-9]+) \(and the script, \1 bytes\)", ours[0])
    preamble, _, rest = stage.heard("prod").partition(b"\n")
    heard = rest[int(preamble.split()[-1]) :].decode().splitlines()
    assert heard == [re.sub(r"\(the archive, frames: 1, bytes: ([0-9]+)\)", r"\1", line) for line in ours[1:]]
    assert [line.split(" ")[0] for line in heard[-3:]] == ["0", "tag", "done"]
    theirs = [line.removeprefix("< prod       ").split(" ")[0] for line in said if line.startswith("< ")]
    assert theirs == [
        *("layerferry", "engine", "store", "platform", "accept", "layers", "image", "chain", "end"),
        *("loaded", "end", "done"),
    ]
    (command,) = (line for line in said if line.startswith("! prod       ssh "))
    assert " -- prod 'exec sh -c " in command
    assert [line.split()[1] for line in said if line.startswith("step ")] == [
        *("begun:", "greeted:", "planned:", "sent:", "done:")
    ]
    assert any(re.fullmatch(r"! prod       ended with status 0; [0-9]+ bytes had gone", line) for line in said)


def test_the_variable_asks_for_one_too(stage: Stage) -> None:
    path = stage.folder / "run.log"
    stage.run("push", stage.image(), "prod", env={"LAYERFERRY_LOG": str(path)})
    assert "< prod       done" in lines(path)
    env = {"LAYERFERRY_LOG": str(path), "LAYERFERRY_IMAGES": stage.image(), "LAYERFERRY_TARGETS": "other"}
    stage.run("run", env=env)
    assert "< other      done" in lines(path)
    stage.run("doctor", "third", "--log", str(path), env={"LAYERFERRY_LOG": "/nonexistent/folder/log"}, code=None)
    assert "< third      layerferry 1 sh" in lines(path)


def test_no_secret_of_the_environment_is_in_it(stage: Stage) -> None:
    path = stage.folder / "run.log"
    secret = "Zm9vYmFy-0123456789"
    for name in (
        "LAYERFERRY_NGROK_AUTHTOKEN",
        "NGROK_AUTHTOKEN",
        "DOCKER_REGISTRY_NGROK",
        "GITHUB_TOKEN",
        "DB_PASSWORD",
    ):
        path.unlink(missing_ok=True)
        options = ("--log", str(path), "--ssh-option", f"SetEnv=X={secret}", "--name", f"app:{secret.lower()}")
        stage.push("prod", *options, env={name: secret}, code=None)
        stage.push("verdict.example", "--log", str(path), env={name: secret}, code=5)
        stage.run("push", f"nosuch:{secret}", "prod", "--log", str(path), env={name: secret}, code=3)
        assert "SetEnv=X=***" in path.read_text()
        assert secret not in path.read_text(), name


def test_words_of_others_do_nothing_in_it(stage: Stage) -> None:
    path = stage.folder / "run.log"
    for mode, code in (("verdict", 5), ("long", 5), ("noise", 5), ("banner", 4)):
        stage.push(f"{mode}.example", "--log", str(path), code=code)
        assert is_harmless(path.read_text(encoding="utf-8"))
    assert max(map(len, path.read_bytes().splitlines())) < 4200


def test_a_failure_is_in_it_with_its_traceback(stage: Stage) -> None:
    path = stage.folder / "run.log"
    stage.run("push", "nosuch:1", "prod", "--log", str(path), code=3)
    stage.run("push", stage.image(), "prod", "--name", "A B", "--log", str(path), code=2)
    said = path.read_text(encoding="utf-8")
    assert said.count("SourceError: the docker daemon at ") == 1
    assert said.count("errors.UsageError: ") == 1
    assert "FileNotFoundError" in said


@pytest.mark.parametrize("place", ["/dev/full", "/dev/null"])
def test_a_log_that_cannot_be_written_breaks_no_push(stage: Stage, place: str) -> None:
    ran = stage.push("prod", "--log", place)
    assert b"verified on prod" in ran.out
    assert (b"warning: the log /dev/full is not whole: No space left" in ran.err) == (place == "/dev/full")


def test_a_log_that_cannot_be_opened_is_told_before_anything_is_done(stage: Stage) -> None:
    ran = stage.push("prod", "--log", str(stage.folder / "none" / "log"), code=2)
    assert b"cannot be written: No such file" in ran.err
    assert stage.heard("prod") == b""


@pytest.mark.parametrize(
    ("words", "shown"), [((), False), (("--debug",), True), (("--", "no-such-command", "--debug"), False)]
)
def test_debug_is_ours_only_before_the_conduits_own_words(stage: Stage, words: tuple[str, ...], shown: bool) -> None:
    targets = () if "--" in words else ("banner.example",)
    done = subprocess.run(
        stage.argv("push", stage.image(), *targets, *words), env=stage.env, capture_output=True, check=False
    )
    assert done.returncode == 4
    assert (b"Traceback" in done.stderr) == shown


def test_debug_shows_where_a_mistake_of_usage_was_found(stage: Stage) -> None:
    assert b"Traceback" in stage.run("push", "--no-such-option", "--debug", code=2).err


# Who talks to whom.


def test_each_request_to_a_registry_is_a_line_and_its_login_is_in_none(path: Path, tmp_path: Path) -> None:
    opened(path)
    with Registry(spool=tmp_path, limit=1 << 20, credentials=("me", SECRET), observe=log.served) as registry:
        session = RegistrySession("127.0.0.1")
        session.get(f"http://127.0.0.1:{registry.port}/v2/", headers={"Authorization": f"Bearer {SECRET}"})
        session.close()
    ours, theirs = lines(path)
    assert ours == "our registry GET /v2/ 401"
    assert re.fullmatch(r"registry     GET http://127\.0\.0\.1:[0-9]+/v2/ 401 [0-9]+ ms", theirs)


def test_a_crash_of_our_registry_is_in_the_log_and_told_in_one_line(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def crash(self: Registry, request: Request) -> Response:
        raise ZeroDivisionError("in a handler")

    monkeypatch.setattr(Registry, "_answer", crash)
    opened(path)
    with Registry(
        spool=tmp_path, limit=1, fault=lambda error: told.append(log.fault("our registry", error))
    ) as registry:
        session = RegistrySession("127.0.0.1")
        assert session.get(f"http://127.0.0.1:{registry.port}/v2/").status_code == 500
        session.close()
    assert len(registry.faults) == 1
    assert told == ["a fault in our registry: ZeroDivisionError: in a handler (the log has it)"]
    assert any("in crash" in line for line in lines(path))


def test_a_commands_stderr_and_end_are_in_it_and_its_arguments_are_not(path: Path) -> None:
    opened(path)
    with CommandConduit(["sh", "-c", "echo heard; echo said >&2; exit 3", SECRET]) as conduit:
        assert conduit.read_line(10) == "heard"
        conduit.broken()
    assert set(lines(path)) == {
        "! sh         a command with 3 arguments, which may be secret",
        "< sh         heard",
        "! sh         said",
        "! sh         ended with status 3; 0 bytes had gone",
    }


# What it costs.


def test_without_a_log_nothing_is_loaded_and_nothing_is_done() -> None:
    code = """if True:
        import sys
        from layerferry import log
        class Untouched:
            def __getattribute__(self, name): raise AssertionError(name)
        log.note("daemon", Untouched()); log.command("ssh", Untouched()); log.mask(Untouched())
        log.failure("error", Untouched()); log.answered("registry")(Untouched()); log.Lines("ssh").feed(Untouched())
        print(*{"logging", "traceback", "shlex"} & sys.modules.keys())
    """
    done = subprocess.run([sys.executable, "-S", "-c", code], env=_env(), capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("\n", "")


def _env() -> dict[str, Any]:
    return {"PYTHONPATH": str(Path(log.__file__).parents[1]), "PATH": os.environ["PATH"]}
