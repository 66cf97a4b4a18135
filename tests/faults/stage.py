"""Where a push is broken: each kind of end with a line before it, and eyes for what is there and what was left.

A stage has a station, where the push is held until something has happened to it, and hands to make that happen.
"""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from subprocess import Popen

from engines.lock import Lock
from engines.moments import Gate, wrapped
from engines.test_push_scene import APP, Scene, look, our_ssh, running
from faults.line import Line
from rig.images import digest_of
from rig.processes import Process, children, started_at, wait_until

#: Stations of a push, and what the target's engine is about to do there. `connecting` and `sending` are the line's.
GATES = {
    "asking": "list",
    "loading": "load",
    "loaded": "loaded",
    "verifying": "verify",
    "naming": "tag",
    "tidying": "drop",
}
#: What a registry is about to be sent.
WORDS = {"asking": b"/v2/", "naming": b"PUT /v2/push-test/app/manifests/1 "}
#: Bytes up before the line is held in `sending`: a handshake of ssh and the script are 20 kB.
MIDDLE = 1_000_000
#: Bytes of the image's new layer, of noise: more than all pipes between here and there hold.
NEW = 12_000_000
#: The same, and more than a push has read of its source then, which its compressors hold; no part of it is kept.
UNREAD = 30_000_000
#: What podman leaves of itself where it is killed.
_PODMANS = re.compile(r"(/var)?/tmp/(podman|docker-tar|storage)[0-9]*")
OTHER = "push-test/other:1"


class Held:
    """A push that is held at a station: wait until it is there, let it go on."""

    def __init__(self, wait: Callable[[], None], go_on: Callable[[], None]) -> None:
        self.wait = wait
        self.go_on = go_on


class Stage:
    """A source, a line, and at its end an engine's host."""

    #: Whether an engine gives images their names, so that it can die, hang or be pruned.
    has_engine = True

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene = scene
        self.folder = folder
        self.target = scene.target
        self.line: Line | None = None
        #: Further words of the command, and environment.
        self.words: list[str] = []
        self.environment: dict[str, str] = {}
        #: What stands before the command.
        self.before: list[str] = []
        self.retries = 0
        #: Whether the push has a second target, which is the first by another name.
        self.twice = False
        #: Whether ssh is to notice within seconds that its line is dead, and not within a minute.
        self.hurried = True
        self.process: Popen[bytes] | None = None
        #: Processes that wait until they are resumed.
        self.stopped: list[Process] = []

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.line is not None:
            self.line.close()

    # The images.

    def old(self) -> None:
        """Put an old image under the name that the new one is to get."""
        shop = self.scene.rig.workshop
        image = shop.image([self.scene.layer(name="old")])
        self.target.load(shop.archive({f"docker.io/{APP}": image}))
        self.target.load(shop.archive({f"docker.io/{OTHER}": shop.image([self.scene.layer(name="other")])}))

    def new(self, size: int = NEW) -> None:
        """Put the new image on the source: a small layer, and one of so many bytes."""
        self.scene.load([self.scene.layer(name="base"), self.scene.layer(size, name="new")])

    def base(self) -> None:
        """Put the new image's first layer there, in an image of its own."""
        shop = self.scene.rig.workshop
        base = shop.image([self.scene.layer(name="base")])
        self.target.load(shop.archive({"docker.io/push-test/base:1": base}))

    def shown(self) -> list[str]:
        """The diff IDs of the image under the name, as the end shows it."""
        return self.target.diff_ids(APP)

    # The push.

    @property
    def port(self) -> int:
        """Where the line leads to."""
        assert self.target.sshd is not None
        return self.target.sshd.port

    def target_words(self) -> list[str]:
        hurried = ["ServerAliveInterval=1", "ServerAliveCountMax=3"] if self.hurried else []
        second = ["--to", self._alias("-too")] if self.twice else []
        return ["--to", self._alias(), *second, *(word for option in hurried for word in ("--ssh-option", option))]

    def _alias(self, more: str = "") -> str:
        assert self.line is not None
        alias = f"line-{self.line.port}{more}"
        self.scene.rig.ssh.add_host(alias, "127.0.0.1", self.line.port)
        return alias

    @contextmanager
    def at(self, station: str, rate: float = 0.0) -> Iterator[Held]:
        """Hold the push that is started in this context at `station`; none is one that is not held."""
        if station == "connecting":
            self.line = Line(self.port, at=0, rate=rate)
        elif station == "sending":
            self.line = Line(self.port, at=MIDDLE, rate=rate)
        else:
            self.line = self._line(station, rate)
        if station in {"connecting", "sending"} or not self._gated(station):
            yield Held(partial(_arrive, self.line, station), self.line.go_on)
            return
        gate = self._gate()
        with gate.at(GATES[station]):
            yield Held(gate.wait, gate.open)

    def _line(self, station: str, rate: float) -> Line:
        return Line(self.port, rate=rate)

    def _gated(self, station: str) -> bool:
        return station in GATES

    def _gate(self) -> Gate:
        return Gate(self.target)

    def start(self, limits: Mapping[str, float] | None = None) -> Popen[bytes]:
        """Start the push; with smaller bounds of `layerferry.oci.limits`."""
        hurried = [sys.executable, str(Path(__file__).with_name("hurried.py"))]
        command = hurried if limits else [str(Path(sys.executable).with_name("layerferry"))]
        environment = self.scene.rig.environment | self.scene.layerferry.source_environment(self.scene.source)
        environment |= {"LAYERFERRY_RETRIES": str(self.retries), "RIG_LIMITS": json.dumps(limits or {})}
        self.process = Popen(
            [*self.before, *command, "push", APP, *self.target_words(), *self.words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment | self.environment,
            cwd=self.scene.rig.home,
            process_group=0,
        )
        return self.process

    # What is left.

    def seen(self) -> dict[str, object]:
        """All that a push may leave: at the end, and on this side."""
        return {
            "target": look(self.target),
            "runs": frozenset(running(self.target)),
            "source": look(self.scene.source),
        }

    def names(self) -> dict[str, str]:
        return self.target.images()

    def left(self, before: dict[str, object]) -> list[str]:
        """What is there of ours, and should not be: names, processes, files."""
        names = [name for name in self.names() if "layerferry" in name]
        names += [f"{name} on the source" for name in self.scene.source.images() if "layerferry" in name]
        files = set(look(self.target)["files"]) - set(before["target"]["files"])  # type: ignore[index]
        files = {file for file in files if not _PODMANS.match(file)}
        lines = self.target.machine.processes()
        runs = [lines.get(pid, "") for pid in running(self.target) - before["runs"]]  # type: ignore[operator]
        return [*names, *files, *runs, *our_ssh(self.scene.rig), *self.scene.rig.left_behind()]

    # Hands.

    def ssh(self) -> list[Process]:
        """The push's own ssh."""
        assert self.process is not None
        return [_process(pid) for pid in _descendants(self.process.pid) if _words(pid)[0].endswith("ssh")]

    def session(self) -> list[Process]:
        """sshd's part of our session."""
        assert self.target.sshd is not None
        lines = self.target.machine.processes().items()
        found = [pid for pid, line in lines if line.startswith(("sshd: ", "sshd-session:"))]
        return [_process(pid) for pid in found if pid != self.target.sshd.process.pid]

    def script(self) -> list[Process]:
        """The shell that holds the conversation; not its watch, and not the one above both."""
        tops = [pid for pid in self._shells() if not _is_shell(_parent(pid))]
        inner = [pid for top in tops for pid in children(top) if _is_shell(pid)]
        # The watch has no children but what it has just started.
        return [_process(pid) for pid in inner if any(map(children, [pid]))][:1]

    def _shells(self) -> list[int]:
        return [pid for pid, line in self.target.machine.processes().items() if line.startswith("sh -c d() {")]

    def engine(self) -> list[Process]:
        if self.target.kind.program == "podman":  # it has no daemon: what loads is the engine
            lines = self.target.machine.processes().items()
            return [_process(pid) for pid, line in lines if line.startswith(("podman ", "/usr/bin/podman "))]
        return list(self.target.daemons)

    def restart(self) -> None:
        """Start an engine that was killed."""
        if self.target.kind.program != "podman":
            self.target.stop()
            self.target.machine.run("sh", "-c", "rm -f /run/docker.pid /var/run/docker.pid")
            self.target.start()

    @contextmanager
    def quick_ticks(self) -> Iterator[None]:
        """On the target 10 s are 0.2 s: what its watch counts."""
        text = '#!/bin/sh\ncase $1 in 10) exec /bin/sleep 0.2 ;; esac\nexec /bin/sleep "$@"\n'
        self.target.machine.write("/usr/local/bin/sleep", text, mode=0o755)
        try:
            yield
        finally:
            self.target.machine.run("rm", "/usr/local/bin/sleep")


class Receiver(Stage):
    """A host whose key leads to the receiver alone."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        super().__init__(scene, folder)
        self.lock = Lock(folder, scene.rig, scene.target)
        self.allow()

    def allow(self, *policy: str) -> None:
        self.lock.allow("--allow", "push-test/*:*", *policy)

    def close(self) -> None:
        super().close()
        self.lock.stop()

    @property
    def port(self) -> int:
        return self.lock.port

    def _gate(self) -> Gate:
        return Gate(self.target, partial(wrapped, program=self.target.kind.program))

    def session(self) -> list[Process]:
        found = _descendants(self.lock.sshd.pid)
        return [_process(pid) for pid in found if _words(pid)[0].startswith(("sshd: ", "sshd-session:"))]

    def script(self) -> list[Process]:
        found = _descendants(self.lock.sshd.pid)
        return [_process(pid) for pid in found if "receive" in _words(pid)[1:] and "python" in _words(pid)[0]][:1]

    @contextmanager
    def quick_ticks(self) -> Iterator[None]:
        self.allow("--idle", "6")
        yield

    def left(self, before: dict[str, object]) -> list[str]:
        here = [" ".join(_words(pid)) for pid in _descendants(self.lock.sshd.pid)]
        return super().left(before) + here


class RegistryEnd(Stage):
    """A registry, without ssh."""

    has_engine = False

    def __init__(self, scene: Scene, folder: Path) -> None:
        super().__init__(scene, folder)
        self.registry = scene.registry()

    @property
    def port(self) -> int:
        return self.registry.port

    def target_words(self) -> list[str]:
        assert self.line is not None
        hosts = ["127.0.0.1", *(["localhost"] if self.twice else [])]
        return [word for host in hosts for word in ("--to", f"registry:http://{host}:{self.line.port}")]

    def old(self) -> None:
        shop = self.scene.rig.workshop
        self.registry.push(APP, shop.image([self.scene.layer(name="old")]))

    def shown(self) -> list[str]:
        manifest = self.registry.get(f"/v2/push-test/app/manifests/{APP.rpartition(':')[2]}")
        config = json.loads(manifest)["config"]["digest"]
        data = self.registry.get(f"/v2/push-test/app/blobs/{config}")
        assert digest_of(data) == config
        return list(json.loads(data)["rootfs"]["diff_ids"])

    def _line(self, station: str, rate: float) -> Line:
        return Line(self.port, word=WORDS.get(station, b""), rate=rate)

    def _gated(self, station: str) -> bool:
        return False

    def names(self) -> dict[str, str]:
        return dict.fromkeys(self.registry.repositories, "")

    def ssh(self) -> list[Process]:
        return []

    @contextmanager
    def quick_ticks(self) -> Iterator[None]:
        yield


def _arrive(line: Line, station: str) -> None:
    wait_until(line.reached.is_set, f"the push does not come to {station}", seconds=60)


def _process(pid: int) -> Process:
    return Process(pid, started_at(pid) or 0)


def _descendants(pid: int) -> list[int]:
    """The processes that any thread of a process has started, and theirs."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, file.read_text().split())
    return [*found, *(below for each in found for below in _descendants(each))]


def _words(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return words if words[0] else [""]
    return [""]


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _is_shell(pid: int) -> bool:
    return _words(pid)[:2] == ["sh", "-c"]


STAGES: Mapping[str, Callable[[Scene, Path], Stage]] = {
    "command": Stage,
    "api": Stage,
    "ctr": Stage,
    "receiver": Receiver,
    "registry": RegistryEnd,
}
