"""The programs that play a target, as a conduit's words."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
#: It starts in 15 ms so.
PYTHON = (sys.executable, "-I", "-S")


def honest(record: Path, *words: str) -> tuple[str, ...]:
    return (*PYTHON, str(HERE / "honest_target.py"), str(record), *words)


def hostile(case: str) -> tuple[str, ...]:
    return (*PYTHON, str(HERE / "target.py"), case)
