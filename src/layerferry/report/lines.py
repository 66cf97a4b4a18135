"""The lines of a result that terminals and CI logs show. Pure: it neither prints nor colours."""

from collections.abc import Iterator, Sequence

from layerferry.events import Greeted, Planned, Stalled
from layerferry.oci.content import Route
from layerferry.oci.image import Name
from layerferry.oci.plan import Action
from layerferry.result import Result, mark, size


def share(saved: float) -> str:
    """The share that was saved, rounded down: `99.95 % saved`."""
    percent = int(saved * 10000) / 100
    return f"{percent:g} % saved"


def layers(count: int) -> str:
    return f"{count} layer" if count == 1 else f"{count} layers"


def greeting(event: Greeted) -> str:
    return f"{event.target}  {event.engine}, {event.platform}{'; ' if event.hint else ''}{event.hint}"


def planned(event: Planned) -> str:
    sent, image = event.plan.sent, event.plan.image
    todo = (
        f"{layers(len(sent))} to send, {size(event.plan.delta)}{mark(image.sizes_are)}" if sent else "nothing to send"
    )
    return f"{event.target}  {image.reference}: {todo}; {route(event.route)}"


def stalled(event: Stalled) -> str:
    return f"{event.target}  {event.message}"


def route(chosen: Route) -> str:
    return f"route: {chosen.name} ({chosen.reason})"


def short(digest: str) -> str:
    return digest[: len("sha256:") + 12] + "…" if digest.startswith("sha256:") else digest


def familiar(names: Sequence[str]) -> str:
    return ", ".join(Name.parse(name).familiar for name in names)


def total(results: Sequence[Result], seconds: float) -> str:
    done = sum(result.error is None for result in results)
    return f"{done} of {len(results)} done      {seconds:.1f} s"


class Told:
    """The results that were told already, since they are told as they come."""

    def __init__(self) -> None:
        self._told: list[Result] = []

    def outcomes(self, results: Sequence[Result], *, alone: bool) -> Iterator[tuple[str, str]]:
        """The lines of the results that were not told yet; a failure that is `alone` has none, but is the error."""
        for result in results:
            if any(result is told for told in self._told):
                continue
            if result.error is None or not alone:
                yield from outcome(result)
            self._told.append(result)


def outcome(result: Result) -> Iterator[tuple[str, str]]:
    """Pairs of a mark and the line after it: the layers that were there, those that were sent, and the image."""
    if result.error is not None:
        yield "✗", f"{result.image} on {result.target}: {result.error.message}"
        return
    reused = [step.layer for step in result.steps if step.action is Action.REUSE]
    sent = {step.layer.diff_id: step for step in result.steps if step.action is not Action.REUSE}
    patched = [step for step in sent.values() if step.action is Action.PATCH]
    delta = f"{size(result.bytes.delta):>9}{mark(result.sizes)}"
    if reused:
        count = f"{size(sum(layer.size for layer in reused)):>9}{mark(result.sizes)}"
        yield "✓", f"{layers(len(reused)) + ' reused':<26} {count}"
    if result.dry_run:
        if sent:
            yield "↑", f"{layers(len(sent)) + ' to send':<26} {delta}"
        yield "·", f"dry run: nothing was sent, {familiar(result.names)} stays as it is"
        return
    if sent:
        yield "↑", f"{layers(len(sent)) + ' sent':<26} {delta} → {size(result.bytes.sent)} on the wire"
    if patched:
        yield (
            "↑",
            f"{layers(len(patched)) + ' of these patched':<26} {size(sum(step.new for step in patched)):>9} of it new",
        )
    if result.bytes.resumed:
        yield "✓", f"{'of these there before':<26} {size(result.bytes.resumed):>9} left by an earlier try"
    done = f"{familiar(result.names)} is {short(result.image_id)}, verified on {result.target}"
    yield "✓", f"{done}      {result.seconds:.1f} s, {share(result.bytes.saved)}"
