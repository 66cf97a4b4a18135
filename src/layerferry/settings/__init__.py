"""Settings: the command line goes before the environment, the environment before defaults.

This package alone reads `os.environ`. What the settings are is loaded when it is asked for, while ssh shakes hands; and
the model, which takes longer to load than ssh takes to start, where there is something to read.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerferry.settings.values import Settings


def environment() -> Mapping[str, str]:
    """The process's environment. Whoever needs a variable that is not a setting gets this mapping handed down."""
    return os.environ


def load(overrides: Mapping[str, Any] | None = None) -> "Settings":
    """The settings of this process; `overrides` come from the command line, None and empty ones count for nothing.

    Raises `UsageError` that names every mistake and its variable, and no value that may be secret.
    """
    from layerferry.settings.values import Settings, are_set  # noqa: PLC0415 - see above

    given = {name: value for name, value in (overrides or {}).items() if value not in (None, "", ())}
    if not given and not are_set(os.environ):
        return Settings()
    from layerferry.settings import model  # noqa: PLC0415 - see above

    return model.load(given)


def has_log() -> bool:
    """Whether a variable asks for a log, so that the settings are loaded before anybody has said anything."""
    return any(name.upper() == "LAYERFERRY_LOG" and value for name, value in os.environ.items())


def has_ssh_material() -> bool:
    """Whether variables say something about ssh, so that it cannot be started before the settings are loaded."""
    return any(name.startswith("LAYERFERRY_SSH_") for name in os.environ)
