"""The command as a process, with a stand-in for ssh and for what is behind it: what reaches a terminal or a CI's log.

Hostile words in every place where others' words are shown, encodings without our signs, descriptors that are closed or
full, readers that go, and targets that never answer beside one that does.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import fork_server
from packed import Picture, layout_files, named_entry, write_folder

#: Each a way to speak to a terminal or a CI, and to begin a line of one's own.
NASTY = (
    "\x1b]0;title\x07 \x1b[31m \x9b31m \x7f \r::add-mask::x \x85::stop-commands::x \u2028::set-output name=a::b "
    "##vso[task.setvariable variable=PATH]x ##[error]x ##teamcity[buildStop] \u202ereversed \x0b::error::x"
)

#: Plays ssh and the target behind it. The host's name says how it behaves; what it heard is kept.
SSH = """\
#!{python} -IS
import os, sys, time
if "-G" in sys.argv:
    print("controlpath none")
    sys.exit()
mode = sys.argv[sys.argv.index("--") + 1].partition(".")[0] if "--" in sys.argv else sys.argv[1]
nasty = {nasty!r}
pipe, heard = sys.stdin.buffer, open({heard!r} + "." + mode, "ab", buffering=0)
def line():
    said = pipe.readline()
    heard.write(said)
    return said.decode().split()
def say(text):
    sys.stdout.buffer.write(text.encode() + b"\\n")
    sys.stdout.buffer.flush()
if mode == "banner":
    sys.stderr.buffer.write((nasty + ": Permission denied (publickey)." + nasty + "\\n").encode())
    sys.exit(255)
if mode == "noise":
    for _ in range(300):
        say(nasty)
heard.write(pipe.read(int(line()[-1])))
say("layerferry 1 sh")
images = []
while (words := line()) != ["end"]:
    if words[:1] == ["image"]:
        images.append(words[1])
say("engine docker " + (nasty.replace(" ", "_") if mode == "version" else "28.5.2") + " overlay2")
say("store chain\\nplatform linux/amd64\\naccept none gzip zstd\\nlayers tar gzip zstd")
for image in images:
    say(f"image {{image}}\\n" + ("chain 0" if mode != "shown" else "present"))
say("end")
expected = []
while (words := line())[:1] not in (["load"], ["done"], []):
    if words[0] == "expect":
        expected.append(words[1])
if words[:1] == ["load"]:
    while (length := int(line()[0])):
        pipe.read(length)
    if mode == "verdict":
        say("failed load " + nasty)
        sys.exit()
    if mode == "long":
        say("failed load " + nasty * 4000)
        sys.exit()
    if mode == "kind":
        say("failed " + nasty.replace(" ", "_") + " x")
        sys.exit()
    if mode == "identity":
        say("loaded " + expected[0] + " " + nasty.replace(" ", "_") + "\\nend")
        sys.exit()
    if mode == "hang":
        pipe.read()
        sys.exit()
    for name, image in zip(expected, images):
        say(f"loaded {{name}} {{image}}")
    say("end")
    while line() not in (["done"], []):
        pass
say("done")
"""


@dataclass(frozen=True)
class Ran:
    code: int
    out: bytes
    err: bytes

    @property
    def shown(self) -> str:
        return (self.out + self.err).decode()


@dataclass
class Stage:
    folder: Path
    env: dict[str, str]

    def image(self, **platform: Any) -> str:
        picture = Picture.of("app", "gzip", "gzip", **platform)
        files = layout_files([named_entry(picture, "docker.io/library/app:1")], picture.documents)
        return f"oci:{write_folder(self.folder / 'layout', files)}"

    def argv(self, *words: str) -> list[str]:
        return fork_server.command(*words)

    def push(self, *words: str, **options: Any) -> Ran:
        return self.run("push", self.image(), *words, **options)

    def run(self, *words: str, env: dict[str, str] | None = None, shell: str = "", code: int | None = 0) -> Ran:
        """`shell` is what a shell makes of the command's descriptors: `<&- >&-`."""
        argv, environment = self.argv(*words), self.env | (env or {})
        if shell:
            argv = ["sh", "-c", f'exec "$@" {shell}', "sh", *argv]
            done = subprocess.run(
                argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
            )
        else:
            done = fork_server.run(argv, env=environment)
        assert b"Traceback" not in done.stderr or "--debug" in words
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    def heard(self, mode: str) -> bytes:
        file = self.folder / f"heard.{mode}"
        return file.read_bytes() if file.exists() else b""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin" / "ssh"
    text = SSH.format(python=sys.executable, nasty=NASTY, heard=str(tmp_path / "heard"))
    ssh.write_text(text, encoding="utf-8")
    ssh.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    env = {"PATH": path, "HOME": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/none.sock", "LC_ALL": "C.UTF-8"}
    return Stage(tmp_path, env)


def is_harmless(text: str) -> bool:
    """Whether it has no control character but line ends and tabs, nothing that reorders, and no CI's command."""
    unseen = re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", text)
    return not (unseen or re.search(r"(?m)^\s*::|##(\[|vso\[|teamcity\[)", text))


def strings(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict | list):
        for value in document.values() if isinstance(document, dict) else document:
            yield from strings(value)


# Words of others.


@pytest.mark.parametrize("words", [(), ("--json",), ("--debug",)])
@pytest.mark.parametrize("mode", ["verdict", "long", "kind", "identity", "version", "banner", "noise"])
def test_a_target_does_nothing_but_be_read(stage: Stage, mode: str, words: tuple[str, ...]) -> None:
    ran = stage.push(f"{mode}.example", *words, code=None)
    assert ran.code == {"banner": 4, "identity": 6}.get(mode, 5), ran.shown
    assert is_harmless(ran.shown)
    if words != ("--debug",):
        assert all(len(line) <= 2000 for line in ran.err.splitlines())
        assert all(line.startswith((b"layerferry: ", b"  ")) for line in ran.err.splitlines())


@pytest.mark.parametrize("mode", ["verdict", "long", "kind", "identity", "banner"])
def test_json_is_harmless_as_it_stands_and_when_a_script_prints_of_it(stage: Stage, mode: str) -> None:
    ran = stage.push(f"{mode}.example", "--json", code=None)
    assert ran.out.isascii()
    assert is_harmless(ran.out.decode())
    assert b"::" not in ran.out
    texts = list(strings(json.loads(ran.out)))
    assert all(is_harmless(text) and "\n" not in text and len(text.encode()) <= 2000 for text in texts)


def test_what_the_user_has_named_is_in_json_as_he_named_it(stage: Stage) -> None:
    image = f"oci:{stage.folder}/##vso[x]::a::b\x1b"
    document = json.loads(stage.run("push", image, "good.example", "--name", "a:1", "--json", code=3).out)
    assert document["results"][0]["image"] == image


@pytest.mark.parametrize("words", [(), ("--json",)])
@pytest.mark.parametrize("name", ["os", "architecture"])
def test_neither_does_an_image(stage: Stage, name: str, words: tuple[str, ...]) -> None:
    reference = stage.image(**{name: f"li\n##vso[x]\n{NASTY}"})
    ran = stage.run("push", reference, "good.example", *words, code=None)
    assert ran.code in {3, 5}
    assert is_harmless(ran.shown)
    assert all(line.startswith((b"layerferry: ", b"  ")) for line in ran.err.splitlines())


@pytest.mark.parametrize("words", [(), ("--json",)])
@pytest.mark.parametrize("mode", ["version", "banner", "noise"])
def test_nor_in_the_doctors_report(stage: Stage, mode: str, words: tuple[str, ...]) -> None:
    ran = stage.run("doctor", f"{mode}.example", *words, code=None)
    assert is_harmless(ran.shown)
    assert "docker" in ran.shown


@pytest.mark.parametrize(
    "words",
    [
        ("push", "app:1", f"--no{NASTY}"),
        ("push", "app:1", "host", "--route", NASTY),
        ("push", "app:1", "host", "--jobs", NASTY),
        ("push", "app:1", "host", "--ssh-config", f"/none{NASTY}"),
        ("push", "app:1", f"host{NASTY}"),
        ("push", f"app{NASTY}", "host"),
        ("push", "app:1", "host", "--name", NASTY),
        ("push", "app:1", "host", "--platform", NASTY),
        ("push", "app:1", "host", "--compression", NASTY),
        (f"no-such-command{NASTY}",),
        ("doctor", "one", f"two{NASTY}"),
        ("receive", f"--no{NASTY}"),
        ("receive", "--allow", "app:*", "--max-bytes", NASTY, "--print-authorized-key", "/none"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_what_to_do_in_another(stage: Stage, words: tuple[str, ...]) -> None:
    ran = stage.run(*words, code=2)
    assert is_harmless(ran.shown)
    first, *more = ran.err.decode().splitlines()
    assert first.startswith(("layerferry: ", "layerferry receive: "))
    assert all(line.startswith("  ") for line in more)
    assert ran.out == b""


def test_a_setting_is_shown_on_one_line_or_refused(stage: Stage) -> None:
    shown = stage.run("run", "--print-config", env={"LAYERFERRY_TARGETS": "a ##vso[x]y ::error::z ##teamcity[x]"})
    lines = shown.out.decode().splitlines()
    assert all(re.match(r"LAYERFERRY_\w+=.*  # ", line) for line in lines)
    painted = {"LAYERFERRY_TARGETS": f"a\nLAYERFERRY_ROUTE=export{NASTY}"}
    refused = stage.run("run", "--print-config", env=painted, code=2)
    assert is_harmless(shown.shown + refused.shown)


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_what_goes_through_run_is_as_harmless(stage: Stage, words: tuple[str, ...]) -> None:
    env = {"LAYERFERRY_IMAGES": stage.image(), "LAYERFERRY_TARGETS": "verdict.example version.example"}
    ran = stage.run("run", *words, env=env, code=5)
    assert is_harmless(ran.shown)


# Encodings.

ENCODINGS = {
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "strict": {"PYTHONIOENCODING": "ascii:strict"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.parametrize("words", [(), ("--json",), ("--dry-run",)])
@pytest.mark.parametrize("name", ENCODINGS)
def test_an_encoding_without_our_signs_gets_others(stage: Stage, name: str, words: tuple[str, ...]) -> None:
    ran = stage.push("good.example", *words, env=ENCODINGS[name])
    if not words:
        assert ran.out.count(b"\n  ^ ") == 2
        assert re.search(rb"  \+ app:1 is sha256:[0-9a-f]{12}(\.\.\.|\x85), verified on good.example", ran.out)


@pytest.mark.parametrize("name", ENCODINGS)
def test_so_do_failures_the_doctor_and_run(stage: Stage, name: str) -> None:
    assert b"x app:1" in stage.push("verdict.example", "--to", "good.example", env=ENCODINGS[name], code=5).out.replace(
        stage.image().encode(), b"app:1"
    )
    assert b"\nx daemon answers:" in stage.run("doctor", env=ENCODINGS[name], code=3).out
    env = {"LAYERFERRY_IMAGES": stage.image(), "LAYERFERRY_TARGETS": "good.example", "GITHUB_ACTIONS": "true"}
    assert b"+ app:1 is" in stage.run("run", env=env | ENCODINGS[name]).out
    stage.run("push", "--help", env=ENCODINGS[name])


# Descriptors.


@pytest.mark.parametrize("words", [(), ("--json",)])
@pytest.mark.parametrize("shell", ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_descriptor_changes_nothing_of_the_push(stage: Stage, shell: str, words: tuple[str, ...]) -> None:
    words = (*words, "--compression", "none")  # so that an archive's length is always the same
    open_ = stage.push("good.example", *words)
    before = stage.heard("good")
    closed = stage.push("good.example", *words, shell=shell)
    # The throw-away name is another each time, the rest of the conversation is the same.
    there = re.sub(rb"localhost/layerferry:[\w.-]+", b"NAME", stage.heard("good"))
    assert there == 2 * re.sub(rb"localhost/layerferry:[\w.-]+", b"NAME", before)
    assert bool(closed.out) is (bool(open_.out) and ">&-" not in re.sub(r"2>&-", "", shell))
    assert closed.err == b""


@pytest.mark.parametrize("shell", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_nor_of_a_failure_of_doctor_run_and_receive(stage: Stage, shell: str) -> None:
    stage.push("verdict.example", shell=shell, code=5)
    stage.run("doctor", "good.example", shell=shell, code=3)
    stage.run("push", "--no-such-option", shell=shell, code=2)
    stage.run("--version", shell=shell)
    env = {"LAYERFERRY_IMAGES": stage.image(), "LAYERFERRY_TARGETS": "good.example"}
    stage.run("run", shell=shell, env=env)
    stage.run("receive", "--no-such-option", shell=shell, code=2)
    assert stage.run("receive", "--allow", "app:*", "--engine", "/none", shell=shell, code=None).code in {1, 5}


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_log_that_cannot_be_written_does_not_fail_the_push(stage: Stage, words: tuple[str, ...]) -> None:
    ran = stage.push("good.example", *words, shell=">/dev/full")
    assert ran.err.startswith(b"layerferry: stdout could not be written: No space left on device\n")
    assert stage.heard("good").endswith(b"docker.io/library/app:1\ndone\n")
    assert stage.push("good.example", shell=">/dev/full 2>/dev/full").code == 0
    assert stage.push("verdict.example", shell=">/dev/full", code=5).err.count(b"\nlayerferry: ") == 1
    env = {"LAYERFERRY_IMAGES": stage.image(), "LAYERFERRY_TARGETS": "good.example"}
    assert b"could not be written" in stage.run("run", env=env, shell=">/dev/full").err


@pytest.mark.parametrize(
    "words", [("doctor",), ("doctor", "--json"), ("run", "--print-config"), ("--version",), ("--help",)]
)
def test_what_was_asked_for_and_cannot_be_written_is_a_failure(stage: Stage, words: tuple[str, ...]) -> None:
    ran = stage.run(*words, shell=">/dev/full", code=3 if words[0] == "doctor" else 1)
    assert b"stdout could not be written" in ran.err


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_reader_that_has_gone_is_no_trouble(stage: Stage, words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    argv = stage.argv("push", stage.image(), "good.example", *words)
    process = subprocess.Popen(argv, env=stage.env, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert stage.heard("good").endswith(b"docker.io/library/app:1\ndone\n")


# Quiet.


@pytest.mark.parametrize("words", [("-q",), ("--quiet",)])
def test_quiet_is_one_line(stage: Stage, words: tuple[str, ...]) -> None:
    ran = stage.push("good.example", *words)
    assert ran.err == b""
    assert re.fullmatch(r"app:1 is sha256:\w+…, verified on good.example {6}[^\n]+ saved\n", ran.out.decode())
    assert stage.push("verdict.example", *words, code=5).out == b""


def test_quiet_of_several_targets_is_one_line_and_the_errors(stage: Stage) -> None:
    ran = stage.push("good.example", "--to", "verdict.example", "-q", code=5)
    assert re.fullmatch(r"1 of 2 done [^\n]+\n", ran.out.decode())
    assert ran.err.startswith(b"layerferry: verdict.example")


def test_run_is_quiet_where_its_variable_says_so(stage: Stage) -> None:
    env = {"LAYERFERRY_IMAGES": stage.image(), "LAYERFERRY_TARGETS": "good.example", "LAYERFERRY_TARGET": "x"}
    ran = stage.run("run", env={**env, "LAYERFERRY_QUIET": "true"})
    assert len(ran.shown.splitlines()) == 1
    assert "verified on good.example" in ran.shown
    ran = stage.run("run", env={**env, "LAYERFERRY_QUIET": "true", "LAYERFERRY_TARGETS": "verdict.example"}, code=5)
    assert ran.shown.splitlines()[0].startswith("layerferry: verdict.example")


# Outcomes as they are known.


def started(stage: Stage, *words: str) -> "subprocess.Popen[bytes]":
    """A push to a target that takes all, and one that never answers after the archive."""
    return subprocess.Popen(
        stage.argv("push", stage.image(), "hang.example", "--to", "good.example", *words),
        env=stage.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_what_is_done_is_told_while_another_target_hangs(stage: Stage, number: signal.Signals) -> None:
    process = started(stage)
    assert process.stdout is not None
    told = b""
    while b"verified on good.example" not in told:
        line = process.stdout.readline()
        assert line, told
        told += line
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == b"layerferry: interrupted\n"
    assert b"on hang.example: interrupted\n1 of 2 done " in out
    assert b"verified on good.example" not in out


def test_json_has_all_results_after_a_signal(stage: Stage) -> None:
    process = started(stage, "--json")
    while not stage.heard("good").endswith(b"done\n") or b"load " not in stage.heard("hang"):
        assert process.poll() is None
        signal.sigtimedwait((), 0.02)
    signal.sigtimedwait((), 1.0)  # good.example's answer is on its way
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    hang, good = json.loads(out)["results"]
    assert (good["target"], good["verified"], good["error"]) == ("good.example", True, None)
    assert (hang["target"], hang["verified"]) == ("hang.example", False)
    assert hang["error"] == {"message": "interrupted", "hint": "", "exit_code": 130}


def test_so_it_has_after_the_time_limit(stage: Stage) -> None:
    process = started(stage, "--json", "--timeout", "5")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 4, err
    hang, good = json.loads(out)["results"]
    assert (good["verified"], good["error"]) == (True, None)
    assert hang["error"]["message"] == "gave up after 5 s"
    assert hang["error"]["exit_code"] == 4


def test_a_single_target_has_its_result_too(stage: Stage) -> None:
    ran = stage.push("hang.example", "--json", "--timeout", "2", code=4)
    (result,) = json.loads(ran.out)["results"]
    assert result["error"]["message"] == "gave up after 2 s"


def test_run_ends_with_all_it_has_to_say(stage: Stage) -> None:
    env = {
        "LAYERFERRY_IMAGES": stage.image(),
        "LAYERFERRY_TARGETS": "hang.example good.example",
        "LAYERFERRY_TIMEOUT": "5",
        "LAYERFERRY_DOTENV": str(stage.folder / "dotenv"),
    }
    ran = stage.run("run", env=env, code=4)
    assert "1 of 2 done" in ran.shown
    assert ran.shown.count("layerferry: gave up after 5 s") == 1
    assert "LAYERFERRY_OUTPUT_TARGETS=good.example\n" in (stage.folder / "dotenv").read_text()
