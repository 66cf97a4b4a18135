"""The container engine of this host, through its own command line: arguments as lists, never a shell."""

import contextlib
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from layerferry.errors import LayerferryError
from layerferry.image import Name, Platform, is_digest
from layerferry.targets.receive.refusal import Refusal

_PATIENCE = 120.0
_LOAD_PATIENCE = 3600.0
#: Once a load has its whole archive it may end well though we no longer want it; it is dropped after it has ended.
_END_PATIENCE = 60.0
_AT_ONCE = 200
_TOLD = 2000
#: What an engine's own program needs; the rest of the environment may be the client's (sshd_config(5), AcceptEnv).
_VARIABLES = (
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "CONTAINER_HOST",
)
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin:/snap/bin:/opt/bin"
_DOCKER_INFO = (
    "{{.ServerVersion}} {{.OSType}}/{{.Architecture}} {{.Driver}}{{range .DriverStatus}} {{index . 1}}{{end}}"
)
_PODMAN_INFO = "{{.Version.Version}} {{.Version.OsArch}} {{.Store.GraphDriverName}}"
_SHOW = "{{.Id}}{{range .RootFS.Layers}} {{.}}{{end}}"


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What is handed down to programs that we start."""
    kept = {name: environment[name] for name in _VARIABLES if name in environment}
    return {**kept, "PATH": f"{environment.get('PATH', '')}:{_PATH}".strip(":"), "LC_ALL": "C"}


def find_program(name: str, environment: Mapping[str, str]) -> str:
    """The path of a program, or nothing: `shutil.which` without the compressors that `shutil` loads."""
    folders = [""] if "/" in name else environment["PATH"].split(":")
    paths = (f"{folder}/{name}" if folder else name for folder in folders)
    return next((path for path in paths if path.startswith("/") and os.access(path, os.X_OK)), "")


@dataclass(frozen=True, slots=True)
class Shown:
    """What the engine shows of an image: its ID, and its layers' diff IDs, bottom first."""

    id: str
    diff_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Engine:
    """`store` is what it finds layers by, as in the greeting: `chain`, `layer` or `blob`."""

    kind: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    version: str
    platform: Platform
    driver: str
    store: str

    def names(self) -> list[tuple[str, Name]]:
        """Every image's ID with each of its names."""
        shown = self._ask("image", "ls", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}")
        found = []
        for line in shown.splitlines():
            image_id, _, name = line.strip().partition(" ")
            with contextlib.suppress(LayerferryError):  # <none>:<none>
                found.append((_full_id(image_id), Name.parse(name)))
        return found

    def layers(self, ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The diff IDs of images by ID, bottom first. One that has gone meanwhile is left out."""
        wanted = list(ids)
        found = {}
        for start in range(0, len(wanted), _AT_ONCE):
            lines = self._try("image", "inspect", "--format", _SHOW, *wanted[start : start + _AT_ONCE])
            for shown in map(_shown, lines):
                if shown is not None:
                    found[shown.id] = shown.diff_ids
        return found

    def inspect(self, name: str) -> Shown | None:
        """What goes by `name`, if anything does."""
        return next(map(_shown, self._try("image", "inspect", "--format", _SHOW, name)), None)

    def load(self, archive: Iterable[bytes]) -> None:
        """Load an archive; raises `Refusal` where the engine says that it failed. Success must be inspected."""
        import tempfile  # noqa: PLC0415 - for this alone, and it takes as long to load as the rest of this module

        with tempfile.TemporaryFile() as told:
            process = self._start("load", told=told)
            assert process.stdin is not None
            try:
                with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
                    for piece in archive:
                        stdin.write(piece)
                status = process.wait(_LOAD_PATIENCE)
            except BaseException:
                _end(process)
                raise
            if status:
                told.seek(max(0, os.fstat(told.fileno()).st_size - _TOLD))
                raise Refusal(told.read(_TOLD).decode(errors="replace"), kind="load")

    def tag(self, image: str, name: str) -> None:
        self._ask("tag", image, name, kind="tag")

    def remove(self, name: str) -> None:
        """Take a name away, and the image with it if it has no other."""
        with contextlib.suppress(Refusal):
            self._try("image", "rm", name)

    def push(self, name: str, patience: float) -> bool:
        """Whether the engine pushed `name`, within so many seconds."""
        try:
            return self._run("push", name, patience=patience).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def _ask(self, *arguments: str, kind: str = "engine") -> str:
        try:
            done = self._run(*arguments)
        except subprocess.TimeoutExpired:
            raise Refusal(f"{self.kind} {arguments[0]} takes too long", kind=kind) from None
        if done.returncode:
            raise Refusal(done.stderr[-_TOLD:], kind=kind)
        return done.stdout

    def _try(self, *arguments: str) -> list[str]:
        """The lines of an answer; none where the engine says that it failed and nothing else."""
        try:
            return self._run(*arguments).stdout.splitlines()
        except subprocess.TimeoutExpired:
            raise Refusal(f"{self.kind} {arguments[0]} takes too long", kind="engine") from None

    def _run(self, *arguments: str, patience: float = _PATIENCE) -> subprocess.CompletedProcess[str]:
        return _run([*self.command, *arguments], self.environment, patience)

    def _start(self, *arguments: str, told: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=told,
            env=self.environment,
            start_new_session=True,  # what interrupts us must not interrupt it: we end it ourselves
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_END_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def find_engine(engine: str, environment: Mapping[str, str]) -> Engine:
    """The engine `engine`, a name or a path, or the first of docker and podman that answers; raises `Refusal`.

    As host.sh does, it tries without and with `sudo -n`.
    """
    trouble = ""
    for program in (engine,) if engine else ("docker", "podman"):
        if not find_program(program, environment):
            continue
        for command in ((program,), ("sudo", "-n", program)):
            try:
                return _probe(command, environment)
            except OSError:  # no sudo
                continue
            except Refusal as error:
                trouble = trouble or error.message
    if trouble:
        raise Refusal(trouble, kind="engine")
    raise Refusal(f"looked for {engine or 'docker and podman'}", kind="no-engine")


def _probe(command: tuple[str, ...], environment: Mapping[str, str]) -> Engine:
    kind = Path(command[-1]).name
    podman = kind == "podman"
    try:
        done = _run([*command, "info", "--format", _PODMAN_INFO if podman else _DOCKER_INFO], environment, _PATIENCE)
    except subprocess.TimeoutExpired:
        raise Refusal(f"{kind} info takes too long", kind="engine") from None
    version, platform, driver, *more = (*done.stdout.split(), "", "", "")
    if done.returncode or not version[:1].isdigit():
        raise Refusal((done.stderr or done.stdout)[-_TOLD:] or f"{kind} info says nothing", kind="engine")
    blob = "io.containerd.snapshotter.v1" in more
    store = "layer" if podman else "blob" if blob else "chain"
    return Engine(kind, command, environment, version, Platform.parse(platform), driver, store)


def _run(argv: Sequence[str], environment: Mapping[str, str], patience: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env=environment,
        errors="replace",
        text=True,
        timeout=patience,
    )


def _shown(line: str) -> Shown | None:
    words = tuple(map(_full_id, line.split()))
    return Shown(words[0], words[1:]) if words and all(map(is_digest, words)) else None


def _full_id(text: str) -> str:
    """The ID as docker writes it: podman leaves `sha256:` out."""
    return text if text.startswith("sha256:") else f"sha256:{text}"
