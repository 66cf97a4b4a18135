"""The result of one image on one target, and the object of `--json`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from layerferry.errors import DeadlineError, FollowError, Interrupted, LayerferryError
from layerferry.oci.content import Route
from layerferry.oci.plan import Step


@dataclass(frozen=True, slots=True)
class Bytes:
    """The bytes of a result.

    `image`: all layers; `delta`: those to send; both as `Result.sizes` says. `sent`: all that went to the target;
    `received`: all that was read out of the source; `resumed`: those of `delta` that an earlier try had left there.
    """

    image: int = 0
    delta: int = 0
    sent: int = 0
    received: int = 0
    resumed: int = 0


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image on a target: its ID there, and full names, as far as they can be read."""

    image_id: str
    names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"image_id": self.image_id, "names": list(self.names)}


@dataclass(frozen=True, slots=True)
class WireEstimate:
    """What a dry run expects: bytes on the wire, and the seconds that these take, where the line was measured."""

    bytes: int
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of the command after a push: on which host it ran, its exit status, and for how many seconds.

    The status is None where it has none: it was ended when its time was over, or nobody knows.
    """

    on: str
    status: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class BroughtUp:
    """What became of a service that compose brought up.

    `change`: created, recreated, started or unchanged; `state`: healthy, or as docker says it, of the worst container.
    """

    service: str
    change: str
    state: str

    def to_json(self) -> dict[str, Any]:
        return {"service": self.service, "change": self.change, "state": self.state}


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one image on one target.

    `sizes` says what the sizes of layers are, `image_id` is the target's ID of the image; `verified`: the target was
    seen to show the layers that were sent. `kept` are the images that a name pointed to before, with the name that they
    keep for the way back; `pruned` those that went, or, in a dry run, would go.
    """

    image: str
    target: str
    route: Route
    engine: str = ""
    steps: tuple[Step, ...] = ()
    bytes: Bytes = field(default_factory=Bytes)
    sizes: Literal["uncompressed", "stored"] = "uncompressed"
    seconds: float = 0.0
    image_id: str = ""
    verified: bool = False
    error: LayerferryError | None = None
    names: tuple[str, ...] = ()
    #: The image's, such as `linux/amd64`.
    platform: str = ""
    dry_run: bool = False
    kept: tuple[NamedImage, ...] = ()
    pruned: tuple[NamedImage, ...] = ()
    #: Of a dry run: what would go on the wire, and what the names stand for there; None where that is not known.
    estimate: WireEstimate | None = None
    before: tuple[NamedImage, ...] | None = None
    #: The commands that followed; several where nodes of a registry run them.
    ran: tuple[Ran, ...] = ()
    #: The services that compose brought up.
    up: tuple[BroughtUp, ...] = ()
    #: The host that the image comes from, where it was pulled.
    source: str = ""

    @property
    def wire(self) -> int:
        """Bytes on the wire: of what is pulled, those that were read of the host's daemon."""
        return self.bytes.received if self.source else self.bytes.sent

    @property
    def saved(self) -> float:
        """The share of the image that was not on the wire, 0 to 1."""
        return max(0.0, 1 - self.wire / self.bytes.image) if self.bytes.image else 0.0

    def _error(self) -> dict[str, Any] | None:
        error = self.error
        if error is None:
            return None
        return {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}

    def to_json(self) -> dict[str, Any]:
        return {
            "image": self.image,
            "target": self.target,
            "source": self.source or None,
            "names": list(self.names),
            "platform": self.platform,
            "dry_run": self.dry_run,
            "estimate": self._estimate(),
            "before": [image.to_json() for image in self.before or ()],
            "route": {"name": self.route.name, "reason": self.route.reason},
            "engine": self.engine,
            "layers": [
                {
                    "diff_id": step.layer.diff_id,
                    "size": step.layer.size,
                    "action": step.action,
                    "bytes": step.lacking,
                    "reason": step.reason,
                    "created_by": step.layer.created_by,
                }
                for step in self.steps
            ],
            "bytes": {
                "image": self.bytes.image,
                "delta": self.bytes.delta,
                "sent": None if self.dry_run else self.bytes.sent,
                "received": self.bytes.received,
                "resumed": self.bytes.resumed,
            },
            "sizes": self.sizes,
            "seconds": round(self.seconds, 3),
            "image_id": self.image_id,
            "verified": self.verified,
            "kept": [image.to_json() for image in self.kept],
            "pruned": [image.to_json() for image in self.pruned],
            "then": [{"on": ran.on, "status": ran.status, "seconds": round(ran.seconds, 3)} for ran in self.ran],
            "up": [service.to_json() for service in self.up],
            "error": self._error(),
        }

    def _estimate(self) -> dict[str, Any] | None:
        if self.estimate is None:
            return None
        seconds = self.estimate.seconds
        return {"bytes": self.estimate.bytes, "seconds": None if seconds is None else round(seconds, 1)}


def failures(results: Sequence[Result]) -> dict[LayerferryError, Result]:
    """The errors, each once, with the first result that has it: an error of a session is that of all its images.

    One that another one has brought about is not told beside it.
    """
    found: dict[LayerferryError, Result] = {}
    for result in results:
        if result.error is not None and result.error.because is None:
            found.setdefault(result.error, result)
    return found


def exit_code(results: Sequence[Result]) -> int:
    """The exit code of the worst failure; a signal's, or that of `--timeout`, if one ended the push.

    Where an image has not arrived, that is worse than a command that failed after one which has.
    """
    codes = {type(error): error.exit_code for error in failures(results)}
    followed = codes.pop(FollowError, 0)
    return codes.get(Interrupted) or codes.get(DeadlineError) or max(codes.values(), default=followed)


def size(count: float) -> str:
    """Bytes as people read them, in powers of 1000 as docker shows them: `812.0 MB`."""
    for unit in ("B", "kB", "MB"):
        if abs(count) < 1000:  # noqa: PLR2004
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def mark(sizes: str) -> str:
    """The words after a size of layers that is not uncompressed: `30.2 MB as stored`."""
    return " as stored" if sizes == "stored" else ""
