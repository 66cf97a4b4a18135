"""What all tests share: which of them run here, real engines that start when a test first asks, and the command itself.

A test that asks for `source`, `target` or `engine` runs once for every docker and podman, unless it says which:

    @pytest.mark.kinds(target=OVERLAY2, source=["docker26-containerd"])
    def test_sends_only_what_is_missing(source, target, layerferry): ...
"""

import os
import shutil
import signal
import sys
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parents[1] / "release"))
sys.path.insert(0, str(Path(__file__).parent))

import fork_server
from provocations import Watch
from rig import ENGINES, KINDS, Engine, Rig, cannot_run, packages
from rig.command import Layerferry

_ROLES = {"engine": ENGINES, "target": ENGINES, "source": ("docker20-overlay2",)}

#: What notes the errors that tests provoke, while they run.
_watching: list[Watch] = []

#: The folders whose files take the longest, and the shortest.
_FOLDERS = {"engines": 0, "unit": 2}


def chosen() -> tuple[str, ...]:
    """The kinds of engines of this run: all, or those that LAYERFERRY_TEST_ENGINES names."""
    wanted = os.environ.get("LAYERFERRY_TEST_ENGINES", "").replace(",", " ").split()
    return tuple(wanted) or tuple(KINDS)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the long suite too")


def pytest_configure(config: pytest.Config) -> None:
    _choose_examples(config)
    # A shell lets what it starts in the background ignore it, and so would all that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup
    _watching.append(Watch())
    config.addinivalue_line("markers", "kinds(target=..., source=..., engine=...): the engines that a test runs with")
    if unknown := set(chosen()) - set(KINDS):
        raise pytest.UsageError(f"LAYERFERRY_TEST_ENGINES: no engine {', '.join(sorted(unknown))}")
    if os.environ.get("CI") and set(chosen()) != set(KINDS):
        raise pytest.UsageError("LAYERFERRY_TEST_ENGINES is for quick runs by hand; a CI runs all engines.")


def _choose_examples(config: pytest.Config) -> None:
    """Hypothesis tries the same examples in each run, and new ones, ten times as many, in the long suite.

    It measures no time in either: how long an example takes says more about the machine.
    """
    settings.register_profile("suite", derandomize=True, database=None, deadline=None)
    settings.register_profile("long", max_examples=1000, database=None, deadline=None, print_blob=True)
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("long" if config.getoption("--slow") else "suite")


def pytest_unconfigure() -> None:
    fork_server.stop()
    while _watching:
        _watching.pop().close()


def pytest_report_header() -> str:
    if reason := cannot_run():
        return f"engines: none of the engine tests runs here. {reason}"
    return f"engines: {', '.join(chosen())}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "rig" not in metafunc.fixturenames:
        return
    marks = [mark.kwargs for mark in metafunc.definition.iter_markers("kinds")]
    explicit = {name for mark in metafunc.definition.iter_markers("parametrize") for name in _names(mark.args[0])}
    for role, default in _ROLES.items():
        if role in metafunc.fixturenames and role not in explicit:
            kinds = next((mark[role] for mark in marks if role in mark), default)
            metafunc.parametrize(role, _names(kinds), indirect=True)


def _names(given: str | Iterable[str]) -> list[str]:
    return given.replace(",", " ").split() if isinstance(given, str) else list(given)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs engines, and leave out what cannot run here, what was not chosen, and the long suite."""
    no_engines = bool(cannot_run())  # which takes a process to find out
    if dropped := {item for item in items if not _runs(item, config, no_engines=no_engines)}:
        config.hook.pytest_deselected(items=list(dropped))
        items[:] = [item for item in items if item not in dropped]
    if hasattr(config, "workerinput"):  # xdist hands out files in this order: the longest first, so all end at once
        items.sort(key=lambda item: _FOLDERS.get(item.path.parent.name, 1))


def _runs(item: pytest.Item, config: pytest.Config, *, no_engines: bool) -> bool:
    if "rig" in getattr(item, "fixturenames", ()):
        item.add_marker("engine")
    if item.get_closest_marker("engine") and no_engines:
        return False
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    if any(isinstance(value, str) and value in KINDS and value not in chosen() for value in values):
        return False
    long_suite = config.getoption("--slow") or "slow" in config.getoption("-m") or "::" in " ".join(config.args)
    return bool(long_suite) or item.get_closest_marker("slow") is None


def pytest_runtest_logstart() -> None:
    _watching[0].errors()  # those of before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where engines can run, a skipped engine test is a failed one; so is one that provokes not what its rows say."""
    report = yield
    if report.when == "call" and (missing := _watching[0].missing(item.nodeid)) and report.passed:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} does not provoke what tests/provoked.tsv says: {missing}"
    if report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("engine"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, though engines can run here: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def rig() -> Iterator[Rig]:
    """The rig of this run: engines, registries, hosts, ssh configuration. All of it is gone when the run ends."""
    packages.install_tools()
    with Rig() as started:
        yield started


def _lend(engine: Engine) -> Iterator[Engine]:
    yield engine
    engine.clear()


@pytest.fixture
def engine(request: pytest.FixtureRequest, rig: Rig) -> Iterator[Engine]:
    """An engine of each kind, without images."""
    yield from _lend(rig.engine(request.param))


@pytest.fixture
def target(request: pytest.FixtureRequest, rig: Rig) -> Iterator[Engine]:
    """An engine of each kind, without images, on a host that `target.ssh_alias` names."""
    yield from _lend(rig.engine(request.param))


@pytest.fixture
def source(request: pytest.FixtureRequest, rig: Rig) -> Iterator[Engine]:
    """The daemon that images come from: another one than `target`, even if of the same kind."""
    yield from _lend(rig.engine(request.param, name=f"source-{request.param}"))


@pytest.fixture
def layerferry(rig: Rig) -> Iterator[Layerferry]:
    """The command, as a user runs it. What it leaves in its temporary or home folder fails the test."""
    yield Layerferry(rig)
    shutil.rmtree(rig.cache)  # the next test's pushes know of no blob
    assert rig.left_behind() == [], "layerferry left temporary files behind"
    assert list(rig.home.iterdir()) == [], "credentials, or whatever else, were stored"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of broken pushes: what happened where, and how each has ended (`tests/faults`)."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    rows = [
        (*value, "" if report.passed else "NOT WELL")
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "cell" and report.when == "call"
    ]
    if rows:
        terminalreporter.section("broken pushes")
    for fault, station, end, code, said, well in rows:
        terminalreporter.write_line(f"{fault:<30} {station:<11} {end:<29} {code:>4} {well:<8} {said[:110]}")
