"""What leads out of a daemon, at its end: each thing is ended, whatever goes wrong with the others."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from layerferry.errors import ConnectError, SourceError
from layerferry.events import Event, Warned
from layerferry.routes.daemon_routes import DaemonRoutes
from layerferry.sources.daemon.last_words import LastWords
from layerferry.sources.daemon.source import DaemonSource


def routes(events: list[Event]) -> tuple[DaemonRoutes, Any]:
    """Those of a daemon in which a killed run has left a name, and what stands around it."""
    around: Any = SimpleNamespace(daemon=Mock(last_words=LastWords()), reachability=Mock())
    around.daemon.sweep.return_value = "removed a name"
    made = DaemonRoutes(around.daemon, around.reachability, "auto", events.append)
    made._pushes = True
    return made, around


@pytest.mark.parametrize("error", [SourceError("it keeps the name"), ConnectError("the line broke", transient=True)])
def test_a_push_that_nobody_fetched_and_ends_badly_is_told_beside(error: Exception) -> None:
    """A daemon of this machine raises the one, a host to pull from the other."""
    events: list[Event] = []
    made, around = routes(events)
    begun: Any = Mock(__enter__=Mock(), __exit__=Mock(side_effect=error))
    made.of(Mock())._begun = begun
    made.close()
    assert [event.message for event in events if isinstance(event, Warned)] == [str(error), "removed a name"]
    around.reachability.close.assert_called_once()


def test_what_fails_at_the_end_leaves_nothing_else_open() -> None:
    made, around = routes([])
    around.reachability.close.side_effect = SourceError("it does not end")
    source = DaemonSource(around.daemon, lambda _: made)
    source.prepare()
    with pytest.raises(SourceError, match="it does not end"):
        source.close()
    around.daemon.sweep.assert_called_once()
    around.daemon.close.assert_called_once()
