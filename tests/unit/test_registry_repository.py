"""What the sender sees of a push: blobs as they arrive, the manifest at its end, and how it was broken off."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerferry.embedded_registry.error_answers import Refused
from layerferry.embedded_registry.http_server import BrokenRequest, RequestBody
from layerferry.embedded_registry.push_repository import PushRepository
from layerferry.embedded_registry.pushed_manifest import PushedManifest
from layerferry.embedded_registry.spool import Spool
from layerferry.errors import SourceError
from layerferry.oci import limits
from layerferry.oci.image import MEDIA_TYPE_MANIFEST, digest_of


@pytest.fixture
def repository(tmp_path: Path) -> PushRepository:
    return PushRepository("app", Spool(tmp_path, 1000))


def upload(repository: PushRepository, data: bytes) -> str:
    with repository.borrow(repository.open_upload().id) as opened:
        repository.receive(opened, RequestBody(len(data), iter([data])))
        repository.commit(opened, digest_of(data))
    return digest_of(data)


def manifest(tag: str = "1", **more: object) -> PushedManifest:
    document = {"schemaVersion": 2, "mediaType": MEDIA_TYPE_MANIFEST, **more}
    return PushedManifest.parse(json.dumps(document).encode(), media_type=MEDIA_TYPE_MANIFEST, tag=tag)


def soon(action: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(0.02, action)
    timer.start()
    return timer


def test_blobs_are_seen_as_they_arrive_and_until_the_manifest_comes(repository: PushRepository) -> None:
    first = upload(repository, b"first")
    seen = repository.completed()
    assert next(seen).digest == first
    timer = soon(lambda: upload(repository, b"second"))
    assert next(seen).digest == digest_of(b"second")
    timer.join()
    soon(lambda: repository.put_manifest(manifest()))
    assert list(seen) == []


@pytest.mark.parametrize(
    ("expected", "length", "needed"), [(0, None, "more"), (5000, None, "4000"), (0, 3000, "3000"), (5000, 1, "4000")]
)
def test_where_there_is_no_room_what_is_needed_is_told_with_what_to_do(
    repository: PushRepository, expected: int, length: int | None, needed: str
) -> None:
    """A daemon tells it as a text of its own; whoever waits for the manifest hears all of it."""
    upload(repository, b"x" * 1000)
    repository.expected = expected
    with repository.borrow(repository.open_upload().id) as opened, pytest.raises(Refused):
        repository.receive(opened, RequestBody(length, iter([b"y"])))
    with pytest.raises(
        SourceError, match=rf"^layers cannot be kept in \S+: 0 bytes are left .* {needed} needed$"
    ) as told:
        repository.manifest(1)
    assert told.value is repository.failure
    assert told.value.hint.startswith("TMPDIR names the folder")
    repository.claim_all()
    assert repository.failure is None


@pytest.mark.parametrize(
    "end", [PushRepository.finish, PushRepository.abort, PushRepository.claim_all, PushRepository.close]
)
def test_whoever_waits_is_released_when_the_push_ends(
    repository: PushRepository, end: Callable[[PushRepository], None]
) -> None:
    soon(lambda: end(repository))
    assert list(repository.completed()) == []


def test_a_blob_that_arrives_before_the_end_is_not_missed(repository: PushRepository) -> None:
    digests = [upload(repository, b"first"), upload(repository, b"second")]
    repository.finish()
    assert digests == [blob.digest for blob in repository.completed()]


def test_the_tagged_manifest_ends_the_push_and_one_by_digest_does_not(repository: PushRepository) -> None:
    repository.put_manifest(manifest(tag=""))
    with pytest.raises(SourceError, match="no manifest was pushed"):
        repository.manifest(0.01)
    soon(lambda: repository.put_manifest(manifest()))
    assert repository.manifest(5).tag == "1"
    assert len(repository.manifests) == 1


def test_a_second_manifest_makes_a_push_void_where_one_is_all_there_may_be(repository: PushRepository) -> None:
    """Whichever came first: nothing tells which of the two is the daemon's."""
    repository.claim_all(budget=0, once=True)
    for tag in ("", "learn", "learn"):  # an index's manifest, the index, and that again after a broken connection
        repository.put_manifest(manifest(tag))
    assert repository.manifest(0.01).tag == "learn"
    with pytest.raises(Refused, match="two manifests"):
        repository.put_manifest(manifest("other", annotations={"a": "b"}))
    with pytest.raises(SourceError, match="two manifests"):
        repository.manifest(0.01)
    with pytest.raises(Refused, match="two manifests"):
        repository.put_manifest(manifest("learn"))
    repository.claim_all(budget=0, once=True)
    repository.put_manifest(manifest("learn"))
    assert repository.manifest(0.01).tag == "learn"


def test_a_push_that_ended_without_a_manifest_has_none(repository: PushRepository) -> None:
    soon(repository.finish)
    with pytest.raises(SourceError, match="ended without a manifest"):
        repository.manifest(5)


def test_a_push_that_was_broken_off_says_why(repository: PushRepository) -> None:
    soon(lambda: repository.abort("the tunnel is down"))
    with pytest.raises(SourceError, match="broken off: the tunnel is down"):
        repository.manifest(5)
    assert repository.refused == "the tunnel is down"


def test_a_new_push_knows_blobs_of_the_last_one_but_not_its_manifests(repository: PushRepository) -> None:
    digest = upload(repository, b"data")
    repository.put_manifest(manifest())
    repository.claim_only({})
    assert repository.size_of(digest) == 4
    assert (repository.received, repository.refused, repository.manifests) == (0, "", {})
    with pytest.raises(Refused, match="MANIFEST_UNKNOWN"):
        repository.find_manifest("1")


def test_a_body_under_way_is_refused_when_the_push_is_aborted(repository: PushRepository) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"first"
        repository.abort()
        yield b"second"

    with repository.borrow(repository.open_upload().id) as opened, pytest.raises(Refused, match="DENIED"):
        repository.receive(opened, RequestBody(None, chunks()))
    assert repository.received == 5


def test_a_body_of_an_earlier_push_does_not_count_for_the_next_one(repository: PushRepository) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"first"
        repository.claim_all(budget=3)
        yield b"second"

    with repository.borrow(repository.open_upload().id) as opened, pytest.raises(Refused, match="another push"):
        repository.receive(opened, RequestBody(None, chunks()))
    assert (repository.received, repository.refused) == (0, "")


def test_a_body_that_stops_short_leaves_nothing(repository: PushRepository, tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"first"
        raise BrokenRequest

    upload_id = repository.open_upload().id
    with repository.borrow(upload_id) as opened, pytest.raises(BrokenRequest):
        repository.receive(opened, RequestBody(None, chunks()))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Refused, match="BLOB_UPLOAD_UNKNOWN"), repository.borrow(upload_id):
        pass


def test_an_upload_is_lent_to_one_request_alone(repository: PushRepository) -> None:
    upload_id = repository.open_upload().id
    with (
        repository.borrow(upload_id),
        pytest.raises(Refused, match="BLOB_UPLOAD_UNKNOWN"),
        repository.borrow(upload_id),
    ):
        pass
    with repository.borrow(upload_id) as opened:
        assert opened.open


def test_closing_discards_what_was_not_finished(repository: PushRepository, tmp_path: Path) -> None:
    repository.open_upload()
    repository.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Refused, match="DENIED"):
        repository.check()


def test_uploads_that_are_begun_and_never_ended_are_bounded(
    repository: PushRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds a file; one that is committed holds none."""
    monkeypatch.setattr(limits, "UPLOADS", 3)
    for number in range(10):
        upload(repository, bytes([number]))
    with repository.borrow(repository.open_upload().id):
        repository.open_upload()
        repository.open_upload()
        with pytest.raises(Refused, match="more than 3 uploads"):
            repository.open_upload()
    with pytest.raises(SourceError, match="more than 3 uploads"):
        repository.manifest(0.01)


def test_an_upload_is_for_one_request_at_a_time(repository: PushRepository) -> None:
    opened = repository.open_upload()
    with repository.borrow(opened.id), pytest.raises(Refused, match="UNKNOWN"), repository.borrow(opened.id):
        pass
    with repository.borrow(opened.id):
        pass


@pytest.mark.parametrize(("name", "most"), [("DOCUMENTS", 1000), ("ENTRIES", 8)])
def test_manifests_are_bounded(
    repository: PushRepository, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(limits, name, most)

    def put_many() -> None:
        for number in range(1000):
            repository.put_manifest(manifest("", annotations={"a": str(number)}))

    with pytest.raises(Refused, match="too many manifests"):
        put_many()
    with pytest.raises(SourceError, match="too many manifests"):
        repository.manifest(0.01)
