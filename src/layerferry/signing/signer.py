"""A signer's key, and `ssh-keygen -Y sign`: a file, an agent's key by its public one, a certificate, a FIDO key.

A private key that came as a variable is in memory alone, as the one for ssh is (`ci.ssh_key`).
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from layerferry.ci.ssh_identity import read_key
from layerferry.ci.ssh_key import keep_in_agent, keep_in_memory
from layerferry.errors import UsageError
from layerferry.processes import child_environment
from layerferry.signing.sshsig import SignedStatement, read_armour
from layerferry.signing.statement import NAMESPACE, Statement, StatementError

#: Seconds for a hand to touch a FIDO key, or to type a passphrase.
_PATIENCE = 120.0
_SHOWN = 400


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key as ssh-keygen finds it: `path` is the private one's, or the public one's where an agent has the other."""

    path: Path
    environment: Mapping[str, str] = field(repr=False)
    #: What messages call it.
    shown: str

    def sign(self, statement: Statement) -> SignedStatement:
        """Sign a statement; raises `UsageError` where ssh-keygen does not."""
        on_screen = os.isatty(2)  # ssh-keygen asks for a touch there
        try:
            done = subprocess.run(
                ["ssh-keygen", "-q", "-Y", "sign", "-f", str(self.path), "-n", NAMESPACE],
                input=statement.encode(),
                stdout=subprocess.PIPE,
                stderr=None if on_screen else subprocess.PIPE,
                env=dict(self.environment),
                check=False,
                timeout=_PATIENCE,
            )
        except FileNotFoundError:
            raise UsageError(
                "nothing can be signed: there is no ssh-keygen", hint="Install OpenSSH's client."
            ) from None
        except (OSError, subprocess.SubprocessError) as error:
            why = f"cannot be started: {error.strerror}" if isinstance(error, OSError) else "takes too long"
            raise self._failed(f"ssh-keygen {why}") from None
        if done.returncode:
            lines = (done.stderr or b"").decode(errors="replace").strip().splitlines()
            raise self._failed(lines[-1][:_SHOWN] if lines else f"ssh-keygen ended with status {done.returncode}")
        try:
            return SignedStatement(statement, read_armour(done.stdout))
        except StatementError as error:
            raise self._failed(str(error)) from None

    def _failed(self, why: str) -> UsageError:
        return UsageError(
            f"{self.shown} does not sign: {why}",
            hint="Give a private key, or the public one or the certificate (-cert.pub) of a key that the agent has.",
        )


@contextlib.contextmanager
def open_key(value: str, environ: Mapping[str, str], *, setting: str) -> Iterator[SigningKey]:
    """The key in `value`, content or path, until the block ends; raises `UsageError`, which names the setting.

    A file that has no private key, or one with a passphrase, is left to ssh-keygen, which asks an agent or a person.
    """
    environment = child_environment(environ, secrets=(value,))
    try:
        text = read_key(value, setting=setting)
    except UsageError:
        if not _is_file(value):
            raise
        yield SigningKey(Path(value).absolute(), environment, setting)
        return
    with contextlib.ExitStack() as stack:
        # Of another form ssh-keygen would want the public key in a file beside it.
        path = keep_in_memory(stack, text.encode()) if "OPENSSH PRIVATE KEY" in text else None
        if path is None:
            socket, key = keep_in_agent(stack, text, environ)
            path, environment = key.with_suffix(".pub"), {**environment, "SSH_AUTH_SOCK": str(socket)}
        yield SigningKey(path, environment, setting)


def _is_file(value: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return Path(value).is_file()
    return False
