"""The page of states has the verbs of the host script, the states of the glossary's flow, and every bound in time."""

import re
from pathlib import Path

from layerferry.oci import limits
from layerferry.protocol import Verb
from layerferry.targets.host.script import UPKEEP, script

PAGE = (Path(__file__).parents[2] / "docs" / "states.md").read_text(encoding="utf-8")


def table(mark: str) -> list[list[str]]:
    """The rows, without their heads, of the table that stands below its mark."""
    _, _, text = PAGE.partition(f"<!-- {mark} -->\n\n")
    lines = text.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


#: Verbs that lead nowhere.
_ASKING = {Verb.PROBE, Verb.FILES, Verb.MATCH, Verb.RESUME, Verb.GC, Verb.RESOLVE, Verb.IMAGES, Verb.REMOVE}


def bounds() -> dict[str, float]:
    """The bounds in time: they are what has a fraction, while bytes and numbers are whole."""
    return {name: value for name, value in vars(limits).items() if name.isupper() and isinstance(value, float)}


def test_every_bound_in_time_stands_on_the_page_as_it_is() -> None:
    assert {name: float(seconds) for _, name, seconds, _ in table("bounds")} == bounds()


def test_a_verb_leads_from_a_state_to_the_next_as_the_script_has_it() -> None:
    pattern = r"((?:[a-z]+:[a-z]+ ?\| ?)+[a-z]+:[a-z]+)\) ?(?:stage=[$a-z]+ ?)?;;"
    cases = re.findall(pattern, script(UPKEEP).decode())
    moves = {tuple(pair.strip().split(":")) for case in cases for pair in case.split("|")}
    assert {(verb, state) for state, _, verb, _ in table("stages")} == moves
    verbs = {Verb.LEARN, *_ASKING, Verb.PROGRAM, Verb.EXPECT, Verb.LOAD, Verb.KEEP, Verb.TAG, Verb.DONE}
    assert {verb for verb, _ in moves} == verbs


def test_a_state_is_called_after_the_verb_that_leads_to_it() -> None:
    moves = {(verb, after) for _, _, verb, after in table("stages") if verb not in {Verb.LEARN, *_ASKING}}
    verbs = (Verb.PROGRAM, Verb.EXPECT, Verb.LOAD, Verb.TAG, Verb.DONE)
    assert moves == {(Verb.KEEP, Verb.TAG), *((verb, verb) for verb in verbs)}, "`keep` is a `tag` as well"


def test_the_page_says_what_ssh_and_the_watch_bound() -> None:
    from layerferry.targets.ssh_target import SshTarget, ssh_words  # noqa: PLC0415

    words = ssh_words(SshTarget("host"))
    assert "ServerAliveInterval=15" in words
    assert "ServerAliveCountMax=4" in words
    assert f"ConnectTimeout={limits.CONNECTED:.0f}" in words
    assert "-ge 30 ]" in script().decode(), "30 ticks of 10 s"
