"""The composite action: its inputs arrive in settings, its outputs are those of a step, and it installs itself."""

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from layerferry.ci import summary
from layerferry.settings.model import load
from layerferry.settings.values import FIELDS, variables

EXAMPLES = Path(__file__).parents[2] / "ci-examples"
ACTION: Any = YAML(typ="safe").load((EXAMPLES / "github-action/action.yml").read_text(encoding="utf-8"))
WORKFLOW: Any = YAML(typ="safe").load((EXAMPLES / "github-with-action.yml").read_text(encoding="utf-8"))
INSTALL, PUSH = ACTION["runs"]["steps"]

#: A value for every input but `version`, and what the setting must then be.
GIVEN = {
    "images": ("app:1\nworker:1", ("app:1", "worker:1")),
    "targets": ("deploy@one, deploy@two", ("deploy@one", "deploy@two")),
    "compose": ("compose.yaml", Path("compose.yaml")),
    "services": ("web db", ("web", "db")),
    "up": ("true", True),
    "config": ("layerferry.toml", Path("layerferry.toml")),
    "names": ("app:latest app:1", ("app:latest", "app:1")),
    "keep-previous": ("previous", "previous"),
    "prune": ("5", 5),
    "ssh-key": ("the key", "the key"),
    "ssh-password": ("the password", "the password"),
    "ssh-passphrase": ("the passphrase", "the passphrase"),
    "sudo-password": ("the other password", "the other password"),
    "ssh-known-hosts": ("one ssh-ed25519 AAAA", "one ssh-ed25519 AAAA"),
    "route": ("registry", "registry"),
    "registry": ("registry:5000", "registry:5000"),
    "ngrok-authtoken": ("the token", "the token"),
    "ngrok-install": ("true", True),
    "platform": ("linux/arm64", "linux/arm64"),
    "compression": ("zstd:9", "zstd:9"),
    "retries": ("5", 5),
    "timeout": ("600", 600),
    "quiet": ("true", True),
    "verbose": ("true", True),
    "then": ("docker compose up -d\necho done", "docker compose up -d\necho done"),
    "then-file": ("deploy.sh", Path("deploy.sh")),
    "then-after": ("one-by-one", "one-by-one"),
    "then-on": ("deploy@node1 deploy@node2", ("deploy@node1", "deploy@node2")),
    "then-timeout": ("60", 60),
    "copy": ("compose.yaml prod.env:.env", ("compose.yaml", "prod.env:.env")),
    "summary": ("false", False),
}
VARIABLES = {variable for field in FIELDS for variable in variables(field.name)}


def evaluate(expression: str, inputs: Mapping[str, str]) -> str:
    """`${{ inputs.x }}` as GitHub evaluates it: what is not given is empty."""
    match = re.fullmatch(r"\$\{\{ inputs\.([\w-]+) \}\}", expression)
    assert match, expression
    assert match[1] in ACTION["inputs"]
    return inputs.get(match[1], "")


class Push:
    """The action's second step, with a layerferry that notes its environment and its arguments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        stand_in(folder / "layerferry/bin/layerferry", f"printf '%s\\0' \"$@\"; /usr/bin/env -0; }} > '{self.notes}'")

    def run(self, inputs: Mapping[str, str], **job: str) -> dict[str, str]:
        """The environment that layerferry was started with; `job` is what the step's process has of itself.

        That is the job's `env:`, a container's, or the .env of a runner of one's own: the first alone is in `env.X`.
        """
        own = {name: evaluate(value, inputs) for name, value in PUSH["env"].items()}
        env = {"PATH": os.environ["PATH"], "RUNNER_TEMP": str(self.folder), **job, **own}
        subprocess.run(["sh", "-e", "-c", PUSH["run"]], env=env, check=True, timeout=30)
        argument, *pairs = self.notes.read_text().split("\0")[:-1]
        assert argument == "run"
        return dict(pair.split("=", 1) for pair in pairs)


def stand_in(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{{ {body}\n")
    path.chmod(0o755)


@pytest.fixture
def push(tmp_path: Path) -> Push:
    return Push(tmp_path)


def settings_of(env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings that layerferry reads out of `env`, by the inputs' names, secrets in the open."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
        if variable in env:
            monkeypatch.setenv(variable, env[variable])
    settings = load({})
    return {field.name.replace("_", "-"): getattr(settings, field.name) for field in FIELDS}


# Inputs


@pytest.mark.parametrize("name", GIVEN)
def test_an_input_arrives_in_its_setting(name: str, push: Push, monkeypatch: pytest.MonkeyPatch) -> None:
    value, wanted = GIVEN[name]
    before = settings_of(push.run({}), monkeypatch)[name]
    after = settings_of(push.run({name: value}), monkeypatch)[name]
    assert after == wanted
    assert before != wanted


def test_there_is_no_other_input() -> None:
    assert set(ACTION["inputs"]) == {*GIVEN, "version"}


def test_all_at_once(push: Push, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of(push.run({name: value for name, (value, _) in GIVEN.items()}), monkeypatch)
    assert {name: found[name] for name in GIVEN} == {name: wanted for name, (_, wanted) in GIVEN.items()}


@pytest.mark.parametrize("name", GIVEN)
def test_the_jobs_own_variable_counts_where_no_input_is_given(
    name: str, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, wanted = GIVEN[name]
    variable = f"LAYERFERRY_{name.upper().replace('-', '_')}"
    assert settings_of(push.run({}, **{variable: value}), monkeypatch)[name] == wanted


@pytest.mark.parametrize("name", GIVEN)
def test_an_input_goes_before_it_and_is_there_once(name: str, push: Push) -> None:
    variable = f"LAYERFERRY_{name.upper().replace('-', '_')}"
    env = push.run({name: "an input"}, **{variable: "the job's"})
    assert [(found, value) for found, value in env.items() if value == "an input"] == [(variable, "an input")]
    assert not [found for found in env if found.startswith("LAYERFERRY_ACTION_")]


def test_what_the_job_has_as_empty_stays_so(push: Push) -> None:
    assert push.run({}, LAYERFERRY_SUDO_PASSWORD="")["LAYERFERRY_SUDO_PASSWORD"] == ""
    assert push.run({}, SSH_AUTH_SOCK="/agent").keys() & VARIABLES == set()


def test_a_value_of_several_lines_is_no_other_input(push: Push) -> None:
    env = push.run({"then": "echo\nLAYERFERRY_ACTION_ROUTE=export\nLAYERFERRY_ACTION_XYZ=1\n"})
    assert env["LAYERFERRY_THEN"] == "echo\nLAYERFERRY_ACTION_ROUTE=export\nLAYERFERRY_ACTION_XYZ=1\n"
    assert not {"LAYERFERRY_ROUTE", "LAYERFERRY_XYZ"} & set(env)


def test_every_input_says_what_it_is() -> None:
    for name, declared in ACTION["inputs"].items():
        assert declared["description"].endswith(".")
        assert declared["required"] is (name in {"images", "targets"})
        assert "default" not in declared, "a default would hide the job's own variable"


# A secret that is not given, and one that is empty


def test_an_empty_key_is_shown_to_layerferry_which_says_what_that_means(push: Push) -> None:
    assert push.run({})["LAYERFERRY_SSH_KEY"] == ""


def test_with_an_agent_no_key_is_needed(push: Push) -> None:
    assert "LAYERFERRY_SSH_KEY" not in push.run({}, SSH_AUTH_SOCK="/agent")
    assert push.run({"ssh-key": "the key"}, SSH_AUTH_SOCK="/agent")["LAYERFERRY_SSH_KEY"] == "the key"


def test_what_may_be_left_out_is_left_out(push: Push) -> None:
    assert not {"LAYERFERRY_SSH_KNOWN_HOSTS", "LAYERFERRY_NGROK_AUTHTOKEN"} & set(push.run({}))


def test_a_value_is_no_shell(push: Push) -> None:
    value = "\"; touch '$(pwned)' `pwned` ${{ x }}\n'"
    assert push.run({"ssh-key": value})["LAYERFERRY_SSH_KEY"] == value


# Outputs


def test_the_outputs_are_those_of_layerferry() -> None:
    assert set(ACTION["outputs"]) == set(summary.outputs({"results": []}))
    for name, declared in ACTION["outputs"].items():
        assert declared["value"] == f"${{{{ steps.{PUSH['id']}.outputs.{name} }}}}"


# Installation


class Installer:
    """The action's first step, with Pythons that make an environment of stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        self.bin = folder / "bin"
        self.bin.mkdir()

    def python(self, name: str, *, old: bool = False) -> None:
        pip = self.folder / "pip"
        stand_in(pip, f"echo \"$*\"; }} >> '{self.notes}'")
        check = "exit 1" if old else f'exec {sys.executable} "$@"'
        make = f'/bin/mkdir -p "$3/bin" && /bin/cp {pip} "$3/bin/pip"'
        stand_in(self.bin / name, f'if [ "$1" = -c ]; then {check}; else {make}; fi; }}')

    def run(self, version: str = "", system: str = "Linux") -> tuple[int, str]:
        """The exit status, and what pip was asked for or what was said."""
        env = {
            "PATH": str(self.bin),
            "RUNNER_OS": system,
            "RUNNER_TEMP": str(self.folder / "runner"),
            "GITHUB_ACTION_PATH": "/actions/ci-examples/github-action",
            "LAYERFERRY_ACTION_VERSION": version,
        }
        command = ["/bin/sh", "-e", "-c", INSTALL["run"]]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, self.notes.read_text() if done.returncode == 0 else done.stdout


@pytest.fixture
def installer(tmp_path: Path) -> Installer:
    return Installer(tmp_path)


def test_it_installs_its_own_commit_with_what_that_has_locked(installer: Installer) -> None:
    installer.python("python3")
    status, asked = installer.run()
    assert status == 0
    locked, own = (re.sub(r"--q\S+|--dis\S+", "", line).split() for line in asked.splitlines())
    root = "/actions/ci-examples/github-action/../.."
    assert locked == ["install", "--require-hashes", "-r", f"{root}/requirements/run.txt"]
    assert own == ["install", "--no-deps", root]
    assert (EXAMPLES / "../pyproject.toml").is_file()
    assert (EXAMPLES / "../requirements/run.txt").is_file()


def test_it_installs_the_release_that_was_asked_for(installer: Installer) -> None:
    installer.python("python3")
    status, asked = installer.run("0.1.0")
    assert status == 0
    assert asked.splitlines()[-1].endswith(" layerferry==0.1.0")
    assert len(asked.splitlines()) == 1


def test_it_passes_over_a_python_that_is_too_old(installer: Installer) -> None:
    installer.python("python3", old=True)
    installer.python("python3.12")
    assert installer.run()[0] == 0


def test_without_a_python_it_says_what_to_add(installer: Installer) -> None:
    installer.python("python3", old=True)
    status, said = installer.run()
    assert status == 1
    assert re.fullmatch(r"::error title=layerferry::.*Python 3\.11.*actions/setup-python.*\n", said)


def test_on_windows_it_says_so(installer: Installer) -> None:
    installer.python("python3")
    status, said = installer.run(system="Windows")
    assert status == 1
    assert said.startswith("::error title=layerferry::")


@pytest.mark.parametrize(("step", "shell"), [*itertools.product((INSTALL, PUSH), ("sh", "bash"))])
def test_any_shell_of_a_runner_understands_the_steps(step: Any, shell: str) -> None:
    assert step["shell"] == "sh"
    subprocess.run([shell, "-n", "-c", step["run"]], check=True, timeout=10)


# The workflow that uses it


def test_the_workflow_uses_it_as_it_is_declared() -> None:
    (job,) = WORKFLOW["jobs"].values()
    (step,) = (step for step in job["steps"] if "ci-examples/github-action@" in step.get("uses", ""))
    required = {name for name, declared in ACTION["inputs"].items() if declared["required"]}
    assert required <= set(step["with"]) <= set(ACTION["inputs"])
    read = re.findall(rf"steps\.{step['id']}\.outputs\.([\w-]+)", str(job))
    assert read
    assert set(read) <= set(ACTION["outputs"])


def test_the_workflow_pushes_what_it_built_with_the_secrets_of_its_head() -> None:
    (job,) = WORKFLOW["jobs"].values()
    (step,) = (step for step in job["steps"] if "ci-examples/github-action@" in step.get("uses", ""))
    assert step["with"]["images"] == "${{ env.IMAGE }}"
    assert 'docker build --tag "$IMAGE" .' in [other.get("run") for other in job["steps"]]
    text = (EXAMPLES / "github-with-action.yml").read_text(encoding="utf-8")
    asked = set(re.findall(r"^#   (LAYERFERRY_\w+)", text, re.MULTILINE))
    assert asked == set(re.findall(r"\b(?:secrets|vars)\.(\w+)", str(job)))
    assert "secrets." in step["with"]["ssh-key"]
