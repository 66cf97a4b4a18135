"""Which engine the user wants there: `--engine ctr:k8s.io`, `host?engine=ctr&namespace=k8s.io`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from layerferry.errors import UsageError

#: Each engine that the host script knows, in the order in which it looks for them; and whether it has namespaces.
ENGINES: Mapping[str, bool] = {"docker": False, "podman": False, "k3s": True, "ctr": True, "nerdctl": True}
#: What containerd takes (containerd, pkg/identifiers).
_NAMESPACE = re.compile(r"[A-Za-z0-9]+(?:[-._][A-Za-z0-9]+)*")
_LONGEST_NAMESPACE = 76


@dataclass(frozen=True, slots=True)
class TargetEngine:
    """An engine by its command, and containerd's namespace; empty: the one that is found."""

    name: str
    namespace: str = ""

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise UsageError(f"{self.name!r} is not an engine", hint=f"It is one of {', '.join(ENGINES)}.")
        if not self.namespace:
            return
        if not ENGINES[self.name]:
            known = ", ".join(name for name, has_namespaces in ENGINES.items() if has_namespaces)
            raise UsageError(f"{self.name} has no namespaces", hint=f"These have: {known}.")
        if len(self.namespace) > _LONGEST_NAMESPACE or not _NAMESPACE.fullmatch(self.namespace):
            raise UsageError(f"{self.namespace!r} is not a namespace", hint="Kubernetes' is k8s.io, nerdctl's default.")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `NAME[:NAMESPACE]`; raises `UsageError`."""
        name, colon, namespace = text.partition(":")
        if colon and not namespace:
            raise UsageError(f"{text!r} lacks the namespace", hint=f"Write {name}:k8s.io, or {name} alone.")
        return cls(name, namespace)

    @classmethod
    def of_query(cls, query: str) -> Self:
        """Read what follows the `?` of a target, `engine=NAME[&namespace=NAMESPACE]`; raises `UsageError`."""
        given: dict[str, str] = {}
        for part in query.split("&"):
            key, _, value = part.partition("=")
            if key not in {"engine", "namespace"} or key in given or not value:
                raise UsageError(f"{part!r} means nothing in a target", hint=_HINT)
            given[key] = value
        if "engine" not in given:
            raise UsageError(f"{query!r} names no engine", hint=_HINT)
        return cls(given["engine"], given.get("namespace", ""))

    @property
    def query(self) -> str:
        """As it stands in a target."""
        return f"engine={self.name}&namespace={self.namespace}" if self.namespace else f"engine={self.name}"

    def __str__(self) -> str:
        return f"{self.name}:{self.namespace}" if self.namespace else self.name


_HINT = "Write it as host?engine=k3s, or host?engine=ctr&namespace=k8s.io."
