"""The words of the conversation stand in the module, on the page and in the host script, and are the same."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from layerferry import protocol
from layerferry.oci.store_kind import StoreKind
from layerferry.patch.text import text
from layerferry.protocol import Capability, Fact, Reply, Verb, VerdictKind
from layerferry.targets import verdict
from layerferry.targets.host.script import FOLLOWING, SUDO, UPKEEP, patching, resuming, script

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
SCRIPT = (script((*UPKEEP, *FOLLOWING, *SUDO)) + resuming()).decode()


def rows(table: str) -> list[str]:
    """The first word of each row of the table that stands below its mark."""
    _, _, text = PAGE.partition(f"<!-- {table} -->\n\n")
    return re.findall(r"^\| `([a-z-]+)` \|", text.partition("\n\n")[0], re.MULTILINE)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        (["verbs", "commit verbs"], Verb),
        (["facts"], Fact),
        (["capabilities"], Capability),
        (["replies"], Reply),
        (["verdicts"], VerdictKind),
    ],
    ids=lambda value: str(getattr(value, "__name__", "")),
)
def test_the_page_has_the_words_of_the_module(tables: list[str], words: Iterable[str]) -> None:
    assert [word for table in tables for word in rows(table)] == list(words)


def test_the_page_has_the_numbers_of_the_module() -> None:
    assert f"This is version {protocol.VERSION}." in PAGE
    assert f": layerferry {protocol.VERSION} " in PAGE
    mib = 1 << 20
    assert f"frames of {protocol.FRAME // mib} MiB; a receiver takes up to {protocol.LONGEST_FRAME // mib} MiB" in PAGE
    assert f"lines `{protocol.SIGN_OF_LIFE}` may stand" in PAGE
    assert ", ".join(f"`{kind}`" for kind in list(StoreKind)[:2]) + f" or `{StoreKind.BLOB}`" in PAGE


def said(pattern: str) -> set[str]:
    return set(re.findall(pattern, SCRIPT, re.MULTILINE))


def test_the_host_script_says_the_words_of_the_module() -> None:
    late = patching().decode()
    assert "say 'data 0000" in late, "what goes with the program says it"
    words = (
        {Reply.DATA}
        | said(r"\bsay ['\"]?([a-z]+)(?=[ '\"$;]|$)")
        | said(r"s/\^/([a-z]+) /")
        | said(r'print "([a-z]+)",(?:of\[|id|substr|\$n)')
    )
    assert words - {"told"} == {*Fact, *Reply} - {Fact.SIGNATURES}, "`told` is said to itself, signatures by a receiver"
    assert f"'{Reply.DATA} '" in text(), "the program of a patch says it"
    assert f"layerferry {protocol.VERSION} sh" in SCRIPT


def test_the_host_script_knows_the_verbs_of_the_module() -> None:
    """But for what only a receiver has a use for."""
    for verb in set(Verb) - {Verb.NAME, Verb.SIGNATURE}:
        assert re.search(rf"(^|[ |'\"]){verb}('?\)| ?\||:|\"? *\])", SCRIPT, re.MULTILINE), verb


def test_the_host_script_has_the_verdicts_and_the_capabilities_of_the_module() -> None:
    kinds = said(r"\b(?:fail|blame) ([a-z-]+) ")
    assert kinds == {*VerdictKind} - {VerdictKind.REFUSED, VerdictKind.RUN}
    (told,) = said(rf'say "{Fact.CAPABILITY} ([a-z ]+)\$more"')
    (more,) = said(r"\bmore='( [a-z ]+)'")
    ours = [word for word in Capability if word is not Capability.SIGNED]
    assert f"{told}{more}".split() == ours, "`signed` is a receiver's alone"


def test_the_host_script_says_the_kinds_of_store_of_the_type() -> None:
    assert said(r"\bstore=([a-z]+)") == set(StoreKind)


def test_every_verdict_has_words_for_the_user() -> None:
    assert {kind for kind in VerdictKind if verdict.is_verdict(f"{Reply.FAILED} {kind} x")} == set(VerdictKind)
