"""What must hold of every run, whatever was done to it."""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hostile.command import Outcome

#: Bytes of a line: an error sentence, or its hint.
LONGEST = 2000
#: What a push to two targets prints, with room to spare.
MOST_LINES = 20
#: C0 but the newline, DEL, C1, lone surrogates, line separators, and what reorders or hides what a reader sees.
_CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
_SPEAKS_TO_A_CI = re.compile(r"^\s*::|##vso\[|##\[|##teamcity\[", re.MULTILINE | re.IGNORECASE)
_ASKED = re.compile(
    r": layerferry \d+ \d+|engine( [a-z0-9]+( [A-Za-z0-9._-]+)?)?|(image|layer) sha256:[0-9a-f]{64}|dry-run|end"
)
_SENT = re.compile(r"expect localhost/layerferry:\S+( sha256:[0-9a-f]{64})*|load (none|gzip|zstd)|frames \d+")


def is_clean(text: str) -> bool:
    """Whether it neither paints a terminal nor speaks to a CI."""
    return not _CONTROL.search(text) and not _SPEAKS_TO_A_CI.search(text)


def within_bounds(run: Outcome, codes: Collection[int]) -> str:
    """Everything but the sentence: bounds, exit code, clean text, nothing left; what it printed."""
    text = (run.stdout + run.stderr).decode(errors="surrogateescape")
    shown = repr(text[:3000])
    assert not run.broke, f"{run.broke} after {run.seconds:.1f} s: {shown}"
    assert run.code in codes, f"exit code {run.code} and not {codes}: {shown}"
    assert "Traceback" not in text, shown
    assert "Exception ignored" not in text, shown
    assert is_clean(text), f"it prints raw what is foreign: {shown}"
    lines = (run.stdout + run.stderr).splitlines()
    assert max(map(len, lines), default=0) <= LONGEST, f"it prints {len(text)} characters: {shown}"
    assert len(lines) <= MOST_LINES or run.stdout.startswith(b"{"), f"it prints {len(lines)} lines: {shown}"
    assert run.left == (), "it leaves temporary files behind"
    return text


def one_sentence(run: Outcome, codes: Collection[int], says: str = "") -> None:
    """The claims of a push to one target: where it fails, one sentence and at most one hint stand on stderr."""
    text = within_bounds(run, codes)
    errors = run.stderr.decode().splitlines()
    if run.code:
        sentences = [line for line in errors if line.startswith("layerferry: ")]
        others = [line for line in errors if not line.startswith(("layerferry: ", "warning: "))]
        assert len(sentences) == 1, repr(text)
        assert len(others) <= 1, repr(text)
        assert all(line.startswith("  ") for line in others), repr(text)
    assert re.search(says, text, re.IGNORECASE), f"no {says!r} in {text!r}"


def clean_json(run: Outcome) -> Any:
    """What `--json` printed: one object, whose bytes are clean; its strings may hold what was said, spelt in JSON."""
    assert is_clean(run.stdout.decode())
    return json.loads(run.stdout)


def only_asked(record: Path, *, sent: bool = False) -> None:
    """That an honest target heard nothing but the ask, and, where something is `sent`, an archive; no name is given."""
    heard = record.read_text().split("\n")[:-1] if record.exists() else []
    wrong = [line for line in heard if not _ASKED.fullmatch(line) and not (sent and _SENT.fullmatch(line))]
    assert wrong == []
