"""The single rules of detection; whole environments are in test_ci_environments."""

import json
import os
import stat
from hashlib import sha256
from pathlib import Path

import pytest

from layerferry import settings
from layerferry.ci import providers, topology
from layerferry.ci.machine import Machine, gather, local_addresses
from layerferry.ci.services import Certainty, read_address, split_address
from layerferry.ci.topology import Container, Reach
from layerferry.context import Context
from layerferry.errors import UsageError
from layerferry.settings.values import variables

ID = "0123456789abcdef" * 4
FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     +-- 172.17.0.0/16 2 0 2
        |-- 172.17.0.0
           /16 link UNICAST
        |-- 172.17.0.5
           /32 host LOCAL
        |-- 172.17.255.255
           /32 link BROADCAST
Local:
  +-- 0.0.0.0/0 3 0 5
        |-- 172.17.0.5
           /32 host LOCAL
"""


class TestProvider:
    def test_the_user_has_the_last_word(self) -> None:
        assert providers.detect({"CI": "false"}, override="GitLab") == (providers.GITLAB, "LAYERFERRY_CI=GitLab")

    def test_an_unknown_word_of_the_user_is_a_mistake(self) -> None:
        with pytest.raises(UsageError, match="gitbub"):
            providers.detect({}, override="gitbub")

    @pytest.mark.parametrize("off", ["false", "0", "False", "no"])
    def test_a_switch_that_is_off_marks_nothing(self, off: str) -> None:
        assert providers.detect({"GITHUB_ACTIONS": off, "CI": "true"})[0] is providers.GENERIC

    def test_jenkins_needs_both_of_its_variables(self) -> None:
        assert providers.detect({"JENKINS_URL": "https://jenkins.example.com/"})[0] is providers.NONE
        assert providers.detect({"BUILD_ID": "7"})[0] is providers.NONE

    def test_a_fork_is_not_taken_for_what_it_pretends_to_be(self) -> None:
        env = {"GITHUB_ACTIONS": "true", "GITEA_ACTIONS": "true"}
        assert providers.detect(env)[0] is providers.GITEA
        assert providers.detect(env | {"FORGEJO_ACTIONS": "true"})[0] is providers.FORGEJO

    def test_keys_are_unique(self) -> None:
        keys = [provider.key for provider in (*providers.PROVIDERS, providers.NONE)]
        assert len(keys) == len(set(keys))


class TestContainer:
    @pytest.mark.parametrize(
        ("root", "point", "expected"),
        [
            (f"/var/lib/docker/containers/{ID}/hostname", "/etc/hostname", Container("docker", ID)),
            (f"/containers/{ID}/hosts", "/etc/hosts", Container("docker", ID)),
            (
                f"/containers/overlay-containers/{ID}/userdata/hostname",
                "/etc/hostname",
                Container("podman", ID),
            ),
            (f"/io.containerd.grpc.v1.cri/sandboxes/{ID}/resolv.conf", "/etc/resolv.conf", Container("containerd", ID)),
            (f"/var/lib/docker/containers/{ID}/hostname", f"/var/lib/docker/containers/{ID}/hostname", None),
            ("/etc/hostname", "/etc/hostname", None),
        ],
    )
    def test_under_cgroup_v2_the_mount_table_tells(self, root: str, point: str, expected: Container | None) -> None:
        machine = Machine(cgroup="0::/\n", mountinfo=f"1 2 254:1 {root} {point} rw - ext4 /dev/vda1 rw\nbroken line\n")
        assert topology.find_container({}, machine)[0] == expected

    @pytest.mark.parametrize(
        ("cgroup", "expected"),
        [
            (f"12:cpu,cpuacct:/docker/{ID}", Container("docker", ID)),
            (f"0::/system.slice/docker-{ID}.scope", Container("docker", ID)),
            (f"1:name=systemd:/kubepods/besteffort/pod0a1b/{ID}", Container("kubernetes", ID)),
            (
                f"0::/kubepods.slice/kubepods-pod0a1b.slice/cri-containerd-{ID}.scope",
                Container("kubernetes", ID),
            ),
            (f"0::/machine.slice/libpod-{ID}.scope/container", Container("podman", ID)),
            ("1:name=systemd:/lxc.payload.ci/init.scope", Container("lxc")),
            ("0::/user.slice/user-1000.slice/session-2.scope", None),
            ("0::/system.slice/docker.service", None),
        ],
    )
    def test_under_cgroup_v1_the_group_tells(self, cgroup: str, expected: Container | None) -> None:
        assert topology.find_container({}, Machine(cgroup=cgroup))[0] == expected

    @pytest.mark.parametrize(
        ("env", "marks", "runtime"),
        [
            ({}, {"/.dockerenv"}, "docker"),
            ({}, {"/run/.containerenv"}, "podman"),
            ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, set(), "kubernetes"),
            ({"container": "oci"}, set(), "oci"),
        ],
    )
    def test_then_files_and_variables(self, env: dict[str, str], marks: set[str], runtime: str) -> None:
        found, reason = topology.find_container(env, Machine(marks=frozenset(marks)))
        assert found == Container(runtime)
        assert any(word in reason for word in (*env, *marks))


class TestDaemon:
    @pytest.mark.parametrize(
        ("url", "reach", "host"),
        [
            ("unix:///run/user/1000/docker.sock", Reach.SOCKET, ""),
            ("tcp://127.0.0.1:2375", Reach.LOOPBACK, "127.0.0.1"),
            ("tcp://[::1]:2375", Reach.LOOPBACK, "::1"),
            ("localhost:2375", Reach.LOOPBACK, "localhost"),
            ("tcp://10.0.0.9:2376", Reach.REMOTE, "10.0.0.9"),
            ("https://10.0.0.9:2376", Reach.REMOTE, "10.0.0.9"),
            ("ssh://deploy@[2001:db8::1]:2222", Reach.SSH, "2001:db8::1"),
            ("npipe:////./pipe/docker_engine", Reach.NONE, ""),
        ],
    )
    def test_docker_host_is_believed(self, url: str, reach: Reach, host: str) -> None:
        machine = Machine(sockets=("/var/run/docker.sock",), context_host="tcp://10.9.9.9:2375")
        daemon, reason = topology.find_daemon({"DOCKER_HOST": url}, machine, providers.NONE, None)
        assert (daemon.reach, daemon.url, daemon.host) == (reach, url, host)
        assert reason == f"DOCKER_HOST={url}"

    def test_an_alias_of_the_loopback_is_the_loopback(self) -> None:
        machine = Machine(hosts="127.0.0.1\tdocker # a pod's alias\n")
        daemon, _ = topology.find_daemon({"DOCKER_HOST": "tcp://docker:2375"}, machine, providers.GITLAB, None)
        assert daemon.reach is Reach.LOOPBACK

    def test_the_context_comes_before_a_socket(self) -> None:
        machine = Machine(sockets=("/var/run/docker.sock",), context_host="ssh://builder")
        assert topology.find_daemon({}, machine, providers.NONE, None)[0].reach is Reach.SSH

    def test_a_socket_comes_before_a_docker_service(self) -> None:
        machine = Machine(sockets=("/var/run/docker.sock",), tls_folders=frozenset({"/certs/client"}))
        env = {"DOCKER_TLS_CERTDIR": "/certs"}
        daemon, _ = topology.find_daemon(env, machine, providers.GITLAB, Container("docker"))
        assert daemon == topology.DaemonLocation(Reach.SOCKET, "unix:///var/run/docker.sock")

    def test_tls_verify_counts_when_it_is_not_empty(self) -> None:
        env = {"DOCKER_HOST": "tcp://10.0.0.9:2376", "DOCKER_CERT_PATH": "/certs"}
        for value, tls in (("", False), ("0", True), ("1", True)):
            daemon, _ = topology.find_daemon(env | {"DOCKER_TLS_VERIFY": value}, Machine(), providers.NONE, None)
            assert daemon.tls is tls
            assert ("DOCKER_CERT_PATH" in daemon.environment) is tls

    def test_half_a_certificate_is_none(self) -> None:
        env = {"DOCKER_TLS_CERTDIR": "/certs"}
        daemon, _ = topology.find_daemon(env, Machine(), providers.GITLAB, Container("docker"))
        assert daemon.url == "tcp://docker:2375"

    def test_outside_a_container_no_docker_service_is_assumed(self) -> None:
        daemon, reason = topology.find_daemon({}, Machine(), providers.GITLAB, None)
        assert daemon.reach is Reach.NONE
        assert reason


class TestService:
    def test_the_setting_is_the_only_one(self) -> None:
        env = {"GITLAB_CI": "1"}
        for registry, address in (("http://registry:5001/", "registry:5001"), ("[::1]:5002", "[::1]:5002")):
            services = topology.detect(env, Machine(), registry=registry, port=5000).services
            assert [(s.address, s.certainty) for s in services] == [(address, Certainty.SET)]

    def test_so_is_the_port_where_there_is_no_address(self) -> None:
        services = topology.detect({"GITLAB_CI": "1"}, Machine(), port=5001).services
        assert [(s.address, s.certainty) for s in services] == [("127.0.0.1:5001", Certainty.SET)]

    @pytest.mark.parametrize("variable", variables("local_docker_registry_port"))
    def test_each_of_its_variables_counts(self, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(variable, "5001")
        services = Context.look(settings.load(), settings.environment()).topology.services
        assert [s.address for s in services] == ["127.0.0.1:5001"]

    @pytest.mark.parametrize("text", ["", ":5000", "a b:5000", "host:port", "host:70000", "u:p@host:1", "host:1/x"])
    def test_what_is_no_address_is_refused_without_being_shown(self, text: str) -> None:
        with pytest.raises(UsageError) as caught:
            read_address(text, "LAYERFERRY_REGISTRY")
        assert caught.value.message == "LAYERFERRY_REGISTRY is not an address of a registry"

    @pytest.mark.parametrize(
        ("address", "parts"),
        [("host", ("host", 5000)), ("host:1", ("host", 1)), ("[::1]", ("::1", 5000)), ("[::1]:2", ("::1", 2))],
    )
    def test_an_address_is_split_at_its_port(self, address: str, parts: tuple[str, int]) -> None:
        assert split_address(address) == parts

    def test_a_service_of_the_cluster_is_not_the_jobs(self) -> None:
        env = {"GITLAB_CI": "true", "REGISTRY_PORT_5000_TCP": "tcp://10.43.0.7:5000", "REGISTRY_SERVICE_HOST": "x"}
        assert not [s for s in topology.detect(env, Machine()).services if s.certainty is Certainty.SEEN]

    def test_an_alias_in_the_hosts_file_is_seen(self) -> None:
        machine = Machine(hosts="172.18.0.3 docker.io__library__registry docker.io-library-registry\n")
        service = topology.detect({"GITLAB_CI": "true"}, machine).services[0]
        assert (service.address, service.resolved) == ("docker.io__library__registry:5000", "172.18.0.3")
        assert service.certainty is Certainty.SEEN

    @pytest.mark.parametrize(
        ("address", "docker_host", "names"),
        [
            ("127.0.0.1:5000", "unix:///s", ["127.0.0.1:5000", "172.18.0.5:5000", "host.docker.internal:5000"]),
            ("registry:5000", "unix:///s", ["127.0.0.1:5000", "registry:5000", "172.18.0.3:5000"]),
            ("registry.example.com:5000", "unix:///s", ["registry.example.com:5000"]),
            ("registry.example.com:5000", "ssh://h", ["registry.example.com:5000"]),
            ("10.1.1.1:5000", "tcp://10.2.2.2:2375", ["10.1.1.1:5000"]),
            ("docker:5000", "tcp://docker:2376", ["127.0.0.1:5000", "docker:5000"]),
            ("registry:5000", "ssh://h", ["127.0.0.1:5000", "registry:5000"]),
        ],
    )
    def test_the_daemons_names_for_it(self, address: str, docker_host: str, names: list[str]) -> None:
        machine = Machine(hosts="172.18.0.3 registry\n", addresses=("172.18.0.5",))
        found = topology.detect({"DOCKER_HOST": docker_host}, machine, registry=address)
        assert [name.address for name in found.daemon_names(found.services[0])] == names


class TestOwnNames:
    def test_over_ssh_the_port_is_forwarded(self) -> None:
        found = topology.detect({"DOCKER_HOST": "ssh://builder"}, Machine(addresses=("10.0.0.2",)))
        assert [(name.address, name.forward) for name in found.own_names(41234)] == [("127.0.0.1:41234", True)]

    def test_the_address_nearest_to_the_daemon_comes_before_the_others(self) -> None:
        machine = Machine(addresses=("10.8.0.2", "192.168.7.5", "172.17.0.1"))
        found = topology.detect({"DOCKER_HOST": "tcp://192.168.7.1:2375"}, machine)
        assert [name.address for name in found.own_names(1)][:2] == ["127.0.0.1:1", "192.168.7.5:1"]

    @pytest.mark.parametrize(
        ("socket", "name", "network"),
        [
            ("/Users/ana/.docker/run/docker.sock", "host.docker.internal", "192.168.65.0/24"),
            ("/Users/ana/.colima/default/docker.sock", "host.lima.internal", "192.168.5.0/24"),
            ("/Users/ana/.config/colima/default/docker.sock", "host.lima.internal", "192.168.5.0/24"),
            ("/Users/ana/.lima/docker/sock/docker.sock", "host.lima.internal", "192.168.5.0/24"),
            ("/Users/ana/.rd/docker.sock", "host.lima.internal", "192.168.5.0/24"),
            ("/Users/ana/.orbstack/run/docker.sock", "host.docker.internal", "0.250.250.0/24"),
        ],
    )
    def test_a_daemon_in_a_virtual_machine_has_a_name_for_ours(self, socket: str, name: str, network: str) -> None:
        found = topology.detect({"DOCKER_HOST": f"unix://{socket}"}, Machine(addresses=("10.0.0.2",)))
        assert found.own_names(41234)[-1].address == f"{name}:41234"
        assert found.plain_network(f"{name}:41234") == network
        assert found.plain_network("10.0.0.2:41234") == "10.0.0.2/32"


class TestMachine:
    def test_addresses_are_those_of_the_kernel_without_loopback(self) -> None:
        assert local_addresses(FIB_TRIE) == ("172.17.0.5",)

    def test_an_empty_machine_has_no_facts_and_no_errors(self, tmp_path: Path) -> None:
        assert gather({}, root=tmp_path) == Machine()

    def test_facts_are_read_from_files(self, tmp_path: Path) -> None:
        self.write(tmp_path, ".dockerenv", "")
        self.write(tmp_path, "proc/self/cgroup", "0::/\n")
        self.write(tmp_path, "proc/1/mountinfo", "1 2 3\n")
        self.write(tmp_path, "etc/hosts", "127.0.0.1 localhost\n")
        self.write(tmp_path, "proc/net/fib_trie", FIB_TRIE)
        for name in ("ca.pem", "cert.pem", "key.pem"):
            self.write(tmp_path, f"certs/client/{name}", "x")
        self.write(tmp_path, "run/podman/podman.sock", "")
        os.mknod(self.write(tmp_path, "var/run/x", "").with_name("docker.sock"), stat.S_IFSOCK | 0o600)
        assert gather({"DOCKER_TLS_CERTDIR": "/certs"}, root=tmp_path) == Machine(
            marks=frozenset({"/.dockerenv"}),
            sockets=("/var/run/docker.sock",),
            cgroup="0::/\n",
            mountinfo="1 2 3\n",
            hosts="127.0.0.1 localhost\n",
            addresses=("172.17.0.5",),
            tls_folders=frozenset({"/certs/client"}),
        )

    def test_an_empty_certificate_is_none(self, tmp_path: Path) -> None:
        for name, text in (("ca.pem", "x"), ("cert.pem", "x"), ("key.pem", "")):
            self.write(tmp_path, f"certs/client/{name}", text)
        assert not gather({}, root=tmp_path).tls_folders

    @pytest.mark.parametrize("by_variable", [True, False])
    def test_the_current_context_is_followed(self, tmp_path: Path, by_variable: bool) -> None:
        name = sha256(b"builder").hexdigest()
        meta = {"Name": "builder", "Endpoints": {"docker": {"Host": "ssh://deploy@builder"}}}
        self.write(tmp_path, f"home/me/.docker/contexts/meta/{name}/meta.json", json.dumps(meta))
        current = "other" if by_variable else "builder"
        self.write(tmp_path, "home/me/.docker/config.json", json.dumps({"currentContext": current}))
        env = {"HOME": "/home/me"} | ({"DOCKER_CONTEXT": "builder"} if by_variable else {})
        assert gather(env, root=tmp_path).context_host == "ssh://deploy@builder"

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"currentContext": 7}', '{"currentContext": "gone"}'])
    def test_a_broken_context_is_the_default_one(self, tmp_path: Path, text: str) -> None:
        self.write(tmp_path, "d/config.json", text)
        assert gather({"DOCKER_CONFIG": "/d"}, root=tmp_path).context_host == ""

    def write(self, root: Path, path: str, text: str) -> Path:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file
