"""The log of a run: who may read it, what stands in it and what never does, and what it costs where nobody asks."""

import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from layerferry import log
from layerferry.errors import SourceError, UsageError
from layerferry.oci import limits
from layerferry.targets.conduit import CommandConduit
from layerferry.targets.conversation import Conversation

SECRET = "hunter2-and/more?"
NASTY = "a\x1b[31m\rb\u202ec\x85d ::add-mask::x ##vso[task]y \udc80"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run.log"
    log.close()


def opened(path: Path, *secrets: str, **environ: str) -> None:
    log.open_file(path, secrets, environ)


def lines(path: Path) -> list[str]:
    """Without the times, and without the line that says who runs where."""
    return [re.sub(r"^ *[0-9]+\.[0-9]{3}  ", "", line) for line in path.read_text(encoding="utf-8").splitlines()[1:]]


# The file.


def test_it_is_for_its_owner_alone_also_where_it_was_there_before(path: Path) -> None:
    before = os.umask(0)
    try:
        opened(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    log.close()
    path.chmod(0o644)
    opened(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_appended_to(path: Path) -> None:
    path.write_text("before\n")
    opened(path)
    log.note("daemon", "hears")
    assert path.read_text().startswith("before\n")
    assert path.read_text().endswith("daemon       hears\n")


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine\n")
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(UsageError, match="it is a symbolic link"):
        opened(path)
    assert (tmp_path / "precious").read_text() == "mine\n"


def test_nobody_waits_for_the_reader_of_a_pipe(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(UsageError, match="cannot be written"):
        opened(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(UsageError, match="it is no file"):
        opened(path)
    os.close(reader)


@pytest.mark.parametrize("name", ["", "none/run.log", "\0", "x" * 300])
def test_what_cannot_be_opened_is_a_mistake_of_usage(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        opened(tmp_path / name)
    log.note("daemon", "nobody hears it")


def test_a_file_of_somebody_else_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("")
    path.chmod(0o622)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(UsageError, match="somebody else's"):
        opened(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o622


def test_a_full_disk_ends_the_log_and_nothing_else() -> None:
    opened(Path("/dev/full"))
    log.note("daemon", "hears")
    assert "No space left" in log.close()
    assert log.close() == ""


def test_it_has_an_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG", 1000)
    opened(path)
    for _ in range(100):
        log.note("! host", "x" * 100)
    assert path.stat().st_size <= 1000
    assert "1000 bytes" in log.close()


def test_threads_write_whole_lines(path: Path) -> None:
    def write(word: str) -> None:
        for _ in range(50):
            log.note(word, word * 50)

    opened(path)
    writers = [threading.Thread(target=write, args=(word,)) for word in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(set(lines(path))) == [f"{word:<12} {word * 50}" for word in "abcd"]
    assert len(lines(path)) == 200


# What stands in it.


def test_controls_and_commands_of_a_ci_are_spelt_out_on_one_line(path: Path) -> None:
    opened(path)
    log.note(f"> {NASTY}", f"{NASTY}\n{NASTY}")
    (line,) = lines(path)
    assert line.isprintable()
    assert "::add-mask" not in line
    assert "##vso" not in line


def test_a_line_is_bounded(path: Path) -> None:
    opened(path)
    log.note("< host", "é" * 1_000_000)
    assert len(lines(path)[0].encode()) <= limits.LOG_LINE


@pytest.mark.parametrize(
    "said",
    [SECRET, f"a{SECRET}b", "hunter2-and%2Fmore%3F", repr(SECRET), f"{'x' * 3990}{SECRET}", f"{SECRET}\n{SECRET}"],
)
def test_a_secret_is_masked_however_it_is_written(path: Path, said: str) -> None:
    opened(path, SECRET)
    log.note(f"> {SECRET}", said)
    assert "hunter2" not in path.read_text()
    assert "***" in path.read_text()


def test_each_line_of_a_secret_is_one(path: Path) -> None:
    opened(path, "-----BEGIN KEY-----\nc2VjcmV0\r\nbW9yZQ==\n-----END KEY-----\n")
    log.note("! ssh", "it says c2VjcmV0")
    log.note("! ssh", "bW9yZQ== twice")
    assert lines(path) == ["! ssh        it says ***", "! ssh        *** twice"]


def test_the_longer_of_two_secrets_is_masked_first(path: Path) -> None:
    opened(path, "abcd", "abcdefgh")
    log.note("daemon", "abcdefgh abcd")
    assert lines(path) == ["daemon       *** ***"]


def test_secrets_of_the_environment_are_masked_whosever_they_are(path: Path) -> None:
    opened(path, GITHUB_TOKEN="ghs_0123456", DB_PASSWORD="correct horse", SSH_KEY_TOKEN="/home/me/key", A_SECRET="true")
    log.note("daemon", "ghs_0123456 correct horse /home/me/key true")
    assert lines(path) == ["daemon       *** *** /home/me/key true"]


def test_a_secret_that_is_made_later_is_masked_from_then_on(path: Path) -> None:
    log.mask("nobody minds without a log")
    opened(path)
    log.mask(SECRET, "")
    log.note("daemon", SECRET)
    assert lines(path) == ["daemon       ***"]


def test_an_error_has_its_traceback_and_what_from_none_hides(path: Path) -> None:
    opened(path, SECRET)
    hidden, error = OSError(f"the socket {SECRET}"), SourceError("no daemon")
    try:
        raise error from None
    except SourceError:
        error.__context__ = hidden
        log.failure("error", error)
        log.failure("error", error)
    said = lines(path)
    assert sum(line.endswith("SourceError: no daemon") for line in said) == 1
    assert "error        OSError: the socket ***" in said
    assert any("in test_an_error_has" in line for line in said)


def test_lines_that_come_in_pieces_are_put_together(path: Path) -> None:
    opened(path, SECRET)
    said = log.Lines("! host")
    for piece in (
        b"one\ntw",
        b"o ",
        SECRET[:4].encode(),
        SECRET[4:].encode() + b"\r\n",
        b"\xff" * (1 << 20),
        b"x\nlast",
    ):
        said.feed(piece)
    said.end()
    assert lines(path)[:2] == ["! host       one", "! host       two ***"]
    assert lines(path)[-1] == "! host       last"
    assert len(lines(path)) == 4


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:hunter2@r.example/v2/", "https://r.example/v2/"),
        (
            "https://r.example/v2/app/blobs/uploads/?digest=sha256:1",
            "https://r.example/v2/app/blobs/uploads/?digest=sha256:1",
        ),
        ("https://s3.example/b?X-Amz-Signature=hunter2&n=1", "https://s3.example/b?X-Amz-Signature=***&n=1"),
        ("http+docker://localhost/v1.43/images/app:1/json", "/v1.43/images/app:1/json"),
    ],
)
def test_a_url_is_shown_without_what_is_secret_in_it(path: Path, url: str, shown: str) -> None:
    opened(path)
    response = requests.Response()
    response.request = requests.Request("GET", url, headers={"Authorization": "Basic hunter2"}).prepare()
    response.request.url = url
    response.status_code, response.elapsed = 200, timedelta(milliseconds=12)
    log.answered("registry")(response)
    assert lines(path) == [f"registry     GET {shown} 200 12 ms"]


def test_credentials_that_a_target_learns_are_masked(path: Path) -> None:
    class Target(CommandConduit):
        name = "host"
        pipelined = True

        def __init__(self) -> None:
            pass

        def write(self, data: bytes, meanwhile: Callable[[], None] | None = None) -> None:
            pass

        def read_line(self, timeout: float | None = None) -> str:
            return "learned yes"

    opened(path)
    conversation = Conversation(Target())
    conversation.learn("sha256:1", "127.0.0.1:5000/x:learn", "dG9rZW4=", "YmFzaWM=")
    assert lines(path)[-1] == "> host       learn sha256:1 127.0.0.1:5000/x:learn *** ***"
    assert re.fullmatch(r"> host       : layerferry 1 (\d+) \(and the script, \1 bytes\)", lines(path)[0])
