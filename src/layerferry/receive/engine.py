"""The container engine of this host, by its command line: arguments as lists, never a shell.

Its output counts together with its exit status. A status alone says that it failed and nothing else: an image is absent
only where the engine says so in words that we know.
"""

import contextlib
import os
import pwd
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from layerferry.errors import LayerferryError
from layerferry.oci.image import Name, Platform, is_digest
from layerferry.oci.store_kind import StoreKind
from layerferry.protocol import VerdictKind
from layerferry.receive import command
from layerferry.receive.command import Bounds, Ended, OverrunError
from layerferry.receive.refusal import Refusal, one_line
from layerferry.receive.throw_away_names import left, new_container

_ANSWER = Bounds(seconds=120.0)
#: Once a load has its whole archive it may end well though we no longer want it; it is dropped after it has ended.
_LOAD = Bounds(seconds=3600.0, grace=60.0)
_EXPORT = 900.0
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
_PATH = (
    "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin:/snap/bin:/opt/bin"
    ":/opt/homebrew/bin:/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin"
    ":/var/packages/ContainerManager/target/usr/bin:/var/packages/Docker/target/usr/bin"
)
_DOCKER_INFO = (
    "{{.ServerVersion}} {{.OSType}}/{{.Architecture}} {{.Driver}}{{range .DriverStatus}} {{index . 1}}{{end}}"
    " {{.SecurityOptions}}"
)
_PODMAN_INFO = "{{.Version.Version}} {{.Version.OsArch}} {{.Store.GraphDriverName}}"
#: Not .Id: docker 26.1 would look at the JSON then, where an image without layers has no RootFS.Layers.
_SHOW = "{{.ID}}{{range .RootFS.Layers}} {{.}}{{end}}"
_FOLDERS = "{{with .GraphDriver.Data}}{{.UpperDir}}{{with .LowerDir}}:{{.}}{{end}}{{end}}"
#: How an engine says, on a line of its standard error, that an image is not there; nothing else means that it is not.
_ABSENT = (
    re.compile(r"Error: No such image: (?P<name>\S+)"),  # docker 20.10.24
    re.compile(r"Error response from daemon: No such image: (?P<name>\S+)"),  # docker 26.1.5, 28.5.2, both stores
    re.compile(r"(?:Error:|error) inspecting object: (?P<name>\S+): image not known"),  # podman 4.3.1, `image inspect`
    re.compile(r"(?:Error: )?(?P<name>\S+): image not known"),  # podman 4.3.1, `image rm`; podman 5.8.6
)
#: Lines that say nothing of an image: logrus, as podman writes it, and the docker CLI's own warnings.
_ASIDE = re.compile(r'time="[^"]*" level=(?:debug|info|warning) .*|WARNING: .*')
_BITS_32 = 1 << 32
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63}")
_DRIVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the programs that we start."""
    kept = {name: environment[name] for name in _VARIABLES if name in environment}
    return {**kept, "PATH": f"{environment.get('PATH', '')}:{_PATH}".strip(":"), "LC_ALL": "C"}


def find_program(name: str, environment: Mapping[str, str]) -> str:
    """The path of a program, or an empty string: `shutil.which` without the modules that `shutil` loads."""
    folders = [""] if "/" in name else environment["PATH"].split(":")
    paths = (f"{folder}/{name}" if folder else name for folder in folders)
    return next((path for path in paths if path.startswith("/") and os.access(path, os.X_OK)), "")


@dataclass(frozen=True, slots=True)
class Shown:
    """An image as the engine shows it: its ID, and its layers' diff IDs, bottom first."""

    id: str
    diff_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine. Each question raises `Refusal`, of kind `engine`, where the engine does not answer it."""

    kind: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    version: str
    platform: Platform
    driver: str
    store: StoreKind
    #: Whose images they are.
    owner: str = "root"

    def names(self) -> Iterator[tuple[str, Name]]:
        """The ID of every image, with each of its names."""
        shown = self._ask("image", "ls", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}")
        for line in shown.splitlines():
            image_id, _, text = line.strip().partition(" ")
            try:
                name = Name.parse(text)
            except LayerferryError:  # <none>:<none>
                continue
            if not is_digest(_full_id(image_id)):
                raise self._unread("image ls")
            yield _full_id(image_id), name

    def layers(self, ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The diff IDs of images by ID, bottom first. One that has gone meanwhile is left out."""
        wanted = list(ids)
        found = {}
        for start in range(0, len(wanted), _AT_ONCE):
            for shown in self._show(wanted[start : start + _AT_ONCE]):
                found[shown.id] = shown.diff_ids
        return found

    def inspect(self, name: str) -> Shown | None:
        """The image with the name `name`; None only where the engine says that there is none."""
        shown = self._show([name])
        return shown[0] if shown else None

    def load(self, archive: Iterable[bytes]) -> None:
        """Load an archive; raises `Refusal` where the engine says that it failed. Success must be inspected."""
        done = self._run("load", kind=VerdictKind.LOAD, bounds=_LOAD, feed=archive)
        self._say(done, kind=VerdictKind.LOAD if not done.status or self._answers() else VerdictKind.STOPPED)

    def _answers(self) -> bool:
        """Whether the engine does, still."""
        try:
            _probe(self.command, self.environment)
        except Refusal:
            return False
        return True

    def tag(self, image: str, name: str) -> None:
        """Give an image a name. What fails is tried once more, as the host script does (names.sh); raises `Refusal`."""
        with contextlib.suppress(Refusal):
            self._ask("tag", image, name, kind=VerdictKind.TAG)
            return
        self._ask("tag", image, name, kind=VerdictKind.TAG)

    def remove(self, name: str) -> bool:
        """Remove a name, and the image too if it has no other; whether the name is gone."""
        try:
            done = self._run("image", "rm", name)
        except Refusal:
            return False
        return not done.status or _is_absent(done, [name])

    def push(self, name: str, folder: Path, seconds: float) -> bool:
        """Whether docker pushed `name`, within so many seconds, with the logins of the configuration in `folder`.

        It gets the folder as a descriptor, which leads there from wherever a wrapper of docker's command has gone; but
        `sudo` closes descriptors, and hands no variables on.
        """
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        place = str(folder) if self.command[0] == "sudo" else f"/proc/self/fd/{descriptor}"
        argv = [*self.command, "--config", place, "push", name]
        try:
            return not _run(argv, self.environment, Bounds(seconds=seconds), hand_down=[descriptor]).status
        except Refusal:
            return False
        finally:
            os.close(descriptor)

    def folders(self, image: str) -> list[str]:
        """The folders of an image's layers, the uppermost first; none where it keeps them otherwise."""
        if not self.driver.startswith(("overlay", "fuse-overlayfs")):
            return []
        told = self._ask("image", "inspect", "--format", _FOLDERS, image).strip()
        folders = told.split(":") if told else []
        return folders if all(os.path.isabs(folder) for folder in folders) else []  # noqa: PTH117 - no Path is loaded

    def export(self, image: str, file: IO[bytes], room: int) -> bool:
        """Write an image's files, as a tar, out of a container that is never started; whether that was possible.

        More than `room` bytes are not written. Containers that dead sessions have left go.
        """
        listed = self._ask("ps", "--all", "--filter", "name=layerferry-", "--format", "{{.Names}}")
        for name in left(listed.split()):
            self._run("rm", "--force", "--volumes", name)
        name = new_container()
        try:
            self._ask("create", "--name", name, image, "x")
            return command.write([*self.command, "export", name], self.environment, file, room, _EXPORT)
        except (Refusal, OSError):
            return False
        finally:
            self._run("rm", "--force", "--volumes", name)

    def _show(self, names: Sequence[str]) -> list[Shown]:
        done = self._run("image", "inspect", "--format", _SHOW, *names)
        if done.status and not _is_absent(done, names):
            self._say(done, kind=VerdictKind.ENGINE)
        found = [_shown(line) for line in done.out.decode(errors="replace").splitlines() if line.strip()]
        shown = [image for image in found if image is not None]
        if len(shown) < len(found) or len(shown) > len(names) or (not done.status and len(shown) < len(names)):
            raise self._unread("image inspect")
        return shown

    def _ask(self, *arguments: str, kind: VerdictKind = VerdictKind.ENGINE) -> str:
        done = self._run(*arguments, kind=kind)
        self._say(done, kind=kind)
        return done.out.decode(errors="replace")

    def _say(self, done: Ended, *, kind: VerdictKind) -> None:
        """Raise `Refusal` with the engine's words where its status says that it failed."""
        if done.status:
            raise Refusal(_told(done) or f"{self.kind} failed with status {done.status}", kind=kind)

    def _unread(self, verb: str) -> Refusal:
        return Refusal(f"{self.kind} {verb} answers what cannot be read", kind=VerdictKind.ENGINE)

    def _run(
        self,
        *arguments: str,
        kind: VerdictKind = VerdictKind.ENGINE,
        bounds: Bounds = _ANSWER,
        feed: Iterable[bytes] | None = None,
    ) -> Ended:
        return _run([*self.command, *arguments], self.environment, bounds, kind=kind, feed=feed)


def find_engine(engine: str, environment: Mapping[str, str]) -> Engine:
    """The engine `engine`, a name or a path, or the first of docker and podman that answers; raises `Refusal`.

    As the host script does, it tries without and with `sudo -n`, and podman does not stand in for a docker that is
    installed and does not answer: nobody would look for the image there, and a name that is taken in the one is free in
    the other. Where docker is podman under its name, podman it is.
    """
    trouble = ""
    for program in (engine,) if engine else ("docker", "podman"):
        if not find_program(program, environment):
            continue
        sudo = (("sudo", "-n", program),) if find_program("sudo", environment) else ()
        for argv in ((program,), *sudo):
            try:
                return _probe(argv, environment)
            except Refusal as error:
                trouble = trouble or error.message
        if engine or not _is_podman(program, environment):
            break
        trouble = ""
    if trouble:
        raise Refusal(trouble, kind=VerdictKind.ENGINE)
    raise Refusal(f"looked for {engine or 'docker and podman'}", kind=VerdictKind.NO_ENGINE)


def _is_podman(program: str, environment: Mapping[str, str]) -> bool:
    """Whether `docker` is podman's: its package podman-docker says so, a link calls itself what it is called by."""
    done = _run((program, "--version"), environment, _ANSWER)
    return done.out.startswith((b"podman", b"docker version"))


def _probe(argv: tuple[str, ...], environment: Mapping[str, str]) -> Engine:
    kind = Path(argv[-1]).name
    podman = kind == "podman"
    done = _run([*argv, "info", "--format", _PODMAN_INFO if podman else _DOCKER_INFO], environment, _ANSWER)
    version, platform, driver, *more = (*done.out.decode(errors="replace").split(), "", "", "")
    if done.status or version in {"", "/"}:
        raise Refusal(_told(done) or f"{kind} info says nothing", kind=VerdictKind.ENGINE)
    if not _VERSION.fullmatch(version) or not _DRIVER.fullmatch(driver):
        raise Refusal(f"{kind} info answers what cannot be read", kind=VerdictKind.ENGINE)
    try:
        runs = Platform.parse(_own(argv, environment, platform))
    except (LayerferryError, ValueError):
        raise Refusal(f"{kind} info does not say its platform", kind=VerdictKind.ENGINE) from None
    blob = "io.containerd.snapshotter.v1" in more
    store = StoreKind.LAYER if podman else StoreKind.BLOB if blob else StoreKind.CHAIN
    rootless = podman or any("name=rootless" in word for word in more)
    owner = _user() if rootless and argv[0] != "sudo" else "root"
    return Engine(kind, argv, environment, version, runs, driver, store, owner)


def _own(argv: Sequence[str], environment: Mapping[str, str], platform: str) -> str:
    """The engine's own platform, as far as `info` leaves it open.

    docker tells the kernel's, which may have more bits than its programs, us among them; podman of arm no variant.
    """
    machine = platform.partition("/")[2]
    if Path(argv[-1]).name == "podman":
        return f"{platform}/{os.uname().machine}" if machine == "arm" else platform
    if "64" not in machine or sys.maxsize > _BITS_32:
        return platform
    words = ("version", "--format", "{{.Server.Os}}/{{.Server.Arch}}")
    own = _run([*argv, *words], environment, _ANSWER).out.decode(errors="replace").strip()
    return f"{own}/{machine}" if all(own.partition("/")) else platform


def _user() -> str:
    """Who we are, as the system knows it; a number has no name in a container."""
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(os.getuid()).pw_name.replace(" ", "?")
    return str(os.getuid())


def _run(
    argv: Sequence[str],
    environment: Mapping[str, str],
    bounds: Bounds,
    *,
    kind: VerdictKind = VerdictKind.ENGINE,
    feed: Iterable[bytes] | None = None,
    hand_down: Sequence[int] = (),
) -> Ended:
    try:
        return command.run(argv, environment, bounds, feed=feed, hand_down=hand_down)
    except OverrunError as error:
        raise Refusal(f"{Path(argv[0]).name} {error}", kind=kind) from None
    except OSError as error:  # out of processes, or memory: that is no answer either
        raise Refusal(f"{argv[0]} cannot be started: {error.strerror}", kind=kind) from None


def _told(done: Ended) -> str:
    """The end of the stderr, or else the stdout, of a program that failed."""
    return one_line((done.err.strip() or done.out.strip())[-_TOLD:].decode(errors="replace"))


def _is_absent(done: Ended, names: Sequence[str]) -> bool:
    """Whether an engine failed for no other reason than that it has no image with some of `names`."""
    lines = [line.strip() for line in done.err.decode(errors="replace").splitlines()]
    said = [line for line in lines if line and not _ASIDE.fullmatch(line)]
    absent = {_absent(line) for line in said}
    return bool(absent) and absent <= {*names, *map(_familiar, names)}


def _absent(line: str) -> str:
    return next((found["name"] for pattern in _ABSENT if (found := pattern.fullmatch(line))), "")


def _familiar(name: str) -> str:
    """A name as docker repeats it in its answer (docker 26.1.5, 28.5.2)."""
    return name.removeprefix("docker.io/").removeprefix("library/")


def _shown(line: str) -> Shown | None:
    words = tuple(map(_full_id, line.split()))
    return Shown(words[0], words[1:]) if words and all(map(is_digest, words)) else None


def _full_id(text: str) -> str:
    """The ID as docker writes it: podman leaves `sha256:` out."""
    return text if text.startswith("sha256:") else f"sha256:{text}"
