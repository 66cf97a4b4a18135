"""What every end does: the host script in each of its ways, and the receiver, in whole pushes and word by word."""

from pathlib import Path

import pytest

from contract.target_ends import KINDS, TargetEnd, ask, pictures
from layerferry.oci.store_kind import StoreKind
from layerferry.protocol import Reply, VerdictKind
from packed import Picture

NAME, OLD = "docker.io/library/app:2", "docker.io/library/old:1"
INCOMING = "localhost/layerferry:6926f3a1-0123456789abcdef"


@pytest.fixture(params=KINDS)
def end(request: pytest.FixtureRequest, tmp_path: Path) -> TargetEnd:
    return TargetEnd(KINDS[request.param], tmp_path)


def failed_push(end: TargetEnd, picture: Picture, code: int) -> str:
    """A push that fails with `code`, and leaves all as it was; what it tells."""
    run = end.push(end.layout(picture), "--name", "app:2")
    assert run.code == code, run.stderr
    assert end.names == end.before
    assert end.is_tidy()
    (result,) = run.results
    assert not result["verified"]
    return str(result["error"]["message"])


# Whole pushes.


def test_where_nothing_is_here_the_whole_image_comes(end: TargetEnd) -> None:
    app = pictures("a", "b")
    run = end.push(end.layout(app), "--name", "app:2")
    assert (run.code, run.actions) == (0, ["send", "send"]), run.stderr
    assert end.names == {NAME: end.id(app)}
    assert run.results[0]["verified"]
    assert run.results[0]["image_id"] == end.id(app)
    assert end.is_tidy()


def test_an_image_that_is_here_gets_its_name_and_nothing_is_loaded(end: TargetEnd) -> None:
    app = pictures("a", "b")
    end.hold(OLD, app)
    run = end.push(end.layout(app), "--name", "app:2")
    assert (run.code, run.actions) == (0, ["reuse", "reuse"]), run.stderr
    assert end.names == {OLD: end.id(app), NAME: end.id(app)}
    assert "load" not in end.calls


def test_of_an_image_whose_lower_layers_are_here_the_others_come(end: TargetEnd) -> None:
    end.hold(OLD, pictures("a", "b", "x"))
    app = pictures("a", "b", "c", "d")
    run = end.push(end.layout(app), "--name", "app:2")
    assert (run.code, run.actions) == (0, ["reuse", "reuse", "send", "send"]), run.stderr
    assert end.names[NAME] == end.id(app)
    assert end.is_tidy()


def test_a_layer_in_another_chain_is_reused_where_the_store_finds_it(end: TargetEnd) -> None:
    end.hold(OLD, pictures("x", "a", "c"))
    app = pictures("a", "b", "c")
    run = end.push(end.layout(app), "--name", "app:2")
    there = "send" if end.kind.store is StoreKind.CHAIN else "reuse"
    assert (run.code, run.actions) == (0, [there, "send", there]), run.stderr
    assert end.names[NAME] == end.id(app)


def test_two_images_come_in_one_archive_and_both_get_their_names(end: TargetEnd) -> None:
    one, two = pictures("a", "b"), pictures("a", "c")
    named = [end.layout(one, name=NAME), end.layout(two, name="docker.io/library/app:3")]
    run = end.push(*named)
    assert run.code == 0, run.stderr
    assert end.names == {NAME: end.id(one), "docker.io/library/app:3": end.id(two)}
    assert end.calls.count("load") == 1
    assert end.is_tidy()


def test_the_name_moves_from_the_old_image_to_the_new_one(end: TargetEnd) -> None:
    end.hold(NAME, pictures("a", "b"))
    app = pictures("a", "c")
    assert end.push(end.layout(app), "--name", "app:2").code == 0
    assert end.names == {NAME: end.id(app)}


def test_an_unchanged_image_costs_no_load_the_second_time(end: TargetEnd) -> None:
    layout = end.layout(pictures("a", "b"))
    assert end.push(layout, "--name", "app:2").code == 0
    run = end.push(layout, "--name", "app:2")
    assert (run.code, run.actions) == (0, ["reuse", "reuse"])
    assert end.calls.count("load") == 1


@pytest.mark.parametrize("how", ["none", "gzip"])
def test_the_archive_is_taken_in_each_compression(end: TargetEnd, how: str) -> None:
    app = pictures("a", "b")
    assert end.push(end.layout(app), "--name", "app:2", "--compression", how).code == 0
    assert end.names == {NAME: end.id(app)}


def test_of_several_platforms_the_targets_own_comes(end: TargetEnd) -> None:
    if end.kind.engine == "ctr":
        pytest.skip("its platform is this machine's")
    amd, arm = pictures("a", "b"), pictures("a", "c", architecture="arm64")
    run = end.push(end.layout(arm, amd), "--name", "app:2")
    assert run.code == 0, run.stderr
    assert end.names == {NAME: end.id(amd)}


def test_a_dry_run_tells_all_and_changes_nothing(end: TargetEnd) -> None:
    end.hold(OLD, pictures("a", "x"))
    run = end.push(end.layout(pictures("a", "b")), "--name", "app:2", "--dry-run")
    assert (run.code, run.actions) == (0, ["reuse", "send"]), run.stderr
    assert end.names == end.before
    assert not {"load", "tag", "remove"} & set(end.calls)


def test_a_load_that_is_refused_leaves_the_old_image_and_is_told(end: TargetEnd) -> None:
    end.hold(NAME, pictures("a", "x"))
    end.lie("fail")
    assert "its disk is full" in failed_push(end, pictures("a", "b"), 5)


@pytest.mark.parametrize("lie", ["empty", "nothing"])
def test_an_engine_that_shows_something_else_than_was_sent_is_not_believed(end: TargetEnd, lie: str) -> None:
    end.hold(NAME, pictures("a", "x"))
    end.lie(lie)
    assert "what was loaded is not what was sent" in failed_push(end, pictures("a", "b"), 6)


def test_a_name_that_is_refused_leaves_the_old_image(end: TargetEnd) -> None:
    end.hold(NAME, pictures("a", "x"))
    end.lie("tag")
    assert "the engine refused the name" in failed_push(end, pictures("a", "b"), 5)


def test_a_name_that_another_session_is_just_giving_is_given_once_more(end: TargetEnd) -> None:
    """docker's containerd store tells one of two that it is there already."""
    end.hold(OLD, pictures("a", "x"))
    end.lie("tag once")
    run = end.push(end.layout(pictures("a", "b")), "--name", NAME)
    assert run.code == 0, run.stderr
    assert end.names[NAME] == end.id(pictures("a", "b"))
    assert end.is_tidy()


def test_a_name_that_does_not_stay_is_not_told_as_given(end: TargetEnd) -> None:
    end.hold(OLD, pictures("a", "x"))
    end.lie("moves")
    run = end.push(end.layout(pictures("a", "b")), "--name", "app:2")
    assert run.code == 6, run.stderr
    assert end.is_tidy()


def test_an_image_that_is_there_under_its_names_gets_none(end: TargetEnd) -> None:
    """And another name is given it all the same."""
    app = end.layout(pictures("a", "b"))
    assert end.push(app, "--name", "app:2").code == 0
    for name, given in (("app:2", end.kind.receiver), ("app:3", True)):
        before = end.calls
        run = end.push(app, "--name", name)
        assert run.code == 0, run.stderr
        assert run.results[0]["verified"]
        assert any("tag" in call for call in end.calls[len(before) :]) <= given
        assert f"docker.io/library/{name}" in end.names or name in end.names
    assert end.is_tidy()


# Word by word.


def test_what_breaks_off_leaves_nothing(end: TargetEnd) -> None:
    """After each word that changes something."""
    end.hold(OLD, pictures("a"))
    app = pictures("a", "b")
    expect = f"expect {INCOMING} {' '.join(app.diff_ids)}"
    for lines in (
        [*ask(app)],
        [*ask(app), "end"],
        [*ask(app), "end", expect],
        [*ask(app), "end", expect, "load none"],
        [*ask(app), "end", expect, "load none", "5", "abc"],
        [*ask(pictures("a")), "end", f"tag {end.id(pictures('a'))}"],
    ):
        assert Reply.DONE not in end.talk(*lines)
        assert end.names == end.before
        assert end.is_tidy()


def test_words_of_tomorrow_in_the_ask_are_skipped(end: TargetEnd) -> None:
    old = pictures("a")
    end.hold(OLD, old)
    lines = end.talk("resume 12 abc", *ask(old), "colour green", "end", f"tag {end.id(old)} {NAME}", "done")
    assert lines[-1] == Reply.DONE
    assert end.names[NAME] == end.id(old)


def test_an_image_that_is_here_is_told_in_one_line(end: TargetEnd) -> None:
    """By its own name for it, where that is another one; then it gets a name under either."""
    old = pictures("a")
    end.hold(OLD, old)
    here = Reply.PRESENT if end.id(old) == old.id else f"{Reply.SAME} {end.id(old)}"
    lines = end.talk(*ask(old), "end", f"tag {end.id(old)} {NAME}", "done")
    assert lines[-4:] == [f"image {old.id}", lines[-3], Reply.END, Reply.DONE]
    assert lines[-3].startswith(here)
    assert end.names == {**end.before, NAME: end.id(old)}


NO_PLACE = {
    "load before expect": ["load none"],
    "tag before load": ["expect {incoming} {layer}", "tag {incoming} {name}"],
    "done before load": ["expect {incoming} {layer}", "done"],
    "expect after tag": ["tag {id} {name}", "expect {incoming} {layer}"],
}


@pytest.mark.parametrize("what", NO_PLACE)
def test_a_verb_that_comes_when_it_may_not_is_refused(end: TargetEnd, what: str) -> None:
    old = pictures("a")
    end.hold(OLD, old)
    words = {"incoming": INCOMING, "layer": old.diff_ids[0], "name": NAME, "id": end.id(old)}
    last = end.talk(*ask(old), "end", *(line.format(**words) for line in NO_PLACE[what]))[-1]
    assert last.split()[:2] in ([Reply.FAILED, VerdictKind.PROTOCOL], [Reply.FAILED, VerdictKind.REFUSED])
    assert "load" not in end.calls


@pytest.mark.parametrize("then", [["tag {id} {name}", "done"], ["done"], ["expect {incoming} {layer}"], ["load none"]])
def test_in_a_dry_run_no_verb_changes_anything(end: TargetEnd, then: list[str]) -> None:
    old = pictures("a")
    end.hold(OLD, old)
    words = {"incoming": INCOMING, "layer": old.diff_ids[0], "name": NAME, "id": end.id(old)}
    last = end.talk("dry-run", *ask(old), "end", *(line.format(**words) for line in then))[-1]
    assert last.split()[:2] in ([Reply.FAILED, VerdictKind.PROTOCOL], [Reply.FAILED, VerdictKind.REFUSED])
    assert end.names == end.before
    assert not {"load", "tag", "remove"} & set(end.calls)


def test_an_image_that_was_not_offered_gets_no_name(end: TargetEnd) -> None:
    old = pictures("a")
    end.hold(OLD, old)
    last = end.talk(*ask(pictures("b")), "end", f"tag {end.id(old)} {NAME}", "done")[-1]
    assert last.startswith(f"{Reply.FAILED} ")
    assert end.names == end.before


def test_an_engine_that_does_not_answer_is_told_in_its_own_words(end: TargetEnd) -> None:
    """None that is there besides stands in for it."""
    for door in (*end.kind.doors, "sudo"):
        (end.bin / door).write_text("#!/bin/sh\necho is the daemon running? >&2\nexit 1\n")
        (end.bin / door).chmod(0o755)
    last = end.talk("end")[-1]
    assert last.split()[:2] == [Reply.FAILED, VerdictKind.ENGINE]
    assert "is the daemon running?" in last
