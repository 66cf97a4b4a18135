"""What `ci_run` decides: which daemon, which secrets are masked and when, what ssh gets, what it advises."""

import contextlib
import io
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import layerferry.routes.reachability
import layerferry.sources.daemon.api
from layerferry import ci_run
from layerferry.ci.machine import Machine
from layerferry.ci.topology import detect
from layerferry.cli.around import with_material
from layerferry.context import Context, ssh_options
from layerferry.errors import ConnectError, UnknownHostKeyError, UsageError
from layerferry.oci.content import Route
from layerferry.result import Result
from layerferry.settings.values import Settings
from layerferry.targets.address import Ssh

KNOWN = "web.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKnownHostsOfTheseTests\n"


def chosen(**values: Any) -> Settings:
    return Settings(**values)


def around(environ: Mapping[str, str], machine: Machine | None = None, **settings: Any) -> Context:
    return Context(Settings(**settings), environ, detect(environ, machine or Machine()))


# The daemon.


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str]]:
    """The environments that a daemon was looked for in."""
    seen: list[Mapping[str, str]] = []
    monkeypatch.setattr(layerferry.sources.daemon.api, "Daemon", lambda environ, _ssh: seen.append(environ))
    return seen


def test_docker_host_is_left_to_dockers_own_rules(dialled: list[Mapping[str, str]]) -> None:
    environ = {"DOCKER_HOST": "tcp://10.0.0.2:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}
    around(environ).daemon()
    assert dialled == [environ]


def test_so_is_a_context(dialled: list[Mapping[str, str]]) -> None:
    around({"DOCKER_CONTEXT": "build"}, Machine(sockets=("/var/run/docker.sock",))).daemon()
    around({"HOME": "/home/me"}, Machine(context_host="ssh://build.example")).daemon()
    assert dialled == [{"DOCKER_CONTEXT": "build"}, {"HOME": "/home/me"}]


def test_a_socket_that_the_sdk_would_not_find_is_named(dialled: list[Mapping[str, str]]) -> None:
    around({"A": "1"}, Machine(sockets=("/run/user/1000/podman/podman.sock",))).daemon()
    assert dialled == [{"A": "1", "DOCKER_HOST": "unix:///run/user/1000/podman/podman.sock"}]


def test_a_docker_service_is_found_with_its_certificates(dialled: list[Mapping[str, str]]) -> None:
    """GitLab's dind, out of an image without docker's entrypoint."""
    environ = {"GITLAB_CI": "true", "DOCKER_TLS_CERTDIR": "/certs"}
    machine = Machine(marks=frozenset({"/.dockerenv"}), tls_folders=frozenset({"/certs/client"}))
    around(environ, machine).daemon()
    found = {"DOCKER_HOST": "tcp://docker:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs/client"}
    assert dialled == [environ | found]


# Secrets.


def test_the_tunnels_password_is_masked_before_anything_is_said() -> None:
    stream = io.StringIO()
    here = around({"GITHUB_ACTIONS": "true"}, ngrok_authtoken="a-token-of-this-test")
    here.output(stream).line("the first line")
    *masks, last = stream.getvalue().splitlines()
    assert last == "the first line"
    assert set(masks) == {f"::add-mask::{secret}" for secret in ("a-token-of-this-test", *here.credentials.secrets)}


def test_what_is_masked_is_what_the_registries_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        layerferry.routes.reachability, "Reachability", lambda *arguments, **_: handed.append(arguments)
    )
    here = around({})
    here.reachability(cast("Any", None))
    ((*_, ngrok, credentials),) = handed
    assert ngrok is None
    assert credentials is here.credentials


def test_each_run_has_a_password_of_its_own_and_no_picture_shows_it() -> None:
    one, two = around({}), around({})
    assert one.credentials.password != two.credentials.password
    assert one.credentials.password not in repr(one)


# ssh


def test_key_and_known_hosts_last_as_long_as_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with ssh_options(chosen(ssh_known_hosts=KNOWN)) as options:
        assert "StrictHostKeyChecking=yes" in options
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o077 == 0
        assert [path.read_text() for path in folder.iterdir()] == [KNOWN]
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_leaves_no_file_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        pytest.raises(UsageError, match="LAYERFERRY_SSH_KEY"),
        ssh_options(chosen(ssh_key="", ssh_known_hosts=KNOWN)),
    ):
        pytest.fail("it opened")
    assert list(tmp_path.iterdir()) == []


def test_ssh_takes_the_first_of_two_values_so_that_new_keys_are_accepted_and_changed_ones_are_not() -> None:
    """ssh_config(5): `accept-new` still refuses a changed key."""
    with ssh_options(chosen(ssh_accept_new_host_key=True, ssh_known_hosts=KNOWN)) as options:
        checks = [option for option in options if option.startswith("StrictHostKeyChecking")]
    assert checks[0] == "StrictHostKeyChecking=accept-new"


def test_without_any_of_it_ssh_is_left_as_it_is() -> None:
    with ssh_options(chosen()) as options:
        assert options == ()


#: What a job has, and whether ssh is called for it.
JOBS: list[tuple[dict[str, Any], str, bool]] = [
    ({"targets": ("registry://r",)}, "", False),
    ({"targets": ("registry://r", "registry:http://s")}, "tcp://10.0.0.2:2375", False),
    ({"targets": ("registry://r",), "images": ("oci:app",)}, "ssh://build.example", False),
    ({"targets": ("registry://r", "web.example")}, "", True),
    ({"targets": ("registry://r?via=me@bastion",)}, "", True),
    ({"targets": ("registry://r",), "via": "me@bastion"}, "", True),
    ({"targets": ("registry://r",), "then": "true", "then_on": ("node1",)}, "", True),
    ({"targets": ("registry://r",)}, "ssh://build.example", True),
    ({"targets": ("registry://r",), "images": ("oci:app", "web")}, "ssh://build.example", True),
    ({"targets": ("registry://r",), "images": (), "compose": Path("compose.yaml")}, "ssh://build.example", True),
]


@pytest.mark.parametrize("secret", ["ssh_key", "ssh_known_hosts", "ssh_password", "ssh_passphrase", "sudo_password"])
@pytest.mark.parametrize(("job", "docker_host", "called"), JOBS)
def test_an_empty_secret_is_a_mistake_where_ssh_is_called_and_only_there(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    secret: str,
    job: dict[str, Any],
    docker_host: str,
    called: bool,
) -> None:
    """A fork's job may see no secret, and a push to a registry needs none."""
    environ = {"DOCKER_HOST": docker_host} if docker_host else {}
    pushed: list[Context] = []

    def push(around: Context, *_: object, **__: object) -> tuple[list[Result], float]:
        pushed.append(around)
        return [], 0.0

    monkeypatch.setattr(ci_run, "_push", push)
    code = ci_run.run(chosen(**{"images": ("app:1",), **job, secret: ""}), environ, dry_run=True, as_json=False)
    assert code == (UsageError.exit_code if called else 0)
    assert [around.ssh for around in pushed] == ([] if called else [Ssh()])
    assert (f"LAYERFERRY_{secret.upper()} is empty" in capsys.readouterr().err) is called


@pytest.mark.parametrize("name", ["LAYERFERRY_SSH_KEY", "layerferry_ssh_key"])
def test_so_it_is_for_the_other_commands(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "")
    stack, ssh = contextlib.ExitStack(), Ssh(("A=b",))
    assert with_material(stack, ssh, ("registry://r",), images=("app",)) is ssh
    hosts: list[tuple[str | tuple[str, ...], ...]] = [
        ("registry://r", "web.example"),
        (("kubectl", "exec", "pod", "--", "sh"),),
    ]
    for targets in hosts:
        with pytest.raises(UsageError, match="LAYERFERRY_SSH_KEY is empty"):
            with_material(stack, ssh, targets)
    with pytest.raises(UsageError, match="LAYERFERRY_SSH_KEY is empty"):
        with_material(stack, ssh, ("registry://r",), {"then_on": ("node1",)})
    monkeypatch.setenv("DOCKER_HOST", "ssh://build.example")
    assert with_material(stack, ssh, ("registry://r",), images=("oci:app",)) is ssh
    for images, daemon in ((("app",), False), ((), True)):
        with pytest.raises(UsageError, match="LAYERFERRY_SSH_KEY is empty"):
            with_material(stack, ssh, ("registry://r",), images=images, daemon=daemon)


# Advice on an unknown host.


def failed(error: ConnectError, target: str = "deploy@web.example:2222") -> Result:
    return Result(image="app:1", target=target, route=Route("none", ""), error=error)


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """ssh-keyscan, which prints `said`, or raises it."""
    keyscan = SimpleNamespace(said="# web.example:2222 SSH-2.0\n[web.example]:2222 ssh-ed25519 AAAA\n", argv=[])

    def run(argv: list[str], **_: object) -> Any:
        if argv[0] == "ssh":
            return SimpleNamespace(stdout=b"", returncode=255)
        keyscan.argv.append(argv)
        if isinstance(keyscan.said, Exception):
            raise keyscan.said
        return SimpleNamespace(stdout=keyscan.said)

    monkeypatch.setattr(subprocess, "run", run)
    return keyscan


def test_an_unknown_host_key_comes_with_the_line_to_add(scan: SimpleNamespace) -> None:
    settings = chosen(targets=("ssh://deploy@web.example:2222", "other"))
    advised = ci_run._advised(failed(UnknownHostKeyError("not known", hint="connect by hand")), settings)
    assert isinstance(advised, UnknownHostKeyError)
    assert advised.message == "not known"
    assert advised.hint.endswith("LAYERFERRY_SSH_KNOWN_HOSTS:\n[web.example]:2222 ssh-ed25519 AAAA")
    assert scan.argv[0][-4:] == ["-p", "2222", "--", "web.example"]


@pytest.mark.parametrize(
    "said", ["", "# nothing but a comment\n", FileNotFoundError(), subprocess.TimeoutExpired("", 1)]
)
def test_where_the_host_shows_no_key_the_older_advice_stands(scan: SimpleNamespace, said: Any) -> None:
    scan.said = said
    error = UnknownHostKeyError("not known", hint="connect by hand")
    assert ci_run._advised(failed(error), chosen(targets=("deploy@web.example:2222",))) is error


def test_another_failure_is_not_looked_into(scan: SimpleNamespace) -> None:
    error = ConnectError("refused")
    assert ci_run._advised(replace(failed(error)), chosen()) is error
    assert scan.argv == []


def test_a_misspelt_variable_is_told_before_what_is_missing_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAYERFERRY_TARGET", "web.example")
    environ = {"GITHUB_ACTIONS": "true"}
    monkeypatch.setattr(Context, "look", lambda settings, environ: around(environ))
    assert ci_run.run(chosen(images=("app:1",)), environ, dry_run=False, as_json=False) == UsageError.exit_code
    warning, error = (line for line in capsys.readouterr().out.splitlines() if "title=" in line)
    assert warning.startswith("::warning title=layerferry::LAYERFERRY_TARGET is no variable")
    assert warning.endswith("LAYERFERRY_TARGETS may be meant")
    assert error.startswith("::error")
