"""Processes that we start."""

import subprocess
from typing import Any

_PATIENCE = 5


def end(process: "subprocess.Popen[Any]") -> None:
    """Terminate it; kill it where it does not heed that. It has ended then, and its status is known."""
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
