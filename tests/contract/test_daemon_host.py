"""The host that images are pulled from: what its docker says is taken for what it is, or refused in a sentence."""

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import pytest

from layerferry.errors import SourceError
from layerferry.oci import limits
from layerferry.oci.image import Platform
from layerferry.oci.store_kind import StoreKind
from layerferry.sources.daemon import daemon_host
from layerferry.sources.daemon.daemon_host import DaemonHost
from layerferry.targets import docker_dial
from layerferry.targets.greeting import Greeting

if TYPE_CHECKING:
    from layerferry.targets.conduit import Conduit

GREETING = Greeting(
    "docker", "28.5.2", "overlay2", StoreKind.CHAIN, Platform("linux", "amd64"), ("none",), ("tar",), {}, owner="root"
)


class Host:
    """A conduit whose host answers each dial with one body, and keeps what it was asked to run."""

    name = "prod"

    def __init__(self, body: bytes) -> None:
        self.asked: list[str] = []
        self._body = body

    def beside(self, command: str) -> list[str]:
        self.asked.append(command)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self._body)
        return [
            sys.executable,
            "-c",
            f"import sys; sys.stdin.readline(); sys.stdout.buffer.write({head + self._body!r})",
        ]


def opened(monkeypatch: pytest.MonkeyPatch, body: bytes, greeting: Greeting = GREETING) -> tuple[DaemonHost, Host]:
    class Talk:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def ask(self, _: Any) -> None: ...

        def greeting(self) -> Greeting:
            return greeting

    monkeypatch.setattr(daemon_host, "Conversation", Talk)
    host = Host(body)
    return DaemonHost(cast("Conduit", host)), host


def info(**more: Any) -> bytes:
    return json.dumps({"ServerVersion": "28.5.2+dfsg1", "SecurityOptions": ["name=seccomp"], **more}).encode()


def test_the_docker_that_has_greeted_is_the_one_that_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    host, asked = opened(monkeypatch, info())
    assert asked.asked == ["exec sh -c 'docker system dial-stdio'"]
    assert host.words


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"[" * 100_000, b"{", b"\xff", b"7" * 10_000, b'{"ServerVersion": 1e999}', info(ServerVersion=None),
        info(ServerVersion="20.10.24"), info(SecurityOptions=["name=rootless"]), b" " * (5 << 20) + info(),
    ],
)  # fmt: skip
def test_what_answers_otherwise_is_refused_by_both_ways(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    with pytest.raises(SourceError, match="prod: `docker system dial-stdio` there does not lead to its docker"):
        opened(monkeypatch, body)


ENDLESS = {
    "interim": "while True: out.write(b'HTTP/1.1 100 Continue\\r\\n\\r\\n')",
    "drop by drop": """out.write(b'HTTP/1.1 200 OK\\r\\nContent-Length: 4000000\\r\\n\\r\\n{')
while True: time.sleep(0.05); out.write(b' '); out.flush()""",
}


@pytest.mark.parametrize("script", ENDLESS.values(), ids=ENDLESS)
def test_an_answer_without_an_end_is_none(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A socket's own timeout is for each byte that it waits for."""
    monkeypatch.setattr(limits, "CONNECTED", 1.0)
    words = [sys.executable, "-c", f"import sys, time; out = sys.stdout.buffer\n{script}"]
    assert docker_dial.ask("prod", words, "/info")[0] is None


@pytest.mark.parametrize(
    ("owner", "security", "way"),
    [("ana", ["name=rootless"], "XDG_RUNTIME_DIR"), ("root", None, "sudo -n docker")],
)
def test_each_docker_has_its_second_way(
    monkeypatch: pytest.MonkeyPatch, owner: str, security: list[str] | None, way: str
) -> None:
    """The first way answers nothing, the second as it should."""
    told: list[str] = []

    def ask(_name: str, words: list[str], _path: str) -> tuple[Mapping[str, Any] | None, str]:
        told.append(words[0])
        found = {"ServerVersion": "28.5.2", "SecurityOptions": security}
        return (found if len(told) > 1 else None), "permission denied"

    monkeypatch.setattr(docker_dial, "ask", ask)
    monkeypatch.setattr(Host, "beside", lambda _, command: [command])
    greeting = Greeting(**{**{name: getattr(GREETING, name) for name in GREETING.__slots__}, "owner": owner})
    host, _ = opened(monkeypatch, b"", greeting)
    assert way in host.words[0]
    assert len(told) == 2


@pytest.mark.parametrize(("engine", "hint"), [("podman", "podman save"), ("k3s", "registry")])
def test_another_engine_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch, engine: str, hint: str) -> None:
    greeting = Greeting(**{**{name: getattr(GREETING, name) for name in GREETING.__slots__}, "engine": engine})
    with pytest.raises(SourceError, match=f"prod has {engine}, and images are pulled out of docker alone") as refused:
        opened(monkeypatch, b"", greeting)
    assert hint in refused.value.hint
