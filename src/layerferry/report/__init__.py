"""Shows what happens: events and results become a terminal's progress, a CI log's plain lines, or JSON."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TextIO

from layerferry.events import Event, Greeted, Planned, Warned
from layerferry.report import lines
from layerferry.result import Result, size


class Report(Protocol):
    def __call__(self, event: Event) -> None: ...

    def finish(self, results: Sequence[Result], seconds: float) -> None: ...


class PlainReport:
    """Plain lines, each written once: for CI logs and pipes."""

    def __init__(self, say: Callable[[str], None], warn: Callable[[str], None] | None = None) -> None:
        self._say = say
        self._warn = warn or (lambda text: say(f"warning: {text}"))

    def __call__(self, event: Event) -> None:
        match event:
            case Greeted():
                self._say(lines.greeting(event))
            case Planned():
                sent, image = event.plan.sent, event.plan.image
                todo = f"{lines.layers(len(sent))} to send, {size(event.plan.delta)}" if sent else "nothing to send"
                self._say(f"{event.target}  {image.reference}: {todo}; {lines.route(event.route)}")
            case Warned():
                self._warn(f"{event.target}: {event.message}")

    def finish(self, results: Sequence[Result], seconds: float) -> None:
        for mark, line in lines.outcomes(results):
            self._say(f"  {mark} {line}")
        if len(results) > 1:
            done = sum(result.error is None for result in results)
            self._say(f"{done} of {len(results)} done      {seconds:.1f} s")


class JsonReport:
    """One object on stdout at the end, and nothing else there; warnings go to `warn`."""

    def __init__(self, out: TextIO, warn: Callable[[str], None] = lambda _: None) -> None:
        self._out = out
        self._warn = warn

    def __call__(self, event: Event) -> None:
        if isinstance(event, Warned):
            self._warn(f"warning: {event.target}: {event.message}")

    def finish(self, results: Sequence[Result], seconds: float) -> None:
        json.dump(document(results, seconds), self._out, indent=2)
        self._out.write("\n")
        self._out.flush()


def document(results: Sequence[Result], seconds: float) -> dict[str, Any]:
    """The object that `--json` prints."""
    return {"results": [result.to_json() for result in results], "seconds": round(seconds, 3)}
