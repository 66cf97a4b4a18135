"""A daemon that answers otherwise than a docker does: it is refused in a sentence, and costs no more than a bound."""

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from layerferry.errors import SourceError, UsageError
from layerferry.oci import limits
from layerferry.oci.image import Image, Platform
from layerferry.sources.daemon.api import Daemon
from layerferry.sources.daemon.push_tags import PUSH_TAG

ID, BASE = "sha256:" + "a" * 64, "sha256:" + "b" * 64
SHOWN: dict[str, Any] = {
    "Id": ID,
    "Os": "linux",
    "Architecture": "amd64",
    "GraphDriver": {"Name": "overlay2"},
    "RepoDigests": [],
    "Size": 30,
    "RootFS": {"Layers": [BASE, ID]},
}
HISTORY = [{"Size": 10, "CreatedBy": "RUN x"}, {"Size": 20, "CreatedBy": "COPY " + "x" * 10_000}]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_THE_END = b"HTTP/1.1 200 OK\r\n\r\n"

Reply = bytes | Callable[[], Iterator[bytes]]


def document(content: object, status: str = "200 OK", *headers: str) -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = "\r\n".join((f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""))
    return head.encode("latin-1") + body


class Playing(socketserver.ThreadingUnixStreamServer):
    """Answers each path of the API by a table; `asked` is what came. Counts the bytes that were taken of it."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.replies: dict[str, Reply] = {
            "/version": document({"ApiVersion": "1.43"}),
            "/images/app:1/json": document(SHOWN),
            "/images/app:1/history": document(list(reversed(HISTORY))),
            "/images/json": document([]),
        }
        self.asked: list[str] = []
        self.taken = 0
        self.environ = {"DOCKER_HOST": f"unix://{path}"}

    def inspect(self, replies: Mapping[str, Reply], platform: Platform | None = None) -> Image:
        self.replies |= replies
        with closing(Daemon(self.environ)) as daemon:
            return daemon.inspect("app:1", platform).image

    def push(self, reply: Reply) -> None:
        """Let an image be pushed to `here/x`, whatever that is."""
        self.replies |= {"/images/here/x/push": reply}
        self.replies |= {
            f"/images/{ID}/json": document({**SHOWN, "RepoTags": ["app:1"]}),
            f"/images/{ID}/tag": document(b"", "201 Created"),
            f"/images/here/x:{PUSH_TAG}": document([]),
        }
        with closing(Daemon(self.environ)) as daemon, daemon.pushing(daemon.inspect("app:1"), "here/x") as push:
            push()


class _Handler(socketserver.StreamRequestHandler):
    server: Playing

    def handle(self) -> None:
        while words := self.rfile.readline().split():
            length = 0
            while line := self.rfile.readline().strip().lower():
                length = int(line.rpartition(b":")[2]) if line.startswith(b"content-length") else length
            self.rfile.read(length)
            path = words[1].decode().partition("?")[0]
            path = path if path.startswith("/version") else "/" + path.split("/", 2)[2]
            self.server.asked.append(path)
            reply = self.server.replies.get(path, document({"message": "no such thing"}, "404 Not Found"))
            try:
                for data in [reply] if isinstance(reply, bytes) else reply():
                    self.wfile.write(data)
                    self.server.taken += len(data)
            except OSError:
                return
            if not isinstance(reply, bytes):
                return


@pytest.fixture
def playing(tmp_path: Path) -> Iterator[Playing]:
    server = Playing(tmp_path / "s")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def for_ever(head: bytes, chunk: bytes) -> Callable[[], Iterator[bytes]]:
    def stream() -> Iterator[bytes]:
        yield head
        while True:
            yield chunk

    return stream


def test_an_honest_answer_is_an_image(playing: Playing) -> None:
    image = playing.inspect({}, Platform("linux", "amd64"))
    assert (image.id, image.diff_ids, str(image.platform)) == (ID, (BASE, ID), "linux/amd64")
    assert [layer.size for layer in image.layers] == [10, 20]


def test_an_id_without_an_algorithm_is_podmans(playing: Playing) -> None:
    assert playing.inspect({"/images/app:1/json": document({**SHOWN, "Id": ID[7:]})}).id == ID


@pytest.mark.parametrize(
    ("reference", "tags", "names"),
    [
        ("aaaaaa", [], ()),
        ("aaaaaa", ["app:1"], ()),
        ("a", ["app:1"], ()),
        ("sha256:aaaa", ["app:1"], ()),
        ("aaaaaa", ["aaaaaa:latest"], ("docker.io/library/aaaaaa:latest",)),
        ("aaaaaa", ["docker.io/library/aaaaaa:latest"], ("docker.io/library/aaaaaa:latest",)),
        ("aaaaaa", ["localhost/aaaaaa:latest"], ("docker.io/library/aaaaaa:latest",)),
        ("aaaaaa", ["aaaaaa:2"], ()),
        ("sha256:aaaa", ["sha256:aaaa"], ("docker.io/library/sha256:aaaa",)),
        ("cafe", [], ("docker.io/library/cafe:latest",)),
    ],
)
def test_the_beginning_of_an_id_is_no_name_unless_the_daemon_has_one(
    playing: Playing, reference: str, tags: list[str], names: tuple[str, ...]
) -> None:
    """As docker understands it: the name first, then the ID."""
    playing.replies |= {
        f"/images/{reference}/json": document({**SHOWN, "RepoTags": tags}),
        f"/images/{reference}/history": document(HISTORY),
    }
    with closing(Daemon(playing.environ)) as daemon:
        assert daemon.inspect(reference).names == names


@pytest.mark.parametrize(
    "more",
    [
        {"Id": f"{ID}\nend\ntag {BASE} victim:prod"},
        {"Id": f"{ID}\n"},
        {"Id": ["x"]},
        {"Id": None},
        {"Os": "li\nnux"},
        {"Os": ""},
        {"Architecture": ""},
        {"Architecture": 5},
        {"Variant": "v7 x"},
        {"RootFS": {"Layers": [BASE, f"{ID}\nend\ntag {BASE} victim:prod\ndone"]}},
        {"RootFS": {"Layers": ID}},
        {"RootFS": ["Layers"]},
        {"RootFS": {"Layers": [ID] * (limits.LAYERS + 1)}},
        {"RepoDigests": "abc"},
        {"GraphDriver": {"Name": ["overlay2"]}},
        {"Size": True},
    ],
)
def test_what_is_no_digest_and_no_word_becomes_none(playing: Playing, more: dict[str, Any]) -> None:
    with pytest.raises(SourceError) as caught:
        playing.inspect({"/images/app:1/json": document({**SHOWN, **more})})
    assert "app:1" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("path", ["/version", "/images/app:1/json", "/images/app:1/history"])
@pytest.mark.parametrize("body", [b"", b"5", b'"abc"', b"[5]", b"[[]]", b"[" * 10_000, b"9" * 5000, b"\xff", b"{"])
def test_what_is_no_document_is_refused(playing: Playing, path: str, body: bytes) -> None:
    with pytest.raises(SourceError, match="is damaged"):
        playing.inspect({path: document(body)})


@pytest.mark.parametrize("body", [b"5", b"[5]", b"[[1]]", b'[{"Id": "../x", "Size": 1, "RepoDigests": ["a"]}]'])
def test_nor_is_a_list_of_images_read_that_is_none(playing: Playing, body: bytes) -> None:
    """What has no objects in it names no image; the digests that a daemon knows are a guess all the same."""
    try:
        playing.inspect({"/images/json": document(body)})
    except SourceError as error:
        assert "list of images is damaged" in error.message  # noqa: PT017 - or nothing is raised


@pytest.mark.parametrize(
    "reply",
    [
        for_ever(UNTIL_THE_END, b'"aaaa",' * 8000),
        for_ever(CHUNKED, b"1\r\n[\r\n" * 8000),
        for_ever(CHUNKED + b"-1\r\n", bytes(65536)),
        for_ever(CHUNKED + b"1;", b"a" * 65536),
        for_ever(CHUNKED + b"2\r\n{}\r\n0\r\n", b"A: b\r\n" * 8000),
        for_ever(b"HTTP/1.1 200 OK\r\nA: ", b"a" * 65536),
        for_ever(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 8000),
        for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
        for_ever(b"HTTP/1.1 500 Oh\r\n\r\n", b"a" * 65536),
        for_ever(b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\n\r\n", b"a" * 65536),
        for_ever(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", b"\x1f\x8b" * 30_000),
    ],
    ids=["body", "chunks", "minus", "extension", "trailers", "header", "headers", "continue", "error", "moved", "zip"],
)
def test_an_answer_without_end_is_not_read_for_ever(playing: Playing, reply: Reply) -> None:
    with pytest.raises(SourceError, match=r"is refused|does not answer"):
        playing.inspect({"/images/app:1/json": reply})
    assert playing.taken < 2 * limits.LISTING
    assert "/elsewhere" not in playing.asked


def test_a_daemon_of_thousands_of_images_is_asked_about_the_largest(playing: Playing) -> None:
    labels = {f"org.example.{number}": "[{" + "x" * 40 for number in range(20)}
    told = {"RepoDigests": ["x@y"], "RepoTags": ["x:1"], "Labels": labels}
    rows = [{"Id": f"sha256:{number:064x}", "Size": number % 40, **told} for number in range(10_000)]
    data = json.dumps(rows).encode()
    assert len(data) > 10_000_000
    base = f"sha256:{30:064x}"
    shown = document({"RootFS": {"Layers": [BASE]}})
    image = playing.inspect({"/images/json": document(data), f"/images/{base}/json": shown})
    assert len([path for path in playing.asked if path.startswith("/images/sha256:")]) == 16
    with closing(Daemon(playing.environ)) as daemon:
        assert daemon.inspect("app:1").known == {BASE}
    assert image.id == ID


def test_an_image_for_another_platform_is_refused(playing: Playing) -> None:
    with pytest.raises(SourceError, match="app:1 is for linux/amd64, not for linux/arm64"):
        playing.inspect({}, Platform("linux", "arm64"))


def test_an_image_that_is_not_there_is_told_so(playing: Playing) -> None:
    with pytest.raises(SourceError, match="has no image app:1"):
        playing.inspect({"/images/app:1/json": document({"message": "No such image: app:1"}, "404 Not Found")})


@pytest.mark.parametrize("body", [b'{"message": ["x"]}', b"[1]", b"[" * 10_000, b"9" * 5000, b"", b"<html>\n<body>"])
def test_an_error_is_one_line_whatever_it_is(playing: Playing, body: bytes) -> None:
    with pytest.raises(SourceError, match="does not show app:1: ") as caught:
        playing.inspect({"/images/app:1/json": document(body, "500 Oh")})
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500


def test_a_push_that_says_its_error_in_the_stream_has_failed(playing: Playing) -> None:
    playing.push(document(b'{"status": "Pushing"}\r\n\r\n{"status": "x", "progressDetail": {"current": 1}}\r\n'))
    with pytest.raises(SourceError, match="could not push: denied"):
        playing.push(document(b'{"status": "Pushing"}\r\n{"error": "denied"}\r\n'))


@pytest.mark.parametrize(
    "reply",
    [
        document(b"[1]\n"),
        document(b"[" * 10_000 + b"\n"),
        document(b"9" * 5000),
        document({"error": "x" * 1_000_000}),
        document({"error": ["x"]}),
        for_ever(UNTIL_THE_END, b'{"status": "x"' * 4000),
    ],
)
def test_a_push_that_says_something_else_is_refused(playing: Playing, reply: Reply) -> None:
    with pytest.raises(SourceError) as caught:
        playing.push(reply)
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("line", [b"\n", b'{"status": "Waiting"}\n'])
def test_a_push_does_not_wait_for_ever_though_it_talks(
    playing: Playing, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROGRESS_LINES", 10_000)
    with pytest.raises(SourceError, match="more than 10000 lines"):
        playing.push(for_ever(UNTIL_THE_END, line * 500))


def test_a_daemon_that_has_gone_is_told_so(playing: Playing) -> None:
    """Its socket is gone, too: `No such file or directory` alone says nothing."""
    with closing(Daemon(playing.environ)) as daemon:
        image = daemon.inspect("app:1")
        Path(playing.environ["DOCKER_HOST"].removeprefix("unix://")).unlink()
        answers = pytest.raises(SourceError, match=r"the docker daemon at unix://\S+ does not answer")
        with answers as caught, daemon.pushing(image, "here/x") as push:
            push()
        assert "Start it" in caught.value.hint


@pytest.mark.parametrize("url", ["ssh://me:secret@build.example", "tcp://me:secret@127.0.0.1:1"])
def test_a_password_in_an_address_is_not_shown(url: str) -> None:
    with pytest.raises(UsageError, match="has a password") as caught:
        Daemon({"DOCKER_HOST": url})
    assert "secret" not in caught.value.message


def test_a_connection_serves_one_question_after_another(playing: Playing, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    connect = socket.socket.connect

    def connected(own: socket.socket, address: str) -> None:
        made.append(address)
        connect(own, address)

    monkeypatch.setattr(socket.socket, "connect", connected)
    playing.inspect({})
    assert len(made) == 1


@pytest.mark.parametrize("content", [[], {"proxies": 5}, {"proxies": {"default": []}}])
def test_a_configuration_that_is_none_is_told_of(
    playing: Playing, content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    try:
        playing.inspect({})
    except SourceError as error:
        assert "does not answer" in error.message  # noqa: PT017 - or the SDK can do without
