"""What the host script does with words that nobody should have said to it, and with a client that says nothing more.

A source that is not what it seems once wrote lines of its own into the conversation; whoever made a line, what is in it
must not become a path of docker's API, an option or a command.
"""

import base64
import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from contract.fake_engine import CONTAINERD, FakeEngine, ask, commit, load, preamble
from contract.test_host_containerd import ONE as HELD
from contract.test_host_containerd import FakeContainerd
from contract.test_host_script import INCOMING, NAME, ONE, TWO, A, B, C, loading
from layerferry.targets.host.script import script
from rig.processes import wait_until

WAYS = ("command", "api", "ctr")
OTHER = "docker.io/library/victim:prod"


@pytest.fixture(params=["command", "api"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> FakeEngine:
    return FakeEngine(tmp_path, api=request.param == "api")


@pytest.fixture
def commanded(tmp_path: Path) -> FakeEngine:
    """What is decided before an engine is asked is the same in each way."""
    return FakeEngine(tmp_path)


def an_engine(folder: Path, way: str) -> FakeEngine:
    """One that holds ONE, or HELD, and of each call notes all of its words."""
    if way == "ctr":
        return FakeContainerd(folder)
    engine = FakeEngine(folder, api=way == "api")
    engine.hold({ONE: [A], TWO: [B]})
    return engine


def wanted(way: str) -> list[str]:
    return ["engine ctr"] if way == "ctr" else []


def changes(engine: FakeEngine) -> list[str]:
    """The calls that change something on the target."""
    file = engine.state / "ctr-calls"
    calls = [*engine.calls, *(file.read_text().splitlines() if file.exists() else [])]
    words = {"tag", "load", "push", "import", "rm", "POST", "DELETE"}
    return [call for call in calls if words & set(call.split())]


#: What is no image, and what is no name.
NO_IMAGES = [
    "../volumes/prune?x=", "../build?remote=http://x/&networkmode=host", f"{ONE}/../../volumes/prune", f"{ONE}?x",
    "sha256:", f"{ONE[:-1]}g", f"{ONE}0", ONE.upper(), ONE.replace("sha256", "sha512"), "-f", "--all", "a:b", "*",
    "$(id)", "`id`", "..", "localhost/layerferry:", "localhost/layerferry:../x", "localhost/layerferry:0x",
    "localhost/layerferry:-f", "x;id", "x|id", "x&id", "%2e%2e", "caf\u00e9", '"', "'", "\\", "~", "{a,b}", "[1-9]",
]  # fmt: skip
NO_NAMES = [
    "a?b:1", "a&b:1", "a%2fb:1", "a#b:1", "a//b:1", "../a:1", "a/../b:1", "..a:1", "a/..b:1", "a../b:1",
    "-a:1", "--all:1", "a:1;id", "a:$(id)",
    "a:`id`", "a:1|id", "a:1&id", "a", "a:", ":1", "a:*", "a:1\\", "a:1\u00e9", "a:" + "1" * 600, '"a:1"', "a:1{b,c}",
    "a:~", "a@b:1", "a=b:1", "a+b:1", "a,b:1", "a:1\u2028", "a:1\x1b[0m", "a:1\x7f", "a^b:1",
]  # fmt: skip
IMAGES = [ONE, INCOMING, "localhost/layerferry:6926f3a1-0123456789abcdef"]
REAL_NAMES = [
    NAME,
    "a:1..2",
    "[::1]:5000/a/b:1",
    "host.example:443/a__b/c-d:v1.0_x",
    "localhost/a:1",
    "127.0.0.1:5000/A:B",
]


def test_it_knows_an_image_and_a_name_from_all_else(tmp_path: Path, shell: list[str]) -> None:
    """Its own functions, in a shell of their own: a session for each word would take minutes."""
    functions = script().partition(b"{ exec 4>&1")[0].decode()
    code = f"""{functions}
    while read -r kind word; do
      case $kind in image) is_digest "$word" || is_ours "$word" ;; *) is_name "$word" ;; esac && say "$kind $word"
    done"""
    words = [f"image {word}" for word in (*NO_IMAGES, *IMAGES)] + [f"name {word}" for word in (*NO_NAMES, *REAL_NAMES)]
    done = subprocess.run(
        [*shell, "-c", code], input="\n".join([*words, ""]).encode(), capture_output=True, check=False, cwd=tmp_path
    )
    assert done.stderr == b""
    taken = [f"image {word}" for word in IMAGES] + [f"name {word}" for word in REAL_NAMES]
    assert done.stdout.decode().splitlines() == taken
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", WAYS)
def test_an_image_that_is_none_is_never_asked_of_the_engine(tmp_path: Path, shell: list[str], way: str) -> None:
    for number, image in enumerate(NO_IMAGES[:3]):
        engine = an_engine(tmp_path / str(number), way)
        answer = engine.talk(shell, ask({TWO: [C]}, *wanted(way)) + f"tag {image} {OTHER}\ndone\n".encode())
        assert answer.lines[-1].startswith("failed protocol tag"), image
        assert (answer.code, changes(engine), answer.stderr) == (1, [], ""), image


@pytest.mark.parametrize("way", WAYS)
def test_a_name_that_is_none_is_never_given(tmp_path: Path, shell: list[str], way: str) -> None:
    here = HELD if way == "ctr" else ONE
    for number, name in enumerate(NO_NAMES[:3]):
        engine = an_engine(tmp_path / str(number), way)
        answer = engine.talk(shell, ask({here: [A]}, *wanted(way)) + f"tag {here} {name}\ndone\n".encode())
        assert answer.lines[-1].startswith("failed protocol tag"), name
        assert (answer.code, changes(engine), answer.stderr) == (1, [], ""), name


@pytest.mark.parametrize("name", REAL_NAMES[:2])
def test_every_name_that_is_one_is_given(engine: FakeEngine, shell: list[str], name: str) -> None:
    engine.hold({ONE: [A]})
    engine.talk(shell, ask({ONE: [A]}) + commit({ONE: name}))
    assert f"tag {ONE} {name}" in engine.calls


@pytest.mark.parametrize("way", WAYS)
def test_an_image_that_was_not_offered_gets_no_name(tmp_path: Path, shell: list[str], way: str) -> None:
    """One that is there, but was not asked for; a throw-away name of another session; one of ours, before its load."""
    here = HELD if way == "ctr" else ONE
    for number, (said, image) in enumerate((("", here), ("", INCOMING), (f"expect {INCOMING} {A}\n", INCOMING))):
        engine = an_engine(tmp_path / str(number), way)
        session = ask({C: []}, *wanted(way)) + f"{said}tag {image} {OTHER}\ndone\n".encode()
        answer = engine.talk(shell, session)
        assert answer.lines[-1].startswith(("failed tag", "failed protocol tag has no place here"))
        assert changes(engine) == []


WORDS = {
    "image": ["image x", "image ../x", f"image {ONE}0", "image -f", "image"],
    "layer": ["layer x", 'layer "', f"layer {A[:-1]}", "layer"],
}


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("way", WAYS)
def test_an_ask_for_what_is_no_digest_is_refused(tmp_path: Path, shell: list[str], way: str, kind: str) -> None:
    for number, line in enumerate(WORDS[kind]):
        engine = an_engine(tmp_path / str(number), way)
        said = ask({ONE: [A]}, *wanted(way)).removesuffix(b"end\n") + f"{line}\nend\n".encode()
        answer = engine.talk(shell, said)
        assert answer.lines[-1].startswith(f"failed protocol {kind}"), line
        assert changes(engine) == []


@pytest.mark.parametrize(
    "line",
    [
        f"load {m}" for m in ("", "xz", "*", "$(id)", "-x", "../x")
    ] + [
        f"expect {n} {A}" for n in ("x", "localhost/other:1", "localhost/layerferry:x", "-f", "../volumes/prune?", NAME)
    ] + [f"expect {INCOMING} x", f"expect {INCOMING} {A} ../x", f"expect {INCOMING} {A}&x"],
)  # fmt: skip
def test_a_header_that_is_broken_is_refused(commanded: FakeEngine, shell: list[str], line: str) -> None:
    begin = f"expect {INCOMING} {A}\n" if line.startswith("load") else ""
    answer = commanded.talk(shell, ask({ONE: [A]}) + f"{begin}{line}\n3\nabc0\n".encode())
    assert answer.lines[-1].startswith("failed protocol ")
    assert changes(commanded) == []


@pytest.mark.parametrize(
    "line",
    ["engine docker;id", "engine reboot", "engine ../sh", "engine -x", "engine ctr ../x", "engine ctr -x",
     "engine ctr $(id)", "engine k3s a;b", "engine nerdctl *"],
)  # fmt: skip
def test_an_engine_or_a_namespace_that_is_none_is_not_called(
    commanded: FakeEngine, shell: list[str], line: str
) -> None:
    for name in ("reboot", "ctr", "k3s", "nerdctl"):
        shutil.copy(commanded.bin / "docker", commanded.bin / name)
    answer = commanded.talk(shell, ask({}, line))
    assert answer.lines[-1].startswith(("failed protocol engine", "failed no-engine"))
    path = "".join(f"{line}\n" for line in answer.stderr.splitlines() if line.startswith("PATH: "))  # for the log
    assert (commanded.calls, answer.stderr) == ([], path)


def test_a_length_that_is_none_ends_the_archive_and_runs_nothing(commanded: FakeEngine, shell: list[str]) -> None:
    """A shell's arithmetic runs what stands in an index."""
    for length in ("a[$(touch owned)]", "-1", "0x10", "1e3", "999999999999", "010", " ", "99 bottles"):
        session = ask({ONE: [A]}) + f"expect {INCOMING} {A}\nload none\n{length}\nabc\n0\n".encode()
        answer = commanded.talk(shell, session)
        assert "done" not in answer.lines
        assert list(commanded.scratch.iterdir()) == []


# Each verb at its time.


def session(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


EXPECT, LOAD, FRAMES = f"expect {INCOMING} {A}", "load none", "3\nabc0"
LEARN = f"learn {ONE} 127.0.0.1:4000/x:learn dA== Yg=="


@pytest.mark.parametrize("lines", [
    (f"tag {ONE} {NAME}", "done"), (EXPECT,), (LOAD,), ("done",), (LEARN, f"tag {ONE} {NAME}"),
])  # fmt: skip
@pytest.mark.parametrize("way", WAYS)
def test_in_a_dry_run_nothing_is_changed(tmp_path: Path, shell: list[str], way: str, lines: Sequence[str]) -> None:
    """Also where the ask was ended by others, and where it is said twice."""
    engine = an_engine(tmp_path, way)
    here = HELD if way == "ctr" else ONE
    said = ask({here: [A]}, *(wanted(way) or ["engine"]), "dry-run")
    answer = engine.talk(shell, said + session(*lines).replace(ONE.encode(), here.encode()))
    assert answer.lines[-1].startswith("failed protocol")
    assert [call for call in changes(engine) if "learn" not in call] == []


@pytest.mark.parametrize("lines", [
    (LOAD,), (EXPECT, f"tag {ONE} {NAME}"), (EXPECT, "done"), (EXPECT, LEARN), (f"tag {ONE} {NAME}", EXPECT),
    (f"tag {ONE} {NAME}", LOAD), (EXPECT, LOAD, FRAMES, EXPECT), (EXPECT, LOAD, FRAMES, LOAD),
    ("done", f"tag {ONE} {NAME}"), ("done", EXPECT), (EXPECT, LOAD, FRAMES, LEARN), (f"tag {ONE} {NAME}", LEARN),
    ("done", "done"),
])  # fmt: skip
def test_a_verb_that_comes_when_it_may_not_is_refused(
    commanded: FakeEngine, shell: list[str], lines: Sequence[str]
) -> None:
    commanded.hold({ONE: [A]})
    commanded.show(INCOMING, ONE, [A])
    answer = commanded.talk(shell, ask({ONE: [A]}) + session(*lines))
    assert answer.lines[-1].startswith("failed protocol")
    assert answer.lines[-1].endswith("has no place here")
    assert answer.code == 1


@pytest.mark.parametrize("line", [
    f"learn {ONE} evil.example/x:learn dA== Yg==", f"learn {ONE} 127.0.0.1:1/../x:learn dA== Yg==",
    f"learn {ONE} 127.0.0.1:1/x:1 a b", f"learn {B} 127.0.0.1:1/x:learn dA== Yg==",
    "learn ../x 127.0.0.1:1/x:learn dA== Yg==",
    f"learn {ONE} 127.0.0.1:1/x:learn",
    f'learn {ONE} 127.0.0.1:1/x:learn a" b', f"learn {ONE} 127.0.0.1:1/x:learn a\\ b",
    f"learn {ONE} 127.0.0.1:x/x:learn a b?",
])  # fmt: skip
def test_the_daemon_pushes_to_our_forward_alone(commanded: FakeEngine, shell: list[str], line: str) -> None:
    commanded.say("info", CONTAINERD + "\n")
    commanded.hold({ONE: [A]})
    answer = commanded.talk(shell, ask({TWO: [A]}) + session(line))
    assert answer.lines[-1].startswith("failed protocol learn")
    assert changes(commanded) == []


# What it learns by, and where that is.


def test_credentials_go_to_the_engine_and_are_in_no_command_line(engine: FakeEngine, shell: list[str]) -> None:
    secret = base64.b64encode(b"layerferry:hush").decode()
    engine.say("info", CONTAINERD + "\n")
    engine.hold({ONE: [A]})
    wrap = engine.bin / ("curl" if (engine.bin / "curl").exists() else "docker")
    wrap.rename(wrap.with_name("real"))
    wrap.write_text('#!/bin/sh\nps -ef >>"$FAKE/ps"; printf "%s\\n" "$*" >>"$FAKE/argv"\nexec real "$@"\n')
    wrap.chmod(0o755)
    answer = engine.talk(shell, ask({TWO: [A]}) + session(f"learn {ONE} 127.0.0.1:4000/x:learn dG9rZW4= {secret}"))
    assert answer.lines[-1] == "learned yes"
    seen = (engine.state / "argv").read_text() + (engine.state / "ps").read_text()
    assert secret not in seen
    assert "dG9rZW4=" not in seen
    login = (engine.state / "login").read_text()
    if wrap.name == "curl":
        assert login == 'header = "X-Registry-Auth: dG9rZW4="\n'
    else:
        mode, text = login.split("\n", 1)
        assert mode.startswith("drwx------")
        assert json.loads(text) == {"auths": {"127.0.0.1:4000": {"auth": secret}}}
        assert not Path(mode.split()[-1]).exists()


# What is told as done was seen last.


def test_a_name_that_moved_during_the_session_is_given_again(engine: FakeEngine, shell: list[str]) -> None:
    """It was listed at the start as our image's; meanwhile somebody gave it to another."""
    engine.hold({ONE: [A], TWO: [B]})
    engine.say("ls", f"{ONE} app:1\n{TWO} other:1\n")
    engine.say("named", f"{NAME} {TWO}\n")
    answer = engine.talk(shell, ask({ONE: [A]}) + commit({ONE: NAME}))
    assert answer.lines[-1] == "done"
    assert f"tag {ONE} {NAME}" in engine.calls


def test_a_name_that_cannot_be_kept_is_not_told_as_given(tmp_path: Path, shell: list[str]) -> None:
    engine = FakeEngine(tmp_path)
    engine.hold({ONE: [A], TWO: [B]})
    moved = f'printf "%s %s\\n" "$3" {TWO} >>"$FAKE/named"'
    engine.alter("  load) cat", f"  tag) {moved} ;;\n  load) cat")
    answer = engine.talk(shell, ask({ONE: [A]}) + commit({ONE: NAME}))
    assert answer.lines[-1] == f"failed verify after {NAME}: moved {NAME}={TWO}"
    assert answer.code == 1


def test_of_several_names_those_that_were_moved_are_told(tmp_path: Path, shell: list[str]) -> None:
    """Each time that one of them is given, somebody else moves it; it is the first, and the others stay."""
    engine = FakeEngine(tmp_path)
    engine.hold({ONE: [A], TWO: [B]})
    moved = f'case $3 in */app:1) set -- tag {TWO} "$3" ;; esac; printf "%s %s\\n" "$3" "$2" >>"$FAKE/named"'
    engine.alter("  load) cat", f"  tag) {moved} ;;\n  load) cat")
    answer = engine.talk(shell, ask({ONE: [A]}) + f"tag {ONE} {NAME}\ntag {ONE} lab/y:1\ndone\n".encode())
    assert answer.lines[-1] == f"failed verify after lab/y:1: moved {NAME}={TWO}"


def test_what_fails_after_some_names_tells_the_last_of_them(tmp_path: Path, shell: list[str]) -> None:
    engine = FakeEngine(tmp_path)
    engine.hold({ONE: [A]})
    refuses = "case $3 in */z:1) echo no >&2; exit 1 ;; esac"
    engine.alter("  tag) ", f"  tag) {refuses}; ")
    names = [f"tag {ONE} lab/{one}:1\n" for one in "xyz"]
    answer = engine.talk(shell, (ask({ONE: [A]}).decode() + "".join(names) + "done\n").encode())
    assert answer.lines[-1] == "failed tag after lab/y:1: no"


def test_a_containerds_name_that_moved_is_not_told_as_given(tmp_path: Path, shell: list[str]) -> None:
    containerd = FakeContainerd(tmp_path)
    ctr = containerd.bin / "ctr"
    ctr.write_text(ctr.read_text().replace('images tag") digest=', 'images tag") true; digest=x; : ', 1))
    answer = containerd.talk(shell, ask({HELD: [A]}, "engine ctr") + commit({HELD: NAME}))
    assert answer.lines[-1] == f"failed verify after {NAME}: moved {NAME}=x"


# An engine that dies.


@pytest.mark.parametrize("verb", ["load", "inspect", "tag"])
def test_an_engine_that_died_is_told_as_such(tmp_path: Path, shell: list[str], verb: str) -> None:
    engine = FakeEngine(tmp_path)
    dies = f'[ $verb != {verb} ] || : >"$FAKE/dead"\n[ ! -e "$FAKE/dead" ] || {{ echo EOF >&2; exit 1; }}\n'
    engine.alter("case $verb in\n  info)", f"{dies}case $verb in\n  info)")
    answer = engine.talk(shell, loading(engine) + commit({INCOMING: NAME}))
    if verb == "tag":
        engine.hold({ONE: [A]})
        (engine.state / "dead").unlink(missing_ok=True)
        answer = engine.talk(shell, ask({ONE: [A]}) + commit({ONE: NAME}))
    assert answer.lines[-1].startswith("failed stopped")


def test_an_api_that_died_is_told_as_such(tmp_path: Path, shell: list[str]) -> None:
    engine = FakeEngine(tmp_path, api=True)
    curl = engine.bin / "curl"
    curl.rename(engine.bin / "real")
    curl.write_text(
        '#!/bin/sh\n[ -e "$FAKE/docker.sock" ] || { echo "curl: (7) Failed to connect" >&2; exit 7; }\n'
        'case $* in *images/load*) cat >/dev/null; rm "$FAKE/docker.sock"; exit 52 ;; esac\nexec real "$@"\n'
    )
    curl.chmod(0o755)
    assert engine.talk(shell, loading(engine)).lines[-1].startswith("failed stopped")


# Throw-away names of sessions that are no more.

NOW, DAY = 0x6926F3A1, 86_400


@pytest.mark.parametrize("way", WAYS)
def test_throw_away_names_that_are_a_day_old_go(tmp_path: Path, shell: list[str], way: str) -> None:
    engine = an_engine(tmp_path, way)
    ours = f"localhost/layerferry:{NOW:x}-0123456789abcdef"
    old, young, plain = (
        f"localhost/layerferry:{text}" for text in (f"{NOW - DAY:x}-ab", f"{NOW - DAY + 1:x}-ab", "0123456789abcdef")
    )
    others = [
        "localhost/layerferry-app:1",
        f"localhost/layerferry:{NOW - DAY:x}-abX",
        f"example/layerferry:{NOW - DAY:x}-ab",
    ]
    kept = [young, plain, *others]
    if way == "ctr":
        engine.say("names", "".join(f"{name} type {HELD} complete\n" for name in [old, *kept]))
        engine.say("new", f"{ours} type {HELD} complete\n")
    else:
        engine.say("ls", "".join(f"{TWO} {name}\n" for name in [old, *kept]))
        engine.show(ours, ONE, [A, B])
    answer = engine.talk(shell, ask({ONE: [A, B]}, *wanted(way)) + load({ours: [A, B]}, [b"x"]) + commit({ours: NAME}))
    assert answer.lines[-1] == "done"
    removed = [call.split(" rm ")[1].removeprefix("--sync ").strip() for call in changes(engine) if " rm " in call]
    assert removed == [old, ours]


def maker(pid: int, started: str = "") -> str:
    """What the throw-away names of a session end with whose process is `pid`."""
    place = [Path("/proc/sys/kernel/random/boot_id").read_text().partition("-")[0]]
    place.append(str(Path("/proc/self/ns/pid").readlink()).removeprefix("pid:[").removesuffix("]"))
    since = started or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return "-".join([str(pid), since, *place, str(os.getuid())])


@pytest.mark.parametrize("way", WAYS)
def test_throw_away_names_of_dead_sessions_go_at_once_and_of_living_ones_never(
    tmp_path: Path, shell: list[str], way: str
) -> None:
    engine = an_engine(tmp_path, way)
    ours, *others = (
        f"localhost/layerferry:{age:x}-0123456789abcde{number}{end}"
        for number, (age, end) in enumerate(
            [
                (NOW, ""),
                (NOW, "-" + maker(os.getpid(), "1")),  # its number is another process's now
                (NOW - DAY, "-" + maker(os.getpid())),
                (NOW, "-" + maker(os.getpid(), "1").replace("-", "-0", 2)),  # of another place
                (NOW, "-" + maker(1 << 30, "1")),
            ]
        )
    )
    if way == "ctr":
        engine.say("names", "".join(f"{name} type {HELD} complete\n" for name in others))
        engine.say("new", f"{ours} type {HELD} complete\n")
    else:
        engine.say("ls", "".join(f"{TWO} {name}\n" for name in others))
        engine.show(ours, ONE, [A, B])
    answer = engine.talk(shell, ask({ONE: [A, B]}, *wanted(way)) + load({ours: [A, B]}, [b"x"]) + commit({ours: NAME}))
    assert answer.lines[-1] == "done"
    assert [line for line in answer.lines if line.startswith("swept")] == ["swept 2"]
    removed = [call.split(" rm ")[1].removeprefix("--sync ").strip() for call in changes(engine) if " rm " in call]
    assert sorted(removed[:-1]) == [others[0], others[3]]
    assert removed[-1] == ours


def test_a_session_tells_its_own_process(engine: FakeEngine, shell: list[str]) -> None:
    (told,) = [line for line in engine.talk(shell, ask({})).lines if line.startswith("maker ")]
    pid, started, *place = told.removeprefix("maker ").split("-")
    assert place == maker(os.getpid()).split("-")[2:]
    assert pid.isdecimal()
    assert started.isdecimal()


@pytest.mark.parametrize("said", [b"", b"engine\n", b"engine\nimage " + ONE.encode() + b"\n"])
def test_a_client_that_falls_silent_in_its_ask_is_given_up(engine: FakeEngine, shell: list[str], said: bytes) -> None:
    with engine.start(shell) as process:
        assert process.stdin is not None
        process.stdin.write(preamble(tick="0.01") + said)
        process.stdin.flush()
        process.wait(60)
        assert process.returncode != 0


def test_a_session_whose_script_is_killed_says_so_and_ends(engine: FakeEngine, shell: list[str]) -> None:
    """It would go on to say that it lives."""
    with engine.start(shell) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(preamble(tick="0.1") + ask({}))
        process.stdin.flush()
        while not (line := process.stdout.readline().decode()).startswith("maker "):
            assert line
        while process.stdout.readline() != b"end\n":
            pass
        os.kill(int(line.split()[1].split("-")[0]), signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
    assert out.decode().splitlines()[-1] == "failed internal the script was killed"


@pytest.mark.parametrize(
    ("info", "known"),
    [
        ("28.5.2 linux/x86_64 overlay2 / extfs true", True),
        ("28.5.2 linux/x86_64 btrfs / 1.0", False),
        ("28.5.2 linux/x86_64 overlay2 /no/such/folder extfs", False),
        ("28.5.2 linux/x86_64 overlayfs / io.containerd.snapshotter.v1", False),
        ("28.5.2 linux/x86_64 overlay2 extfs true", False),
    ],
)
def test_it_tells_the_room_where_that_is_known(tmp_path: Path, shell: list[str], info: str, known: bool) -> None:
    lines = FakeEngine(tmp_path, info=info).talk(shell, ask({})).lines
    free = [int(line.removeprefix("free ")) for line in lines if line.startswith("free ")]
    assert len(free) == known
    assert all(1 << 20 < room < 1 << 53 for room in free)


# A client that says nothing more, and one that waits.


def test_it_says_that_it_lives_while_the_engine_works(engine: FakeEngine, shell: list[str]) -> None:
    program = engine.bin / ("curl" if (engine.bin / "curl").exists() else "docker")
    program.rename(program.with_name("real"))
    program.write_text('#!/bin/sh\ncase "$*" in *load*) sleep 1 ;; esac\nexec real "$@"\n')
    program.chmod(0o755)
    engine.show(INCOMING, ONE, [A, B])
    said = ask({ONE: [A, B]}) + load({INCOMING: [A, B]}, [b"x"]) + commit({INCOMING: NAME})
    answer = engine.talk(shell, said, tick="0.1")
    assert answer.lines.count("alive") >= 2
    assert [line for line in answer.lines if line != "alive"][-1] == "done"


def test_signs_of_life_are_no_part_of_an_archive(engine: FakeEngine, shell: list[str]) -> None:
    engine.show(INCOMING, ONE, [A])
    archive = (
        load({INCOMING: [A]}, [b"some ", os.urandom(70_000)]).replace(b"\n5\n", b"\n-\n-\n5\n").removesuffix(b"0\n")
    )
    answer = engine.talk(shell, ask({ONE: [A]}) + b"-\n" + archive + b"-\n0\n-\n" + commit({INCOMING: NAME}))
    assert answer.lines[-1] == "done"
    assert len(engine.loaded) == 70_005


@pytest.mark.parametrize("cut", ["ask", "length", "bytes", "frames", "loaded"])
def test_a_client_that_falls_silent_is_given_up(commanded: FakeEngine, shell: list[str], cut: str) -> None:
    """Its end of the pipe stays open, as it does after a network cut; nothing of the session is left."""
    commanded.show(INCOMING, ONE, [A, B])
    whole = ask({ONE: [A, B]}) + load({INCOMING: [A, B]}, [b"archive", b"more"])
    ends = {"ask": b"end\n", "length": b"load none\n", "bytes": b"7\narc", "frames": b"archive", "loaded": b"more0\n"}
    said = whole[: whole.index(ends[cut]) + len(ends[cut])]
    with commanded.start(shell) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(preamble(tick="0.02") + said)
        process.stdin.flush()
        out = process.stdout.read()
        assert process.wait(timeout=60) != 0 or cut == "ask"
    assert b"done" not in out
    assert "load" not in commanded.calls or commanded.calls[-1] == f"image rm {INCOMING}"
    wait_until(lambda: not processes(commanded), "the session still has processes")


def processes(engine: FakeEngine) -> list[int]:
    """Those that still work in this test's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink() == engine.scratch:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_session_leaves_no_process(engine: FakeEngine, shell: list[str]) -> None:
    engine.talk(shell, loading(engine, shown=[A, B]) + commit({INCOMING: NAME}))
    wait_until(lambda: not processes(engine), "the session still has processes")
    assert stat.S_ISDIR(engine.scratch.stat().st_mode)
