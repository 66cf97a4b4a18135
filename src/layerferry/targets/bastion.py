"""A host that lets TCP connections through: one ssh session, and in it an `ssh -W` for each connection.

No port is opened, on either side, and no command runs on the bastion, so that a user without a shell will do. The
session is a ControlMaster in the background (ssh(1), `-f -N -M`) with a socket in a private folder. It ends with us;
where we are killed, some time after the last connection has (ssh_config(5), ControlPersist).
"""

import contextlib
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from layerferry import log
from layerferry.errors import ConnectError, LayerferryError
from layerferry.processes import child_environment
from layerferry.settings import environment
from layerferry.targets.ssh_failures import explain, explain_forward
from layerferry.targets.ssh_settings import needed
from layerferry.targets.ssh_target import SshTarget
from layerferry.targets.ssh_way import way
from layerferry.temporary import NO_SOCKETS, socket_folder

_PERSIST = 60
_PATIENCE = 5
_FAILED = 255


class Bastion:
    """The session, which starts at once. What fails is raised by `command`."""

    def __init__(
        self,
        target: SshTarget,
        *,
        options: Sequence[str] = (),
        config: Path | None = None,
        interactive: bool = False,
        material: Sequence[str] = (),
    ) -> None:
        self.name = str(target)
        self.closed = False
        to = way(target, options=options, config=config, interactive=interactive, material=material)
        self._base, self._way, self._needed = to.words, to, needed(to.told)
        self._destination = target.destination
        self._folder, trouble = socket_folder(error=ConnectError)
        self._log = Path(self._folder.name, "log")
        self._socket = Path(self._folder.name, "s")
        self._master: subprocess.Popen[bytes] | None = None
        try:
            # Where the user's own ssh_config shares a connection that is up, ours would be one too many.
            if self._control("check") is None:
                self._start(trouble)
        except BaseException:
            self._folder.cleanup()
            raise

    def _start(self, trouble: str) -> None:
        if trouble:
            raise ConnectError(f"no session to {self.name} can be shared: {trouble}", hint=NO_SOCKETS)
        ours = [f"ControlPersist={_PERSIST}", "ControlMaster=yes", "ClearAllForwardings=yes", "LogLevel=INFO"]
        words = [*self._base, "-S", str(self._socket), "-f", "-N", "-E", str(self._log)]
        for option in ours:
            words += ["-o", option]
        words += self._needed
        log.command(f"! {self.name}", [*words, "--", self._destination])
        try:
            with self._log.open("ab") as said:  # what it says of its options does not go where -E says
                self._master = subprocess.Popen(
                    [*words, "--", self._destination],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    env=child_environment(environment()),
                )
        except OSError as error:
            raise ConnectError(
                f"{self.name}: cannot start 'ssh': {error.strerror}", hint="Install ssh, or mend PATH."
            ) from None

    def command(self, host: str, port: int) -> list[str]:
        """The command line whose stdin and stdout are a connection. Raises `ConnectError` where there is no session."""
        if self.closed:
            raise ConnectError(f"the connection to {self.name} was closed")
        shared = []
        if self._master is not None:
            if code := self._master.wait():  # it goes to the background once it is let in
                raise explain(self.name, _FAILED if code < 0 else code, self._said(), to=self._way)
            shared = ["-o", "ControlMaster=no", "-S", str(self._socket)]
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return [*self._base, *self._needed, *shared, "-W", where, "--", self._destination]

    def failure(self, host: str, port: int, said: str) -> LayerferryError:
        """Why a connection was not made: where there is a session, its log knows, and the client only hears that."""
        return explain_forward(self.name, f"{host}:{port}", f"{self._said()}\n{said}")

    def _said(self) -> str:
        with contextlib.suppress(OSError):
            return self._log.read_text(errors="replace")
        return ""

    def close(self, *, hurry: bool = False) -> None:
        """End the session and every connection in it."""
        del hurry
        log.note(f"! {self.name}", f"said: {self._said()}")
        self.closed = True
        if self._master is not None:
            if self._master.poll() is None:
                self._master.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._master.wait(_PATIENCE)
            if self._socket.exists():
                self._control("exit", "-S", str(self._socket))
                deadline = time.monotonic() + _PATIENCE
                while self._socket.exists() and time.monotonic() < deadline:
                    time.sleep(0.01)
            self._master = None
        self._folder.cleanup()

    def _control(self, verb: str, *words: str) -> str | None:
        """Tell a session in the background something; what it answers, or None where there is none."""
        try:
            done = subprocess.run(
                [*self._base, *words, "-O", verb, "--", self._destination],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=_PATIENCE,
                env=child_environment(environment()),
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stderr if done.returncode == 0 else None
