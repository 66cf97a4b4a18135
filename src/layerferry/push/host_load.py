"""The load of images on a host: what it is sent of them, and a look at what the engine made of that."""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from layerferry.chunks import UNSURE
from layerferry.compression.stream import Method, compress
from layerferry.errors import ArchiveError, PatchError, ResumeError, TargetError, VerificationError
from layerferry.events import Emit, Warned
from layerferry.oci.content import WORTH_KEEPING, Piece
from layerferry.oci.delta_archive import Archive, ArchiveBytes, ArchivedImage, Manifest
from layerferry.oci.plan import whole
from layerferry.push.delivery import Item
from layerferry.push.progress import Progress
from layerferry.push.request import Options
from layerferry.sources.unpacked import Unpacked
from layerferry.targets.conduit import Conduit
from layerferry.targets.conversation import Conversation
from layerferry.targets.greeting import Greeting
from layerferry.temporary import TemporaryFolder

if TYPE_CHECKING:
    from layerferry.push.patching import Patches
    from layerferry.push.resuming import Kept

#: Bytes of a layer, as its source counts them, from which on a patch may be worth its round trips.
_LARGE = 2 << 20

# What few pushes need is loaded where it is needed: hence the imports inside functions.
# ruff: noqa: PLC0415


class HostLoad:
    """Loads images under throw-away names, in a conversation whose greeting has been heard."""

    def __init__(
        self, conversation: Conversation, conduit: Conduit, greeting: Greeting, options: Options, emit: Emit
    ) -> None:
        self._conversation = conversation
        self._conduit = conduit
        self._greeting = greeting
        self._options = options
        self._emit = emit

    def load(self, items: Sequence[Item], method: Method) -> list[str]:
        """Send the images and verify them; the throw-away names that they were loaded under."""
        with contextlib.ExitStack() as stack:
            spool = Path(stack.enter_context(TemporaryFolder()))
            images = self._fetch(stack, items, spool)
            kept = self._ask_kept(items)
            patches = self._find_patches(items, kept, spool)
            if not patches:
                archive, shown = self._load_whole(items, images, method, kept)
            else:
                archive, shown = self._load_patched(items, images, patches, spool, kept)
        if swept := self._conversation.swept:
            what = "an image" if swept == 1 else f"{swept} images"
            text = f"removed {what} that earlier pushes, which were killed, had left there"
            self._emit(Warned(self._conversation.target, text))
        for item, manifest, summary in zip(items, archive.manifests, archive.summaries, strict=True):
            item.image_id = self._verified(item, manifest, shown[manifest.incoming])
            item.summary = summary
        return [image.incoming for image in images]

    def _ask_kept(self, items: Sequence[Item]) -> "Kept | None":
        """What the target has kept of large layers whose push broke off, and will keep; None where there is nothing."""
        needed = sum(item.plan.delta for item in items)
        if needed < WORTH_KEEPING or not self._greeting.resumes or not self._options.resume or self._conduit.is_here:
            return None
        from layerferry.push.resuming import ask_kept

        recipes = bool(self._greeting.patch) and not self._options.whole_layers
        return ask_kept(self._conversation, items, recipes=recipes)

    def _find_patches(self, items: Sequence[Item], kept: "Kept | None", spool: Path) -> "Patches | None":
        """What a target has of large layers in its older files. Where these go whole, their plan says why.

        Raises `PatchError` where the target's answers do not do.
        """
        large = {layer.diff_id: layer for item in items for layer in item.plan.sent if layer.size >= _LARGE}
        if not large or self._conduit.is_here:
            return None
        why, patches = self._options.whole_layers, None
        if not why and not self._greeting.patch:
            why = "for nothing on the target reads its older files"
        elif not why and kept and kept.begun_whole:
            why = "for an earlier push has left a part of it there"
        elif not why:
            from layerferry.push.patching import find_patches

            holders = [self._greeting.holdings[item.image.id].holder for item in items]
            begun = bool(kept and kept.begun_as_recipe)
            try:
                patches = find_patches(self._conversation, items, list(large.values()), holders, spool, begun=begun)
            except TargetError as error:
                raise PatchError(error.message, hint=error.hint) from error
            why = patches.why
        if why:
            for item in items:
                item.plan = whole(item.plan, large, why)
        return None if why else patches

    def _load_whole(
        self, items: Sequence[Item], images: Sequence[ArchivedImage], method: Method, kept: "Kept | None"
    ) -> tuple[Archive, dict[str, str]]:
        """Load whole layers. Raises `ResumeError` where what the target has kept of earlier ones does not do."""
        try:
            return self._send(items, images, method, self._options.compression.level, kept=kept)
        except (ArchiveError, VerificationError) as error:
            if kept and kept.resumed:
                raise ResumeError(error.message, hint=error.hint) from error
            raise

    def _load_patched(
        self,
        items: Sequence[Item],
        images: Sequence[ArchivedImage],
        patches: "Patches",
        spool: Path,
        kept: "Kept | None",
    ) -> tuple[Archive, dict[str, str]]:
        """Load large layers as recipes. Raises `PatchError` where that does not do."""
        from layerferry.push import patching

        packing, level = Method(self._greeting.patch[0]), self._options.compression.level
        if level is None and packing is Method.ZSTD:
            level = patching.LEVEL
        try:
            contents = [
                patching.PatchedContent(image.content, patches, self._conversation.match, spool) for image in images
            ]
            for item, content in zip(items, contents, strict=True):
                item.plan = patching.patched(item.plan, content.recipes)
            images = [replace(image, content=content) for image, content in zip(images, contents, strict=True)]
            new = sum(recipe.literal for content in contents for recipe in content.recipes.values())
            if new < WORTH_KEEPING and kept and not kept.begun_as_recipe:
                kept = None
            return self._send(items, images, packing, level, as_recipe=patching.as_recipe, kept=kept)
        except (TargetError, VerificationError) as error:
            raise PatchError(error.message, hint=error.hint) from error

    def _send(
        self,
        items: Sequence[Item],
        images: Sequence[ArchivedImage],
        method: Method,
        level: int | None,
        *,
        as_recipe: Callable[[Iterable[ArchiveBytes]], Iterable[ArchiveBytes]] | None = None,
        kept: "Kept | None" = None,
    ) -> tuple[Archive, dict[str, str]]:
        """Send the archive, or a recipe of it; what the target shows afterwards. Tells of its progress.

        Of large layers the target keeps what it gets, until the image has its names.
        """
        if kept:
            from layerferry.push.resuming import in_pieces, wire

            images = in_pieces(images, kept, method, level)
        progress = Progress([item.plan for item in items], self._conduit, self._emit)
        archive = Archive(progress.counting(images), packed=method is Method.ZSTD and not as_recipe)
        pieces = as_recipe(archive.pieces()) if as_recipe else archive.pieces()
        stream: Iterable[bytes | Piece] = compress(pieces, method, level, progress.flow)
        if kept:
            stream = wire(pieces, kept, method, level, progress.flow)
        word = f"patch-{method}" if as_recipe else method
        shown = self._conversation.load(_expected(images), word, stream, progress.look)
        progress.end()
        resumed = dict(kept.resumed) if kept else {}
        for item in items:
            item.resumed = sum(resumed.pop(layer.diff_id, 0) for layer in item.plan.sent)
        return archive, shown

    def _fetch(self, stack: contextlib.ExitStack, items: Sequence[Item], spool: Path) -> list[ArchivedImage]:
        """A layer that several images want comes with the first of them; in a form that the engine can unpack."""
        coming: set[str] = set()
        images = []
        for number, item in enumerate(items):
            wanted = item.plan.wanted - coming
            coming |= wanted
            folder = spool / str(number)
            folder.mkdir()
            content = stack.enter_context(item.source.fetch(item.plan, item.route, wanted, folder))
            content = Unpacked(content, UNSURE if self._greeting.takes_zstd_layers else UNSURE | {"zstd"}, folder)
            images.append(ArchivedImage(item.plan, content, throw_away_name(self._greeting.maker)))
        return images

    def _verified(self, item: Item, manifest: Manifest, shown: str) -> str:
        """The image ID that the target shows, if it is one of what we sent."""
        if shown not in manifest.ids:
            raise VerificationError(
                f"{self._conversation.target} shows {item.wanted.reference} as {shown}, which is not what was sent",
                hint="The old image is still there under its name.",
            )
        return shown


def _expected(images: Sequence[ArchivedImage]) -> dict[str, Sequence[str]]:
    """By throw-away name, the diff IDs that the target has to show."""
    return {image.incoming: image.plan.image.diff_ids for image in images}


def throw_away_name(maker: str) -> str:
    """It tells when it was made, and by which session: a later one takes away what has been left by a dead one."""
    return "-".join(filter(None, [f"localhost/layerferry:{int(time.time()):x}", secrets.token_hex(8), maker]))
