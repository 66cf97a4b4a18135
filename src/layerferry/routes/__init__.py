"""The routes out of a docker daemon: which there are, which one is chosen, and what fetches an image by it."""

from typing import TYPE_CHECKING

from layerferry import lazy

if TYPE_CHECKING:
    from layerferry.routes.service_registry import Served
else:
    __getattr__ = lazy.attributes(__name__, {"Served": "service_registry"})

__all__ = ["Served"]
