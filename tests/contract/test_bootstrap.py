"""What ssh runs on a host: it reads the same in every login shell, and needs no gzip."""

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

from layerferry.targets.conduit import BOOTSTRAP

SCRIPT = b'echo layerferry 1 sh\nread -r line; echo "got $line"; exit 0\n'
PACKED = gzip.compress(SCRIPT)
SHELLS = ("dash", "bash", "zsh", "fish", "tcsh", "busybox", "mksh", "ksh93")


def host(folder: Path, *tools: str) -> str:
    """A PATH to just these tools."""
    for tool in ("sh", "dd", *tools):
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    return str(folder)


def said(shell: str, path: str, *data: bytes) -> list[bytes]:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} here")
    words = [program, *(["sh"] if shell == "busybox" else []), "-c", BOOTSTRAP]
    done = subprocess.run(words, input=b"".join(data), capture_output=True, check=True, env={"PATH": path}, timeout=60)
    assert done.stderr == b""
    return done.stdout.split()


def preamble(script: bytes) -> bytes:
    return b": layerferry 1 %d\n" % len(script) + script


@pytest.mark.parametrize("shell", SHELLS)
def test_a_packed_script_runs_in_every_login_shell(shell: str, tmp_path: Path) -> None:
    path = host(tmp_path, "gzip")
    assert said(shell, path, preamble(PACKED), b"engine\n") == b"layerferry 1 sh got engine".split()


@pytest.mark.parametrize("shell", SHELLS)
def test_without_gzip_a_plain_one_is_asked_for_and_what_was_said_before_is_passed_over(
    shell: str, tmp_path: Path
) -> None:
    heard = said(shell, host(tmp_path), preamble(PACKED), b"engine\nimage x\nend\n", preamble(SCRIPT), b"engine\n")
    assert heard == b"layerferry plain layerferry 1 sh got engine".split()
