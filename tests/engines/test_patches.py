"""Layers as patches: what the target has in the files of older images is not sent again. That it pays is given here."""

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

from engines.lock import Lock
from engines.test_rootless import UID, user_of
from packed import Picture, docker25, tar_of
from rig import Engine, Rig

NAME = "patch-test/app:1"
UIDS = {"member": 4101, "admin": 4102}
#: The command, for which a patch always pays.
COMMAND = "from layerferry.push import patching; patching.Estimate.pays = True; from layerferry.cli import main; main()"
#: The same, interrupted while the target, slow, still tells of its files.
INTERRUPTED = f"""
import os, signal, time
from layerferry.push.patching import ToldFiles
hear = ToldFiles._hear
ToldFiles._hear = lambda files, told: hear(files, (part for part in told if not time.sleep(1)))
ToldFiles.wait = lambda files: os.kill(os.getpid(), signal.SIGINT) or files._ended.wait()
{COMMAND}
"""


def layer(version: int, folder: str = "opt/lib") -> bytes:
    """3 MB of files, as an installer leaves them: of another version the heads of all, and all of one, are others."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(150):
            data = bytes((version,)) * 16 + random.Random(f"{folder} {number}").randbytes(20_000)
            info = tarfile.TarInfo(f"{folder}/{number}.pyc")
            info.size, info.mtime = len(data), version
            archive.addfile(info, io.BytesIO(data))
        data = random.Random(f"new {folder} {version}").randbytes(30_000)
        info = tarfile.TarInfo(f"{folder}/new")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Pushes:
    """Pushes versions of an image to a target."""

    def __init__(self, rig: Rig, target: Engine, folder: Path) -> None:
        self.rig = rig
        self.target = target
        self.alias = target.ssh_alias
        self._folder = folder
        self._base = tar_of({"base": b"base" * 1000})
        #: The folders of the layers that change.
        self.folders = ["opt/lib"]

    def __call__(
        self, version: int, *words: str, name: str = NAME, command: str = COMMAND, code: int = 0
    ) -> tuple[dict[str, Any], str]:
        """The result, and what was said."""
        path = self._folder / f"{version}.tar"
        path.write_bytes(docker25(self.picture(version), "app:1"))
        argv = ["push", f"archive:{path}", self.alias, "--name", name, "--json", *words]
        run = subprocess.run(
            [sys.executable, "-c", command, *argv],
            env=self.rig.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert run.returncode == code, run.stderr
        (result,) = json.loads(run.stdout)["results"]
        return result, run.stderr

    def picture(self, version: int) -> Picture:
        return Picture.plain(self._base, *(layer(version, folder) for folder in self.folders))

    def shown(self, version: int, name: str = NAME) -> bool:
        return self.target.diff_ids(name) == list(self.picture(version).diff_ids)


@pytest.fixture
def pushes(request: pytest.FixtureRequest, rig: Rig, tmp_path: Path) -> Iterator[Pushes]:
    """To the docker of this machine, or what the test asks for: an engine, and the user who logs in."""
    kind, user = getattr(request, "param", ("this-machine", "root"))
    target = rig.engine(kind, name="patched" if kind == "this-machine" else "")
    found = Pushes(rig, target, tmp_path)
    with target.machine.python():
        if user != "root":
            found.alias = alias_of(target, user)
        target.clear()
        yield found
        target.clear()
    assert not list(target.machine.path("/var/tmp").glob("layerferry*"))


def alias_of(target: Engine, user: str) -> str:
    """A user who may talk to docker and is no root: a `member` of its group, or an `admin` who may use sudo too."""
    machine = target.machine
    if not machine.path(f"/home/{user}").exists():
        machine.add_user(user, uid=UIDS[user], sudo=user == "admin")
        if user == "admin":
            with machine.path("/etc/group").open("a") as group:
                group.write("wheel:x:4110:admin\n")
        machine.run("chmod", "644", "/run/rig/authorized_keys")
        assert target.sshd
        target.sshd.with_user(user)
    machine.run("chmod", "666", "/run/docker.sock")
    return f"{target.ssh_alias}-{user}"


#: Each store, and each way to the old files of who has no root.
ENDS = [
    ("this-machine", "root"),
    ("this-machine", "member"),
    ("this-machine", "admin"),
    ("docker26-containerd", "root"),
    ("docker28-containerd", "root"),
    ("docker28-containerd", "member"),
    ("docker28-containerd", "admin"),
    ("podman4", "root"),
    ("podman5", "root"),
    ("containerd1", "root"),
    ("containerd2", "root"),
    ("k3s", "root"),
]


@pytest.mark.parametrize("pushes", ENDS, indirect=True, ids=" ".join)
def test_of_a_layer_of_which_the_target_has_most_only_the_rest_is_sent(pushes: Pushes) -> None:
    pushes(1)
    result, _ = pushes(2)
    assert [step["action"] for step in result["layers"]] == ["reuse", "patch"]
    assert result["bytes"]["sent"] < 800_000
    assert result["verified"]
    assert pushes.shown(2)
    assert NAME.encode() in pushes.target.save(NAME)


@pytest.mark.parametrize(
    "pushes", [("this-machine", "root"), ("docker28-containerd", "member")], indirect=True, ids=" ".join
)
def test_so_it_is_of_each_of_several_layers(pushes: Pushes) -> None:
    pushes.folders += ["opt/more", "srv"]
    pushes(1)
    result, _ = pushes(2)
    assert [step["action"] for step in result["layers"]] == ["reuse", "patch", "patch", "patch"]
    assert pushes.shown(2)


def test_layers_go_whole_where_that_is_asked(pushes: Pushes) -> None:
    pushes(1)
    whole, _ = pushes(2, "--whole-layers")
    assert [step["action"] for step in whole["layers"]] == ["reuse", "send"]
    assert whole["layers"][1]["reason"].endswith("; whole, as asked")
    assert whole["bytes"]["sent"] > 2_000_000
    assert pushes.shown(2)


@pytest.mark.parametrize(
    "pushes", [("this-machine", "root"), ("podman4", "root"), ("containerd2", "root")], indirect=True, ids=" ".join
)
def test_a_name_that_is_new_builds_on_the_newest_image_of_its_repository(pushes: Pushes) -> None:
    """As where each commit gets a tag of its own. The images share no layer."""
    pushes(1, name="patch-test/app:1")
    pushes._base = tar_of({"base": b"else" * 1000})
    result, _ = pushes(2, name="patch-test/app:2")
    assert [step["action"] for step in result["layers"]] == ["send", "patch"]
    assert pushes.shown(2, "patch-test/app:2")


def played(pushes: Pushes, fault: str) -> str:
    """What is said by a push of another version where python3 does something else when it should expand the recipe."""
    machine = pushes.target.machine
    text = f'#!/bin/sh\ncase "$*" in *" expand "*) {fault} ;; *) exec /usr/bin/python3 "$@" ;; esac\n'
    machine.write("/usr/local/bin/python3", text, mode=0o755)
    try:
        result, said = pushes(2)
    finally:
        machine.run("rm", "/usr/local/bin/python3")
    assert result["layers"][1]["action"] == "send"
    assert "patches do not do, whole layers go" in said
    assert result["layers"][1]["reason"] == "the target lacks it; whole, for its patch failed"
    assert pushes.shown(2)
    assert not [name for name in pushes.target.images() if "layerferry" in name]
    return said


@pytest.mark.parametrize(
    "fault",
    [
        "exit 1",
        "kill -9 $$",
        '/usr/bin/python3 "$@" | head -c 100000',
        '/usr/bin/python3 "$@" | tr "\\0" "\\1"',
    ],
    ids=["fails", "is killed", "is cut short", "writes something else"],
)
def test_a_patch_that_does_not_do_is_replaced_by_the_whole_layer(pushes: Pushes, fault: str) -> None:
    pushes(1)
    played(pushes, fault)


#: An engine of each store; those beyond the first in the long suite.
STORES = [
    ("this-machine", "root"),
    *(
        pytest.param((kind, "root"), marks=pytest.mark.slow)
        for kind in ("docker28-containerd", "podman5", "containerd2")
    ),
]
REMOVES = {"docker": "docker rmi -f", "podman": "podman rmi -f", "ctr": "ctr images rm --sync"}


@pytest.mark.parametrize("pushes", STORES, indirect=True)
def test_an_old_image_that_is_pruned_meanwhile_costs_the_whole_layer(pushes: Pushes) -> None:
    pushes(1)
    command = REMOVES[pushes.target.kind.program]
    played(pushes, f'{command} docker.io/{NAME} >/dev/null; exec /usr/bin/python3 "$@"')


@pytest.mark.parametrize("pushes", STORES, indirect=True)
def test_old_files_that_change_meanwhile_make_no_layer(pushes: Pushes) -> None:
    """The digest tells."""
    pushes(1)
    change = 'for one; do printf x | dd of="$one" bs=1 seek=9000 conv=notrunc; done'
    stores = "/var/lib/docker /var/lib/containerd /var/lib/containers"
    found = f"find {stores} -path '*/opt/lib/7.pyc' -exec sh -c '{change}' _ {{}} +"
    played(pushes, f'{found} 2>/dev/null; exec /usr/bin/python3 "$@"')


def test_an_interruption_while_the_target_tells_of_its_files_is_one(pushes: Pushes) -> None:
    pushes(1)
    before = pushes.target.images()
    result, said = pushes(2, command=INTERRUPTED, code=130)
    assert result["error"]["message"] == "interrupted"
    assert "Traceback" not in said
    assert pushes.target.images() == before
    assert pushes(2)[0]["verified"] is True


@pytest.mark.parametrize("pushes", [("this-machine", "member")], indirect=True)
def test_a_container_that_a_killed_session_has_left_goes(pushes: Pushes) -> None:
    """An export takes a container, which is never started."""
    pushes(1)
    of_whom = "$(cut -c 1-8 /proc/sys/kernel/random/boot_id)-$(readlink /proc/self/ns/pid | tr -dc 0-9)-$(id -u)"
    left = f"docker create --name layerferry-999999-1-{of_whom} {NAME} x"
    pushes.target.client.run(pushes.alias, left)
    assert pushes.target.api.get("/containers/json?all=1")
    result, _ = pushes(2)
    assert result["layers"][1]["action"] == "patch"
    assert pushes.target.api.get("/containers/json?all=1") == []


@pytest.mark.parametrize("pushes", [("podman4", "root")], indirect=True)
def test_a_rootless_podman_reads_its_files_in_its_own_namespace(pushes: Pushes) -> None:
    pushes.alias = user_of(pushes.target)
    machine = pushes.target.machine
    machine.run("install", "-d", "-o", str(UID), "/tmp/images")  # on no overlay
    config = '[storage]\ndriver = "overlay"\ngraphroot = "/tmp/images"\n'
    machine.write("/home/rootless/.config/containers/storage.conf", config)
    machine.run("chown", "-R", str(UID), "/home/rootless/.config")
    pushes(1)
    result, _ = pushes(2)
    assert result["layers"][1]["action"] == "patch", (result["engine"], result["layers"][1]["reason"])
    assert result["verified"]
    pushes.target.client.run(pushes.alias, "podman rmi --all --force")
    machine.run("rm", "/home/rootless/.config/containers/storage.conf")


@pytest.mark.parametrize(
    "pushes",
    [("this-machine", "root"), ("docker28-containerd", "root"), ("podman5", "root")],
    indirect=True,
    ids=" ".join,
)
def test_a_receiver_makes_a_layer_of_what_its_engine_exports(pushes: Pushes, tmp_path: Path) -> None:
    """It may not read the folders of the layers here: they are another machine's."""
    lock = Lock(tmp_path, pushes.rig, pushes.target)
    lock.allow("--allow", "patch-test/app:*")
    pushes.folders += ["opt/more"]
    try:
        pushes.alias = lock.alias
        pushes(1)
        result, _ = pushes(2)
        assert [step["action"] for step in result["layers"]] == ["reuse", "patch", "patch"]
        assert result["bytes"]["sent"] < 1_600_000
        assert pushes.shown(2)
        lock.allow("--allow", "patch-test/app:*", "--whole-layers")
        result, _ = pushes(3)
        assert result["layers"][1]["action"] == "send"
        assert "nothing on the target reads its older files" in result["layers"][1]["reason"]
    finally:
        lock.stop()
    containers = pushes.target.docker("ps", "--all", "--quiet")
    assert containers == ""


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
