"""The commands of the pages' blocks that say so (`<!-- run -->`) do what they say, on real engines.

`deploy@prod`, `deploy@web1` and `deploy@web2` are hosts of the rig.
"""

import shlex
from pathlib import Path

import pytest

import pages
from engines.test_push_scene import NEWEST, Scene

pytestmark = pytest.mark.kinds(target=NEWEST)

BLOCKS = [block for path in pages.PAGES for block in pages.blocks(path) if block.runs]
IMAGES = ("app:1", "app:2", "app:3", "app:4711", "worker:2")


def test_there_are_blocks_to_run() -> None:
    assert len(BLOCKS) >= 6
    assert sum(len(list(pages.commands_of(block))) for block in BLOCKS) >= 15


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page} {block.text.splitlines()[0][:50]}")
def test_a_block_does_what_it_says(scene: Scene, tmp_path: Path, block: pages.Block) -> None:
    base = scene.layer(200_000, "base")
    for name in IMAGES:
        scene.load([base, scene.layer(3_000, name)], f"docker.io/library/{name}")
    hosts = {"deploy@prod": scene.target.ssh_alias, "deploy@web1": scene.sshd(), "deploy@web2": scene.sshd()}
    lines = list(pages.commands_of(block))
    assert lines
    for line in lines:
        words = [hosts.get(word, word.replace("$SHA", "4711")) for word in pages.words(line)[1:]]
        given = dict(word.split("=", 1) for word in shlex.split(line) if pages.assigns(word))
        env = {name: hosts.get(value, value) for name, value in given.items()}
        scene.layerferry(*words, source=scene.source, env=env, cwd=tmp_path)
    assert scene.target.images()
