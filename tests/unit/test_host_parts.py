"""The parts of the host script: each way to an engine has the same functions; all of them are sent, in few bytes."""

import re
from importlib.resources import files

import pytest

from layerferry.targets.engine_choice import ENGINES
from layerferry.targets.host import script

FOLDER = files("layerferry.targets.host")
TEXTS = {
    path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir() if path.name.endswith((".sh", ".awk"))
}
SENT = script.script().decode()


def functions(part: str) -> set[str]:
    return set(re.findall(r"^(\w+)\(\) ", TEXTS[f"{part}.sh"], re.MULTILINE))


def functions_of(way: str) -> set[str]:
    return set().union(*(functions(part) for part in script.PARTS if part.partition("_")[0] == way))


def contract() -> list[str]:
    """What find.sh says that each way has."""
    _, _, table = TEXTS["find.sh"].partition("nine functions")
    return re.findall(r"^#   (\w+) ", table.partition("\n\n")[0], re.MULTILINE)


def ways() -> set[str]:
    return {part for part in script.PARTS if f"{part}_probe" in functions(part)}


def test_each_way_has_the_functions_that_every_way_has() -> None:
    assert len(contract()) == 9
    assert ways() >= {"cli", "api", "ctr"}
    for way in ways():
        assert {f"{way}_{name}" for name in contract()} <= functions_of(way), way


def test_words_that_make_a_command_root_s_are_nothing_else() -> None:
    """Where a docker keeps its images was called so, too: then sudo was not."""
    setting = re.compile(r"\broot=|\bfor root in\b")
    assert {name for name, text in TEXTS.items() if setting.search(text)} == {"words.sh", "sudo.sh"}


def test_each_way_tells_of_older_images_and_containers() -> None:
    for way in ways():
        assert {f"{way}_{name}" for name in ("ages", "uses", "tags", "discard")} <= functions("upkeep"), way


def test_what_all_ways_have_in_common_calls_none_of_them_by_its_name() -> None:
    for part in {*script.PARTS, *script.UPKEEP, *script.ON_NODES, script.PATCHING, script.RESUMING}:
        if part.partition("_")[0] in ways():
            continue
        code = "\n".join(line for line in TEXTS[f"{part}.sh"].splitlines() if not line.lstrip().startswith("#"))
        assert not re.findall(rf"\b(?:{'|'.join(ways())})_(?:{'|'.join(contract())})\b", code), part


def test_every_part_and_every_awk_program_is_sent_once() -> None:
    late = (*script.UPKEEP, *script.SUDO, *script.ON_NODES, script.PATCHING, script.RESUMING)
    assert {f"{part}.sh" for part in (*script.PARTS, *late)} == {name for name in TEXTS if name.endswith(".sh")}
    named = re.findall(r"@(\w+\.awk)@", "".join(TEXTS.values()))
    assert sorted(named) == sorted(name for name in TEXTS if name.endswith(".awk"))
    assert "@" not in re.sub(r'"\$@"', "", SENT)


def test_a_node_gets_no_way_to_an_engine() -> None:
    sent = script.SentScript(script.ON_NODES)
    assert not [way for way in ways() if f"{way}_load()" in sent.first().decode()]
    assert not re.search(r"capability .*parts", sent.first().decode()), "it gets all of it at once"
    assert len(script.SentScript(script.ON_NODES, packed=True).first()) < 5_900


def test_an_awk_program_stands_between_single_quotes_and_has_none() -> None:
    for name, text in TEXTS.items():
        if name.endswith(".awk"):
            assert "'" not in "".join(line for line in text.splitlines() if not line.startswith("#")), name


def test_every_part_tells_shellcheck_what_it_is() -> None:
    assert {text.splitlines()[0].partition(" disable")[0] for name, text in TEXTS.items() if name.endswith(".sh")} == {
        "# shellcheck shell=sh"
    }


def test_what_is_sent_has_no_comments_and_no_indents_and_does_not_grow() -> None:
    assert not [line for line in SENT.splitlines() if not line.strip() or line != line.strip() or line[0] == "#"]
    assert len(SENT) <= 26_800, "a kB of it announces patches, 250 B what is kept; the rest goes where it is needed"
    assert len(script.patching()) < 3_500, "it goes where a large layer may be patched"
    assert len(script.script(script.UPKEEP)) - len(SENT) < 4_800, "it goes where older images are asked for"
    assert len(script.resuming()) < 3_500, "it goes where much is sent"


def test_strings_and_patterns_of_awk_stay_as_they_are() -> None:
    line = 'match($0, "a = b") && x == / = / { print "x , y", n }'
    awk = script._AWK_BLANKS.sub(lambda found: found[1] or found[2], line)
    assert awk == 'match($0,"a = b")&&x==/ = /{print "x , y",n}'
    assert 'print "image",manifest' in SENT


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("a && b || c | d ; e", "a&&b||c|d;e"),
        ("case $a in 'b ; c' | \"d ; 's\" ) f ;; esac", "case $a in 'b ; c'|\"d ; 's\" ) f;;esac"),
        (
            'say "a | b $(c | d \'e ; f\' "$g | h" | (i ; j)) k | l" | m',
            'say "a | b $(c|d \'e ; f\' "$g | h"|(i;j)) k | l"|m',
        ),
        ("f() {\na >b 2 >c <d;}", "f(){\na>b 2 >c<d;}"),
        (r"a \; b \" | c \' ; d", r"a \; b \"|c \';d"),
        ('"$((a | b)) ; c" ; d', '"$((a | b)) ; c";d'),
        ("a='' b=''\nc='' d ''; [ $e = '' ]", "a= b=\nc= d '';[ $e = '' ]"),
        ("a=''b c=\"$(d='' e | f)='' g\" h='='' '", "a=''b c=\"$(d= e|f)='' g\" h='='' '"),
    ],
)
def test_what_is_quoted_for_sh_stays_as_it_is(text: str, sent: str) -> None:
    assert script._squeezed(text) == sent


def test_the_engines_that_a_user_may_choose_are_those_that_are_looked_for_in_this_order() -> None:
    (told,) = re.findall(r"^  engines='([a-z0-9 ]+)'$", TEXTS["engines.sh"], re.MULTILINE)
    assert told.split() == list(ENGINES)
