"""The forms of output that each CI has; their sources stand beside the commands."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, TextIO

from layerferry.ci import providers
from layerferry.ci.escape import (
    azure_data,
    azure_property,
    github_data,
    github_property,
    neutralise,
    one_line,
    teamcity,
)
from layerferry.ci.output import Output, Run, Wishes, append, random_name, variable
from layerferry.ci.providers import Provider

_TITLE = "layerferry"
#: TeamCity cuts a build problem's description there ("Reporting Build Problems"), in characters.
_LONGEST_PROBLEM = 4000


class GitHubOutput(Output):
    """GitHub Actions, and Gitea's and Forgejo's, whose runners take the same commands.

    docs.github.com, "Workflow commands for GitHub Actions".
    """

    can_mask: ClassVar[bool] = True

    def tell_mask(self, secret: str) -> None:
        self.write(f"::add-mask::{github_data(secret)}")

    def open_group(self, title: str) -> None:
        self.write(f"::group::{github_data(title)}")

    def close_group(self, title: str, *, failed: bool) -> None:
        del title, failed
        self.write("::endgroup::")

    def annotate(self, level: str, message: str, hint: str) -> None:
        text = "\n".join(part for part in (message, hint) if part)
        self.write(f"::{level} title={github_property(_TITLE)}::{github_data(neutralise(text))}")

    def show_summary(self, markdown: str) -> None:
        if self.env.get("GITHUB_STEP_SUMMARY"):
            append(self.env["GITHUB_STEP_SUMMARY"], markdown + "\n")

    def set_outputs(self, values: Mapping[str, str]) -> None:
        if self.env.get("GITHUB_OUTPUT"):
            # A delimiter that no value can contain by design, so that none can end itself and set another output.
            end = random_name()
            text = "".join(f"{name}<<{end}\n{value}\n{end}\n" for name, value in values.items())
            append(self.env["GITHUB_OUTPUT"], text)


class GitLabOutput(Output):
    """GitLab: sections only. Outputs go by the dotenv report, whose file the user names; there is no summary.

    docs.gitlab.com, "CI/CD job logs", "Custom collapsible sections".
    """

    section = ""

    def open_group(self, title: str) -> None:
        self.section = random_name()
        self._mark(f"section_start:{int(self.clock())}:{self.section}[collapsed=false]", title)

    def close_group(self, title: str, *, failed: bool) -> None:
        del title, failed
        self._mark(f"section_end:{int(self.clock())}:{self.section}", "")

    def _mark(self, mark: str, title: str) -> None:
        self.write(f"\x1b[0K{mark}\r\x1b[0K{title}")


class CircleOutput(Output):
    """CircleCI: outputs as variables of later steps of the job.

    circleci.com/docs, "Set an environment variable", "Using BASH_ENV".
    """

    def set_outputs(self, values: Mapping[str, str]) -> None:
        if self.env.get("BASH_ENV"):
            lines = (f"export {variable(name)}={shlex.quote(value)}\n" for name, value in values.items())
            append(self.env["BASH_ENV"], "".join(lines))


class AzureOutput(Output):
    """Azure Pipelines. learn.microsoft.com, "Logging commands"."""

    can_mask: ClassVar[bool] = True

    def tell_mask(self, secret: str) -> None:
        self.write(f"##vso[task.setsecret]{azure_data(secret)}")

    def open_group(self, title: str) -> None:
        self.write(f"##[group]{title}")

    def close_group(self, title: str, *, failed: bool) -> None:
        del title, failed
        self.write("##[endgroup]")

    def annotate(self, level: str, message: str, hint: str) -> None:
        text = neutralise("\n".join(part for part in (message, hint) if part))
        self.write(f"##vso[task.logissue type={azure_property(level)}]{azure_data(text)}")

    def show_summary(self, markdown: str) -> None:
        # The agent reads the file after this line, and clears its folder when the job ends.
        folder = self.env.get("AGENT_TEMPDIRECTORY")
        if folder:
            path = Path(folder) / f"{random_name()}.md"
            path.write_text(markdown, encoding="utf-8")
            self.write(f"##vso[task.uploadsummary]{azure_data(str(path))}")

    def set_outputs(self, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            # A variable's name takes letters, digits, dots and underscores.
            key = azure_property(name.replace("-", "_"))
            self.write(f"##vso[task.setvariable variable={key};isoutput=true]{azure_data(value)}")


class BuildkiteOutput(Output):
    """Buildkite, by its agent's command line; every value goes through stdin.

    buildkite.com/docs/agent, "redactor", "annotate", "meta-data"; /docs/pipelines, "Managing log output".
    """

    can_mask: ClassVar[bool] = True

    def tell_mask(self, secret: str) -> None:
        with self.attempt("redaction by buildkite-agent"):
            self.run(["buildkite-agent", "redactor", "add"], secret.encode(errors="surrogateescape"))

    def open_group(self, title: str) -> None:
        self.write(f"--- {title}")

    def close_group(self, title: str, *, failed: bool) -> None:
        del title
        if failed:
            self.write("^^^ +++")

    def annotate(self, level: str, message: str, hint: str) -> None:
        super().annotate(level, message, hint)
        text = "\n\n".join(one_line(part) for part in (message, hint) if part)
        with self.attempt("annotation"):
            self._annotation(level, f"{_TITLE}-{level}", text)

    def show_summary(self, markdown: str) -> None:
        self._annotation("info", _TITLE, markdown)

    def set_outputs(self, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            self.run(["buildkite-agent", "meta-data", "set", f"{_TITLE}-{name}"], value.encode())

    def _annotation(self, style: str, context: str, text: str) -> None:
        self.run(["buildkite-agent", "annotate", "--style", style, "--context", context], text.encode())


class TeamCityOutput(Output):
    """TeamCity, by service messages. jetbrains.com/help/teamcity, "Service Messages"."""

    def open_group(self, title: str) -> None:
        self._message("blockOpened", name=title)

    def close_group(self, title: str, *, failed: bool) -> None:
        del failed
        self._message("blockClosed", name=title)

    def annotate(self, level: str, message: str, hint: str) -> None:
        text = neutralise("\n".join(part for part in (message, hint) if part))
        if level == "error":
            self._message("buildProblem", description=text[:_LONGEST_PROBLEM], identity=_TITLE)
        else:
            self._message("message", text=text, status="WARNING")

    def set_outputs(self, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            self._message("setParameter", name=f"{_TITLE}.{name}", value=value)

    def _message(self, kind: str, **attributes: str) -> None:
        self.write(f"##teamcity[{kind} " + " ".join(f"{k}='{teamcity(v)}'" for k, v in attributes.items()) + "]")


_DIALECTS: Mapping[Provider, type[Output]] = {
    providers.GITHUB: GitHubOutput,
    providers.GITEA: GitHubOutput,
    providers.FORGEJO: GitHubOutput,
    providers.GITLAB: GitLabOutput,
    providers.CIRCLECI: CircleOutput,
    providers.AZURE: AzureOutput,
    providers.BUILDKITE: BuildkiteOutput,
    providers.TEAMCITY: TeamCityOutput,
}


def open_output(
    provider: Provider,
    stream: TextIO,
    env: Mapping[str, str],
    *,
    wishes: Wishes | None = None,
    run: Run | None = None,
) -> Output:
    """The output of a provider, plain where it has no commands. `stream` is the one that its runner reads."""
    return _DIALECTS.get(provider, Output)(stream, env, wishes=wishes, run=run)
