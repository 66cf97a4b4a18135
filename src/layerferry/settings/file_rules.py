"""What a project's file may say: its keys, the types of their values, and what is refused, with where it belongs.

The file comes with a checkout, which may be a stranger's. What it says happens on the targets; but it runs no command
on this machine, says nothing of whom to trust, has no secret, and names no file out of its own folder.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from layerferry.errors import UsageError
from layerferry.settings.values import FIELDS, Placed, similar, variables

IMAGES: Final = "images"
TARGETS: Final = "targets"
TO: Final = "to"
#: A key that is no setting: options of the command line alone.
ENGINE: Final = "engine"
#: What a target, or an image, may be called: no host with a dot in it, no name with a tag, is taken for one.
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SECRET: Final = re.compile(r"pass(?:word|phrase|wd)?$|secret|token|(?:private|ssh|sign)-key|^key$|identity")
_SSH: Final = re.compile(r"ssh-(?:option|config)|proxy-?(?:command|jump)|local-command|^(?:command|conduit)$")

_TRUST: Final = "whoever pushes says which hosts to trust"
_MACHINE: Final = "it is about the machine or the job that pushes"
#: The settings that a file does not have, and why; the secret ones have a sentence of their own.
_REFUSED: Final[Mapping[str, str]] = {
    "ssh_known_hosts": _TRUST,
    "ssh_accept_new_host_key": _TRUST,
    "ngrok_install": "it lets a program be downloaded",
    "dotenv": "it lets a file be written",
    "log": "it lets a file be written",
    **dict.fromkeys(
        ("config", "registry", "local_docker_registry_port", "ngrok_domain", "ci", "quiet", "verbose", "summary"),
        _MACHINE,
    ),
}
_SETTINGS: Final = {field.name.replace("_", "-"): field for field in FIELDS}
#: The settings that a file may have, by its keys.
KEYS: Final = {
    key: field
    for key, field in _SETTINGS.items()
    if field.name not in _REFUSED and not field.metadata["secret"] and field.name not in {IMAGES, TARGETS}
}
#: The settings that are files of ours, which lie in the folder of the project's file.
_FILES: Final = frozenset({"compose", "then_file", "signatures", "copy"})
#: Images that are files, too; `oci:` may have a tag behind its path.
_PATHS: Final = re.compile(r"(oci|archive|docker-archive|oci-archive):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FilePlace:
    """Where in a file something stands: the file as messages call it, its folder, and the key."""

    title: str
    folder: Path
    key: str = ""

    def at(self, key: str) -> "FilePlace":
        return FilePlace(self.title, self.folder, f"{self.key}.{key}" if self.key else key)

    def __str__(self) -> str:
        return f"{self.title}, {self.key}" if self.key else self.title

    def mistake(self, what: str, hint: str = "") -> UsageError:
        return UsageError(f"{self}: {what}", hint=hint)


@dataclass(frozen=True, slots=True)
class NamedTarget:
    """Where to, as users write it, and what the file says of a push there, by the names of options."""

    to: tuple[str, ...]
    options: Mapping[str, Placed]


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """What the file says: `title` is what messages call it."""

    title: str
    images: Mapping[str, str]
    targets: Mapping[str, NamedTarget]


def typed(document: Mapping[str, Any], root: FilePlace) -> ProjectFile:
    """All that a file says, checked. Raises `UsageError`, which names the first mistake and its place."""
    common = dict(options(document, root, beside=(IMAGES, TARGETS)))
    images = {name: image(value, place) for name, value, place in _named(document, IMAGES, root)}
    targets = {}
    for name, value, place in _named(document, TARGETS, root):
        table = value if isinstance(value, dict) else {TO: value}
        if not (to := words(table.get(TO, []), place.at(TO))):
            raise place.mistake("it does not say where to", 'Write to = "deploy@host", or a list of hosts.')
        targets[name] = NamedTarget(to, {**common, **dict(options(table, place, beside=(TO,)))})
    return ProjectFile(root.title, images, targets)


def _named(document: Mapping[str, Any], key: str, root: FilePlace) -> Iterator[tuple[str, Any, FilePlace]]:
    """The rows of a table whose keys are names that users have chosen."""
    table = document.get(key, {})
    if not isinstance(table, dict):
        raise root.at(key).mistake(f"it is no table, [{root.at(key).key}]")
    for name, value in table.items():
        if not NAME.fullmatch(name):
            raise root.at(key).mistake(
                f"{name[:100]!r} is not what something may be called", "A name has letters, digits, - and _."
            )
        yield name, value, root.at(key).at(name)


def options(table: Mapping[str, Any], place: FilePlace, *, beside: Iterable[str]) -> Iterator[tuple[str, Placed]]:
    """The settings of a table, checked as far as types go. Raises `UsageError`; `beside` are keys that are none."""
    for key, value in table.items():
        if key in beside:
            continue
        if key == ENGINE:
            yield ENGINE, Placed(text(value, place.at(key)), str(place.at(key)))
        elif key in KEYS:
            field = KEYS[key]
            read = _of_type(value, field.type, place.at(key))
            if field.name in _FILES:
                read = _files(field.name, read, place.at(key))
            yield field.name, Placed(read, str(place.at(key)))
        else:
            raise _refused(key, place, [*KEYS, ENGINE, *beside])


def _refused(key: str, place: FilePlace, known: list[str]) -> UsageError:
    """The error for a key that a file does not have."""
    place = place.at(key if NAME.fullmatch(key) else repr(key[:100]))
    word = key.lower().replace("_", "-")
    field = _SETTINGS.get(word)
    variable = variables(field.name)[0] if field else ""
    if (field and field.metadata["secret"]) or (not field and _SECRET.search(word)):
        where = f"{variable} gives it to a run" if variable else "variables of the CI have it for a run"
        return place.mistake("a secret has no place in a file that others read", f"ssh's agent has keys; {where}.")
    if field and field.name in _REFUSED:
        return place.mistake(f"{_REFUSED[field.name]}, and not a file that comes with a checkout", f"Set {variable}.")
    if _SSH.search(word):
        return place.mistake(
            "what calls ssh, or a command on this machine, is not for a file that comes with a checkout",
            "Write it into ~/.ssh/config, for the host's name, or on the command line.",
        )
    meant = similar(word, known)
    hint = f"{meant} may be meant." if meant else f"There are {', '.join(sorted(known))}."
    return place.mistake("there is no such key", hint)


def text(value: Any, place: FilePlace) -> str:
    """A text of one line."""
    if not isinstance(value, str):
        raise place.mistake("it is no text", 'Write it in quotes: "…".')
    if not value.strip() or not value.isprintable():
        raise place.mistake("it is empty" if not value.strip() else "it has a control character in it")
    return value.strip()


def words(value: Any, place: FilePlace) -> tuple[str, ...]:
    """A text, or a list of texts."""
    return tuple(text(one, place) for one in (value if isinstance(value, list) else [value]))


def _of_type(value: Any, kind: Any, place: FilePlace) -> Any:
    """A value that is as its setting wants it; the settings' own model checks the rest."""
    kinds = {type(one) if isinstance(one, str) else one for one in (get_args(kind) or (kind,))} - {type(None)}
    if tuple in kinds or getattr(kind, "__origin__", None) is tuple:
        return words(value, place)
    if kinds & {bool}:
        return _exactly(value, (bool,), "it is neither true nor false", place)
    if kinds & {float}:
        return _exactly(value, (int, float), "it is no number", place)
    if kinds & {int}:
        return _exactly(value, (int,), "it is no whole number", place)
    value = _exactly(value, (str,), 'it is no text, which stands in quotes: "…"', place)
    return Path(value) if kinds & {Path} else value


def _exactly(value: Any, kinds: tuple[type, ...], what: str, place: FilePlace) -> Any:
    if type(value) not in kinds:
        raise place.mistake(what)
    return value


def image(value: Any, place: FilePlace) -> str:
    """An image as users write it; one that is a file lies in the folder of the project's file."""
    given = text(value, place)
    if not (found := _PATHS.fullmatch(given)):
        return given
    path, colon, tag = found[2].partition(":") if found[1] == "oci" else (found[2], "", "")
    return f"{found[1]}:{_inside(path, place)}{colon}{tag}"


def _files(name: str, value: Any, place: FilePlace) -> Any:
    if name == "copy":
        parts = [one.partition(":") for one in value]
        # Without a name for the other side it is the last part of the path that was written.
        return tuple(f"{_inside(local, place)}:{remote or Path(local).name}" for local, _, remote in parts)
    if isinstance(value, tuple):
        return tuple(_inside(one, place) for one in value)
    return Path(_inside(str(value), place))


def _inside(path: str, place: FilePlace) -> str:
    """A path as seen from the working folder; raises `UsageError` where it leads out of the folder of the file."""
    folder = Path(os.path.realpath(place.folder))
    real = Path(os.path.realpath(folder / path))
    if not path or not real.is_relative_to(folder):
        raise place.mistake(
            f"{path[:200]!r} is not in the folder of the file", "Files that go over lie beside it, or below."
        )
    try:
        found = os.path.relpath(real)
    except OSError:  # the working folder has gone
        found = str(real)
    if ":" in found:
        raise place.mistake(f"{found[:200]!r} has a colon in it")
    return found
