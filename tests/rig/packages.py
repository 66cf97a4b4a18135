"""Debian packages of this machine, and whole Debian suites beside it, unpacked once into a cache."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rig.processes import RigError

#: What a machine needs to be a host with an engine.
HOST_PACKAGES = ("ca-certificates", "crun", "docker.io", "openssh-server", "podman", "procps", "sudo", "zstd")
#: What the rig itself needs beside that: tools, and the login shells that hosts may have.
RIG_PACKAGES = (
    *HOST_PACKAGES,
    "busybox",
    "dash",
    "debootstrap",
    "docker-registry",
    "fish",
    "iproute2",
    "openssh-client",
    "openssl",
    "skopeo",
    "tcsh",
    "util-linux",
    "zsh",
)
#: A quick start with the machine's own docker: what `ci-examples/demo.sh` needs.
DEMO_PACKAGES = ("docker.io", "iproute2", "openssh-client", "openssh-server", "procps", "util-linux", "zstd")

_POLICY = Path("/usr/sbin/policy-rc.d")


def codename() -> str:
    """The suite that this machine runs, such as `bookworm`; empty where it is not Debian."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if line.count("=") == 1
    )
    return release.get("VERSION_CODENAME", "").strip('"') if release.get("ID", "").strip('"') == "debian" else ""


def with_docker_client(suite: str, packages: Iterable[str]) -> list[str]:
    """`packages`, with the docker client where `suite` ships it apart from the daemon, as all after bookworm do."""
    names = sorted(packages)
    return names if suite == "bookworm" or "docker.io" not in names else sorted([*names, "docker-cli"])


def missing(packages: Iterable[str]) -> list[str]:
    """Those of `packages` that dpkg does not know as installed."""
    names = list(packages)
    answer = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    installed = {line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def install(packages: Iterable[str] = RIG_PACKAGES) -> list[str]:
    """Install what is missing of `packages` through apt, without starting a single service; returns what it was."""
    with locked("apt"):
        names = missing(with_docker_client(codename(), packages))
        if names:
            quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            wait = ("-o", "DPkg::Lock::Timeout=300")
            with no_services():
                _run_logged(["apt-get", *wait, "update"], "apt", env=quiet)
                _run_logged(["apt-get", *wait, "install", "--yes", "--no-install-recommends", *names], "apt", env=quiet)
    return names


@contextlib.contextmanager
def no_services() -> Iterator[None]:
    """While it lasts, Debian's package scripts start no daemon (invoke-rc.d asks policy-rc.d, 101 means no)."""
    try:
        with _POLICY.open("x") as file:
            file.write("#!/bin/sh\nexit 101\n")
    except FileExistsError:  # somebody else's policy, which is not ours to change
        yield
        return
    try:
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink()


def cache() -> Path:
    """The folder of the suites; outside the checkout, and shared by all rigs of this user."""
    chosen = os.environ.get("LAYERFERRY_RIG_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(chosen) if chosen else Path(base) / "layerferry-rig"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Only one process at a time, of all that share the cache."""
    with (cache() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def suite_root(suite: str) -> Path:
    """The root folder of `suite`: that of this machine if it runs it, else one that is unpacked now or was before."""
    if suite == codename():
        install()
        return Path("/")
    packages = with_docker_client(suite, HOST_PACKAGES)
    root = cache() / f"{suite}-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:8]}"
    if not root.exists():
        install(["debootstrap"])
        with locked(suite):
            if not root.exists():
                _unpack(suite, packages, root)
    return root


def prepare(suites: Iterable[str]) -> None:
    """Make all of `suites` ready, those that have to be unpacked at the same time."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(suite_root, sorted(set(suites))))


def _unpack(suite: str, packages: list[str], root: Path) -> None:
    """Unpack beside `root`, then rename, so that a folder under that name is always whole."""
    began = time.monotonic()
    for old in root.parent.glob(f".{suite}-*"):
        shutil.rmtree(old)
    beside = root.with_name(f".{root.name}-{os.getpid()}")
    known = Path("/usr/share/debootstrap/scripts", suite).exists()
    own_mounts = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    arguments = ["--variant=minbase", f"--include={','.join(packages)}", suite, str(beside)]
    print(f"rig: unpacking Debian {suite} into {root} (once, about a minute)", file=sys.stderr)
    _run_logged(
        [*own_mounts, "debootstrap", *arguments, _mirror(), *([] if known else ["sid"])], f"debootstrap-{suite}"
    )
    for archive in (beside / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
    beside.rename(root)
    print(f"rig: Debian {suite} is ready after {time.monotonic() - began:.0f} s", file=sys.stderr)


def _mirror() -> str:
    """The package archive that this machine's apt uses, if it is Debian's."""
    sources = [*Path("/etc/apt/sources.list.d").glob("*.sources"), *Path("/etc/apt/sources.list.d").glob("*.list")]
    for file in (Path("/etc/apt/sources.list"), *sorted(sources)):
        for line in file.read_text().splitlines() if file.exists() else ():
            words = line.split()
            addresses = [word.rstrip("/") for word in words[1:] if word.startswith(("http://", "https://"))]
            if words and words[0] in {"deb", "URIs:"} and addresses and addresses[0].endswith("/debian"):
                return addresses[0]
    return "http://deb.debian.org/debian"


def _run_logged(argv: list[str], name: str, *, env: dict[str, str] | None = None) -> None:
    """Run `argv` with its output in a log of the cache; on failure say what failed, and show the log's end."""
    log = cache() / f"{name}.log"
    with log.open("wb") as out:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, check=False
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise RigError(f"{argv[0]} failed with status {done.returncode}, see {log}:\n{tail}")
