"""An engine that fails, says strange things, or does not end: none of it decides anything in a client's favour."""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from fuzz.bench import BASE_ID, BEFORE, SECRET_ID, Bench
from fuzz.shipment import INCOMING, NAME, Shipment, digest
from layerferry.oci import limits
from layerferry.oci.image import Platform
from layerferry.oci.store_kind import StoreKind
from layerferry.protocol import VerdictKind
from layerferry.receive import command, engine
from layerferry.receive.command import Bounds, Ended, OverrunError
from layerferry.receive.engine import _is_absent, _own
from layerferry.receive.refusal import Refusal

_DOWN = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n"
_TAKEN = "docker.io/library/app:2"
_FREE = "Error response from daemon: No such image: app:2\n"
IMMUTABLE = ("--allow", "app:*", "--immutable-tags")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def set_up(bench: Bench, **state: Any) -> None:
    bench.engine.update(state)
    bench.save()


def asks_for_a_taken_name(bench: Bench, status: int, out: str, err: str) -> Any:
    """A session with `--immutable-tags` for a name that is taken, while the engine's `inspect` of it answers so."""
    names = {**BEFORE, _TAKEN: SECRET_ID}
    set_up(bench, names=names, say={"inspect": [status, out, err]}, **{"for": _TAKEN})
    answer = bench.serve(Shipment().session(), *IMMUTABLE)
    assert bench.names == names
    assert not [call for call in bench.calls if call[0] == "tag"]
    return answer


@pytest.mark.parametrize(
    ("status", "out", "err"),
    [
        (1, "\n", _DOWN),
        (1, "", ""),
        (1, "", "Error response from daemon: context deadline exceeded\n"),
        (1, "", "fork/exec /usr/bin/docker: resource temporarily unavailable\n"),
        (1, "", "Error: No such image: docker.io/library/app:1\n"),
        (1, "", f"{_FREE}{_DOWN}"),
        (1, "", f"{_DOWN}{_FREE}"),
        (1, "", f"x {_FREE}"),
        (125, "", "Error: inspecting object: docker.io/library/app:2: layer not known\n"),
        (137, "", "Killed\n"),
        (0, "", ""),
        (0, "", _FREE),
        (0, "<no value>\n", ""),
        (0, f"{BASE_ID}\n{BASE_ID}\n", ""),
        (1, "garbage\n", _FREE),
    ],
)
def test_a_name_is_not_free_because_the_engine_fails(bench: Bench, status: int, out: str, err: str) -> None:
    answer = asks_for_a_taken_name(bench, status, out, err)
    assert answer.failed.startswith("failed engine ")
    assert answer.code == 1


@pytest.mark.parametrize("aside", ["", 'time="2026-11-26T00:00:00Z" level=warning msg="no systemd session"\n'])
def test_a_name_is_free_where_the_engine_says_so(bench: Bench, aside: str) -> None:
    set_up(bench, say={"inspect": [1, "\n", aside + _FREE]}, until=_TAKEN, **{"for": _TAKEN})
    assert bench.serve(Shipment().session(), *IMMUTABLE).lines[-1] == "done"
    assert NAME in bench.names


_ID = "sha256:" + "1" * 64
_NAME = "docker.io/library/nope:1"


@pytest.mark.parametrize(
    ("err", "names"),
    [
        (f"Error: No such image: {_NAME}", [_NAME]),  # docker 20.10.24
        (f"Error: No such image: {_ID}\nError: No such image: {_NAME}", [_ID, _NAME]),
        ("Error response from daemon: No such image: nope:1", [_NAME]),  # docker 26.1.5, 28.5.2
        (f"Error response from daemon: No such image: {_ID}", [_ID, _NAME]),
        ("Error response from daemon: No such image: localhost/layerferry:ab", ["localhost/layerferry:ab"]),
        (f"Error: inspecting object: {_NAME}: image not known", [_NAME]),  # podman 4.3.1
        (
            f"error inspecting object: {_NAME}: image not known\nError: inspecting object: {_ID}: image not known",
            [_ID, _NAME],
        ),
        (f"Error: {_NAME}: image not known", [_NAME]),  # podman 5.8.6
        (f"{_NAME}: image not known\nError: {_ID}: image not known", [_ID, _NAME]),
    ],
)
def test_the_engines_own_words_for_an_image_that_is_not_there_are_known(err: str, names: list[str]) -> None:
    assert _is_absent(Ended(1, b"\n", f"{err}\n".encode()), names)
    assert not _is_absent(Ended(1, b"\n", f"{err}\n".encode()), ["docker.io/library/other:1"])


@pytest.mark.parametrize("verb", ["info", "ls", "inspect", "load", "tag"])
@pytest.mark.parametrize("err", [_DOWN, ""])
def test_an_engine_that_fails_at_anything_gives_no_name(bench: Bench, verb: str, err: str) -> None:
    set_up(bench, say={verb: [1, "", err]})
    answer = bench.serve(Shipment().session(), *IMMUTABLE)
    assert answer.failed.split(" ")[1] in {"engine", "load", "tag"}
    assert not (set(bench.names) & {NAME})
    assert "fault" not in [event["event"] for event in bench.events]


@pytest.mark.parametrize("verb", ["info", "ls", "inspect", "tag", "load", "rm"])
@pytest.mark.parametrize("stream", ["out", "err"])
def test_an_engine_that_answers_without_end_is_cut_short(bench: Bench, verb: str, stream: str) -> None:
    set_up(bench, endless={verb: stream})
    answer = bench.serve(Shipment().session(), *IMMUTABLE)
    if verb == "rm":  # the name is given; that a throw-away one stays is in the log
        assert answer.lines[-1] == "done"
        assert [event["names"] for event in bench.events if event["event"] == "kept"]
    else:
        assert f"says more than {limits.ENGINE_ANSWER} bytes" in answer.failed
        assert NAME not in bench.names


def test_an_engine_that_dies_while_it_loads_has_stopped(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\necho '{_DOWN.strip()}' >&2\nexit 1\n")
    docker.chmod(0o755)
    here = engine.Engine(
        "docker", (str(docker),), {"PATH": os.defpath}, "28", Platform("linux", "amd64"), "overlay2", StoreKind.CHAIN
    )
    with pytest.raises(Refusal, match=r"^Cannot connect to the Docker daemon") as caught:
        here.load(iter([b"archive"]))
    assert caught.value.kind is VerdictKind.STOPPED


def test_no_other_engine_stands_in_for_one_that_fails(bench: Bench) -> None:
    """Nobody would look for the image in podman, where a name is free that is taken in docker."""
    podman = bench.bin / "podman"
    podman.write_text((bench.bin / "docker").read_text())
    podman.chmod(0o755)
    set_up(bench, say={"info": [1, "", _DOWN]}, **{"for": "DriverStatus"})
    answer = bench.serve(Shipment().session(), *IMMUTABLE)
    assert answer.failed == f"failed engine {_DOWN.strip()}"
    assert bench.serve(Shipment().session()).failed == answer.failed


def test_a_program_that_never_ends_is_ended() -> None:
    with pytest.raises(OverrunError, match="takes too long"):
        command.run(["sleep", "600"], {"PATH": "/usr/bin:/bin"}, Bounds(seconds=0.2))


def test_a_program_that_never_reads_is_ended() -> None:
    with pytest.raises(OverrunError, match="takes too long"):
        command.run(["sleep", "600"], {"PATH": "/usr/bin:/bin"}, Bounds(seconds=0.2), feed=iter([bytes(1 << 20)] * 9))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file is always full")
def test_a_program_that_writes_to_a_full_disk_is_ended(tmp_path: Path) -> None:
    script = f"echo $$ >{tmp_path}/pid; echo some; sleep 0.1; exec yes"
    with contextlib.suppress(OSError), Path("/dev/full").open("wb") as full:
        with pytest.raises(OSError, match="No space left"):
            command.write(["sh", "-c", script], {"PATH": "/usr/bin:/bin"}, full, 1 << 30, 60)
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)
    assert full.closed


def test_a_child_that_keeps_the_output_open_holds_nobody_up() -> None:
    script = "echo hi; sleep 5 & echo there >&2; exit 3"
    ended = command.run(["sh", "-c", script], {"PATH": "/usr/bin:/bin"}, Bounds(seconds=4))
    assert ended == Ended(3, b"hi\n", b"there\n")


def test_a_program_that_stops_reading_is_heard_out() -> None:
    script = "head -c 10 >/dev/null; echo full >&2; exit 1"
    feed = iter([bytes(1 << 20)] * 9)
    ended = command.run(["sh", "-c", script], {"PATH": "/usr/bin:/bin"}, Bounds(seconds=30), feed=feed)
    assert (ended.status, ended.err) == (1, b"full\n")


def test_of_the_policys_command_the_end_is_kept() -> None:
    program = [sys.executable, "-c", "print('x' * (40 << 20)); print('end')"]
    assert command.run(program, {}, Bounds(seconds=60, tail=5, answer=10)).out == b"\nend\n"


def test_when_the_feed_breaks_a_program_ends_by_itself(tmp_path: Path) -> None:
    def feed() -> Any:
        yield b"one"
        raise ZeroDivisionError

    script = f"cat >{tmp_path}/heard; echo done >>{tmp_path}/heard"
    with pytest.raises(ZeroDivisionError):
        command.run(["sh", "-c", script], {"PATH": "/usr/bin:/bin"}, Bounds(seconds=60, grace=30), feed=feed())
    assert (tmp_path / "heard").read_text() == "onedone\n"


_NASTY = "\x1b]0;x\x07 \x9b31m \u202e \u2066 \x7f \u2028 ::add-mask::x\r\n##vso[x]"


@pytest.mark.parametrize("verb", ["info", "ls", "inspect", "load", "tag"])
def test_what_an_engine_says_when_it_fails_is_one_plain_line(bench: Bench, verb: str) -> None:
    set_up(bench, say={verb: [1, "", _NASTY * 3000]})
    answer = bench.serve(Shipment().session(), *IMMUTABLE)
    assert answer.failed.isascii()
    assert answer.failed.isprintable()
    assert len(answer.failed) < 2100
    assert answer.lines[-1] == answer.failed
    assert_plain(bench.log)


@pytest.mark.parametrize(
    "info",
    [
        "28\x1b[2J linux/x86_64 overlay2",
        "28.5 linux/x86_64 over\x07lay2",
        "28.5 linux/\x1b[2J overlay2",
        "28.5 linux overlay2",
        "28.5",
        f"{'2' * 400} linux/x86_64 overlay2",
        "28.5\u202e linux/x86_64 overlay2",
    ],
)
def test_an_engine_whose_own_words_are_strange_is_not_used(bench: Bench, info: str) -> None:
    set_up(bench, info=info)
    answer = bench.serve(Shipment().session(), *IMMUTABLE)
    assert answer.failed.startswith("failed engine docker info ")
    assert answer.lines[-1].isprintable()
    assert not bench.loads


def assert_plain(log: Path) -> None:
    """What `cat` shows of a log is what is in it: lines of printable ASCII, each a JSON object of bounded length."""
    text = log.read_bytes().decode("ascii")
    assert text.endswith("\n")
    for line in text.splitlines():
        assert line.isprintable()
        assert len(line) < 20_000
        json.loads(line)


def test_what_a_client_says_is_plain_in_the_log(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**bench.environment, "SSH_ORIGINAL_COMMAND": _NASTY * 99, "USER": _NASTY}
    monkeypatch.setattr(Bench, "environment", environment)
    bench.serve(Shipment(then=[f"tag {INCOMING} docker.io/library/app:\u202e", "done"]).session())
    bench.serve(Shipment().session())
    assert_plain(bench.log)
    assert bench.events[0]["command"].startswith(_NASTY)


def test_what_the_policys_command_says_is_plain_in_the_log(bench: Bench) -> None:
    script = bench.bin / "hook"
    script.write_text("#!/bin/sh\nprintf '\\033]0;x\\007 \\177 \\302\\233 \\342\\200\\256'\n")
    script.chmod(0o755)
    assert bench.serve(Shipment().session(), "--allow", "app:*", "--run", str(script)).lines[-1] == "done"
    assert_plain(bench.log)
    assert digest(Shipment().images[0].config) in bench.names.values()


@pytest.mark.parametrize(
    "case",
    [
        ("docker", "linux/aarch64", "aarch64", False, "linux/arm/v8"),
        ("docker", "linux/aarch64", "aarch64", True, "linux/arm64"),
        ("docker", "linux/armv6l", "armv6l", False, "linux/arm/v6"),
        ("podman", "linux/arm", "armv6l", False, "linux/arm/v6"),
        ("podman", "linux/amd64", "x86_64", True, "linux/amd64"),
    ],
)  # fmt: skip
def test_an_engine_of_fewer_bits_than_its_kernel_is_taken_at_its_word(
    monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str, bool, str]
) -> None:
    """The program, its own word, the kernel's, whether ours has 64 bits; and what is made of it."""
    program, told, machine, wide, own = case
    monkeypatch.setattr(sys, "maxsize", (1 << 63) - 1 if wide else (1 << 31) - 1)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6", "1", machine)))
    monkeypatch.setattr(command, "run", lambda *_, **__: Ended(0, b"linux/arm\n", b""))
    assert str(Platform.parse(_own((program,), {}, told))) == own


@pytest.mark.parametrize("words", ["docker - root", "docker x", "- k8s.io", "docker - - pin", "ctr"])
def test_what_it_does_not_offer_of_an_engine_is_refused_and_never_left_out(bench: Bench, words: str) -> None:
    """The image would be where nobody looks for it."""
    answer = bench.serve(Shipment().preamble + f"engine {words}\nend\n".encode(), "--allow", "app:*")
    assert answer.failed.startswith("failed refused engine ")
    assert answer.failed.endswith(" is not offered")


@pytest.mark.parametrize("words", ["docker", "-", "docker - -"])
def test_an_engine_that_it_offers_may_be_said(bench: Bench, words: str) -> None:
    answer = bench.serve(Shipment().preamble + f"engine {words}\nend\n".encode(), "--allow", "app:*")
    assert answer.lines[1].startswith("engine docker ")


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=rf"^{tmp_path}/docker cannot be started: No such file or directory$"):
        engine._run((f"{tmp_path}/docker",), {}, engine._ANSWER)
