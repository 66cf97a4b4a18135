"""Which sources reach which targets: each pair is a test, and docs/targets.md says what holds for it.

python3 tests/matrix.py     prints the part of docs/targets.md that tests/engines/test_matrix.py proves on real engines
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from rig.kinds import KINDS, Kind

#: Daemons whose API is read, by the rig's kind of engine.
DAEMONS = {
    "docker20-overlay2": "docker 20.10",
    "docker26-containerd": "docker 26.1, containerd store",
    "docker28-overlay2": "docker 28.5",
    "docker28-containerd": "docker 28.5, containerd store",
    "podman5": "podman 5, its service",
}
#: What needs no daemon, by the name of what packs it.
PACKED = {
    "layout": "`oci:` layout, zstd layers",
    "oci-archive": "`archive:` of OCI, gzip layers",
    "docker25": "`archive:` of `docker save`",
    "registry": "`registry:`",
}
TARGETS = {
    "docker20-overlay2": "docker 20.10",
    "docker26-overlay2": "docker 26.1",
    "docker26-containerd": "docker 26.1, containerd store",
    "docker28-overlay2": "docker 28.5",
    "docker28-containerd": "docker 28.5, containerd store",
    "podman4": "podman 4.3",
    "podman5": "podman 5.8",
    "containerd1": "containerd 1.7",
    "containerd2": "containerd 2",
    "k3s": "k3s (its `ctr`)",
}


def checked(target: Kind) -> str:
    """What a target calls an image by: `ID`, its config's digest; or `digest`, its manifest's."""
    return "digest" if target.store == "containerd" else "ID"


def table() -> str:
    """What holds for all pairs, a line for each target."""
    sources = [*DAEMONS.values(), *PACKED.values()]
    rows = ["| to | from any of these, it calls the image by |", "|-|-|"]
    by = {"ID": "its `ID`, the digest of its config", "digest": "the `digest` of its manifest"}
    rows += [f"| {label} | {by[checked(KINDS[kind])]} |" for kind, label in TARGETS.items()]
    return f"From: {'; '.join(sources)}.\n\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
