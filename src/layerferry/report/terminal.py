"""The report on a terminal: what goes on, while it lasts, and the summary after."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from layerferry.ci.escape import message
from layerferry.events import (
    Connecting,
    Event,
    Following,
    Greeted,
    Loading,
    Planned,
    Receiving,
    Said,
    Sending,
    Stalled,
    Warned,
)
from layerferry.report import lines, widths
from layerferry.report.activity import Activities, Activity, Ending, Moving
from layerferry.result import Result, size
from layerferry.streams import joined, parted, stdout

#: Seconds after which it is told what goes on. What takes less is over before anybody has read it.
_WORTH_TELLING = 0.5
_A_SECOND = 5
_STYLES = {"✓": "green", "↑": "cyan", "✗": "red", "·": "dim"}
_INDENT = 2
_HANGING = 6


class TerminalReport:
    """A report with bytes, rate and time left while it lasts; afterwards only the summary is left."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(file=stdout().verbatim, highlight=False)
        self._clock = clock
        #: Held while something is printed. rich holds its own lock while it draws, so `_render` waits for another.
        self._printing = threading.RLock()
        #: Held while activities are noted or read, and never while anything is printed.
        self._noting = threading.Lock()
        self._greetings: dict[str, str] = {}
        self._activities = Activities(clock)
        self._ending = Ending()
        self._told = lines.Told()
        self._live = Live(
            console=self._console, get_renderable=self._render, refresh_per_second=_A_SECOND, transient=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        with self._noting:
            self._activities.hear(event)
        match event:
            case Connecting() | Sending() | Receiving() | Loading():
                self._live.start()
            case Greeted():
                self._greetings[event.target] = lines.greeting(event)
            case Planned():
                further = f"{event.target}  {event.plan.image.reference}"  # a target greets once, whatever it gets
                head = message(self._greetings.pop(event.target, further))
                name, _, rest = head.partition(" ")
                self._print((name, "bold"), (f" {rest}", ""), (f"      {lines.route(event.route)}", "dim"))
            case Stalled() if not self._ending:
                self._print((lines.stalled(event), "dim"))
            case Following():
                self._print((lines.following(event), "bold"))
            case Said():
                self._print((f"{event.target} |", "dim"), (f" {event.text}", ""))
            case Warned():
                self._print(("warning:", "yellow"), (f" {event.target}: {event.message}", ""))

    def delivered(self, results: Sequence[Result]) -> None:
        with self._noting:
            for result in results:
                self._activities.forget(result.target)
        with self._printing:
            self._outcomes(results, alone=False, heading=True)

    def finish(self, results: Sequence[Result], seconds: float) -> None:
        self._live.stop()
        self._outcomes(results, alone=len(results) == 1)
        if len(results) > 1:
            self._print((lines.total(results, seconds), ""))

    def _outcomes(self, results: Sequence[Result], *, alone: bool, heading: bool = False) -> None:
        width = self._console.width - _INDENT - 2
        for mark, line in self._told.outcomes(results, alone=alone, heading=heading, width=width):
            if mark in _STYLES:
                self._print((" " * _INDENT, ""), (mark, _STYLES[mark]), (f" {line}", ""))
            else:
                self._print((lines.marked(mark, line), "bold"))

    def _print(self, *parts: tuple[str, str]) -> None:
        """Print a line above what goes on, with no word of it taken for markup or a command, broken at words."""
        text = Text.assemble(*((joined(message(part)), style) for part, style in parts))
        first, *rest = text.wrap(self._console, self._console.width)
        with self._printing:
            self._console.print(_parted(first), soft_wrap=True)
            if rest:
                for line in rest:
                    line.rstrip()
                remainder = Text(" ").join(rest)
                for line in remainder.wrap(self._console, max(1, self._console.width - _HANGING)):
                    self._console.print(Text(" " * _HANGING) + _parted(line), soft_wrap=True)

    def _render(self) -> RenderableType:
        """What goes on now: a line for each target that is at something for a while; after a signal, that it ends."""
        if self._ending:
            return Text(f"  {Ending.LINE}", style="dim")
        most = max(1, self._console.height - 2)
        with self._noting:  # a rate begins anew while others hear of it
            now = self._clock()
            known = [
                (target, activity)
                for target, activity in self._activities.items()
                if now - activity.since >= _WORTH_TELLING or not isinstance(activity.event, Connecting)
            ]
            shown = [self._line(message(target), activity, now) for target, activity in known[:most]]
        if len(known) > most:
            shown.append(Text(f"  and {len(known) - most} more targets", style="dim"))
        return Group(*shown)

    def _line(self, target: str, activity: Activity, now: float) -> Text:
        width, event = self._console.width - 1 - 2 * _INDENT, activity.event
        if isinstance(event, Moving) and event.total:
            choices = widths.details(event.done, event.total, activity.rate.per_second, activity.rate.left(event.total))
            name, cells, told = widths.fitted(width, target, choices, bar=True)
            full = cells * min(event.done, event.total) // max(1, event.total)
            bar = [("━" * full, "cyan"), ("─" * (cells - full), "dim"), ("  ", "")] if cells else []
            sign = "↑" if isinstance(event, Sending) else "↓"
            return Text.assemble((f"  {sign} ", "cyan"), name, "  ", *bar, told)
        seconds = widths.clock(now - activity.since)
        if isinstance(event, Connecting):
            name, _, _ = widths.fitted(width - len("connecting to "), target, [["…"]])
            return Text.assemble(("  · ", "dim"), f"connecting to {name}…", style="dim")
        what = "unpacks and verifies" if isinstance(event, Loading) else activity.name
        if isinstance(event, Receiving):
            what = f"{what} {size(event.done)}  {size(activity.rate.per_second)}/s"
        name, _, told = widths.fitted(width, target, [[what, seconds], [what.partition(" ")[0], seconds], [seconds]])
        return Text.assemble(("  · ", "dim"), name, "  ", told)


def _parted(line: Text) -> Text:
    """The line with a blank where it was joined."""
    line.plain = parted(line.plain)
    return line
