"""Unit tests reach nothing: no socket, no process, no variable of whoever runs them."""

import os
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

#: What a program needs to run at all; everything else of the environment is the test's to set.
_KEPT = ("PATH", "PYTHONDONTWRITEBYTECODE", "SYSTEMROOT", "TMPDIR")
_SOCKET = ("bind", "connect", "connect_ex", "listen", "sendto")
_OS = ("execv", "execve", "execvp", "execvpe", "fork", "forkpty", "posix_spawn", "posix_spawnp", "system")


class ForbiddenError(BaseException):
    """No Exception, so that no `except Exception` of the code under test hides it."""


def _forbid(what: str) -> Callable[..., Any]:
    def forbidden(*arguments: object, **options: object) -> None:
        raise ForbiddenError(f"a unit test called {what}: that belongs into tests/contract or tests/engines")

    return forbidden


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _SOCKET:
        monkeypatch.setattr(socket.socket, name, _forbid(f"socket.{name}"))
    monkeypatch.setattr(socket, "getaddrinfo", _forbid("socket.getaddrinfo"))
    monkeypatch.setattr(subprocess, "Popen", _forbid("subprocess.Popen"))
    for name in _OS:
        if hasattr(os, name):
            monkeypatch.setattr(os, name, _forbid(f"os.{name}"))
    for name in set(os.environ) - set(_KEPT):
        monkeypatch.delenv(name)
