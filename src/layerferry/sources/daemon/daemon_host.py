"""The host of a docker daemon that images are pulled from: one ssh session, and all that is said to the daemon in it.

It is reached, and its engine is found, as a target's is. Each connection to the daemon is a session within that one.
"""

import contextlib
import time
from collections.abc import Iterator

from layerferry.errors import SourceError, TargetError
from layerferry.oci import limits
from layerferry.process_socket import Piped
from layerferry.targets import docker_dial
from layerferry.targets.conduit import Conduit
from layerferry.targets.conversation import Conversation
from layerferry.targets.greeting import Greeting

#: The words for a docker of this user's, of his own that stands at its usual socket, and of root's. A POSIX sh reads
#: them, within single quotes.
_PLAIN = "docker"
_ROOTLESS = 'docker --host "unix://${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/docker.sock"'
_SUDO = "sudo -n docker"
#: Seconds until an ssh whose line has broken has ended, too.
_ENDS = 2.0


class DaemonHost:
    """A host, and the words for its docker. Raises `ConnectError`, and `SourceError` where there is no way to one."""

    def __init__(self, conduit: Conduit) -> None:
        self._conduit = conduit
        self.name = conduit.name
        try:
            conversation = Conversation(conduit, dry_run=True)
            conversation.ask(())
            greeting = conversation.greeting()
        except TargetError as error:
            raise SourceError(error.message, hint=error.hint, transient=error.transient) from error
        if greeting.engine != "docker":
            raise SourceError(
                f"{self.name} has {greeting.engine}, and images are pulled out of docker alone",
                hint=f"`ssh {self.name} {greeting.engine} save NAME | docker load` brings all of it."
                if greeting.engine in {"podman", "nerdctl"}
                else "Push it from there, or pull it from the registry that it came from.",
            )
        self._docker = self._find(greeting)

    def _find(self, greeting: Greeting) -> str:
        """The words that lead to the very docker that has greeted us."""
        rootless, said = greeting.owner not in {"", "root"}, ""
        for docker in (_PLAIN, _ROOTLESS if rootless else _SUDO):
            found, last = docker_dial.ask(self.name, self._words(docker), "/info")
            if found is not None and _is(found, greeting, rootless=rootless):
                return docker
            said = said or last
        raise SourceError(
            f"{self.name}: `{docker_dial.DIAL}` there does not lead to its docker{f': {said}' if said else ''}",
            hint="The user who logs in has to be one who may use docker there, by `sudo -n` at the least.",
        )

    def _words(self, docker: str) -> list[str]:
        return self._conduit.beside(f"exec sh -c '{docker} system dial-stdio'")

    @property
    def words(self) -> list[str]:
        """The command line whose stdin and stdout are a connection to the daemon."""
        return self._words(self._docker)

    def reverse(self, port: int) -> int | None:
        """Make our loopback `port` reachable from the daemon's; its port there, or None where it cannot be."""
        return self._conduit.reverse(port)

    def broken(self, *, patient: bool) -> Exception | None:
        """The error of the line, where it is that which has broken; a `patient` look waits for ssh to notice."""
        until = time.monotonic() + (_ENDS if patient else 0)
        while not self._conduit.ended:
            if time.monotonic() > until:
                return None
            time.sleep(0.05)
        return self._conduit.broken()

    @contextlib.contextmanager
    def guarding(self, name: str) -> Iterator[None]:
        """Let the host itself take `name` away, if it is still there when the line has broken, or we are gone.

        Raises `SourceError`, before the daemon was told anything.
        """
        command = f'echo up; read -r l; [ "$l" = gone ] || {self._docker} image rm --no-prune {name} >/dev/null 2>&1'
        piped = Piped(self._conduit.beside(f"exec sh -c '{command}'"), limits.CONNECTED)
        try:
            if not piped.socket.recv(1):
                raise SourceError(
                    f"{self.name} starts no further session", hint="Look at MaxSessions in its sshd_config."
                )
            yield
            with contextlib.suppress(OSError):
                piped.socket.sendall(b"gone\n")
        except OSError as error:
            raise self.broken(patient=True) or SourceError(
                f"{self.name} does not answer: {error}", transient=True
            ) from None
        finally:
            piped.socket.close()
            piped.failed(limits.LAST_WORDS)
            piped.end()


def _is(found: dict[str, object], greeting: Greeting, *, rootless: bool) -> bool:
    """Whether a docker, by its `info`, is the one of the greeting, which has the characters of a `Word` alone."""
    version, security = found.get("ServerVersion"), found.get("SecurityOptions")
    same = isinstance(version, str) and version.partition("+")[0] == greeting.version.partition("+")[0]
    return same and ("name=rootless" in str(security)) is rootless
