"""Compose at a socket of ours, before stand-ins for it and for the docker that the socket leads to."""

import http.client
import json
import os
import socket
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from layerferry.errors import FollowError, TargetError, UsageError
from layerferry.oci import limits
from layerferry.oci.image import Platform
from layerferry.oci.store_kind import StoreKind
from layerferry.push import compose_up
from layerferry.push.compose_up import ComposeUp, EngineSocket, Project, dial, failed
from layerferry.push.follow_up import FollowUp, check_places
from layerferry.result import BroughtUp
from layerferry.targets.greeting import Greeting
from rig.processes import wait_until

if TYPE_CHECKING:
    from layerferry.targets.conduit import Conduit

IMAGE = f"sha256:{'0' * 64}"
GREETING = Greeting("docker", "28.5.2", "overlay2", StoreKind.CHAIN, Platform("linux", "amd64"), (), (), {})
#: A docker that answers every question with its version.
DOCKER = """
import sys
said = b'{"Version": "28.5.2+dfsg1", "asked": "%s"}'
while line := sys.stdin.buffer.readline():
    asked = line.split()[1]
    while sys.stdin.buffer.readline().strip(): pass
    body = said % asked
    sys.stdout.buffer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    sys.stdout.buffer.flush()
"""


@dataclass
class Way:
    """What stands for a conduit."""

    words: list[str]
    name: str = "host"
    engine: str = ""
    ended: bool = False

    def beside(self, command: str) -> list[str]:
        assert command == "docker system dial-stdio"
        return self.words


class Place:
    """A folder with a stand-in for compose: a shell's words for `ps`, and for `up`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.way = Way([sys.executable, "-c", DOCKER])
        self.said: list[str] = []
        self.stand_in("echo up", ps="true")

    def stand_in(self, up: str, *, ps: str = "true") -> None:
        file = self.folder / "compose"
        file.write_text(f'#!/bin/sh\ncd {self.folder}\ncase "$3" in\nps) {ps} ;;\nup) {up} ;;\nesac\n')
        file.chmod(0o755)

    def compose(self, *, seconds: float = 60.0, wanted: tuple[str, ...] = ("web",)) -> ComposeUp:
        environ = {
            "PATH": os.environ["PATH"],
            "TAG": "7",
            "DOCKER_CONTEXT": "other",
            "DOCKER_TLS_VERIFY": "1",
            "LAYERFERRY_SSH_KEY": "the secret key of this job",
            "COPY_OF_IT": "it is the secret key of this job",
        }
        project = Project((str(self.folder / "compose"), "--file", "f"), wanted, ("db", "web"), environ)
        return ComposeUp(cast("Conduit", self.way), self.way.words, project, seconds)

    def run(self, **how: Any) -> tuple[BroughtUp, ...]:
        up = self.compose(**how)
        up.run([IMAGE], self.said.append)
        return up.services

    def lives(self) -> bool:
        """Whether the process that compose has started still runs."""
        return Path("/proc", (self.folder / "pid").read_text().strip(), "fd").exists()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return Place(tmp_path)


def test_it_has_the_jobs_variables_and_none_that_lead_elsewhere(place: Place) -> None:
    place.stand_in('env >env; echo "$@" >words; s=${DOCKER_HOST#unix://}; stat -c %a "${s%/*}" >mode')
    place.run()
    told = dict(line.split("=", 1) for line in (place.folder / "env").read_text().splitlines())
    assert told["TAG"] == "7"
    assert not told.keys() & {"DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "LAYERFERRY_SSH_KEY", "COPY_OF_IT"}
    words = "--file f up --detach --no-build --wait --pull missing web\n"
    assert (place.folder / "words").read_text() == words
    assert (place.folder / "mode").read_text() == "700\n"
    assert not Path(told["DOCKER_HOST"].removeprefix("unix://")).parent.exists()
    assert list((place.folder / "tmp").iterdir()) == []


def test_the_socket_leads_to_the_docker_there_as_often_as_it_is_asked(place: Place) -> None:
    with EngineSocket(place.way.words) as way:
        path = way.host.removeprefix("unix://")
        assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700
        made = [http.client.HTTPConnection("localhost") for _ in range(3)]
        for number, connection in enumerate(made):
            connection.sock = connect(path)
            connection.request("GET", f"/{number}")
            assert json.loads(connection.getresponse().read())["asked"] == f"/{number}"
            if number:
                connection.close()
    # The first was still open, and has ended with the socket.
    assert made[0].sock.recv(1) == b""
    made[0].close()


def connect(path: str) -> Any:
    found = socket.socket(socket.AF_UNIX)
    found.settimeout(30)
    found.connect(path)
    return found


def listed(*containers: tuple[str, str, str, str]) -> str:
    keys = ("Service", "ID", "State", "Health")
    return "\n".join(json.dumps(dict(zip(keys, one, strict=True))) for one in containers)


def test_what_has_changed_is_told(place: Place) -> None:
    before = [("web", "a", "running", "healthy"), ("db", "b", "exited", ""), ("alien", "x", "running", "")]
    after = [("web", "c", "running", "healthy"), ("web", "d", "running", "starting"), ("db", "b", "running", "")]
    (place.folder / "before").write_text(listed(*before))
    (place.folder / "after").write_text(f"[{listed(*after)}]".replace("\n", ","))
    place.stand_in("mv after before", ps="cat before")
    assert place.run() == (BroughtUp("db", "started", "running"), BroughtUp("web", "recreated", "starting"))
    assert place.said[-2:] == ["db: started, running", "web: recreated, starting"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[" * 100_000,
        '{"Service": ["web"]}',
        "7\nnull",
        '{"Service": "web", "ID": {}, "State": []}',
        "[1",
    ],
)
def test_what_is_no_list_of_containers_is_passed_over(place: Place, text: str) -> None:
    (place.folder / "list").write_text(text)
    place.stand_in("echo done", ps="cat list")
    assert {service.service for service in place.run()} <= {"web"}


def test_a_failure_is_told_with_its_status_and_last_lines(place: Place) -> None:
    place.stand_in("echo one; echo two >&2; exit 3")
    with pytest.raises(FollowError, match="`docker compose up` ended with status 3"):
        place.run()
    assert place.said == ["one", "two"]
    told = failed(FollowError("it failed"), place.said, "The way back, on host: docker tag a b")
    assert told.exit_code == 8
    assert told.hint.splitlines()[1:] == [
        "one", "two", "The way back, on host: docker tag a b", "Then let compose bring the services up again.",
    ]  # fmt: skip


def test_much_output_comes_whole_and_a_long_line_comes_in_parts(place: Place) -> None:
    place.stand_in("head -c 9000 /dev/zero | tr '\\0' x; echo; seq 1 100000; printf '\\377\\033[31m'")
    place.run()
    assert max(map(len, place.said)) <= limits.COMPOSE_LINE
    assert place.said[-1] == "\ufffd\x1b[31m"


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "])
def test_it_is_ended_with_all_that_it_started_when_its_time_is_over(place: Place, trap: str) -> None:
    place.stand_in(f"{trap}sleep 4321 & echo $! >pid; wait; wait")
    with pytest.raises(FollowError, match="did not end within 1 s"):
        place.run(seconds=1.0)
    wait_until(lambda: not place.lives(), "what compose has started does not end")


def test_it_is_ended_where_the_connection_has_gone_and_where_a_signal_comes(place: Place) -> None:
    place.stand_in("sleep 4321 & echo $! >pid; echo begun; wait")

    def hang_up(_line: str) -> None:
        place.way.ended = True

    with pytest.raises(FollowError, match="the connection has gone"):
        place.compose().run([IMAGE], hang_up)
    wait_until(lambda: not place.lives(), "what compose has started does not end")
    place.way.ended = False
    with pytest.raises(KeyboardInterrupt):
        place.compose().run([IMAGE], interrupt)
    wait_until(lambda: not place.lives(), "what compose has started does not end")
    assert list((place.folder / "tmp").iterdir()) == []


def interrupt(_line: str) -> None:
    raise KeyboardInterrupt


def test_what_compose_leaves_behind_holds_nobody_up(place: Place) -> None:
    place.stand_in("sleep 4321 & echo $! >pid")
    place.run()
    wait_until(lambda: not place.lives(), "what compose has started does not end")


def test_a_compose_that_is_gone_is_told(place: Place) -> None:
    (place.folder / "compose").unlink()
    with pytest.raises(FollowError, match="cannot be started"):
        place.run()


def _podman(way: Way) -> Greeting:
    del way
    return replace(GREETING, engine="podman")


def _as_root(way: Way) -> Greeting:
    way.engine = "root@docker"
    return GREETING


def _no_ssh(way: Way) -> Greeting:
    way.words = []
    return GREETING


def _other(way: Way) -> Greeting:
    del way
    return replace(GREETING, version="20.10.24")


def _silent(way: Way) -> Greeting:
    way.words = ["sh", "-c", "echo permission denied >&2"]
    return GREETING


def _no_docker(way: Way) -> Greeting:
    way.words = ["sh", "-c", "echo HTTP/1.1 200 OK; echo; echo '[[['"]
    return GREETING


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_podman, "has podman, and --up needs docker"),
        (_as_root, "not through sudo"),
        (_no_ssh, "not reached through ssh"),
        (_other, "leads to another engine"),
        (_silent, "does not answer: permission denied"),
        (_no_docker, "does not answer"),
    ],
)
def test_what_is_no_docker_that_compose_reaches_is_refused(
    place: Place, make: Callable[[Way], Greeting], told: str
) -> None:
    greeting = make(place.way)
    with pytest.raises(TargetError, match=told):
        dial(cast("Conduit", place.way), greeting, "")


def test_a_registry_is_refused() -> None:
    project = Project(("docker", "compose"), (), ("web",), {})
    with pytest.raises(UsageError, match="a registry, where compose brings nothing up"):
        check_places(["registry://r"], FollowUp(up=project, on=("node",)))
    assert FollowUp(up=project).lines == ["compose up: web"]


def test_a_docker_is_taken_whatever_its_packager_adds_to_its_version(place: Place) -> None:
    assert dial(cast("Conduit", place.way), GREETING, "") == place.way.words


def test_a_socket_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = SimpleNamespace(name=str(tmp_path / "missing"), cleanup=lambda: None)
    monkeypatch.setattr(compose_up, "socket_folder", lambda **_: (folder, ""))
    with pytest.raises(FollowError, match=r"^--up needs a socket: No such file or directory$"):
        EngineSocket(["docker"])
