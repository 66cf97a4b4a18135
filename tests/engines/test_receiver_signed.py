"""Signed images under a real sshd with `restrict,command=`, in front of real engines: each kind of key, and a thief."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.lock import Lock
from engines.test_push_scene import APP, EACH_STORE, NEWEST, Scene, actions, assert_arrived, assert_complete, id_of
from signed import Keys

PRINCIPALS = {"ed25519": "ann@example.com", "ecdsa": "bob@example.com", "rsa": "eve@example.com"}


@pytest.fixture
def lock(scene: Scene, tmp_path: Path) -> Iterator[Lock]:
    lock = Lock(tmp_path, scene.rig, scene.target)
    yield lock
    lock.stop()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys")


@pytest.fixture
def agent(tmp_path: Path, keys: Keys) -> Iterator[dict[str, str]]:
    """The environment of somebody whose agent has a key that is in no file."""
    socket = tmp_path / "agent"
    key = keys.private("ed25519-agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        environment = {"SSH_AUTH_SOCK": str(socket)}
        subprocess.run(["ssh-add", "-q", str(key)], env={**environment, "PATH": os.defpath}, check=True)
        key.unlink()
        yield environment
        process.terminate()


def wanting(lock: Lock, keys: Keys, *policy: str) -> Lock:
    """The host, whose policy wants images signed by one of our keys, or by a certificate of our CA."""
    folder = keys.folder.parent
    signers = folder / "allowed_signers"
    lines = [f'{who} namespaces="image@layerferry" {keys.public(kind)}' for kind, who in PRINCIPALS.items()]
    lines.append(f"*@agent.example.com {' '.join((keys.folder / 'ed25519-agent.pub').read_text().split()[:2])}")
    lines.append(f"*@ci.example.com cert-authority {keys.ca}")
    signers.write_text("\n".join(lines) + "\n")
    (folder / "state").mkdir(exist_ok=True)
    lock.allow("--allow", "push-test/app:*", "--signers", str(signers), "--state", str(folder / "state"), *policy)
    return lock


def last(lock: Lock, event: str) -> dict[str, object]:
    found = [json.loads(line) for line in lock.log.read_text().splitlines()]
    return next(entry for entry in reversed(found) if entry["event"] == event)


@pytest.mark.kinds(target=EACH_STORE)
def test_each_kind_of_key_signs(scene: Scene, lock: Lock, keys: Keys, agent: dict[str, str]) -> None:
    wanting(lock, keys)
    certificate = keys.certificate("ed25519-job", "main@ci.example.com", "-V", "-5m:+10m")
    kinds = [(keys.private(kind), [who]) for kind, who in PRINCIPALS.items()]
    kinds += [(certificate, ["main@ci.example.com"]), (keys.folder / "ed25519-agent.pub", ["*@agent.example.com"])]
    for number, (key, principals) in enumerate(kinds):
        name = f"push-test/app:{number}"
        scene.load([scene.layer(10_000, "base"), scene.layer(10_000, f"{number}")], name)
        words = ["push", name, lock.alias, "--json", "--sign-key", str(key)]
        result = scene.layerferry(*words, source=scene.source, env=agent).result
        assert_complete(scene.target, name, scene.source.diff_ids(name))
        assert result["verified"] is True
        assert actions(result) == (["reuse", "send"] if number else ["send", "send"])
        assert last(lock, "naming")["signers"] == {f"docker.io/{name}": principals}
        assert set(actions(scene.layerferry(*words, source=scene.source, env=agent).result)) == {"reuse"}
    assert not scene.strays({})


@pytest.mark.kinds(target=EACH_STORE)
def test_a_stolen_deploy_key_deploys_nothing(scene: Scene, lock: Lock, keys: Keys, agent: dict[str, str]) -> None:
    """The thief pushes what nobody signed, signs it himself, names what is there anew, and brings an old image back."""
    wanting(lock, keys)
    assert agent
    key = keys.private("ed25519")
    signatures = []
    for number, moment in enumerate(("old", "new")):
        scene.load([scene.layer(10_000, moment)])
        words = ["--key", str(key), "--output", str(keys.folder / moment)]
        scene.layerferry("sign", APP, *words, source=scene.source)
        signatures.append(str(keys.folder / moment))
        if number == 0:
            old = id_of(scene.source, APP)
            subprocess.run(["sleep", "1.1"], check=True)  # a statement tells its second
    pushed = scene.layerferry(
        "push", APP, lock.alias, "--json", "--signature", signatures[1], source=scene.source
    ).result
    assert_arrived(scene, pushed)
    here = scene.target.images()

    scene.source.docker("tag", old, APP)
    thief = str(keys.private("ed25519-thief"))
    tries: list[tuple[tuple[str, ...], str]] = [
        ((), "with the signatures of 1 signers, and there are 0 here"),
        (("--sign-key", thief), "of nobody who is allowed to sign here"),
        (("--signature", signatures[0]), "is not newer than one that was accepted here"),
    ]
    for more, told in tries:
        run = scene.layerferry("push", APP, lock.alias, *more, source=scene.source, code=5)
        assert told in run.stderr
        assert scene.target.images() == here
    again = ["push", APP, lock.alias, "--name", "push-test/app:prod", "--signature", signatures[1]]
    run = scene.layerferry(*again, source=scene.source, code=5)
    assert "there are 0 here" in run.stderr
    assert scene.target.images() == here
    assert_complete(scene.target, APP, scene.target.diff_ids(APP))


@pytest.mark.kinds(target=NEWEST)
def test_two_signers_and_a_job_that_only_pushes(scene: Scene, lock: Lock, keys: Keys, agent: dict[str, str]) -> None:
    wanting(lock, keys, "--require", "2", "--max-signature-age", "1h")
    assert agent
    scene.load([scene.layer(10_000, "one")])
    files = []
    for kind in ("ed25519", "rsa"):
        files += ["--signature", str(keys.folder / f"{kind}.sig")]
        scene.layerferry("sign", APP, "--key", str(keys.private(kind)), "--output", files[-1], source=scene.source)
    run = scene.layerferry("push", APP, lock.alias, *files[:2], source=scene.source, code=5)
    assert "with the signatures of 2 signers, and there are 1 here" in run.stderr
    assert_arrived(scene, scene.layerferry("push", APP, lock.alias, "--json", *files, source=scene.source).result)
    shown = scene.layerferry(
        "verify", APP, *files, "--signers", str(keys.folder.parent / "allowed_signers"), source=scene.source
    )
    assert "signed by ann@example.com" in shown.stdout
    assert "signed by eve@example.com" in shown.stdout


@pytest.mark.kinds(target=EACH_STORE, source=["docker28-containerd"])
def test_a_source_that_calls_images_by_their_manifest(
    scene: Scene, lock: Lock, keys: Keys, agent: dict[str, str]
) -> None:
    wanting(lock, keys)
    assert agent
    scene.load([scene.layer(10_000, "one"), scene.layer(10_000, "two")])
    words = ["push", APP, lock.alias, "--json", "--sign-key", str(keys.private("ed25519"))]
    assert_arrived(scene, scene.layerferry(*words, source=scene.source).result)
    assert set(actions(scene.layerferry(*words, source=scene.source).result)) == {"reuse"}
