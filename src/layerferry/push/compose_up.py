"""Services of a compose file on a target's docker: the job's own compose, at a socket that leads there through ssh."""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final, Self

from layerferry import log
from layerferry.errors import FollowError, LayerferryError, TargetError
from layerferry.oci import limits
from layerferry.process_socket import Piped, last_line
from layerferry.processes import child_environment
from layerferry.result import BroughtUp
from layerferry.targets import docker_dial
from layerferry.targets.conduit import Conduit
from layerferry.targets.docker_dial import DIAL
from layerferry.targets.engine_choice import TargetEngine
from layerferry.targets.greeting import Greeting
from layerferry.temporary import socket_folder

#: Variables that would lead compose to another engine than the target's.
_LEADING: Final = frozenset(
    {"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION"}
)
#: Seconds from one look whether all still stands to the next, and until a group of processes that was ended is killed.
_LOOK: Final = 0.2
_PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Project:
    """A compose file: the words that begin each command about it, those of its services that are wanted, and all.

    `environ` is the job's environment, which the file's variables come from.
    """

    words: tuple[str, ...]
    wanted: tuple[str, ...]
    services: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)

    @property
    def title(self) -> str:
        """What is done, in a few words."""
        return f"compose up: {', '.join(self.wanted or self.services)}"

    def environment(self, host: str) -> dict[str, str]:
        """The environment of compose, without our secrets; `host` is its DOCKER_HOST."""
        clean = child_environment(self.environ)
        return {**{name: value for name, value in clean.items() if name not in _LEADING}, "DOCKER_HOST": host}


def dial(conduit: Conduit, greeting: Greeting, engine: str) -> list[str]:
    """The words that lead to the target's docker; raises `TargetError` where they would not, before anything is sent.

    `engine` is the wanted one, as `--engine` says it.
    """
    wanted = conduit.engine or engine
    if greeting.engine != "docker":
        raise TargetError(f"{conduit.name} has {greeting.engine}, and --up needs docker", hint="Leave --up out.")
    if wanted and TargetEngine.parse(wanted).user:
        raise TargetError(
            f"{conduit.name}: --up reaches docker as the user who logs in, and not through sudo",
            hint="Log in as a user who may use docker, or use --then.",
        )
    words = conduit.beside(DIAL)
    if not words:
        raise TargetError(f"{conduit.name} is not reached through ssh, which --up needs", hint="Leave --up out.")
    version = _ask(conduit.name, words, "/version").get("Version")
    # What we have of the greeting are the characters of a `Word` alone.
    if not isinstance(version, str) or version.partition("+")[0] != greeting.version.partition("+")[0]:
        raise TargetError(
            f"{conduit.name}: `docker` there leads to another engine than the one that gets the images",
            hint="Look at its `docker context ls`, and DOCKER_HOST.",
        )
    return words


def _ask(target: str, words: Sequence[str], path: str) -> dict[str, Any]:
    """The object that the docker at the end of `words` answers; raises `TargetError`."""
    found, said = docker_dial.ask(target, words, path)
    if found is None:
        raise TargetError(
            f"{target}: `{DIAL}`, which --up needs, does not answer{f': {said}' if said else ''}",
            hint="The user who logs in has to be one who may use docker there.",
        )
    return found


class EngineSocket:
    """A socket in a private folder; each connection to it is a connection to the docker at the end of some words."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._folder, trouble = socket_folder(error=FollowError)
        self._lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        #: The last words of a connection that ended.
        self.said = ""
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(f"{self._folder.name}/s")
            self._listener.listen()
        except OSError as error:
            self._listener.close()
            self._folder.cleanup()
            why = trouble or error.strerror
            raise FollowError(f"--up needs a socket: {why}", hint="Set TMPDIR to a folder that can hold one.") from None
        self._start(self._accept)

    @property
    def host(self) -> str:
        return f"unix://{self._folder.name}/s"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End all connections, and remove the socket."""
        with self._lock:
            self._closed = True
            ends = [self._listener, *self._ends]
        for end in ends:
            _shut(end)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self._folder.cleanup()

    def _start(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        while not self._closed:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            if self._closed or len(self._ends) >= 2 * limits.DIALLED:
                ours.close()
            else:
                self._start(self._carry, ours)

    def _carry(self, ours: socket.socket) -> None:
        """Carry the bytes of one connection both ways, until the engine's end has closed."""
        try:
            with ours:
                piped = Piped(self._words)
                with piped.socket as theirs:
                    with self._lock:
                        self._ends |= {ours, theirs}
                        if self._closed:
                            _shut(theirs)
                    up = self._start(_pump, ours, theirs)
                    _pump(theirs, ours)
                    _shut(ours)
                    up.join()
                    with self._lock:
                        self._ends -= {ours, theirs}
        except OSError as error:
            self.said = error.strerror or str(error)
        else:
            self.said = last_line(piped.end()) or self.said


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes one way until their end, and hand that on."""
    with contextlib.suppress(OSError):
        while data := source.recv(limits.LINE):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class _Container:
    """A container, as compose tells of it."""

    id: str
    state: str
    health: str


class ComposeUp:
    """Compose, bringing up a project on a target."""

    def __init__(self, conduit: Conduit, words: Sequence[str], project: Project, seconds: float) -> None:
        """`words` lead to the docker that the images went to, through the conduit; `seconds` may compose take."""
        self._target = conduit.name
        self._conduit = conduit
        self._words = words
        self._project = project
        self._seconds = seconds
        self._until = 0.0
        #: What became of each service.
        self.services: tuple[BroughtUp, ...] = ()

    def run(self, image_ids: Sequence[str], told: Callable[[str], None]) -> None:
        """Bring up the services of images with these IDs there, and look what they have become.

        `told` hears what compose says. Raises `FollowError`, and `TargetError` where the docker there is another one.
        """
        self._until = time.monotonic() + self._seconds
        for image_id in dict.fromkeys(image_ids):
            _ask(self._target, self._words, f"/images/{image_id}/json")
        with EngineSocket(self._words) as way:
            before = self._look(way)
            # What was pushed is there under its names: only what the job has not is missing.
            up = ("up", "--detach", "--no-build", "--wait", "--pull", "missing", *self._project.wanted)
            log.command("! compose", [*self._project.words, *up])
            status = self._run(way, up, told, quiet=False)
            if not self._conduit.ended:
                self._until = max(self._until, time.monotonic() + limits.COMPOSE)
                self.services = tuple(_changes(self._project.services, before, self._look(way)))
            for service in self.services:
                told(f"{service.service}: {service.change}, {service.state}")
        if status != 0:
            ended = f"did not end within {self._seconds:g} s" if status is None else f"ended with status {status}"
            because = f" ({way.said[: limits.SHOWN]})" if way.said else ""
            raise FollowError(f"{self._target}: the image is there, but `docker compose up` {ended}{because}")

    def _look(self, way: EngineSocket) -> dict[str, list[_Container]]:
        """The containers of each service; none where compose does not say."""
        said: list[str] = []
        left = limits.OUTPUT

        def hear(line: str) -> None:
            nonlocal left
            if (left := left - len(line) - 1) > 0:
                said.append(line)

        self._run(way, ("ps", "--all", "--format", "json"), hear, quiet=True)
        found: dict[str, list[_Container]] = {}
        with contextlib.suppress(ValueError, RecursionError):
            text = "".join(said)
            # A list before compose 2.21, lines since then.
            listed = json.loads(text) if text.startswith("[") else [json.loads(line) for line in said if line]
            for container in listed:
                if isinstance(container, dict) and container.get("Service") in self._project.services:
                    one = _Container(*(str(container.get(name) or "") for name in ("ID", "State", "Health")))
                    found.setdefault(container["Service"], []).append(one)
        return found

    def _run(self, way: EngineSocket, words: Sequence[str], told: Callable[[str], None], *, quiet: bool) -> int | None:
        """Run compose; its status, None where its time was over. Nothing of it is left behind, whatever happens."""
        try:
            process = subprocess.Popen(
                [*self._project.words, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL if quiet else subprocess.STDOUT,
                env=self._project.environment(way.host),
                start_new_session=True,
            )
        except OSError as error:
            raise FollowError(f"{self._project.words[0]} cannot be started: {error.strerror}") from None
        lines: queue.Queue[str | None] = queue.Queue(limits.LINES_WAITING)
        over = threading.Event()
        assert process.stdout is not None
        reader = threading.Thread(
            target=_read, args=(process.stdout, lines, over, limits.LINE if quiet else limits.COMPOSE_LINE), daemon=True
        )
        try:
            reader.start()
            return self._hear(process, lines, told)
        finally:
            over.set()
            _end_group(process)
            reader.join(_PATIENCE)

    def _hear(
        self, process: "subprocess.Popen[bytes]", lines: "queue.Queue[str | None]", told: Callable[[str], None]
    ) -> int | None:
        while True:
            if time.monotonic() > self._until:
                return None
            if self._conduit.ended:
                raise FollowError(f"{self._target}: the connection has gone while compose brought its services up")
            # Who has inherited its output may hold it open.
            gone = process.poll() is not None
            try:
                line = lines.get(timeout=_LOOK)
            except queue.Empty:
                line = None if gone else ""
                if not gone:
                    continue
            if line is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(max(_LOOK, min(_PATIENCE, self._until - time.monotonic())))
                continue
            told(line)


def _read(stream: IO[bytes], lines: "queue.Queue[str | None]", over: threading.Event, most: int) -> None:
    """Let each line, in parts of `most` bytes, wait to be heard, once there is room, until nobody listens."""
    with contextlib.suppress(OSError, ValueError), stream:
        while not over.is_set():
            data = stream.readline(most)
            line = data.decode(errors="replace").rstrip() if data else None
            while not over.is_set():
                with contextlib.suppress(queue.Full):
                    lines.put(line, timeout=_LOOK)
                    break
            if line is None:
                return


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End compose and all that it has started; kill what does not heed that."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)


def _changes(
    services: Sequence[str], before: Mapping[str, Sequence[_Container]], after: Mapping[str, Sequence[_Container]]
) -> "list[BroughtUp]":
    found = []
    for service in services:
        now, then = after.get(service, ()), before.get(service, ())
        if now:
            found.append(BroughtUp(service, _change(then, now), _state(now)))
    return found


def _change(then: Sequence[_Container], now: Sequence[_Container]) -> str:
    if not then:
        return "created"
    if {one.id for one in then} != {one.id for one in now}:
        return "recreated"
    return "unchanged" if all(one.state == "running" for one in then) else "started"


def _state(containers: Sequence[_Container]) -> str:
    """The state that they have in common with the worst of them: `healthy` is better than `running`."""
    known = ("unhealthy", "dead", "exited", "restarting", "paused", "created", "starting", "running", "healthy")
    states = {one.health or one.state for one in containers}
    return next((state for state in known if state in states), "unknown")


def failed(error: LayerferryError, last: Sequence[str], back: str) -> FollowError:
    """The error with what compose has said last, and the way back."""
    lines = ["Compose's last lines:", *last] if last else ["Compose said nothing."]
    again = ["Then let compose bring the services up again."] if back.startswith("The way back") else []
    return FollowError(error.message, hint="\n".join([*lines, back, *again]))
