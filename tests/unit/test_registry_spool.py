"""Blobs on disk: bounded, private, checked."""

import os
from pathlib import Path

import pytest

from layerferry.embedded_registry.server import Registry
from layerferry.embedded_registry.spool import BlobUpload, Spool, SpoolFull, WrongDigest
from layerferry.errors import SourceError
from layerferry.oci.image import digest_of


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, 10)


def files(spool: Spool) -> list[Path]:
    return sorted(spool.folder.iterdir())


def test_what_was_appended_becomes_a_blob(spool: Spool) -> None:
    upload = BlobUpload(spool)
    upload.append(b"abc")
    upload.append(b"")
    upload.append(b"def")
    blob = upload.commit(digest_of(b"abcdef"))
    assert (blob.digest, blob.size, blob.path.read_bytes()) == (digest_of(b"abcdef"), 6, b"abcdef")
    assert [blob.path] == files(spool)
    assert spool.used == 6
    assert not upload.open


def test_nobody_else_can_read_it(spool: Spool) -> None:
    upload = BlobUpload(spool)
    assert files(spool)[0].stat().st_mode & 0o777 == 0o600
    assert upload.commit(digest_of(b"")).path.stat().st_mode & 0o777 == 0o600


def test_a_wrong_digest_leaves_nothing(spool: Spool) -> None:
    upload = BlobUpload(spool)
    upload.append(b"abc")
    with pytest.raises(WrongDigest, match=digest_of(b"abc")):
        upload.commit(digest_of(b"abd"))
    assert (files(spool), spool.used) == ([], 0)


def test_what_is_discarded_is_gone_once(spool: Spool) -> None:
    upload = BlobUpload(spool)
    upload.append(b"abc")
    upload.discard()
    upload.discard()
    assert (files(spool), spool.used) == ([], 0)


def test_a_committed_upload_is_not_discarded(spool: Spool) -> None:
    upload = BlobUpload(spool)
    upload.append(b"abc")
    blob = upload.commit(digest_of(b"abc"))
    upload.discard()
    assert blob.path.exists()
    assert spool.used == 3


def test_all_uploads_share_one_bound(spool: Spool) -> None:
    first, second = BlobUpload(spool), BlobUpload(spool)
    first.append(b"123456")
    second.append(b"1234")
    with pytest.raises(SpoolFull, match=r"0 bytes are left for them, \d+ bytes free, more needed") as caught:
        second.append(b"5")
    assert caught.value.error.hint.startswith("TMPDIR names the folder")
    with pytest.raises(SpoolFull, match=r"0 bytes are left for them, \d+ bytes free, 700 needed"):
        second.append(b"5", 700)
    first.discard()
    second.append(b"567890")
    assert spool.used == 10


def test_what_is_removed_makes_room(spool: Spool) -> None:
    upload = BlobUpload(spool)
    upload.append(b"1234567890")
    blob = upload.commit(digest_of(b"1234567890"))
    with pytest.raises(SpoolFull):
        spool.require(1)
    spool.remove(blob)
    spool.remove(blob)
    assert (files(spool), spool.used) == ([], 0)
    spool.require(10)


def test_a_full_disk_is_a_full_spool(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> int:
        raise OSError(28, "No space left on device")

    upload = BlobUpload(spool)
    monkeypatch.setattr(os, "write", no_space)
    with pytest.raises(SpoolFull, match=r"No space left on device, \d+ bytes free, 300 needed"):
        upload.append(b"abc", 300)
    upload.discard()
    assert (files(spool), spool.used) == ([], 0)


def test_a_folder_that_is_gone_is_a_full_spool(spool: Spool) -> None:
    spool.folder.rmdir()
    with pytest.raises(SpoolFull, match="No such file"):
        BlobUpload(spool)


def test_a_registry_without_a_folder_is_told(tmp_path: Path) -> None:
    says = r"^our registry cannot be started: No such file or directory$"
    with pytest.raises(SourceError, match=says), Registry(spool=tmp_path / "missing", limit=1):
        pass
