"""The one door of output: what others say stays text, and no encoding, disk or reader fails a push."""

import errno
import gc
import io
import json
import os
import sys
import threading
from typing import Any

import pytest

import layerferry.__main__ as entry
from layerferry import cli, streams
from layerferry.cli.around import end
from layerferry.errors import LayerferryError, TargetError
from layerferry.streams import Stream, stderr, stdout, taken

PAINT = "\x1b]0;x\x07\r::add-mask::x\u2028##vso[x] ##teamcity[x] \u202e\x9b31m"


class Refusing(io.StringIO):
    """A file that takes `room` characters, then fails."""

    def __init__(self, number: int, room: int = 0) -> None:
        super().__init__()
        self.number, self.room = number, room

    def write(self, text: str) -> int:
        if len(self.getvalue()) + len(text) > self.room:
            raise OSError(self.number, "it is full")
        return super().write(text)


def made(encoding: str = "utf-8") -> tuple[Stream, io.BytesIO]:
    data = io.BytesIO()
    return Stream(io.TextIOWrapper(data, encoding=encoding, errors="strict", write_through=True)), data


def is_harmless(line: str) -> bool:
    return line.isprintable() and not line.lstrip().startswith("::") and "##vso[" not in line and "##team" not in line


# Words.


def test_a_line_is_one_line_whatever_is_in_it() -> None:
    stream, data = made()
    stream.line(f"name{PAINT}\nanother ::error::x")
    (line,) = data.getvalue().decode().splitlines()
    assert is_harmless(line)


def test_its_indent_and_its_columns_stay() -> None:
    stream, data = made()
    stream.line("  ✓ 7 layers reused              812.0 MB")
    assert data.getvalue().decode() == "  ✓ 7 layers reused              812.0 MB\n"


def test_an_error_is_a_sentence_and_its_hint_is_indented_line_by_line() -> None:
    stream, data = made()
    stream.complain(TargetError(f"it says\n{PAINT}", hint=f"Add:\nhost ssh-ed25519 AAAA\n{PAINT}"))
    first, *more = data.getvalue().decode().splitlines()
    assert first.startswith("layerferry: it says ")
    assert more[:2] == ["  Add:", "  host ssh-ed25519 AAAA"]
    assert all(line.startswith("  ") for line in more)
    assert all(map(is_harmless, [first, *more]))


@pytest.mark.parametrize("sign", ["a", "é", "\x1b", "🚢", "::", "\n"])
def test_a_long_message_loses_its_middle(sign: str) -> None:
    stream, data = made()
    stream.complain(TargetError("the first words " + sign * 1_000_000 + " the last", hint="See " + sign * 1_000_000))
    first = data.getvalue().split(b"\n")[0]
    assert len(first) <= 2000
    assert first.startswith(b"layerferry: the first words ")
    assert first.endswith(b" the last")
    assert len(data.getvalue()) < 10_000


def test_whoever_prints_by_himself_is_neutralised_too(capsys: pytest.CaptureFixture[str]) -> None:
    with taken():
        print("one", PAINT)
        print("::add", end="")
        print("-mask::x")
        print("##", end="")
        print("vso[x]", end="")
        sys.stderr.write(PAINT)
        assert stdout() is stdout()
    assert stdout() is not stdout()
    said = capsys.readouterr()
    assert all(map(is_harmless, (said.out + said.err).splitlines()))
    assert "\none" not in said.out
    assert ": :add-mask: :x\n# #vso[x]" in said.out


def test_a_traceback_is_neutralised_line_by_line_and_bounded() -> None:
    stream, data = made()
    error = TargetError(f"{PAINT}\n::stop-commands::x\n" + "x" * 1_000_000)
    with pytest.raises(TargetError) as caught:
        raise error
    stream.traceback(caught.value)
    lines = data.getvalue().decode().splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert all(map(is_harmless, lines))
    assert len(data.getvalue()) <= (1 << 16) + 1


def test_what_is_ours_goes_out_as_it_is() -> None:
    stream, data = made()
    stream.verbatim.write("\x1b[0Ksection_start:1:x\r\x1b[0K::group::x\n")
    assert data.getvalue() == b"\x1b[0Ksection_start:1:x\r\x1b[0K::group::x\n"


def test_no_ones_line_comes_between_a_line() -> None:
    stream, data = made()

    def say(sign: str) -> None:
        for _ in range(200):
            stream.line(sign * 50)

    threads = [threading.Thread(target=say, args=(sign,)) for sign in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {line for line in data.getvalue().decode().splitlines() if len(set(line)) != 1} == set()
    assert len(data.getvalue().splitlines()) == 800


# Encodings.


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("ascii", b"+ x ^ -> ... - gr\\xf6\\xdfer \\u5927 \\U0001f6a2\n"),
        ("latin-1", b"+ x ^ -> ... \xb7 gr\xf6\xdfer \\u5927 \\U0001f6a2\n"),
        ("utf-8", "✓ ✗ ↑ → … · größer 大 🚢\n".encode()),
    ],
)
def test_our_signs_have_a_form_in_every_encoding(encoding: str, told: bytes) -> None:
    stream, data = made(encoding)
    stream.line("✓ ✗ ↑ → … · größer 大 🚢")
    assert data.getvalue() == told


def test_an_argument_that_is_no_utf_8_is_spelt_out() -> None:
    stream, data = made()
    stream.line("app\udcff is not an image name")
    assert data.getvalue() == b"app\\udcff is not an image name\n"


# What cannot be written.


def test_a_full_disk_is_remembered_and_no_error() -> None:
    stream = Stream(Refusing(errno.ENOSPC, room=10))
    stream.line("short")
    stream.line("this is too long by far")
    stream.line("x")
    stream.flush()
    assert stream.trouble == "it is full"


def test_a_reader_that_has_gone_is_none() -> None:
    stream = Stream(Refusing(errno.EPIPE))
    stream.document({"results": []})
    assert stream.trouble == ""


@pytest.mark.parametrize(("code", "asked", "ends"), [(0, True, 1), (0, False, 0), (5, True, 5), (5, False, 5)])
def test_the_exit_code_is_the_images_unless_all_that_was_asked_for_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, asked: bool, ends: int
) -> None:
    monkeypatch.setattr(sys, "stdout", Stream(Refusing(errno.ENOSPC)))
    stdout().line("something")
    with pytest.raises(SystemExit) as ended:
        end(code, asked=asked)
    assert ended.value.code == ends
    assert capsys.readouterr().err.startswith("layerferry: stdout could not be written: it is full\n")


def test_what_still_waits_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Stream(Refusing(errno.ENOSPC)))
    sys.stdout.write("no end of a line")
    with pytest.raises(SystemExit) as ended:
        end(0, asked=True)
    assert ended.value.code == 1


# JSON.


def test_json_goes_through_the_door_unchanged() -> None:
    stream, data = made("ascii")
    stream.document({"a": PAINT})
    assert json.loads(data.getvalue()) == {"a": PAINT}
    other, more = made()
    other.write(data.getvalue().decode())
    assert more.getvalue() == data.getvalue()


# The end of all.


@pytest.mark.parametrize("words", [[], ["--debug"]])
def test_a_fault_of_ours_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    def fails(*_: Any) -> None:
        raise ValueError(PAINT)

    monkeypatch.setattr(sys, "argv", ["layerferry", "push", *words])
    monkeypatch.setattr(entry, "take", lambda: None)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(cli, "main", fails)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == LayerferryError.exit_code == 1
    lines = capsys.readouterr().err.splitlines()
    assert all(map(is_harmless, lines))
    assert lines[-2].startswith("layerferry: a fault in layerferry itself: ValueError: ")
    assert ("Traceback (most recent call last):" in lines) is bool(words)


def test_the_streams_are_found_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert stderr() is not streams.stderr()
    with taken():
        assert stderr() is sys.stderr
        assert stderr() is streams.stderr()


# Terminals.


def complained(monkeypatch: pytest.MonkeyPatch, width: int, error: LayerferryError) -> list[str]:
    """The lines of an error on a terminal of that width."""
    out, data = made()
    monkeypatch.setattr(out.verbatim, "isatty", lambda: True)
    monkeypatch.setattr(out.verbatim, "fileno", lambda: 2)
    monkeypatch.setattr(streams, "_traces", False)  # another test may have asked for them
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((width, 24)))
    out.complain(error)
    return data.getvalue().decode().splitlines()


def test_on_a_terminal_an_error_is_broken_at_words(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "the name deploy@nosuch.invalid is not known; of 30.0 MB, 17.4 kB had gone in 12.5 s, and no more"
    error = TargetError(message, hint="Look at what your ssh_config says of this host, and try once more.")
    for width in (40, 41, 42, 43, 44, 45, 46, 47, 80):
        lines = complained(monkeypatch, width, error)
        assert all(len(line) <= width for line in lines)
        assert " ".join(map(str.strip, lines)) == f"layerferry: {message} {error.hint}"
        assert all(line.startswith("  ") for line in lines[1:])
        assert all(any(amount in line for line in lines) for amount in ("30.0 MB", "17.4 kB", "12.5 s"))
    assert len(complained(monkeypatch, 200, error)) == 2


@pytest.mark.parametrize(
    "hint",
    [
        "The image comes last: layerferry rollback deploy@prod registry.example.com/team/app:latest.",
        "registry.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5wuZ",
        "Build it first: `docker compose --file compose.yaml build --pull`.",
    ],
)
def test_what_is_to_be_copied_stays_one_line(monkeypatch: pytest.MonkeyPatch, hint: str) -> None:
    assert complained(monkeypatch, 40, TargetError("no", hint=hint)) == ["layerferry: no", f"  {hint}"]
