"""Where images come from: one file a source, behind one small contract. A source opens images, which give content."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from layerferry.errors import UsageError
from layerferry.oci.content import Content, Route
from layerferry.oci.image import Descriptor, Image, Platform
from layerferry.oci.plan import Plan

#: What a reference begins with that is no daemon's: `oci:PATH`, `archive:PATH`, `registry:HOST/NAME`.
KINDS = ("oci", "archive", "registry")


def kind_of(reference: str) -> str:
    """The kind of source that a reference is for: one of `KINDS`, or `daemon`."""
    kind, colon, _ = reference.partition(":")
    return kind if colon and kind in KINDS else "daemon"


#: containers-transports(5), of skopeo and podman, in our words.
_OTHERS_WORDS = {
    "docker-archive:": "archive:",
    "oci-archive:": "archive:",
    "docker-daemon:": "",
    "docker://": "registry:",
}
#: And what has none.
_OTHERS_STORES = {
    "containers-storage:": "Start podman's service and point DOCKER_HOST at it: unix:///run/podman/podman.sock, or "
    "`podman save NAME | layerferry push archive:- HOST`.",
    "dir:": "Copy it first: skopeo copy dir:PATH oci:PATH:TAG.",
    "ostree:": "Copy it first: skopeo copy ostree:... oci:PATH:TAG.",
    "sif:": "Copy it first: skopeo copy sif:PATH oci:PATH:TAG.",
}


def in_our_words(reference: str) -> str:
    """A reference in words of skopeo and podman, in ours; raises `UsageError` that says what to write instead."""
    for theirs, ours in _OTHERS_WORDS.items():
        if reference.startswith(theirs):
            return ours + reference.removeprefix(theirs)
    for theirs, hint in _OTHERS_STORES.items():
        if reference.startswith(theirs):
            raise UsageError(f"images are not read out of {theirs[:-1]}", hint=hint)
    return reference


def wants_daemon(references: Iterable[str]) -> bool:
    """Whether any of the references is for a daemon; raises `UsageError` as `in_our_words` does."""
    return any(kind_of(in_our_words(reference)) == "daemon" for reference in references)


class SourceImage(Protocol):
    """An image that a source holds. Nothing of its layers is read before `fetch`."""

    @property
    def image(self) -> Image:
        """What the image is: platform, layers, ID."""

    @property
    def names(self) -> tuple[str, ...]:
        """The full names that the source itself gives it; none where its reference is its name."""

    @property
    def held(self) -> Mapping[str, Descriptor]:
        """By diff ID, the compressed blobs that it is held in, as far as that is known before it is read."""

    def fetch_config_id(self) -> str:
        """The digest of its config, its ID for most engines; empty where only its layers would tell.

        A daemon with a containerd store is let push for it, which moves no layer, and takes some 0.2 s.
        """

    def choose(self, plan: Plan) -> Route:
        """The route that `fetch` would take for this plan, and why. Raises `RouteError`."""

    def fetch(self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path) -> AbstractContextManager[Content]:
        """Open its content on that route; `wanted` diff IDs are what it yields. `spool` is private."""


class Source(ABC):
    """An image source. Most need nothing but `open`."""

    @abstractmethod
    def open(self, reference: str, platform: Platform | None = None) -> SourceImage:
        """Find an image. Raises `SeveralPlatformsError` where a platform must be said, and `SourceError`."""

    def prepare(self) -> None:  # noqa: B027
        """Get ready for what follows, while the target answers. Nothing is read yet: the image may be there already."""

    def expect(self, plans: Sequence[tuple[SourceImage, Plan]]) -> None:  # noqa: B027
        """Hear of all that will be fetched, before the first `choose`."""

    def break_off(self) -> None:  # noqa: B027
        """Let whoever waits for the source, in whichever thread, hear at once that nothing more comes."""

    def close(self) -> None:  # noqa: B027
        """Let go of whatever is held."""
