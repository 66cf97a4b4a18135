"""The program that ssh asks for a password or a passphrase (ssh(1), SSH_ASKPASS), and the secrets that it tells.

It is a script of a shell's own words, in memory as a private key is (`ssh_key`), which has the paths of the secrets and
none of them. It tells each once to one ssh: a server that refuses a password gets it no second time, by another method
either. Other questions, such as whether a host's key is right, get no answer.
"""

import contextlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from layerferry.ci.ssh_key import keep_in_memory
from layerferry.errors import ConnectError, UsageError
from layerferry.temporary import TemporaryFolder

PASSWORD, PASSPHRASE = "LAYERFERRY_SSH_PASSWORD", "LAYERFERRY_SSH_PASSPHRASE"
#: The prompts are those of sshconnect2.c; a question of the server's has `(user@host)` before it since OpenSSH 8.5.
_SCRIPT = """\
#!/bin/sh
case $1 in
  "Enter passphrase for key "*) answer={passphrase} ;;
  *[Pp]assword*) answer={password} ;;
  *) exit 1 ;;
esac
[ "$answer" ] || exit 1
while read -r told; do [ "$told" != "$PPID $answer" ] || exit 1; done <{told}
echo "$PPID $answer" >>{told}
IFS= read -r line <"$answer" && printf '%s\\n' "$line"
"""
#: ssh's own buffer (readpass.c) and sudo's (SUDO_CONV_REPL_MAX), without the zero at its end.
_LONGEST = 1023


@dataclass(frozen=True, slots=True)
class Askpass:
    """What makes ssh ask the program: `-o` values, and variables of its environment."""

    options: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


@contextlib.contextmanager
def open_askpass(password: str | None, passphrase: str | None) -> Iterator[Askpass]:
    """Keep the secrets for ssh to ask for until the block ends; without any, all stays as it is.

    Raises `UsageError` for one that ssh could not be told, and `ConnectError` where it cannot be kept.
    """
    if password is None and passphrase is None:
        yield Askpass()
        return
    with contextlib.ExitStack() as stack:
        keep = _Files(stack)
        paths = {
            "password": keep(secret_line(password, PASSWORD)) if password is not None else "",
            "passphrase": keep(secret_line(passphrase, PASSPHRASE)) if passphrase is not None else "",
            "told": keep(b""),
        }
        script = _SCRIPT.format(**{name: shlex.quote(path) for name, path in paths.items()})
        program = keep(os.fsencode(script), mode=0o700)
        options = ["BatchMode=no", "NumberOfPasswordPrompts=1"]
        if password is None:  # nobody is there to answer what a server asks
            options += ["PasswordAuthentication=no", "KbdInteractiveAuthentication=no"]
        # An ssh before 8.4 knows no SSH_ASKPASS_REQUIRE: without a terminal, a display makes it ask the program.
        yield Askpass(tuple(options), (("SSH_ASKPASS", program), ("SSH_ASKPASS_REQUIRE", "force"), ("DISPLAY", ":0")))


class _Files:
    """Keeps bytes as files: in memory, or in a private folder where that cannot be."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._folder: Path | None = None

    def __call__(self, data: bytes, *, mode: int = 0o600) -> str:
        if path := keep_in_memory(self._stack, data, mode=mode):
            return str(path)
        if self._folder is None:
            self._folder = Path(self._stack.enter_context(TemporaryFolder(error=ConnectError)))
        path = self._folder / str(len(list(self._folder.iterdir())))
        path.touch(mode=mode, exist_ok=False)
        path.write_bytes(data)
        return str(path)


def secret_line(secret: str, setting: str, reader: str = "ssh") -> bytes:
    """A secret as the line that `reader` is told, in the bytes that the variable has, which need be no UTF-8.

    Raises `UsageError` for what is none.
    """
    text = secret.rstrip("\r\n")
    if not text:
        raise UsageError(
            f"{setting} is empty",
            hint="A secret that this job may not see is empty too: a fork's, another environment's, a protected one.",
        )
    data = os.fsencode(text)
    if "\n" in text or "\r" in text or "\0" in text or len(data) > _LONGEST:
        raise UsageError(f"{setting} is none that {reader} can be told: it takes one line of {_LONGEST} bytes at most")
    return data + b"\n"
