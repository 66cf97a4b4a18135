"""The facts about this machine that tell where we run: files are read here, and judged in `topology`."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from layerferry.ci.daemon_address import below, context_endpoint, context_name, is_complete
from layerferry.ci.providers import FOLDERS
from layerferry.disk import is_there
from layerferry.errors import LayerferryError

#: Files whose existence says that this is a container: docker's, and podman's.
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")

_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts about this machine, as values, so that detection stays pure.

    `sockets` are paths of engine sockets that exist, most usual first. `addresses` are this machine's IPv4 addresses
    without loopback. `tls_folders` are folders that hold a whole client certificate. `context` is the name of docker's
    current context and `context_host` the address in it, "" where that is the default one.
    """

    marks: frozenset[str] = frozenset()
    sockets: tuple[str, ...] = ()
    cgroup: str = ""
    mountinfo: str = ""
    hosts: str = ""
    addresses: tuple[str, ...] = ()
    tls_folders: frozenset[str] = frozenset()
    context: str = ""
    context_host: str = ""
    #: Folders by which a CI is known.
    folders: frozenset[str] = frozenset()

    def resolve(self, name: str) -> str:
        """The first address that /etc/hosts has for `name`, or "": links and pods have their services there."""
        for address, names in self._hosts():
            if name in names:
                return address
        return ""

    def host_names(self) -> tuple[str, ...]:
        """The names in /etc/hosts, in order."""
        return tuple(name for _, names in self._hosts() for name in names)

    def _hosts(self) -> list[tuple[str, list[str]]]:
        lines = (line.partition("#")[0].split() for line in self.hosts.splitlines())
        return [(words[0], words[1:]) for words in lines if len(words) > 1]


def gather(env: Mapping[str, str], *, root: Path = Path("/")) -> Machine:
    """Read the facts below `root`; what cannot be read is absent, never an error."""
    context, context_host = _context(env, root)
    return Machine(
        marks=frozenset(mark for mark in CONTAINER_MARKS if is_there(below(root, mark))),
        sockets=tuple(path for path in _socket_paths(env) if is_there(below(root, path), stat.S_ISSOCK)),
        cgroup=_read(below(root, "/proc/self/cgroup")),
        mountinfo=_read(below(root, "/proc/self/mountinfo")) or _read(below(root, "/proc/1/mountinfo")),
        hosts=_read(below(root, "/etc/hosts")),
        addresses=local_addresses(_read(below(root, "/proc/net/fib_trie"))),
        tls_folders=frozenset(folder for folder in _tls_candidates(env) if is_complete(below(root, folder))),
        context=context,
        context_host=context_host,
        folders=frozenset(path for path in FOLDERS if is_there(below(root, path), stat.S_ISDIR)),
    )


def local_addresses(fib_trie: str) -> tuple[str, ...]:
    """The machine's IPv4 addresses in /proc/net/fib_trie, loopback left out, in the kernel's order."""
    found: dict[str, None] = {}
    address = ""
    for line in fib_trie.splitlines():
        words = line.split()
        if words[:1] in (["|--"], ["+--"]) and len(words) > 1:
            address = words[1]
        elif words == ["/32", "host", "LOCAL"] and not address.startswith("127."):
            found[address] = None
    return tuple(found)


def _socket_paths(env: Mapping[str, str]) -> list[str]:
    """The engine sockets in the order to prefer: docker's, rootless docker's, Docker Desktop's, podman's."""
    runtime = env.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    home = env.get("HOME", "")
    paths = ["/var/run/docker.sock", "/run/docker.sock", f"{runtime}/docker.sock"]
    paths += [f"{home}/.docker/run/docker.sock"] if home else []
    return [*paths, f"{runtime}/podman/podman.sock", "/run/podman/podman.sock"]


def _tls_candidates(env: Mapping[str, str]) -> list[str]:
    folders = [f"{env['DOCKER_TLS_CERTDIR']}/client"] if env.get("DOCKER_TLS_CERTDIR") else []
    return folders + [folder for folder in (env.get("DOCKER_CERT_PATH"), "/certs/client") if folder]


def _context(env: Mapping[str, str], root: Path) -> tuple[str, str]:
    """The name of docker's current context and where it points; "" for the default one, and where it cannot be read."""
    name = context_name(env, root)
    try:
        return name, context_endpoint(name, env, root)[0] if name else ""
    except LayerferryError:
        return name, ""


def _read(path: Path) -> str:
    try:
        if not is_there(path, stat.S_ISREG):  # a pipe would be waited for
            return ""
        with path.open("rb") as file:
            return file.read(_LARGEST).decode(errors="replace")
    except OSError:
        return ""
