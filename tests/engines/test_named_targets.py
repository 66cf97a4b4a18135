"""Pushes whose target is a name of a project's file: layerferry.toml, or a table of pyproject.toml."""

from pathlib import Path

import pytest

from engines.test_push_scene import APP, NEWEST, Scene, assert_complete, id_of

pytestmark = pytest.mark.kinds(target=NEWEST)

OWN = """\
keep-previous = "before"
[images]
app = "push-test/app"
[targets.prod]
to = "{host}"
copy = "prod.env:/tmp/named-target.env"
then = "cat /tmp/named-target.env"
"""
SHARED = """\
[project]
name = "app"
[tool.layerferry]
keep-previous = "before"
[tool.layerferry.images]
app = "push-test/app"
[tool.layerferry.targets.prod]
to = "{host}"
copy = "prod.env:/tmp/named-target.env"
then = "cat /tmp/named-target.env"
"""


@pytest.mark.parametrize(
    ("name", "text"), [("layerferry.toml", OWN), ("pyproject.toml", SHARED)], ids=["own", "shared"]
)
def test_a_push_to_a_name_does_what_the_file_says(scene: Scene, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "below").mkdir()
    (tmp_path / name).write_text(text.format(host=scene.target.ssh_alias))
    (tmp_path / "prod.env").write_text("it is the file's\n")
    images = []
    for number in ("first", "second"):
        scene.load([scene.layer(name=number)], APP)
        run = scene.layerferry("push", "app:1", "prod", source=scene.source, cwd=tmp_path / "below")
        assert f"prod is {scene.target.ssh_alias} (../{name})" in run.stderr
        assert "it is the file's" in run.stdout
        images.append(id_of(scene.target, APP))
    assert scene.target.images() == {APP: images[1], "push-test/app:before": images[0]}
    assert_complete(scene.target, APP, scene.source.diff_ids(APP))
    run = scene.layerferry("rollback", "prod", "app:1", source=scene.source, cwd=tmp_path / "below")
    assert "it is the file's" in run.stdout
    assert scene.target.images() == {APP: images[0], "push-test/app:before": images[1]}
    scene.target.machine.run("rm", "/tmp/named-target.env")
