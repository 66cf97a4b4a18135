"""A machine: a root of its own, its own processes, if asked its own network; the look of an ordinary Debian host.

Its root is an overlay over a Debian suite (or over this machine's root), its `/run`, `/tmp`, `/root` and engine stores
are folders of the rig. So engines, sshd and sessions run at their usual paths without touching the machine below, and
when its first process ends, the kernel ends all others and drops every mount and device.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from rig.network import Network, connect
from rig.processes import Ledger, Process, RigError, children, pids, started_at, stop, wait_until

#: The folders of its state, see enter.sh.
_FOLDERS = ("root", "run/rig", "run/sshd", "tmp", "home", "shm", "docker", "containerd", "containers", "etc-docker")
#: What processes of a machine start with: nothing of the caller's.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
}


class Machine:
    """One machine of a rig. `state` is its folder outside, `pid` its first process as seen from outside."""

    def __init__(self, name: str, state: Path, ledger: Ledger) -> None:
        self.name = name
        self.state = state
        self.ledger = ledger
        self.network: Network | None = None
        self._init: Process | None = None

    def start(
        self, lower: Path, *, isolated: bool = False, rate: str | None = None, beside: "Machine | None" = None
    ) -> None:
        """Start it over the root folder `lower`; `isolated` or a `rate` give it a network of its own.

        `beside` is a machine with a network, which this one is to share.
        """
        for folder in _FOLDERS:
            (self.state / folder).mkdir(parents=True, exist_ok=True)
        for folder in ("tmp", "shm"):
            (self.state / folder).chmod(0o1777)
        (self.state / "home").chmod(0o700)
        own_network = isolated or rate is not None
        namespaces = ["--mount", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        enter = ["sh", str(Path(__file__).with_name("enter.sh")), str(lower), str(self.state), self.name]
        inside = ["nsenter", "--target", str(beside.init.pid), "--net", "--"] if beside else []
        holder = self.ledger.start(
            [*inside, "unshare", *namespaces, *(["--net"] if own_network else []), *enter],
            log=self.state / "machine.log",
        )
        ready = self.run_folder / "ready"
        wait_until(lambda: ready.exists() or not holder.alive, f"{self.name} is not up")
        if not holder.alive:
            raise RigError(f"{self.name} did not start: {(self.state / 'machine.log').read_text()}")
        (pid,) = children(holder.pid)
        self.adopt(Process(pid, started_at(pid) or 0))
        self.ledger.note(self.init)
        if own_network:
            self.network = connect(pid, rate)
        elif beside:
            self.network = beside.network

    def adopt(self, init: Process) -> None:
        """Take `init` for the first process of this machine."""
        self._init = init

    @property
    def init(self) -> Process:
        if self._init is None:
            raise RigError(f"{self.name} was not started")
        return self._init

    @property
    def run_folder(self) -> Path:
        """What the machine itself sees as /run/rig."""
        return self.state / "run/rig"

    @property
    def cgroup(self) -> str:
        """The cgroup that containers of this machine live under: one that no other rig uses."""
        return f"{self.state.parent.name}-{self.name}"

    @property
    def address(self) -> str:
        """Where this machine is reached from here."""
        return self.network.there if self.network else "127.0.0.1"

    def path(self, inside: str) -> Path:
        """The path from outside of the machine's absolute path `inside`."""
        return Path(f"/proc/{self.init.pid}/root", inside.lstrip("/"))

    def argv(self, *command: str) -> list[str]:
        """The command line that runs `command` on this machine."""
        network = ["--net"] if self.network else []
        return ["nsenter", "--target", str(self.init.pid), "--mount", "--uts", "--pid", *network, "--", *command]

    def spawn(self, *command: str, log: str, env: Mapping[str, str] | None = None) -> Process:
        """Start a daemon on this machine, with its output in the file `log` of its /run/rig."""
        holder = self.ledger.start(self.argv(*command), log=self.run_folder / log, env=ENVIRONMENT | dict(env or {}))
        wait_until(lambda: bool(children(holder.pid)) or not holder.alive, f"{command[0]} does not start")
        for pid in children(holder.pid):
            return Process(pid, started_at(pid) or 0)
        return holder

    def run_bytes(
        self, *command: str, stdin: bytes | IO[bytes] | None = None, env: Mapping[str, str] | None = None
    ) -> bytes:
        """Run `command` to its end and return its stdout; raises `RigError` with its stderr when it fails."""
        done = subprocess.run(
            self.argv(*command),
            input=stdin if isinstance(stdin, bytes) else None,
            stdin=None if isinstance(stdin, bytes) else stdin or subprocess.DEVNULL,
            capture_output=True,
            env=ENVIRONMENT | dict(env or {}),
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip() or f"status {done.returncode}"
            raise RigError(f"{self.name}: {' '.join(command)}: {said}")
        return done.stdout

    def run(self, *command: str, stdin: bytes | IO[bytes] | None = None, env: Mapping[str, str] | None = None) -> str:
        """As `run_bytes`, for text; without the last newline."""
        return self.run_bytes(*command, stdin=stdin, env=env).decode().rstrip("\n")

    def write(self, inside: str, content: str, *, mode: int = 0o644) -> None:
        """Write a file of this machine; folders on the way are made."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)

    def hide(self, *commands: str) -> None:
        """Take `commands`, absolute paths, away from this machine, and from this machine only."""
        for command in commands:
            self.path(command).unlink(missing_ok=True)

    @contextlib.contextmanager
    def python(self) -> Iterator[None]:
        """While it lasts, the machine has this machine's python3: most hosts have one, a suite of the rig has not."""
        if self.path("/usr/bin/python3").exists():
            yield
            return
        place = Path("/usr/bin/python3").resolve()
        library = Path(f"/usr/lib/{place.name}")
        needed = [place, *(library / "lib-dynload").glob("*.so"), *library.glob("*.py")]
        needed += [
            path for name in ("collections", "encodings", "importlib", "re") for path in (library / name).rglob("*.py")
        ]
        linked = subprocess.run(["ldd", place], capture_output=True, text=True, check=True).stdout
        needed += [Path(found) for found in re.findall(r"=> (/\S+)", linked)]
        for file in needed:
            there = self.path(str(file))
            if not there.exists():
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, there)
        self.path("/usr/bin/python3").symlink_to(place)
        try:
            yield
        finally:
            self.path("/usr/bin/python3").unlink()

    def add_user(self, name: str, *, shell: str = "/bin/sh", uid: int = 0, sudo: bool = False) -> None:
        """Add a user; with uid 0 a second name of root, whose login shell may differ. `sudo` asks for no password."""
        home = "/root" if uid == 0 else f"/home/{name}"
        for file, line in (
            ("/etc/passwd", f"{name}:x:{uid}:{uid}::{home}:{shell}"),
            ("/etc/shadow", f"{name}:*:19000:0:99999:7:::"),
            *([("/etc/group", f"{name}:x:{uid}:")] if uid else []),
        ):
            with self.path(file).open("a") as out:
                out.write(line + "\n")
        if uid:
            self.path(home).mkdir(parents=True, exist_ok=True)
            os.chown(self.path(home), uid, uid)
        if sudo:
            self.write(f"/etc/sudoers.d/{name}", f"{name} ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)

    def processes(self) -> dict[int, str]:
        """Everything that runs here, its first process aside: pid as seen from outside, and command line."""
        mine = os.readlink(f"/proc/{self.init.pid}/ns/pid")  # noqa: PTH115
        found = {}
        for pid in pids():
            try:
                if os.readlink(f"/proc/{pid}/ns/pid") == mine and pid != self.init.pid:  # noqa: PTH115 - a Path is slow
                    found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:  # gone meanwhile, or a process that not even root may look at
                continue
        return found

    def stop(self) -> None:
        """End the engines as they like it, then the machine; the kernel ends whatever else runs on it."""
        if self._init is None or not self._init.alive:
            return
        daemons = [pid for pid, line in self.processes().items() if Path(line.split(" ")[0]).name == "dockerd"]
        stop((Process(pid, started_at(pid) or 0) for pid in daemons), grace=10)
        self._init.send(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while self._init.alive and time.monotonic() < deadline:
            time.sleep(0.02)
        for pattern in (self.cgroup, f"*/{self.cgroup}"):  # cgroup 2, and each controller of cgroup 1
            for folder in Path("/sys/fs/cgroup").glob(pattern):
                folder.rmdir()
