"""A receiver process beside a fake docker: what goes in, what comes out, and what the engine saw."""

import json
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fork_server
from fuzz.shipment import BASE, SECRET, digest

CLASSIC = "28.5.2 linux/x86_64 overlay2 extfs true"
CONTAINERD = "28.5.2 linux/x86_64 overlayfs io.containerd.snapshotter.v1"
BASE_ID = "sha256:" + "b" * 64
SECRET_ID = "sha256:" + "5" * 64
BEFORE = {"docker.io/library/app:1": BASE_ID, "docker.io/library/vault:1": SECRET_ID}


@dataclass(frozen=True)
class Answer:
    """What a session came to."""

    code: int
    lines: list[str]
    stderr: str

    @property
    def failed(self) -> str:
        return next((line for line in self.lines if line.startswith("failed ")), "")


class Bench:
    """One host: a home folder, a fake docker on its PATH, and a log."""

    def __init__(self, folder: Path, *, info: str = CLASSIC, zstd: bool = True) -> None:
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.spool = folder / "spool"
        self.log = folder / "log"
        for place in (self.home, self.bin, self.spool):
            place.mkdir()
        docker = self.bin / "docker"
        # Without site, and compiled once: it is started some thousand times.
        words = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport fake_docker\n"
        docker.write_text(f"#!{sys.executable} -IS\n{words}sys.exit(fake_docker.main(sys.argv[1:]))\n")
        docker.chmod(docker.stat().st_mode | stat.S_IXUSR)
        images = {BASE_ID: [digest(BASE)], SECRET_ID: [digest(SECRET)]}
        self.engine = {"info": info, "images": images, "names": dict(BEFORE), "lie": "", "blobs": {}}
        self.save()

    def save(self) -> None:
        (self.home / "engine.json").write_text(json.dumps(self.engine))

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.home), "SSH_CONNECTION": "192.0.2.7 1 2 3"}

    def command(self, *options: str) -> list[str]:
        fixed = ("--log", str(self.log), "--spool", str(self.spool))
        return fork_server.command("receive", *(options or ("--allow", "app:*")), *fixed)

    def serve(self, data: bytes, *options: str, timeout: float = 60) -> Answer:
        """Let a client send `data` and hang up."""
        done = fork_server.run(self.command(*options), data=data, env=self.environment, timeout=timeout)
        return Answer(done.returncode, done.stdout.decode("ascii").splitlines(), done.stderr.decode())

    @property
    def calls(self) -> list[list[str]]:
        file = self.home / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def loads(self) -> list[Path]:
        return sorted(self.home.glob("load-*"))

    @property
    def names(self) -> dict[str, str]:
        state: dict[str, Any] = json.loads((self.home / "engine.json").read_text())
        return dict(state["names"])

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]
