"""Where images go to. What a target is can be told before what leads there is loaded."""

from collections.abc import Sequence

#: `registry:` and a network address; a host that is called `registry` is none.
_REGISTRIES = ("registry://", "registry:https://", "registry:http://")


def is_registry(target: str | Sequence[str]) -> bool:
    """Whether a target is a registry, and no host or command's words."""
    return isinstance(target, str) and target.strip().startswith(_REGISTRIES)
