"""Where images come from. One file a source, behind one small contract."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from layerferry.archive import Content
from layerferry.events import Route
from layerferry.image import Image, Platform
from layerferry.plan import Plan


class Source(Protocol):
    """An image source."""

    def inspect(self, reference: str, platform: Platform | None = None) -> Image:
        """Describe an image, and read nothing of its layers. Raises `SourceError`."""

    def choose(self, plan: Plan) -> Route:
        """The route that `fetch` would take for this plan, and why. Raises `RouteError`."""

    def fetch(self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path) -> AbstractContextManager[Content]:
        """Open the image's content on that route; `wanted` diff IDs are what it yields. `spool` is private."""

    def close(self) -> None: ...
