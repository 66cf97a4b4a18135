"""Hostile contents: digests, layers that are elsewhere, compression."""

import bz2
import gzip
import lzma
import zlib
from typing import Any

from fuzz.shipment import BASE, INCOMING, LAYER, SECRET, TOP, Member, Shipment, digest, path
from fuzz.trick import add_member, top, trick

# --- digests


@trick("has another digest")
def wrong_digest(shipment: Shipment) -> None:
    top(shipment, lambda member: setattr(member, "data", member.data.replace(b"top", b"pot")))


@trick("has another digest")
def layer_under_the_name_of_another(shipment: Shipment) -> None:
    top(shipment, lambda member: setattr(member, "name", path("sha256:" + "0" * 64)))


@trick("is not sha256:[0-9a-f]{64} when it is unpacked")
def wrong_diff_id(shipment: Shipment) -> None:
    image = shipment.images[0]
    wrong = [digest(BASE), digest(b"something else")]
    image.bend_config = lambda config: config["rootfs"].update(diff_ids=wrong)
    shipment.expect = [f"expect {INCOMING} {' '.join(wrong)}"]


@trick("other layers than were announced")
def other_diff_ids_than_announced(shipment: Shipment) -> None:
    shipment.expect = [f"expect {INCOMING} {digest(BASE)} {digest(b'else')}"]


@trick("other layers than were announced")
def fewer_layers_than_announced(shipment: Shipment) -> None:
    shipment.images[0].bend_manifest = lambda manifest: manifest.update(layers=manifest["layers"][:1])
    shipment.bend_docker = lambda docker: docker[0].update(Layers=docker[0]["Layers"][:1])
    shipment.bend_members = lambda members: [member for member in members if member.data != TOP]


@trick("not what the image's manifest says of it")
def wrong_size_in_the_manifest(shipment: Shipment) -> None:
    shipment.images[0].bend_manifest = lambda manifest: manifest["layers"][-1].update(size=7)


@trick("not what the image's manifest says of it")
def gzip_that_is_called_plain(shipment: Shipment) -> None:
    shipment.images[0].store = gzip.compress


@trick("not what the image's manifest says of it")
def plain_that_is_called_gzip(shipment: Shipment) -> None:
    shipment.images[0].media_type = f"{LAYER}+gzip"


@trick("is not in the archive")
def manifest_that_is_not_there(shipment: Shipment) -> None:
    shipment.bend_index = lambda index: index["manifests"][0].update(digest="sha256:" + "1" * 64)


@trick("is not in the archive")
def config_of_another_size(shipment: Shipment) -> None:
    shipment.images[0].bend_manifest = lambda manifest: manifest["config"].update(size=1)


@trick("neither in the archive nor known here")
def layer_that_is_nowhere(shipment: Shipment) -> None:
    shipment.bend_members = lambda members: [
        member for member in members if member.name != path(digest(shipment.images[0].blobs[-1]))
    ]


@trick("neither in the archive nor known here")
def layer_of_an_image_that_is_none_of_its_business(shipment: Shipment) -> None:
    shipment.images[0].below = [digest(SECRET)]


@trick("neither in the archive nor known here")
def known_layer_above_an_unknown_one(shipment: Shipment) -> None:
    shipment.images[0].below = [digest(SECRET), digest(BASE)]


@trick("a blob that no image names")
def blob_that_nobody_names(shipment: Shipment) -> None:
    add_member(shipment, Member(path(digest(b"stowaway")), b"stowaway"))


@trick("a document of the image is one of its layers")
def config_that_is_a_layer_as_well(shipment: Shipment) -> None:
    image = shipment.images[0]

    def bend(manifest: dict[str, Any]) -> None:
        manifest["layers"][-1].update(digest=manifest["config"]["digest"], size=manifest["config"]["size"])

    image.bend_manifest = bend
    shipment.bend_docker = lambda docker: docker[0]["Layers"].__setitem__(-1, docker[0]["Config"])


# --- compression


@trick("may have 1048576 bytes", options=("--max-bytes", "1M"))
def bomb_in_the_stream(shipment: Shipment) -> None:
    shipment.load = "load gzip"
    shipment.encode = gzip.compress
    shipment.images[0].layers = [bytes(64 << 20)]


@trick("may have 1048576 bytes", options=("--max-bytes", "1M"))
def bomb_in_a_layer(shipment: Shipment) -> None:
    shipment.images[0].layers = [bytes(64 << 20)]
    shipment.images[0].store = gzip.compress
    shipment.images[0].media_type = f"{LAYER}+gzip"


@trick("may have 1048576 bytes", options=("--max-bytes", "1M"))
def endless_members_that_hold_nothing(shipment: Shipment) -> None:
    shipment.load = "load gzip"
    shipment.encode = lambda _: gzip.compress(b"") * 80_000


@trick("is broken")
def gzip_with_something_behind_it(shipment: Shipment) -> None:
    shipment.load = "load gzip"
    shipment.encode = lambda data: gzip.compress(data) + b"more"


@trick("breaks off")
def gzip_that_breaks_off(shipment: Shipment) -> None:
    shipment.load = "load gzip"
    shipment.encode = lambda data: gzip.compress(data)[:-9]


@trick("is broken")
def gzip_with_a_wrong_checksum(shipment: Shipment) -> None:
    shipment.load = "load gzip"
    shipment.encode = lambda data: gzip.compress(data)[:-8] + bytes(8)


@trick("breaks off|is broken")
def gzip_layer_that_breaks_off(shipment: Shipment) -> None:
    shipment.images[0].store = lambda data: gzip.compress(data)[:-20]
    shipment.images[0].media_type = f"{LAYER}+gzip"


@trick("is broken")
def zlib_that_is_called_gzip(shipment: Shipment) -> None:
    shipment.load = "load gzip"
    shipment.encode = zlib.compress


@trick("compression bzip2 is not taken")
def bzip2_layer(shipment: Shipment) -> None:
    shipment.images[0].store = bz2.compress


@trick("compression xz is not taken")
def xz_layer(shipment: Shipment) -> None:
    shipment.images[0].store = lzma.compress


@trick("compression bzip2 is not taken")
def bzip2_stream(shipment: Shipment) -> None:
    shipment.load = "load bzip2"


@trick("zstd")
def gzip_that_is_called_zstd(shipment: Shipment) -> None:
    shipment.load = "load zstd"
    shipment.encode = gzip.compress


@trick("zstd")
def broken_zstd(shipment: Shipment) -> None:
    shipment.load = "load zstd"
    shipment.encode = lambda _: b"\x28\xb5\x2f\xfd" + b"garbage" * 100
