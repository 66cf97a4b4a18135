"""Live tests spend an account's bandwidth: left out unless a token is given for them, by a name of their own."""

import os
from pathlib import Path

import pytest

TOKEN_VARIABLE = "LAYERFERRY_LIVE_NGROK_AUTHTOKEN"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get(TOKEN_VARIABLE):
        return
    live = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    if live:
        config.hook.pytest_deselected(items=live)
        items[:] = [item for item in items if item not in set(live)]
