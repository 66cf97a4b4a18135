"""Every end that a push may meet on a host, before the same engine: the host script in each way, and the receiver."""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.fake_engine import preamble
from layerferry.oci.store_kind import StoreKind
from layerferry.targets.conduit import BOOTSTRAP
from layerferry.targets.host.script import UPKEEP
from packed import Picture, digest_of, dumps, layout_files, named_entry, write_folder


@dataclass(frozen=True, slots=True)
class Kind:
    """How an end is reached: the engine's doors on PATH, what it says of itself, and the words that lead to the end."""

    doors: tuple[str, ...]
    info: str
    store: StoreKind
    receiver: bool = False
    engine: str = ""


DOCKER = "28.5.2 linux/x86_64 overlay2 extfs true"
PODMAN = "5.8.6 linux/amd64 overlay"
KINDS: Mapping[str, Kind] = {
    "docker's command": Kind(("docker",), DOCKER, StoreKind.CHAIN),
    "docker's API": Kind(("docker", "curl"), DOCKER, StoreKind.CHAIN),
    "podman": Kind(("podman",), PODMAN, StoreKind.LAYER, engine="podman"),
    "ctr": Kind(("ctr",), "", StoreKind.BLOB, engine="ctr"),
    "nerdctl": Kind(("nerdctl",), "2.2.1 linux/amd64 overlayfs", StoreKind.BLOB, engine="nerdctl"),
    "the receiver, docker": Kind(("docker",), DOCKER, StoreKind.CHAIN, receiver=True),
    "the receiver, podman": Kind(("podman",), PODMAN, StoreKind.LAYER, receiver=True, engine="podman"),
}


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push came to."""

    code: int
    results: list[dict[str, Any]]
    stderr: str

    @property
    def actions(self) -> list[str]:
        (result,) = self.results
        return [layer["action"] for layer in result["layers"]]


@dataclass(slots=True)
class TargetEnd:
    """A host, in a folder of its own, with an engine that keeps its images; and what leads there."""

    kind: Kind
    folder: Path
    #: What its names were, when last looked at.
    before: dict[str, str] = field(default_factory=dict)
    #: What the host script runs in, by its path.
    shell: Sequence[str] = ()
    #: What a receiver allows, and its further options.
    allow: tuple[str, ...] = ("app:*", "old:*")
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for path in (self.bin, self.state, self.folder / "home", self.folder / "scratch", self.folder / "layouts"):
            path.mkdir(parents=True)
        module = str(Path(__file__).parent)
        for door in self.kind.doors:
            # A receiver hands nothing on of its environment: the engine's place stands in its program.
            place = f"import os\nos.environ['ENGINE'] = {str(self.state)!r}\n"
            words = f"import sys\nsys.path.insert(0, {module!r})\n{place}import stateful_engine\n"
            call = f"sys.exit(stateful_engine.main({door!r}, sys.argv[1:]))\n"
            (self.bin / door).write_text(f"#!{sys.executable} -IS\n{words}{call}")
            (self.bin / door).chmod(0o755)
        # No test asks a real one.
        (self.bin / "sudo").write_text("#!/bin/sh\nexit 1\n")
        (self.bin / "sudo").chmod(0o755)
        (self.state / "socket").touch()
        self._write({"info": self.kind.info, "store": self.kind.store, "images": {}, "names": {}, "lie": ""})

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def state(self) -> Path:
        return self.folder / "engine"

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.state / "state.json").read_text())
        return found

    def _write(self, state: Mapping[str, Any]) -> None:
        (self.state / "state.json").write_text(json.dumps(state))

    # The engine.

    def id(self, picture: Picture) -> str:
        """What the engine calls an image: the digest of its manifest, or of its config."""
        return digest_of(picture.manifest) if self.kind.store is StoreKind.BLOB else picture.id

    def hold(self, name: str, picture: Picture) -> None:
        """Let the engine have an image under a full name."""
        state = self._read()
        documents = {"manifest": json.loads(picture.manifest), "config": json.loads(picture.config)}
        state["images"][self.id(picture)] = documents
        state["names"][name] = self.id(picture)
        self._write(state)
        self.before = dict(state["names"])

    def unpack(self, picture: Picture) -> None:
        """Let the engine have the folders of an image's layers."""
        state = self._read()
        folders: list[str] = []
        for number, tar in enumerate(picture.tars):
            folder = self.folder / "layers" / self.id(picture)[7:19] / str(number)
            with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
                archive.extractall(folder, filter="fully_trusted")
            folders.insert(0, str(folder))
        state.setdefault("folders", {})[self.id(picture)] = folders
        self._write(state)

    def age(self, picture: Picture, created: str) -> None:
        """Let the engine say that it was built then, as RFC 3339 has it."""
        state = self._read()
        state["created"] = {**state.get("created", {}), self.id(picture): created}
        self._write(state)

    def run(self, picture: Picture, name: str) -> None:
        """Let a container be of it, which was made of that name."""
        state = self._read()
        state["containers"] = [*state.get("containers", []), (self.id(picture), name)]
        self._write(state)

    def move(self, name: str, seconds: int) -> None:
        """Let nerdctl say that names were moved then."""
        assert name in self.names
        self._write(self._read() | {"moved": seconds})

    def lie(self, how: str) -> None:
        """What the engine gets wrong; stateful_engine.py has the words, such as `fail`, `empty` and `tag once`."""
        self._write(self._read() | {"lie": how})

    @property
    def names(self) -> dict[str, str]:
        return dict(self._read()["names"])

    @property
    def calls(self) -> list[str]:
        file = self.state / "calls"
        return file.read_text().split() if file.exists() else []

    # What leads there.

    @property
    def command(self) -> list[str]:
        dash = shutil.which("dash")
        assert dash
        environment = {
            "PATH": f"{self.bin}:{os.defpath}",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "scratch"),
            # No test asks an engine of this machine.
            **(
                {"DOCKER_HOST": f"unix://{self.state}/socket"} if "curl" in self.kind.doors else {"DOCKER_CONTEXT": "x"}
            ),
        }
        words = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
        if not self.kind.receiver:
            return [*words, *(self.shell or [dash])]
        allow = [word for pattern in self.allow for word in ("--allow", pattern)]
        return [*words, sys.executable, "-m", "layerferry", "receive", *allow, *self.options,
                "--log", str(self.folder / "log"), "--spool", str(self.folder / "scratch")]  # fmt: skip

    def layout(self, *pictures: Picture, name: str = "") -> str:
        """A layout with one image, for each platform, as the user names it."""
        folder = self.folder / "layouts" / str(len(list((self.folder / "layouts").iterdir())))
        entries = [
            {**named_entry(picture, name or "docker.io/library/app:2"), "platform": picture.platform}
            for picture in pictures
        ]
        index = dumps(
            {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
        )
        blobs = {digest: data for picture in pictures for digest, data in picture.documents.items()}
        if len(pictures) == 1:
            write_folder(folder, layout_files(entries, blobs))
        else:
            top = {
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "digest": digest_of(index),
                "size": len(index),
            }
            write_folder(folder, layout_files([top], blobs | {digest_of(index): index}))
        return f"oci:{folder}"

    def push(self, *words: str, before: Sequence[str] = (), start: Sequence[str] = ("-m", "layerferry")) -> Pushed:
        """Run `layerferry push WORDS -- BEFORE COMMAND`; `start` are Python's words for `layerferry`."""
        return self.layerferry("push", *words, before=before, start=start)

    def layerferry(
        self, *words: str, before: Sequence[str] = (), start: Sequence[str] = ("-m", "layerferry")
    ) -> Pushed:
        """Run `layerferry WORDS -- BEFORE COMMAND`."""
        return self._run([*start, *words], ["--", *before, *self.command])

    def _run(self, words: Sequence[str], to: Sequence[str] = (), *, path: str = "", retries: int = 0) -> Pushed:
        """Run Python with WORDS --json TO; `path` goes before the PATH of this process."""
        engine = ["--engine", self.kind.engine] if self.kind.engine else []
        done = subprocess.run(
            [sys.executable, *words, "--json", *engine, *to],
            capture_output=True, check=False, timeout=120, text=True,
            env={"PATH": f"{path}{os.environ['PATH']}", "HOME": str(self.folder),
                 "TMPDIR": str(self.folder / "scratch"), "LAYERFERRY_RETRIES": str(retries)},
        )  # fmt: skip
        results = json.loads(done.stdout)["results"] if done.stdout else []
        return Pushed(done.returncode, results, done.stderr)

    def push_by_ssh(self, *words: str, losing: str) -> Pushed:
        """Run `layerferry push WORDS host`, through an ssh whose line breaks once: see `lost_answer`."""
        ssh = self.folder / "ssh/ssh"
        ssh.parent.mkdir()
        lost = shlex.join(
            [sys.executable, str(Path(__file__).with_name("lost_answer.py")), losing, str(self.folder / "lost")]
        )
        ssh.write_text(
            f"""#!/bin/sh
case " $* " in *" -G "*) echo 'hostname host'; exit ;; esac
for command; do :; done
exec {lost} {shlex.join(self.command)} -c "$command"
"""
        )
        ssh.chmod(0o755)
        return self._run(["-m", "layerferry", "push", *words, "host"], path=f"{ssh.parent}:", retries=1)

    def talk(self, *lines: str, more: bool = False) -> list[str]:
        """Say the ask and what follows; hang up. What the end says, without a sign of life. `more` is of the script."""
        opening = f"engine {self.kind.engine or 'docker'}"
        said = preamble(UPKEEP if more else ()) + "".join(f"{line}\n" for line in (opening, *lines)).encode()
        # As ssh starts it: a shell that reads its script from stdin may read on, into what is meant for the script.
        start = [] if self.kind.receiver else ["-c", BOOTSTRAP.removeprefix("exec sh -c '").removesuffix("'")]
        done = subprocess.run([*self.command, *start], input=said, capture_output=True, check=False, timeout=60)
        assert done.stderr == b""
        return [line for line in done.stdout.decode().splitlines() if line and line != "alive"]

    def is_tidy(self) -> bool:
        """No throw-away name, no file and no folder of ours is left."""
        left = [name for name in self.names if "layerferry" in name]
        return not left and not list((self.folder / "scratch").iterdir())


def pictures(*seeds: str, architecture: str = "amd64") -> Picture:
    """An image of layers that are known by a letter."""
    parts = [Picture.of(seed, "") for seed in seeds]
    tars, compressions = ([part.tars[0] for part in parts], [part.compressions[0] for part in parts])
    return Picture(tuple(tars), tuple(compressions), architecture=architecture)


def ask(picture: Picture) -> Sequence[str]:
    return [f"image {picture.id}", *(f"layer {diff_id}" for diff_id in picture.diff_ids)]
