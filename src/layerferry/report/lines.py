"""The lines of a result that terminals and CI logs show. Pure: it neither prints nor colours."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from layerferry.events import Following, Greeted, Planned, Said, Stalled
from layerferry.oci.content import Route
from layerferry.oci.image import Name
from layerferry.report import steps
from layerferry.result import Result, WireEstimate, mark, size

#: Cells of a line, where nothing else is known.
WIDTH = 100
#: What stands for a mark where a line is a heading: of a target's results, and of one of several images.
HEADING, IMAGE = "=", ""


def share(saved: float) -> str:
    """The share that was saved, rounded down: `99.95 % saved`."""
    percent = int(saved * 10000) / 100
    return f"{percent:g} % saved"


def layers(count: int) -> str:
    return f"{count} layer" if count == 1 else f"{count} layers"


def greeting(event: Greeted) -> str:
    return f"{event.target}  {event.engine}, {event.platform}{'; ' if event.hint else ''}{event.hint}"


def planned(event: Planned) -> str:
    sent, image = len(event.plan.sent) - len(event.plan.shared), event.plan.image
    verb = "fetch" if event.source else "send"
    todo = (
        f"{layers(sent)} to {verb}, {size(event.plan.delta)}{mark(image.sizes_are)}" if sent else f"nothing to {verb}"
    )
    return f"{event.target}  {image.reference}: {todo}; {route(event.route)}"


def stalled(event: Stalled) -> str:
    return f"{event.target}  {event.message}"


def following(event: Following) -> str:
    return f"{event.target}  {'would follow' if event.dry_run else 'then'}: {event.what}"


def said(event: Said) -> str:
    return f"{event.target} | {event.text}"


def route(chosen: Route) -> str:
    return f"route: {chosen.name} ({chosen.reason})"


def short(digest: str) -> str:
    return digest[: len("sha256:") + 12] + "…" if digest.startswith("sha256:") else digest


def familiar(names: Sequence[str]) -> str:
    return ", ".join(Name.parse(name).familiar for name in names)


def total(results: Sequence[Result], seconds: float) -> str:
    """How many of the results are good, and all that went on the wire for them."""
    done = sum(result.error is None for result in results)
    sent = sum(result.wire for result in results)
    wire = f", {size(sent)} on the wire" if sent else ""
    return f"{done} of {len(results)} done      {seconds:.1f} s{wire}"


def _as_it_is(result: Result) -> str:
    """What the names of a dry run stand for."""
    if result.before is None:
        return f"{familiar(result.names)} stays as it is"
    if not result.before:
        return f"there is no {familiar(result.names)} on {result.target} now"
    return ", ".join(f"{familiar(image.names)} stays {short(image.image_id)}" for image in result.before)


def expected(estimate: WireEstimate) -> str:
    """What a dry run expects to go on the wire."""
    seconds = estimate.seconds
    rate = f"; {seconds:.0f} s at {size(estimate.bytes / seconds)}/s, as the line carries now" if seconds else ""
    return f"some {size(estimate.bytes)} would go on the wire{rate}"


def marked(mark: str, line: str) -> str:
    """A line of a result as a log has it."""
    return line if mark == HEADING else "  " + " ".join(filter(None, (mark, line)))


def failure(images: Sequence[str], target: str, why: str) -> str:
    """What failed, and why; most errors begin with the name of the target, which is said once."""
    return f"{', '.join(images)} on {target}: {why.removeprefix(f'{target}: ')}"


class Told:
    """The results that were told already, since they are told as they come."""

    def __init__(self) -> None:
        self._told: list[Result] = []

    def outcomes(
        self, results: Sequence[Result], *, alone: bool, heading: bool = False, width: int = WIDTH
    ) -> Iterator[tuple[str, str]]:
        """The lines of the results that were not told yet, the images of a target together, an error of them once.

        A failure that is `alone` has none, but is the error. With a `heading`, each target has one.
        """
        new = [result for result in results if not any(result is told for told in self._told)]
        self._told += new
        for (target, error), group in groupby(new, lambda result: (result.target, result.error)):
            images = list(group)
            if error is None or images[0].image_id:
                if heading:
                    yield HEADING, f"{target}  {images[0].engine}, {images[0].platform}"
                for result in images:
                    if len(images) > 1:
                        yield IMAGE, result.image
                    yield from outcome(result, width)
            if error is not None and not alone:
                yield "✗", failure([result.image for result in images], target, error.message)


def outcome(result: Result, width: int = WIDTH) -> Iterator[tuple[str, str]]:
    """Pairs of a mark and the line after it: each layer, in lines of `width` cells, and the image, in one of any."""
    if result.error is not None and not result.image_id:
        yield "✗", failure([result.image], result.target, result.error.message)
        return
    yield from steps.lines(result, width)
    if result.dry_run:
        yield from upkeep(result)
        if result.estimate and result.estimate.bytes:
            yield "·", expected(result.estimate)
        yield "·", f"dry run: nothing was {'fetched' if result.source else 'sent'}, {_as_it_is(result)}"
        return
    if result.bytes.resumed:
        yield "✓", f"{size(result.bytes.resumed)} of these left by an earlier try"
    done = f"{familiar(result.names)} is {short(result.image_id)}, verified on {result.target}"
    wire = f"{result.seconds:.1f} s, {size(result.wire)} on the wire, {share(result.saved)}"
    yield "✓", f"{done}      {wire}"
    yield from upkeep(result)


def upkeep(result: Result) -> Iterator[tuple[str, str]]:
    """The lines of the images that were there before: those that keep a name, and those that went."""
    for image in result.kept:
        yield "✓", f"{familiar(image.names)} keeps {short(image.image_id)}"
    went = "would be removed" if result.dry_run else "removed"
    for image in result.pruned:
        yield "✓", f"{went}: {familiar(image.names) or 'no name'} ({short(image.image_id)})"
