"""The reports of a push: events and results as a terminal's progress, a CI log's plain lines, or JSON."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

from layerferry.ci.escape import cleaned, json_text, message
from layerferry.events import Emit, Event, Following, Greeted, Loading, Planned, Said, Stalled, Warned
from layerferry.log import note
from layerferry.report import lines
from layerferry.report.running_log import Log
from layerferry.result import Result


def noted(emit: Emit) -> Emit:
    """An `emit` that also notes each event in the log, save the progress of bytes."""

    def hear(event: Event) -> None:
        match event:
            case Greeted():
                note("step", f"greeted: {lines.greeting(event)}")
            case Planned():
                note("step", f"planned: {lines.planned(event)}")
            case Loading():
                note("step", f"sent: {event.target}")
            case Following():
                note("step", lines.following(event))
            case Stalled():
                note("step", f"stalled: {event.target}  {event.message}")
            case Warned():
                note("warning", f"{event.target}: {event.message}")
        emit(event)

    return hear


#: The version of the object that `--json` prints: another one where a field has gone, or means something else.
#: docs/report.schema.json describes it.
SCHEMA_VERSION = 1
#: The texts that the user wrote, and looks for; all others may come from elsewhere.
_THE_USERS = ("image", "target")


class Report(Protocol):
    """A report, and a context: its progress is shown until that ends."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def __call__(self, event: Event) -> None: ...

    def delivered(self, results: Sequence[Result]) -> None:
        """Show the results of one target of several, as soon as they are known."""

    def finish(self, results: Sequence[Result], seconds: float) -> None:
        """Show the results of all targets, as far as they were not shown yet."""


class Out(Protocol):
    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...


class PlainReport:
    """A report of plain lines, each written once, for CI logs and pipes."""

    def __init__(
        self,
        say: Callable[[str], None],
        warn: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        fold: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`fold` begins a group of lines, with a title, for what follows the pushes."""
        self._log = Log(say, clock)
        self._fold = fold
        self._folded = False
        self._warn = warn or (lambda text: say(f"warning: {text}"))
        self._told = lines.Told()

    def __enter__(self) -> Self:
        self._log.watch()
        return self

    def __exit__(self, *exception: object) -> None:
        self._log.close()

    def __call__(self, event: Event) -> None:
        match event:
            case Greeted():
                self._log.line(lines.greeting(event))
            case Planned():
                self._log.line(lines.planned(event))
            case Stalled() if not self._log.ending:
                self._log.line(lines.stalled(event))
            case Following():
                self._begin(event)
            case Said():
                self._log.line(lines.said(event))
            case Warned():
                self._log.tell(self._warn, f"{event.target}: {event.message}")
        self._log.hear(event)

    def _begin(self, event: Following) -> None:
        with self._log.together():
            if not (self._folded or event.dry_run):
                self._folded = True
                self._fold("layerferry: what follows the push")
            self._log.line(lines.following(event))

    def delivered(self, results: Sequence[Result]) -> None:
        self._log.forget(results)
        with self._log.together():
            for mark, line in self._told.outcomes(results, alone=False, heading=True):
                self._log.line(lines.marked(mark, line))

    def finish(self, results: Sequence[Result], seconds: float) -> None:
        with self._log.together():
            for mark, line in self._told.outcomes(results, alone=len(results) == 1):
                self._log.line(lines.marked(mark, line))
            if len(results) > 1:
                self._log.line(lines.total(results, seconds))


class QuietReport:
    """A report of one line at the end; a push to one target that failed has none, but its error."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def __call__(self, event: Event) -> None: ...

    def delivered(self, results: Sequence[Result]) -> None: ...

    def finish(self, results: Sequence[Result], seconds: float) -> None:
        if len(results) > 1:
            self._say(message(lines.total(results, seconds)))
        elif results and results[0].error is None:
            *_, (_, last) = lines.outcome(results[0])
            self._say(message(last))


class JsonReport:
    """A report of one JSON object on stdout at the end; warnings and reminders go to `say`."""

    def __init__(
        self,
        out: Out,
        say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out
        self._log = Log(say, clock)

    def __enter__(self) -> Self:
        self._log.watch()
        return self

    def __exit__(self, *exception: object) -> None:
        self._log.close()

    def __call__(self, event: Event) -> None:
        match event:
            case Stalled() if not self._log.ending:
                self._log.line(lines.stalled(event))
            case Following():
                self._log.line(lines.following(event))
            case Said():
                self._log.line(lines.said(event))
            case Warned():
                self._log.line(f"warning: {event.target}: {event.message}")
        self._log.hear(event)

    def delivered(self, results: Sequence[Result]) -> None:
        self._log.forget(results)

    def finish(self, results: Sequence[Result], seconds: float) -> None:
        self._out.write(json_text(document(results, seconds)) + "\n")
        self._out.flush()


def document(results: Sequence[Result], seconds: float) -> dict[str, Any]:
    """The object that `--json` prints."""
    told = [cleaned(result.to_json(), keep=_THE_USERS) for result in results]
    return {"version": SCHEMA_VERSION, "results": told, "seconds": round(seconds, 3)}
