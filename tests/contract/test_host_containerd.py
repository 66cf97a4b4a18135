"""What the host script makes of containerd, in every POSIX shell here, before a ctr that plays."""

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from contract.fake_engine import CONTAINERD, OVERLAY2, Answer, FakeEngine, ask, commit, isolate, load

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
INCOMING = "localhost/layerferry:0123456789abcdef"
NAME = "docker.io/library/app:1"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


A, B, C, PLAIN = (digest(letter) for letter in "abcp")
GZIP_A, GZIP_B, CONFIG, ONE, INDEX, OTHER = (digest(name) for name in ("ga", "gb", "config", "one", "index", "other"))


class FakeContainerd(FakeEngine):
    """Holds image ONE: A and B as gzip, and PLAIN as it is; its config is CONFIG."""

    def __init__(self, folder: Path, info: str = "", program: str = "") -> None:
        super().__init__(folder, info=info or OVERLAY2, program=program or "docker")
        # Said always, since this machine may have a docker or podman of its own.
        self.wanted = f"engine {program or 'ctr'}"
        if not program:
            (self.bin / "docker").unlink()
        for name in ("ctr", "k3s"):
            shutil.copy(Path(__file__).with_name("fake_ctr.sh"), self.bin / name)
            (self.bin / name).chmod(0o755)
        k3s = self.bin / "k3s"
        k3s.write_text(k3s.read_text().replace("while :", 'shift # "ctr"\nwhile :', 1))
        self.say("version", "2.1.9")
        self.say("containerd.sock", "")
        self.say("spaces", "default\nmoby\n")
        self.say("names", f"app:old {MANIFEST_TYPE} {ONE} complete\n")
        self.say("new", f"{INCOMING} {MANIFEST_TYPE} {ONE} complete\n")
        self.say(f"blob.{CONFIG}", json.dumps({"rootfs": {"type": "layers", "diff_ids": [A, B]}, "x": ["diff_ids"]}))
        self.describe([(GZIP, GZIP_A, 10), (GZIP, GZIP_B, 20), (GZIP.removesuffix("+gzip"), PLAIN, 30)])
        self.content()

    def describe(self, layers: Sequence[tuple[str, str, int]], indent: int | None = None) -> None:
        manifest = {
            "config": {"digest": CONFIG, "size": 1, "annotations": {"digest": "no"}},
            "layers": [
                {"size": size, "digest": blob, "mediaType": kind, "annotations": {"a": '"size":7,"digest":"sha256:x"'}}
                for kind, blob, size in layers
            ],
        }
        self.say(f"blob.{ONE}", json.dumps(manifest, indent=indent))

    def content(self, *, without: str = "", root: str = "") -> None:
        gc = "containerd.io/gc.ref.content"
        layers = ",".join(f"{gc}.l.{n}={blob}" for n, blob in enumerate([GZIP_A, GZIP_B, PLAIN]))
        rows = [
            (GZIP_A, "10B", f"containerd.io/distribution.source.x=a/b,containerd.io/uncompressed={A}"),
            (GZIP_B, "20B", f"containerd.io/uncompressed={B}"),
            (PLAIN, "30B", "-"),
            (CONFIG, "1B", f"containerd.io/gc.ref.snapshot.overlayfs={OTHER}"),
            (ONE, "1kB", f"{gc}.config={CONFIG},{layers}"),
            *([(root, "1kB", f"{gc}.m.0={ONE},{gc}.m.1={OTHER}")] if root else []),
        ]
        text = "".join(f"{blob}\t{size}\tAbout an hour\t{labels}\n" for blob, size, labels in rows if blob != without)
        self.say("content", f"DIGEST\t\tSIZE\tAGE\tLABELS\n{text}")

    def of(self, wanted: Sequence[str], shell: Sequence[str], *more: str, image: str = OTHER) -> list[str]:
        answer = self.talk(shell, ask({image: wanted}, self.wanted, *more))
        assert answer.lines[-1] == "end", answer
        return answer.lines[answer.lines.index(f"image {image}") + 1 : -1]

    @property
    def ctr_calls(self) -> list[str]:
        return (self.state / "ctr-calls").read_text().splitlines()


@pytest.fixture
def containerd(tmp_path: Path) -> FakeContainerd:
    return FakeContainerd(tmp_path)


def blob(diff_id: str, stored: str, size: int, kind: str = GZIP) -> str:
    return f"blob {diff_id} {stored} {size} {kind}"


def test_it_greets(containerd: FakeContainerd, shell: list[str]) -> None:
    lines = containerd.talk(shell, ask({}, "engine ctr")).lines
    machine = os.uname().machine
    assert lines[2:] == [
        "engine ctr 2.1.9 default", "owner root", "store blob", f"platform Linux/{machine}", "accept none gzip zstd",
        "layers tar gzip zstd", *(line for line in lines if line[:6] == "patch "),
        "capability alive idle login parts resume",
        *(line for line in lines if line[:6] == "maker "), "end",
    ]  # fmt: skip
    containerd.say("spaces", "default\nk8s.io\nmoby\n")
    assert "engine ctr 2.1.9 k8s.io" in containerd.talk(shell, ask({}, "engine ctr")).lines
    assert "engine ctr 2.1.9 mine" in containerd.talk(shell, ask({}, "engine ctr mine")).lines


def test_a_docker_goes_first_even_where_it_does_not_run(containerd: FakeContainerd, shell: list[str]) -> None:
    containerd.say("version", "v2.0.5-k3s1")
    containerd.install("docker")
    assert "engine docker 28.5.2 overlay2" in containerd.talk(shell, ask({})).lines
    assert "engine k3s 2.0.5-k3s1 k8s.io" in containerd.talk(shell, ask({}, "engine k3s")).lines
    containerd.say("status.info", "1")
    (containerd.bin / "sudo").write_text("#!/bin/sh\nexit 1\n")
    (containerd.bin / "sudo").chmod(0o755)
    (containerd.bin / "podman").write_text("#!/bin/sh\nexit 1\n")
    (containerd.bin / "podman").chmod(0o755)
    assert containerd.talk(shell, ask({})).lines[-1].startswith("failed engine")


def test_blobs_are_told_as_the_manifest_has_them(containerd: FakeContainerd, shell: list[str]) -> None:
    expected = {blob(A, GZIP_A, 10), blob(PLAIN, PLAIN, 30, GZIP.removesuffix("+gzip"))}
    assert set(containerd.of([A, C, PLAIN], shell)) == expected
    containerd.describe([(GZIP, GZIP_A, 10), (GZIP.removesuffix("+gzip"), PLAIN, 30)], indent=2)
    assert set(containerd.of([A, C, PLAIN], shell)) == expected
    assert containerd.of([C], shell) == []


def test_the_same_image_is_known_by_its_config_and_by_its_index(containerd: FakeContainerd, shell: list[str]) -> None:
    assert f"same {ONE}" in containerd.of([A, B, PLAIN], shell, image=CONFIG)
    assert f"same {ONE}" in containerd.of([A, B, PLAIN], shell, image=ONE)
    containerd.content(root=INDEX)
    containerd.say("names", f"app:old index {INDEX} complete\n")
    for image in (CONFIG, ONE, INDEX):
        assert f"same {INDEX}" in containerd.of([A, B, PLAIN], shell, image=image)


@pytest.mark.parametrize("missing", [GZIP_B, CONFIG])
def test_an_image_that_is_not_whole_is_not_the_same(containerd: FakeContainerd, shell: list[str], missing: str) -> None:
    containerd.content(without=missing)
    said = containerd.of([A, B], shell, image=ONE)
    assert blob(A, GZIP_A, 10) in said
    assert not [line for line in said if line.startswith("same")]


def test_what_no_image_keeps_does_not_count(containerd: FakeContainerd, shell: list[str]) -> None:
    containerd.say("names", "")
    assert containerd.of([A, B, PLAIN], shell, image=CONFIG) == []


def test_the_answer_does_not_grow_with_the_host(containerd: FakeContainerd, shell: list[str]) -> None:
    few = containerd.of([A, C], shell)
    calls = len(containerd.ctr_calls)
    crowd = "".join(
        f"{digest(f'm{n}')}\t1kB\t2 days\tcontainerd.io/gc.ref.content.config={digest(f'c{n}')},"
        f"containerd.io/gc.ref.content.l.0={digest(f'l{n}')}\n"
        for n in range(2000)
    )
    containerd.say("content", (containerd.state / "content").read_text() + crowd)
    assert containerd.of([A, C], shell) == few
    assert len(containerd.ctr_calls) == 2 * calls


def loading(containerd: FakeContainerd, shell: list[str], expected: Sequence[str]) -> Answer:
    session = ask({OTHER: expected}, "engine ctr") + load({INCOMING: expected}, [b"archive"]) + commit({INCOMING: NAME})
    return containerd.talk(shell, session)


def test_it_loads_verifies_tags_and_drops(containerd: FakeContainerd, shell: list[str]) -> None:
    answer = loading(containerd, shell, [A, B])
    assert answer.lines[-3:] == [f"loaded {INCOMING} {ONE}", "end", "done"]
    assert containerd.loaded == b"archive"
    calls = [call.removeprefix("-n default ") for call in containerd.ctr_calls]
    assert f"images tag --force {INCOMING} {NAME}" in calls
    assert calls[-1] == f"images rm {INCOMING}"
    assert answer.stderr == ""


def test_a_name_is_pinned_where_that_is_asked_for(containerd: FakeContainerd, shell: list[str]) -> None:
    """k3s-io/k3s#8781: what no pod uses goes when the disk fills. Each name that is given, also one that was here."""
    pinned = "io.cri-containerd.pinned=pinned"
    session = load({INCOMING: [A, B]}, [b"archive"]) + commit({INCOMING: NAME})
    answer = containerd.talk(shell, ask({OTHER: [A, B]}, "engine ctr k8s.io - pin") + session)
    assert answer.lines[-1] == "done"
    labelled = [call for call in containerd.ctr_calls if " label " in call]
    assert labelled == [f"-n k8s.io images label {NAME} {pinned}"]
    containerd.say("names", f"{NAME} {MANIFEST_TYPE} {ONE} complete\n")
    assert containerd.talk(shell, ask({CONFIG: [A]}, "engine ctr - - pin") + commit({ONE: NAME})).lines[-1] == "done"
    assert f"-n default images label {NAME} {pinned}" in containerd.ctr_calls
    assert containerd.talk(shell, ask({}, "engine ctr - - nip")).lines[-1] == "failed protocol engine nip"


def test_an_engine_that_pins_nothing_says_so(tmp_path: Path, shell: list[str]) -> None:
    answer = FakeEngine(tmp_path).talk(shell, ask({}, "engine docker - - pin"))
    assert answer.lines[-1] == "failed engine docker pins no images"


@pytest.mark.parametrize(
    ("version", "labels", "words"),
    [
        ("2.1.9", [], ""), ("2.1.9", ["overlayfs"], ""), ("2.1.9", ["native", "overlayfs", "overlayfs"], ""),
        ("2.1.9", ["native", "overlayfs", "native"], "--local --snapshotter native "),
        ("1.6.20", ["fuse-overlayfs"], "--snapshotter fuse-overlayfs "),
    ],
)  # fmt: skip
def test_it_is_unpacked_as_the_images_that_are_here(
    containerd: FakeContainerd, shell: list[str], version: str, labels: list[str], words: str
) -> None:
    """A node's snapshotter need not be containerd's own."""
    containerd.say("version", version)
    rows = (f"{digest(str(n))}\t1B\t1 day\tcontainerd.io/gc.ref.snapshot.{one}={OTHER}" for n, one in enumerate(labels))
    containerd.say("content", "\n".join(["DIGEST\tSIZE\tAGE\tLABELS", *rows, ""]))
    assert loading(containerd, shell, [A, B]).lines[-1] == "done"
    assert f"-n default images import {words}-" in containerd.ctr_calls


@pytest.mark.parametrize("wrong", ["layers", "incomplete", "absent"])
def test_what_was_loaded_is_not_believed(containerd: FakeContainerd, shell: list[str], wrong: str) -> None:
    if wrong != "layers":
        containerd.say("new", "" if wrong == "absent" else f"{INCOMING} {MANIFEST_TYPE} {ONE} incomplete\n")
    answer = loading(containerd, shell, [A] if wrong == "layers" else [A, B])
    assert answer.lines[-1].startswith("failed verify")
    assert "images rm --sync" in containerd.ctr_calls[-1]
    assert not [call for call in containerd.ctr_calls if " tag " in call]


def test_an_image_that_is_here_is_tagged_once(containerd: FakeContainerd, shell: list[str]) -> None:
    answer = containerd.talk(shell, ask({CONFIG: [A]}, "engine ctr") + commit({ONE: NAME}))
    assert answer.lines[-1] == "done"
    tagged = [call for call in containerd.ctr_calls if " tag " in call]
    assert tagged == [f"-n default images tag --force app:old {NAME}"]
    containerd.say("names", f"{NAME} {MANIFEST_TYPE} {ONE} complete\n")
    assert containerd.talk(shell, ask({CONFIG: [A]}, "engine ctr") + commit({ONE: NAME})).lines[-1] == "done"
    assert " images ls " in containerd.ctr_calls[-1]
    assert [call for call in containerd.ctr_calls if " tag " in call] == tagged
    assert containerd.talk(shell, ask({}, "engine ctr") + commit({C: NAME})).lines[-1].startswith("failed tag")


# docker on its own containerd.


@pytest.fixture
def docker(tmp_path: Path) -> FakeContainerd:
    docker = FakeContainerd(tmp_path, info=CONTAINERD, program="docker")
    docker.hold({ONE: [A, B, PLAIN]})
    return docker


def test_docker_is_not_asked_for_its_layers_where_containerd_tells_blobs(
    docker: FakeContainerd, shell: list[str]
) -> None:
    assert docker.of([A, B, C], shell) == [blob(A, GZIP_A, 10), blob(B, GZIP_B, 20)]
    assert not [call for call in docker.calls if "inspect" in call]
    assert all(" -n moby " in call for call in docker.ctr_calls)
    assert docker.of([A, B, PLAIN], shell, image=CONFIG)[-1] == f"same {ONE}"


def test_another_containerds_blobs_are_none_of_dockers(docker: FakeContainerd, shell: list[str]) -> None:
    """Its images have other IDs. Then docker is asked, as where there is no ctr."""
    docker.hold({OTHER: [A, B]})
    assert docker.of([A, C], shell, image=INDEX) == [f"chain 1 {OTHER}"]


def test_a_docker_with_overlay2_starts_no_ctr(tmp_path: Path, shell: list[str]) -> None:
    docker = FakeContainerd(tmp_path, program="docker")
    docker.of([A], shell)
    assert not (docker.state / "ctr-calls").exists()


def test_a_rootless_docker_is_found_by_its_socket(tmp_path: Path, shell: list[str]) -> None:
    """Its DOCKER_HOST often stands in a .bashrc, which is not read. sudo is not tried before."""
    engine = FakeEngine(tmp_path)
    docker = engine.bin / "docker"
    docker.write_text(docker.read_text().replace("\nverb=$1\n", '\n[ "$DOCKER_HOST" ] || exit 1\nverb=$1\n', 1))
    env = engine.environment() | {"XDG_RUNTIME_DIR": str(tmp_path)}
    engine.environment = lambda path=os.defpath: env  # type: ignore[method-assign]
    (engine.bin / "sudo").write_text("#!/bin/sh\n: >$FAKE/sudo\nexit 1\n")
    (engine.bin / "sudo").chmod(0o755)
    assert engine.talk(shell, ask({}, "engine docker")).lines[-1].startswith("failed engine")
    (engine.state / "sudo").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
        assert "engine docker 28.5.2 overlay2" in engine.talk(shell, ask({}, "engine docker")).lines
    assert not (engine.state / "sudo").exists()


def test_nerdctl_is_asked_in_the_namespace_that_is_said(tmp_path: Path, shell: list[str]) -> None:
    engine = FakeEngine(tmp_path, info="2.1.2 linux/amd64 overlayfs", program="nerdctl")
    nerdctl = engine.bin / "nerdctl"
    nerdctl.write_text(nerdctl.read_text().replace("\nverb=$1\n", '\nshift 2 # "-n mine"\nverb=$1\n', 1))
    assert "engine nerdctl 2.1.2 overlayfs" in engine.talk(shell, ask({}, "engine nerdctl mine")).lines
    assert engine.calls
    assert all(call.startswith("-n mine ") for call in engine.calls)


# A rootless containerd, whose ctr is there, and reaches nothing.


@pytest.fixture
def rootless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """A host with ctr and nerdctl, and no docker, wherever this machine has one."""
    engine = FakeEngine(tmp_path, info="2.1.2 linux/amd64 overlayfs", program="nerdctl")
    nerdctl = engine.bin / "nerdctl"
    asked = 'printf "%s\\n" "${XDG_RUNTIME_DIR-none}" >"$FAKE/runtime"'
    nerdctl.write_text(nerdctl.read_text().replace("\nverb=$1\n", f"\n{asked}\nverb=$1\n", 1))
    for name in ("ctr", "sudo"):
        (engine.bin / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"$FAKE/tried"\nexit 1\n')
        (engine.bin / name).chmod(0o755)
    isolate(engine, monkeypatch)
    return engine


def test_a_rootless_containerd_is_found_where_ctr_is_installed(rootless: FakeEngine, shell: list[str]) -> None:
    """ctr comes with every containerd. Without pam_systemd nobody has set XDG_RUNTIME_DIR, which nerdctl asks for."""
    lines = rootless.talk(shell, ask({}), path=str(rootless.bin)).lines
    assert "engine nerdctl 2.1.2 overlayfs" in lines
    assert "store blob" in lines
    assert (rootless.state / "runtime").read_text() == f"/run/user/{os.getuid()}\n"


def test_the_users_own_containerd_goes_before_roots(rootless: FakeEngine, shell: list[str], tmp_path: Path) -> None:
    rootless.place["XDG_RUNTIME_DIR"] = str(tmp_path)
    rootless.talk(shell, ask({}), path=str(rootless.bin))
    assert "sudo -n" in (rootless.state / "tried").read_text()
    (rootless.state / "tried").unlink()
    (tmp_path / "containerd-rootless").mkdir()
    assert "engine nerdctl 2.1.2 overlayfs" in rootless.talk(shell, ask({}), path=str(rootless.bin)).lines
    assert "sudo" not in (rootless.state / "tried").read_text()
    assert (rootless.state / "runtime").read_text() == f"{tmp_path}\n"


def test_no_containerd_stands_in_for_a_docker_that_does_not_run(rootless: FakeEngine, shell: list[str]) -> None:
    (rootless.bin / "podman").write_text("#!/bin/sh\necho no podman >&2\nexit 1\n")
    (rootless.bin / "podman").chmod(0o755)
    assert rootless.talk(shell, ask({}), path=str(rootless.bin)).lines[-1].startswith("failed engine")
    assert rootless.calls == []
