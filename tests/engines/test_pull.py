"""`layerferry pull`: an image of a host's docker comes here, with only those layers on the line that are lacking."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engines.moments import assert_one_sentence, interrupt
from engines.test_push_conduits import login
from engines.test_push_scene import (
    APP,
    SMALL,
    Scene,
    actions,
    assert_complete,
    id_of,
    look,
    our_ssh,
    running,
    unchanged,
)
from faults.happenings import FULL
from rig import Engine, Noise, Rig
from rig.command import Run
from rig.processes import wait_until

HERE = ("docker20-overlay2", "docker28-overlay2", "docker28-containerd")
THERE = ("docker28-overlay2", "docker28-containerd")
NEWEST = ("docker28-overlay2",)

# In a scene the source is what stands here, and the target the host.
pytestmark = pytest.mark.kinds(source=HERE, target=THERE)


def pull(scene: Scene, *arguments: str, code: int = 0, host: str = "") -> Run:
    """Pull to the source's daemon, and look that the host is as it was, and that nothing of ours is left here."""
    images, before = scene.source.images(), running(scene.source)
    words = ("pull", *arguments, host or scene.target.ssh_alias, "--json")
    with unchanged(scene.target):
        run = scene.layerferry(*words, source=scene.source, code=code)
    assert_tidy(scene, before)
    assert code == 0 or scene.source.images() == images
    assert "Traceback" not in run.stderr
    return run


def assert_tidy(scene: Scene, before: set[int]) -> None:
    wait_until(lambda: running(scene.source) <= before, "what runs here does not end")
    assert [name for name in scene.source.images() if "layerferry" in name] == []
    wait_until(lambda: our_ssh(scene.rig) == [], "an ssh of ours does not end")


def build(scene: Scene, base: str, *, size: int = 10_000, name: str = APP) -> None:
    """One new layer on `base`, on the host."""
    content = b"".join(Noise(size, f"{scene.seed} {name}").chunks())
    scene.target.build(name, f"FROM {base}\nCOPY new /new\n", {"new": content})


def test_only_what_is_lacking_crosses_the_line(scene: Scene) -> None:
    build(scene, scene.base(size=40_000_000))
    result = pull(scene, APP).result
    assert actions(result) == ["reuse", "reuse", "send"]
    assert result["route"]["name"] == "registry"
    assert result["source"] == scene.target.ssh_alias
    assert result["target"] == "this machine"
    assert result["bytes"]["received"] < SMALL
    assert result["image_id"] == id_of(scene.source, APP)
    assert result["verified"] is True
    assert_complete(scene.source, APP, scene.target.diff_ids(APP))
    if "containerd" not in {scene.source.kind.store, scene.target.kind.store}:
        assert result["image_id"] == id_of(scene.target, APP)
    again = pull(scene, APP).result
    assert actions(again) == ["reuse", "reuse", "reuse"]
    assert again["bytes"]["received"] < SMALL


@pytest.mark.kinds(source=NEWEST, target=THERE)
def test_the_line_itself_carries_no_more_than_that(scene: Scene, tmp_path: Path) -> None:
    """All that comes from the host's sshd, in every connection, with keys, API and forward."""
    build(scene, scene.base(size=40_000_000))
    sshd = scene.target.sshd
    assert sshd is not None
    count = f'exec 3<>/dev/tcp/%h/%p 4<&0; cat <&4 >&3 & tee "$(mktemp {tmp_path}/XXXXXX)" <&3'
    alias = sshd.with_user("root", alias=f"{sshd.alias}-counted", options=[f"ProxyCommand bash -c '{count}'"])
    result = pull(scene, APP, host=alias).result
    assert actions(result) == ["reuse", "reuse", "send"]
    connections = [file.stat().st_size for file in tmp_path.iterdir()]
    assert len(connections) == 1, "one handshake does for all"
    assert result["bytes"]["received"] < sum(connections) < 2 * SMALL


def test_all_of_an_image_that_nothing_here_has_comes(scene: Scene) -> None:
    scene.target.load(scene.rig.workshop.archive({f"docker.io/{APP}": scene.rig.workshop.image([scene.layer()])}))
    result = pull(scene, APP).result
    assert actions(result) == ["send"]
    assert_complete(scene.source, APP, scene.target.diff_ids(APP))


@pytest.mark.kinds(source=NEWEST, target=THERE)
def test_what_was_loaded_there_is_spared_at_the_latest_the_second_time(scene: Scene) -> None:
    """A graph driver's docker knows no digest of a layer that it has loaded, until it has pushed it once."""
    shop = scene.rig.workshop
    layers = [scene.layer(2_000_000, "large"), scene.layer(10_000, "small")]
    for engine, count in ((scene.target, 2), (scene.source, 1)):
        engine.load(shop.archive({f"docker.io/push-test/app:{count}": shop.image(layers[:count])}))
    result = pull(scene, "push-test/app:2").result
    assert actions(result) == ["reuse", "send"]
    if scene.target.kind.store == "containerd":
        assert result["bytes"]["received"] < SMALL
    scene.source.docker("rmi", "push-test/app:2")
    assert pull(scene, "push-test/app:2").result["bytes"]["received"] < SMALL


@pytest.mark.kinds(source=NEWEST, target=NEWEST)
def test_a_name_of_its_own_a_dry_run_and_words_for_people(scene: Scene) -> None:
    build(scene, scene.base())
    images = scene.source.images()
    dry = pull(scene, APP, "--dry-run").result
    assert (dry["dry_run"], dry["bytes"]["sent"], actions(dry)) == (True, None, ["reuse", "reuse", "send"])
    assert scene.source.images() == images
    words = ("pull", APP, scene.target.ssh_alias, "--name", "mine:7")
    said = scene.layerferry(*words, source=scene.source).stdout
    assert "mine:7 is sha256:" in said
    assert "verified on this machine" in said
    assert scene.source.diff_ids("mine:7") == scene.target.diff_ids(APP)
    assert not scene.source.has(APP)


@pytest.mark.kinds(source=NEWEST, target=NEWEST)
def test_a_host_that_forwards_nothing_gives_all_of_it_and_that_is_said_before(scene: Scene) -> None:
    build(scene, scene.base())
    run = pull(scene, APP, host=scene.sshd("AllowTcpForwarding no"))
    assert run.result["route"]["name"] == "export"
    assert "comes over the line" in run.stderr
    assert "forwards no port back" in run.stderr
    assert_complete(scene.source, APP, scene.target.diff_ids(APP))


@pytest.mark.kinds(source=NEWEST, target=NEWEST)
def test_what_is_not_there_is_said_and_nothing_changes(scene: Scene) -> None:
    build(scene, scene.base())
    said = pull(scene, "push-test/none:1", code=3).stderr
    assert "has no image push-test/none:1" in said
    assert "`docker image ls` there shows what it has." in said
    assert "layerferry pull push-test/app:1" in pull(scene, "push-test/app:9", code=3).stderr
    assert "cannot connect to nowhere.invalid" in pull(scene, APP, host="nowhere.invalid", code=4).stderr
    assert "is no image of a host's docker" in pull(scene, "oci:here", code=2).stderr
    assert "is a registry" in pull(scene, APP, host="registry://r.example", code=2).stderr


@pytest.mark.kinds(source=NEWEST, target=("podman5",))
def test_a_host_without_docker_is_refused_in_a_sentence(scene: Scene) -> None:
    assert "has podman, and images are pulled out of docker alone" in pull(scene, APP, code=3).stderr


@pytest.mark.kinds(source=NEWEST, target=NEWEST)
def test_a_docker_behind_sudo_gives_a_delta_too(scene: Scene) -> None:
    build(scene, scene.base())
    result = pull(scene, APP, host=login(scene, "puller", 2102, sudo=True)).result
    assert actions(result) == ["reuse", "reuse", "send"]
    assert result["bytes"]["received"] < SMALL


@pytest.mark.kinds(source=NEWEST, target=NEWEST)
@pytest.mark.parametrize("retries", [0, 3])
def test_a_line_that_breaks_leaves_nothing_and_is_tried_again(scene: Scene, rig: Rig, retries: int) -> None:
    base = scene.base()
    build(scene, base, size=30_000_000)
    old = scene.source.build(APP, f"FROM {base}\nCOPY old /old\n", {"old": b"old"})
    before, running_here = look(scene.target), running(scene.source)
    sshd = scene.target.sshd
    assert sshd is not None
    process = scene.layerferry.start(
        "pull", APP, scene.target.ssh_alias, "--retries", str(retries), "--json", source=scene.source
    )
    wait_until(lambda: any("/layerferry/" in name for name in scene.target.images()), "it does not push")
    sshd.drop_sessions()
    said, errors = process.communicate(timeout=120)
    assert process.returncode == (0 if retries else 4), errors.decode()
    assert b"broke after" in errors
    assert b"Traceback" not in errors
    wait_until(lambda: look(scene.target) == before, "something stays on the host", seconds=15)
    assert_tidy(scene, running_here)
    if retries:
        assert b'"verified": true' in said
        assert_complete(scene.source, APP, scene.target.diff_ids(APP))
    else:
        assert scene.source.images()[APP] == old


@pytest.mark.kinds(source=NEWEST, target=NEWEST)
def test_the_host_takes_our_name_away_where_we_are_killed(scene: Scene) -> None:
    build(scene, scene.base(), size=30_000_000)
    before = look(scene.target)
    process = scene.layerferry.start("pull", APP, scene.target.ssh_alias, "--json", source=scene.source)
    wait_until(lambda: any("/layerferry/" in name for name in scene.target.images()), "it does not push")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: look(scene.target) == before, "something stays on the host", seconds=15)
    wait_until(lambda: our_ssh(scene.rig) == [], "an ssh of ours does not end", seconds=15)
    pull(scene, APP)


def killed(engine: Engine) -> None:
    """Kill an engine's daemons, and start them again."""
    for daemon in engine.daemons:
        daemon.send(signal.SIGKILL)
    engine.stop()


@pytest.mark.kinds(source=NEWEST, target=NEWEST)
@pytest.mark.parametrize("what", ["interrupted", "the engine here", "the engine there"])
def test_a_pull_that_is_broken_off_says_so_once_and_the_next_one_is_done(scene: Scene, what: str) -> None:
    base = scene.base()
    build(scene, base, size=30_000_000)
    old = scene.source.build(APP, f"FROM {base}\nCOPY old /old\n", {"old": b"old"})
    words = ("pull", APP, scene.target.ssh_alias, "--retries", "0")
    process = scene.layerferry.start(*words, source=scene.source)
    wait_until(lambda: any("/layerferry/" in name for name in scene.target.images()), "it does not push")
    if what == "interrupted":
        interrupt(process, signal.SIGINT)
    else:
        killed(engine := scene.source if what == "the engine here" else scene.target)
    _, errors = process.communicate(timeout=120)
    if what != "interrupted":
        engine.start()
    assert process.returncode == {"interrupted": 130, "the engine here": 5, "the engine there": 3}[what], errors
    assert_one_sentence(errors.decode(), "")
    assert scene.source.images()[APP] == old
    scene.layerferry(*words, source=scene.source)
    assert_complete(scene.source, APP, scene.target.diff_ids(APP))
    wait_until(lambda: not [name for name in scene.target.images() if "layerferry" in name], "a name stays there")


@pytest.mark.kinds(source=NEWEST, target=NEWEST)
def test_a_layer_that_passes_needs_no_disk_here(scene: Scene) -> None:
    """TMPDIR has 4 MB, and the layer 30."""
    build(scene, scene.base(), size=30_000_000)
    layerferry = str(Path(sys.executable).with_name("layerferry"))
    with unchanged(scene.target):
        done = subprocess.run(
            ["sh", "-c", FULL, "sh", layerferry, "pull", APP, scene.target.ssh_alias],
            env=scene.rig.environment | scene.layerferry.source_environment(scene.source),
            cwd=scene.rig.home,
            capture_output=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert_complete(scene.source, APP, scene.target.diff_ids(APP))
