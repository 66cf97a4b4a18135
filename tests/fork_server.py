"""The command in a process of its own that does not load its modules again: 0.19 s of CPU become 0.04 s.

A server has loaded all of layerferry, and forks for each run: what runs is a child of this process, with the streams,
environment, folder and process group that were asked for, and no file of the server's. What depends on how an
interpreter starts (variables such as PYTHONIOENCODING, a stream that is closed, the command line that others see) is
tested in a process that is started as usual.
"""

import array
import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import platform
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from provocations import NOTED, note_errors

#: clone(2), by machine: with CLONE_PARENT the child is one of the server's parent, who waits for it.
_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_CLONE_PARENT: Final = 0x8000
_SIGCHLD: Final = 17

Json = dict[str, Any]


class _Server:
    """The server's end in this process. It ends when this process does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        environment |= {NOTED: os.environ[NOTED]} if NOTED in os.environ else {}
        with theirs:
            command = [sys.executable, str(Path(__file__)), str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, env=environment, pass_fds=[theirs.fileno()], start_new_session=True
            )

    def fork(self, asked: Json, streams: Sequence[int]) -> int:
        """The pid of a child that runs what was asked for, and is in its session or group already."""
        with self._lock:
            _send(self._socket, asked, streams)
            return int(_receive(self._socket)[0]["pid"])

    def stop(self) -> None:
        self._socket.close()
        self._process.wait()


_started: list[_Server] = []


def stop() -> None:
    """End the server, if there is one."""
    while _started:
        _started.pop().stop()


class _Forked(subprocess.Popen[Any]):
    """A Popen whose child comes out of the server."""

    def _execute_child(self, args: Sequence[str], *given: Any) -> None:
        _, _, _, _, cwd, env, _, _, _, *pipes = given[:15]
        streams = [number if fd == -1 else fd for number, fd in enumerate((pipes[0], pipes[3], pipes[5]))]
        asked = {
            "words": _words(args),
            "env": {os.fsdecode(name): os.fsdecode(value) for name, value in (env or os.environ).items()},
            "cwd": os.fspath(cwd or Path.cwd()),
            "new_session": given[-2],
            "group": given[-1],
        }
        if not _started:
            _started.append(_Server())
        self.pid = _started[0].fork(asked, streams)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def command(*words: str | bytes) -> list[str]:
    """The command line of `layerferry`, for `start` and `run`, and for any process."""
    return [str(Path(sys.executable).with_name("layerferry")), *map(os.fsdecode, words)]


def _words(argv: Sequence[str]) -> list[str]:
    """Those of a command line that `command` made."""
    assert list(argv[:1]) == command()
    return list(argv[1:])


def start(argv: Sequence[str], *, env: Mapping[str, str], **options: Any) -> "subprocess.Popen[Any]":
    """As `subprocess.Popen`, for what `command` made: with folder, streams, `start_new_session` or `process_group`."""
    own_interpreter = any(name.startswith(("PYTHON", "LC_")) for name in env) or env.get("LANG") not in {
        None,
        "C.UTF-8",
    }
    if own_interpreter or sys.platform != "linux" or platform.machine() not in _CLONE:
        return subprocess.Popen(argv, env=env, **options)
    return _Forked(argv, env=env, **options)


def run(
    argv: Sequence[str], *, env: Mapping[str, str], data: bytes | None = None, timeout: float = 60, **options: Any
) -> "subprocess.CompletedProcess[Any]":
    """As `subprocess.run` with captured output; `data` is its stdin."""
    stdin = subprocess.DEVNULL if data is None else subprocess.PIPE
    pipe = subprocess.PIPE
    with start(argv, env=env, stdin=stdin, stdout=pipe, stderr=pipe, **options) as process:
        try:
            out, err = process.communicate(data, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def _send(connection: socket.socket, message: Json, fds: Sequence[int] = ()) -> None:
    data = json.dumps(message).encode()
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    connection.sendmsg([b"%16d" % len(data)], ancillary)
    connection.sendall(data)


def _receive(connection: socket.socket) -> tuple[Json, list[int]]:
    """A message and the files that came with it; raises `EOFError` where the other end has gone."""
    head, fds, _, _ = socket.recv_fds(connection, 16, 3)
    if not head:
        raise EOFError
    left = int(head)
    data = b""
    while len(data) < left:
        data += connection.recv(left - len(data))
    return dict(json.loads(data)), fds


# The server.


def _clone() -> int:
    """As os.fork(), for a child of our parent."""
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid = int(ctypes.PyDLL(None).syscall(_CLONE[platform.machine()], _CLONE_PARENT | _SIGCHLD, 0, 0, 0, 0))
    if pid:
        python.PyOS_AfterFork_Parent()
    else:
        python.PyOS_AfterFork_Child()
    return pid


def _serve(connection: socket.socket) -> list[str]:
    """Fork for each message; returns in the child alone, with its words."""
    while True:
        try:
            asked, fds = _receive(connection)
        except EOFError:
            os._exit(0)
        if _clone() == 0:
            break
        for fd in fds:
            os.close(fd)
    if asked["new_session"]:
        os.setsid()
    elif asked["group"] >= 0:
        os.setpgid(0, asked["group"])
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    tempfile.tempdir = None
    _send(connection, {"pid": os.getpid()})
    connection.close()
    return list(asked["words"])


def _load() -> None:
    package = importlib.import_module("layerferry")
    for module in pkgutil.walk_packages(package.__path__, "layerferry."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("docker", "requests"):
        importlib.import_module(name)
    if NOTED in os.environ:
        note_errors(os.environ[NOTED])
    gc.collect()
    gc.freeze()


def main() -> None:
    _load()
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        words = _serve(connection)
    sys.argv = ["layerferry", *words]
    code: Any = 0
    try:
        importlib.import_module("layerferry.__main__").main()
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            raise
    _end(code)


def _end(code: int) -> NoReturn:
    """As an interpreter ends, but for its modules, which it would take down one by one, and copy for that."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None and not stream.closed:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
