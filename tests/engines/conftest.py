"""Everything in this folder needs real engines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.test_push_scene import EACH_STORE, Scene
from rig import Engine, Rig
from rig.command import Layerferry


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    if item.path.is_relative_to(Path(__file__).parent):
        item.add_marker("engine")


@pytest.fixture
def scene(
    request: pytest.FixtureRequest, rig: Rig, layerferry: Layerferry, source: Engine, target: Engine
) -> Iterator[Scene]:
    """A source and a target, of every kind that the test asks for, and eyes for what a push leaves on them."""
    scene = Scene(rig, layerferry, source, target, request.node.name)
    yield scene
    scene.close()


@pytest.fixture
def others(scene: Scene, rig: Rig) -> Iterator[list[Engine]]:
    """One engine of each store beside the scene's target."""
    engines = [rig.engine(kind) for kind in EACH_STORE if kind != scene.target.kind.name]
    yield engines
    for engine in engines:
        engine.clear()
