"""Images whose containers run: a shell with its libraries, and a program that says which release it is."""

import re
import subprocess
from pathlib import Path

#: The programs of this machine that such an image has, which are linked with the C library alone; and where.
_PROGRAMS = {"/bin/dash": "/bin/sh", "/bin/sleep": "/bin/sleep"}


def shell_files() -> dict[str, bytes]:
    """The files of an image that runs scripts, by path without the first slash: a shell, and what it is linked with."""
    linked = subprocess.run(["ldd", *_PROGRAMS], capture_output=True, text=True, check=True).stdout
    libraries = {path: path for path in re.findall(r"^\s.*?(/\S+)", linked, re.MULTILINE)}
    return {inside.lstrip("/"): Path(path).read_bytes() for path, inside in {**_PROGRAMS, **libraries}.items()}


def program(text: str) -> dict[str, bytes]:
    """A program /app of one line, which such an image runs when nothing else is said."""
    return {"app": f"#!/bin/sh\n{text}\n".encode()}
