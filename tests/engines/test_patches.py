"""Layers as patches: what the target has in the files of older images is not sent again. That it pays is given here.

The target is this machine's docker or a podman, beside a python3: the engines of the other suites have none.
"""

import io
import json
import random
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from packed import Picture, docker25, tar_of
from rig import Engine, Rig

NAME = "patch-test/app:1"
#: The command, for which a patch always pays.
COMMAND = "from layerferry.push import patching; patching.Estimate.pays = True; from layerferry.cli import main; main()"


def layer(version: int) -> bytes:
    """3 MB of files, as an installer leaves them: of another version the heads of all, and all of one, are others."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(150):
            data = bytes((version,)) * 16 + random.Random(number).randbytes(20_000)
            info = tarfile.TarInfo(f"opt/lib/{number}.pyc")
            info.size, info.mtime = len(data), version
            archive.addfile(info, io.BytesIO(data))
        data = random.Random(f"new {version}").randbytes(30_000)
        info = tarfile.TarInfo("opt/lib/new")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture(scope="module")
def patched(rig: Rig) -> Engine:
    return rig.engine("this-machine", name="patched")


class Pushes:
    """Pushes versions of an image under one name."""

    def __init__(self, rig: Rig, target: Engine, folder: Path) -> None:
        self._rig = rig
        self.target = target
        self._folder = folder
        self._base = tar_of({"base": b"base" * 1000})

    def __call__(self, version: int, *words: str) -> tuple[dict[str, Any], str]:
        """The result, and what was said."""
        picture = Picture((self._base, layer(version)), ("", ""))
        path = self._folder / f"{version}.tar"
        path.write_bytes(docker25(picture, "app:1"))
        argv = ["push", f"archive:{path}", self.target.ssh_alias, "--name", NAME, "--json", *words]
        run = subprocess.run(
            [sys.executable, "-c", COMMAND, *argv],
            env=self._rig.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert run.returncode == 0, run.stderr
        (result,) = json.loads(run.stdout)["results"]
        return result, run.stderr

    def shown(self, version: int) -> bool:
        return self.target.diff_ids(NAME) == list(Picture((self._base, layer(version)), ("", "")).diff_ids)


@pytest.fixture
def pushes(rig: Rig, patched: Engine, tmp_path: Path) -> Iterator[Pushes]:
    yield Pushes(rig, patched, tmp_path)
    patched.clear()


def test_of_a_layer_of_which_the_target_has_most_only_the_rest_is_sent(pushes: Pushes) -> None:
    pushes(1)
    result, _ = pushes(2)
    assert [step["action"] for step in result["layers"]] == ["reuse", "patch"]
    assert result["bytes"]["sent"] < 800_000
    assert result["verified"]
    assert pushes.shown(2)
    whole, _ = pushes(3, "--whole-layers")
    assert [step["action"] for step in whole["layers"]] == ["reuse", "send"]
    assert whole["bytes"]["sent"] > 2_000_000
    assert pushes.shown(3)


@pytest.mark.parametrize(
    "fault",
    ["exit 1", "kill -9 $$", 'python3.real "$@" | head -c 100000', 'python3.real "$@" | tr "\\0" "\\1"'],
    ids=["fails", "is killed", "is cut short", "writes something else"],
)
def test_a_patch_that_does_not_do_is_replaced_by_the_whole_layer(pushes: Pushes, fault: str) -> None:
    pushes(1)
    machine = pushes.target.machine
    fault = fault.replace("python3.real", "/usr/bin/python3")
    text = f'#!/bin/sh\ncase "$*" in *" expand "*) {fault} ;; *) exec /usr/bin/python3 "$@" ;; esac\n'
    machine.write("/usr/local/bin/python3", text, mode=0o755)
    try:
        result, said = pushes(2)
    finally:
        machine.run("rm", "/usr/local/bin/python3")
    assert [step["action"] for step in result["layers"]] == ["reuse", "send"]
    assert "patches do not do, whole layers go" in said
    assert pushes.shown(2)
    assert not [name for name in pushes.target.images() if "layerferry" in name]


def test_without_a_python3_the_whole_layer_goes(pushes: Pushes) -> None:
    pushes(1)
    machine = pushes.target.machine
    machine.write("/usr/local/bin/python3", "#!/bin/sh\nexit 127\n", mode=0o755)
    try:
        result, _ = pushes(2)
    finally:
        machine.run("rm", "/usr/local/bin/python3")
    assert [step["action"] for step in result["layers"]] == ["reuse", "send"]
    assert pushes.shown(2)
