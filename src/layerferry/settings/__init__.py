"""The settings: the command line goes before the environment, that before the project's file, that before defaults.

This package alone reads `os.environ`. The list of settings is loaded when it is asked for, while ssh shakes hands; the
model, which takes longer to load than ssh takes to start, is loaded where there is something to read.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerferry.settings.values import Placed, Settings


def environment() -> Mapping[str, str]:
    """The environment of the process. A module that needs a variable which is no setting gets this mapping."""
    return os.environ


@contextlib.contextmanager
def with_variables(variables: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Let children have these variables too, until the block ends. None of them is a secret."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, _ in variables:
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


def load(overrides: Mapping[str, Any] | None = None, filed: "Mapping[str, Placed] | None" = None) -> "Settings":
    """The settings of this process; `overrides` come from the command line, where None and empty ones are none.

    `filed` are those of a project's file, which the environment goes before.

    Raises `UsageError`, which names every mistake and its variable, and no value that may be secret.
    """
    from layerferry.settings.values import Settings, are_set  # noqa: PLC0415 - see above

    given = {name: value for name, value in (overrides or {}).items() if value not in (None, "", ())}
    if not given and not filed and not are_set(os.environ):
        return Settings()
    from layerferry.settings import model  # noqa: PLC0415 - see above

    return model.load(given, filed or {})


def unknown() -> Sequence[str]:
    """A sentence on each variable of this process that begins as ours do and is none."""
    names = [name for name in os.environ if name.upper().startswith("LAYERFERRY_")]
    if not names:
        return ()
    from layerferry.settings import values  # noqa: PLC0415 - see above

    return tuple(values.unknown(names))


def discouraged() -> Sequence[str]:
    """A sentence on each variable of this process that has a better way."""
    names = [name for name in os.environ if name.upper().startswith(("LAYERFERRY_SSH_PASS", "LAYERFERRY_SUDO_PASS"))]
    if not names:
        return ()
    from layerferry.settings import values  # noqa: PLC0415 - see above

    return tuple(values.discouraged(names))


def has_log() -> bool:
    """Whether a variable asks for a log: the settings are loaded before anything is written, then."""
    return any(name.upper() in {"LAYERFERRY_LOG", "LAYERFERRY_VERBOSE"} and value for name, value in os.environ.items())


def config_path(given: "Path | None") -> "Path | None":
    """The project's file that an option, or else a variable, names; None where none does, and one is looked for."""
    named = next((value for name, value in os.environ.items() if name.upper() == "LAYERFERRY_CONFIG" and value), "")
    return given or (Path(named) if named else None)


def has_ssh_material() -> bool:
    """Whether a variable is about ssh, or sudo there: ssh cannot be started before the settings are loaded, then."""
    return any(name.upper().startswith(("LAYERFERRY_SSH_", "LAYERFERRY_SUDO_")) for name in os.environ)
