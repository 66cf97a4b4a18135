"""The text of the program as it goes to a target."""

from functools import cache

from layerferry.targets.host import python_program
from layerferry.targets.host.script import patching


@cache
def word() -> str:
    """What a target runs to patch layers, as a word of the conversation: a part of the host script, and the program."""
    return python_program.word(patching(), text().encode())


@cache
def text() -> str:
    """The program, in ASCII."""
    return python_program.bare(__package__, "target_program.py")
