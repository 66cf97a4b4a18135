"""The place of a private key: in memory, never on a disk, and nowhere once we have ended, SIGKILL included.

On Linux it is a file that has no name but the one that /proc gives our descriptor (memfd_create(2)): ssh opens it
there, as the same user, and finds it private. Elsewhere it is in an ssh-agent of ours, which gets it through a pipe,
and which a shell ends as soon as another pipe of ours ends.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from layerferry.errors import ConnectError
from layerferry.processes import child_environment
from layerferry.temporary import NO_SOCKETS, socket_folder

_PATIENCE = 20.0
_PRIVATE = 0o600
#: Not `ssh-agent COMMAND`, which looks every ten seconds whether its command lives (openssh-portable, ssh-agent.c).
_AGENT = 'ssh-agent -D -a "$1" & read -r end; kill $!'


def keep_in_memory(stack: contextlib.ExitStack, data: bytes, *, mode: int = _PRIVATE) -> Path | None:
    """The path at which ssh, a child of ours, reads `data` until `stack` is closed; None where there is none."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        descriptor = os.memfd_create("layerferry")
    except OSError:  # a sandbox that forbids it
        return None
    stack.callback(os.close, descriptor)
    path = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    try:
        os.fchmod(descriptor, mode)  # else ssh finds a key too open
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        # Opened anew, as ssh will: /proc may be missing, or another PID namespace's.
        usable = path.read_bytes() == data and (mode == _PRIVATE or os.access(path, os.X_OK))
    except OSError:
        return None
    return path if usable else None


def keep_in_agent(
    stack: contextlib.ExitStack, text: str, environ: Mapping[str, str], folder: Path | None = None
) -> tuple[Path, Path]:
    """The socket of an agent that has the key until `stack` is closed, and the key's path, of which only .pub is there.

    Raises `ConnectError` where there is no agent.
    """
    made, trouble = socket_folder(folder, error=ConnectError)
    private = stack.enter_context(made)
    if trouble:
        raise _no_agent(trouble, NO_SOCKETS)
    socket, key = Path(private, "agent"), Path(private, "identity")
    env = child_environment(environ)
    _start_agent(stack, socket, env)
    env["SSH_AUTH_SOCK"] = str(socket)
    _ask_agent(["ssh-add", "-q", "-"], env, text)
    key.with_suffix(".pub").write_text(_ask_agent(["ssh-add", "-L"], env), encoding="utf-8")
    return socket, key


def _start_agent(stack: contextlib.ExitStack, socket: Path, env: Mapping[str, str]) -> None:
    if shutil.which("ssh-agent", path=env.get("PATH", os.defpath)) is None:  # the shell would not tell
        raise _no_agent("there is no ssh-agent")
    try:
        process = subprocess.Popen(
            ["sh", "-c", _AGENT, "sh", str(socket)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=env,
            start_new_session=True,  # a signal to our whole group must not kill the shell before the agent
        )
    except OSError as error:
        raise _no_agent(f"sh cannot be started: {error.strerror}") from None
    stack.callback(_let_go, process)
    deadline = time.monotonic() + _PATIENCE
    while not socket.exists():
        if time.monotonic() > deadline:
            raise _no_agent("ssh-agent does not start")
        time.sleep(0.01)


def _let_go(process: "subprocess.Popen[bytes]") -> None:
    """End the shell, and with it the agent."""
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ask_agent(command: list[str], env: Mapping[str, str], text: str = "") -> str:
    """The output of ssh-add. Its errors may repeat a part of the key, and are not shown."""
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            env=env,
            check=True,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.SubprocessError):
        raise _no_agent("ssh-add does not take the key") from None
    return done.stdout


def _no_agent(why: str, hint: str = "Install OpenSSH's ssh-agent and ssh-add.") -> ConnectError:
    return ConnectError(f"the private key cannot be kept in memory here: {why}", hint=hint)
