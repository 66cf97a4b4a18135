"""A terminal's view: a progress display while bytes move, and the summary after."""

from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.markup import escape
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

from layerferry.events import Event, Greeted, Loading, Planned, Sending, Warned
from layerferry.report import lines
from layerferry.result import Result

#: Bytes. Less than that is gone before anybody could have looked.
_WORTH_A_BAR = 1_000_000
_STYLES = {"✓": "green", "↑": "cyan", "✗": "red", "·": "dim"}


class TerminalReport:
    """Bytes, rate and time left while it lasts; afterwards only the summary stands."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._greetings: dict[str, str] = {}
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("  [cyan]↑[/] {task.description}"),
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
                head = self._greetings.pop(event.target, event.target)
                name, _, rest = head.partition(" ")
                line = Text.assemble((name, "bold"), f" {rest}      ", (lines.route(event.route), "dim"))
                self._progress.console.print(line, soft_wrap=True)
            case Sending() if event.total >= _WORTH_A_BAR:
                self._progress.start()
                task = self._tasks.get(event.target)
                if task is None:
                    task = self._tasks[event.target] = self._progress.add_task(escape(event.target), total=event.total)
                self._progress.update(task, completed=event.done)
            case Loading() if event.target in self._tasks:
                task, description = self._tasks[event.target], f"{escape(event.target)} unpacks and verifies"
                self._progress.update(task, completed=self._progress.tasks[task].total, description=description)
            case Warned():
                line = Text.assemble(("warning:", "yellow"), f" {event.target}: {event.message}")
                self._progress.console.print(line, soft_wrap=True)

    def finish(self, results: Sequence[Result], seconds: float) -> None:
        self._progress.stop()
        for mark, line in lines.outcomes(results):
            self._console.print(Text.assemble("  ", (mark, _STYLES[mark]), f" {line}"), soft_wrap=True)
        if len(results) > 1:
            done = sum(result.error is None for result in results)
            self._console.print(f"{done} of {len(results)} done      {seconds:.1f} s")
