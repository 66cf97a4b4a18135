"""What the rooms of this suite share: the command with bounds."""

from pathlib import Path

import pytest

from hostile.command import Command


@pytest.fixture
def layerferry(tmp_path: Path) -> Command:
    return Command(tmp_path / "run")
