"""Words of a command line that a project's file has names for: targets, with their options, and images."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from layerferry import settings
from layerferry.errors import UsageError
from layerferry.targets import is_registry

if TYPE_CHECKING:
    from layerferry.settings.values import Placed

# Where no word may be a name, nothing of all this is loaded: ssh is to start at once.
# ruff: noqa: PLC0415

#: A target as users write it, or the words of a command.
Word: TypeAlias = "str | tuple[str, ...]"


@dataclass(frozen=True, slots=True)
class Job:
    """What the words of a command have come to, and what the file says of it: `filed`, by the names of settings.

    `told` says what names stand for.
    """

    images: tuple[str, ...]
    targets: tuple[Word, ...]
    filed: "Mapping[str, Placed]" = field(default_factory=dict)
    told: tuple[str, ...] = ()

    def filed_value(self, name: str, given: Any) -> Any:
        """What the command line gives, or else the file."""
        return given or (self.filed[name].value if name in self.filed else given)


class Names:
    """The names of a project's file, as far as words of the command line may be any. Raises `UsageError`.

    What the file says counts where one of its targets is named: a host that is written out is as without a file.
    """

    def __init__(self, targets: Sequence[Word], config: Path | None = None) -> None:
        self._file = None
        path = settings.config_path(config)
        if path or any(map(_may_be_name, targets)):
            from layerferry.settings import project_file

            self._file = project_file.read(path, _here()) if path else project_file.find(_here(), _home())
        known = self._file.targets if self._file else {}
        self._named = {word: known[word] for word in targets if isinstance(word, str) and word in known}

    @property
    def composes(self) -> bool:
        """Whether one of the targets has a compose file, so that no image has to be named."""
        return any("compose" in target.options for target in self._named.values())

    def job(self, images: Sequence[str], targets: Sequence[Word], given: Mapping[str, Any] | None = None) -> Job:
        """Resolve the words; `given` are options of the command line, by the names of settings."""
        if self._file is None or not self._named:
            return Job(tuple(images), tuple(targets), told=tuple(self._strange(targets)))
        from layerferry.mistakes import without_password

        given = {name: value for name, value in (given or {}).items() if value not in (None, "", ())}
        filed = self._options(targets, given)
        engine = "" if "engine" in given or "engine" not in filed else filed["engine"].value
        found: list[Word] = []
        told = list(self._strange(targets))
        for word in targets:
            if not isinstance(word, str) or word not in self._named:
                found.append(word)
                continue
            to = [_with_engine(one, engine) for one in self._named[word].to]
            told.append(f"{word} is {', '.join(map(without_password, to))} ({self._file.title})")
            found += to
        read = [self.image(image) for image in images]
        told += [f"{a} is {b} ({self._file.title})" for a, b in zip(images, read, strict=True) if a != b]
        settled = {name: value for name, value in filed.items() if name != "engine"}
        return Job(tuple(read), tuple(found), settled, tuple(told))

    def image(self, word: str) -> str:
        """The image that a word, with a tag or without one, is the name of; or the word itself."""
        name, colon, tag = word.partition(":")
        if self._file is None or not self._named or name not in self._file.images:
            return word
        known = self._file.images[name]
        if not colon:
            return known
        from layerferry.oci.image import Name
        from layerferry.sources import kind_of

        place = f"{self._file.title}, images.{name}"
        if kind_of(known) not in {"daemon", "registry"}:
            raise UsageError(f"{place}: it is a file, and gets no tag of {word!r}", hint="Say the name: --name app:2.")
        registry = "registry:" if kind_of(known) == "registry" else ""
        return registry + Name.parse(known.removeprefix(registry)).with_tag(tag).familiar

    def _options(self, targets: Sequence[Word], given: Mapping[str, Any]) -> "dict[str, Placed]":
        """What the file says of all of the targets; what it says of some alone, they cannot be pushed to together."""
        told = [self._named[word].options if word in self._named else {} for word in targets]
        names = {name for options in told for name in options}
        counts = {name for name in names if name not in given and not _is_given(name)}
        for name in sorted(counts):
            values = [options[name].value if name in options else None for options in told]
            if any(value != values[0] for value in values):
                assert self._file
                key = name.replace("_", "-")
                raise UsageError(
                    f"the targets differ in {key} ({self._file.title}), and one push has one",
                    hint=f"Push to one after the other, or say --{key}.",
                )
        return {name: placed for options in told for name, placed in options.items() if name in counts}

    def _strange(self, targets: Sequence[Word]) -> list[str]:
        """A sentence on each word that is nearly a name of the file's."""
        if self._file is None:
            return []
        from layerferry.settings.values import similar

        words = [word for word in targets if isinstance(word, str) and _may_be_name(word)]
        found = {word: similar(word, self._file.targets) for word in words if word not in self._file.targets}
        return [
            f"{word} is no target of {self._file.title}, where {meant} may be meant"
            for word, meant in found.items()
            if meant
        ]


def named(config: Path | None) -> tuple[list[str], list[str]]:
    """The targets and the images that the file of the working folder has names for."""
    from layerferry.settings import project_file

    path = settings.config_path(config)
    file = project_file.read(path, _here()) if path else project_file.find(_here(), _home())
    return ([*file.targets], [*file.images]) if file else ([], [])


def _is_given(name: str) -> bool:
    """Whether a variable says it."""
    from layerferry.settings.values import is_given

    return name != "engine" and is_given(name, settings.environment())


def _may_be_name(word: Word) -> bool:
    return isinstance(word, str) and word.replace("-", "").replace("_", "").isalnum()


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError:  # the folder has gone
        return Path("/")


def _home() -> Path | None:
    home = settings.environment().get("HOME")
    return Path(os.path.realpath(home)) if home else None


def _with_engine(target: str, engine: str) -> str:
    """The target, with an engine where it is a host that names none."""
    if not engine or is_registry(target):
        return target
    from layerferry.targets.engine_choice import TargetEngine
    from layerferry.targets.ssh_target import SshTarget

    host = SshTarget.parse(target)
    return target if host.engine else str(replace(host, engine=TargetEngine.parse(engine)))
