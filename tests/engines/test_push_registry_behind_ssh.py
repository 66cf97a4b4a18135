"""Into a registry that only a bastion reaches: what it lacks goes up, and engines there pull what was pushed."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from engines.test_push_scene import APP, SMALL, Scene, actions, our_ssh
from rig import Engine, Layer, Registry, Rig, RigError, Text
from rig.command import Layerferry, Run
from rig.images import Blob, Compression, Image
from rig.machine import ENVIRONMENT
from rig.processes import wait_until

_PASSWORD = "only for this run"
NAME = "registry.internal"


@dataclass
class Site:
    """A network that is reached through its bastion: a docker host, with two registries beside it."""

    rig: Rig
    layerferry: Layerferry
    bastion: Engine
    plain: Registry
    guarded: Registry
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """A login, and the authority of the certificate, as users give them."""
        login = {"auths": {self.guarded.address: {"username": self.guarded.user, "password": self.guarded.password}}}
        (self.folder / "config.json").write_text(json.dumps(login))
        return {"DOCKER_CONFIG": str(self.folder), "SSL_CERT_FILE": str(self.guarded.state / "tls/ca.pem")}

    def push(
        self, *words: str, to: Registry | None = None, source: Engine | None = None, code: int = 0, **options: Any
    ) -> Run:
        """Push, and see that nothing of ours goes on."""
        target = f"registry://{(to or self.plain).address}"
        env = {**self.environment, **options.pop("env", {})}
        given = ["push", "--via", self.bastion.ssh_alias, "--json", *words, target]
        run = self.layerferry(*given, source=source, env=env, code=code, **options)
        assert our_ssh(self.rig) == []
        assert masters(self.rig) == []
        assert "Traceback" not in run.stderr
        assert _PASSWORD not in run.stdout + run.stderr
        return run

    def pull(self, name: str, registry: Registry | None = None) -> dict[str, Any]:
        """What the site's docker shows of an image that it has pulled."""
        full = f"{(registry or self.plain).address}/{name}"
        self.bastion.docker("pull", "--quiet", full)
        return self.bastion.inspect(full)


def masters(rig: Rig) -> list[str]:
    """Sessions in the background, whose sockets would lie in the scratch folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if line.startswith("ssh") and str(rig.scratch) in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def networks(rig: Rig) -> Iterator[tuple[Engine, Registry, Registry]]:
    bastion = rig.engine("docker28-overlay2", name="bastion", isolated=True)
    plain = rig.hidden_registry(bastion.machine)
    guarded = rig.hidden_registry(bastion.machine, NAME, user="anna", password=_PASSWORD, encrypted=True)
    certificates = f"/etc/docker/certs.d/{guarded.address}/ca.crt"
    bastion.machine.write(certificates, (guarded.state / "tls/ca.pem").read_text())
    yield bastion, plain, guarded
    plain.stop()
    guarded.stop()


@pytest.fixture
def site(
    rig: Rig, layerferry: Layerferry, networks: tuple[Engine, Registry, Registry], tmp_path: Path
) -> Iterator[Site]:
    bastion, plain, guarded = networks
    yield Site(rig, layerferry, bastion, plain, guarded, tmp_path)
    bastion.clear()


@pytest.fixture
def scene(
    request: pytest.FixtureRequest, rig: Rig, layerferry: Layerferry, source: Engine, site: Site
) -> Iterator[Scene]:
    """Its target is the bastion's engine, which pulls."""
    scene = Scene(rig, layerferry, source, site.bastion, request.node.name)
    yield scene
    scene.close()


def podman_pulls(site: Site, podman: Engine, registry: Registry, name: str) -> dict[str, Any]:
    """What a podman shows of an image, which it has pulled in the bastion's network."""
    full = f"{registry.address}/{name}"
    inside = ["nsenter", "--target", str(site.bastion.machine.init.pid), "--net", "--"]
    pull = podman.machine.argv("podman", "pull", "--quiet", "--tls-verify=false", full)
    done = subprocess.run([*inside, *pull], check=False, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return podman.inspect(full)


def base(scene: Scene, site: Site, name: str = "push-test/app:0") -> list[Layer]:
    """A base in the site's registry, compressed by another gzip than ours; and a manifest digest that stays."""
    shop = scene.rig.workshop
    layers = [shop.layer({"usr/large": Text(2_000_000, scene.seed)}), scene.layer(name="usr/small")]
    image = shop.image(layers)
    reference = scene.registry().push("base:1", image, compression="gzip-9")
    result = site.push(f"registry:{reference}", "--name", name).result
    assert actions(result) == ["send", "send"]
    assert result["image_id"] == image.blobs("gzip-9")[0].digest
    return layers


# What arrives, and what is sent for it.


@pytest.mark.kinds(source=("docker20-overlay2", "docker28-overlay2", "docker28-containerd"))
def test_an_image_arrives_whole_and_of_the_next_one_only_the_new_layer(scene: Scene, site: Site) -> None:
    layers: list[Layer | None] = [scene.layer(300_000, "a"), scene.layer(50_000, "b")]
    scene.load(layers)
    first = site.push(APP, source=scene.source).result
    assert actions(first) == ["send", "send"]
    assert first["engine"] == "registry (http)"
    assert first["verified"] is True
    assert site.pull(APP)["RootFS"]["Layers"] == scene.source.diff_ids(APP)
    scene.load([*layers, scene.layer(10_000, "c")], "push-test/app:2")
    second = site.push("push-test/app:2", source=scene.source).result
    assert actions(second) == ["reuse", "reuse", "send"]
    assert second["bytes"]["sent"] < SMALL
    shown = site.pull("push-test/app:2")
    assert shown["RootFS"]["Layers"] == scene.source.diff_ids("push-test/app:2")
    assert shown["RepoDigests"] == [f"{site.plain.address}/push-test/app@{second['image_id']}"]
    if scene.source.kind.store == "overlay2":
        assert shown["Id"] == scene.source.inspect("push-test/app:2")["Id"]


@pytest.mark.kinds(target=("podman5",))
def test_a_base_that_somebody_else_compressed_is_reused_by_its_diff_ids(
    scene: Scene, site: Site, target: Engine
) -> None:
    """The daemon has the layers out of an archive, so that nobody but the registry knows a digest for them."""
    layers = base(scene, site)
    scene.load([*layers, scene.layer(10_000, "new")])
    result = site.push(APP, source=scene.source).result
    assert actions(result) == ["reuse", "reuse", "send"]
    assert result["bytes"]["sent"] < SMALL
    expected = scene.source.inspect(APP)
    for shown in (site.pull(APP), podman_pulls(site, target, site.plain, APP)):
        assert shown["Id"].removeprefix("sha256:") == expected["Id"].removeprefix("sha256:")
        assert shown["RootFS"]["Layers"] == expected["RootFS"]["Layers"]


def test_an_unchanged_image_only_gets_its_new_name(scene: Scene, site: Site) -> None:
    scene.load([scene.layer(300_000, "a")])
    first = site.push(APP, source=scene.source).result
    for name in (APP, "push-test/app:again"):
        result = site.push(APP, "--name", name, source=scene.source).result
        assert actions(result) == ["reuse"]
        assert result["route"]["name"] == "none"
        assert result["bytes"]["sent"] < 2_000
        assert result["image_id"] == first["image_id"]
        assert result["verified"] is True
    assert site.pull("push-test/app:again")["Id"] == scene.source.inspect(APP)["Id"]


def test_another_repository_of_the_registry_gives_what_it_has(scene: Scene, site: Site) -> None:
    """Names in two repositories, then a second image that shares a layer: each blob goes up once."""
    shared = scene.layer(400_000, "shared")
    scene.load([shared, scene.layer(10_000, "a")], "push-test/one:1")
    scene.load([shared, scene.layer(10_000, "b")], "push-test/two:1")
    run = site.push("push-test/one:1", "push-test/two:1", source=scene.source)
    assert sum(result["bytes"]["sent"] for result in run.json["results"]) < 500_000
    result = site.push(
        "push-test/one:1", "--name", "push-test/x:1", "--name", "push-test/y:1", source=scene.source
    ).result
    assert result["bytes"]["sent"] < 500_000
    for name in ("push-test/one:1", "push-test/x:1", "push-test/y:1"):
        assert site.pull(name)["Id"] == scene.source.inspect("push-test/one:1")["Id"]
    assert site.pull("push-test/two:1")["Id"] == scene.source.inspect("push-test/two:1")["Id"]


def test_hosts_and_registries_are_pushed_to_in_one_go(scene: Scene, site: Site) -> None:
    scene.load([scene.layer(100_000, "a")])
    run = site.push(APP, "--to", site.bastion.ssh_alias, source=scene.source)
    assert [result["verified"] for result in run.json["results"]] == [True, True]
    assert site.bastion.diff_ids(APP) == site.pull(APP)["RootFS"]["Layers"]


def test_a_dry_run_changes_nothing(scene: Scene, site: Site) -> None:
    scene.load([scene.layer(100_000, "a")], "push-test/dry:1")
    result = site.push("push-test/dry:1", "--dry-run", source=scene.source).result
    assert actions(result) == ["send"]
    assert result["bytes"]["sent"] is None
    with pytest.raises(RigError):
        site.pull("push-test/dry:1")


def test_the_environment_says_it_too(scene: Scene, site: Site) -> None:
    scene.load([scene.layer(100_000, "a")])
    address = f"registry://{site.plain.address}/under"
    for names in (
        {"LAYERFERRY_TARGETS": address, "LAYERFERRY_VIA": site.bastion.ssh_alias},
        {"LAYERFERRY_TARGETS": f"{address}?via={site.bastion.ssh_alias}"},
    ):
        run = site.layerferry("run", "--json", source=scene.source, env={"LAYERFERRY_IMAGES": APP, **names})
        assert run.result["verified"] is True
    assert site.pull("under/push-test/app:1")["Id"] == scene.source.inspect(APP)["Id"]


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_layers_are_compressed_as_asked(scene: Scene, site: Site, compression: str) -> None:
    name = f"push-test/{compression}:1"
    scene.load([scene.layer(100_000, "a")], name)
    site.push(name, "--compression", compression, source=scene.source)
    assert site.pull(name)["Id"] == scene.source.inspect(name)["Id"]


def test_a_registry_that_is_reached_from_here_needs_no_bastion(scene: Scene, site: Site) -> None:
    registry = scene.registry()
    scene.load([scene.layer(100_000, "a")])
    words = ("push", APP, f"registry://{registry.address}", "--json")
    result = site.layerferry(*words, source=scene.source).result
    assert (result["verified"], result["target"]) == (True, f"registry://{registry.address}")
    image = scene.source.inspect(APP)["Id"]
    scene.source.docker("rmi", APP)
    full = f"{registry.address}/{APP}"
    scene.source.docker("pull", "--quiet", full)
    assert scene.source.inspect(full)["Id"] == image


@dataclass(frozen=True)
class Lie(Image):
    """An image whose manifest names its layers in another order than its config."""

    def blobs(self, compression: Compression = "none") -> tuple[Blob, list[Blob]]:
        manifest, (config, *layers) = super().blobs(compression)
        document = json.loads(manifest.data)
        document["layers"].reverse()
        return Blob.of(manifest.media_type, json.dumps(document).encode()), [config, *layers]


@pytest.mark.parametrize("tag", ["push-test/app:0", APP])
def test_an_image_that_lies_spoils_no_push(scene: Scene, site: Site, tag: str) -> None:
    """docker looks whether what it pulls are the diff IDs of the config: it would refuse what was reused wrongly."""
    registry = scene.registry()
    layers = [scene.layer(200_000, "a"), scene.layer(200_000, "b")]
    image = scene.rig.workshop.image(layers)
    registry.push(tag, Lie(image.config, image.layers))
    scene.load([*layers, scene.layer(10_000, "c")])
    words = ("push", APP, f"registry://{registry.address}", "--json")
    result = site.layerferry(*words, source=scene.source).result
    assert (result["verified"], actions(result)) == (True, ["send", "send", "send"])
    expected = scene.source.inspect(APP)
    scene.source.docker("rmi", APP)
    full = f"{registry.address}/{APP}"
    scene.source.docker("pull", "--quiet", full)
    assert scene.source.inspect(full)["RootFS"]["Layers"] == expected["RootFS"]["Layers"]


# TLS and logins.


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_tls_and_a_login_go_through(scene: Scene, site: Site, variable: str) -> None:
    scene.load([scene.layer(100_000, "a")])
    trusted = {"SSL_CERT_FILE": "", variable: site.environment["SSL_CERT_FILE"]}
    result = site.push(APP, to=site.guarded, source=scene.source, env=trusted).result
    assert result["engine"] == "registry (https)"
    login = ("--username", site.guarded.user, "--password-stdin", site.guarded.address)
    site.bastion.docker("login", *login, stdin=_PASSWORD.encode())
    try:
        assert site.pull(APP, site.guarded)["Id"] == scene.source.inspect(APP)["Id"]
    finally:
        site.bastion.docker("logout", site.guarded.address)


def refused(site: Site, scene: Scene, code: int, says: str, hint: str, **options: Any) -> None:
    """The push fails so, and reads nothing of the image."""
    result = site.push(APP, source=scene.source, code=code, **options).result
    assert says in result["error"]["message"]
    assert hint in result["error"]["hint"]


def test_a_wrong_login_is_refused_before_anything_is_read(scene: Scene, site: Site) -> None:
    scene.load([scene.layer(100_000, "a")])
    place = site.folder / "other"
    place.mkdir()
    wrong = {"auths": {site.guarded.address: {"username": "anna", "password": "hunter2"}}}
    (place / "config.json").write_text(json.dumps(wrong))
    run = site.push(APP, to=site.guarded, source=scene.source, code=5, env={"DOCKER_CONFIG": str(place)})
    assert "does not let this login push to push-test/app" in run.stderr
    assert "docker login" in run.stderr
    assert "hunter2" not in run.stderr + run.stdout


def test_a_certificate_of_somebody_is_refused(scene: Scene, site: Site) -> None:
    scene.load([scene.layer(100_000, "a")])
    trusted = {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
    refused(site, scene, 4, "certificate verify failed", "ca.crt", to=site.guarded, env=trusted)
    hosts = site.bastion.machine.path("/etc/hosts").read_text()
    site.bastion.machine.write("/etc/hosts", hosts.replace(NAME, f"{NAME} other.internal"))
    refused(site, scene, 4, "Hostname mismatch", "ca.crt", to=replace(site.guarded, host="other.internal"))


# What the bastion refuses.


def test_a_bastion_that_lets_nothing_through_is_told_in_one_sentence(scene: Scene, site: Site) -> None:
    assert site.bastion.sshd is not None
    scene.load([scene.layer(100_000, "a")])
    with site.bastion.sshd.reconfigured("AllowTcpForwarding no"):
        refused(site, scene, 4, "bastion does not let connections through to localhost:5000", "AllowTcpForwarding")


def test_a_registry_that_nobody_is_is_told(scene: Scene, site: Site) -> None:
    scene.load([scene.layer(100_000, "a")])
    nobody = replace(site.plain, port=5001)
    refused(site, scene, 4, "bastion reached nobody at localhost:5001 (connect failed: Connection refused)", "listen",
            to=nobody)  # fmt: skip
    nowhere = replace(site.plain, host="no-such.internal")
    refused(site, scene, 4, "bastion cannot resolve the name in no-such.internal:5000", "bastion knows", to=nowhere)


def test_a_user_without_a_shell_will_do(scene: Scene, site: Site) -> None:
    """And a key that SECURITY.md gives so little."""
    assert site.bastion.sshd is not None
    site.bastion.machine.add_user("jumper", shell="/usr/sbin/nologin")
    alias = site.bastion.sshd.with_user("jumper", alias="bastion-jumper")
    scene.load([scene.layer(100_000, "a")])
    keys = site.bastion.machine.run_folder / "authorized_keys"
    key = keys.read_text()
    options = ("push", APP, "--via", alias, "--json")
    try:
        keys.write_text(f'restrict,port-forwarding,permitopen="{site.plain.address}" {key}')
        for registry, code in ((site.plain, 0), (site.guarded, 4)):
            run = scene.layerferry(*options, f"registry://{registry.address}", source=scene.source, code=code)
            assert run.result["verified"] is (code == 0)
        assert "does not let connections through" in run.stderr
    finally:
        keys.write_text(key)


def test_an_unknown_bastion_is_not_trusted(scene: Scene, site: Site) -> None:
    scene.load([scene.layer(100_000, "a")])
    run = site.push(APP, "--ssh-option", "UserKnownHostsFile=/dev/null", source=scene.source, code=4)
    assert "its host key is not known here" in run.stderr
    run = site.push(APP, "--ssh-option", "NoSuchOption=1", source=scene.source, code=4)
    assert "ssh does not understand an option" in run.stderr


def test_a_connection_that_the_user_shares_is_used_and_stays(scene: Scene, site: Site) -> None:
    assert site.bastion.sshd is not None
    options = ["ControlMaster auto", f"ControlPath {site.rig.ssh.folder}/%C", "ControlPersist 120"]
    alias = site.bastion.sshd.with_user("root", alias=f"bastion-shared-{os.urandom(3).hex()}", options=options)
    ssh = ["ssh", "-F", str(site.rig.ssh.config)]
    site.rig.ssh.run(alias, "true")
    log = site.bastion.machine.run_folder / "sshd-bastion.log"
    logins = log.read_text().count("Accepted publickey")
    scene.load([scene.layer(100_000, "a")])
    try:
        words = ("push", APP, f"registry://{site.plain.address}?via={alias}", "--json")
        assert scene.layerferry(*words, source=scene.source).result["verified"] is True
        subprocess.run([*ssh, "-O", "check", alias], check=True, capture_output=True)
        assert log.read_text().count("Accepted publickey") == logins
    finally:
        subprocess.run([*ssh, "-O", "exit", alias], check=True, capture_output=True)


def test_one_login_at_the_bastion_is_enough_for_all(scene: Scene, site: Site) -> None:
    log = site.bastion.machine.run_folder / "sshd-bastion.log"
    logins = log.read_text().count("Accepted publickey")
    scene.load([scene.layer(1_000, str(number)) for number in range(12)])
    assert len(site.push(APP, source=scene.source).result["layers"]) == 12
    assert log.read_text().count("Accepted publickey") == logins + 1


def test_the_doctor_asks_the_registry(site: Site) -> None:
    words = ("doctor", f"registry://{site.guarded.address}", "--via", site.bastion.ssh_alias, "--json")
    findings = site.layerferry(*words, env=site.environment, code=None).json["findings"]
    (found,) = [finding for finding in findings if finding["what"].startswith("target ")]
    assert found["good"] is True
    assert found["reason"] == "answers with HTTP 401, wants a login (basic)"


# Breaking off.


@contextmanager
def slow(site: Site, rate: str) -> Iterator[None]:
    """The bastion's network has that rate for a while."""
    network = site.bastion.machine.network
    assert network is not None
    network.shape(rate)
    try:
        yield
    finally:
        network.shape(None)


def await_upload(site: Site, repository: str, count: int) -> None:
    """Wait until more than so many bytes of a blob have gone up."""
    uploads = site.plain.state / f"data/docker/registry/v2/repositories/{repository}/_uploads"
    wait_until(lambda: any(path.stat().st_size > count for path in uploads.glob("*/data")), "nothing goes up")


def await_the_end_of_ssh(site: Site) -> None:
    wait_until(lambda: not masters(site.rig) and not our_ssh(site.rig), "ssh goes on")


def test_an_interrupt_leaves_the_old_image_and_no_process(scene: Scene, site: Site) -> None:
    scene.load([scene.layer(20_000, "old")], "push-test/slow:1")
    site.push("push-test/slow:1", source=scene.source)
    old = site.pull("push-test/slow:1")["Id"]
    scene.load([scene.layer(3_000_000, "new")], "push-test/slow:1")
    with slow(site, "4mbit"):
        words = ["push", "push-test/slow:1", f"registry://{site.plain.address}", "--via", site.bastion.ssh_alias]
        process = site.layerferry.start(*words, source=scene.source)
        await_upload(site, "push-test/slow", 100_000)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    process.communicate()
    await_the_end_of_ssh(site)
    site.bastion.clear()
    assert site.pull("push-test/slow:1")["Id"] == old


def test_of_several_targets_an_interrupt_ends_them_all(scene: Scene, site: Site) -> None:
    scene.load([scene.layer(3_000_000, "new")], "push-test/several:1")
    with slow(site, "4mbit"):
        via = f"?via={site.bastion.ssh_alias}"
        targets = [f"registry://{site.plain.address}/{place}{via}" for place in ("x", "y")]
        process = site.layerferry.start(
            "push", "push-test/several:1", targets[0], "--to", targets[1], source=scene.source
        )
        await_upload(site, "y/push-test/several", 50_000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 130
    process.communicate()
    await_the_end_of_ssh(site)


def test_a_connection_that_breaks_is_made_anew(scene: Scene, site: Site) -> None:
    """sshd's sessions are killed in the midst of an upload; the blob is sent again, by another one."""
    scene.load([scene.layer(2_000_000, "new")], "push-test/broken:1")
    assert site.bastion.sshd is not None
    with slow(site, "8mbit"):
        words = ["push", "push-test/broken:1", f"registry://{site.plain.address}", "--via", site.bastion.ssh_alias]
        process = site.layerferry.start(*words, source=scene.source)
        await_upload(site, "push-test/broken", 100_000)
        site.bastion.sshd.drop_sessions()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)
    assert site.pull("push-test/broken:1")["Id"] == scene.source.inspect("push-test/broken:1")["Id"]
    await_the_end_of_ssh(site)
