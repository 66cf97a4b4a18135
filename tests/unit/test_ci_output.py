"""What each CI is told, byte by byte, and what never reaches it."""

import io
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from layerferry.ci import providers
from layerferry.ci.dialects import open_output
from layerferry.ci.output import LARGEST_DOTENV, Output, Wishes
from layerferry.ci.providers import Provider
from layerferry.ci.summary import LARGEST_SUMMARY, markdown, outputs

SECRET = "hunter2-%-secret"
ALL = (*providers.PROVIDERS, providers.NONE)


class Commands:
    """Stands in for processes: keeps what would have been run, and may fail."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.calls: list[tuple[list[str], bytes]] = []

    def __call__(self, command: Sequence[str], data: bytes) -> None:
        self.calls.append((list(command), data))
        if self.failure:
            raise self.failure


def make(
    provider: Provider,
    env: dict[str, str] | None = None,
    *,
    wishes: Wishes | None = None,
    commands: Commands | None = None,
) -> tuple[Output, io.StringIO]:
    stream = io.StringIO()
    output = open_output(provider, stream, env or {}, wishes=wishes, run=commands or Commands())
    output.clock = lambda: 1_700_000_000.9
    return output, stream


def result(**changes: Any) -> dict[str, Any]:
    layer = {"diff_id": "sha256:" + "ab" * 32, "size": 1_000_000, "action": "reuse", "reason": "the target holds it"}
    new = {"diff_id": "sha256:" + "cd" * 32, "size": 10_000, "action": "send", "reason": "the target lacks it"}
    return {
        "image": "app:1",
        "target": "deploy@web1",
        "route": {"name": "export", "reason": "no registry is reached"},
        "engine": "docker 28.5.2",
        "layers": [layer, new],
        "bytes": {"image": 1_010_000, "delta": 10_000, "sent": 5_050, "received": 1_010_000},
        "sizes": "uncompressed",
        "seconds": 1.25,
        "image_id": "sha256:" + "ef" * 32,
        "verified": True,
        "error": None,
    } | changes


FAILED = result(
    target="web2",
    image_id="",
    bytes={"image": 1_010_000, "delta": 10_000, "sent": 7, "received": 0},
    error={"message": "web2 refuses | the key", "hint": "Add it.", "exit_code": 4},
)


class TestMask:
    @pytest.mark.parametrize(
        ("provider", "told"),
        [
            (providers.GITHUB, "::add-mask::hunter2-%25-secret\n"),
            (providers.GITEA, "::add-mask::hunter2-%25-secret\n"),
            (providers.FORGEJO, "::add-mask::hunter2-%25-secret\n"),
            (providers.AZURE, "##vso[task.setsecret]hunter2-%AZP25-secret\n"),
        ],
    )
    def test_a_ci_that_can_is_asked_to_hide_it(self, provider: Provider, told: str) -> None:
        output, stream = make(provider)
        output.mask(SECRET)
        assert stream.getvalue() == told

    def test_buildkite_is_told_through_stdin(self) -> None:
        commands = Commands()
        output, stream = make(providers.BUILDKITE, commands=commands)
        output.mask(SECRET)
        assert commands.calls == [(["buildkite-agent", "redactor", "add"], SECRET.encode())]
        assert stream.getvalue() == ""

    @pytest.mark.parametrize("provider", [p for p in ALL if p.key not in {"github", "gitea", "forgejo", "azure"}])
    def test_a_ci_that_cannot_is_not_told(self, provider: Provider) -> None:
        output, stream = make(provider)
        output.mask(SECRET)
        assert SECRET not in stream.getvalue()

    def test_a_file_is_no_runner(self, tmp_path: Path) -> None:
        with (tmp_path / "log").open("w+", encoding="utf-8") as stream:
            open_output(providers.GITHUB, stream, {}).mask(SECRET)
            stream.seek(0)
            assert stream.read() == ""

    @pytest.mark.parametrize("provider", ALL)
    def test_a_masked_value_is_in_nothing_that_follows(self, provider: Provider, tmp_path: Path) -> None:
        files = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "BASH_ENV")}
        commands = Commands()
        output, stream = make(
            provider,
            files | {"AGENT_TEMPDIRECTORY": str(tmp_path)},
            wishes=Wishes(dotenv=tmp_path / "dotenv"),
            commands=commands,
        )
        output.mask(SECRET)
        after = len(stream.getvalue())
        commands.calls.clear()
        with output.group(f"group {SECRET}"):
            output.line(f"line {SECRET}")
        output.error(f"error {SECRET}", hint=f"hint {SECRET}")
        output.warning(f"warning {SECRET}")
        output.summary(f"summary {SECRET}")
        output.outputs({"image-id": SECRET})
        shown = stream.getvalue()[after:] + repr(commands.calls)
        shown += "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())
        assert "***" in shown
        assert "hunter2" not in shown

    def test_of_several_lines_each_is_hidden_but_those_that_say_nothing(self) -> None:
        output, stream = make(providers.GITHUB)
        output.mask(
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\nAAA\n-----END OPENSSH PRIVATE KEY-----\n", ""
        )
        assert stream.getvalue() == "::add-mask::b3BlbnNzaC1rZXk\n"

    def test_the_longer_secret_is_hidden_whole(self) -> None:
        output, stream = make(providers.NONE)
        output.mask("pass", "password-1")
        output.line("password-1")
        assert stream.getvalue() == "***\n"


class TestGroup:
    @pytest.mark.parametrize(
        ("provider", "text"),
        [
            (providers.GITHUB, "::group::app:1 100%25\nx\n::endgroup::\n"),
            (providers.AZURE, "##[group]app:1 100%\nx\n##[endgroup]\n"),
            (providers.BUILDKITE, "--- app:1 100%\nx\n"),
            (
                providers.TEAMCITY,
                "##teamcity[blockOpened name='app:1 100%']\nx\n##teamcity[blockClosed name='app:1 100%']\n",
            ),
            (providers.CIRCLECI, "app:1 100%\nx\n"),
            (providers.NONE, "app:1 100%\nx\n"),
        ],
    )
    def test_lines_are_held_together(self, provider: Provider, text: str) -> None:
        output, stream = make(provider)
        with output.group("app:1 100%"):
            output.line("x")
        assert stream.getvalue() == text

    def test_a_section_of_gitlab_ends_as_it_began(self) -> None:
        output, stream = make(providers.GITLAB)
        with output.group("app:1"):
            pass
        assert isinstance(getattr(output, "section", None), str)
        section = getattr(output, "section", "")
        assert stream.getvalue() == (
            f"\x1b[0Ksection_start:1700000000:{section}[collapsed=false]\r\x1b[0Kapp:1\n"
            f"\x1b[0Ksection_end:1700000000:{section}\r\x1b[0K\n"
        )

    @pytest.mark.parametrize("provider", ALL)
    def test_it_is_closed_when_something_fails(self, provider: Provider) -> None:
        output, stream = make(provider)
        with pytest.raises(RuntimeError), output.group("x"):
            raise RuntimeError
        ends = {"github": "::endgroup::\n", "azure": "##[endgroup]\n", "buildkite": "^^^ +++\n"}
        assert stream.getvalue().endswith(ends.get(provider.key, "\n"))


class TestAnnotation:
    @pytest.mark.parametrize(
        ("provider", "text"),
        [
            (providers.GITHUB, "::error title=layerferry::web2: 5%25 left%0AFree some.\n"),
            (providers.AZURE, "##vso[task.logissue type=error]web2: 5%AZP25 left%0AFree some.\n"),
            (
                providers.TEAMCITY,
                "##teamcity[buildProblem description='web2: 5% left|nFree some.' identity='layerferry']\n",
            ),
            (providers.GITLAB, "layerferry: web2: 5% left\n  Free some.\n"),
        ],
    )
    def test_an_error_says_what_to_do(self, provider: Provider, text: str) -> None:
        output, stream = make(provider)
        output.error("web2: 5% left", hint="Free some.")
        assert stream.getvalue() == text

    def test_a_warning_is_none(self) -> None:
        output, stream = make(providers.TEAMCITY)
        output.warning("it's slow")
        assert stream.getvalue() == "##teamcity[message text='it|'s slow' status='WARNING']\n"

    @pytest.mark.parametrize("provider", ALL)
    def test_foreign_text_adds_no_command(self, provider: Provider) -> None:
        commands = ("##vso[task.setvariable variable=PATH]", "##teamcity[setParameter name='a']", "::set-env name=A::b")
        text = "\n".join(f"{command}x" for command in commands)
        output, stream = make(provider)
        with output.group(text):
            output.line(text)
        output.error(text, hint=text)
        output.outputs({"targets": text})
        assert not any(command in stream.getvalue() for command in commands)


class TestSummary:
    def test_github_appends_to_the_steps_file(self, tmp_path: Path) -> None:
        path = tmp_path / "summary"
        path.write_text("before", encoding="utf-8")
        output, _ = make(providers.GITHUB, {"GITHUB_STEP_SUMMARY": str(path)})
        output.summary("### x")
        assert path.read_text(encoding="utf-8") == "before\n### x\n"

    def test_what_would_not_fit_beside_the_rest_is_left_out_with_a_word(self, tmp_path: Path) -> None:
        path = tmp_path / "summary"
        path.write_text("x" * (LARGEST_SUMMARY - 10), encoding="utf-8")
        output, stream = make(providers.GITHUB, {"GITHUB_STEP_SUMMARY": str(path)})
        output.summary("### larger than what is left")
        assert path.stat().st_size == LARGEST_SUMMARY - 10
        assert stream.getvalue().startswith("no summary: ")

    def test_azure_uploads_a_file(self, tmp_path: Path) -> None:
        output, stream = make(providers.AZURE, {"AGENT_TEMPDIRECTORY": str(tmp_path)})
        output.summary("### x")
        (path,) = tmp_path.iterdir()
        assert stream.getvalue() == f"##vso[task.uploadsummary]{path}\n"
        assert path.read_text(encoding="utf-8") == "### x"

    def test_buildkite_annotates(self) -> None:
        commands = Commands()
        output, _ = make(providers.BUILDKITE, commands=commands)
        output.summary("### x")
        assert commands.calls == [
            (["buildkite-agent", "annotate", "--style", "info", "--context", "layerferry"], b"### x")
        ]

    @pytest.mark.parametrize("provider", ALL)
    def test_it_can_be_switched_off(self, provider: Provider, tmp_path: Path) -> None:
        commands = Commands()
        env = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "AGENT_TEMPDIRECTORY": str(tmp_path)}
        output, stream = make(provider, env, wishes=Wishes(summary=False), commands=commands)
        output.summary("### x")
        assert (stream.getvalue(), commands.calls, list(tmp_path.iterdir())) == ("", [], [])

    @pytest.mark.parametrize("provider", ALL)
    def test_without_the_cis_files_it_is_silent(self, provider: Provider) -> None:
        output, stream = make(provider)
        output.summary("### x")
        output.outputs({})
        assert stream.getvalue() == ""

    @pytest.mark.parametrize(
        "failure",
        [
            FileNotFoundError(2, "No such file or directory"),
            subprocess.TimeoutExpired(["buildkite-agent"], 1),
            subprocess.CalledProcessError(1, ["buildkite-agent"]),
        ],
    )
    def test_an_agent_that_fails_costs_a_line(self, failure: Exception) -> None:
        output, stream = make(providers.BUILDKITE, commands=Commands(failure))
        output.mask(SECRET)
        output.summary("x")
        output.outputs({"image-id": "x"})
        output.error("x")
        assert stream.getvalue().count("\nno ") + stream.getvalue().startswith("no ") == 4
        assert SECRET not in stream.getvalue()


class TestOutputs:
    def test_github_gets_each_behind_an_unforeseeable_delimiter(self, tmp_path: Path) -> None:
        path = tmp_path / "output"
        output, _ = make(providers.GITHUB, {"GITHUB_OUTPUT": str(path)})
        output.outputs({"image-id": "sha256:1", "targets": "a\nlayerferry_x\nevil=1"})
        lines = path.read_text(encoding="utf-8").splitlines()
        end = lines[0].removeprefix("image-id<<")
        assert len(end) > 40
        assert lines == [f"image-id<<{end}", "sha256:1", end, f"targets<<{end}", "a layerferry_x evil=1", end]

    def test_azure_sets_output_variables(self) -> None:
        output, stream = make(providers.AZURE)
        output.outputs({"image-id": "sha256:1"})
        assert stream.getvalue() == "##vso[task.setvariable variable=image_id;isoutput=true]sha256:1\n"

    def test_buildkite_sets_meta_data_through_stdin(self) -> None:
        commands = Commands()
        output, _ = make(providers.BUILDKITE, commands=commands)
        output.outputs({"image-id": "sha256:1"})
        assert commands.calls == [(["buildkite-agent", "meta-data", "set", "layerferry-image-id"], b"sha256:1")]

    def test_circleci_gets_quoted_exports(self, tmp_path: Path) -> None:
        path = tmp_path / "bash_env"
        output, _ = make(providers.CIRCLECI, {"BASH_ENV": str(path)})
        output.outputs({"targets": "a'; rm -rf / #$(x)"})
        assert path.read_text(encoding="utf-8") == (
            "export LAYERFERRY_OUTPUT_TARGETS='a'\"'\"'; rm -rf / #$(x)'\n"  # a shell's own way to hold a quote
        )

    def test_teamcity_sets_parameters(self) -> None:
        output, stream = make(providers.TEAMCITY)
        output.outputs({"targets": "it's"})
        assert stream.getvalue() == "##teamcity[setParameter name='layerferry.targets' value='it|'s']\n"

    @pytest.mark.parametrize("provider", ALL)
    def test_a_dotenv_file_is_written_on_every_ci(self, provider: Provider, tmp_path: Path) -> None:
        path = tmp_path / "layerferry.env"
        output, _ = make(provider, wishes=Wishes(dotenv=path))
        output.outputs({"image-id": "sha256:1", "bytes-sent": "5"})
        assert path.read_text(encoding="utf-8") == (
            "LAYERFERRY_OUTPUT_IMAGE_ID=sha256:1\nLAYERFERRY_OUTPUT_BYTES_SENT=5\n"
        )

    def test_a_dotenv_file_stays_below_gitlabs_bound(self, tmp_path: Path) -> None:
        path = tmp_path / "layerferry.env"
        output, stream = make(providers.GITLAB, wishes=Wishes(dotenv=path))
        output.outputs({"targets": "x" * LARGEST_DOTENV})
        assert path.read_text(encoding="utf-8") == ""
        assert "dotenv" in stream.getvalue()

    def test_they_come_from_the_results(self) -> None:
        document = {"results": [result(), result(target="web3"), FAILED], "seconds": 3.0}
        assert outputs(document) == {
            "image-id": "sha256:" + "ef" * 32,
            "bytes-sent": "10107",
            "bytes-image": "3030000",
            "layers-sent": "2",
            "layers-reused": "2",
            "targets": "deploy@web1,web3",
        }


class TestMarkdown:
    def test_the_table_has_a_row_for_each_delivery(self) -> None:
        text = markdown({"results": [result()], "seconds": 1.3})
        assert "### layerferry: 1 done in 1.3 s" in text
        assert "| ✅ | `app:1` | `deploy@web1` | 5.0 kB | 1.0 MB | 99.5 % | 1 | 1 | 1.2 | `export` |" in text
        assert "| 2 | `cdcdcdcdcdcd` | 10.0 kB | `send` | `the target lacks it` |" in text

    def test_a_failure_says_what_and_what_to_do(self) -> None:
        text = markdown({"results": [result(), FAILED], "seconds": 1.0})
        assert "### layerferry: 1 of 2 failed" in text
        assert "> `web2`: `web2 refuses \\| the key`\n> `Add it.`" in text

    def test_every_row_has_the_columns_of_its_head(self) -> None:
        hostile = result(image="a|b`c", target="x\n| y |", route={"name": "|", "reason": "||"})
        for line in markdown({"results": [hostile, FAILED], "seconds": 1.0}).splitlines():
            if line.startswith("|"):
                assert line.replace("\\|", "").count("|") in {6, 11}, line

    def test_it_stays_below_the_bound_and_says_what_is_missing(self) -> None:
        many = [result(layers=result()["layers"] * 400) for _ in range(60)]
        text = markdown({"results": many, "seconds": 1.0})
        assert 0.5 * LARGEST_SUMMARY < len(text.encode()) <= LARGEST_SUMMARY
        assert "more tables would not fit" in text
