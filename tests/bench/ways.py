"""The ways to move an image to a host behind ssh, each as a script of bash that a user might write."""

import shlex
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from rig import Engine, Registry, Rig

#: How many hosts are pushed to at a time, by ours (its own default) and by the others (with xargs).
JOBS = 8


class Way(ABC):
    """Moves images of a source's daemon to targets. `aliases` are what ssh calls these."""

    key: str
    label: str
    #: Whether what it did before makes the next push cheaper, by what it has left here or there.
    remembers = False

    def __init__(self, rig: Rig, source: Engine) -> None:
        self.rig = rig
        self.source = source

    @abstractmethod
    def script(self, names: Sequence[str], aliases: Sequence[str]) -> str: ...

    def missing(self) -> str:
        """Why it cannot run here; empty where it can."""
        return ""

    @abstractmethod
    def version(self) -> str: ...

    def forget(self) -> None:  # noqa: B027 - most keep nothing
        """Lose what earlier pushes have left on this side."""

    def first_line(self, *command: str) -> str:
        """What a program says of its version."""
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return next(iter((done.stdout or done.stderr).splitlines()), "unknown").strip()


def at_once(scripts: Sequence[str]) -> str:
    """Run scripts, so many at a time, each with bash."""
    if len(scripts) == 1:
        return scripts[0]
    return f"printf '%s\\0' {shlex.join(scripts)} | xargs -0 -P{JOBS} -n1 bash -c"


class Ours(Way):
    key = "layerferry"
    label = "layerferry"
    remembers = True
    words: tuple[str, ...] = ()

    @property
    def program(self) -> str:
        return str(Path(sys.executable).with_name("layerferry"))

    def script(self, names: Sequence[str], aliases: Sequence[str]) -> str:
        """The command as it is started by hand, with its interpreter's start."""
        first, *others = aliases
        to = [word for alias in others for word in ("--to", alias)]
        jobs = ["--jobs", str(JOBS)] if others else []
        return "exec " + shlex.join([self.program, "push", *names, first, *to, *jobs, "--json", *self.words])

    def version(self) -> str:
        return self.first_line(self.program, "--version")

    def forget(self) -> None:
        shutil.rmtree(self.rig.cache, ignore_errors=True)


class OursWhole(Ours):
    key = "layerferry-whole"
    label = "layerferry --whole-layers"
    words = ("--whole-layers",)


def _fixed(method: str) -> type[Ours]:
    """Ours with a compression that a user has said, beside which the one that it takes by itself is held."""
    words = ("--compression", method)
    return type(f"Ours{method}", (Ours,), {"key": method, "label": f"layerferry {' '.join(words)}", "words": words})


#: By key, which are those of `--compression`.
FIXED = {method: _fixed(method) for method in ("none", "zstd:1", "zstd:3", "zstd:9", "zstd:19")}


class SaveZstd(Way):
    key = "save-zstd"
    label = "save, zstd, load"
    pack = "zstd -qc -T0"
    unpack = "zstd -qdc | docker load -q"

    def script(self, names: Sequence[str], aliases: Sequence[str]) -> str:
        return at_once(
            [
                f"set -o pipefail; docker save {shlex.join(names)} | {self.pack} | "
                f"ssh {alias} {shlex.quote(self.unpack)} >/dev/null"
                for alias in aliases
            ]
        )

    def version(self) -> str:
        return self.first_line(self.pack.split()[0], "--version")


class SaveBzip2(SaveZstd):
    """docker load takes bzip2 by itself."""

    key = "save-bzip2"
    label = "save, bzip2, load"
    pack = "bzip2 -c"
    unpack = "docker load -q"

    def version(self) -> str:
        return self.first_line("bzip2", "--help")


class Skopeo(Way):
    """The target's socket comes here through ssh. It runs on the source, whose suite has one that today's docker takes.

    (bookworm's 1.9.3 asks for version 1.22 of the API, and docker 28 refuses that.)
    """

    key = "skopeo"
    label = "skopeo, forwarded socket"

    def __init__(self, rig: Rig, source: Engine) -> None:
        """Install it on the source's machine. Debian's mirrors may be older than this machine's clock allows."""
        super().__init__(rig, source)
        if not source.machine.path("/usr/bin/skopeo").exists():
            quiet = {"DEBIAN_FRONTEND": "noninteractive"}
            apt = ("apt-get", "-qq", "-o", "Acquire::Check-Valid-Until=false")
            source.machine.run(*apt, "update", env=quiet)
            source.machine.run(*apt, "install", "--yes", "--no-install-recommends", "skopeo", env=quiet)

    def script(self, names: Sequence[str], aliases: Sequence[str]) -> str:
        return at_once([self._to(alias, names) for alias in aliases])

    def _to(self, alias: str, names: Sequence[str]) -> str:
        outside, inside = self.source.machine.state / f"tmp/{alias}.sock", f"/tmp/{alias}.sock"
        skopeo = self.source.machine.argv("skopeo", "--insecure-policy", "copy", "--quiet")
        hosts = ("--src-daemon-host", "unix:///run/docker.sock", "--dest-daemon-host", f"unix://{inside}")
        copies = [shlex.join([*skopeo, *hosts, *[f"docker-daemon:{name}"] * 2]) for name in names]
        return "\n".join(
            (
                f"set -e; rm -f {outside}; ssh -nNT -L {outside}:/run/docker.sock {alias} & ssh=$!",
                f"trap 'kill $ssh; wait $ssh || true; rm -f {outside}' EXIT",
                f"until [ -S {outside} ]; do kill -0 $ssh; sleep 0.01; done",
                *copies,
            )
        )

    def version(self) -> str:
        return self.first_line(*self.source.machine.argv("skopeo", "--version"))


#: A session lasts until its forwarded connections are closed, and an engine may keep one for 30 s after its pull.
_ENDED_BY_HAND = """\
exec 3< <(exec {ssh})
ssh=$!
read -r said <&3 || true
kill $ssh 2>/dev/null || true
wait $ssh 2>/dev/null || true
[ "$said" = pulled ]"""


class ThroughRegistry(Way):
    """A registry on this side's loopback, which the target reaches through `ssh -R`, and pulls from."""

    key = "registry"
    label = "registry, ssh -R, pull"
    remembers = True
    _registry: Registry | None = None

    def script(self, names: Sequence[str], aliases: Sequence[str]) -> str:
        assert self._registry
        there = f"127.0.0.1:{self._registry.port}"
        full = [name if ":" in name else f"{name}:latest" for name in names]
        pushes = [self.push(name, f"{there}/{name}") for name in full]
        pulls = []
        for number, alias in enumerate(aliases):
            # A machine of which many aliases are known has that port but once.
            port = self._registry.port if len(aliases) == 1 else 20_000 + number
            commands = [
                f"docker pull -q 127.0.0.1:{port}/{name} && docker tag 127.0.0.1:{port}/{name} {name}" for name in full
            ]
            forward = f"-o ExitOnForwardFailure=yes -R {port}:{there}"
            pull = shlex.quote(f"({' && '.join(commands)}) >/dev/null && echo pulled")
            pulls.append(_ENDED_BY_HAND.format(ssh=f"ssh {forward} {alias} {pull}"))
        return "\n".join(("set -e", *pushes, at_once(pulls)))

    def push(self, name: str, there: str) -> str:
        return f"docker tag {name} {there}\ndocker push -q {there} >/dev/null"

    def forget(self) -> None:
        """Begin with an empty registry."""
        self.stop()
        self._registry = self.rig.registry()

    def stop(self) -> None:
        if self._registry:
            self._registry.stop()
            shutil.rmtree(self._registry.state)
            self._registry = None

    def version(self) -> str:
        return self.first_line("docker-registry", "--version")


class Crane(ThroughRegistry):
    """The same with `crane push` of a saved image instead of `docker push`."""

    key = "crane"
    label = "crane, registry, ssh -R, pull"

    def push(self, name: str, there: str) -> str:
        file = self.rig.scratch / "crane.tar"
        return f"docker save -o {file} {name}\ncrane push {file} {there} >/dev/null 2>&1\nrm {file}"

    def missing(self) -> str:
        return _not_on_path("crane")

    def version(self) -> str:
        return f"crane {self.first_line('crane', 'version')}"


class Pussh(Way):
    """Starts a container on the target, of an image that the target pulls if it has not got it."""

    key = "pussh"
    label = "docker pussh"
    remembers = True

    def script(self, names: Sequence[str], aliases: Sequence[str]) -> str:
        return at_once(
            ["set -e\n" + "\n".join(f"docker-pussh {name} {alias} >/dev/null" for name in names) for alias in aliases]
        )

    def missing(self) -> str:
        return _not_on_path("docker-pussh")

    def version(self) -> str:
        return self.first_line("docker-pussh", "--version")


class DockerOverSsh(Way):
    """Of npm; the target has to have it too."""

    key = "docker-over-ssh"
    label = "docker-over-ssh"
    remembers = True

    def script(self, names: Sequence[str], aliases: Sequence[str]) -> str:
        program = "docker-over-ssh"
        return at_once(
            [
                "set -e\n" + "\n".join(f"{program} push {name} ssh {alias} {program} pull {name}" for name in names)
                for alias in aliases
            ]
        )

    def missing(self) -> str:
        return _not_on_path("docker-over-ssh")

    def version(self) -> str:
        return "docker-over-ssh, of unknown version"


class Bare(Way):
    """No way, but a floor: a session that asks for the image."""

    key = "bare"
    label = "ssh, docker image inspect"

    def script(self, names: Sequence[str], aliases: Sequence[str]) -> str:
        question = f"docker image inspect {shlex.join(names)}"
        return at_once([f"ssh {alias} {shlex.quote(question)} >/dev/null" for alias in aliases])

    def version(self) -> str:
        return self.first_line("ssh", "-V")


class LoadAlone(Way):
    """No way, but a floor: the target's engine loads the archive of a file, and no line is in between."""

    key = "load"
    label = "load from a file"
    files: Mapping[str, Path]
    target: Engine

    def script(self, names: Sequence[str], aliases: Sequence[str]) -> str:
        (file,) = {self.files[name] for name in names}
        return f"docker --host {self.target.host} load --quiet --input {file} >/dev/null"

    def version(self) -> str:
        return self.first_line("docker", "--version")


ALL: tuple[type[Way], ...] = (
    *(Ours, OursWhole, SaveZstd, SaveBzip2, Skopeo, ThroughRegistry, DockerOverSsh, Pussh, Crane),
    *(Bare, LoadAlone),
    *FIXED.values(),
)

#: What no target of this benchmark can take.
ELSEWHERE = {"podman image scp": "it loads into podman alone, and the targets are docker's two stores"}


def found(rig: Rig, source: Engine, wanted: Sequence[str]) -> tuple[list[Way], dict[str, str]]:
    """The ways that can run here, of those that are wanted; and by label, why the others cannot."""
    ways = [kind(rig, source) for kind in ALL if not wanted or kind.key in wanted]
    absent = {way.label: reason for way in ways if (reason := way.missing())}
    runs = [way for way in ways if way.label not in absent]
    if not wanted:
        absent |= ELSEWHERE
    return runs, absent


def _not_on_path(program: str) -> str:
    return "" if shutil.which(program) else f"{program} is not on PATH"
