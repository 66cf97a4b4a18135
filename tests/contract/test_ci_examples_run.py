"""The scripts of the examples, run by a real shell, push what they say.

They run with a PATH of stand-ins, which note how they were called and with what environment. That environment is what
the CI would make of the file, and of the variables that the comment at its head tells the user to set.
"""

import base64
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from layerferry.ci.ssh_identity import read_key, read_known_hosts
from layerferry.cli import cli
from layerferry.settings.model import load as load_settings
from layerferry.settings.values import FIELDS, Settings, variables

EXAMPLES = Path(__file__).parents[2] / "ci-examples"
PUSHING = [
    "circleci.yml",
    "circleci-ngrok.yml",
    "circleci-machine.yml",
    "github.yml",
    "github-container.yml",
    "gitlab-dind.yml",
    "gitlab-shell.yml",
    "bitbucket-pipelines.yml",
    "azure-pipelines.yml",
    "Jenkinsfile",
    "woodpecker.yml",
]
DEPLOYS = ["deploy/dokku.sh", "deploy/compose.sh", "deploy/k3s.sh", "deploy/kubernetes.sh"]

#: Run against real engines by tests/engines/test_pipelines.py.
PIPELINES = [
    "circleci-dokku.yml",
    "github-compose.yml",
    "gitlab-archive.yml",
    "Jenkinsfile.approval",
    "deploy/fleet.sh",
    "deploy/start.sh",
]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TARGET = "deploy@host.example.com"
KNOWN_HOSTS = f"host.example.com ssh-ed25519 {base64.b64encode(bytes(51)).decode()}\n"
SETTINGS = {variable for field in FIELDS for variable in variables(field.name)}


def _key() -> str:
    """What looks like a key to whoever reads one, and opens nothing."""
    body = base64.b64encode(b"openssh-key-v1\0" + struct.pack(">I", 4) + b"none" + bytes(range(200))).decode()
    lines = [body[start : start + 70] for start in range(0, len(body), 70)]
    return "\n".join(["-----BEGIN OPENSSH PRIVATE KEY-----", *lines, "-----END OPENSSH PRIVATE KEY-----", ""])


KEY = _key()


GIVEN = {"targets": TARGET, "key": KEY, "hosts": KNOWN_HOSTS, "ngrok": "the-token"}


def text_of(name: str) -> str:
    return (EXAMPLES / name).read_text(encoding="utf-8")


def load(name: str) -> Any:
    return YAML(typ="safe").load(text_of(name))


def head(name: str) -> dict[str, str]:
    """The variables and secrets that the comment at the head of an example tells the user to set, and what it says."""
    lines = text_of(name).splitlines()
    comment = [line for line in lines if line.startswith(("# ", "// "))]
    found = (re.fullmatch(r"(?:#|//)   ([A-Za-z][\w-]+)\s+(\S.*)", line) for line in comment)
    return {match[1]: match[2] for match in found if match}


# What an example runs


@dataclass(frozen=True)
class Script:
    """A script, the environment that the example gives it, and the shell that runs it."""

    text: str
    env: Mapping[str, Any] = field(default_factory=dict)
    shell: str = "sh"
    job: str = ""


def scripts_of(name: str) -> Iterator[Script]:
    """The scripts of an example, in the order in which its CI runs them."""
    if name.endswith(".sh"):
        yield Script(text_of(name))
    elif name.startswith("Jenkinsfile"):
        yield from _jenkins(text_of(name))
    else:
        yield from _READERS[name.partition("-")[0].partition(".")[0]](load(name))


def _circleci(doc: Any) -> Iterator[Script]:
    for name, job in doc["jobs"].items():
        steps = [step["run"] for step in job["steps"] if isinstance(step, dict) and "run" in step]
        for run in steps:
            yield Script(run if isinstance(run, str) else run["command"], job.get("environment", {}), "bash", name)


def _github(doc: Any) -> Iterator[Script]:
    for job in doc["jobs"].values():
        for step in job["steps"]:
            if "run" in step:
                env = {**job.get("env", {}), **step.get("env", {})}
                yield Script(step["run"], env, "sh" if "container" in job else "bash")


def _gitlab(doc: Any) -> Iterator[Script]:
    for name, job in doc.items():
        lines = [*job.get("before_script", []), *job["script"]]
        yield Script("\n".join(lines), job["variables"], "sh" if "image" in job else "bash", name)


def _bitbucket(doc: Any) -> Iterator[Script]:
    for steps in doc["pipelines"]["branches"].values():
        for step in steps:
            yield Script("\n".join(step["step"]["script"]))


def _azure(doc: Any) -> Iterator[Script]:
    env = {variable["name"]: variable["value"] for variable in doc["variables"] if "name" in variable}
    for step in doc["steps"]:
        if "script" in step:
            yield Script(step["script"], {**env, **step.get("env", {})}, "bash")


def _woodpecker(doc: Any) -> Iterator[Script]:
    for step in doc["steps"]:
        yield Script("\n".join(step["commands"]), step["environment"])


def _jenkins(text: str) -> Iterator[Script]:
    top, *stages = re.split(r"^\s+stage\('(\w+)'\)", text, flags=re.MULTILINE)
    for stage, body in zip(stages[::2], stages[1::2], strict=True):
        assignments = re.finditer(r"^\s+(\w+) = (['\"])(.*)\2$", top + body, re.MULTILINE)
        env: dict[str, Any] = {match[1]: match[3] for match in assignments}
        for match in re.finditer(r"credentialsId: '([^']+)', (?:keyFileVariable|variable): '(\w+)'", body):
            env[match[2]] = {"from_secret": match[1]}
        for match in re.finditer(r"\bsh '([^']+)'", body):
            yield Script(match[1], env, job=stage)


_READERS = {
    "circleci": _circleci,
    "github": _github,
    "gitlab": _gitlab,
    "bitbucket": _bitbucket,
    "azure": _azure,
    "woodpecker": _woodpecker,
}


@pytest.mark.parametrize("name", [*PUSHING, *DEPLOYS, *PIPELINES])
def test_a_shell_understands_the_scripts(name: str) -> None:
    scripts = list(scripts_of(name))
    assert scripts
    for script in scripts:
        subprocess.run([script.shell, "-n", "-c", script.text], check=True, timeout=10)


# The stand-ins, and the CI around them

#: Notes its name, its arguments and its environment; some also do a little of what they stand for.
STAND_IN = r"""#!/bin/sh
{ printf '%s\0' "${0##*/}" "$@"; printf '\1'; /usr/bin/env -0; printf '\2'; } >> 'NOTES'
case ${0##*/} in
  git) echo COMMIT ;;
  mkdir) exec /bin/mkdir "$@" ;;
  pipx) [ "$1 $2" != "run --spec" ] || { shift 3; exec "$@"; } ;;
  ssh-add) exec /bin/cat > 'NOTES.key' ;;
  ssh-agent) [ "$1" = -k ] || echo "SSH_AUTH_SOCK=/agent; export SSH_AUTH_SOCK;" ;;
esac
"""
NAMES = ("apk", "docker", "git", "layerferry", "mkdir", "pip", "pipx", "ssh", "ssh-add", "ssh-agent")


@dataclass(frozen=True)
class Call:
    argv: tuple[str, ...]
    env: Mapping[str, str]


class Runner:
    """Runs scripts as a CI does, one after the other in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        for part in ("bin", "home", "work"):
            (folder / part).mkdir()
        for name in NAMES:
            self.stand_in(folder / "bin" / name)

    def stand_in(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STAND_IN.replace("NOTES", str(self.notes)).replace("COMMIT", COMMIT))
        path.chmod(0o755)

    def run(self, script: Script, env: Mapping[str, str]) -> str:
        """Run a script, which must succeed; its output."""
        shell = str(shutil.which(script.shell))
        basic = {"PATH": str(self.folder / "bin"), "HOME": str(self.folder / "home")}
        done = subprocess.run(
            [shell, "-e", "-c", script.text],
            cwd=self.folder / "work",
            env={**basic, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    @property
    def calls(self) -> list[Call]:
        notes = self.notes.read_text() if self.notes.exists() else ""
        pairs = (note.split("\1") for note in notes.split("\2")[:-1])
        return [
            Call(tuple(argv.split("\0")[:-1]), dict(item.split("=", 1) for item in env.split("\0") if item))
            for argv, env in pairs
        ]

    def called(self, name: str) -> list[Call]:
        return [call for call in self.calls if call.argv[0] == name]


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def given(name: str, folder: Path, values: Mapping[str, str] = GIVEN) -> dict[str, str]:
    """What a user sets who does as the head of the example says: in base64, as a file, or as it is.

    `values` are by the end of a variable's name, in small letters.
    """

    def form(value: str, says: str) -> str:
        if re.search(r"type File|secure file|secret file|SSH username with private key", says):
            path = folder / f"secret-{len(list(folder.iterdir()))}"
            path.write_text(value)
            return str(path)
        return base64.b64encode(value.encode()).decode() if "base64" in says else value

    found = {}
    for variable, says in head(name).items():
        (value,) = (value for end, value in values.items() if variable.lower().endswith(end))
        found[variable] = form(value, says)
    return found


def expand(value: Any, user: Mapping[str, str], commit: str = COMMIT) -> str:
    """A value of the example's environment as the CI hands it to a script. What the head does not name is an error.

    `$$` is GitLab's for a `$` that it is to leave alone; CircleCI leaves all of them alone.
    """
    if isinstance(value, dict):
        return user[value["from_secret"]]
    names = r"\$\{\{ github\.sha \}\}|<< pipeline\.git\.revision >>|\$\(Build\.SourceVersion\)|\$\{env\.GIT_COMMIT\}"
    text = re.sub(names + r"|\$\{?CI_COMMIT_SHA\}?", commit, str(value))
    text = re.sub(
        r"\$\{\{ (?:vars|secrets)\.(\w+) \}\}|<< parameters\.(\w+) >>", lambda match: user[match[1] or match[2]], text
    )
    text = re.sub(r"\$\(key\.secureFilePath\)", lambda _: user["layerferry_key"], text)
    left = text.replace("$$", "").replace('"$LAYERFERRY_IMAGE"', "")
    assert "$" not in left, text
    assert "<<" not in text, text
    return text.replace("$$", "$")


def run_example(name: str, runner: Runner, **more: str) -> None:
    user = given(name, runner.folder)
    # CircleCI, GitLab, Bitbucket and Azure hand the user's variables to every script, the others as the file says.
    implicit = {} if name.startswith(("github", "woodpecker", "Jenkins")) else user
    for script in scripts_of(name):
        env = {variable: expand(value, user) for variable, value in script.env.items()}
        runner.run(script, {"BITBUCKET_COMMIT": COMMIT, **implicit, **env, **more})


def settings_of(call: Call, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What layerferry reads out of the environment that it was called with."""
    for variable in SETTINGS:
        monkeypatch.delenv(variable, raising=False)
    for variable in SETTINGS & set(call.env):
        monkeypatch.setenv(variable, call.env[variable])
    return load_settings({})


def parse(argv: tuple[str, ...]) -> None:
    """Parse a command line as click would, without running it; raises `click.UsageError`."""
    name, *arguments = argv[1:]
    parent = click.Context(cli, **cli.context_settings)
    if (command := cli.get_command(parent, name)) is None:
        raise click.UsageError(f"no command {name}")
    command.make_context(name, arguments, parent=parent)


# What the examples do


@pytest.mark.parametrize("name", PUSHING)
def test_it_pushes_the_image_that_it_built(name: str, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example(name, runner)
    (build,) = runner.called("docker")
    assert build.argv[1:] == ("build", "--tag", f"app:{COMMIT}", ".")
    (call,) = runner.called("layerferry")
    assert call.argv[1:] == ("run",)
    settings = settings_of(call, monkeypatch)
    assert settings.images == (f"app:{COMMIT}",)
    assert settings.targets == (TARGET,)


@pytest.mark.parametrize("name", PUSHING)
def test_the_key_and_the_known_hosts_arrive(name: str, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example(name, runner)
    settings = settings_of(runner.called("layerferry")[0], monkeypatch)
    assert settings.ssh_key is not None
    assert settings.ssh_known_hosts is not None
    assert read_key(settings.ssh_key, setting="key") == KEY
    assert read_known_hosts(settings.ssh_known_hosts, setting="hosts") == KNOWN_HOSTS


@pytest.mark.parametrize("name", PUSHING)
def test_its_head_asks_for_nothing_in_vain(name: str) -> None:
    """Each name at the head is a setting itself, or the file refers to it."""
    body = "\n".join(line for line in text_of(name).splitlines() if not line.startswith(("#", "//")))
    for variable in head(name):
        assert variable in SETTINGS or re.search(rf"\b{variable}\b", body), variable


def test_the_classic_set_up_has_its_registry_and_its_tunnel(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("circleci-ngrok.yml", runner)
    settings = settings_of(runner.called("layerferry")[0], monkeypatch)
    assert settings.local_docker_registry_port == 5000
    assert (settings.wants_ngrok, settings.ngrok_token, settings.ngrok_install) == (True, "the-token", True)
    images = [image["image"] for image in load("circleci-ngrok.yml")["jobs"]["deploy"]["docker"]]
    assert images[1].startswith("registry:2.")


@pytest.mark.parametrize("name", DEPLOYS)
def test_a_deployment_pushes_before_it_deploys(name: str, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    user = {"DEPLOY_SSH_KEY": KEY, "DEPLOY_KNOWN_HOSTS": KNOWN_HOSTS, "DEPLOY_TARGET": TARGET, "DOKKU_APP": "app"}
    user |= {"DOKKU_HOST": "host.example.com", "K3S_SERVER": "root@one", "K3S_NODES": "root@one,root@two"}
    user |= {"DEPLOY_BASTION": "jump@bastion", "CLUSTER_REGISTRY": "registry.internal:5000", "KUBECTL_HOST": "root@one"}
    assert set(head(name)) <= set(user)
    (script,) = scripts_of(name)
    runner.run(script, {variable: user[variable] for variable in head(name)})
    order = [call.argv[0] for call in runner.calls if call.argv[0] in {"docker", "layerferry", "ssh", "ssh-agent"}]
    last = "docker" if name == "deploy/compose.sh" else "ssh"
    assert order == ["ssh-agent", "docker", "layerferry", last, "ssh-agent"]
    (push,) = runner.called("layerferry")
    parse(push.argv)
    if name == "deploy/kubernetes.sh":
        assert push.argv[2:] == (f"app:{COMMIT}", "registry://registry.internal:5000", "--via", "jump@bastion")
    elif push.argv[1] == "push":
        assert push.argv[2:] == (f"app:{COMMIT}", TARGET)
    else:
        settings = settings_of(push, monkeypatch)
        assert (settings.images, settings.targets) == ((f"app:{COMMIT}",), ("root@one", "root@two"))
    assert push.env["SSH_AUTH_SOCK"] == "/agent"
    assert Path(f"{runner.notes}.key").read_text().rstrip("\n") == KEY.rstrip("\n")
    assert (runner.folder / "home/.ssh/known_hosts").read_text().strip() == KNOWN_HOSTS.strip()


def test_each_deployment_deploys_what_was_pushed(runner: Runner) -> None:
    for name, argv in {
        "deploy/dokku.sh": ("ssh", "dokku@host.example.com", "git:from-image", "app", f"app:{COMMIT}"),
        "deploy/compose.sh": ("docker", "compose", "up", "--detach", "--no-build", "--wait"),
        "deploy/k3s.sh": ("ssh", "root@one"),
        "deploy/kubernetes.sh": ("ssh", "root@one"),
    }.items():
        runner.notes.unlink(missing_ok=True)
        user = {"DOKKU_HOST": "host.example.com", "DOKKU_APP": "app", "K3S_SERVER": "root@one", "K3S_NODES": "root@one"}
        user |= {"DEPLOY_BASTION": "jump@bastion", "CLUSTER_REGISTRY": "r.internal", "KUBECTL_HOST": "root@one"}
        env = {**user, "DEPLOY_SSH_KEY": KEY, "DEPLOY_KNOWN_HOSTS": KNOWN_HOSTS, "DEPLOY_TARGET": TARGET}
        runner.run(next(scripts_of(name)), env)
        deploy = [call for call in runner.calls if call.argv[0] in {"ssh", "docker"}][-1]
        assert deploy.argv[: len(argv)] == argv
        if name == "deploy/compose.sh":
            assert deploy.env["DOCKER_HOST"] == f"ssh://{TARGET}"
            assert deploy.env["IMAGE"] == f"app:{COMMIT}"
            assert load("deploy/compose.yaml")["services"]["app"]["image"].startswith("${IMAGE:?")
        if name == "deploy/k3s.sh":
            assert f"app=docker.io/library/app:{COMMIT} &&" in deploy.argv[2]
        if name == "deploy/kubernetes.sh":
            assert f"app=r.internal/app:{COMMIT} &&" in deploy.argv[2]
        if argv == ("ssh", "root@one"):
            subprocess.run(["sh", "-n", "-c", deploy.argv[2]], check=True, timeout=10)


@pytest.mark.parametrize("name", PUSHING)
def test_the_parser_understands_every_command(name: str, runner: Runner) -> None:
    run_example(name, runner)
    calls = runner.called("layerferry")
    for call in calls:
        parse(call.argv)
    written = sum(len(re.findall(r"\blayerferry (?=[a-z-])", script.text)) for script in scripts_of(name))
    assert len(calls) == written, "a command of the script was not run"
