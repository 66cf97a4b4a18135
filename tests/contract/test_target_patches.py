"""Patches over every kind of end: what it has is not sent again, and what is not as it was costs whole layers."""

import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from contract.fake_engine import shells
from contract.target_ends import KINDS, TargetEnd
from packed import Picture, tar_of

NAME, OLD = "docker.io/library/app:2", "docker.io/library/app:1"
#: The command, for which a patch always pays; just before the recipe goes, something happens.
COMMAND = """
import subprocess
from layerferry.push import patching
from layerferry.targets.conversation import Conversation
patching.Estimate.pays = True
load = Conversation.load
def loading(self, expected, method, *more):
    if method.startswith("patch"):
        subprocess.run({meanwhile!r}, shell=True, check=True)
    return load(self, expected, method, *more)
Conversation.load = loading
from layerferry.cli import main
main()
"""
#: nerdctl shows no folders.
WITH_FOLDERS = [name for name in KINDS if name != "nerdctl"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the folders of an engine")


def layer(version: int, folder: str = "opt") -> bytes:
    """2.4 MB of files, of another version the heads of all; with the oddest of names, links, and a file that is new."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        names = [f"{folder}/{number}.pyc" for number in range(40)] + [
            f"{folder}/a\nb",
            os.fsdecode(folder.encode() + b"/\xff\xfe"),
            f"{folder}/" + "n" * 200,
        ]
        for number, name in enumerate(names):
            data = bytes((version,)) * 16 + random.Random(f"{folder} {number}").randbytes(60_000)
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), version
            archive.addfile(info, io.BytesIO(data))
        for number in range(50):
            link = tarfile.TarInfo(f"{folder}/link{number}")
            link.type, link.linkname = tarfile.LNKTYPE, f"{folder}/1.pyc"
            archive.addfile(link)
        data = random.Random(f"new {folder} {version}").randbytes(30_000)
        info = tarfile.TarInfo(f"{folder}/new")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def picture(version: int, *, layers: int = 1) -> Picture:
    """An image with so many layers of such files, each below a folder of its own."""
    parts = [layer(version, f"opt{number or ''}") for number in range(layers)]
    return Picture.plain(tar_of({"base": b"base" * 1000}), *parts)


@pytest.fixture(params=WITH_FOLDERS)
def end_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def end(end_kind: str, tmp_path: Path) -> TargetEnd:
    """An end that has an older version of an image."""
    end = TargetEnd(KINDS[end_kind], tmp_path)
    end.hold(OLD, picture(1))
    end.unpack(picture(1))
    return end


def push(end: TargetEnd, name: str, meanwhile: str = "true") -> list[str]:
    """Push the new version; what became of its layers."""
    run = end.push(end.layout(picture(2)), "--name", name, start=("-c", COMMAND.format(meanwhile=meanwhile)))
    assert run.code == 0, run.stderr
    assert end.names[f"docker.io/library/{name}"] == end.id(picture(2))
    assert end.is_tidy()
    assert not end._read().get("views")
    if meanwhile != "true":
        assert "patches do not do, whole layers go" in run.stderr
    else:
        assert run.results[0]["bytes"]["sent"] < 400_000
        assert run.results[0]["layers"][1]["bytes"] < 400_000
    return run.actions


@pytest.mark.parametrize("name", ["app:1", "app:2"])
def test_of_a_layer_that_is_there_in_an_older_version_the_rest_is_sent(end: TargetEnd, name: str) -> None:
    """From the image that has the name, and from the newest of its repository."""
    assert push(end, name) == ["reuse", "patch"]


def test_so_it_is_of_each_layer_of_an_image(tmp_path: Path, end_kind: str) -> None:
    end = TargetEnd(KINDS[end_kind], tmp_path)
    end.hold(OLD, picture(1, layers=3))
    end.unpack(picture(1, layers=3))
    run = end.push(end.layout(picture(2, layers=3)), "--name", "app:2", start=("-c", COMMAND.format(meanwhile="true")))
    assert run.actions == ["reuse", "patch", "patch", "patch"], run.stderr
    assert "patches do not do" not in run.stderr


def test_an_old_image_that_is_pruned_meanwhile_costs_the_whole_layer(end: TargetEnd) -> None:
    assert push(end, "app:1", f"rm -r {end.folder}/layers") == ["reuse", "send"]


def test_old_files_that_change_meanwhile_make_no_layer(end: TargetEnd) -> None:
    place = next((end.folder / "layers").rglob("7.pyc"))
    change = f"printf x | dd of={place} bs=1 seek=900 conv=notrunc 2>/dev/null"
    assert push(end, "app:1", change) == ["reuse", "send"]


@pytest.mark.parametrize("name", [name for name in shells() if name != "dash"])
def test_the_script_does_so_in_every_shell(tmp_path: Path, name: str) -> None:
    end = TargetEnd(KINDS["docker's command"], tmp_path)
    end.shell = shells()[name]
    end.hold(OLD, picture(1))
    end.unpack(picture(1))
    assert push(end, "app:2") == ["reuse", "patch"]
