"""What a push does about the images that a host had before, on every end: a way back, and removal."""

from pathlib import Path

import pytest

from contract.target_ends import KINDS, TargetEnd, ask, pictures
from layerferry.oci import limits
from layerferry.oci.store_kind import StoreKind
from layerferry.protocol import Reply, VerdictKind

APP, KEPT, OTHER = "docker.io/library/app:2", "docker.io/library/app:previous", "docker.io/library/app:stable"
HOSTS = [name for name, kind in KINDS.items() if not kind.receiver]
RECEIVERS = [name for name, kind in KINDS.items() if kind.receiver]


@pytest.fixture(params=KINDS)
def end(request: pytest.FixtureRequest, tmp_path: Path) -> TargetEnd:
    return TargetEnd(KINDS[request.param], tmp_path)


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> TargetEnd:
    return TargetEnd(KINDS[request.param], tmp_path)


# A way back.


def test_what_the_name_pointed_to_before_keeps_another_tag(end: TargetEnd) -> None:
    old, new = pictures("a", "b"), pictures("a", "c")
    end.hold(APP, old)
    run = end.push(end.layout(new), "--name", "app:2", "--keep-previous", "previous")
    assert run.code == 0, run.stderr
    assert end.names == {APP: end.id(new), KEPT: end.id(old)}
    assert run.results[0]["kept"] == [{"image_id": end.id(old), "names": [KEPT]}]
    assert end.is_tidy()


def test_an_unchanged_image_does_not_take_the_way_back(end: TargetEnd) -> None:
    old, new = pictures("a", "b"), pictures("a", "c")
    end.hold(KEPT, old)
    layout = end.layout(new)
    for _ in range(2):
        run = end.push(layout, "--name", "app:2", "--keep-previous", "previous")
        assert run.code == 0, run.stderr
        assert run.results[0]["kept"] == []
    assert end.names == {APP: end.id(new), KEPT: end.id(old)}


def test_of_an_image_that_is_here_already_the_name_before_is_kept_too(end: TargetEnd) -> None:
    old, new = pictures("a", "b"), pictures("a", "c")
    end.hold(APP, old)
    end.hold("docker.io/library/old:1", new)
    run = end.push(end.layout(new), "--name", "app:2", "--keep-previous", "previous")
    assert run.code == 0, run.stderr
    assert "load" not in end.calls
    assert end.names == {APP: end.id(new), KEPT: end.id(old), "docker.io/library/old:1": end.id(new)}


def test_of_two_images_before_the_first_is_kept_and_the_other_is_told(end: TargetEnd) -> None:
    one, two, new = pictures("a", "b"), pictures("a", "c"), pictures("a", "d")
    end.hold(APP, one)
    end.hold(OTHER, two)
    run = end.push(end.layout(new), "--name", "app:2", "--name", "app:stable", "--keep-previous", "previous")
    assert run.code == 0, run.stderr
    assert end.names == {APP: end.id(new), OTHER: end.id(new), KEPT: end.id(one)}
    assert f"app:stable was another image, {end.id(two)}: no tag keeps that" in run.stderr


def test_a_load_that_fails_changes_no_way_back(end: TargetEnd) -> None:
    end.hold(APP, pictures("a", "b"))
    end.hold(KEPT, pictures("a", "x"))
    end.lie("fail")
    assert end.push(end.layout(pictures("a", "c")), "--name", "app:2", "--keep-previous", "previous").code == 5
    assert end.names == end.before
    assert end.is_tidy()


@pytest.mark.parametrize(
    ("tag", "says"),
    [("2", "app:2 is pushed, and is to keep"), ("a/b", "'a/b' is not a tag"), ("-x", "'-x' is not a tag")],
)
def test_a_tag_that_cannot_keep_anything_is_a_mistake(end: TargetEnd, tag: str, says: str) -> None:
    end.hold(APP, pictures("a", "b"))
    run = end.push(end.layout(pictures("a", "c")), "--name", "app:2", f"--keep-previous={tag}")
    assert (run.code, says in run.stderr) == (2, True), run.stderr
    assert end.names == end.before
    assert not {"load", "tag", "remove"} & set(end.calls)


def test_two_images_that_one_tag_would_have_to_keep_are_a_mistake(end: TargetEnd) -> None:
    named = [end.layout(pictures("a"), name=APP), end.layout(pictures("b"), name=OTHER)]
    run = end.push(*named, "--keep-previous", "previous")
    assert (run.code, "two images go to docker.io/library/app" in run.stderr) == (2, True), run.stderr
    assert not {"load", "tag"} & set(end.calls)


@pytest.mark.parametrize("kind", RECEIVERS)
def test_a_receiver_refuses_a_tag_that_its_policy_does_not_allow_before_anything_is_sent(
    kind: str, tmp_path: Path
) -> None:
    end = TargetEnd(KINDS[kind], tmp_path)
    end.allow = ("app:2",)
    end.hold(APP, pictures("a", "b"))
    run = end.push(end.layout(pictures("a", "c")), "--name", "app:2", "--keep-previous", "previous")
    assert (run.code, "the name app:previous is not allowed here" in run.stderr) == (5, True), run.stderr
    assert end.names == end.before
    assert "load" not in end.calls


@pytest.mark.parametrize("kind", RECEIVERS)
def test_a_receiver_runs_its_command_for_the_name_and_not_for_the_way_back(kind: str, tmp_path: Path) -> None:
    end = TargetEnd(KINDS[kind], tmp_path)
    ran = tmp_path / "ran"
    script = tmp_path / "run"
    script.write_text(f'#!/bin/sh\necho "$LAYERFERRY_IMAGE" >>{ran}\n')
    script.chmod(0o755)
    end.options = ("--run", str(script))
    end.hold(APP, pictures("a", "b"))
    run = end.push(end.layout(pictures("a", "c")), "--name", "app:2", "--keep-previous", "previous")
    assert run.code == 0, run.stderr
    assert ran.read_text().split() == [APP]


# Back, and forward again.


def test_a_name_goes_back_and_forward_again(end: TargetEnd) -> None:
    old, new = pictures("a", "b"), pictures("a", "c")
    end.hold(APP, new)
    end.hold(KEPT, old)
    back = end.layerferry("rollback", "app:2")
    assert back.code == 0, back.stderr
    assert end.names == {APP: end.id(old), KEPT: end.id(new)}
    (result,) = back.results
    assert (result["image_id"], result["verified"], result["error"]) == (end.id(old), True, None)
    assert result["kept"] == [{"image_id": end.id(new), "names": [KEPT]}]
    assert end.is_tidy()
    assert end.layerferry("rollback", "app:2").code == 0
    assert end.names == end.before


def test_where_nothing_was_kept_there_is_no_way_back(end: TargetEnd) -> None:
    end.hold(APP, pictures("a", "b"))
    run = end.layerferry("rollback", "app:2")
    assert (run.code, "has no app:previous to go back to" in run.stderr) == (5, True), run.stderr
    end.hold(KEPT, pictures("a", "b"))
    run = end.layerferry("rollback", "app:2")
    assert (run.code, "there is nothing to go back to" in run.stderr) == (5, True), run.stderr
    assert end.names == end.before


def test_a_name_that_has_gone_comes_back(end: TargetEnd) -> None:
    end.hold(OTHER, pictures("a", "b"))
    run = end.layerferry("rollback", "app:2", "--to", "stable")
    assert run.code == 0, run.stderr
    assert end.names == {OTHER: end.id(pictures("a", "b")), APP: end.id(pictures("a", "b"))}
    assert run.results[0]["kept"] == []


def test_a_dry_run_of_it_changes_nothing(end: TargetEnd) -> None:
    end.hold(APP, pictures("a", "b"))
    end.hold(KEPT, pictures("a", "c"))
    run = end.layerferry("rollback", "app:2", "--dry-run")
    assert (run.code, run.results[0]["image_id"]) == (0, end.id(pictures("a", "c"))), run.stderr
    assert end.names == end.before


@pytest.mark.parametrize(("status", "code"), [(0, 0), (3, 8)])
def test_a_command_follows_it_again(status: int, code: int, tmp_path: Path) -> None:
    host = TargetEnd(KINDS["docker's command"], tmp_path)
    old, new = pictures("a", "b"), pictures("a", "c")
    host.hold(APP, new)
    host.hold(KEPT, old)
    told = 'echo "$LAYERFERRY_IMAGE $LAYERFERRY_IMAGE_ID $LAYERFERRY_PREVIOUS_ID"'
    run = host.layerferry("rollback", "app:2", "--then", f"{told}; exit {status}")
    assert run.code == code, run.stderr
    assert host.names == {APP: host.id(old), KEPT: host.id(new)}
    assert f"{APP} {host.id(old)} {host.id(new)}" in run.stderr
    assert ("Forward again: layerferry rollback" in run.stderr) == bool(status)
    assert run.results[0]["then"][0]["status"] == status


def test_a_push_keeps_a_way_back_and_a_command_follows(tmp_path: Path) -> None:
    """The parts of the script that both take do not get into each other's way."""
    host = TargetEnd(KINDS["docker's command"], tmp_path)
    old, new = pictures("a", "b"), pictures("a", "c")
    host.hold(APP, old)
    words = ("--keep-previous", "previous", "--prune", "1", "--then", 'echo "was $LAYERFERRY_PREVIOUS_ID"')
    run = host.push(host.layout(new), "--name", "app:2", *words)
    assert run.code == 0, run.stderr
    assert host.names == {APP: host.id(new), KEPT: host.id(old)}
    assert f"was {host.id(old)}" in run.stderr


# A line that breaks when the names are given, before that is heard. The next try finds the image under its names.


@pytest.mark.parametrize("kind", HOSTS)
@pytest.mark.parametrize("losing", ["was", "done"])
def test_what_was_there_before_all_tries_is_kept_and_told(kind: str, losing: str, tmp_path: Path) -> None:
    host = TargetEnd(KINDS[kind], tmp_path)
    oldest, old, new = pictures("a", "o"), pictures("a", "b"), pictures("a", "c")
    host.hold(APP, old)
    host.hold(KEPT, oldest)
    words = ("--keep-previous", "previous", "--prune", "1", "--then", 'echo "was $LAYERFERRY_PREVIOUS_ID"')
    run = host.push_by_ssh(host.layout(new), "--name", "app:2", *words, losing=losing)
    assert run.code == 0, run.stderr
    assert "tried again" in run.stderr
    assert host.names == {APP: host.id(new), KEPT: host.id(old)}
    assert run.results[0]["kept"] == [{"image_id": host.id(old), "names": [KEPT]}]
    assert f"was {host.id(old)}" in run.stderr
    if host.kind.store is not StoreKind.BLOB:  # a containerd collects by itself what has no name
        assert [image["image_id"] for image in run.results[0]["pruned"]] == [host.id(oldest)]


@pytest.mark.parametrize("losing", ["was", "done"])
def test_the_way_back_is_told_or_that_nobody_knows_it(losing: str, tmp_path: Path) -> None:
    host = TargetEnd(KINDS["docker's command"], tmp_path)
    old, new = pictures("a", "b"), pictures("a", "c")
    host.hold(APP, old)
    run = host.push_by_ssh(host.layout(new), "--name", "app:2", "--then", "exit 3", losing=losing)
    assert run.code == 8, run.stderr
    assert host.names == {APP: host.id(new)}
    told = {
        "done": f"The way back, on host: docker tag {host.id(old)} app:2",
        "was": "What app:2 stood for before, on host, is not known: an earlier try broke off there.",
    }
    assert told[losing] in run.stderr


# Removal.


def grown(host: TargetEnd) -> dict[str, str]:
    """A host with app:1 to app:5, the last of which is the newest, and with another image; the IDs by tag."""
    ids = {}
    for number in "12345":
        picture = pictures("a", number)
        host.hold(f"docker.io/library/app:{number}", picture)
        host.age(picture, f"2026-0{number}-01T00:00:00.123456789Z")
        ids[number] = host.id(picture)
    host.hold("docker.io/library/other:1", pictures("o"))
    host.age(pictures("o"), "2020-01-01T00:00:00Z")
    return ids


def left(host: TargetEnd) -> set[str]:
    return {name.rpartition(":")[2] for name in host.names if "/app:" in name}


def test_the_newest_stay_and_older_ones_go(host: TargetEnd) -> None:
    ids = grown(host)
    new = pictures("a", "n")
    host.age(new, "2026-06-01T00:00:00Z")
    run = host.push(host.layout(new), "--name", "app:6", "--prune", "3")
    assert run.code == 0, run.stderr
    assert left(host) == {"4", "5", "6"}
    assert "docker.io/library/other:1" in host.names
    pruned = {image["image_id"]: image["names"] for image in run.results[0]["pruned"]}
    assert pruned == {ids[number]: [f"docker.io/library/app:{number}"] for number in "123"}
    assert host.is_tidy()


def test_what_a_container_uses_stays_as_do_the_way_back_and_what_was_pushed(host: TargetEnd) -> None:
    grown(host)
    host.run(pictures("a", "2"), "docker.io/library/app:2")
    host.hold("docker.io/library/app:previous", pictures("a", "1"))
    old = pictures("a", "old")
    host.age(old, "2001-01-01T00:00:00Z")
    run = host.push(host.layout(old), "--name", "app:0", "--prune", "1")
    assert run.code == 0, run.stderr
    assert left(host) == {"0", "1", "previous", "2", "5"}


def test_what_has_a_name_elsewhere_stays(host: TargetEnd) -> None:
    grown(host)
    host.hold("docker.io/library/mine:1", pictures("a", "1"))
    assert host.push(host.layout(pictures("a", "2")), "--name", "app:2", "--prune", "1").code == 0
    assert left(host) == {"1", "2", "5"}


def test_an_image_goes_with_all_of_its_names(host: TargetEnd) -> None:
    ids = grown(host)
    host.hold("docker.io/library/app:also", pictures("a", "1"))
    run = host.push(host.layout(pictures("a", "5")), "--name", "app:5", "--prune", "4")
    assert run.code == 0, run.stderr
    assert left(host) == {"2", "3", "4", "5"}
    assert [image["image_id"] for image in run.results[0]["pruned"]] == [ids["1"]]


def test_of_images_of_one_time_none_is_older_than_another(host: TargetEnd) -> None:
    """As reproducible builds have it."""
    for number in "12345":
        host.hold(f"docker.io/library/app:{number}", pictures("a", number))
        host.age(pictures("a", number), "1970-01-01T00:00:00Z")
    run = host.push(host.layout(pictures("a", "5")), "--name", "app:5", "--prune", "1")
    assert (run.code, run.results[0]["pruned"]) == (0, []), run.stderr
    assert left(host) == set("12345")


def test_what_the_engine_refuses_to_remove_stays_with_a_warning(host: TargetEnd) -> None:
    grown(host)
    host.lie("keeps")
    run = host.push(host.layout(pictures("a", "5")), "--name", "app:5", "--prune", "4")
    assert (run.code, run.results[0]["pruned"]) == (0, []), run.stderr
    assert "app:1 stays: " in run.stderr
    assert "in use" in run.stderr
    assert left(host) == set("12345")


def test_an_image_that_loses_its_last_name_by_the_push_goes(host: TargetEnd) -> None:
    old, new = pictures("a", "b"), pictures("a", "c")
    host.hold(APP, old)
    run = host.push(host.layout(new), "--name", "app:2", "--prune", "5")
    assert run.code == 0, run.stderr
    names = [image["names"] for image in run.results[0]["pruned"]]
    # What ctr and nerdctl list are names: without one, the image has gone already.
    assert names == ([] if host.kind.engine in {"ctr", "nerdctl"} else [[]])
    assert host.names == {APP: host.id(new)}


def test_a_dry_run_tells_what_would_go_and_changes_nothing(host: TargetEnd) -> None:
    ids = grown(host)
    run = host.push(host.layout(pictures("a", "n")), "--name", "app:6", "--prune", "3", "--dry-run")
    assert run.code == 0, run.stderr
    assert {image["image_id"] for image in run.results[0]["pruned"]} == {ids[number] for number in "123"}
    assert host.names == host.before
    assert not {"load", "tag", "remove"} & set(host.calls)


@pytest.mark.parametrize("newest", ["1", "2", "9"])
@pytest.mark.parametrize("keep", [(), ("--keep-previous", "previous")])
def test_a_dry_run_names_what_the_push_then_removes(host: TargetEnd, newest: str, keep: tuple[str, ...]) -> None:
    """Names move by the push: one image loses its last, another gets the tag that keeps it."""
    grown(host)
    host.hold("docker.io/library/app:latest", pictures("a", "latest"))
    host.age(pictures("a", "latest"), "2026-02-15T00:00:00Z")
    host.hold("docker.io/library/app:previous", pictures("a", "previous"))
    host.age(pictures("a", "n"), "2026-11-01T00:00:00Z")
    words = (host.layout(pictures("a", "n")), "--name", "app:latest", "--prune", newest, *keep)
    foreseen = host.push(*words, "--dry-run")
    assert foreseen.code == 0, foreseen.stderr
    assert host.names == host.before
    run = host.push(*words)
    assert run.code == 0, run.stderr
    found = [
        {image["image_id"]: tuple(image["names"]) for image in one.results[0]["pruned"]} for one in (foreseen, run)
    ]
    assert found[0] == found[1]
    assert foreseen.results[0]["kept"] == run.results[0]["kept"]


def test_where_containers_cannot_be_listed_nothing_goes(tmp_path: Path) -> None:
    """A container of nerdctl's has the name that it was made of, which may have moved since."""
    host = TargetEnd(KINDS["nerdctl"], tmp_path)
    grown(host)
    host.run(pictures("a", "1"), "docker.io/library/app:3")
    host.move("docker.io/library/app:3", 2_000_000_001)
    run = host.push(host.layout(pictures("a", "5")), "--name", "app:5", "--prune", "1")
    assert (run.code, run.results[0]["pruned"]) == (0, []), run.stderr
    assert "no image was removed" in run.stderr
    assert "a container is of an older docker.io/library/app:3" in run.stderr


@pytest.mark.parametrize("kind", RECEIVERS)
def test_a_receiver_removes_nothing(kind: str, tmp_path: Path) -> None:
    end = TargetEnd(KINDS[kind], tmp_path)
    run = end.push(end.layout(pictures("a", "c")), "--name", "app:2", "--prune", "1")
    assert (run.code, "lets nobody remove images" in run.stderr) == (5, True), run.stderr
    assert "load" not in end.calls


# Word by word.


def test_an_image_with_many_names_is_told_in_lines_that_a_client_takes(host: TargetEnd) -> None:
    names = [f"docker.io/library/app:{'x' * 100}{number}" for number in range(900)]
    for name in names:
        host.hold(name, pictures("a"))
    short = host.kind.doors[0] == "docker"
    place = "app" if short else "docker.io/library/app"
    lines = host.talk(*ask(pictures("b")), "end", "done", f"images {place}", more=True)
    told = [line.split() for line in lines if line.startswith("named ")]
    assert {image for _, image, *_ in told} == {host.id(pictures("a"))}
    assert sorted(name for _, _, *some in told for name in some) == sorted(
        name.removeprefix("docker.io/library/") if short else name for name in names
    )
    assert max(map(len, lines)) < limits.LINE // 4


ONE, TWO = "docker.io/library/app:1", "docker.io/library/app:2"
#: What the images had when they were told, and what they have when one is to go.
MEANWHILE = {
    "it has got a name": ([], [ONE]),
    "it has got one more": ([ONE], [ONE, TWO]),
    "it has lost one": ([ONE, TWO], [ONE]),
    "it has lost all": ([ONE], []),
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_an_image_whose_names_have_changed_meanwhile_stays_with_all_of_them(host: TargetEnd, what: str) -> None:
    """A name that it has lost may be another image's by now."""
    told, has = MEANWHILE[what]
    old = pictures("a")
    for name in (ONE, TWO):
        host.hold(name, old if name in has else pictures("b"))
    short = host.kind.doors[0] == "docker"
    words = [name.removeprefix("docker.io/library/") if short else name for name in told]
    lines = host.talk(*ask(pictures("b")), "end", "done", " ".join(["remove", host.id(old), *words]), more=True)
    assert lines[-2:] == [f"stays {host.id(old)} its names have changed", "end"]
    assert host.names == host.before


NO_PLACE = {
    "images before done": ["images docker.io/library/app"],
    "remove before done": ["remove {id} {name}"],
    "keep of what was not told": ["keep {other} {name}"],
}


@pytest.mark.parametrize("what", NO_PLACE)
@pytest.mark.parametrize("kind", HOSTS)
def test_a_verb_that_comes_when_it_may_not_is_refused(kind: str, what: str, tmp_path: Path) -> None:
    host = TargetEnd(KINDS[kind], tmp_path)
    old = pictures("a")
    host.hold(APP, old)
    words = {"id": host.id(old), "name": APP, "other": "sha256:" + "0" * 64}
    last = host.talk(*ask(old), "end", *(line.format(**words) for line in NO_PLACE[what]), more=True)[-1]
    assert last.split()[:2] in ([Reply.FAILED, VerdictKind.PROTOCOL], [Reply.FAILED, VerdictKind.TAG])
    assert host.names == host.before


@pytest.mark.parametrize("word", ["--force", "$(x):1", "../x:1"])
@pytest.mark.parametrize("verb", ["resolve {word}", "remove {id} {word}", "keep {id} {word}", "images {word}"])
def test_no_word_becomes_an_option_or_a_command(tmp_path: Path, verb: str, word: str) -> None:
    host = TargetEnd(KINDS["docker's command"], tmp_path)
    old = pictures("a")
    host.hold(APP, old)
    before = [] if verb.startswith(("resolve", "keep")) else ["done"]
    lines = host.talk(*ask(old), "end", *before, verb.format(id=host.id(old), word=word), more=True)
    assert lines[-1].split()[:2] == [Reply.FAILED, VerdictKind.PROTOCOL]
    assert host.names == host.before
