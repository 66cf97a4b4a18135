"""How the receiver says no."""

from layerferry.errors import ConnectError, TargetError
from layerferry.protocol import VerdictKind

_LONGEST = 2000


class Refusal(TargetError):  # noqa: N818 - it is an answer, not a fault
    """What the client hears as `failed KIND TEXT`; `layerferry.protocol` has the kinds."""

    def __init__(self, message: str, *, kind: VerdictKind = VerdictKind.REFUSED) -> None:
        super().__init__(message)
        self.kind = kind


class Overdue(Refusal):
    """The client is too slow, or silent: what it has sent may be right."""


class HungUp(ConnectError):  # noqa: N818 - what every client does in the end
    """The client has gone. There is nobody to tell."""


def one_line(text: str) -> str:
    """What others say as one line of bounded length, without control characters, C1 and bidi ones included."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:_LONGEST]
