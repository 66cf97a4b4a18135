"""The kinds of engines that the rig can start: one table, and the names that tests use."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """An engine as some Debian suite ships it. `version` is what its own version has to start with."""

    name: str
    suite: str
    program: str
    store: str
    version: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind("docker20-overlay2", "bookworm", "docker", "overlay2", "20.10."),
        Kind("docker26-overlay2", "trixie", "docker", "overlay2", "26.1."),
        Kind("docker26-containerd", "trixie", "docker", "containerd", "26.1."),
        Kind("docker28-overlay2", "forky", "docker", "overlay2", "28."),
        Kind("docker28-containerd", "forky", "docker", "containerd", "28."),
        Kind("podman4", "bookworm", "podman", "podman", "4."),
        Kind("podman5", "forky", "podman", "podman", "5."),
        Kind("containerd1", "trixie", "ctr", "containerd", "1.7."),
        Kind("containerd2", "forky", "ctr", "containerd", "2."),
        Kind("k3s", "forky", "k3s", "containerd", "2."),
    )
}
#: The docker of this machine, of any version: where it only has to be quick.
THIS_MACHINE = Kind("this-machine", "", "docker", "", "")
DOCKERS = tuple(name for name, kind in KINDS.items() if kind.program == "docker")
PODMANS = tuple(name for name, kind in KINDS.items() if kind.program == "podman")
#: Engines that find a layer by the chain ID of what it completes, and those that find it by its content.
OVERLAY2 = tuple(name for name, kind in KINDS.items() if kind.store == "overlay2")
CONTAINERD = tuple(name for name in DOCKERS if KINDS[name].store == "containerd")
#: Engines with a build, a pull and an API, and hosts of containerd alone.
ENGINES = (*DOCKERS, *PODMANS)
BARE = tuple(name for name in KINDS if name not in ENGINES)
