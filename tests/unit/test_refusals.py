"""What is refused in one sentence: errors of what a user has said, each by the function that looks at it."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from layerferry import image_signing, mistakes, rollback
from layerferry.ci.askpass import secret_line
from layerferry.cli import gc_command, main
from layerferry.context import Context, sudo_password
from layerferry.errors import LayerferryError, TargetError, UsageError
from layerferry.oci import limits
from layerferry.oci.image import Platform
from layerferry.protocol import Capability
from layerferry.push import way_back
from layerferry.push.follow_up import Copy, FollowUp, check_places
from layerferry.push.upkeep import Upkeep
from layerferry.receive.authorized_key import authorized_key
from layerferry.receive.refusal import Refusal
from layerferry.receive.strict_json import _list
from layerferry.settings.values import Settings
from layerferry.signing.statement import Statement, StatementError
from layerferry.targets import conversation, verdict
from layerferry.targets.payloads import decoded


def follow(then: str = "", then_file: Path | None = None, copies: Sequence[str] = (), **given: Any) -> FollowUp | None:
    return FollowUp.read(then, then_file, copies, **{"after": "each", "on": (), "seconds": 1.0, **given})


def told(act: Callable[[], object], kind: type[Exception] = UsageError) -> str:
    with pytest.raises(kind) as raised:
        act()
    return str(raised.value)


def test_what_follows_is_one_command() -> None:
    assert told(lambda: follow("true", Path("script"))) == "--then and --then-file are two commands"


def test_a_place_wants_something_to_do() -> None:
    assert told(lambda: follow(on=("node1",))) == "--then-on says where, and nothing says what"


def test_a_script_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "script").write_bytes(b"#!/bin/sh\0")
    assert "is no script: it has a NUL in it" in told(lambda: follow(then_file=tmp_path / "script"))


def test_a_command_and_a_file_have_bounds(tmp_path: Path) -> None:
    assert told(lambda: follow("x" * (limits.COMMAND + 1))) == f"--then has more than {limits.COMMAND} bytes"
    (tmp_path / "script").write_bytes(b"x" * (limits.SCRIPT + 1))
    assert told(lambda: follow(then_file=tmp_path / "script")).endswith(f"has more than {limits.SCRIPT} bytes")


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    assert told(lambda: follow(then_file=Path("/dev/null"))) == "--then-file: /dev/null is no file"
    assert told(lambda: follow(copies=["/dev/null"])) == "--copy: /dev/null is no file"
    missing = tmp_path / "missing"
    assert told(lambda: follow(then_file=missing)).startswith(f"--then-file: {missing} cannot be read: ")


def test_files_that_go_along_have_a_number_and_a_path_each(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    one = f"{tmp_path}/file"
    assert told(lambda: follow(copies=[one, one])) == "two files of --copy are to have the same path"
    many = [f"{one}:{number}" for number in range(limits.COPIED_FILES + 1)]
    assert told(lambda: follow(copies=many)) == f"--copy takes {limits.COPIED_FILES} files"
    assert "names no file on the target" in told(lambda: Copy.of(f"{one}:../up"))
    assert told(lambda: Copy.of(f"{one}:{'x' * (limits.COPIED_PATH + 1)}")).startswith("--copy: a path on the target")


def test_what_follows_has_a_place_that_runs_it() -> None:
    wanted, somewhere = follow("true"), follow("true", on=("node1",))
    assert wanted is not None
    assert somewhere is not None
    assert "is a registry, which runs no command" in told(lambda: check_places(["registry.example"], wanted))
    assert told(lambda: check_places([], somewhere)).startswith("--then-on is for registries")
    at_a_registry = follow("true", on=("registry://r.example",))
    assert at_a_registry is not None
    assert told(lambda: check_places(["r.example"], at_a_registry)) == "--then-on takes hosts"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gc"], "there must be a target"),
        (["gc", "registry://r.example"], "r.example is a registry, which collects by itself what is left there"),
        (["rollback", "host"], "there must be a target and a name"),
        (["push", "app:1", "host", "--service", "web"], "--service is for services of a compose file"),
        (["completion", "ksh"], "'ksh' is no shell that is known here"),
        (["sign", "app:1", "--key", "key", "--expires", "soon"], "--expires: "),
    ],
)
def test_a_command_line_is_refused(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_a_digest_does_not_go_back() -> None:
    assert "names one image for good" in told(lambda: rollback.wanted(f"app@sha256:{'a' * 64}", "previous"))


def test_a_registry_runs_nothing_after_it_has_gone_back() -> None:
    there: Any = SimpleNamespace(name="r.example")
    done = rollback.exchange(there, ("a", "b"), rollback.How(follow_up=follow("true")))
    assert done.error is not None
    assert done.error.message == "r.example is a registry, which runs nothing"


def test_an_image_that_is_pushed_does_not_keep_what_it_replaces() -> None:
    name = "docker.io/library/app:previous"
    assert "is pushed, and is to keep what" in told(lambda: way_back.previous_name(name, "previous"))


def test_two_images_have_no_way_back_to_one_name() -> None:
    images = [["docker.io/library/app:1"], ["docker.io/library/app:2"]]
    assert told(lambda: way_back.check(images, "previous")).startswith("two images go to ")


@pytest.mark.parametrize(
    ("takes", "signers", "options", "says"),
    [
        ((), 0, {"keep_previous": "old"}, "host cannot keep what a name pointed to before"),
        ((Capability.NAMES,), 1, {"keep_previous": "old"}, "host gives names to signed images alone"),
        ((Capability.NAMES,), 0, {"prune": 3}, "host lets nobody remove images: it is a receiver"),
    ],
)
def test_a_receiver_keeps_and_removes_nothing(
    takes: Sequence[Capability], signers: int, options: dict[str, Any], says: str
) -> None:
    upkeep = object.__new__(Upkeep)
    upkeep._conversation = SimpleNamespace(target="host", takes=lambda what: what in takes)  # type: ignore[assignment]
    upkeep._options = SimpleNamespace(**{"keep_previous": "", "prune": None, **options})  # type: ignore[assignment]
    greeting: Any = SimpleNamespace(engine="docker", signers=signers)
    assert told(lambda: upkeep.check(greeting), TargetError).startswith(says)


def test_a_receiver_takes_no_script() -> None:
    assert verdict.no_script("host").message.startswith("host has a receiver, which takes images")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("failed engine sudo refused the password", "it refused the password of LAYERFERRY_SUDO_PASSWORD"),
        ("failed internal the script was killed", "its part of the push failed"),
        ("failed copy disk", "the image has its name, but a file was not copied"),
        ("failed engine docker pins no images", "its engine pins no images"),
        ("failed run 3", "the image has its name, but the command of the policy failed"),
    ],
)
def test_a_verdict_is_told(line: str, says: str) -> None:
    assert verdict.verdict("host", line).message.startswith(f"host: {says} (")


def test_an_empty_image_is_told() -> None:
    assert mistakes.of_image(" ") is not None


@pytest.mark.parametrize(("secret", "says"), [("\n", "X is empty"), ("a\nb", "X is none that ssh can be told")])
def test_a_password_is_one_line(secret: str, says: str) -> None:
    assert told(lambda: secret_line(secret, "X")).startswith(says)


@pytest.mark.parametrize("secret", [b"hush", b"caf\xe9", "caf\u00e9".encode()])
def test_a_password_is_told_in_the_bytes_of_its_variable(secret: bytes) -> None:
    assert secret_line(os.fsdecode(secret), "X") == secret + b"\n"
    assert sudo_password(Settings(sudo_password=os.fsdecode(secret))) == secret + b"\n"
    assert told(lambda: secret_line(os.fsdecode(b"\xe9" * 1024), "X")).startswith("X is none that ssh can be told")


def test_a_rule_of_a_key_has_no_control_characters(tmp_path: Path) -> None:
    said = told(lambda: authorized_key(tmp_path / "key.pub", "layer\nferry", ["--allow", "app:*"]))
    assert said == "a line of authorized_keys holds no control characters"


def test_a_public_key_that_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "key.pub"
    assert f"{missing} cannot be read" in told(lambda: authorized_key(missing, "layerferry", ["--allow", "app:*"]))


@pytest.mark.parametrize("what", ["index.json", "manifest.json", "the image's config", "the image's manifest"])
def test_what_is_no_list_is_refused(what: str) -> None:
    assert told(lambda: _list({}, what), Refusal) == f"{what} is not a list"


def test_a_statement_has_so_many_layers() -> None:
    digest, platform = f"sha256:{'a' * 64}", Platform("linux", "amd64")
    names = ("docker.io/library/app:1",)
    said = told(lambda: Statement(digest, (digest,) * 100_000, names, platform, 1), StatementError)
    assert said.startswith("the statement has more than ")


def test_files_of_a_target_come_in_base85() -> None:
    assert "in other signs than those of base85" in told(lambda: decoded("\x7f", "host"), TargetError)


def test_a_signature_is_made_only_of_what_can_be_told() -> None:
    image: Any = SimpleNamespace(fetch_config_id=lambda: "", image=SimpleNamespace(reference="app:1"))
    said = told(lambda: image_signing._config_of(image), LayerferryError)
    assert said == "app:1 cannot be signed: the daemon does not tell the digest of its config"


def test_what_is_to_be_brought_up_is_in_a_compose_file() -> None:
    around: Any = SimpleNamespace(environ={})
    assert told(lambda: Context._project(around, None, ())) == "--up brings up a compose file's services"


def test_there_is_nothing_to_go_back_to_where_nothing_was_kept() -> None:
    names = ("docker.io/library/app:1", "docker.io/library/app:previous")
    digest = f"sha256:{'a' * 64}"
    assert told(lambda: rollback._found("host", {names[0]: digest}, names), TargetError) == (
        "host has no app:previous to go back to"
    )
    assert told(lambda: rollback._found("host", dict.fromkeys(names, digest), names), TargetError) == (
        "host has one image as app:1 and as app:previous: there is nothing to go back to"
    )


class Stub:
    """A target that says of itself what a test wants, and a conversation with it."""

    def __init__(self, *_: object, **said: Any) -> None:
        self.said, self.name, self.target = said, "host", "host"

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.said.get(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_a_receiver_that_wants_signatures_goes_back_by_a_push(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollback, "Conversation", lambda *_, **__: Stub())
    there: Any = Stub(connect=Stub())
    said = told(lambda: rollback._on_host(there, ("app:1", "app:2"), rollback.How()), TargetError)
    assert said == "host names only images that are pushed to it"


def test_a_target_of_an_older_version_has_nothing_to_collect(monkeypatch: pytest.MonkeyPatch) -> None:
    greeting = SimpleNamespace(resumes=False)
    monkeypatch.setattr(conversation, "Conversation", lambda *_: Stub(greeting=greeting))
    monkeypatch.setattr(gc_command, "Target", Stub)
    there: Any = Stub(connect=Stub())
    assert told(lambda: gc_command._collect(there, ""), TargetError).startswith("host keeps nothing that could be")
