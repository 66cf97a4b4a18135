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
    from layerferry.push.follow_up import FollowUp
    from layerferry.signing.offer import Offer
    from layerferry.targets.address import Target

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


def wanted(images: Sequence[str], names: Sequence[str]) -> list[Wanted]:
    """The images of a job, with the names of `LAYERFERRY_NAMES` or `--name`.

    Of one image these are its names. Of several, each gets those that are of its repository, and keeps its own where
    none is; raises `UsageError` where it is not clear whose a name is.
    """
    if len(images) < 2 or not names:  # noqa: PLR2004 - one
        return [Wanted.of(image, names) for image in images]
    own: dict[str, list[str]] = {}
    for image in images:
        own.setdefault(_repository(image), []).append(image)
    given: dict[str, list[str]] = {}
    for name in names:
        found = own.get(Name.parse(name).repository, [])
        if len(found) != 1:
            whose = f"{len(found)} of the images" if found else "none of the images"
            raise UsageError(
                f"the name {name} is of the repository of {whose}",
                hint="Of several images, each gets the names of its own repository. Push this one by itself.",
            )
        given.setdefault(found[0], []).append(name)
    return [Wanted.of(image, given.get(image, ())) for image in images]


def _repository(image: str) -> str:
    """The repository that an image is called by; empty where it is called by a path, or by an ID."""
    image = in_our_words(image)
    reference = image.removeprefix("registry:").rpartition("//")[2] if kind_of(image) == "registry" else image
    if kind_of(image) not in {"daemon", "registry"} or is_image_id(image):
        return ""
    return Name.parse(reference).repository


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
    #: The host that the images come from, where they are pulled to this machine.
    source: str = ""
    #: The signatures for targets that want them; None where there are none.
    offer: "Offer | None" = None
    #: Why a layer always goes whole, and never as a recipe, in words behind "whole,"; empty where it may.
    whole_layers: str = ""
    #: Whether what earlier tries have left on a target is built on, and what this one sends is kept there.
    resume: bool = True
    #: The tag that keeps what a name pointed to before; empty where nothing is kept.
    keep_previous: str = ""
    #: How many of the newest images of a repository stay; None where none is removed.
    prune: int | None = None
    #: What follows the push; None where nothing does.
    follow_up: "FollowUp | None" = None
    #: Where it is done if the targets are registries.
    nodes: "tuple[Target, ...]" = ()

    @property
    def has_upkeep(self) -> bool:
        """Whether it matters which images were there before."""
        return bool(self.keep_previous) or self.prune is not None


def nameless(reference: str) -> UsageError:
    return UsageError(f"{reference} has no name to give it on the target", hint="Say one: --name app:2.")
