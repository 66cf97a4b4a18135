"""Hostile tars: entries with no place, of other kinds, with other sizes and ends."""

import tarfile
from collections.abc import Callable
from typing import Any

from fuzz.shipment import Member, Shipment, digest, layer, path
from fuzz.trick import TRICKS, Trick, add_member, change, top, trick

# --- names and kinds of entries


_PLACES = {
    "path traversal": "../../etc/cron.d/x",
    "path traversal inside": "blobs/sha256/../../../etc/passwd",
    "absolute path": "/etc/passwd",
    "dotted path": "./index.json",
    "hidden file": ".wh.index.json",
    "folder": "blobs/",
    "upper case digest": "blobs/sha256/" + "A" * 64,
    "short digest": "blobs/sha256/abc",
    "another algorithm": "blobs/sha512/" + "a" * 64,
    "doubled slash": "blobs//sha256/" + "a" * 64,
    "legacy layer": "abc/layer.tar",
    "repositories file": "repositories",
    "line end in a name": "index.json\n",
    "name in another script": "ïndex.json",
    "empty name": "",
}


def _at(place: str) -> Callable[[Shipment], Any]:
    return lambda shipment: add_member(shipment, Member(place, b"x"))


TRICKS.extend(Trick(what, "has no place there", _at(place)) for what, place in _PLACES.items())

_KINDS = {
    "hard link": tarfile.LNKTYPE,
    "symbolic link": tarfile.SYMTYPE,
    "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "folder entry": tarfile.DIRTYPE,
    "fifo": tarfile.FIFOTYPE,
    "contiguous file": tarfile.CONTTYPE,
    "sparse file": tarfile.GNUTYPE_SPARSE,
    "old regular file": tarfile.AREGTYPE,
    "pax header": tarfile.XHDTYPE,
    "global pax header": tarfile.XGLTYPE,
    "long name": tarfile.GNUTYPE_LONGNAME,
    "long link": tarfile.GNUTYPE_LONGLINK,
}


def _as(kind: bytes) -> Callable[[Shipment], Any]:
    def head(info: tarfile.TarInfo) -> None:
        info.type = kind

    return lambda shipment: add_member(shipment, Member("blobs/sha256/" + "a" * 64, b"", head=head))


TRICKS.extend(Trick(what, "is not a regular file|has no place there", _as(kind)) for what, kind in _KINDS.items())


@trick("is not a regular file")
def link_target_on_a_regular_file(shipment: Shipment) -> None:
    def head(info: tarfile.TarInfo) -> None:
        info.linkname = "/etc/shadow"

    top(shipment, lambda member: setattr(member, "head", head))


@trick("is of another kind of tar")
def name_of_an_owner(shipment: Shipment) -> None:
    def head(info: tarfile.TarInfo) -> None:
        info.uname = "root"

    top(shipment, lambda member: setattr(member, "head", head))


@trick("is of another kind of tar")
def prefix_in_the_header(shipment: Shipment) -> None:
    def bend(data: bytes) -> bytes:
        header = bytearray(data[:512])
        header[345:348] = b"../"
        return fix_sum(header) + data[512:]

    shipment.bend_tar = bend


@trick("a header of the archive is broken")
def wrong_checksum(shipment: Shipment) -> None:
    shipment.bend_tar = lambda data: data[:148] + b"0000001\0" + data[156:]


@trick("a number in the archive is broken")
def checksum_of_letters(shipment: Shipment) -> None:
    shipment.bend_tar = lambda data: data[:148] + b"zzzzzzz\0" + data[156:]


@trick("stands twice")
def same_blob_twice(shipment: Shipment) -> None:
    shipment.bend_members = lambda members: members.insert(1, members[1])


@trick("stands twice")
def two_manifests(shipment: Shipment) -> None:
    shipment.bend_members = lambda members: members.append(Member("manifest.json", shipment.docker()))


@trick("stands twice")
def two_indexes(shipment: Shipment) -> None:
    add_member(shipment, Member("index.json", b"{}"))


@trick("more than 4096 entries")
def endless_entries(shipment: Shipment) -> None:
    shipment.bend_members = lambda _: [Member(path(digest(b"%d" % number)), b"%d" % number) for number in range(4200)]


def fix_sum(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


# --- sizes and ends


@trick("the archive breaks off")
def archive_of_nothing(shipment: Shipment) -> None:
    shipment.bend_tar = lambda _: b""


@trick("the archive breaks off")
def half_a_header(shipment: Shipment) -> None:
    shipment.bend_tar = lambda data: data[:300]


@trick("the archive breaks off")
def no_end(shipment: Shipment) -> None:
    shipment.end = b""


@trick("the archive breaks off")
def half_an_end(shipment: Shipment) -> None:
    shipment.end = bytes(512)


@trick("half an end")
def end_and_on(shipment: Shipment) -> None:
    shipment.end = bytes(512) + Member("index.json", b"{}").tar() + bytes(1024)


@trick("goes on after its end")
def second_archive_behind_the_first(shipment: Shipment) -> None:
    shipment.end = bytes(1024) + Member("index.json", b"{}").tar() + bytes(1024)


@trick("stands between two entries")
def something_in_the_padding(shipment: Shipment) -> None:
    change(shipment, "oci-layout", lambda member: setattr(member, "padding", b"x" * (-len(member.data) % 512)))


@trick("breaks off|another digest")
def size_larger_than_the_file(shipment: Shipment) -> None:
    top(shipment, lambda member: setattr(member, "size", 1 << 40))


@trick("")
def size_smaller_than_the_file(shipment: Shipment) -> None:
    top(shipment, lambda member: setattr(member, "size", 512))


@trick("a number in the archive is broken")
def negative_size(shipment: Shipment) -> None:
    def bend(data: bytes) -> bytes:
        return fix_sum(bytearray(data[:124] + b"\xff" * 12 + data[136:512])) + data[512:]

    shipment.bend_tar = bend


@trick("breaks off|larger than")
def size_of_two_to_the_87(shipment: Shipment) -> None:
    def bend(data: bytes) -> bytes:
        return fix_sum(bytearray(data[:124] + b"\x80\x7f" + b"\xff" * 10 + data[136:512])) + data[512:]

    shipment.bend_tar = bend


@trick("may have 102400 bytes here", options=("--max-bytes", "100K"))
def more_than_a_push_may_have(shipment: Shipment) -> None:
    shipment.images[0].layers = [layer("x" * 200_000)]
