"""One rig: a folder of its own, and in it any number of engines, registries and the ssh configuration to reach them."""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rig import packages
from rig.containerd import Containerd
from rig.engine import Engine, Listen
from rig.images import Workshop
from rig.kinds import BARE, KINDS, THIS_MACHINE, Kind
from rig.machine import Machine
from rig.processes import Ledger, Process, RigError
from rig.registry import Registry, start_hidden_registry, start_registry
from rig.ssh import SshClient


def cannot_run() -> str:
    """Why engines cannot run on this machine, in one sentence; empty when they can."""
    if not sys.platform.startswith("linux"):
        return "Real engines need Linux."
    if os.geteuid() != 0:
        return "Real engines need root, for mount and process namespaces."
    if not shutil.which("apt-get"):
        return "Real engines come out of Debian packages, and there is no apt-get here."
    trial = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private", "mount", "-t", "tmpfs", "rig", "/mnt"]
    if subprocess.run(trial, capture_output=True, check=False).returncode:
        return "Real engines need the right to mount and to unshare, which this root does not have."
    return ""


class Rig:
    """Everything that one test run, or one person, has started. `down` ends it and leaves nothing.

    With `guard`, a watcher process takes the rig down as soon as this process is gone, however it went.
    """

    def __init__(self, state: Path | None = None, *, guard: bool = True) -> None:
        temporary = os.environ.get("TMPDIR", "/var/tmp")
        self.state = (state or Path(tempfile.mkdtemp(prefix="layerferry-rig-", dir=temporary))).resolve()
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ledger = Ledger(self.state / "ledger")
        self._lock = threading.Lock()
        self._engines: dict[str, Engine] = {}
        self._machines: list[Machine] = []
        self._registries = 0
        self._guard = self._start_guard() if guard else None
        packages.install(packages.SSH)
        self.ssh = SshClient(self.state / "ssh")
        self.workshop = Workshop(self.state / "images")

    def _start_guard(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(Path(__file__).parent), "guard", "--state", str(self.state)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def engine(
        self,
        kind: str,
        *,
        name: str = "",
        listen: Listen = "unix",
        isolated: bool = False,
        rate: str | None = None,
        beside: Machine | None = None,
        ssh: bool = True,
        sshd_options: Sequence[str] = (),
        sshd_environment: Mapping[str, str] | None = None,
    ) -> Engine:
        """The engine `name` (by default the kind's name), started when it is asked for the first time.

        `kind` is a key of `KINDS`, or `this-machine` for the docker that this machine has, whichever it is.
        `listen` adds a tcp port, with or without TLS. A `rate` such as `10mbit` gives its machine a network of its
        own that is so quick each way; `isolated` one without a limit; `beside` that of another machine.
        """
        name = name or kind
        with self._lock:
            if name in self._engines:
                return self._engines[name]
        chosen = kind_of(kind)
        lower = packages.suite_root(chosen.suite) if chosen.suite else packages.machine_root()
        machine = Machine(name, self.state / name, self._ledger)
        machine.start(lower, isolated=isolated, rate=rate, beside=beside)
        with self._lock:
            self._machines.append(machine)
            self._record(machine, kind)
        room = Containerd if chosen.name in BARE else Engine
        engine = room(name, chosen, machine, self.ssh, listen)
        engine.start()
        if ssh:
            engine.open_ssh(options=sshd_options, environment=sshd_environment)
        self._engines[name] = engine
        return engine

    def engines(self, kinds: Iterable[str]) -> list[Engine]:
        """Engines of several kinds, all started at the same time."""
        names = list(kinds)
        packages.prepare(KINDS[name].suite for name in names)
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self.engine, names))

    def registry(self, *, user: str = "", password: str = "") -> Registry:
        """A new, empty registry on 127.0.0.1."""
        packages.install(("docker-registry",))
        self._registries += 1
        return start_registry(self.state / f"registry-{self._registries}", self._ledger, user=user, password=password)

    @functools.cached_property
    def common_registry(self) -> Registry:
        """One for all that need none of their own: who pushes to it takes a repository of his own."""
        return self.registry()

    def hidden_registry(
        self,
        machine: Machine,
        host: str = "localhost",
        *,
        user: str = "",
        password: str = "",
        encrypted: bool = False,
        mirrored: Registry | None = None,
    ) -> Registry:
        """A new, empty registry that only `machine`, which has a network of its own, reaches.

        With `mirrored`, it is a pull-through mirror of another such registry, which is encrypted and has a name.
        """
        packages.install(("docker-registry",))
        self._registries += 1
        state = self.state / f"registry-{self._registries}"
        return start_hidden_registry(
            state, self._ledger, machine, host, user=user, password=password, encrypted=encrypted, mirrored=mirrored
        )

    @property
    def environment(self) -> dict[str, str]:
        """For processes that are to reach the rig's hosts: an `ssh` that knows them, and nothing of the caller's."""
        return {
            "PATH": f"{self.ssh.bin}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.scratch),
            "XDG_CACHE_HOME": str(self.cache),
            "LAYERFERRY_RETRIES": "0",  # what fails is to be seen; tests of further tries say how many
        }

    @property
    def home(self) -> Path:
        return self._folder("home")

    @property
    def scratch(self) -> Path:
        """The temporary folder of processes with `environment`: what they leave behind is found here."""
        return self._folder("scratch")

    @property
    def cache(self) -> Path:
        """Where processes with `environment` keep what they know of blobs: nothing of it lies in `home`."""
        return self._folder("cache")

    def _folder(self, name: str) -> Path:
        folder = self.state / name
        folder.mkdir(exist_ok=True)
        return folder

    def left_behind(self) -> list[str]:
        """What a process that ended should have removed here; empty when all is well."""
        return sorted(str(path.relative_to(self.scratch)) for path in self.scratch.rglob("*"))

    def _record(self, machine: Machine, kind: str) -> None:
        row = {"name": machine.name, "kind": kind, "pid": machine.init.pid, "started": machine.init.started}
        with (self.state / "machines").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def down(self) -> None:
        """End every process, by its pid, and remove the folder. Safe to call twice."""
        take_down(self.state, self._ledger)
        if self._guard and self._guard.stdin:
            self._guard.stdin.close()
            self._guard.wait(timeout=30)
            self._guard = None


def kind_of(name: str) -> Kind:
    kinds = {**KINDS, THIS_MACHINE.name: THIS_MACHINE}
    if name not in kinds:
        raise RigError(f"no kind of engine is called {name}: choose from {', '.join(kinds)}")
    return kinds[name]


def machines_of(state: Path) -> Iterator[Machine]:
    """The machines that a rig with this folder has started, whichever process did."""
    for row in records(state):
        machine = Machine(row["name"], state / row["name"], Ledger(state / "ledger"))
        machine.adopt(Process(row["pid"], row["started"]))
        yield machine


def records(state: Path) -> list[dict[str, Any]]:
    file = state / "machines"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def take_down(state: Path, ledger: Ledger | None = None) -> None:
    """End the rig that lies in `state`, whichever process has started it, and remove its folder."""
    if not state.exists():
        return
    with ThreadPoolExecutor() as pool:
        list(pool.map(Machine.stop, machines_of(state)))
    (ledger or Ledger(state / "ledger")).stop_all()
    shutil.rmtree(state)
