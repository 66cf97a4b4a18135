import contextlib
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from layerferry.chunks import Ahead
from layerferry.errors import SourceError
from layerferry.oci.documents import Document
from layerferry.oci.image import Image, Layer, Platform, digest_of
from layerferry.sources.daemon.api import Daemon
from layerferry.sources.daemon.client import _api_version
from layerferry.sources.daemon.export import Export
from layerferry.sources.daemon.history import HistoryEntry, layer_entries
from layerferry.sources.daemon.last_words import Aside, LastWords
from packed import tar_of


def entry(size: int, created_by: str = "RUN make") -> HistoryEntry:
    return HistoryEntry(size, created_by)


def test_sizes_are_those_of_the_entries_that_made_layers() -> None:
    assert [one.size for one in layer_entries([entry(5), entry(0, "ENV A=1"), entry(7), entry(0, 'CMD ["x"]')], 2)] == [
        5,
        7,
    ]


def test_an_empty_layer_is_told_from_what_makes_none() -> None:
    history = [entry(5), entry(0, "/bin/sh -c #(nop)  ENV A=1"), entry(0, "WORKDIR /"), entry(7)]
    assert [one.size for one in layer_entries(history, 3)] == [5, 0, 7]


def test_a_history_that_does_not_add_up_still_gives_a_size_for_each_layer() -> None:
    assert [one.size for one in layer_entries([entry(5)], 3)] == [5, 0, 0]
    assert [one.size for one in layer_entries([], 1)] == [0]
    assert [one.size for one in layer_entries([entry(1), entry(2), entry(3)], 2)] == [1, 2]


def test_reading_ahead_gives_the_same_chunks() -> None:
    assert list(Ahead(bytes([number]) for number in range(100))) == [bytes([number]) for number in range(100)]


def test_reading_ahead_hands_an_error_on() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"1"
        raise OSError("gone")

    stream = iter(Ahead(chunks()))
    assert next(stream) == b"1"
    with pytest.raises(OSError, match="gone"):
        next(stream)


def test_reading_ahead_begins_before_anybody_asks() -> None:
    asked = threading.Event()

    def chunks() -> Iterator[bytes]:
        asked.set()
        yield b"1"

    stream = Ahead(chunks())
    assert asked.wait(timeout=60)
    assert list(stream) == [b"1"]


def test_reading_ahead_stops_when_nobody_reads_on() -> None:
    before = threading.active_count()
    stream = Ahead(iter(lambda: b"endless", b""), depth=2)
    next(iter(stream))
    stream.close()
    for thread in threading.enumerate()[before:]:
        thread.join(timeout=5)
    assert threading.active_count() == before


def test_who_waits_for_what_is_no_longer_read_hears_of_it() -> None:
    asked, hangs = threading.Event(), threading.Event()

    def chunks() -> Iterator[bytes]:
        asked.set()
        hangs.wait(60)
        yield b"1"

    stream = Ahead(chunks())
    assert asked.wait(timeout=60)
    waits = Aside(LastWords())
    heard = waits.submit(lambda: list(stream))
    stream.close()
    try:
        with pytest.raises(SourceError, match=r"^reading was broken off$"):
            heard.result(30)
    finally:
        hangs.set()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TimeoutError("timed out"),
         r"the docker daemon has given nothing more of app:1 for [0-9]+ s"),
        (ConnectionResetError(104, "Connection reset by peer"),
         "the docker daemon broke off reading app:1: Connection reset by peer"),
    ],
)  # fmt: skip
def test_a_daemon_that_breaks_off_is_told(error: Exception, says: str, tmp_path: Path) -> None:
    image = Image("app:1", f"sha256:{'a' * 64}", Platform("linux", "amd64"), ())
    client = Mock()
    client.get_image.side_effect = error
    with (
        Export(client, image, "app:1", frozenset(), tmp_path, told=lambda _: None, moved=lambda *_: None) as export,
        pytest.raises(SourceError) as caught,
    ):
        list(export.blobs())
    assert re.fullmatch(says, caught.value.message)


def test_more_than_an_image_was_thought_to_have_is_not_all_of_it(tmp_path: Path) -> None:
    """A tar has headers, and what the daemon tells of a layer are its files: that is passed before the end comes."""
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": []}}).encode()
    digest = digest_of(config)
    image = Image("app:1", digest, Platform("linux", "amd64"), Layer.chain([digest_of(b"layer")], [5]))
    told: list[tuple[int, int]] = []
    archive = tar_of({f"blobs/sha256/{digest.removeprefix('sha256:')}": config})
    client = Mock()
    client.get_image.return_value = [archive[:3], archive[3:]]
    with Export(
        client,
        image,
        "app:1",
        frozenset(),
        tmp_path,
        told=lambda _: None,
        moved=lambda done, total: told.append((done, total)),
    ) as export:
        assert list(export.blobs()) == []
    assert told == [(3, 5), (4, 5), (len(archive), len(archive))]


def test_an_image_that_has_lost_its_name_is_not_pushed() -> None:
    """The name that we take away at the end would be its last: a classic daemon removes the image with it."""
    image = Image("app:1", f"sha256:{'a' * 64}", Platform("linux", "amd64"), ())
    daemon, client = Mock(host=None, _asking=lambda _: contextlib.nullcontext()), Mock()
    client.inspect_image.return_value = b"{}"
    with (
        pytest.raises(SourceError, match=r"^app:1 has no name in the docker daemon, and would be lost$"),
        Daemon._named(daemon, client, Mock(image=image), "r.example/app", None),
    ):
        pass
    client.tag.assert_not_called()


@pytest.mark.parametrize("version", ["latest", "1", "1.44.1", "1.44444"])
def test_a_version_of_the_api_is_two_numbers(version: str) -> None:
    said = json.dumps({"ApiVersion": version}).encode()
    with pytest.raises(SourceError, match=r"^the docker daemon's version is damaged: its ApiVersion is none$"):
        _api_version(said)


def test_a_step_of_the_history_is_a_string() -> None:
    with pytest.raises(SourceError, match=r"^the history is damaged: CreatedBy is not a string$"):
        HistoryEntry.of(Document({"CreatedBy": 1}, "the history"))
