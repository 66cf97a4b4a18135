"""Layers out of the folders in which a daemon keeps them: bit for bit what they were, or an error that says so."""

import base64
import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerferry.errors import SourceError
from layerferry.oci.image import Image, Layer, Platform, digest_of
from layerferry.sources.daemon.layer_folders import FolderContent, LayerFolders

Entries = list[dict[str, Any]]


def tar_of(members: dict[str, bytes], *, of: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar with directories, long names, links and an owner, whatever is asked for, and padding at its end."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=of, encoding="utf-8", errors="surrogateescape") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.uid = len(data), 1.5, 1000
            tar.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo("usr/link")
        link.type, link.linkname = tarfile.LNKTYPE, next(iter(members))
        tar.addfile(link)
    return file.getvalue()


def split(tar: bytes) -> Entries:
    """A tar as tar-split has it: what is not the content of a file, and names for what is (vbatts/tar-split)."""
    entries, at = Entries(), 0
    with tarfile.open(fileobj=io.BytesIO(tar), encoding="utf-8", errors="surrogateescape") as read:
        for member in read:
            entries.append({"type": 2, "payload": base64.b64encode(tar[at : member.offset_data]).decode()})
            name = member.name.encode(errors="surrogateescape")
            named = {"name": name.decode(errors="replace")}
            if named["name"].encode() != name:
                named["name_raw"] = base64.b64encode(name).decode()
            at = member.offset_data + (member.size if member.isreg() else 0)
            entries.append({"type": 1, **named, "size": member.size if member.isreg() else 0, "payload": "AAAA"})
    return [*entries, {"type": 2, "payload": base64.b64encode(tar[at:]).decode()}]


class Store:
    """A daemon's data root with one image of one layer."""

    def __init__(self, root: Path, tar: bytes, entries: Entries | None = None) -> None:
        self.root = root
        self.files = root / "overlay2/abc/diff"
        self.files.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(tar), encoding="utf-8", errors="surrogateescape") as read:
            read.extractall(self.files, filter="fully_trusted")
        config = json.dumps({"rootfs": {}}).encode()
        layers = Layer.chain([digest_of(tar)], [len(tar)])
        self.image = Image("app:1", digest_of(config), Platform("linux", "amd64"), layers)
        self.layer = root / "image/overlay2/layerdb/sha256" / layers[0].chain_id.removeprefix("sha256:")
        self.layer.mkdir(parents=True)
        (self.layer / "cache-id").write_text("abc")
        self.write(split(tar) if entries is None else entries)
        self.config = root / "image/overlay2/imagedb/content/sha256" / self.image.id.removeprefix("sha256:")
        self.config.parent.mkdir(parents=True)
        self.config.write_bytes(config)

    def write(self, entries: Entries, *, end: bytes = b"") -> None:
        lines = b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
        (self.layer / "tar-split.json.gz").write_bytes(gzip.compress(lines + end))

    @property
    def folders(self) -> LayerFolders:
        return LayerFolders(self.root, "/var/lib/docker")

    def read(self) -> bytes:
        """The layer, as a push would read it."""
        with FolderContent(self.folders, self.image, frozenset(self.image.diff_ids)) as content:
            (blob,) = [(blob, b"".join(blob.chunks)) for blob in content.blobs()]
            assert blob[0].descriptor.size == len(blob[1]) == content.received
            assert content.finish().descriptors == {blob[0].diff_id: blob[0].descriptor}
        return blob[1]


MEMBERS = {
    "usr/lib/a.so": os.urandom(700_000),
    "empty": b"",
    "usr/" + "long/" * 40 + "name": b"long",
    "usr/\udce9t\udce9": b"latin-1",
    "usr/été\n": b"two lines",
}


@pytest.mark.parametrize("of", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_layer_is_bit_for_bit_what_it_was(tmp_path: Path, of: int) -> None:
    tar = tar_of(MEMBERS, of=of)
    store = Store(tmp_path, tar)
    assert store.folders.has(store.image.layers)
    assert hashlib.sha256(store.read()).digest() == hashlib.sha256(tar).digest()


def test_a_file_behind_a_link_within_the_layer_is_read(tmp_path: Path) -> None:
    """As in a tar with `lib -> usr/lib` and then `lib/x`, which debootstrap makes."""
    store = Store(tmp_path, tar_of({"usr/lib/x": b"x"}))
    (store.files / "lib").symlink_to("usr/lib")
    entries = split(tar_of({"usr/lib/x": b"x"}))
    store.write([entry | {"name": "/lib/x"} if entry.get("name") == "usr/lib/x" else entry for entry in entries])
    assert store.read() == tar_of({"usr/lib/x": b"x"})


def outside(store: Store) -> None:
    (store.files / "usr/lib/x").unlink()
    (store.files / "usr/lib").rmdir()
    (store.files / "usr/lib").symlink_to(store.root)
    (store.root / "x").write_bytes(b"x")


def above(store: Store) -> None:
    (store.root / "overlay2/abc/x").write_bytes(b"x")
    store.write([{"type": 1, "name": "../x", "size": 1}])


def pipe(store: Store) -> None:
    (store.files / "usr/lib/x").unlink()
    os.mkfifo(store.files / "usr/lib/x")


def link(store: Store) -> None:
    (store.files / "usr/lib/x").rename(store.files / "y")
    (store.files / "usr/lib/x").symlink_to("../../y")


def cut(store: Store) -> None:
    (store.files / "usr/lib/x").write_bytes(b"")


def other(store: Store) -> None:
    (store.files / "usr/lib/x").write_bytes(b"y")


def gone(store: Store) -> None:
    (store.files / "usr/lib/x").unlink()


def no_folder(store: Store) -> None:
    (store.layer / "cache-id").write_text("../../..")


def no_entry(store: Store) -> None:
    store.write([], end=b"[]\n")


def no_size(store: Store) -> None:
    store.write([{"type": 1, "name": "usr/lib/x", "size": "many"}])


def no_gzip(store: Store) -> None:
    (store.layer / "tar-split.json.gz").write_bytes(b"no gzip")


def half(store: Store) -> None:
    path = store.layer / "tar-split.json.gz"
    path.write_bytes(path.read_bytes()[:-20])


def no_config(store: Store) -> None:
    store.config.write_bytes(b"{}")


BROKEN = (outside, above, pipe, link, cut, other, gone, no_folder, no_entry, no_size, no_gzip, half, no_config)


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_no_longer_as_it_was_is_an_error(tmp_path: Path, broken: Callable[[Store], None]) -> None:
    store = Store(tmp_path, tar_of({"usr/lib/x": b"x"}))
    broken(store)
    with pytest.raises(SourceError, match=r"is damaged|cannot be read"):
        store.read()


def test_a_layer_that_is_not_there_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path, tar_of({"x": b"x"}))
    (store.layer / "tar-split.json.gz").unlink()
    assert not store.folders.has(store.image.layers)


@pytest.mark.parametrize(
    ("url", "upper"),
    [
        ("http://localhost:2375", "/var/lib/docker/overlay2/abc/diff"),
        ("unix:///run/docker.sock", "/var/lib/docker/btrfs/subvolumes/abc"),
        ("unix:///run/docker.sock", "/var/lib/../overlay2/abc/diff"),
        ("unix:///run/docker.sock", "overlay2"),
        ("unix:///run/docker.sock", ""),
    ],
)
def test_what_is_not_of_this_machine_has_no_folders_here(url: str, upper: str) -> None:
    assert LayerFolders.find(url, upper) is None
