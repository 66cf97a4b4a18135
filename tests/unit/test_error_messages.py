"""docs/errors.md tells each message of the code, and no other."""

import ast
import re
from pathlib import Path

import pytest

import error_page
from error_messages import SOURCE, Code, code
from host_messages import host_messages
from layerferry.protocol import VerdictKind
from pages import ROOT
from provocations import PROVOKED, UNPROVOKED, Noted, Row, provokes, rows, telling

#: Where a message is not told by the code: it is another error's, a library's, or a parameter of what makes errors.
HANDED_ON = {
    ("ci_run.py", "error.message"),
    ("ci_run.py", "failure.message"),
    ("ci_run.py", "result.error.message"),
    ("cli/__init__.py", "cli"),
    ("cli/__init__.py", "error.format_message()"),
    ("embedded_registry/http_server.py", "self._request(event)"),
    ("embedded_registry/spool.py", "no_room(self._spool.folder, needed, error.strerror or '')"),
    ("embedded_registry/spool.py", "no_room(self.folder, needed, f'{left} bytes are left for them')"),
    ("embedded_registry/spool.py", "no_room(spool.folder, 0, error.strerror or '')"),
    ("errors.py", "message"),
    ("image_signing.py", "f'{file}: {refusal.message}'"),
    ("mistakes.py", "message"),
    ("oci/documents.py", "f'{key} {error}'"),
    ("oci/manifest.py", "reference"),
    ("push/compose_up.py", "error.message"),
    ("push/host_load.py", "error.message"),
    ("receive/allowed_signers.py", "_reason(failed, 'the signature is not valid')"),
    ("receive/allowed_signers.py", "_reason(found, 'the signature is of nobody who is allowed to sign here')"),
    ("receive/allowed_signers.py", "message"),
    ("receive/dialogue.py", "ask"),
    ("receive/dialogue.py", "number"),
    ("receive/engine.py", "f'{Path(argv[0]).name} {error}'"),
    ("receive/engine.py", "trouble"),
    ("receive/old_files.py", "str(error)"),
    ("receive/program.py", "message"),
    ("receive/refusal.py", "message"),
    ("receive/signatures.py", "str(error)"),
    ("routes/daemon_routes.py", "trouble.message"),
    ("routes/ngrok/tunnel.py", "error.message"),
    ("settings/file_rules.py", "f'{self}: {what}'"),
    ("settings/model.py", "'; '.join(mistakes)"),
    ("sources/daemon/api.py", "f'Id {error}'"),
    ("sources/daemon/daemon_host.py", "error.message"),
    ("tar_headers.py", "str(error)"),
    ("targets/ssh_failures.py", "f'{bastion} {message} {address} ({beginning(last, limits.SHOWN)})'"),
    (
        "targets/verdict.py",
        "f'{target}: {message} ({beginning(text, limits.SHOWN)})' if text else f'{target}: {message}'",
    ),
}


def read(tmp_path: Path, source: str) -> list[tuple[str, str, tuple[str, ...]]]:
    (tmp_path / "module.py").write_text(f"from layerferry.errors import SourceError, UsageError\n{source}")
    tables = set(code().messages()) - set(code().read_messages())
    return [(one.kind, one.text, one.hints) for one in Code(tmp_path).messages() if one not in tables]


def test_the_page_is_what_the_code_says() -> None:
    told = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    assert told == error_page.page(code()), "write it anew: python tests/error_page.py >docs/errors.md"


#: Where a verdict of the host script has no words but those of an engine, or of who calls it.
ENGINES_OWN = {"$text", "$*", "$path: $*", "${trouble# }${others:+ also here:$others}"}


def test_no_message_of_the_host_script_is_left_out() -> None:
    told = list(host_messages())
    script = "\n".join(path.read_text(encoding="utf-8") for path in (SOURCE / "targets/host").glob("*.sh"))
    said = re.finditer(r"""\b(?:(?:fail|blame) [a-z-]+|lose) (["'])(.*?)\1(?=[ ;)]|$)""", script, re.MULTILINE)
    verdicts = [found[2] for found in said]
    assert set(verdicts) >= ENGINES_OWN
    assert len(told) == sum(text not in ENGINES_OWN for text in verdicts)
    assert {one.kind for one in told} <= {str(kind) for kind in VerdictKind}


def test_no_message_is_left_out() -> None:
    """Each error that is made has a text that can be read, or stands above."""
    code().messages()
    assert code().unread == HANDED_ON


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def f(a): raise UsageError(f'there is no {a} here', hint='Do it.')",
         [("UsageError", "there is no … here", ("Do it.",))]),
        ("def f(a): raise UsageError('one thing' if a else 'another')",
         [("UsageError", "another", ()), ("UsageError", "one thing", ())]),
        ("_HINT = 'Do it.'\ndef f(a): raise UsageError(f'{a!r} is nothing', hint=_HINT)",
         [("UsageError", "'…' is nothing", ("Do it.",))]),
        ("def make(why): return UsageError(f'{why}!')\ndef f(): raise make('it has gone')",
         [("UsageError", "it has gone!", ())]),
        ("def f(a):\n    said = 'was ended'\n    raise SourceError(f'{a} {said}')",
         [("SourceError", "… was ended", ())]),
        ("class Odd(UsageError): pass\ndef f(): raise Odd('it is odd')", [("Odd", "it is odd", ())]),
    ],
)  # fmt: skip
def test_a_message_is_read(source: str, told: list[tuple[str, str, tuple[str, ...]]], tmp_path: Path) -> None:
    assert read(tmp_path, source) == told


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("def f(error): raise UsageError(str(error))\n")
    there = Code(tmp_path)
    there.messages()
    assert there.unread == {("module.py", "str(error)")}


def test_each_message_is_provoked_or_stands_among_those_that_are_not() -> None:
    """`python tests/provocations.py` writes the rows that are missing, and prints those of messages without a test."""
    provoked, unprovoked = rows(PROVOKED), rows(UNPROVOKED)
    told = [row.key for row in (*provoked, *unprovoked)]
    assert {message.key for message in code().messages()} - set(told) == set(), (
        'without a row: CONTRIBUTING, "Change the pages"'
    )
    assert set(told) - {message.key for message in code().messages()} == set(), "no messages any more"
    assert len(told) == len(set(told))


@pytest.mark.parametrize("row", rows(PROVOKED), ids=lambda row: f"{row.module}: {row.text[:60]}")
def test_the_test_that_provokes_it_is_there(row: Row) -> None:
    """tests/conftest.py fails that test, if it does not provoke the message."""
    path, *names = row.test.partition("[")[0].split("::")
    assert f"def {names[-1]}(" in (ROOT / path).read_text(encoding="utf-8")


def test_a_reason_why_none_is_seen_to_is_true() -> None:
    texts = [message.text for message in code().messages()]
    for row in rows(UNPROVOKED):
        read = ast.parse((ROOT / row.test.removeprefix("read in ")).read_text(encoding="utf-8"))
        words = [node.value for node in ast.walk(read) if isinstance(node, ast.Constant)]
        parts = telling(row.text, texts)
        assert any(part in word for part in parts for word in words if isinstance(word, str)), row


def test_an_error_is_noted_with_its_module_and_matched_as_a_whole() -> None:
    noted = [Noted(("a.py", "b.py"), "host: no room for 3 bytes")]
    assert provokes(noted, "a.py", "…: no room for … bytes")
    assert provokes(noted, "b.py", "…: no room for … bytes")
    assert not provokes(noted, "c.py", "…: no room for … bytes")
    assert not provokes(noted, "a.py", "no room for … bytes")
    assert provokes(noted, "c.py", "no room for …", reason=True)
