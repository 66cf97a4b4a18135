"""Debian packages of this machine, and whole Debian suites beside it, unpacked once into a cache."""

import contextlib
import fcntl
import functools
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

#: What makes a Debian a host with an engine.
_HOST = ("ca-certificates", "crun", "docker.io", "openssh-server", "podman", "procps", "sudo", "zstd")
#: The login shells that users of a host may have, and what a rootless podman needs; one host with them is enough.
_SHELLS = ("busybox", "dash", "fish", "tcsh", "uidmap", "zsh")
#: What the rig itself uses, on the machine that it runs on.
_TOOLS = ("debian-archive-keyring", "debootstrap", "docker-registry", "iproute2", "openssl", "skopeo", "util-linux")
#: The suite whose hosts have no curl, and are asked through docker's command; its docker-compose is of version 2.
_CURLLESS = "trixie"
#: What tests use that start no engine.
TOOLS = ("busybox", "dash", "mksh", "openssh-client", "openssl", "zsh", "zstd")
#: What every rig needs, and no suite has to be unpacked for.
SSH = ("openssh-client",)

#: What this process has seen to be installed.
_INSTALLED: set[str] = set()

_POLICY = Path("/usr/sbin/policy-rc.d")


def codename() -> str:
    """The suite that this machine runs, such as `bookworm`; empty where it is not Debian."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if line.count("=") == 1
    )
    return release.get("VERSION_CODENAME", "").strip('"') if release.get("ID", "").strip('"') == "debian" else ""


def host_packages(suite: str) -> list[str]:
    """What a host that runs `suite` has: after bookworm docker's client is a package of its own."""
    more = _SHELLS if suite == "bookworm" else ("docker-cli",)
    return sorted([*_HOST, *more, *(("docker-compose",) if suite == _CURLLESS else ("curl",))])


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


@functools.cache
def install_tools() -> None:
    """Install what the rig uses."""
    install((*SSH, *_TOOLS))


def install(packages: Iterable[str]) -> None:
    """Install what is missing of `packages` through apt, without starting a single service."""
    wanted = frozenset(packages) - _INSTALLED
    if not wanted:
        return
    with locked("apt"):
        if names := missing(wanted):
            quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            wait = ("-o", "DPkg::Lock::Timeout=300")
            with no_services():
                _run_logged(["apt-get", *wait, "update"], "apt", env=quiet)
                _run_logged(["apt-get", *wait, "install", "--yes", "--no-install-recommends", *names], "apt", env=quiet)
    _INSTALLED.update(wanted)


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
    install_tools()
    packages = host_packages(suite)
    if suite == codename():
        install(packages)
        return Path("/")
    root = cache() / f"{suite}-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:8]}"
    if not root.exists():
        with locked(suite):
            if not root.exists():
                _unpack(suite, packages, root)
    return root


def machine_root() -> Path:
    """The root folder of this machine, whatever it runs, with an engine of its own."""
    install(("iproute2", "openssh-server", "procps", *(() if shutil.which("dockerd") else ("docker.io",))))
    return Path("/")


def compose() -> Path:
    """The program of docker's compose, which runs on this machine, too."""
    return suite_root(_CURLLESS) / "usr/libexec/docker/cli-plugins/docker-compose"


def prepare(suites: Iterable[str]) -> None:
    """Make all of `suites` ready, those that have to be unpacked at the same time."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(suite_root, sorted(set(suites))))


def _unpack(suite: str, packages: list[str], root: Path) -> None:
    """Unpack beside `root`, then rename, so that a folder under that name is always whole."""
    began = time.monotonic()
    for old in root.parent.glob(f".{suite}-*"):
        shutil.rmtree(old, ignore_errors=True)
    beside = root.with_name(f".{root.name}-{os.getpid()}")
    known = Path("/usr/share/debootstrap/scripts", suite).exists()
    # Killed when we are, with its mounts: nobody else may find it at work when our lock is free.
    own_mounts = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--propagation",
        "private",
    ]
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
