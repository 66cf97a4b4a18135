"""The way back: what a name pointed to before a push keeps another tag in its repository."""

import shlex
from collections.abc import Iterable, Mapping, Sequence

from layerferry.errors import UsageError
from layerferry.oci.image import Name
from layerferry.result import NamedImage

#: The tag that `rollback` goes back to, where none is said.
PREVIOUS = "previous"
#: Engines that keep an image that has lost its name; a containerd collects it.
KEEPING = frozenset({"docker", "podman"})


class NamesBefore:
    """What names of a target stood for before a push, for all of its tries: one that broke off may have moved some."""

    def __init__(self) -> None:
        #: By full name, an image ID; nothing where there was none.
        self._known: dict[str, str] = {}
        self._given: set[str] = set()
        #: Names of which it is not known: they may have been given before anything was heard of them.
        self.unknown: set[str] = set()

    def of(self, names: Iterable[str], image_id: str, there: Mapping[str, str]) -> dict[str, str]:
        """What `names` stood for, which that image gets; `there` says what they stand for now.

        One that shows the image already, and did not when it was looked at first, has got it by an earlier try.
        """
        for name in names:
            now = there.get(name, "")
            if now == image_id and name in self._given - self._known.keys():
                self.unknown.add(name)
            elif now != image_id or name not in self._known:
                self._known[name] = now
        return {name: before for name in names if (before := self._known.get(name))}

    def broke_off(self, names: Iterable[str]) -> None:
        """A try has ended while it gave `names`."""
        self._given.update(names)


def previous_name(name: str, tag: str) -> str:
    """The full name that keeps what `name` points to; raises `UsageError` where it is that very name."""
    kept = Name.parse(name).with_tag(tag).tagged
    if kept == name:
        familiar = Name.parse(name).familiar
        raise UsageError(
            f"{familiar} is pushed, and is to keep what {familiar} was before",
            hint="Keep it under another tag: --keep-previous previous.",
        )
    return kept


def rollback_command(target: str, name: str, tag: str) -> str:
    """The command that exchanges the images of `name` and of `tag` in its repository."""
    words = ["layerferry", "rollback", target, Name.parse(name).familiar, *(["--to", tag] if tag != PREVIOUS else [])]
    return shlex.join(words)


def check(images: Sequence[Sequence[str]], tag: str) -> None:
    """Check that each tag is to keep the images before one pushed image alone; `images` are the full names of each.

    Raises `UsageError`.
    """
    seen: dict[str, int] = {}
    for number, names in enumerate(images):
        for name in names:
            kept = previous_name(name, tag)
            if seen.setdefault(kept, number) != number:
                raise UsageError(
                    f"two images go to {Name.parse(name).repository}, and {Name.parse(kept).familiar} can keep one",
                    hint="Push them one after the other, each with a tag of its own to keep: --keep-previous.",
                )


def kept(
    names: Sequence[str], image_id: str, there: Mapping[str, str], tag: str
) -> tuple[list[NamedImage], list[tuple[str, str]]]:
    """What is to be kept where an image of that ID gets `names`, of which `there` says what they point to now.

    Of each repository the first name that points to something else counts. An image that is unchanged keeps nothing, so
    that the way back stays. The second list has pairs of a name and an image ID that are given up: another name of the
    repository pointed to another image.
    """
    found: dict[str, str] = {}
    given_up = []
    for name in names:
        before, keeper = there.get(name), previous_name(name, tag)
        if before is None or before == image_id:
            continue
        if found.setdefault(keeper, before) != before and before not in found.values():
            given_up.append((name, before))
    return [NamedImage(before, (keeper,)) for keeper, before in found.items()], given_up
