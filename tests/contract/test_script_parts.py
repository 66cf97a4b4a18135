"""A host gets the parts of the script that it needs, when it needs them: in every POSIX shell, before a fake engine."""

import gzip
import subprocess
from pathlib import Path

import pytest

from contract.fake_engine import CONTAINERD, OVERLAY2, PODMAN, FakeEngine, ask
from contract.test_host_containerd import ONE as HELD
from contract.test_host_containerd import FakeContainerd
from contract.test_host_script import INCOMING, NAME, ONE, TWO, A, B
from layerferry.oci.image import Image, Layer, Platform
from layerferry.protocol import VERSION, Verb
from layerferry.targets.conduit import BOOTSTRAP, CommandConduit
from layerferry.targets.conversation import Conversation
from layerferry.targets.host.script import SentScript, patching

COMMAND = BOOTSTRAP.removeprefix("exec sh -c '").removesuffix("'")


class PackedConduit(CommandConduit):
    """As through ssh: nothing is waited for before the ask, and the script is packed."""

    pipelined = True


def conduit(engine: FakeEngine, shell: list[str]) -> CommandConduit:
    environment = [f"{name}={value}" for name, value in engine.environment().items()]
    return PackedConduit(["env", "-i", *environment, *shell, "-c", COMMAND])


def image(image_id: str) -> Image:
    return Image("app:1", image_id, Platform("linux", "amd64"), Layer.chain([A, B], [10, 10]))


#: What an engine tells of itself, its program, whether it has docker's API, and what it needs beyond what all get.
ENGINES = {
    "docker, its API": (OVERLAY2, "docker", True, []),
    "docker, its command": (OVERLAY2, "docker", False, ["need engines"]),
    "docker's containerd store": (CONTAINERD, "docker", True, ["need blobs"]),
    # Whoever names another engine has it sent at once.
    "podman": (PODMAN, "podman", False, []),
}


@pytest.mark.parametrize("kind", ENGINES)
def test_a_host_asks_for_the_parts_that_it_lacks_and_gets_no_others(
    tmp_path: Path, shell: list[str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, program, api, needed = ENGINES[kind]
    engine = FakeEngine(tmp_path, info=info, program=program, api=api)
    engine.hold({TWO: [A]})
    engine.show(INCOMING, ONE, [A, B])
    asked_for: list[str] = []
    given = SentScript.needed

    def needed_of(script: SentScript, line: str) -> bytes:
        asked_for.append(line)
        return given(script, line)

    monkeypatch.setattr(SentScript, "needed", needed_of)
    with conduit(engine, shell) as line:
        conversation = Conversation(line, "" if program == "docker" else program)
        conversation.ask([image(ONE)])
        assert conversation.greeting().engine == program
        assert [line for line in asked_for if line.startswith("need ")] == needed
        assert conversation.load({INCOMING: [A, B]}, "none", [b"some ", b"archive"]) == {INCOMING: ONE}
        conversation.commit({INCOMING: [NAME]}.items())
    assert engine.loaded == b"some archive"


def test_containerd_s_own_command_is_found_with_the_parts_that_come_later(tmp_path: Path, shell: list[str]) -> None:
    engine = FakeContainerd(tmp_path)
    said = SentScript(packed=True)
    opening = b": layerferry %d %d\n" % (VERSION, len(said.first())) + said.first() + ask({HELD: []}, "engine ctr")
    with engine.start(shell) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(opening)
        process.stdin.flush()
        lines: list[str] = []
        while (line := process.stdout.readline().decode().rstrip("\n")) != "end" and len(lines) < 30:
            lines.append(line)
            if parts := said.needed(line):
                process.stdin.write(parts)
                process.stdin.flush()
        process.stdin.close()
    assert lines[2] == "need engines"
    assert any(line.startswith("engine ctr ") for line in lines), lines


@pytest.mark.parametrize("kept", [0, 1, 700, -1])
def test_a_part_that_breaks_off_ends_the_session_and_changes_nothing(
    tmp_path: Path, shell: list[str], kept: int
) -> None:
    engine = FakeEngine(tmp_path, api=True)
    engine.hold({ONE: [A, B]})
    said = SentScript(packed=True)
    opening = b": layerferry %d %d\n" % (VERSION, len(said.first())) + said.first() + ask({ONE: [A, B]})
    line, _, part = said.before([Verb.TAG, Verb.DONE]).partition(b"\n")
    with engine.start(shell) as process:
        out, err = process.communicate(opening + line + b"\n" + part[:kept], timeout=60)
    assert out.decode().splitlines()[-1] == "end", err
    assert process.returncode
    assert not [call for call in engine.calls if "tag" in call or "DELETE" in call]


@pytest.mark.parametrize("info", [OVERLAY2, CONTAINERD], ids=["after the greeting", "within it"])
def test_a_client_that_falls_silent_within_a_part_is_given_up(tmp_path: Path, shell: list[str], info: str) -> None:
    engine = FakeEngine(tmp_path, info=info, api=True)
    engine.hold({ONE: [A, B]})
    said = SentScript(packed=True)
    first = gzip.compress(gzip.decompress(said.first()).replace(b"sleep 10 >", b"sleep 0.02 >"))
    part = said.before([Verb.TAG, Verb.DONE]) if info == OVERLAY2 else said.needed("need blobs")
    with engine.start(shell) as process:
        assert process.stdin is not None
        process.stdin.write(b": layerferry %d %d\n" % (VERSION, len(first)) + first + ask({ONE: [A, B]}) + part[:400])
        process.stdin.flush()
        assert process.wait(timeout=60)


@pytest.mark.parametrize("words", ["", "x", "-1", "1000000", "9 gzip", "$(id)"])
def test_a_part_of_no_length_or_of_none_of_ours_is_refused(tmp_path: Path, shell: list[str], words: str) -> None:
    engine = FakeEngine(tmp_path, api=True)
    engine.hold({ONE: [A, B]})
    answer = engine.talk(shell, ask({ONE: [A, B]}) + f"part {words}\nnonsense\n".encode())
    assert answer.code
    assert any(line.startswith("present") for line in answer.lines)


@pytest.mark.parametrize("status", ["0", "1"])
def test_what_an_export_that_failed_has_written_makes_room(tmp_path: Path, shell: list[str], status: str) -> None:
    """It has no name, and goes where nobody holds it open."""
    engine = FakeEngine(tmp_path)
    engine.show("app", "1000", [])
    engine.say("status.export", status)
    parts = SentScript().plainly().partition(b"\nmain(){")[0] + b"\n" + patching()
    asked = b'cli=docker maker= self=1\nexport_image app\necho "$?"\n(echo x >&7) 2>/dev/null&&echo open\n'
    done = subprocess.run([*shell, "-c", parts + asked], env=engine.environment(), capture_output=True, check=False)
    assert done.stdout.decode().split() == (["0", "open"] if status == "0" else ["1"]), done.stderr
