"""An engine that plays answers, in a folder of its own that goes into PATH; and the host script that talks to it."""

import gzip
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from layerferry.protocol import VERSION
from layerferry.targets.conduit import BOOTSTRAP
from layerferry.targets.host.script import script

#: Docker's answer to the script's `info`: version, platform, driver and what it says of its store.
OVERLAY2 = "28.5.2 linux/x86_64 overlay2 extfs true false true"
CONTAINERD = "28.5.2 linux/x86_64 overlayfs io.containerd.snapshotter.v1"
PODMAN = "5.8.6 linux/amd64 overlay"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a session said, and how it ended."""

    lines: list[str]
    code: int
    stderr: str


class FakeEngine:
    """`folder` is its own. `program` is docker or podman; with `api`, docker's API is there too, and curl."""

    def __init__(self, folder: Path, *, info: str = OVERLAY2, program: str = "docker", api: bool = False) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.state = folder / "state"
        self.scratch = folder / "scratch"
        for path in (self.bin, self.state, self.scratch):
            path.mkdir(parents=True)
        self.program = program
        self.install(program)
        self.say("info", info + "\n")
        self.hold({})
        #: No test asks the docker of this machine.
        self.place = {"DOCKER_CONTEXT": "default"}
        if api:
            self.say("docker.sock", "")
            self.place = {"DOCKER_HOST": f"unix://{self.state}/docker.sock"}
            curl = self.bin / "curl"
            # Without site, and compiled once: it is started some thousand times.
            words = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport fake_curl\n"
            curl.write_text(f"#!{sys.executable} -IS\n{words}sys.exit(fake_curl.main(sys.argv[1:]))\n")
            curl.chmod(0o755)

    def install(self, program: str) -> None:
        shutil.copy(Path(__file__).with_suffix(".sh"), self.bin / program)
        (self.bin / program).chmod(0o755)

    def alter(self, old: str, new: str) -> None:
        """Let it do something else where its script has `old`."""
        script = self.bin / self.program
        text = script.read_text()
        assert old in text
        script.write_text(text.replace(old, new, 1))

    def say(self, name: str, text: str) -> None:
        """Set what it says, in $FAKE/`name`."""
        (self.state / name).write_text(text)

    def hold(self, images: Mapping[str, Sequence[str]]) -> None:
        """Let it have `images`: diff IDs by image ID."""
        self.say("ls", "".join(f"{image} <none>:<none>\n" for image in images))
        self.say("list", "".join(f"{' '.join((image, *layers))}\n" for image, layers in images.items()))

    def show(self, name: str, image: str, layers: Sequence[str]) -> None:
        """Set what it shows of the image `name`."""
        self.say("show." + name.translate(str.maketrans("/:", "__")), f"{' '.join((image, *layers))}\n")

    @property
    def calls(self) -> list[str]:
        file = self.state / "calls"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def loaded(self) -> bytes:
        return (self.state / "loaded").read_bytes()

    def environment(self, path: str = os.defpath) -> dict[str, str]:
        # sudo's place is taken, so that no test asks a real one.
        # A file that a fake ctr says it has answered through; a real one of this machine is not asked.
        containerd = str(self.state / "containerd.sock")
        return {
            **self.place,
            "CONTAINERD_ADDRESS": containerd,
            "PATH": f"{self.bin}:{path}",
            "FAKE": str(self.state),
            "HOME": "/",
            "TMPDIR": str(self.scratch),
        }

    def start(self, shell: Sequence[str], path: str = os.defpath) -> "subprocess.Popen[bytes]":
        """The host script in `shell`, as ssh starts it."""
        command = BOOTSTRAP.removeprefix("exec sh -c '").removesuffix("'")
        assert command != BOOTSTRAP
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*shell, "-c", command],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=self.environment(path),
            cwd=self.scratch,
            start_new_session=True,
        )

    def talk(self, shell: Sequence[str], said: bytes, path: str = os.defpath, tick: str = "10") -> Answer:
        """A whole session: all that we say at once, and all that comes back."""
        if self.program == "podman" and path == os.defpath:  # this machine may have a docker, which would go first
            said = re.sub(rb"^engine\n", b"engine podman\n", said)
        with self.start(shell, path) as process:
            out, err = process.communicate(preamble(tick=tick) + said, timeout=60)
        text = out.decode(errors="replace")
        assert text.endswith("\n") or not text
        return Answer(text.split("\n")[:-1], process.returncode, err.decode(errors="replace"))


#: What the script calls of a host's; mksh has no printf of its own.
TOOLS = "awk cat cut dd grep gzip head id printf sed sh sleep tail tr uname uniq xargs"


def isolate(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> str:
    """A host that has what is in the engine's folder and nothing else of this machine's; the PATH to it."""
    for tool in TOOLS.split():
        (engine.bin / tool).symlink_to(shutil.which(tool) or tool)
    text = b"".join(line for line in script().splitlines(keepends=True) if b"PATH=$PATH" not in line)
    monkeypatch.setattr("contract.fake_engine.script", lambda _also=(): text)
    return str(engine.bin)


def preamble(also: Sequence[str] = (), *, tick: str = "10") -> bytes:
    """The script with the parts `also`, packed; the watch in it ticks each `tick` seconds."""
    assert script(also).count(b"sleep 10 >") == 1
    text = gzip.compress(script(also).replace(b"sleep 10 >", f"sleep {tick} >".encode()))
    return f": layerferry {VERSION} {len(text)}\n".encode() + text


def ask(images: Mapping[str, Sequence[str]], *more: str) -> bytes:
    """What has the target of `images`, diff IDs by image ID?"""
    lines = [*more] if more and more[0].startswith("engine") else ["engine", *more]
    for image, layers in images.items():
        lines += [f"image {image}", *(f"layer {layer}" for layer in layers)]
    return "".join(f"{line}\n" for line in (*lines, "end")).encode()


def load(expected: Mapping[str, Sequence[str]], chunks: Sequence[bytes], compression: str = "none") -> bytes:
    """The header and an archive in `chunks`."""
    header = "".join(f"{' '.join(('expect', name, *layers))}\n" for name, layers in expected.items())
    frames = b"".join(b"%d\n%b" % (len(chunk), chunk) for chunk in chunks)
    return header.encode() + f"load {compression}\n".encode() + frames + b"0\n"


def commit(names: Mapping[str, str]) -> bytes:
    """Set names, by throw-away name, and end."""
    return ("".join(f"tag {incoming} {name}\n" for incoming, name in names.items()) + "done\n").encode()


def shells() -> dict[str, list[str]]:
    """Every POSIX shell of this machine. Debian has dash and bash; busybox is what small systems have."""
    known = {
        "dash": ["dash"],
        "bash": ["bash", "--posix"],
        "ash": ["busybox", "ash"],
        "mksh": ["mksh"],
        "ksh": ["ksh93"],
        "zsh": ["zsh", "--emulate", "sh"],
    }
    return {name: [path, *words] for name, (program, *words) in known.items() if (path := shutil.which(program))}
