"""Real engines, sshd, registries and networks, side by side on one Debian machine. See `python3 tests/rig --help`."""

from rig.containerd import Containerd
from rig.engine import Engine
from rig.images import EMPTY_TAR, Image, Layer, Noise, Text, Workshop
from rig.kinds import BARE, CONTAINERD, DOCKERS, ENGINES, KINDS, OVERLAY2, PODMANS, Kind
from rig.machine import Machine
from rig.network import Network
from rig.processes import RigError
from rig.registry import Registry
from rig.rig import Rig, cannot_run
from rig.ssh import SHELLS, Sshd

__all__ = [
    "BARE",
    "CONTAINERD",
    "DOCKERS",
    "EMPTY_TAR",
    "ENGINES",
    "KINDS",
    "OVERLAY2",
    "PODMANS",
    "SHELLS",
    "Containerd",
    "Engine",
    "Image",
    "Kind",
    "Layer",
    "Machine",
    "Network",
    "Noise",
    "Registry",
    "Rig",
    "RigError",
    "Sshd",
    "Text",
    "Workshop",
    "cannot_run",
]
