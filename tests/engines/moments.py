"""Moments of a push at which something happens: commands before the engine's, a gate at one of them, and what is left.

`test_failures.py` and `tests/faults` break pushes with them.
"""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from subprocess import Popen

from engines.test_push_scene import APP, Scene, asked_with, id_of, our_ssh, unchanged
from rig import Engine
from rig.processes import wait_until


def assert_one_sentence(stderr: str, says: str) -> None:
    """`layerferry: what failed`, and below it, indented, what to do; nothing else. After `^C` comes a new line."""
    first, *rest = stderr.removeprefix("\n").splitlines()
    assert first.startswith("layerferry: ")
    assert re.search(says, first, re.IGNORECASE), first
    assert len(rest) <= 1
    assert all(line.startswith("  ") for line in rest)


#: What stands before the command that the target's engine is asked with sees what it is called for, `$verb`. It may
#: `go` on to the real one, `refuse` with a text, or show the image of another name `instead`.
_PLAIN = r"""
go() { exec "$real" "$@"; }
refuse() { echo "$1" >&2; exit 1; }
"""
_COMMAND = r"""
case "$1 $2" in
  "image ls") verb=list ;;
  "image inspect") case "$*" in *localhost/layerferry*) verb=verify ;; *) verb=inspect ;; esac ;;
  "image rm") verb=drop ;;
  *) verb=$1 ;;
esac
instead() { exec "$real" image inspect --format "$5" "$1"; }
"""
_CTR = r"""
verb=''
case "$*" in
  *"content ls"*) verb=list ;;
  *"images import"*) verb=load ;;
  *"images check"*) verb=verify ;;
  *"images tag"*) verb=tag ;;
  *"images rm"*) verb=drop ;;
esac
"""
_CURL = r"""
asked=''
case "$*" in
  */info\ *) verb=info ;;
  */images/json) verb=list ;;
  *"-K -"*)
    asked=$(cat)
    case $asked in *localhost/layerferry*) verb=verify ;; *) verb=inspect ;; esac ;;
  *images/load*) verb=load ;;
  *"/tag?"*) verb=tag ;;
  *"-X DELETE"*) verb=drop ;;
esac
go() { if [ "$asked" ]; then echo "$asked" | "$real" "$@"; else exec "$real" "$@"; fi; }
refuse() { printf '{"errorDetail":{"message":"%s"},"error":"%s"}\n' "$1" "$1"; exit; }
instead() { asked="url = \"http://docker/images/$1/json\""; shift; go "$@"; }
"""


@contextmanager
def wrapped(target: Engine, body: str, program: str = "") -> Iterator[None]:
    """Put a command before the one that the target's engine is asked with, which `$real` names: `body` is POSIX sh."""
    program = program or asked_with(target)
    words = {"curl": _CURL, "ctr": _PLAIN + _CTR, "k3s": _PLAIN + _CTR}.get(program, _PLAIN + _COMMAND)
    text = f"#!/bin/sh\nreal=/usr/bin/{program}\n{words}\n{body}\n"
    target.machine.write(f"/usr/local/bin/{program}", text, mode=0o755)
    try:
        yield
    finally:
        # What tidies up there when we have gone calls it too.
        wait_until(lambda: not sessions(target), "the session does not end", seconds=20)
        target.machine.run("rm", f"/usr/local/bin/{program}")


#: What a command before the engine's does at `$verb`: it waits while the gate is shut for that.
PAUSE = r"""
pause() {
  [ "$(cat /run/rig/gate 2>/dev/null)" = "$1" ] || return
  : >/run/rig/reached
  while [ -e /run/rig/gate ]; do sleep 0.05; done
}
pause "$verb"
[ "$verb" = load ] || { go "$@"; exit; }
"$real" "$@"
status=$?
pause loaded
exit $status
"""
#: What the target's engine is about to do when it happens, in their order.
MOMENTS = ("info", "list", "inspect", "load", "loaded", "verify", "tag", "drop")


Wrap = Callable[[Engine, str], AbstractContextManager[None]]


class Gate:
    """Holds the target's engine at one moment, so that something can happen just then.

    `wrap` puts a command before the engine's.
    """

    def __init__(self, target: Engine, wrap: Wrap = wrapped) -> None:
        self._target = target
        self._wrapped = partial(wrap, target, PAUSE)
        self._gate = target.machine.run_folder / "gate"
        self._reached = target.machine.run_folder / "reached"

    @contextmanager
    def at(self, moment: str) -> Iterator[None]:
        self._reached.unlink(missing_ok=True)
        self._gate.write_text(moment)
        with self._wrapped():
            try:
                yield
            finally:
                self.open()
                wait_until(lambda: not self._held(), "the engine's command does not end", seconds=20)

    def wait(self) -> None:
        wait_until(self._reached.exists, "the moment does not come", seconds=30)

    def open(self) -> None:
        self._gate.unlink(missing_ok=True)

    def _held(self) -> bool:
        return any("/usr/local/bin/" in line for line in self._target.machine.processes().values())


@contextmanager
def safe(scene: Scene, *, committed: bool = False) -> Iterator[None]:
    """Whatever happens to the push, both sides are as before; once names are being set, the new image may be there."""
    old = id_of(scene.target, APP)
    with unchanged(scene.source):
        if not committed:
            with unchanged(scene.target):
                yield
        else:
            yield
            wait_until(lambda: not sessions(scene.target), "the session does not end", seconds=15)
            assert not [name for name in scene.target.images() if "layerferry" in name]
            if id_of(scene.target, APP) != old:
                assert scene.target.diff_ids(APP) == scene.source.diff_ids(APP)
    wait_until(lambda: our_ssh(scene.rig) == [], "our ssh does not end", seconds=10)


def sessions(target: Engine) -> list[str]:
    return [
        line for line in target.machine.processes().values() if line.startswith(("sh -c", "sshd: root", "sshd-session"))
    ]


def start(scene: Scene, *arguments: str) -> Popen[bytes]:
    return scene.layerferry.start("push", APP, scene.target.ssh_alias, *arguments, source=scene.source)


def interrupt(process: Popen[bytes], number: signal.Signals) -> None:
    """As a terminal does it, to the whole group, for SIGINT; to the one process otherwise."""
    if number is signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid, number)


def assert_interrupted(process: Popen[bytes]) -> None:
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr.decode()
    assert_one_sentence(stderr.decode(), "interrupted")
