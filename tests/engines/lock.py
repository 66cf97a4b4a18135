"""A host whose sshd lets one key in, for the receiver alone."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

from rig import Engine, Rig, packages
from rig.processes import wait_until
from rig.ssh import answers, free_port


class Lock:
    """A host whose sshd lets one key in, for `layerferry receive` with some policy, and in front of one engine.

    The receiver runs beside the engine's machine, not on it, since not every suite has a Python.
    """

    def __init__(self, folder: Path, rig: Rig, engine: Engine | None) -> None:
        self.rig = rig
        self.log = folder / "log"
        self.port = free_port()
        self.alias = f"locked-{self.port}"
        self._folder = folder
        self._layerferry = folder / "layerferry"
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        self._engine = ("--engine", engine.kind.program) if engine is not None else ()
        if engine is not None:
            program = bin_folder / engine.kind.program
            script(
                program,
                f'PATH=/usr/local/bin:/usr/bin:/bin exec {shlex.join(engine.machine.argv(engine.kind.program))} "$@"',
            )
        script(self._layerferry, f'PATH={bin_folder}:/usr/bin:/bin exec {sys.executable} -m layerferry "$@"')
        self._start()

    def _start(self) -> None:
        packages.install(("openssh-server",))
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self._folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.rig.ssh.folder}/hostkey\n"
            f"AuthorizedKeysFile {self._folder}/authorized_keys\nPidFile none\nUsePAM no\nStrictModes no\n"
            "PermitRootLogin yes\nPasswordAuthentication no\nAllowTcpForwarding yes\nAllowAgentForwarding yes\n"
            "PermitTunnel yes\nGatewayPorts yes\nX11Forwarding yes\nPermitTTY yes\n"
            "Subsystem sftp internal-sftp\n"
        )
        command = ["/usr/sbin/sshd", "-D", "-f", str(config), "-E", str(self._folder / "sshd.log")]
        self.sshd = subprocess.Popen(command, start_new_session=True)
        wait_until(lambda: answers("127.0.0.1", self.port), "sshd does not answer")
        self.rig.ssh.add_host(self.alias, "127.0.0.1", self.port)

    def allow(self, *policy: str) -> None:
        """Let the key in, with a policy."""
        key = f"{self.rig.ssh.key}.pub"
        # This machine may have a docker of its own, which podman does not stand in for.
        fixed = ("--program", str(self._layerferry), "--log", str(self.log), *self._engine)
        command = [sys.executable, "-m", "layerferry", "receive", "--print-authorized-key", key, *policy, *fixed]
        line = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        (self._folder / "authorized_keys").write_text(line)

    def ssh(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = ["ssh", "-F", str(self.rig.ssh.config), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)

    @property
    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log.read_text().splitlines()]

    def stop(self) -> None:
        self.sshd.terminate()
        self.sshd.wait(20)


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
