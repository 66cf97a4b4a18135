"""Where images come from. One file a source, behind one small contract."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from layerferry.events import Route
from layerferry.oci.delta_archive import Content
from layerferry.oci.image import Descriptor, Image, Platform
from layerferry.oci.plan import Plan

#: What a reference begins with that is no daemon's: `oci:PATH`, `archive:PATH`, `registry:HOST/NAME`.
KINDS = ("oci", "archive", "registry")


def kind_of(reference: str) -> str:
    """The kind of source that a reference is for: one of `KINDS`, or `daemon`."""
    kind, colon, _ = reference.partition(":")
    return kind if colon and kind in KINDS else "daemon"


class Source(Protocol):
    """An image source."""

    def inspect(self, reference: str, platform: Platform | None = None) -> Image:
        """Describe an image, and read nothing of its layers. Raises `SourceError`."""

    def names(self, image: Image) -> tuple[str, ...]:
        """The full names that the source itself gives an image; none where its reference is its name."""

    def prepare(self) -> None:
        """Get ready for what follows, while the target answers. Nothing is read yet: the image may be there already."""

    def held(self, image: Image) -> Mapping[str, Descriptor]:
        """By diff ID, the compressed blobs that the image is held in, as far as that is known before it is read."""

    def config_id(self, image: Image) -> str:
        """The digest of the image's config, its ID for most engines; empty where only layers would tell."""

    def expect(self, plans: Sequence[Plan]) -> None:
        """Hear of all that will be fetched, before the first `choose`."""

    def choose(self, plan: Plan) -> Route:
        """The route that `fetch` would take for this plan, and why. Raises `RouteError`."""

    def fetch(self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path) -> AbstractContextManager[Content]:
        """Open the image's content on that route; `wanted` diff IDs are what it yields. `spool` is private."""

    def close(self) -> None: ...
