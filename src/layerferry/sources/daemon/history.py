"""An image's history: what each of its layers has in bytes, as far as that can be told from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from layerferry.oci.documents import Document

#: Instructions that make no layer: their history entries have no bytes, as those of some layers have none.
_LAYERLESS = ("ENV", "CMD", "ENTRYPOINT", "LABEL", "EXPOSE", "USER", "ARG", "VOLUME", "STOPSIGNAL", "HEALTHCHECK",
              "ONBUILD", "MAINTAINER", "SHELL")  # fmt: skip


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """An entry of an image's history: bytes of its layer, or 0, and the instruction that made it."""

    size: int
    created_by: str = ""

    @classmethod
    def of(cls, told: Document) -> Self:
        """Raises `SourceError`. An instruction may be as long as its here-document: what it begins with is read."""
        created_by = told.members.get("CreatedBy") or ""
        if not isinstance(created_by, str):
            raise told.damaged("CreatedBy is not a string")
        return cls(told.count("Size", 0), created_by)


def layer_entries(history: Sequence[HistoryEntry], count: int) -> list[HistoryEntry]:
    """The entry of each of `count` layers, bottom first, of a history, bottom first.

    An engine's history does not say which entries made a layer. Those with bytes did; of the others those that are not
    known to make none. Where that does not add up to `count`, the sizes are lost, and the instructions: they are
    estimates all the same.
    """
    sized = [entry for entry in history if entry.size]
    if len(sized) != count:
        sized = [entry for entry in history if entry.size or not _is_layerless(entry.created_by)]
    if len(sized) != count:
        sized = [HistoryEntry(entry.size) for entry in history if entry.size][:count]
    return sized + [HistoryEntry(0)] * (count - len(sized))


def _is_layerless(created_by: str) -> bool:
    """BuildKit writes `ENV A=1`, the builder before it `/bin/sh -c #(nop)  ENV A=1`."""
    return created_by.removeprefix("/bin/sh -c #(nop)").lstrip().startswith(_LAYERLESS)
