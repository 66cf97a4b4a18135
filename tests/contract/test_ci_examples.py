"""Each example is one that its CI takes: by the schema that the CI publishes, and by rules that no schema knows.

The schemas come with the package check-jsonschema; nothing is fetched. What the scripts do is shown by
test_ci_examples_run.py.
"""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import check_jsonschema  # type: ignore[import-untyped]
import click
import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

import install_lines
import pages
from layerferry.ci import summary
from layerferry.settings.values import FIELDS, variables

EXAMPLES = Path(__file__).parents[2] / "ci-examples"
ACTION = "github-action/action.yml"

GITHUB = ("vendor.github-workflows",)
GITLAB = ("vendor.gitlab-ci", "--data-transform", "gitlab-ci")
AZURE = ("vendor.azure-pipelines", "--data-transform", "azure-pipelines", "--regex-variant", "nonunicode")
#: Each file that has a schema, and how check-jsonschema is told of it.
SCHEMAS: dict[str, tuple[str, ...]] = {
    "circleci.yml": ("vendor.circle-ci",),
    "circleci-ngrok.yml": ("vendor.circle-ci",),
    "circleci-machine.yml": ("vendor.circle-ci",),
    "circleci-dokku.yml": ("vendor.circle-ci",),
    "github.yml": GITHUB,
    "github-compose.yml": GITHUB,
    "github-container.yml": GITHUB,
    "github-with-action.yml": GITHUB,
    ACTION: ("vendor.github-actions",),
    "gitlab-dind.yml": GITLAB,
    "gitlab-archive.yml": GITLAB,
    "gitlab-shell.yml": GITLAB,
    "gitlab-signed.yml": GITLAB,
    "bitbucket-pipelines.yml": ("vendor.bitbucket-pipelines",),
    "azure-pipelines.yml": AZURE,
    "woodpecker.yml": ("vendor.woodpecker-ci",),
    "deploy/compose.yaml": ("vendor.compose-spec",),
}
#: A mistake in each kind of file, for a schema that takes everything would prove nothing.
MISTAKES = {
    "circleci.yml": ("- run: layerferry run", "- run: [layerferry, run]"),
    "github.yml": ("runs-on:", "runs_on:"),
    ACTION: ("using: composite", "using: composit"),
    "gitlab-dind.yml": ("script:\n    - docker", "scripts:\n    - docker"),
    "bitbucket-pipelines.yml": ("services: [docker]", "services: docker"),
    "azure-pipelines.yml": ("- task:", "- tasc:"),
    "woodpecker.yml": ("event: push", "event: pushed"),
    "deploy/compose.yaml": ("pull_policy: never", "pull_polizy: never"),
}
JENKINS = ["Jenkinsfile", "Jenkinsfile.approval"]
DEPLOYS = ["dokku", "compose", "k3s", "kubernetes", "fleet", "start"]
SCRIPTS = [*JENKINS, *(f"deploy/{name}.sh" for name in DEPLOYS)]
#: What a command that follows a push has in its environment.
FOLLOWING = {"LAYERFERRY_IMAGE", "LAYERFERRY_IMAGE_ID", "LAYERFERRY_PREVIOUS_ID"}
WORKFLOWS = [name for name, schema in SCHEMAS.items() if schema == GITHUB]
SETTINGS = {variable for field in FIELDS for variable in variables(field.name)}


def text_of(name: str) -> str:
    return (EXAMPLES / name).read_text(encoding="utf-8")


def load(name: str) -> Any:
    return YAML(typ="safe").load(text_of(name))


def values_of(node: Any, *names: str) -> Iterator[Any]:
    """What stands under keys of these names, at whatever depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in names:
                yield value
            yield from values_of(value, *names)
    elif isinstance(node, list):
        for item in node:
            yield from values_of(item, *names)


# Schemas


def validate(name: str, path: Path) -> Result:
    """The command, in this process: it takes half a second to load."""
    return CliRunner().invoke(check_jsonschema.main, ["--builtin-schema", *SCHEMAS[name], str(path)])


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_ci_takes_it(name: str) -> None:
    done = validate(name, EXAMPLES / name)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_would_be_seen(name: str, tmp_path: Path) -> None:
    right, wrong = MISTAKES[name]
    assert right in text_of(name)
    broken = tmp_path / Path(name).name
    broken.write_text(text_of(name).replace(right, wrong))
    done = validate(name, broken)
    assert done.exit_code == 1
    assert "Schema validation errors" in done.output


def test_no_example_goes_unchecked() -> None:
    files = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*") if path.is_file()}
    assert files - {"demo.sh", "README.md"} == {*SCHEMAS, *SCRIPTS}


# What no schema knows


@pytest.mark.parametrize("name", [*SCHEMAS, *SCRIPTS])
def test_it_begins_with_what_it_shows(name: str) -> None:
    lines = text_of(name).removeprefix("#!/bin/sh\n").splitlines()
    comment = "//" if name in JENKINS else "#"
    assert lines[0].startswith(f"{comment} ")
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", [*SCHEMAS, *SCRIPTS, "README.md"])
def test_every_variable_is_a_setting(name: str) -> None:
    used = set(re.findall(r"\bLAYERFERRY_[A-Z_]+", text_of(name)))
    outputs = {f"LAYERFERRY_OUTPUT_{output.upper().replace('-', '_')}" for output in summary.outputs({"results": []})}
    inputs = {one.replace("LAYERFERRY_", "LAYERFERRY_ACTION_") for one in ("LAYERFERRY_VERSION", *SETTINGS)}
    own = {"LAYERFERRY_", "LAYERFERRY_ACTION_", *inputs} if name == ACTION else set()
    assert used <= SETTINGS | outputs | own | FOLLOWING


@pytest.mark.parametrize("name", [*SCHEMAS, *JENKINS])
def test_everything_that_it_fetches_is_pinned(name: str) -> None:
    text = text_of(name)
    for package in re.findall(r"pipx? (?:install|run --spec) (\S+)", text):
        assert package == install_lines.specification(), package
    for action in re.findall(r"uses: (\S+)", text):
        assert re.search(r"@[0-9a-f]{40}$", action) or action.endswith("/layerferry/ci-examples/github-action@COMMIT")
    images = (
        [value for value in values_of(load(name), "image", "container") if isinstance(value, str)]
        if name in SCHEMAS
        else []
    )
    for image in (image for image in images if not image.startswith("${IMAGE:?")):
        assert re.search(r":\D*\d+\.\d+\.\d+|:\d{4}\.\d\d\.\d", image), image


@pytest.mark.parametrize("name", [*SCHEMAS, *JENKINS])
def test_no_secret_stands_in_it(name: str) -> None:
    """A secret's value is a reference, or empty, or not in the file at all."""
    secret = r"(?:SSH_KEY|AUTHTOKEN|REGISTRY_NGROK)\b\"?'?\s*[:=]\s*(.*)"
    for value in re.findall(secret, text_of(name)):
        assert re.match(r"\$\{\{ (?:secrets|inputs)\.|\{from_secret: |\$\(key\.|\"\"$", value), value


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_read_the_repository_and_nothing_else(name: str) -> None:
    workflow = load(name)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 15
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("name", [*WORKFLOWS, ACTION, "azure-pipelines.yml"])
def test_no_expression_is_pasted_into_a_script(name: str) -> None:
    """What an expression holds would be read as shell: it goes through the environment."""
    scripts = list(values_of(load(name), "run", "script"))
    assert scripts
    for script in scripts:
        assert "${{" not in script
        assert name != "azure-pipelines.yml" or "$(" not in script


# The README


def test_the_index_names_every_example() -> None:
    linked = set(re.findall(r"\]\(([^)#:]+)\)", text_of("README.md")))
    assert {*SCHEMAS, *SCRIPTS} <= linked
    for path in linked - {"../SECURITY.md"}:  # tests/unit/test_pages.py sees to that one
        assert (EXAMPLES / path).exists(), path


def test_the_readme_shows_commands_that_there_are() -> None:
    lines = re.findall(r"`(layerferry [^`]+)`", text_of("README.md"))
    assert len(lines) >= 2
    for line in lines:
        if line != "layerferry receive":  # which is on its way
            pages.parse(line)


def test_the_readme_shows_shell_that_a_shell_understands() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", text_of("README.md"), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        subprocess.run(["sh", "-n", "-c", block], check=True, timeout=10)


def test_a_command_that_is_none_is_refused() -> None:
    for line in ("layerferry puhs app:1 host", "layerferry run --no-such-option", "layerferry run app:1"):
        with pytest.raises(click.UsageError):
            pages.parse(line)


# The Jenkinsfile, which has no schema: its Groovy is read as far as brackets, strings and comments go, and its blocks
# are held against the grammar of "Pipeline Syntax" in the Jenkins handbook.


@dataclass
class Block:
    """`name(...) { ... }`; what stands in it are blocks and the first words of plain statements."""

    name: str
    parts: list["Block"] = field(default_factory=list)

    def __getitem__(self, name: str) -> "Block":
        (found,) = (part for part in self.parts if part.name == name)
        return found

    @property
    def names(self) -> list[str]:
        return [part.name for part in self.parts]

    def everywhere(self, name: str) -> Iterator["Block"]:
        for part in self.parts:
            if part.name == name:
                yield part
            yield from part.everywhere(name)


_TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?\*/|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|[()\[\]{}\n]|[^'"/()\[\]{}\n]+|/""", re.DOTALL
)
_PAIRS = {")": "(", "]": "[", "}": "{"}


def groovy_tokens(text: str) -> Iterator[tuple[str, bool]]:
    """Each token, and whether it stands in parentheses; raises ValueError where a bracket or a string does not end."""
    brackets, end = "", 0
    for match in _TOKEN.finditer(text):
        if match.start() != end:
            raise ValueError(f"not understood: {text[end : match.start()]!r}")
        token, end = match[0], match.end()
        if token in _PAIRS:
            if not brackets.endswith(_PAIRS[token]):
                raise ValueError(f"{token} closes nothing")
            brackets = brackets[:-1]
        yield token, brackets.strip("{") != ""
        if token in "([{":
            brackets += token
    if brackets or end != len(text):
        raise ValueError("a bracket or a string does not end")


def read_groovy(text: str) -> Block:
    """The blocks of a Jenkinsfile; raises ValueError where it is no Groovy."""
    stack, statement = [Block("")], ""
    for token, nested in groovy_tokens(text):
        if token.startswith(("//", "/*")):
            continue
        if nested or token not in "{}\n":
            statement += token
            continue
        word = re.match(r"\s*(\w+)", statement)
        if word:
            stack[-1].parts.append(Block(word[1]))
        if token == "{":
            stack.append(stack[-1].parts[-1])
        elif token == "}":
            stack.pop()
        statement = ""
    return stack[0]


_IN_PIPELINE = {"agent", "environment", "options", "stages", "post", "parameters", "triggers", "tools", "when"}
_IN_STAGE = {"agent", "environment", "options", "post", "tools", "when", "input", "steps", "stages", "parallel"}


@pytest.mark.parametrize("name", JENKINS)
def test_the_jenkinsfile_is_a_declarative_pipeline(name: str) -> None:
    top = read_groovy(text_of(name))
    assert top.names == ["pipeline"]
    pipeline = top["pipeline"]
    assert {"agent", "stages"} <= set(pipeline.names) <= _IN_PIPELINE
    assert len(set(pipeline.names)) == len(pipeline.names)
    assert set(pipeline["stages"].names) == {"stage"}
    for stage in pipeline.everywhere("stage"):
        assert set(stage.names) <= _IN_STAGE
        assert len({"steps", "stages", "parallel"} & set(stage.names)) == 1
        assert {part.name for part in stage["steps"].parts} <= {"sh", "withCredentials"}
    assert set(pipeline["options"].names) == {"disableConcurrentBuilds", "timeout"}


@pytest.mark.parametrize("name", JENKINS)
def test_the_jenkinsfile_leaves_secrets_to_the_shell(name: str) -> None:
    """Groovy would paste them into the command line: `sh` takes single quotes alone, and credentials are bound."""
    text = text_of(name)
    assert len(re.findall(r"(?<![.\w])sh\b", re.sub(r"//.*", "", text))) == len(re.findall(r"\bsh '[^']+'", text))
    bindings = list(read_groovy(text).everywhere("withCredentials"))
    assert all(binding.names == ["sh"] for binding in bindings)
    assert len(re.findall(r"\blayerferry run\b", text)) == len(bindings) >= 1


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("        }\n    }\n}", "        }\n    }\n"), ("sh 'docker", "sh docker"), ("]) {", ") {"), ("run'", "run")],
)
def test_broken_groovy_would_be_seen(right: str, wrong: str) -> None:
    text = text_of("Jenkinsfile")
    assert right in text
    with pytest.raises(ValueError, match=r"."):
        read_groovy(text.replace(right, wrong, 1))
