"""The command line: which words are images and which are targets, what is refused, and with which exit code."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import layerferry.cli.push_command
import layerferry.context
from layerferry.ci.machine import Machine
from layerferry.ci.topology import detect
from layerferry.cli import main
from layerferry.compression.stream import Compression, Method
from layerferry.context import Context
from layerferry.errors import (
    ConnectError,
    Halt,
    Interrupted,
    LayerferryError,
    RouteError,
    SourceError,
    TargetError,
    UsageError,
    VerificationError,
)
from layerferry.oci.content import Route
from layerferry.oci.image import Platform
from layerferry.push.request import Options, Wanted
from layerferry.result import Result
from layerferry.targets.address import Ssh, Target
from layerferry.targets.link import Link

ID = "sha256:" + "a" * 64


@dataclass
class Calls:
    """What the command line has asked for: `targets` with the way to call ssh, and one fan-out."""

    targets: list[tuple[Any, Ssh]] = field(default_factory=list)
    wanted: list[Wanted] = field(default_factory=list)
    now: list[bool] = field(default_factory=list)
    options: Options = field(default_factory=Options)
    chosen: Any = None
    errors: dict[str, LayerferryError] = field(default_factory=dict)
    raises: BaseException | None = None


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    calls = Calls()

    def start(stack: Any, target: Any, ssh: Ssh, environ: object, *, now: bool) -> Target:
        calls.targets.append((target, ssh))
        calls.now.append(now)
        return Target(str(target), Link(stack, False, lambda: pytest.fail("nothing connects here")))

    def fan_out(wanted: Any, targets: Any, options: Options, *_: object, tell: object) -> list[Result]:
        calls.wanted, calls.options = list(wanted), options
        if calls.raises:
            raise calls.raises
        return [
            Result(item.reference, target.name, Route("export", "as asked"), error=calls.errors.get(target.name))
            for target in targets
            for item in wanted
        ]

    def look(chosen: Any, environ: object, ssh: Ssh) -> Any:
        calls.chosen = chosen
        return Context(chosen, {}, detect({}, Machine()))

    monkeypatch.setattr(layerferry.cli.push_command, "start", start)
    monkeypatch.setattr(layerferry.context, "fan_out", fan_out)
    monkeypatch.setattr(Context, "look", look)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)}
    yield calls
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run(*words: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["push", *words])
    assert caught.value.code == code


# Words.


def test_no_more_targets_are_connected_to_at_first_than_are_pushed_to_at_once(calls: Calls) -> None:
    run("app:1", "--to", "one", "--to", "two", "--to", "three", "--jobs", "2")
    assert calls.now == [True, True, False]
    assert calls.options.jobs == 2
    run("app:1", "host", "--jobs", "0", code=2)


@pytest.mark.parametrize(
    ("words", "images", "targets"),
    [
        (["app:1", "host"], ["app:1"], ["host"]),
        (["app:1", "web:2", "host"], ["app:1", "web:2"], ["host"]),
        (["app:1", "--to", "host"], ["app:1"], ["host"]),
        (["app:1", "one", "--to", "two"], ["app:1"], ["one", "two"]),
        (["app:1", "web:2", "one", "--to", "two", "--to", "three"], ["app:1", "web:2"], ["one", "two", "three"]),
        (["app:1", "--", "sh"], ["app:1"], [("sh",)]),
        (["app:1", "web:2", "--", "kubectl", "exec", "-i", "pod", "--", "sh"], ["app:1", "web:2"],
         [("kubectl", "exec", "-i", "pod", "--", "sh")]),
        (["app:1", "--", "env", "--json", "sh"], ["app:1"], [("env", "--json", "sh")]),
        (["app:1", "--to", "host", "--", "sh"], ["app:1"], ["host", ("sh",)]),
        (["--dry-run", "app:1", "--route", "export", "host"], ["app:1"], ["host"]),
    ],
)  # fmt: skip
def test_the_last_word_is_the_target_unless_a_command_or_to_takes_its_place(
    calls: Calls, words: list[str], images: list[str], targets: list[Any]
) -> None:
    run(*words)
    assert [wanted.reference for wanted in calls.wanted] == images
    assert [target for target, _ in calls.targets] == targets


@pytest.mark.parametrize("words", [["app:1"], ["--to", "host"], ["--dry-run", "--", "sh"], ["--dry-run"]])
def test_there_must_be_an_image_and_a_target(
    calls: Calls, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(*words, code=2)
    assert "there must be an image and a target" in capsys.readouterr().err
    assert calls.wanted == []


def test_names_replace_the_sources(calls: Calls) -> None:
    run("app:1", "host", "--name", "other", "--name", "ghcr.io/team/app:2")
    assert calls.wanted == [Wanted("app:1", ("docker.io/library/other:latest", "ghcr.io/team/app:2"))]


def test_without_a_name_the_sources_own_is_meant(calls: Calls) -> None:
    run("app", "host")
    assert calls.wanted == [Wanted("app", ("docker.io/library/app:latest",))]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["one:1", "two:2", "host", "--name", "x:1"], "is of the repository of none of the images"),
        ([ID, "host"], "has no name to give it on the target"),
        (["a" * 12, "host"], "has no name to give it on the target"),
        ([f"app@{ID}", "host"], "has no name to give it on the target"),
        (["App:1", "host"], "'App:1' is not an image name"),
        (["app:1", "host", "--name", "UPPER"], "'UPPER' is not an image name"),
        (["app:1", "host", "--compression", "lz4"], "--compression: 'lz4' is not a compression"),
        (["app:1", "host", "--compression", "zstd:99"], "--compression: zstd takes the levels"),
        (["app:1", "host", "--platform", "linux"], "--platform: 'linux' is not a platform"),
        (["app:1", "host", "--route", "teleport"], "--route"),
        (["app:1", "host", "--timeout", "-1"], "--timeout"),
        (["app:1", "host", "--timeout", "soon"], "--timeout"),
        (["app:1", "host", "--no-such-option"], "--no-such-option"),
        (["app:1", "host", "--ssh-config", f"{__file__}/missing"], "--ssh-config"),
    ],
)
def test_a_mistake_is_told_in_words_and_ends_with_2(
    calls: Calls, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*words, code=2)
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert calls.wanted == []


def test_an_image_id_with_a_name_and_a_digest_with_a_tag_have_names(calls: Calls) -> None:
    run(ID, "host", "--name", "app:1")
    run(f"app:3@{ID}", "host")
    assert calls.wanted == [Wanted(f"app:3@{ID}", ("docker.io/library/app:3",))]


# Options.


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("docker-archive:x.tar", "archive:x.tar"),
        ("docker-archive:x.tar:app:1", "archive:x.tar:app:1"),
        ("oci-archive:x.tar:1", "archive:x.tar:1"),
        ("docker://host/app:1", "registry:host/app:1"),
        ("docker-daemon:app:1", "app:1"),
        ("oci:x:1", "oci:x:1"),
        ("dir/app:1", "dir/app:1"),
    ],
)
def test_skopeos_words_are_understood(calls: Calls, theirs: str, ours: str) -> None:
    run(theirs, "host")
    assert [wanted.reference for wanted in calls.wanted] == [ours]


@pytest.mark.parametrize("theirs", ["containers-storage:app:1", "dir:x", "ostree:x", "sif:x"])
def test_or_it_is_told_what_to_write_instead(calls: Calls, capsys: pytest.CaptureFixture[str], theirs: str) -> None:
    run(theirs, "host", code=2)
    told = capsys.readouterr().err
    assert f"images are not read out of {theirs.partition(':')[0]}" in told
    assert "oci:PATH:TAG" in told or "archive:-" in told


def test_options_arrive(calls: Calls, tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    config.touch()
    run(
        *("app:1", "host", "--compression", "gzip:6", "--platform", "linux/arm64", "--allow-platform-mismatch"),
        *("--dry-run", "--engine", "podman", "--route", "export", "--timeout", "60"),
        *("--ssh-option", "Port=22", "--ssh-option", "User=x", "--ssh-config", str(config), "--json"),
    )
    assert calls.options == Options(
        compression=Compression(Method.GZIP, 6),
        platform=Platform("linux", "arm64"),
        allow_platform_mismatch=True,
        dry_run=True,
        engine="podman",
    )
    assert (calls.chosen.route, calls.chosen.timeout) == ("export", 60)
    ((_, ssh),) = calls.targets
    assert ssh == Ssh(("Port=22", "User=x"), config, interactive=False)


def test_the_command_line_goes_before_the_environment(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERFERRY_ROUTE", "registry")
    monkeypatch.setenv("LAYERFERRY_COMPRESSION", "none")
    run("app:1", "host", "--route", "export")
    assert calls.chosen.route == "export"
    assert calls.options.compression.method is Method.NONE


def test_a_mistake_in_the_environment_is_told_by_its_variable(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAYERFERRY_COMPRESSION", "lz4")
    run("app:1", "host", code=2)
    assert "LAYERFERRY_COMPRESSION" in capsys.readouterr().err


# Ends.


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError, 2),
        (SourceError, 3),
        (ConnectError, 4),
        (TargetError, 5),
        (VerificationError, 6),
        (RouteError, 7),
    ],
)
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_each_kind_of_failure_has_its_exit_code_and_one_sentence(
    calls: Calls, error: type[LayerferryError], code: int, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    calls.errors["host"] = error("host: it did not work", hint="Do this.")
    run("app:1", "host", *words, code=code)
    assert capsys.readouterr().err == "layerferry: host: it did not work\n  Do this.\n"


def test_the_worst_of_several_failures_is_the_exit_code_and_all_are_told(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.errors = {"one": ConnectError("one: refused"), "three": TargetError("three: full")}
    run("app:1", "one", "--to", "two", "--to", "three", code=5)
    assert capsys.readouterr().err == "layerferry: one: refused\nlayerferry: three: full\n"


@pytest.mark.parametrize("raised", [Interrupted(), KeyboardInterrupt()])
def test_an_interrupt_ends_with_130_and_no_traceback(
    calls: Calls, raised: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.raises = raised
    run("app:1", "host", code=130)
    captured = capsys.readouterr()
    assert captured.err.strip() == "layerferry: interrupted"


def test_sigterm_and_sighup_are_interrupts(calls: Calls) -> None:
    run("app:1", "host")
    for number in (signal.SIGTERM, signal.SIGHUP):
        with pytest.raises(Halt) as caught:
            signal.raise_signal(number)
        assert isinstance(caught.value.error, Interrupted)


def test_ctrl_c_is_counted_by_which_reports_see_that_all_ends(calls: Calls) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run("app:1", "host")
        halts = Halt.count
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert Halt.count == halts + 1
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("raised", [Halt(Interrupted()), KeyboardInterrupt()])
def test_an_interrupt_that_came_while_something_was_loaded_is_one(calls: Calls, raised: BaseException) -> None:
    """Python 3.11 wraps what is raised in a `__set_name__`."""
    calls.raises = RuntimeError("Error calling __set_name__")
    calls.raises.__cause__ = raised
    run("app:1", "host", code=130)


def test_a_fault_of_ours_is_not_taken_for_one(calls: Calls) -> None:
    calls.raises = RuntimeError("a fault")
    with pytest.raises(RuntimeError, match="a fault"):
        main(["push", "app:1", "host"])


def test_a_traceback_is_shown_when_it_is_asked_for_and_only_then(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.raises = SourceError("no daemon")
    run("app:1", "host", code=3)
    assert "Traceback" not in capsys.readouterr().err
    run("app:1", "host", "--debug", code=3)
    assert "Traceback" in capsys.readouterr().err


def test_json_is_one_object_on_stdout(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    calls.errors["two"] = TargetError("two: full", hint="Free some space.")
    run("app:1", "one", "--to", "two", "--json", code=5)
    document = json.loads(capsys.readouterr().out)
    assert [result["target"] for result in document["results"]] == ["one", "two"]
    assert document["results"][0]["error"] is None
    assert document["results"][1]["error"] == {"message": "two: full", "hint": "Free some space.", "exit_code": 5}


def test_the_time_limit_is_a_failure_to_connect_and_is_taken_back_afterwards(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def fan_out(*arguments: object, **_: object) -> list[Result]:
        seen.append(signal.getitimer(signal.ITIMER_REAL)[0])
        signal.raise_signal(signal.SIGALRM)
        return []

    monkeypatch.setattr(layerferry.context, "fan_out", fan_out)
    run("app:1", "host", "--timeout", "600", code=4)
    assert 590 < seen[0] <= 600
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize("words", [["--help"], ["push", "--help"], ["--version"], ["run", "--help"], ["doctor", "-h"]])
def test_help_and_version_end_well(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    assert "layerferry" in capsys.readouterr().out


def test_ssh_starts_before_the_rest_is_loaded() -> None:
    """The settings' model alone takes longer to load than ssh to start."""
    paths = Path(layerferry.cli.__file__).parent.glob("*.py")
    top = [
        line
        for path in paths
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith(("import ", "from "))
    ]
    assert len(top) > 10
    for heavy in (
        "layerferry.push",
        "layerferry.report",
        "layerferry.context",
        "layerferry.ci_run",
        "pydantic",
        "docker",
        "rich",
    ):
        assert not [line for line in top if heavy in line]
