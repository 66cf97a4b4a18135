"""This project's own CI does what it says, with what there is."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PATH = ROOT / ".circleci/config.yml"
CONFIG: Any = YAML(typ="safe").load(PATH.read_text(encoding="utf-8"))
JOBS: Any = CONFIG["workflows"]["check"]["jobs"]
RELEASE: Any = CONFIG["workflows"]["release"]["jobs"]

STEPS = {"attach_workspace", "checkout", "persist_to_workspace", "run", "store_artifacts", "store_test_results"}


def scripts() -> list[str]:
    """Every script, of commands and of jobs."""
    parts = [*CONFIG["commands"].values(), *CONFIG["jobs"].values()]
    runs = [step["run"] for part in parts for step in part["steps"] if isinstance(step, dict) and "run" in step]
    return [run if isinstance(run, str) else run["command"] for run in runs]


def names(jobs: Any = JOBS) -> list[str]:
    return [job if isinstance(job, str) else next(iter(job)) for job in jobs]


def test_circleci_takes_it() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.circle-ci", str(PATH)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout


def test_every_job_runs() -> None:
    assert set(names()) | set(names(RELEASE)) == {*CONFIG["jobs"], "approval"}


@pytest.mark.parametrize("jobs", [JOBS, RELEASE], ids=["check", "release"])
def test_what_a_job_waits_for_is_a_job(jobs: Any) -> None:
    required = {name for job in jobs if isinstance(job, dict) for name in next(iter(job.values())).get("requires", [])}
    assert required <= set(names(jobs))


def test_only_a_tag_is_released_and_only_what_was_tested_and_approved() -> None:
    jobs = {name: job for entry in RELEASE for name, job in entry.items()}
    assert {str(job["filters"]) for job in jobs.values()} == {
        str({"branches": {"ignore": "/.*/"}, "tags": {"only": r"/v\d+\.\d+\.\d+/"}})
    }
    assert jobs["publish"]["requires"] == ["approval"]
    assert {*jobs["approval"]["requires"], "approval", "publish"} == set(jobs)
    assert [name for name, job in jobs.items() if "context" in job] == ["publish"]


def test_every_executor_and_command_is_declared() -> None:
    for job in CONFIG["jobs"].values():
        executor = job["executor"]
        assert (executor if isinstance(executor, str) else executor["name"]) in CONFIG["executors"]
        for step in job["steps"]:
            word = step if isinstance(step, str) else next(iter(step))
            assert word in STEPS | set(CONFIG["commands"])


def test_it_lints_checks_types_and_tests_all_there_is() -> None:
    text = "\n".join(scripts())
    for command in ("ruff check", "ruff format --check", "mypy --explicit-package-bases"):
        assert re.search(rf"^(?:\w+=\S+ )*{command}$", text, re.MULTILINE)
    there = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    opt_in = {"live"}  # needs an account of ngrok's
    assert {folder for folder in there if f"tests/{folder}" not in text} == opt_in


def test_it_tests_the_oldest_python_that_we_promise() -> None:
    oldest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (unit,) = (job["unit"] for job in JOBS if isinstance(job, dict) and "unit" in job)
    assert oldest
    assert unit["matrix"]["parameters"]["version"][0] == oldest[1]


def test_it_has_no_secrets() -> None:
    """So that a fork's pull request, which sees none, passes like any other."""
    assert not [job for job in JOBS if isinstance(job, dict) and "context" in next(iter(job.values()))]


@pytest.mark.parametrize("script", scripts())
def test_a_shell_understands_it(script: str) -> None:
    subprocess.run([str(shutil.which("bash")), "-n", "-c", script], check=True, timeout=10)


def test_every_file_that_it_runs_is_there() -> None:
    files = set(re.findall(r"\b(?:bash|sh) ([\w./-]+\.sh)\b", "\n".join(scripts())))
    assert files == {"tests/run.sh", "ci-examples/demo.sh", "release/build.sh"}
    for file in files:
        assert (ROOT / file).is_file(), file
