"""Packages whose names are loaded when they are first used: `from layerferry import ci`, then `ci.open_output(…)`.

A module that names such a package at its top loads nothing of it, so that no import has to stand inside a function.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attributes(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package (PEP 562): `homes` has, by name, the module of it that a name is defined in."""

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
