"""What a push does about the images that a host had before: it keeps a way back, and removes what is not needed."""

from collections.abc import Iterable, Iterator, Sequence

from layerferry.errors import LayerferryError, TargetError
from layerferry.events import Emit, Warned
from layerferry.oci.image import Name
from layerferry.protocol import Capability
from layerferry.push import pruning, way_back
from layerferry.push.delivery import Item
from layerferry.push.request import Options
from layerferry.result import NamedImage
from layerferry.targets.conversation import Conversation
from layerferry.targets.greeting import Greeting, full_names
from layerferry.targets.named_images import ImagesThere, TargetImage, look, remove, resolve


class Upkeep:
    """The images before, of one push to one host."""

    def __init__(self, conversation: Conversation, options: Options, emit: Emit, seen: way_back.NamesBefore) -> None:
        self._conversation = conversation
        self._options = options
        self._emit = emit
        self._engine = ""
        self._seen = seen
        #: By item, the image IDs that its names, and those that keep them, pointed to before.
        self._before: list[set[str]] = []

    @property
    def _target(self) -> str:
        return self._conversation.target

    def announced(self, images: Sequence[Sequence[str]]) -> list[str]:
        """The names for the way back, of images with these names: a receiver is to say at once that it refuses one.

        Raises `UsageError` where one of them would have to keep two images.
        """
        tag = self._options.keep_previous
        if not tag:
            return []
        way_back.check(images, tag)
        return list(dict.fromkeys(way_back.previous_name(name, tag) for names in images for name in names))

    def check(self, greeting: Greeting) -> None:
        """Check that the target can do it, before anything is sent; raises `TargetError`."""
        self._engine = greeting.engine
        if self._options.keep_previous:
            if not self._conversation.takes(Capability.NAMES):
                raise TargetError(
                    f"{self._target} cannot keep what a name pointed to before",
                    hint="Its receiver is older than --keep-previous: install this version of layerferry there.",
                )
            if greeting.signers:
                raise TargetError(
                    f"{self._target} gives names to signed images alone, so that none keeps another tag",
                    hint="Leave --keep-previous out; an older image comes back with its own signature.",
                )
        if self._options.prune is not None and not self._conversation.takes(Capability.PRUNE):
            raise TargetError(
                f"{self._target} lets nobody remove images: it is a receiver",
                hint="Leave --prune out, and let the host's owner remove them there.",
            )

    def keep(self, items: Sequence[Item]) -> list[tuple[str, str]]:
        """Find out what the names point to, and tell each item what is kept: pairs of an image ID and its name."""
        tag = self._options.keep_previous
        keepers = {name: way_back.previous_name(name, tag) for item in items for name in item.names} if tag else {}
        there = resolve(self._conversation, [*(name for item in items for name in item.names), *keepers.values()])
        for item in items:
            before = self._seen.of(item.names, item.image_id, there)
            lost = set(before.values())
            if tag:
                kept, given_up = way_back.kept(item.names, item.image_id, before, tag)
                item.kept = tuple(kept)
                for image in kept:
                    lost |= set(self._seen.of(image.names, image.image_id, there).values())
                for name, image_id in given_up:
                    text = f"{_familiar(name)} was another image, {image_id}: no tag keeps that"
                    self._emit(Warned(self._target, text))
            self._before.append(lost)
        return [(image.image_id, name) for item in items for image in item.kept for name in image.names]

    def prune(self, items: Sequence[Item], conversation: Conversation | None = None) -> None:
        """Remove what is needed no longer. The images are there: what fails now is told as a warning.

        `conversation` is another one with the same target, which has named its images.
        """
        self._conversation = conversation or self._conversation
        try:
            self._prune(items)
        except LayerferryError as error:
            self._emit(Warned(self._target, f"no image was removed: {error.after(self._target)}"))

    def _prune(self, items: Sequence[Item]) -> None:
        repositories = dict.fromkeys(Name.parse(name).repository for item in items for name in item.names)
        kept = self.keep(items) if self._options.dry_run else []
        before = {image_id for ids in self._before for image_id in ids}
        there = look(self._conversation, [self._as_written(repository) for repository in repositories], before)
        keepers = {f"{repository}:{self._options.keep_previous or way_back.PREVIOUS}" for repository in repositories}
        coming = set(map(_coming, items))
        if self._options.dry_run:  # the names stand where the push would have put them
            given = {name: _coming(item) for item in items for name in item.names}
            pruning.move(there, {name: image_id for image_id, name in kept} | given)
            if self._engine not in way_back.KEEPING:
                there.images = {image.id: image for image in there.images.values() if image.names}
        for number, item in enumerate(items):
            gone: dict[str, TargetImage] = {}
            for repository in dict.fromkeys(Name.parse(name).repository for name in item.names):
                found = pruning.obsolete(
                    there,
                    repository,
                    (self._options.prune or 0) - self._newer(item, there),
                    pushed=coming,
                    nameless=self._before[number] if self._before else (),
                    keepers=keepers,
                )
                gone |= {image.id: image for image in found}
            item.pruned = tuple(self._remove(gone.values()))
            for image_id in gone:
                there.images.pop(image_id, None)

    def _newer(self, item: Item, there: ImagesThere) -> int:
        """In a dry run the image that would come counts as one of the newest."""
        return int(self._options.dry_run and _coming(item) not in there.images)

    def _remove(self, images: Iterable[TargetImage]) -> Iterator[NamedImage]:
        for image in images:
            why = "" if self._options.dry_run else remove(self._conversation, image)
            told = full_names(image.names)
            if why:
                called = ", ".join(map(_familiar, told)) or image.id
                self._emit(Warned(self._target, f"{called} stays: {why}"))
            else:
                yield NamedImage(image.id, told)

    def _as_written(self, repository: str) -> str:
        """A repository as the engine writes it in its list: docker leaves out what is its default."""
        short = repository.removeprefix("docker.io/").removeprefix("library/")
        return short if self._engine == "docker" else repository


def _coming(item: Item) -> str:
    """The ID of an image on the target; in a dry run, what it would be."""
    return item.image_id or item.source.image.id


def _familiar(name: str) -> str:
    return Name.parse(name).familiar
