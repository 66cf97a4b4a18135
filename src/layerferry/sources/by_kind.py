"""Images of any kind of source in one push: each reference goes to the source of its kind, which is opened at need."""

from collections.abc import Callable, Mapping

from layerferry.oci.image import Platform
from layerferry.sources import Source, SourceImage, kind_of


class Sources(Source):
    """A source that hands each reference on, by `kind_of` it."""

    def __init__(self, openers: Mapping[str, Callable[[], Source]]) -> None:
        self._openers = openers
        self._opened: dict[str, Source] = {}

    def open(self, reference: str, platform: Platform | None = None) -> SourceImage:
        kind = kind_of(reference)
        if kind not in self._opened:
            self._opened[kind] = self._openers[kind]()
        return self._opened[kind].open(reference, platform)

    def prepare(self) -> None:
        for source in self._opened.values():
            source.prepare()

    def break_off(self) -> None:
        for source in list(self._opened.values()):
            source.break_off()

    def close(self) -> None:
        for source in self._opened.values():
            source.close()
