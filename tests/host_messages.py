"""What the host script ends with in its own words: read out of its parts, so that docs/errors.md leaves none out.

A verdict is `fail KIND TEXT`, `blame KIND TEXT` or, of a file, `lose TEXT` (`targets/host/words.sh` and `follow.sh`);
`refuse` answers what no client of ours says. TEXT that is all an engine's has no words of its own.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from error_messages import HOLE, SOURCE, letters
from layerferry.protocol import VerdictKind
from layerferry.targets.verdict import verdict

#: Fewer letters than these say nothing without what is put in.
_TELLING: Final = 4
_VERDICT: Final = re.compile(
    r"""\b(?:(?:fail|blame)\ (?P<kind>[a-z-]+)|lose)\ (?:
    "(?P<double>(?:[^"$]|\$\(.*\)|\$\{[^}]*\}|\$)*)" | '(?P<single>[^']*)')""",
    re.VERBOSE,
)
_DEFAULT: Final = re.compile(r"\$\{\w+:-([^}$]+)\}")
_PUT_IN: Final = re.compile(r"\$(?:\(.*\)|\{[^}]*\}|\w+|\*)")


class HostMessage(NamedTuple):
    """The part of the script, the kind of the verdict, and its text, with holes."""

    part: str
    kind: str
    text: str

    @property
    def told(self) -> tuple[str, str]:
        """As what the client tells it, and the hint."""
        error = verdict(HOLE, f"failed {self.kind} {self.text}")
        return error.message, error.hint


def host_messages() -> Iterator[HostMessage]:
    """All of them, each once."""
    seen = set()
    for path in sorted((SOURCE / "targets/host").glob("*.sh")):
        for found in _VERDICT.finditer(path.read_text("utf-8")):
            text = _DEFAULT.sub(r"\1", found["double"] or found["single"] or "")
            text = re.sub(f"{HOLE}+", HOLE, _PUT_IN.sub(HOLE, text))
            kind = found["kind"] or VerdictKind.COPY
            text = text if found["kind"] else f"{HOLE}: {text}"
            if letters(text) >= _TELLING and (kind, text) not in seen:
                seen.add((kind, text))
                yield HostMessage(path.name, kind, text)
