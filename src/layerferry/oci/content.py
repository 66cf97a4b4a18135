"""The content of an image on its way: the blobs of its layers, and what is known of it when they have passed."""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from layerferry.errors import SourceError
from layerferry.oci.image import Descriptor

#: Bytes that have to be sent from which on a target keeps what has arrived: less is as quickly sent again.
WORTH_KEEPING = 32 << 20


@dataclass(frozen=True, slots=True)
class Route:
    """The way that an image's content takes out of its source, and why this one."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a large layer by its name (`layerferry.oci.piece`), and its bytes as sent.

    These are none where the target has it. `size` bytes of the layer are in it.
    """

    name: str
    data: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Blob:
    """One layer's bytes on their way: `chunks` has exactly `descriptor.size` bytes.

    `packed` is the same as a zstd stream, where somebody has it so already, and `recipe` what the target makes it of
    (`layerferry.patch`). `pieces` are for a target that keeps them, of the recipe where there is one. One is read.
    """

    diff_id: str
    descriptor: Descriptor
    chunks: Iterable[bytes]
    packed: Iterable[bytes] | None = None
    recipe: Iterable[bytes] | None = None
    pieces: Iterable[Piece] | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of an image when its content has been read.

    `descriptors` has, by diff ID, each layer as the source holds it, as far as the source has told; `manifest` is the
    source's own with its media type, where it has one. `received` is in bytes, read out of the source. `route` is the
    one that the content took in the end, where that is another than the one that was chosen.
    """

    config: bytes
    descriptors: Mapping[str, Descriptor]
    manifest: tuple[str, bytes] | None = None
    received: int = 0
    route: Route | None = None


def check_given(wanted: AbstractSet[str], given: AbstractSet[str], reference: str) -> None:
    """Raise `SourceError` where a source has not given all that was wanted of an image: nothing more is waited for."""
    if lacking := wanted - given:
        raise SourceError(f"the source of {reference} has not given its layer {min(lacking)}")


class Content(Protocol):
    """What a source gives of one image, once the plan is known."""

    def blobs(self) -> Iterator[Blob]:
        """Yield each wanted layer once, in the source's own order; each is read to its end before the next."""

    def finish(self) -> Summary:
        """Tell what is known of the image, after the last of `blobs`. Raises `SourceError` where that is too little."""
