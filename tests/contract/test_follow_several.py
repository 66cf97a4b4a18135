"""What follows a push to several targets: as each is ready, when all are, or one after the other; and on nodes."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from contract.target_ends import KINDS, Pushed, TargetEnd, pictures
from layerferry.errors import FollowError
from layerferry.push.follow_up import After, FollowUp
from layerferry.push.nodes import Nodes
from layerferry.push.request import NO_ROUTE, Options
from layerferry.result import Result
from layerferry.targets.address import Target
from layerferry.targets.conduit import CommandConduit
from layerferry.targets.link import Link

HOSTS = ("one", "two", "three")
#: Fails on the second host.
COMMAND = 'touch ran; case "$PWD" in */two/home) echo no good; exit 3 ;; esac'


@pytest.fixture
def hosts(tmp_path: Path) -> dict[str, TargetEnd]:
    """Three hosts, and an ssh that leads to them."""
    ends = {name: TargetEnd(KINDS["docker's command"], tmp_path / name) for name in HOSTS}
    cases = "".join(f'{name}) exec {" ".join(end.command)} -c "$last" ;;\n' for name, end in ends.items())
    (tmp_path / "here").mkdir()
    ssh = tmp_path / "here/ssh"
    ssh.write_text(
        '#!/bin/sh\ncase " $* " in *" -G "*) exit ;; esac\nfor last; do host=$before before=$last; done\n'
        f"case $host in\n{cases}esac\nexit 255\n"
    )
    ssh.chmod(0o755)
    return ends


def push(hosts: dict[str, TargetEnd], *words: str, names: Sequence[str] = HOSTS) -> Pushed:
    end = hosts["one"]
    first, *more = (*names,)
    targets = [first, *(word for name in more for word in ("--to", name))]
    here = end.folder.parent / "here"
    done = subprocess.run(
        [sys.executable, "-m", "layerferry", "push", end.layout(pictures("a", "b")), *targets, "--name", "app:2",
         "--json", "--then", COMMAND, *words],
        capture_output=True, check=False, timeout=120, text=True,
        env={"PATH": f"{here}:{os.environ['PATH']}", "HOME": str(end.folder), "LAYERFERRY_RETRIES": "0",
             "TMPDIR": str(end.folder / "scratch")},
    )  # fmt: skip
    return Pushed(done.returncode, json.loads(done.stdout)["results"], done.stderr)


def ran(hosts: dict[str, TargetEnd]) -> list[str]:
    return [name for name, end in hosts.items() if (end.folder / "home/ran").exists()]


@pytest.mark.parametrize(("after", "where"), [("each", [*HOSTS]), ("all", [*HOSTS]), ("one-by-one", ["one", "two"])])
def test_one_that_fails_on_one_of_three_hosts(hosts: dict[str, TargetEnd], after: str, where: list[str]) -> None:
    run = push(hosts, "--then-after", after, "--jobs", "2")
    assert run.code == 8, run.stderr
    assert ran(hosts) == where
    assert all(end.names for end in hosts.values())
    first, second, third = run.results
    assert first["error"] is None
    assert second["then"][0]["status"] == 3
    assert "Its last lines on two: no good" in second["error"]["hint"]
    if after == "one-by-one":
        assert "it failed on two, which comes before" in third["error"]["message"]
    else:
        assert third["error"] is None


def test_where_one_host_has_not_got_the_image_it_runs_nowhere_if_all_are_to_have_it(
    hosts: dict[str, TargetEnd],
) -> None:
    run = push(hosts, "--then-after", "all", names=("one", "nowhere", "three"))
    assert run.code == 4, "a push that failed is worse than what did not follow"
    assert ran(hosts) == []
    assert "nowhere has not got the image" in run.results[0]["error"]["message"]


@pytest.mark.parametrize(("after", "count"), [(After.EACH, 3), (After.ONE_BY_ONE, 1)])
def test_nodes_run_it_for_a_registry_and_need_no_engine(tmp_path: Path, after: After, count: int) -> None:
    words = ["env", "-i", "PATH=/usr/bin:/bin", f"HOME={tmp_path}", "sh"]
    wanted = FollowUp(b'echo "$LAYERFERRY_IMAGE" >>ran; exit 4', after=after)
    result = Result("app:2", "registry", NO_ROUTE, image_id=f"sha256:{'0' * 64}", names=("r.example/app:2",))
    with contextlib.ExitStack() as stack:
        nodes = tuple(Target(name, Link(stack, now=False, connect=lambda: CommandConduit(words))) for name in HOSTS)
        options = Options(follow_up=wanted, nodes=nodes)
        (told,) = Nodes(options, wanted, lambda _: None, lambda *_: False).follow([result])
    assert [one.status for one in told.ran] == [4] * count
    assert isinstance(told.error, FollowError)
    assert (tmp_path / "ran").read_text() == "r.example/app:2\n" * count


def test_nodes_run_nothing_where_the_registry_has_not_got_the_image() -> None:
    wanted = FollowUp(b"true")
    failed = Result("app:2", "registry", NO_ROUTE, error=FollowError("no"))
    assert Nodes(Options(follow_up=wanted), wanted, lambda _: None, lambda *_: False).follow([failed]) == [failed]
