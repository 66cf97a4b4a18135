"""Images of any kind of source in one push: each reference goes to the source of its kind, which is opened at need."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from layerferry.events import Route
from layerferry.oci.delta_archive import Content
from layerferry.oci.image import Descriptor, Image, Platform
from layerferry.oci.plan import Plan
from layerferry.sources import Source, kind_of


class Sources:
    """A `sources.Source` that hands each reference on, by `sources.kind_of` it."""

    def __init__(self, openers: Mapping[str, Callable[[], Source]]) -> None:
        self._openers = openers
        self._opened: dict[str, Source] = {}

    def _of(self, reference: str) -> Source:
        kind = kind_of(reference)
        if kind not in self._opened:
            self._opened[kind] = self._openers[kind]()
        return self._opened[kind]

    def inspect(self, reference: str, platform: Platform | None = None) -> Image:
        return self._of(reference).inspect(reference, platform)

    def names(self, image: Image) -> tuple[str, ...]:
        return self._of(image.reference).names(image)

    def prepare(self) -> None:
        for source in self._opened.values():
            source.prepare()

    def config_id(self, image: Image) -> str:
        return self._of(image.reference).config_id(image)

    def held(self, image: Image) -> Mapping[str, Descriptor]:
        return self._of(image.reference).held(image)

    def expect(self, plans: Sequence[Plan]) -> None:
        for plan in plans:
            self._of(plan.image.reference).expect([plan])

    def choose(self, plan: Plan) -> Route:
        return self._of(plan.image.reference).choose(plan)

    def fetch(self, plan: Plan, route: Route, wanted: frozenset[str], spool: Path) -> AbstractContextManager[Content]:
        return self._of(plan.image.reference).fetch(plan, route, wanted, spool)

    def close(self) -> None:
        for source in self._opened.values():
            source.close()
