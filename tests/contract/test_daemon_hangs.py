"""A daemon that hangs while a push is interrupted: nobody waits for it as long as for one that may go on."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any, cast
from unittest.mock import Mock

import pytest

from contract.test_daemon_answers import CHUNKED, ID, SHOWN, UNTIL_THE_END, Playing, document
from contract.test_daemon_answers import playing as playing  # noqa: PLC0414 - a fixture
from layerferry.embedded_registry import Registry
from layerferry.errors import Halt, Interrupted, RouteError, SourceError
from layerferry.events import Warned
from layerferry.oci import limits
from layerferry.oci.content import Route
from layerferry.oci.plan import Inventory, plan
from layerferry.routes.choose import Reached
from layerferry.routes.daemon_routes import DaemonRoutes
from layerferry.routes.near_registries import WayOut
from layerferry.routes.reachability import RegistryEndpoint, ServiceEndpoint
from layerferry.sources.daemon.api import Daemon
from layerferry.sources.daemon.push_tags import PUSH_TAG
from layerferry.sources.daemon.source import DaemonSource

#: Seconds that the daemon hangs: less than it may, and many times what an end takes.
HANGS = 30.0


class Hanging:
    """A daemon that says nothing more where it is asked for what ends with `at`."""

    def __init__(self, playing: Playing, tmp_path: Path, registry: Registry) -> None:
        self.playing, self.registry = playing, registry
        self.came, self.goes_on = threading.Event(), threading.Event()
        #: Where somebody has waited for it until it went on by itself.
        self.waited_for: list[str] = []
        self.events: list[Any] = []
        self.folder = tmp_path
        repository = registry.repository()
        cast("Any", registry).repository = lambda: repository
        self.pushes = f"/images/127.0.0.1:{registry.port}/{repository.name}/push"
        self.removes = f"/images/127.0.0.1:{registry.port}/{repository.name}:{PUSH_TAG}"
        self.tags = f"/images/{ID}/tag"
        playing.replies |= {
            f"/images/{ID}/json": document({**SHOWN, "RepoTags": ["app:1"]}),
            self.tags: document(b"", "201 Created"),
            self.pushes: document(b'{"error": "it does not like the registry"}'),
            self.removes: document([]),
            f"/images/{ID}/get": UNTIL_THE_END,
        }
        self.daemon = Daemon(playing.environ)
        self.routes = DaemonRoutes(self.daemon, Mock(), "auto", self.events.append)
        address = f"127.0.0.1:{registry.port}"
        self.lead_to(RegistryEndpoint("registry", registry, address, Mock(user="u", password="p")))

    def lead_to(self, endpoint: RegistryEndpoint | ServiceEndpoint) -> None:
        way = WayOut(Reached("registry", endpoint.address), endpoint)
        cast("Any", self.routes).reach = lambda *_: way
        self.routes._pushes = True

    def hang(self, at: str, *said: bytes) -> None:
        def reply() -> Iterator[bytes]:
            yield from said
            self.came.set()
            if not self.goes_on.wait(HANGS):
                self.waited_for.append(at)
            yield b""

        self.playing.replies[at] = reply

    def fetch(self, route: str = "registry") -> None:
        """Read all of the image, as a push does that has the source closed at its end."""
        source = DaemonSource(self.daemon, lambda _: self.routes)
        with closing(source):
            source.prepare()
            inspected = self.daemon.inspect("app:1")
            todo = plan(inspected.image, Inventory())
            wanted = frozenset(inspected.image.diff_ids)
            image = self.routes.of(inspected)
            with image.fetch(todo, Route(route, ""), wanted, self.folder) as content:
                for _ in content.blobs():
                    pass


@pytest.fixture
def hanging(playing: Playing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    monkeypatch.setattr(limits, "LAST_WORDS", 0.3)
    monkeypatch.setattr(limits, "FAREWELL", 0.5)
    with Registry(spool=tmp_path, limit=1 << 20) as registry:
        stage = Hanging(playing, tmp_path, registry)
        yield stage
        assert not stage.waited_for
        stage.goes_on.set()
        for thread in threading.enumerate():
            if thread.name == "aside":
                thread.join(HANGS)
        stage.daemon.close()


@contextlib.contextmanager
def interrupted(when: threading.Event) -> Iterator[None]:
    """A SIGTERM to this process as soon as it is time, which ends what is in this context, and that soon."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Halt(Interrupted())

    def watch() -> None:
        assert when.wait(HANGS)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, ring)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(Halt):
            yield
    finally:
        watcher.join()
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("at", ["tags", "pushes"])
def test_a_daemon_that_hangs_in_its_push_is_waited_for_no_longer(hanging: Hanging, at: str) -> None:
    hanging.hang(getattr(hanging, at))
    with interrupted(hanging.came):
        hanging.fetch()
    if at == "pushes":
        assert hanging.removes.removeprefix("/images") in " ".join(hanging.playing.asked), "its name is taken away"


def test_a_push_that_was_begun_for_the_config_and_hangs_is_waited_for_no_longer(hanging: Hanging) -> None:
    hanging.hang(hanging.pushes)
    with interrupted(hanging.came), closing(hanging.routes):
        hanging.routes.of(hanging.daemon.inspect("app:1")).fetch_config_id()


def test_a_daemon_that_takes_no_name_away_is_waited_for_no_longer(hanging: Hanging) -> None:
    hanging.hang(hanging.removes)
    hanging.routes.asked = "registry"
    with interrupted(hanging.came):
        hanging.fetch()


def test_a_daemon_that_hangs_in_the_sweep_is_waited_for_no_longer(hanging: Hanging) -> None:
    hanging.hang("/images/json")
    with pytest.raises(Halt), closing(hanging.routes):
        raise Halt(Interrupted())
    assert hanging.came.wait(HANGS)
    assert not [event for event in hanging.events if isinstance(event, Warned)]


def test_a_daemon_that_hangs_in_all_of_it_is_waited_for_no_longer(hanging: Hanging) -> None:
    for at in (hanging.removes, hanging.pushes):
        hanging.hang(at)
    with interrupted(hanging.came):
        hanging.fetch()


def test_a_daemon_that_pushes_to_a_service_and_hangs_is_waited_for_no_longer(hanging: Hanging) -> None:
    name = hanging.pushes.removesuffix("/push").removeprefix("/images/127.0.0.1:").partition("/")[2]
    address = f"127.0.0.1:{hanging.registry.port}"
    hanging.lead_to(ServiceEndpoint(address, f"http://{address}", name, {}))
    for at in (hanging.removes, hanging.pushes):
        hanging.hang(at)
    with interrupted(hanging.came):
        hanging.fetch()


def test_a_daemon_that_hangs_in_its_save_holds_nobody_up(hanging: Hanging) -> None:
    """Whatever has ended the push: the stream that a thread still waits for is closed."""
    hanging.hang(f"/images/{ID}/get", CHUNKED, b"5\r\nbegun\r\n")
    hanging.daemon.close()
    daemon = Daemon(hanging.playing.environ)
    content = daemon.export(daemon.inspect("app:1"), frozenset([ID]), hanging.folder)
    with closing(daemon), content:
        assert hanging.came.wait(HANGS)
        time.sleep(0.1)  # the thread reads


@pytest.mark.parametrize("what", ["inspect", "push", "save"])
def test_who_waits_in_another_thread_hears_that_the_push_was_broken_off(hanging: Hanging, what: str) -> None:
    """As a push to several targets does it, whose threads no signal reaches."""
    source = DaemonSource(hanging.daemon, lambda _: hanging.routes)
    source.prepare()
    waits: Callable[[], object] = hanging.fetch
    if what == "inspect":
        hanging.hang("/images/app:1/json")
        waits = lambda: hanging.daemon.inspect("app:1")  # noqa: E731
    elif what == "push":
        hanging.hang(hanging.pushes)
        hanging.routes.asked = "registry"
    else:
        hanging.hang(f"/images/{ID}/get")
        waits = lambda: hanging.fetch("export")  # noqa: E731
    heard: list[BaseException] = []

    def wait() -> None:
        try:
            waits()
        except BaseException as error:  # noqa: BLE001 - it is looked at
            heard.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert hanging.came.wait(HANGS)
    source.break_off()
    thread.join(HANGS / 2)
    assert heard
    assert isinstance(heard[0], SourceError | RouteError)
