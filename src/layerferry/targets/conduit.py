"""A conduit: a pair of byte streams to the other side, an ssh process or any other command."""

import contextlib
import os
import queue
import select
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from layerferry import log
from layerferry.ci.escape import beginning
from layerferry.errors import ConnectError, LayerferryError, TargetError
from layerferry.oci import limits
from layerferry.processes import child_environment, end
from layerferry.protocol import PLAIN
from layerferry.settings import environment
from layerferry.targets.ssh_settings import needed, shares
from layerferry.targets.ssh_target import SshTarget
from layerferry.targets.ssh_way import way
from layerferry.temporary import socket_folder

if TYPE_CHECKING:
    from layerferry.targets.backlog import Backlog

#: Reads the preamble, then as many bytes of packed script as it says, and runs them; without a gzip, it asks for a
#: plain one, and passes over all that comes before that. One line, single quotes, no `!` and no backslash: it reads
#: the same in bash, dash, zsh, fish, tcsh and busybox ash.
#: A dd that knows no `fullblock` says so before it reads; then byte by byte, so as not to read more than the script.
BOOTSTRAP = (
    "exec sh -c 'd() { dd bs=${p##* } count=1 iflag=fullblock 2>/dev/null || dd bs=1 count=${p##* } 2>/dev/null; }; "
    'read -r p || exit; command -v gzip >/dev/null && eval "$(d | gzip -dc)" && exit; d >/dev/null; echo; '
    f'echo {PLAIN}; while read -r p; do case $p in ": layerferry"*) eval "$(d)"; exit ;; esac; done\''
)

#: What the machine that we run on is called.
THIS_MACHINE = "this machine"
#: Bytes, all of which must have been taken within `limits.TAKEN`; a pipe of Linux takes as many at once.
_SLICE = 64 << 10
#: Seconds from one look at what the other side says to the next, while it takes nothing.
_GLANCE = 0.1


class SilenceError(ConnectError):
    """The other side has said nothing for as long as we waited."""


class Conduit:
    """A running command whose stdin and stdout speak the conversation."""

    #: The engine that is wanted there, if any: `[USER@]NAME[:NAMESPACE]`.
    engine = ""
    #: Whether the script may follow the preamble at once. A plain `sh` reads ahead of what it runs, so that nothing
    #: may come after the script until it has answered.
    pipelined = False
    #: Whether what the command writes is what it was given, but for the encryption.
    is_ssh = False
    #: Whether the other side is this machine, where no trick is worth its time.
    is_here = False
    #: For a host whose sudo asks for one: a line, or nothing.
    sudo_password = b""

    def __init__(self, name: str, argv: Sequence[str]) -> None:
        self.name = name
        self.sent = 0
        self._argv = tuple(argv)
        #: Lines, and at their end what has ended them: nothing, or more than we read.
        self._lines: queue.Queue[str | LayerferryError | None] = queue.Queue(limits.LINES_WAITING)
        self._stderr = bytearray()
        #: Set once nothing more is said.
        self.closed = threading.Event()
        self._backlog: Backlog | None = None
        #: Whether the other side has said anything.
        self._heard = False
        self._writing = threading.Lock()
        try:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=child_environment(environment()),
                start_new_session=False,
            )
        except (FileNotFoundError, NotADirectoryError):  # the latter where an entry of PATH is a file
            raise ConnectError(
                f"{name}: there is no command {self._argv[0]!r} here", hint=f"Install {self._argv[0]}, or mend PATH."
            ) from None
        except OSError as error:
            raise ConnectError(f"{name}: cannot start {self._argv[0]!r}: {error.strerror}") from None
        self._readers = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(hurry=kind is not None)

    def write(self, data: bytes, meanwhile: Callable[[], None] | None = None) -> None:
        """Send `data`, whole, whatever another thread sends meanwhile.

        `meanwhile` is called now and then while there is no room: who says much may not listen before it is heard.
        Raises `ConnectError` when the other side has gone, or takes nothing for `limits.TAKEN`.
        """
        with self._writing:
            for start in range(0, len(data), _SLICE):
                self._write_slice(memoryview(data)[start : start + _SLICE], meanwhile)

    def _write_slice(self, data: memoryview, meanwhile: Callable[[], None] | None) -> None:
        assert self._process.stdin is not None
        until = time.monotonic() + limits.TAKEN
        while data:
            left, count = until - time.monotonic(), 0
            try:
                descriptor = self._process.stdin.fileno()
                if _writable(descriptor, min(_GLANCE, left)):
                    count = os.write(descriptor, data)
            except BlockingIOError:
                pass  # less room than a whole page
            except (OSError, ValueError):
                raise self.broken() from None
            if not count and left <= 0:
                raise ConnectError(
                    f"{self.name} has taken nothing for {limits.TAKEN:g} s; {self.sent} bytes had gone",
                    hint="See whether it is overloaded, or its disk is; then push again.",
                )
            if not count and meanwhile:
                meanwhile()
            self.sent += count
            data = data[count:]

    @property
    def taken(self) -> int:
        """Bytes of `sent` that have left this machine, as far as that is measured."""
        return self.sent - (self._backlog.held(self.sent) if self._backlog else 0)

    def measure(self) -> None:
        """Measure from now on what has left this machine. All of it has until now."""
        from layerferry.targets.backlog import Backlog  # noqa: PLC0415 - for what takes a while

        assert self._process.stdin is not None
        self._backlog = Backlog(self._process.stdin, self._process.pid if self.is_ssh else None)
        self._backlog.measure(self.sent)

    def read_line(self, timeout: float | None = None) -> str:
        """The next line of the answer; raises `ConnectError` at its end, `SilenceError` after `timeout` seconds."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise SilenceError(f"{self.name} gave no answer within {timeout:g} s") from None
        if isinstance(line, str):
            log.note(f"< {self.name}", line)
            return line
        with contextlib.suppress(queue.Full):  # it is the last, and stays so
            self._lines.put_nowait(line)
        raise line or self.broken()

    @property
    def answered(self) -> bool:
        """Whether a line, or the end, waits to be read."""
        return not self._lines.empty()

    def beside(self, command: str) -> list[str]:
        """The words that run a command on the other side in a session of its own; none where there is no way."""
        del command
        return []

    @property
    def ended(self) -> bool:
        """Whether it was hung up, or its command has ended."""
        return self.closed.is_set() or self._process.poll() is not None

    def reverse(self, port: int) -> int | None:
        """Make our loopback `port` reachable from the other side's; its port there, or None where it cannot be."""
        del port
        return None

    def broken(self) -> Exception:
        """The error that tells why the other side has gone."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return ConnectError(f"{self.name} closed the connection after {self.sent} bytes", transient=True)
        self._readers[1].join(timeout=5)
        if code < 0:
            return ConnectError(f"{self.name}: {self._argv[0]}, here, was ended by signal {-code}")
        return self._explain(code, self._stderr[-limits.SAID :].decode(errors="replace"))

    def _explain(self, code: int, text: str) -> Exception:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
        said = beginning(last.strip(), limits.SHOWN)
        return TargetError(f"{self.name}: {self._argv[0]} ended with status {code}: {said}")

    def close(self, *, hurry: bool = False) -> None:
        """Hang up. The other side sees the end of its input and tidies up; a command that stays is terminated.

        In a hurry it is terminated first: another thread may be writing to it, and closing its input would wait for it.
        """
        assert self._process.stdin is not None
        again = self.closed.is_set()
        self.closed.set()
        if hurry:
            end(self._process)
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            end(self._process)
        for reader in self._readers:
            reader.join(timeout=1)
        if not again:
            log.note(f"! {self.name}", f"ended with status {self._process.returncode}; {self.sent} bytes had gone")

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        last: LayerferryError | None = None
        with self._process.stdout as stream:
            while line := stream.readline(limits.LINE):
                self._heard = True
                if len(line) == limits.LINE and not line.endswith(b"\n"):
                    last = TargetError(f"{self.name} says a line of more than {limits.LINE} bytes")
                    break
                if not self._put(line.decode(errors="replace").rstrip("\r\n")):
                    break
            while not self._put(last):
                # Another thread has hung up, and the one that reads still waits: it is to hear of the end.
                with contextlib.suppress(queue.Full):
                    self._lines.put_nowait(last)
                    break
                with contextlib.suppress(queue.Empty):
                    self._lines.get_nowait()

    def _put(self, line: str | LayerferryError | None) -> bool:
        """Let a line wait to be read, once there is room; not any more once the conduit is closed."""
        while not self.closed.is_set():
            with contextlib.suppress(queue.Full):
                self._lines.put(line, timeout=0.2)
                return True
        return False

    def _read_stderr(self) -> None:
        """Keep the end of it."""
        assert self._process.stderr is not None
        said = log.Lines(f"! {self.name}")
        with self._process.stderr as stream:
            while data := os.read(stream.fileno(), limits.STDERR):
                said.feed(data)
                self._stderr += data
                del self._stderr[: -limits.STDERR]
        said.end()


def _writable(descriptor: int, seconds: float) -> bool:
    """Wait for room in a pipe; also where there will be none, since its reader has gone."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(max(0.0, seconds) * 1000))


class SshConduit(Conduit):
    """The system's OpenSSH client: its config, agent, ProxyJump, known_hosts and ControlMaster are the user's."""

    pipelined = True
    is_ssh = True

    def __init__(
        self,
        target: SshTarget,
        *,
        options: Sequence[str] = (),
        config: Path | None = None,
        interactive: bool = False,
        material: Sequence[str] = (),
        command: str = BOOTSTRAP,
        sudo_password: bytes = b"",
    ) -> None:
        self.sudo_password = sudo_password
        to = way(target, options=options, config=config, interactive=interactive, material=material)
        self._control, trouble = socket_folder(error=ConnectError)
        self._base, self._way = to.words, to
        self._destination = target.destination
        self._needed = needed(to.told)
        self.engine = str(target.engine or "")
        self._forwards: list[str] = []
        socket = f"{self._control.name}/s"
        #: How ssh is told of the shared connection, where it is ours.
        self._socket = [] if shares(to.told) or trouble else ["-S", socket]
        # With ControlPersist, ssh would stay behind.
        master = ["-o", "ControlPersist=no", "-o", "ControlMaster=yes", *self._socket] if self._socket else []
        try:
            argv = [*self._base, *self._needed, *master, "--", target.destination, command]
            log.command(f"! {target}", argv)
            super().__init__(str(target), argv)
        except BaseException:
            self._control.cleanup()
            raise

    def reverse(self, port: int) -> int | None:
        """A remote forward in the same session, asked for when it is needed (ssh(1), `-O forward`).

        The server picks a free port of its loopback, and the client prints it.
        """
        rule = f"127.0.0.1:0:127.0.0.1:{port}"
        answer = self._mux("forward", rule)
        if answer is None or not (answer.isascii() and answer.isdigit() and len(answer) <= len("65535")):
            return None
        self._forwards.append(rule)  # to be cancelled as it was asked for: with port 0
        return int(answer)

    def beside(self, command: str) -> list[str]:
        """Through the same connection, where it is shared, or over one of its own with the same options."""
        return [*self._base, *self._needed, *self._socket, "--", self._destination, command]

    def wait_until_up(self) -> None:
        """Wait for the session of an `exec cat` to answer. Raises `ConnectError`."""
        self.write(b"up\n")
        self.read_line(limits.CONNECTED)

    def _mux(self, verb: str, rule: str) -> str | None:
        try:
            done = subprocess.run(
                [*self._base, *self._socket, "-O", verb, "-R", rule, "--", self._destination],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=10,
                env=child_environment(environment()),
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    def close(self, *, hurry: bool = False) -> None:
        try:
            if not self._socket:  # a forward through the user's own master would outlive us
                for rule in self._forwards:
                    self._mux("cancel", rule)
            super().close(hurry=hurry)
        finally:
            self._control.cleanup()

    def _explain(self, code: int, text: str) -> Exception:
        from layerferry.targets.ssh_failures import explain  # noqa: PLC0415 - for one that fails

        return explain(self.name, code, text, self.taken if self._heard else None, to=self._way)


def command_name(argv: Sequence[str]) -> str:
    """What a command is called in what we show: its program alone, since arguments may be secret."""
    return Path(argv[0]).name


class CommandConduit(Conduit):
    """Any command that leads to `layerferry receive`, or to a plain `sh`, on the other side."""

    def __init__(self, argv: Sequence[str], sudo_password: bytes = b"") -> None:
        self.sudo_password = sudo_password
        log.note(f"! {command_name(argv)}", f"a command with {len(argv) - 1} arguments, which may be secret")
        super().__init__(command_name(argv), argv)


class LocalConduit(Conduit):
    """A `sh` on this machine: its engine is a target as any other."""

    is_here = True

    def __init__(self) -> None:
        super().__init__(THIS_MACHINE, ["sh"])

    def reverse(self, port: int) -> int:
        return port
