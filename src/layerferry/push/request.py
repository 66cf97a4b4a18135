"""What a user asked for: images, the names that they get, and how to push them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from layerferry.compression.stream import Compression
from layerferry.errors import UsageError
from layerferry.oci.content import Route
from layerferry.oci.image import Name, Platform, is_image_id, may_be_image_id
from layerferry.sources import in_our_words, kind_of

if TYPE_CHECKING:
    from layerferry.signing.offer import Offer

#: Nothing is fetched for an image that is there already.
NO_ROUTE = Route("none", "nothing had to be read")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image to push: what the source calls it, and the full names that it gets on the target.

    No names: those that the source gives it.
    """

    reference: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, reference: str, names: Sequence[str] = ()) -> "Wanted":
        """Read IMAGE and its `--name`s; raises `UsageError` where there is no name to give it."""
        try:
            return cls._of(in_our_words(reference), names)
        except UsageError as error:
            from layerferry.mistakes import of_image  # noqa: PLC0415 - where there is one

            raise of_image(reference) or error from None

    @classmethod
    def _of(cls, reference: str, names: Sequence[str]) -> "Wanted":
        if names:
            if kind_of(reference) == "daemon" and not is_image_id(reference):
                Name.parse(reference)
            return cls(reference, tuple(Name.parse(name).tagged for name in names))
        if kind_of(reference) != "daemon":
            return cls(reference, ())
        name = None if is_image_id(reference) else Name.parse(reference)
        if name is None or (name.digest and not name.tag):
            raise nameless(reference)
        # Only the daemon can tell a name from the beginning of an ID.
        return cls(reference, () if may_be_image_id(reference) else (name.tagged,))


@dataclass(frozen=True, slots=True)
class Options:
    """How to push."""

    compression: Compression = field(default_factory=Compression)
    platform: Platform | None = None
    allow_platform_mismatch: bool = False
    dry_run: bool = False
    engine: str = ""
    #: Targets that are pushed to at once.
    jobs: int = 8
    #: Further tries, where one fails of something that may pass.
    retries: int = 3
    #: The signatures for targets that want them; None where there are none.
    offer: "Offer | None" = None
    #: Why a layer always goes whole, and never as a recipe, in words behind "whole,"; empty where it may.
    whole_layers: str = ""
    #: Whether what earlier tries have left on a target is built on, and what this one sends is kept there.
    resume: bool = True


def nameless(reference: str) -> UsageError:
    return UsageError(f"{reference} has no name to give it on the target", hint="Say one: --name app:2.")
