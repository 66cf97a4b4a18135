"""Each environment in env/ is what a real job of its provider sees; the file's first word is the provider."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from layerferry.ci import providers, topology
from layerferry.ci.machine import Machine
from layerferry.ci.services import Certainty
from layerferry.ci.topology import Reach

ENVIRONMENTS = {path.stem: path for path in sorted((Path(__file__).parent / "env").glob("*.env"))}

ID = "ab" * 32
SOCKET = ("/var/run/docker.sock",)
DOCKER_MOUNTS = f"""\
612 524 0:61 / / rw,relatime master:214 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/AAAA
640 612 254:1 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/vda1 rw
641 612 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw
642 612 254:1 /var/lib/docker/containers/{ID}/hosts /etc/hosts rw,relatime - ext4 /dev/vda1 rw
"""
POD_MOUNTS = """\
900 800 0:400 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs
911 900 8:1 /var/lib/kubelet/pods/0a1b2c3d-1111-2222-3333-444455556666/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw
"""
#: The machine's own table, beside running containers: their folders are mount points there, not roots.
HOST_MOUNTS = f"""\
24 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
90 24 0:50 / /var/lib/docker/overlay2/{ID}/merged rw,relatime shared:44 - overlay overlay rw
91 24 0:51 / /var/lib/docker/containers/{ID}/mounts/shm rw,nosuid shared:45 - tmpfs shm rw
"""

ON_MACHINE = Machine(mountinfo=HOST_MOUNTS, cgroup="0::/system.slice/runner.service\n", sockets=SOCKET)
IN_CONTAINER = Machine(mountinfo=DOCKER_MOUNTS, cgroup="0::/\n", addresses=("172.17.0.5",))
WITH_SOCKET = Machine(mountinfo=DOCKER_MOUNTS, cgroup="0::/\n", addresses=("172.17.0.5",), sockets=SOCKET)
IN_POD = Machine(mountinfo=POD_MOUNTS, cgroup="0::/\n", addresses=("10.42.0.9",))
POD_ALIASES = "127.0.0.1 localhost\n10.42.0.9 runner-x\n127.0.0.1 docker registry # host aliases\n"


@dataclass(frozen=True)
class Expected:
    machine: Machine
    container: str | None
    daemon: tuple[Reach, str]
    services: tuple[str, ...] = ()


def dind_certificates(machine: Machine) -> Machine:
    return Machine(mountinfo=machine.mountinfo, addresses=machine.addresses, tls_folders=frozenset({"/certs/client"}))


UNIX = (Reach.SOCKET, "unix:///var/run/docker.sock")
NOWHERE = (Reach.NONE, "unix:///var/run/docker.sock")
EXPECTED = {
    "appveyor-vm": Expected(ON_MACHINE, None, UNIX),
    "azure-container": Expected(WITH_SOCKET, "docker", UNIX, ("registry:5000",)),
    "azure-vm": Expected(ON_MACHINE, None, UNIX, ("127.0.0.1:32768",)),
    "bitbucket-docker": Expected(IN_CONTAINER, "docker", (Reach.LOOPBACK, "tcp://localhost:2375"), ("127.0.0.1:5000",)),
    "bitbucket-self-hosted": Expected(ON_MACHINE, None, UNIX),
    "buddy-action": Expected(WITH_SOCKET, "docker", UNIX, ("registry:5000",)),
    "buildkite-kubernetes": Expected(IN_POD, "kubernetes", (Reach.LOOPBACK, "tcp://localhost:2375")),
    "buildkite-machine": Expected(ON_MACHINE, None, UNIX),
    "circleci-classic": Expected(
        IN_CONTAINER, "docker", (Reach.REMOTE, "tcp://35.185.61.236:2376"), ("127.0.0.1:5000",)
    ),
    "circleci-machine": Expected(ON_MACHINE, None, UNIX),
    "circleci-remote": Expected(WITH_SOCKET, "docker", UNIX, ("127.0.0.1:5000",)),
    "circleci-runner-kubernetes": Expected(IN_POD, "kubernetes", NOWHERE, ("127.0.0.1:5000",)),
    "circleci-service": Expected(WITH_SOCKET, "docker", UNIX, ("127.0.0.1:5000",)),
    "cirrus-container": Expected(IN_CONTAINER, "docker", NOWHERE, ("127.0.0.1:5000",)),
    "cirrus-docker-builder": Expected(ON_MACHINE, None, UNIX),
    "cloudbuild-step": Expected(WITH_SOCKET, "docker", UNIX),
    "codebuild-lambda": Expected(Machine(), None, NOWHERE),
    "codebuild-standard": Expected(WITH_SOCKET, "docker", UNIX),
    "codefresh-freestyle": Expected(WITH_SOCKET, "docker", UNIX, ("registry:5000",)),
    "concourse-put": Expected(IN_CONTAINER, "docker", NOWHERE),
    "dagger-run": Expected(IN_CONTAINER, "docker", NOWHERE),
    "drone-dind": Expected(WITH_SOCKET, "docker", UNIX, ("registry:5000",)),
    "drone-exec": Expected(ON_MACHINE, None, UNIX),
    "earthly-with-docker": Expected(WITH_SOCKET, "docker", UNIX),
    "forgejo-container": Expected(IN_CONTAINER, "docker", NOWHERE, ("registry:5000",)),
    "forgejo-dind": Expected(IN_CONTAINER, "docker", (Reach.REMOTE, "tcp://docker-in-docker:2375"), ("registry:5000",)),
    "generic-container": Expected(WITH_SOCKET, "docker", UNIX),
    "generic-numeric": Expected(ON_MACHINE, None, (Reach.LOOPBACK, "tcp://127.0.0.1:2375")),
    "gitea-container": Expected(WITH_SOCKET, "docker", UNIX, ("registry:5000",)),
    "gitea-host": Expected(ON_MACHINE, None, UNIX, ("127.0.0.1:5000",)),
    "github-act": Expected(WITH_SOCKET, "docker", UNIX, ("registry:5000",)),
    "github-arc-dind": Expected(IN_POD, "kubernetes", UNIX, ("127.0.0.1:5000",)),
    "github-codebuild": Expected(WITH_SOCKET, "docker", UNIX, ("registry:5000",)),
    "github-container": Expected(WITH_SOCKET, "docker", UNIX, ("registry:5000",)),
    "github-vm": Expected(ON_MACHINE, None, UNIX, ("127.0.0.1:5000",)),
    "gitlab-dind-plain": Expected(
        IN_CONTAINER, "docker", (Reach.REMOTE, "tcp://docker:2375"), ("registry:5000", "docker:5000")
    ),
    "gitlab-dind-tls": Expected(
        dind_certificates(IN_CONTAINER),
        "docker",
        (Reach.REMOTE, "tcp://docker:2376"),
        ("registry:5000", "docker:5000"),
    ),
    "gitlab-kubernetes": Expected(
        Machine(mountinfo=POD_MOUNTS, hosts=POD_ALIASES, tls_folders=frozenset({"/certs/client"})),
        "kubernetes",
        (Reach.LOOPBACK, "tcp://docker:2376"),
        ("127.0.0.1:5000",),
    ),
    "gitlab-links": Expected(
        IN_CONTAINER,
        "docker",
        (Reach.REMOTE, "tcp://docker:2375"),
        ("172.17.0.4:5000", "registry:5000", "docker:5000"),
    ),
    "gitlab-per-build-network": Expected(
        dind_certificates(IN_CONTAINER),
        "docker",
        (Reach.REMOTE, "tcp://docker:2376"),
        ("registry:5000", "docker:5000"),
    ),
    "gitlab-shell": Expected(ON_MACHINE, None, UNIX),
    "gitlab-socket": Expected(WITH_SOCKET, "docker", UNIX, ("registry:5000",)),
    "harness-cloud": Expected(WITH_SOCKET, "docker", UNIX, ("127.0.0.1:5000",)),
    "harness-dind": Expected(IN_POD, "kubernetes", (Reach.LOOPBACK, "tcp://localhost:2375"), ("127.0.0.1:5000",)),
    "harness-kubernetes": Expected(replace(IN_POD, sockets=SOCKET), "kubernetes", UNIX, ("127.0.0.1:5000",)),
    "jenkins-agent": Expected(ON_MACHINE, None, UNIX),
    "jenkins-inside": Expected(WITH_SOCKET, "docker", UNIX),
    "jenkins-ssh-daemon": Expected(ON_MACHINE, None, (Reach.SSH, "ssh://deploy@builder.example.com:2222")),
    "jenkins-with-server": Expected(ON_MACHINE, None, (Reach.REMOTE, "tcp://swarm.example.com:2376")),
    "netlify-build": Expected(IN_CONTAINER, "docker", NOWHERE),
    "none-empty": Expected(ON_MACHINE, None, UNIX),
    "none-laptop": Expected(ON_MACHINE, None, UNIX),
    "none-switched-off": Expected(ON_MACHINE, None, UNIX),
    "onedev-container": Expected(WITH_SOCKET, "docker", UNIX, ("registry:5000",)),
    "render-build": Expected(IN_CONTAINER, "docker", NOWHERE),
    "screwdriver-pod": Expected(IN_POD, "kubernetes", (Reach.LOOPBACK, "tcp://localhost:2375")),
    "semaphore-container": Expected(WITH_SOCKET, "docker", UNIX, ("registry:5000",)),
    "semaphore-vm": Expected(ON_MACHINE, None, UNIX),
    "teamcity-agent": Expected(ON_MACHINE, None, UNIX),
    "teamcity-wrapper": Expected(WITH_SOCKET, "docker", UNIX),
    "tekton-step": Expected(replace(IN_POD, folders=frozenset({"/tekton/steps"})), "kubernetes", NOWHERE),
    "travis-vm": Expected(ON_MACHINE, None, UNIX),
    "vercel-build": Expected(IN_CONTAINER, "docker", NOWHERE),
    "woodpecker-dind": Expected(
        IN_CONTAINER, "docker", (Reach.REMOTE, "tcp://docker:2376"), ("registry:5000", "docker:5000")
    ),
    "woodpecker-old": Expected(WITH_SOCKET, "docker", UNIX, ("registry:5000",)),
}


def environment(name: str) -> dict[str, str]:
    lines = ENVIRONMENTS[name].read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def detected(name: str, machine: Machine | None = None) -> topology.Topology:
    env = environment(name)
    port = int(env.get("LOCAL_DOCKER_REGISTRY_PORT", "0")) or None
    return topology.detect(env, machine or EXPECTED[name].machine, port=port)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_names_its_provider_and_the_reason_its_variables(name: str) -> None:
    env = environment(name)
    provider, reason = providers.detect(env, folders=EXPECTED[name].machine.folders)
    assert provider.key == name.partition("-")[0]
    if provider.folder:
        assert provider.folder in reason
    elif provider is not providers.NONE:
        named = [word for word in reason.split() if word.isupper()]
        assert named
        assert all(env[variable] for variable in named)


def test_every_provider_has_an_environment_and_every_environment_an_expectation() -> None:
    assert {name.partition("-")[0] for name in ENVIRONMENTS} == {p.key for p in (*providers.PROVIDERS, providers.NONE)}
    assert set(EXPECTED) == set(ENVIRONMENTS)


@pytest.mark.parametrize("name", EXPECTED)
def test_topology(name: str) -> None:
    expected = EXPECTED[name]
    found = detected(name)
    assert (found.container and found.container.runtime) == expected.container
    assert (found.daemon.reach, found.daemon.url) == expected.daemon
    assert tuple(service.address for service in found.services) == expected.services
    assert found.provider_reason
    assert found.container_reason
    assert found.daemon_reason


@pytest.mark.parametrize(
    ("name", "certificates"),
    [
        ("gitlab-dind-tls", "/certs/client"),
        ("gitlab-kubernetes", "/certs/client"),
        ("circleci-classic", "/tmp/docker-certs486272719"),
        ("woodpecker-dind", "/dind-certs/client"),
    ],
)
def test_a_daemon_behind_tls_keeps_its_certificates(name: str, certificates: str) -> None:
    daemon = detected(name).daemon
    assert daemon.environment == {
        "DOCKER_HOST": daemon.url,
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": certificates,
    }


@pytest.mark.parametrize(
    ("name", "names"),
    [
        # The service shares the pod's loopback with the daemon.
        ("gitlab-kubernetes", ["127.0.0.1:5000", "10.42.0.9:5000", "host.docker.internal:5000"]),
        ("gitlab-links", ["172.17.0.4:5000"]),
        ("github-container", ["127.0.0.1:5000", "registry:5000"]),
        ("circleci-classic", ["127.0.0.1:5000", "172.17.0.5:5000", "host.docker.internal:5000"]),
    ],
)
def test_the_daemon_has_its_own_names_for_the_service(name: str, names: list[str]) -> None:
    machine = EXPECTED[name].machine
    if name == "gitlab-kubernetes":
        machine = Machine(mountinfo=machine.mountinfo, hosts=machine.hosts, addresses=IN_POD.addresses)
    found = detected(name, machine)
    assert [candidate.address for candidate in found.daemon_names(found.services[0])] == names


@pytest.mark.parametrize("name", EXPECTED)
def test_the_user_knows_better_which_ci_it_is(name: str) -> None:
    found = topology.detect(environment(name), EXPECTED[name].machine, ci="GitLab CI")
    assert (found.provider, found.provider_reason) == (providers.GITLAB, "LAYERFERRY_CI=GitLab CI")
    assert topology.detect(environment(name), EXPECTED[name].machine, ci="none").provider is providers.NONE


def test_only_what_the_user_set_is_certain() -> None:
    certainty = {
        name: detected(name).services[0].certainty
        for name in ("circleci-classic", "gitlab-links", "azure-vm", "github-vm")
    }
    assert certainty == {
        "circleci-classic": Certainty.SET,
        "gitlab-links": Certainty.SEEN,
        "azure-vm": Certainty.SEEN,
        "github-vm": Certainty.GUESSED,
    }


def test_the_page_of_environments_has_every_provider_and_its_variables() -> None:
    page = (Path(__file__).parents[2] / "docs/environments.md").read_text(encoding="utf-8")
    table = page.partition("### CI providers")[2].partition("## The source")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    keys = {key for cell in cells for key in re.findall("[a-z]+", cell)}
    assert keys == {provider.key for provider in providers.PROVIDERS} - {"generic"}
    for provider in providers.PROVIDERS:
        first = [*provider.marks[:1], {provider.folder: ""}][0]
        if provider is not providers.GENERIC:
            assert all(name in table for name in first)
