"""The script that plays the target's part on an ordinary host, in every POSIX shell here, before an engine that plays.

The conversation is told in layerferry.targets.conversation.
"""

import hashlib
import itertools
import os
import random
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from contract.conftest import SHELLS
from contract.fake_engine import CONTAINERD, OVERLAY2, PODMAN, Answer, FakeEngine, ask, commit, load, preamble
from layerferry.oci.image import Image as SourceImage
from layerferry.oci.image import Layer, Platform
from layerferry.targets.conduit import CommandConduit
from layerferry.targets.conversation import Conversation
from rig.processes import wait_until

Images = Mapping[str, Sequence[str]]


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


A, B, C, D = (digest(letter) for letter in "abcd")
ONE, TWO, THREE, OTHER = (digest(name) for name in ("one", "two", "three", "other"))
INCOMING = "localhost/layerferry:0123456789abcdef"
NAME = "docker.io/library/app:1"


@pytest.fixture(params=["command", "api"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> FakeEngine:
    """A docker that is asked through its command, and one through its API."""
    return FakeEngine(tmp_path, api=request.param == "api")


@pytest.fixture
def podman(tmp_path: Path) -> FakeEngine:
    return FakeEngine(tmp_path, info=PODMAN, program="podman")


def parsed(answer: Answer) -> dict[str, list[str]]:
    """What was said of each image that was asked for."""
    assert answer.lines[-1] == "end", answer
    found: dict[str, list[str]] = {}
    for line in answer.lines:
        if line.startswith("image "):
            found[line.split()[1]] = []
        elif found and line != "end":
            found[next(reversed(found))].append(line)
    return found


def asked(engine: FakeEngine, shell: list[str], wanted: Images) -> dict[str, list[str]]:
    """What it answers; where an image is here, without the names that it tells of that."""
    said = parsed(engine.talk(shell, ask(wanted)))
    return {
        image: ["present" if line.startswith("present ") else line for line in lines] for image, lines in said.items()
    }


def test_the_shells_that_every_debian_has_are_among_those_that_are_tried() -> None:
    assert {"dash", "bash", "ash"} <= set(SHELLS)


# The greeting.


@pytest.mark.parametrize(
    ("info", "program", "expected"),
    [
        (OVERLAY2, "docker", ["engine docker 28.5.2 overlay2", "store chain", "platform linux/x86_64"]),
        (CONTAINERD, "docker", ["engine docker 28.5.2 overlayfs", "store blob", "platform linux/x86_64"]),
        (PODMAN, "podman", ["engine podman 5.8.6 overlay", "store layer", "platform linux/amd64"]),
    ],
)
def test_it_greets_with_engine_store_and_platform(
    tmp_path: Path, shell: list[str], info: str, program: str, expected: list[str]
) -> None:
    answer = FakeEngine(tmp_path, info=info, program=program).talk(shell, ask({}))
    assert answer.lines[:7] == [
        "",
        "layerferry 1 sh",
        expected[0],
        "owner root",
        *expected[1:],
        "accept none gzip zstd",
    ]
    assert answer.lines[-1] == "end"
    assert (answer.code, answer.stderr) == (0, "")


@pytest.mark.parametrize("version", ["20.10.24+dfsg1", "19.03.8", "28.5.2"])
def test_zstd_is_taken_where_the_engine_or_the_host_can_unpack_it(
    engine: FakeEngine, shell: list[str], version: str
) -> None:
    engine.say("info", f"{version} linux/aarch64 overlay2 extfs true true true\n")
    assert "accept none gzip zstd" in engine.talk(shell, ask({})).lines


def test_sudo_helps_where_the_user_may_not_use_the_engine(engine: FakeEngine, shell: list[str]) -> None:
    """`sudo -n` asks for nothing; it is tried after the plain command only, and used for every call from then on."""
    body = '[ "$1" = -n ] || exit 9\nshift\nMAY=1 exec "$@"\n'
    (engine.bin / "sudo").write_text(f"#!/bin/sh\n{body}")
    docker = engine.bin / "docker"
    docker.write_text(docker.read_text().replace("\nverb=$1\n", '\n[ "$MAY" ] || exit 1\nverb=$1\n', 1))
    (engine.bin / "sudo").chmod(0o755)
    (engine.state / "docker.sock").unlink(missing_ok=True)
    engine.hold({ONE: [A]})
    assert asked(engine, shell, {ONE: [A]}) == {ONE: ["present"]}
    assert sorted(call.split()[0] for call in engine.calls) == ["image", "image", "info", "info", "info"]


def test_a_host_without_an_engine_says_where_it_looked(engine: FakeEngine, shell: list[str]) -> None:
    (engine.bin / "docker").unlink()
    answer = engine.talk(shell, ask({ONE: [A]}, "engine no-such-engine"))
    assert answer.lines[-1] == "failed no-engine looked for no-such-engine"
    for place in ("/usr/local/bin", "/snap/bin", "/opt/bin", "ContainerManager", "container-station"):
        assert place in answer.stderr


def test_an_engine_that_does_not_answer_is_quoted(engine: FakeEngine, shell: list[str]) -> None:
    engine.say("info", "")
    engine.say("status.info", "1")
    engine.say("stderr.info", "Cannot connect to the Docker daemon. Is the docker daemon running?\n")
    (engine.bin / "sudo").write_text("#!/bin/sh\nexit 1\n")
    (engine.bin / "sudo").chmod(0o755)
    answer = engine.talk(shell, ask({ONE: [A]}, "engine docker"))
    assert len(answer.lines) == 3
    assert answer.lines[2].startswith("failed engine ")
    assert "Is the docker daemon running?" in answer.lines[2]
    assert answer.code == 1


# The inventory.


@pytest.mark.parametrize(
    ("here", "wanted", "said"),
    [
        ({}, [A], ["chain 0 "]),
        ({ONE: [A, B, C]}, [A, B, C], ["present"]),
        ({TWO: [A, B, C]}, [A, B, C], [f"chain 3 {TWO}"]),
        ({TWO: [A, B]}, [A, B, C], [f"chain 2 {TWO}"]),
        ({TWO: [A, B, D]}, [A, B, C], [f"chain 2 {TWO}"]),
        ({TWO: [B, C]}, [A, B, C], ["chain 0 "]),
        ({TWO: [A], THREE: [A, B]}, [A, B, C], [f"chain 2 {THREE}"]),
        ({TWO: [A, B, C, D]}, [A, B, C], [f"chain 3 {TWO}"]),
        ({TWO: []}, [A], ["chain 0 "]),
        ({TWO: [A, A, B]}, [A, A, C], [f"chain 2 {TWO}"]),
        ({TWO: [A]}, [A, A], [f"chain 1 {TWO}"]),
        ({TWO: [A]}, [], []),
    ],
)
def test_it_tells_the_longest_chain_that_is_here(
    engine: FakeEngine, shell: list[str], here: Images, wanted: Sequence[str], said: list[str]
) -> None:
    engine.hold(here)
    assert asked(engine, shell, {ONE: wanted}) == {ONE: said}


@pytest.mark.parametrize("info", [CONTAINERD, PODMAN])
def test_where_a_layer_counts_in_any_chain_loose_ones_are_told_with_their_place(
    tmp_path: Path, shell: list[str], info: str
) -> None:
    engine = FakeEngine(tmp_path, info=info, program="podman" if info == PODMAN else "docker")
    engine.hold({TWO: [A, B], THREE: [D, C]})
    prefix = {TWO: f"chain 1 {TWO}", THREE: f"loose {C} 1 {THREE}"}
    assert asked(engine, shell, {ONE: [A, OTHER, C]}) == {ONE: [prefix[TWO], prefix[THREE]]}
    assert asked(engine, shell, {ONE: [OTHER, B]}) == {ONE: ["chain 0 ", f"loose {B} 1 {TWO}"]}


def test_several_images_are_answered_one_by_one_and_the_engine_is_asked_once(
    engine: FakeEngine, shell: list[str]
) -> None:
    engine.hold({ONE: [A, B], TWO: [C]})
    said = asked(engine, shell, {ONE: [A, B], THREE: [A], OTHER: [D]})
    assert said == {ONE: ["present"], THREE: [f"chain 1 {ONE}"], OTHER: ["chain 0 "]}
    calls = [" ".join(call.split()[:2]) for call in engine.calls]
    assert (sorted(calls[:2]), calls[2:]) == (["image ls", "info --format"], ["image inspect"])


def test_an_image_that_is_here_costs_no_look_at_the_others(engine: FakeEngine, shell: list[str]) -> None:
    engine.hold({ONE: [A], TWO: [B]})
    assert asked(engine, shell, {ONE: [A]}) == {ONE: ["present"]}
    assert not [call for call in engine.calls if "inspect" in call]


def test_any_images_and_any_ask_are_answered_as_a_simple_model_answers(tmp_path: Path, shell: list[str]) -> None:
    """Few layers and short chains, so that they often meet."""
    chance = random.Random(20261123)
    for number in range(12):
        blob = number % 2 == 1
        engine = FakeEngine(tmp_path / str(number), info=CONTAINERD if blob else OVERLAY2)
        layers = [A, B, C]
        here = {digest(f"{number} {n}"): chance.choices(layers, k=chance.randint(0, 4)) for n in range(6)}
        wanted = {digest(f"w {n}"): chance.choices([*layers, D], k=chance.randint(1, 5)) for n in range(8)}
        engine.hold(here)
        for image, said in asked(engine, shell, wanted).items():
            check_model(here, wanted[image], said, loose=blob)


def check_model(here: Images, wanted: Sequence[str], said: list[str], *, loose: bool) -> None:
    def common(layers: Sequence[str]) -> int:
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(layers, wanted, strict=False)))

    deepest = max(map(common, here.values()))
    _, depth, *holder = said[0].split()
    assert int(depth) == deepest
    assert not holder or common(here[holder[0]]) == deepest
    told = {}
    for line in said[1:]:
        word, layer, below, image = line.split()
        assert word == "loose"
        assert here[image][int(below)] == layer
        told[layer] = image
    held = {layer for layers in here.values() for layer in layers}
    assert set(told) == ({layer for layer in wanted[deepest:] if layer in held} if loose else set())


def test_2000_more_images_do_not_show_in_the_answer_nor_in_the_number_of_calls(
    engine: FakeEngine, shell: list[str]
) -> None:
    small = {TWO: [A, B]}
    engine.hold(small)
    few = engine.talk(shell, ask({ONE: [A, B, C]}))
    calls = len(engine.calls)
    crowd = {digest(f"crowd {n}"): [digest(f"layer {n} {m}") for m in range(3)] for n in range(2000)}
    engine.hold(crowd | small)
    many = engine.talk(shell, ask({ONE: [A, B, C]}))
    assert sum(map(len, many.lines)) == sum(map(len, few.lines))
    assert f"chain 2 {TWO}" in many.lines
    more = engine.calls[calls:]
    assert len(more) <= calls + 3  # xargs splits 2,000 IDs into a few lots
    assert max(len(call) for call in more) < 1 << 17


def test_words_that_it_does_not_know_are_ignored(engine: FakeEngine, shell: list[str]) -> None:
    engine.hold({TWO: [A]})
    said = ask({ONE: [A]}, "capability resume chunks", "future").replace(b"layer", b"colour red\nlayer")
    answer = engine.talk(shell, said + b"chunk sha256:1 2 3\n" + commit({TWO: NAME}))
    assert answer.lines[-2:] == ["end", "done"]
    assert f"tag {TWO} {NAME}" in engine.calls


def test_a_name_that_an_image_has_already_is_not_set_once_more(tmp_path: Path, shell: list[str]) -> None:
    """An engine's command takes longer than all that is said about an unchanged image. docker shows short names."""
    for program, info, short in (("docker", OVERLAY2, True), ("podman", PODMAN, False)):
        engine = FakeEngine(tmp_path / program, info=info, program=program)
        names = ["docker.io/library/app:1", "docker.io/team/app:1", "ghcr.io/team/app:1"]
        shown = [name.removeprefix("docker.io/").removeprefix("library/") for name in names] if short else names
        engine.say("ls", "".join(f"{ONE} {name}\n" for name in shown) + f"{TWO} other:1\n")
        for name in names:
            answer = engine.talk(shell, ask({ONE: [A]}) + commit({ONE: name}))
            assert answer.lines[-3:] == [f"present {' '.join(shown)}", "end", "done"]
        assert not [call for call in engine.calls if call.startswith("tag")]
        for image, name in ((TWO, names[0]), (ONE, f"{names[0]}0"), (ONE, "docker.io/library/pp:1")):
            engine.talk(shell, ask({image: [A]}) + commit({image: name}))
            assert engine.calls[-2] == f"tag {image} {name}"


def test_a_label_is_no_image(tmp_path: Path, shell: list[str]) -> None:
    """Each image of the fake API has one with the ID of another; whoever has a name there is not told as that."""
    engine, labelled = FakeEngine(tmp_path, api=True), f"sha256:{'e' * 64}"
    engine.say("ls", f"{ONE} app:1\n")
    engine.say("list", f"{ONE} {A}\n")
    said = asked(engine, shell, {labelled: [A, B], ONE: [A]})
    assert said == {labelled: [f"chain 1 {ONE}"], ONE: ["present"]}


def test_names_are_told_only_where_they_may_stay_as_they_are(tmp_path: Path, shell: list[str]) -> None:
    """Not where something of dead sessions may have to go, as it does when names are given."""
    engine = FakeEngine(tmp_path)
    engine.say("ls", f"{ONE} app:1\n{TWO} other:1\n{ONE} team/app:2\n")
    assert parsed(engine.talk(shell, ask({ONE: [A]})))[ONE] == ["present app:1 team/app:2"]
    engine.say("ls", f"{ONE} app:1\n{TWO} {INCOMING}\n")
    assert parsed(engine.talk(shell, ask({ONE: [A]})))[ONE] == ["present"]
    arrived = engine.folder / "cache" / "layerferry" / "arrived"
    arrived.mkdir(parents=True)
    engine.say("ls", f"{ONE} app:1\n")
    engine.place["XDG_CACHE_HOME"] = str(engine.folder / "cache")
    assert parsed(engine.talk(shell, ask({ONE: [A]})))[ONE] == ["present"]
    arrived.rmdir()
    engine.say("ls", "".join(f"{ONE} app:{number}\n" for number in range(5000)))
    assert parsed(engine.talk(shell, ask({ONE: [A]})))[ONE] == ["present"], "a client reads no line of any length"
    engine.say("ls", f"{ONE} app:1\n")
    engine.say("named", f"app:1 {TWO}\n")
    assert parsed(engine.talk(shell, ask({ONE: [A]})))[ONE] == ["present"], "somebody has moved it since it was listed"


# Load, verify, tag.


def test_the_layers_to_expect_may_be_those_of_an_image_of_the_ask(engine: FakeEngine, shell: list[str]) -> None:
    engine.show(INCOMING, ONE, (A, B))
    said = ask({TWO: [C], ONE: [A, B]}) + load({INCOMING: [A, B]}, [b"archive"])
    for expected, last in (
        (f"of {ONE}", "end"),
        (f"of {TWO}", "failed verify the engine shows other layers than were sent"),
        (f"of {THREE}", "failed protocol expect"),
        ("of", "failed protocol expect"),
        (f"of {ONE} {A}", "failed protocol expect"),
        (f"of {A}", "failed protocol expect"),
    ):
        words = said.replace(f"expect {INCOMING} {A} {B}\n".encode(), f"expect {INCOMING} {expected}\n".encode())
        assert words != said
        assert engine.talk(shell, words).lines[-1].startswith(last)


def loading(engine: FakeEngine, *, layers: Sequence[str] = (A, B), shown: Sequence[str] | None = None) -> bytes:
    """A session that loads an image of `layers`, of which the engine then shows `shown`."""
    if shown is not None:
        engine.show(INCOMING, ONE, shown)
    return ask({ONE: layers}) + load({INCOMING: layers}, [b"archive"])


def test_the_archive_reaches_the_engine_to_the_byte(engine: FakeEngine, shell: list[str]) -> None:
    chunks = [b"\n", b"0\n", os.urandom(511), bytes(70_000), b"12\nfailed", os.urandom(300_000), b"\0\r\x1b end"]
    engine.show(INCOMING, ONE, [A, B])
    session = ask({ONE: [A, B]}) + load({INCOMING: [A, B]}, chunks) + commit({INCOMING: NAME})
    answer = engine.talk(shell, session)
    assert engine.loaded == b"".join(chunks)
    assert answer.lines[-3:] == [f"loaded {INCOMING} {ONE}", "end", "done"]


def test_it_loads_verifies_tags_and_drops_in_this_order(engine: FakeEngine, shell: list[str]) -> None:
    session = loading(engine, shown=[A, B])
    answer = engine.talk(shell, session + f"tag {INCOMING} {NAME}\ntag {INCOMING} app:2\ndone\n".encode())
    assert answer.lines[-1] == "done"
    verbs = [" ".join(call.split()[:2]) for call in engine.calls]
    after = verbs[verbs.index("load") :]
    assert after == ["load", "image inspect", f"tag {INCOMING}", f"tag {INCOMING}", "image inspect", "image rm"]
    assert engine.calls[-1] == f"image rm {INCOMING}"


def test_several_images_come_in_one_archive(engine: FakeEngine, shell: list[str]) -> None:
    second = INCOMING.replace("0", "f")
    engine.show(INCOMING, ONE, [A])
    engine.show(second, TWO, [A, B])
    expected = {INCOMING: [A], second: [A, B]}
    session = ask({ONE: [A], TWO: [A, B]}) + load(expected, [b"x"]) + commit({INCOMING: NAME, second: "two:2"})
    assert engine.talk(shell, session).lines[-4:] == [
        f"loaded {INCOMING} {ONE}",
        f"loaded {second} {TWO}",
        "end",
        "done",
    ]
    assert {call for call in engine.calls if " rm " in call} == {f"image rm {INCOMING}", f"image rm {second}"}


def test_podmans_bare_image_ids_are_told_in_full(podman: FakeEngine, shell: list[str]) -> None:
    """Podman shows its IDs without the algorithm, and is asked to put it before them."""
    podman.show(INCOMING, ONE, [A, B])
    answer = podman.talk(shell, ask({ONE: [A, B]}) + load({INCOMING: [A, B]}, [b"x"]))
    assert f"loaded {INCOMING} {ONE}" in answer.lines
    inspected = [call for call in podman.calls if "inspect" in call and "{{.ID}}" in call]
    assert inspected
    assert all("sha256:{{.ID}}" in call for call in inspected)


@pytest.mark.parametrize(
    "shown",
    [[], [A], [B], [A, B, C], [B, A], [A, A, B], [C]],
    ids=["none", "less", "top", "more", "swapped", "twice", "other"],
)
def test_an_engine_that_says_ok_and_shows_other_layers_is_not_believed(
    engine: FakeEngine, shell: list[str], shown: Sequence[str]
) -> None:
    """docker 28's containerd store was seen to do so, exit status 0, `RootFS` empty."""
    answer = engine.talk(shell, loading(engine, shown=shown) + commit({INCOMING: NAME}))
    assert answer.lines[-1] == "failed verify the engine shows other layers than were sent"
    assert answer.code == 1
    assert engine.calls[-1] == f"image rm {INCOMING}"
    assert not [call for call in engine.calls if call.startswith("tag")]


def test_one_wrong_image_of_two_spoils_both(engine: FakeEngine, shell: list[str]) -> None:
    second = INCOMING.replace("0", "f")
    engine.show(INCOMING, ONE, [A])
    engine.show(second, TWO, [B])
    expected = {INCOMING: [A], second: [A, B]}
    session = ask({ONE: [A], TWO: [A, B]}) + load(expected, [b"x"]) + commit({INCOMING: NAME, second: "two:2"})
    assert engine.talk(shell, session).lines[-1].startswith("failed verify")
    assert sorted(call for call in engine.calls if " rm " in call) == [f"image rm {INCOMING}", f"image rm {second}"]
    assert not [call for call in engine.calls if call.startswith("tag")]


def test_what_an_engine_warns_of_is_no_part_of_its_answers(engine: FakeEngine, shell: list[str]) -> None:
    """Podman 5 warns of cgroups v1 with every command."""
    for verb in ("info", "ls", "inspect", "load", "tag", "rm"):
        engine.say(f"stderr.{verb}", "level=warning msg=deprecated\n")
    answer = engine.talk(shell, loading(engine, shown=[A, B]) + commit({INCOMING: NAME}))
    assert answer.lines[-1] == "done"
    assert not [line for line in answer.lines if "warning" in line]


def test_an_engine_that_shows_nothing_after_the_load_is_not_believed(engine: FakeEngine, shell: list[str]) -> None:
    engine.say("status.inspect", "1")
    answer = engine.talk(shell, loading(engine) + commit({INCOMING: NAME}))
    assert answer.lines[-1].startswith("failed verify")
    assert not [call for call in engine.calls if call.startswith("tag")]


def test_zstd_is_unpacked_before_an_old_docker_and_left_to_a_new_one(engine: FakeEngine, shell: list[str]) -> None:
    data = b"0123456789" * 5000
    packed = subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout
    for version, expected in (("20.10.24", data), ("28.5.2", packed)):
        engine.say("info", f"{version} linux/x86_64 overlay2\n")
        engine.show(INCOMING, ONE, [A])
        engine.talk(shell, ask({ONE: [A]}) + load({INCOMING: [A]}, [packed[:100], packed[100:]], "zstd"))
        assert engine.loaded == expected


def test_an_image_that_is_here_is_tagged_without_a_load(engine: FakeEngine, shell: list[str]) -> None:
    engine.hold({ONE: [A]})
    answer = engine.talk(shell, ask({ONE: [A]}) + commit({ONE: NAME}))
    assert answer.lines[-1] == "done"
    assert engine.calls[-2] == f"tag {ONE} {NAME}"


# What fails.


def test_a_refused_load_is_told_in_the_engines_words_and_drops_the_name(engine: FakeEngine, shell: list[str]) -> None:
    engine.say("status.load", "1")
    engine.say("stderr.load", "write /var/lib/docker/tmp: no space left on device\n")
    answer = engine.talk(shell, loading(engine) + commit({INCOMING: NAME}))
    assert answer.lines[-1] == "failed load write /var/lib/docker/tmp: no space left on device"
    assert engine.calls[-1] == f"image rm {INCOMING}"


def test_a_refused_tag_is_told_and_drops_the_name(engine: FakeEngine, shell: list[str]) -> None:
    engine.say("status.tag", "1")
    engine.say("stderr.tag", "invalid reference format\n")
    answer = engine.talk(shell, loading(engine, shown=[A, B]) + commit({INCOMING: NAME}))
    assert answer.lines[-1].startswith("failed tag invalid reference format")
    assert engine.calls[-1] == f"image rm {INCOMING}"


HOSTILE = {
    "lines": "first\nend\ndone\nloaded x y\nfailed verify z\n",
    "controls": "a\x1b[31mred\x07\r\x08\x00\x7f\tb\n",
    "shell": "$(touch owned) `touch owned` ; touch owned & | > owned '\" \\ * ? ~\n",
    "formats": "%s%s%n %d \\n\\0033[0m\n",
    "options": "-n -e --help\n",
    "bytes": "caf\u00e9 \u202e\ufffd\n",
    "nothing": "",
    "endless": "x" * 1_000_000 + "\n",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_engines_words_are_one_short_line_without_control_characters(
    engine: FakeEngine, shell: list[str], kind: str
) -> None:
    engine.say("status.load", "1")
    engine.say("stderr.load", HOSTILE[kind])
    answer = engine.talk(shell, loading(engine))
    (verdict,) = [line for line in answer.lines if line.startswith("failed")]
    assert answer.lines[-1] is verdict
    assert verdict.startswith("failed load")
    assert len(verdict) < 2100
    assert not re.search(r"[\x00-\x1f]", verdict)
    assert list(engine.scratch.iterdir()) == []


@pytest.mark.parametrize("kind", HOSTILE)
def test_odd_rows_in_the_engines_list_are_data(engine: FakeEngine, shell: list[str], kind: str) -> None:
    """Neither run nor said to us; what stands beside them is found all the same."""
    engine.hold({TWO: [A, B]})
    engine.say("list", HOSTILE[kind] + (engine.state / "list").read_text() + HOSTILE[kind])
    assert asked(engine, shell, {ONE: [A, B, C]}) == {ONE: [f"chain 2 {TWO}"]}
    assert list(engine.scratch.iterdir()) == []


def test_it_writes_nothing_to_the_hosts_disk(engine: FakeEngine, shell: list[str]) -> None:
    before = snapshot(engine.folder)
    engine.talk(shell, loading(engine, shown=[A, B]) + commit({INCOMING: NAME}))
    new = snapshot(engine.folder) - before
    shown = f"state/show.{INCOMING.replace('/', '_').replace(':', '_')}"
    assert new <= {"state/calls", "state/loaded", "state/named", shown}


def snapshot(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if stat.S_ISREG(path.stat().st_mode)}


# Input that breaks off.

SESSION = ask({ONE: [A, B]}) + load({INCOMING: [A, B]}, [b"archive", b"more"]) + commit({INCOMING: NAME})


def cuts() -> Iterator[int]:
    """After each line, and within each."""
    position = 0
    for line in SESSION.splitlines(keepends=True):
        yield position
        yield position + len(line) // 2
        yield position + len(line) - 1
        position += len(line)


def test_wherever_the_input_breaks_off_no_name_moves_and_the_throw_away_name_goes(
    tmp_path: Path, shell: list[str]
) -> None:
    tagging = SESSION.index(b"tag localhost")
    for number, cut in enumerate(sorted(set(cuts()))):
        engine = FakeEngine(tmp_path / str(number))
        engine.show(INCOMING, ONE, [A, B])
        answer = engine.talk(shell, SESSION[:cut])
        verbs = [call.split()[0] for call in engine.calls]
        assert ("tag" in verbs) == (cut >= SESSION.index(b"\n", tagging) + 1), SESSION[:cut]
        if "load" in verbs:
            assert engine.calls[-1] == f"image rm {INCOMING}", SESSION[:cut]
        assert "done" not in answer.lines
        assert list(engine.scratch.iterdir()) == []


def test_where_the_script_itself_breaks_off_nothing_is_done(engine: FakeEngine, shell: list[str]) -> None:
    whole = preamble()
    for cut in (0, 5, whole.index(b"\n") + 1, len(whole) // 2, len(whole) - 10):
        with engine.start(shell) as process:
            out, _ = process.communicate(whole[:cut], timeout=20)
        assert b"engine" not in out
    assert engine.calls == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_during_the_load_drops_the_throw_away_name(
    engine: FakeEngine, shell: list[str], number: signal.Signals
) -> None:
    """As sshd sends one, to the whole session, when the connection is lost."""
    with engine.start(shell) as process:
        assert process.stdin is not None
        process.stdin.write(preamble() + SESSION[: SESSION.index(b"4\nmore")])
        process.stdin.flush()
        wait_until(lambda: "load" in engine.calls, "no load")
        os.killpg(process.pid, number)
        process.communicate(timeout=20)
    assert engine.calls[-1] == f"image rm {INCOMING}"
    assert not [call for call in engine.calls if call.startswith("tag")]


def test_who_stops_listening_is_no_reason_to_leave_the_throw_away_name(engine: FakeEngine, shell: list[str]) -> None:
    with engine.start(shell) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        engine.show(INCOMING, ONE, [A, B])
        try:
            process.stdin.write(preamble() + SESSION[: SESSION.index(b"tag localhost")])
            process.stdin.close()
        except BrokenPipeError:
            pass
        process.wait(timeout=20)
    assert "load" not in engine.calls or engine.calls[-1] == f"image rm {INCOMING}"


# A containerd store's blobs.


def test_it_lets_the_daemon_push_and_leaves_no_name(tmp_path: Path, shell: list[str]) -> None:
    engine = FakeEngine(tmp_path, info=CONTAINERD)
    engine.hold({ONE: [A]})
    name = "127.0.0.1:40000/secret:learn"
    answer = engine.talk(shell, ask({TWO: [A]}) + f"learn {ONE} {name} dG9rZW4= YmFzaWM=\n".encode())
    assert answer.lines[-1] == "learned yes"
    assert engine.calls[-3:] == [f"tag {ONE} {name}", f"push {name}", f"image rm {name}"]


@pytest.mark.parametrize("verb", ["tag", "push"])
def test_where_the_daemon_cannot_push_it_says_so_and_goes_on(tmp_path: Path, shell: list[str], verb: str) -> None:
    engine = FakeEngine(tmp_path, info=CONTAINERD)
    engine.hold({ONE: [A]})
    engine.say(f"status.{verb}", "1")
    name = "127.0.0.1:40000/secret:learn"
    said = ask({TWO: [A]}) + f"learn {ONE} {name} dG9rZW4= YmFzaWM=\n".encode()
    answer = engine.talk(shell, said + commit({ONE: NAME}))
    assert "learned no" in answer.lines
    assert f"image rm {name}" in engine.calls


# Both ends at once: the target's part as a command that layerferry runs.


def test_the_conversation_holds_over_a_plain_shell_that_reads_its_script_from_stdin(
    engine: FakeEngine, shell: list[str]
) -> None:
    """`push IMAGE -- sh`: nothing reads the preamble first, and a shell may read ahead."""
    environment = [f"{name}={value}" for name, value in engine.environment().items()]
    image = SourceImage("app:1", ONE, Platform("linux", "amd64"), Layer.chain([A, B], [10, 10]))
    engine.hold({TWO: [A]})
    engine.show(INCOMING, ONE, [A, B])
    with CommandConduit(["env", "-i", *environment, *shell]) as conduit:
        conversation = Conversation(conduit)
        conversation.ask([image])
        greeting = conversation.greeting()
        assert greeting.holdings[ONE].depth == 1
        assert conversation.load({INCOMING: [A, B]}, "none", [b"some ", b"archive"]) == {INCOMING: ONE}
        conversation.commit({INCOMING: [NAME, "second:2"]}.items())
    assert engine.loaded == b"some archive"
    tagged = [call for call in engine.calls if not call.startswith("image inspect")]
    assert tagged[-3:] == [f"tag {INCOMING} {NAME}", f"tag {INCOMING} second:2", f"image rm {INCOMING}"]


def test_busybox_and_an_engine_are_enough(engine: FakeEngine) -> None:
    """Alpine, OpenWrt, a NAS: every tool is busybox's."""
    applets = engine.folder / "applets"
    applets.mkdir()
    busybox = shutil.which("busybox")
    assert busybox
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in listed:
        (applets / applet).symlink_to(busybox)
    chunks = [os.urandom(200_000), b"rest"]
    engine.hold({TWO: [A]})
    engine.show(INCOMING, ONE, [A, B])
    session = ask({ONE: [A, B]}) + load({INCOMING: [A, B]}, chunks) + commit({INCOMING: NAME})
    answer = engine.talk([busybox, "ash"], session, path=str(applets))
    assert answer.lines[-1] == "done"
    assert f"chain 1 {TWO}" in answer.lines
    assert engine.loaded == b"".join(chunks)
    assert answer.stderr == ""
