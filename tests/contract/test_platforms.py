"""Systems that it does not run on: what Windows' Python lacks is taken away, and one sentence says what to use."""

import subprocess
import sys

import pytest

#: docs.python.org, library: signal, os, fcntl, pwd, select: "Availability: Unix".
WINDOWS = """
import os, select, signal, sys
sys.platform = "win32"
for module, names in (
    (signal, ("SIGHUP", "SIGALRM", "SIGKILL", "setitimer")),
    (os, ("getuid", "geteuid", "set_blocking", "killpg", "memfd_create")),
    (select, ("poll",)),
):
    for name in names:
        delattr(module, name)
sys.modules |= dict.fromkeys(("fcntl", "pwd", "resource", "termios"))
sys.argv = ["layerferry", *sys.argv[1:]]
from layerferry.__main__ import main
main()
"""


@pytest.mark.parametrize("words", [(), ("push", "app:1", "host"), ("run",), ("doctor",), ("receive",), ("--help",)])
def test_windows_is_told_to_use_wsl(words: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-c", WINDOWS, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    sentence, hint = done.stderr.splitlines()
    assert sentence == "layerferry: layerferry runs on Linux and macOS, and not on Windows itself"
    assert "WSL2" in hint
