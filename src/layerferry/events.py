"""The events of a push, as values. The core emits them, `report` shows them; nothing else prints."""

from collections.abc import Callable
from dataclasses import dataclass

from layerferry.oci.content import Route
from layerferry.oci.plan import Plan


@dataclass(frozen=True, slots=True)
class Greeted:
    """The target's greeting: `engine` reads like `docker 28.5.2 (overlay2)`."""

    target: str
    engine: str
    platform: str


@dataclass(frozen=True, slots=True)
class Planned:
    target: str
    plan: Plan
    route: Route


#: Seconds from one `Sending` to the next, at least.
SENDING_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Sending:
    """Progress of the delta archive: uncompressed bytes written of an estimated `total`, and bytes on the wire."""

    target: str
    done: int
    total: int
    wire: int


@dataclass(frozen=True, slots=True)
class Loading:
    """The end of the sending: the target unpacks and verifies."""

    target: str


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning: something failed, and the push goes on."""

    target: str
    message: str


Event = Greeted | Planned | Sending | Loading | Warned
Emit = Callable[[Event], None]
