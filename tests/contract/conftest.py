"""What contract tests of one room share: the shells of the host script, and a registry client that does not pause."""

import pytest

from contract.fake_engine import shells
from layerferry.registry_client import tries

SHELLS = shells()


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    """Each POSIX shell of this machine."""
    return list(SHELLS[request.param])


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between two tries of a request."""
    monkeypatch.setattr(tries, "_pause", lambda *_: None)
