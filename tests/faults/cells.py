"""The table: what happens to a push, where, to which kind of end, and how it may end.

An end is an exit code. 0 is *done and verified*; each other one is a failure that leaves the old image under its name,
and nothing of ours on either side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: The kinds of end, and the engines that play them: docker 26 is asked by its command, 28 by its API.
COMMAND = ("command", "docker26-overlay2")
PODMAN = ("command", "podman5")
API = ("api", "docker28-overlay2")
BLOBS = ("api", "docker28-containerd")
CTR = ("ctr", "containerd2")
RECEIVER = ("receiver", "docker28-overlay2")
REGISTRY = ("registry", "docker28-overlay2")
HOSTS = (COMMAND, API, BLOBS, CTR, PODMAN)
SSH = (COMMAND, API, CTR, RECEIVER)
ALL = (*SSH, REGISTRY)

End = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """`ends` are the exit codes that it may have; -9 is that of a client that was killed."""

    fault: str
    station: str
    way: str
    kind: str
    ends: tuple[int, ...]
    #: Part of the short form, which a CI runs.
    short: bool = False

    @property
    def name(self) -> str:
        return f"{self.fault}, {self.station}, {self.way}"

    @property
    def named(self) -> bool:
        """Whether names are given by then, so that the new image may stand there whatever came of the push."""
        return self.station in {"naming", "tidying"}


def _cells(fault: str, station: str, ways: Sequence[End], *ends: int, short: Sequence[End] = ()) -> Iterator[Cell]:
    for way in ways:
        yield Cell(fault, station, *way, ends, short=way in short)


def _client() -> Iterator[Cell]:
    """The client ends."""
    yield from _cells("SIGINT", "asking", (API, CTR, RECEIVER), 130)
    yield from _cells("SIGINT", "sending", ALL, 130)
    yield from _cells("SIGTERM", "loading", SSH, 130)
    yield from _cells("SIGTERM", "naming", (API, CTR, REGISTRY), 0, 130)
    yield from _cells("SIGHUP", "sending", (API, REGISTRY), 130)
    yield from _cells("SIGHUP", "verifying", (COMMAND, RECEIVER), 130)
    yield from _cells("SIGKILL", "connecting", (API, REGISTRY), -9)
    yield from _cells("SIGKILL", "asking", (COMMAND, CTR), -9)
    yield from _cells("SIGKILL", "sending", ALL, -9, short=(API, REGISTRY))
    yield from _cells("SIGKILL", "loaded", (API, BLOBS, CTR, PODMAN, RECEIVER), -9, short=(CTR,))
    yield from _cells("SIGKILL", "naming", (COMMAND, API), -9)


def _line() -> Iterator[Cell]:
    """The line breaks, stands, or is slow."""
    yield from _cells("line cut", "connecting", (API,), 4)
    yield from _cells("line cut", "sending", SSH, 4, short=(API,))
    yield from _cells("line cut", "sending", (REGISTRY,), 0)
    yield from _cells("line cut", "loaded", (API, CTR, RECEIVER), 4)
    yield from _cells("line cut", "naming", (COMMAND, RECEIVER), 4)
    yield from _cells("line cut", "naming", (REGISTRY,), 0, 4)
    yield from _cells("line cut, tried again", "sending", (COMMAND, API, CTR, RECEIVER), 0, short=(RECEIVER,))
    yield from _cells("line dead", "connecting", (API, REGISTRY), 4)
    yield from _cells("line dead", "asking", (COMMAND,), 4)
    yield from _cells("line dead", "sending", ALL, 4, short=(COMMAND,))
    yield from _cells("line dead", "loading", (API, CTR), 4)
    yield from _cells("line of 64 kbit/s", "sending", (API, CTR, REGISTRY), 0)


def _way() -> Iterator[Cell]:
    """Something on the way is killed."""
    yield from _cells("ssh killed", "sending", SSH, 4)
    yield from _cells("ssh killed", "loading", (API,), 4)
    yield from _cells("session killed", "sending", SSH, 4, short=(CTR,))
    yield from _cells("session killed", "verifying", (API, RECEIVER), 4)
    yield from _cells("script killed", "asking", (API,), 4, 5)
    yield from _cells("script killed", "sending", SSH, 4, 5)
    yield from _cells("script killed", "loaded", (COMMAND, API, CTR, RECEIVER), 4, 5, short=(API,))


def _engine() -> Iterator[Cell]:
    """The engine dies, hangs, is full, or has changed."""
    yield from _cells("engine killed", "sending", (COMMAND, API, BLOBS, CTR, PODMAN, RECEIVER), 5)
    yield from _cells("engine killed", "verifying", (COMMAND, API, BLOBS, CTR, RECEIVER), 5, short=(API,))
    yield from _cells("engine killed", "naming", (API, CTR), 5)
    yield from _cells("engine restarted", "loading", (COMMAND, API, CTR, RECEIVER), 0, 5)
    yield from _cells("engine restarted", "verifying", (COMMAND, API, BLOBS, CTR), 0, 5)
    yield from _cells("engine restarted, tried again", "sending", (API,), 0)
    yield from _cells("engine stopped", "sending", (COMMAND, API, CTR, RECEIVER), 4, 5, short=(API,))
    yield from _cells("engine stopped", "verifying", (API, CTR), 4, 5)
    yield from _cells("base pruned", "loading", (COMMAND, API, CTR, PODMAN), 0, 5)
    # A containerd store says that all is well, and shows nothing (docs/design.md, fact 3).
    yield from _cells("base pruned", "loading", (BLOBS,), 0, 6)
    yield from _cells("base pruned, tried again", "loading", (API, BLOBS, CTR), 0, short=(API,))
    yield from _cells("name moved", "loading", (COMMAND, API, CTR, RECEIVER), 0)
    yield from _cells("name moved", "naming", (API,), 0)
    yield from _cells("disk of the engine full", "none", (COMMAND, API, PODMAN), 5, short=(API,))


def _source() -> Iterator[Cell]:
    """The source dies, hangs, or has no room."""
    yield from _cells("source killed", "sending", (API,), 0, 3)
    yield from _cells("source killed, export", "sending", (API, CTR), 3, short=(CTR,))
    yield from _cells("source stopped", "sending", (API,), 3)
    yield from _cells("source stopped, export", "sending", (API,), 3)
    yield from _cells("source stopped, export", "sending", (REGISTRY,), 0, 3)  # all may have been read by then
    yield from _cells("source stopped and SIGTERM", "sending", (API, REGISTRY), 130, short=(API,))
    yield from _cells("source stopped and SIGTERM, export", "sending", (API,), 130)
    yield from _cells("TMPDIR full", "none", (API, REGISTRY), 0, 3)
    yield from _cells("TMPDIR full, two targets", "none", (API, REGISTRY), 3, short=(API,))
    yield from _cells("TMPDIR full, pushed", "none", (API,), 7)
    yield from _cells("TMPDIR full, two targets, pushed", "none", (API, REGISTRY), 7)


def _registry() -> Iterator[Cell]:
    """A registry dies, or hangs."""
    yield from _cells("registry killed", "sending", (REGISTRY,), 4)
    yield from _cells("registry stopped", "sending", (REGISTRY,), 4, short=(REGISTRY,))


CELLS = (*_client(), *_line(), *_way(), *_engine(), *_source(), *_registry())
