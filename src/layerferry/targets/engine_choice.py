"""Which engine the user wants there, and whose: `--engine root@podman`, `host?engine=ctr&namespace=k8s.io`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from layerferry.errors import UsageError

#: Each engine that the host script knows, in the order in which it looks for them; and whether it has namespaces.
ENGINES: Mapping[str, bool] = {
    "docker": False,
    "podman": False,
    "k3s": True,
    "rke2": True,
    "k0s": True,
    "microk8s": True,
    "ctr": True,
    "nerdctl": True,
}
#: Whose images: root's, or those of the user who logs in, which a rootless engine keeps apart.
USERS = ("root", "user")
#: What containerd takes (containerd, pkg/identifiers).
_NAMESPACE = re.compile(r"[A-Za-z0-9]+(?:[-._][A-Za-z0-9]+)*")
_LONGEST_NAMESPACE = 76


@dataclass(frozen=True, slots=True)
class TargetEngine:
    """An engine by its command, containerd's namespace, and whose images; empty: what is found first."""

    name: str
    namespace: str = ""
    user: str = ""
    #: Whether Kubernetes' garbage collector is to leave the image alone.
    pin: bool = False

    def __post_init__(self) -> None:
        if self.user not in {"", *USERS}:
            raise UsageError(f"{self.user!r} is not whose an engine may be", hint=f"It is one of {', '.join(USERS)}.")
        if self.pin and self.name and (self.name == "nerdctl" or not ENGINES.get(self.name)):
            raise UsageError(
                f"{self.name} pins no images", hint="Kubernetes' containerd does, for k3s, ctr and others."
            )
        if self.name not in ENGINES and (self.name or not (self.user or self.pin)):
            raise UsageError(f"{self.name!r} is not an engine", hint=f"It is one of {', '.join(ENGINES)}.")
        if not self.namespace:
            return
        if not ENGINES.get(self.name):
            known = ", ".join(name for name, has_namespaces in ENGINES.items() if has_namespaces)
            raise UsageError(f"{self.name or 'not every engine'} has no namespaces", hint=f"These have: {known}.")
        if len(self.namespace) > _LONGEST_NAMESPACE or not _NAMESPACE.fullmatch(self.namespace):
            raise UsageError(f"{self.namespace!r} is not a namespace", hint="Kubernetes' is k8s.io, nerdctl's default.")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `[USER@]NAME[:NAMESPACE][+pin]`; raises `UsageError`."""
        pin = text.endswith(_PIN)
        user, at, rest = text.removesuffix(_PIN).rpartition("@")
        name, colon, namespace = rest.partition(":")
        if at and not user:
            raise UsageError(f"{text!r} does not say whose", hint=f"Write root@{rest or 'podman'}, or user@.")
        if colon and not namespace:
            raise UsageError(f"{text!r} lacks the namespace", hint=f"Write {name}:k8s.io, or {name} alone.")
        return cls(name, namespace, user, pin)

    @classmethod
    def of_query(cls, query: str) -> Self:
        """Read a target's query, `engine=NAME[&namespace=NAMESPACE][&as=USER][&pin=yes]`; raises `UsageError`."""
        given: dict[str, str] = {}
        for part in query.split("&"):
            key, _, value = part.partition("=")
            if key not in {"engine", "namespace", "as", "pin"} or key in given or not value:
                raise UsageError(f"{part!r} means nothing in a target", hint=_HINT)
            given[key] = value
        if given.get("pin", "yes") != "yes":
            raise UsageError(f"pin={given['pin']} means nothing in a target", hint="Write pin=yes, or leave it out.")
        if not {"engine", "as", "pin"} & set(given):
            raise UsageError(f"{query!r} names no engine", hint=_HINT)
        return cls(given.get("engine", ""), given.get("namespace", ""), given.get("as", ""), "pin" in given)

    @property
    def query(self) -> str:
        """As it stands in a target."""
        pin = "yes" if self.pin else ""
        given = {"engine": self.name, "namespace": self.namespace, "as": self.user, "pin": pin}
        return "&".join(f"{key}={value}" for key, value in given.items() if value)

    @property
    def words(self) -> tuple[str, ...]:
        """As the conversation says it: `-` for what is not said, up to the last that is."""
        words = [self.name, self.namespace, self.user, "pin" if self.pin else ""]
        while words and not words[-1]:
            words.pop()
        return tuple(word or "-" for word in words)

    def __str__(self) -> str:
        whose = f"{self.user}@" if self.user else ""
        return f"{whose}{self.name}{':' if self.namespace else ''}{self.namespace}{_PIN if self.pin else ''}"


_PIN = "+pin"
_HINT = "Write it as host?engine=k3s, host?engine=ctr&namespace=k8s.io, or host?engine=podman&as=root."
