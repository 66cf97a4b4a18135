"""OpenSSH for the rig: one client configuration with an alias for each host, and an sshd on each machine."""

import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rig.machine import Machine
from rig.processes import Process, RigError, started_at, stop, wait_until

#: Login shells of `Sshd.with_shell`, and where Debian has them.
SHELLS = {
    "bash": "/bin/bash",
    "dash": "/bin/dash",
    "zsh": "/bin/zsh",
    "fish": "/usr/bin/fish",
    "tcsh": "/bin/tcsh",
    "ash": "/usr/local/bin/ash",
}

#: Without the key exchange that takes the client of OpenSSH 9.2 80 ms of CPU, which no test is about (13 ms without).
_KEX = "KexAlgorithms -sntrup761x25519-sha512*"

_CLIENT = f"""\
Host *
  {_KEX}
  IdentityFile {{folder}}/id
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {{folder}}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
"""

#: sshd takes the first value of a word, so what a test wants comes before the rest.
_SERVER = f"""\
{{options}}
{_KEX}
Port {{port}}
ListenAddress {{address}}
HostKey /run/rig/hostkey
AuthorizedKeysFile /run/rig/authorized_keys
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin yes
MaxStartups 100
"""


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody listens on at `address` now. Somebody may by the time it is used: then pick another one."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def answers(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


class SshClient:
    """The client's side: user key, known hosts, and a configuration that grows by one alias for each host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config"
        self.known_hosts = folder / "known_hosts"
        self.key = folder / "id"
        self.bin = folder / "bin"
        self._lock = threading.Lock()
        if not self.config.exists():
            self._create()

    def _create(self) -> None:
        self.bin.mkdir(parents=True)
        for name in ("id", "hostkey"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "layerferry-rig", "-f", self.folder / name],
                check=True,
            )
        self.known_hosts.touch()
        self.config.write_text(_CLIENT.format(folder=self.folder))
        # OpenSSH takes the home folder from passwd, not from $HOME, so an `ssh` of its own is what makes every child
        # process use this configuration.
        ssh = shutil.which("ssh", path="/usr/bin:/usr/local/bin:/bin") or "ssh"
        (self.bin / "ssh").write_text(f'#!/bin/sh\nexec {ssh} -F {self.config} "$@"\n')
        (self.bin / "ssh").chmod(0o755)

    def add_host(self, alias: str, address: str, port: int, user: str = "root", options: Sequence[str] = ()) -> None:
        """Add `alias`, with the rig's host key as its known one. `options` are lines of ssh_config."""
        lines = [f"Host {alias}", f"HostName {address}", f"Port {port}", f"User {user}", *options]
        key = " ".join((self.folder / "hostkey.pub").read_text().split()[:2])
        with self._lock:
            with self.config.open("a") as file:
                file.write("\n  ".join(lines) + "\n")
            with self.known_hosts.open("a") as file:
                file.write(f"{address if port == 22 else f'[{address}]:{port}'} {key}\n")

    def run(self, alias: str, command: str, *, stdin: bytes = b"") -> str:
        """What `command` prints in a session at `alias`; raises `RigError` when it fails."""
        done = subprocess.run(
            ["ssh", "-F", str(self.config), alias, command], input=stdin, capture_output=True, check=False
        )
        if done.returncode:
            raise RigError(f"ssh {alias} {command}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode().rstrip("\n")


@dataclass(slots=True)
class Sshd:
    """An sshd on a machine, and its first alias, which logs in as root with bash."""

    machine: Machine
    client: SshClient
    alias: str
    port: int
    process: Process

    def with_user(self, user: str, *, alias: str | None = None, options: Sequence[str] = ()) -> str:
        """Another alias of this sshd, for another user or with other ssh_config lines; returns its name."""
        alias = alias or f"{self.alias}-{user}"
        self.client.add_host(alias, self.machine.address, self.port, user, options)
        return alias

    def with_shell(self, shell: str) -> str:
        """An alias whose user is root under another name, with a login shell out of `SHELLS`; returns its name."""
        path = SHELLS[shell]
        if shell == "ash" and not self.machine.path(path).is_symlink():
            self.machine.path(path).symlink_to("/bin/busybox")
        self.machine.add_user(shell, shell=path)
        return self.with_user(shell)

    @contextmanager
    def reconfigured(self, *options: str) -> Iterator[None]:
        """Serve with these lines of sshd_config before all others, for a while."""
        config = self.machine.run_folder / f"sshd-{self.alias}.conf"
        before = config.read_text()
        config.write_text("\n".join([*options, before]))
        self._reload()
        try:
            yield
        finally:
            config.write_text(before)
            self._reload()

    def _reload(self) -> None:
        """It starts anew at SIGHUP, and for a moment nobody listens."""
        log = self.machine.run_folder / f"sshd-{self.alias}.log"

        def starts() -> int:
            return log.read_text(errors="replace").count("Server listening on")

        before = starts()
        self.process.send(signal.SIGHUP)
        wait_until(lambda: starts() > before, f"sshd {self.alias} does not start anew")

    def stop(self) -> None:
        """End the listener: new connections are refused, sessions that are open go on."""
        stop([self.process])

    def drop_sessions(self) -> None:
        """Break every open connection of this machine, as a network does that fails."""
        sessions = [
            pid for pid, line in self.machine.processes().items() if line.startswith(("sshd: ", "sshd-session:"))
        ]
        for pid in sessions:
            if pid != self.process.pid:
                Process(pid, started_at(pid) or 0).send(signal.SIGKILL)


def start_sshd(
    machine: Machine,
    client: SshClient,
    alias: str,
    *,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Sshd:
    """Start an sshd on `machine` under `alias`. `options` are lines of sshd_config, `environment` its SetEnv."""
    for name, source, mode in (("hostkey", "hostkey", 0o600), ("authorized_keys", "id.pub", 0o644)):
        target = machine.run_folder / name
        if not target.exists():
            target.write_bytes((client.folder / source).read_bytes())
            target.chmod(mode)
    set_env = [f'SetEnv {name}="{value}"' for name, value in (environment or {}).items()]
    config = machine.run_folder / f"sshd-{alias}.conf"
    for _ in range(5):
        alone = machine.network and machine.network.pid == machine.init.pid
        port = 22 if alone else free_port()
        config.write_text(_SERVER.format(port=port, address=machine.address, options="\n".join([*options, *set_env])))
        process = _listen(machine, alias, port)
        if process.alive:
            client.add_host(alias, machine.address, port)
            return Sshd(machine, client, alias, port, process)
    raise RigError(f"sshd {alias} did not start: see {machine.run_folder}/sshd-{alias}.log")


def _listen(machine: Machine, alias: str, port: int) -> Process:
    """Start sshd and wait until it listens, or has ended because somebody else does."""
    files = ("-f", f"/run/rig/sshd-{alias}.conf", "-E", f"/run/rig/sshd-{alias}.log")
    process = machine.spawn("/usr/sbin/sshd", "-D", *files, log="sshd.out")
    wait_until(lambda: answers(machine.address, port) or not process.alive, f"sshd {alias} does not answer")
    return process
