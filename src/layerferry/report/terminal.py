"""The report on a terminal: a progress display while bytes move, and the summary after."""

import threading
from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from layerferry.ci.escape import message
from layerferry.events import Event, Greeted, Loading, Planned, Sending, Stalled, Warned
from layerferry.report import lines
from layerferry.result import Result
from layerferry.streams import stdout

#: Bytes. Fewer are sent before anybody could have read a bar.
_WORTH_A_BAR = 1_000_000
_STYLES = {"✓": "green", "↑": "cyan", "✗": "red", "·": "dim"}


class TerminalReport:
    """A report with bytes, rate and time left while it lasts; afterwards only the summary is left."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=stdout().verbatim, highlight=False)
        self._lock = threading.RLock()
        self._greetings: dict[str, str] = {}
        self._tasks: dict[str, TaskID] = {}
        self._told = lines.Told()
        self._progress = Progress(
            TextColumn("  ↑", style="cyan", markup=False),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Greeted():
                self._greetings[event.target] = lines.greeting(event)
            case Planned():
                head = message(self._greetings.pop(event.target, event.target))
                name, _, rest = head.partition(" ")
                self._print((name, "bold"), (f" {rest}", ""), (f"      {lines.route(event.route)}", "dim"))
            case Sending() if event.total >= _WORTH_A_BAR:
                self._progress.start()
                task = self._tasks.get(event.target)
                if task is None:
                    task = self._tasks[event.target] = self._progress.add_task("", total=event.total)
                self._progress.update(task, completed=event.done, description=message(event.target))
            case Loading() if event.target in self._tasks:
                task, description = self._tasks[event.target], message(f"{event.target} unpacks and verifies")
                self._progress.update(task, completed=self._progress.tasks[task].total, description=description)
            case Stalled():
                self._print((lines.stalled(event), "dim"))
            case Warned():
                self._print(("warning:", "yellow"), (f" {event.target}: {event.message}", ""))

    def delivered(self, results: Sequence[Result]) -> None:
        with self._lock:
            for target in {result.target for result in results} & self._tasks.keys():
                self._progress.update(self._tasks[target], visible=False)
            self._outcomes(results, alone=False)

    def finish(self, results: Sequence[Result], seconds: float) -> None:
        self._progress.stop()
        self._outcomes(results, alone=len(results) == 1)
        if len(results) > 1:
            self._print((lines.total(results, seconds), ""))

    def _outcomes(self, results: Sequence[Result], *, alone: bool) -> None:
        for mark, line in self._told.outcomes(results, alone=alone):
            self._print(("  ", ""), (mark, _STYLES[mark]), (f" {line}", ""))

    def _print(self, *parts: tuple[str, str]) -> None:
        """Print a line above the progress display, with no word of it taken for markup or a command."""
        text = Text.assemble(*((message(part), style) for part, style in parts))
        with self._lock:
            self._progress.console.print(text, soft_wrap=True)
