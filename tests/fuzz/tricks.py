"""Hostile clients, each with what it tries: a change to an honest shipment, and how the refusal must read.

The contract suite plays each of them to a receiver process; the fuzzer mixes them and flips their bytes.
"""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fuzz.bench import BASE_ID, SECRET_ID
from fuzz.shipment import BASE, INCOMING, LAYER, NAME, SECRET, TOP, Image, Member, Shipment, digest, layer, path


@dataclass(frozen=True)
class Trick:
    """`expected` is a regular expression for the verdict. `loads`: the engine may have seen honest bytes."""

    name: str
    expected: str
    play: Callable[[Shipment], Any]
    loads: bool = False
    options: tuple[str, ...] = ("--allow", "app:*")


TRICKS: list[Trick] = []


def trick(
    expected: str, *, loads: bool = False, options: tuple[str, ...] = ()
) -> Callable[[Callable[[Shipment], Any]], None]:
    def add(play: Callable[[Shipment], Any]) -> None:
        name = play.__name__.replace("_", " ").strip()
        TRICKS.append(Trick(name, expected, play, loads, ("--allow", "app:*", *options)))

    return add


def add_member(shipment: Shipment, member: Member, at: int = 1) -> None:
    shipment.bend_members = lambda members: members.insert(at, member)


def change(shipment: Shipment, name: str, bend: Callable[[Member], Any]) -> None:
    """Bend the members whose names start with `name`."""

    def bend_members(members: list[Member]) -> None:
        for member in members:
            if member.name.startswith(name):
                bend(member)

    shipment.bend_members = bend_members


def top(shipment: Shipment, bend: Callable[[Member], Any]) -> None:
    change(shipment, path(digest(shipment.images[0].blobs[-1])), bend)


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


# --- documents


@trick("read in just one way")
def broken_json(shipment: Shipment) -> None:
    change(shipment, "index.json", lambda member: setattr(member, "data", b'{"manifests":['))


@trick("read in just one way")
def key_twice(shipment: Shipment) -> None:
    image = shipment.images[0]
    image.config_bytes = image.config.replace(b'"os":"linux"', b'"os":"linux","os":"windows"')


@trick("can be read in two ways")
def key_in_capitals_that_go_would_take(shipment: Shipment) -> None:
    shipment.images[0].bend_config = lambda config: config.update(
        RootFS={"type": "layers", "diff_ids": [digest(SECRET)]}
    )


@trick("can be read in two ways")
def key_that_folds_to_another(shipment: Shipment) -> None:
    shipment.images[0].bend_config = lambda config: config["rootfs"].update({"diff_id\u017f": [digest(SECRET)]})


@trick("does not say just what it should")
def second_list_of_layers_in_the_manifest(shipment: Shipment) -> None:
    shipment.images[0].bend_manifest = lambda manifest: manifest.update(Layers=[])


@trick("nested too deep")
def endless_depth(shipment: Shipment) -> None:
    change(shipment, "index.json", lambda member: setattr(member, "data", b"[" * 100_000))


@trick("read in just one way")
def quotes_that_take_quadratic_time(shipment: Shipment) -> None:
    change(shipment, "index.json", lambda member: setattr(member, "data", b'"' + b'\\"' * 500_000))


@trick("larger than 1048576 bytes")
def endless_document(shipment: Shipment) -> None:
    change(shipment, "manifest.json", lambda member: setattr(member, "data", b" " * (2 << 20)))


@trick("larger than 1048576 bytes")
def endless_config(shipment: Shipment) -> None:
    shipment.images[0].config_bytes = shipment.images[0].config + b" " * (1 << 20)


@trick("read in just one way")
def number_without_an_end(shipment: Shipment) -> None:
    change(shipment, "index.json", lambda member: setattr(member, "data", b'{"a":' + b"9" * 9000 + b"}"))


@trick("read in just one way")
def document_in_utf_16(shipment: Shipment) -> None:
    change(shipment, "index.json", lambda member: setattr(member, "data", member.data.decode().encode("utf-16")))


@trick("read in just one way")
def not_a_number(shipment: Shipment) -> None:
    image = shipment.images[0]
    image.config_bytes = image.config.replace(b'"os":"linux"', b'"os":"linux","x":NaN')


@trick("without saying which")
def size_that_is_a_fraction(shipment: Shipment) -> None:
    shipment.images[0].bend_manifest = lambda manifest: manifest["layers"][-1].update(size=1.5)


@trick("is of another version")
def manifest_of_another_version(shipment: Shipment) -> None:
    shipment.images[0].bend_manifest = lambda manifest: manifest.update(schemaVersion=1)


@trick("does not say just what it should")
def layer_to_be_fetched_from_elsewhere(shipment: Shipment) -> None:
    shipment.images[0].bend_manifest = lambda manifest: manifest["layers"][0].update(urls=["http://192.0.2.1/layer"])


@trick("names a blob of another kind")
def layer_of_another_kind(shipment: Shipment) -> None:
    shipment.images[0].bend_manifest = lambda manifest: manifest["layers"][-1].update(
        mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    )


@trick("names a blob of another kind")
def index_within_the_index(shipment: Shipment) -> None:
    shipment.bend_index = lambda index: index["manifests"][0].update(
        mediaType="application/vnd.oci.image.index.v1+json"
    )


@trick("without saying which")
def digest_of_another_kind(shipment: Shipment) -> None:
    shipment.images[0].bend_manifest = lambda manifest: manifest["layers"][-1].update(digest="sha512:" + "a" * 128)


@trick("does not say its layers")
def config_without_layers(shipment: Shipment) -> None:
    shipment.images[0].bend_config = lambda config: config["rootfs"].update(diff_ids=["latest"])


@trick("does not say its platform")
def config_without_platform(shipment: Shipment) -> None:
    shipment.images[0].bend_config = lambda config: config.update(os=["linux"])


@trick("images for windows/amd64 are not taken")
def image_of_another_platform(shipment: Shipment) -> None:
    shipment.images[0].os = "windows"


@trick("is not an object")
def config_that_is_a_list(shipment: Shipment) -> None:
    shipment.images[0].config_bytes = b"[]"


@trick("does not say just what it should")
def manifest_that_is_a_list(shipment: Shipment) -> None:
    shipment.images[0].manifest_bytes = b"[[]]"


@trick("manifest.json and the image's manifest differ")
def two_manifests_that_disagree(shipment: Shipment) -> None:
    shipment.bend_docker = lambda docker: docker[0]["Layers"].reverse()


@trick("manifest.json and the image's manifest differ")
def layer_outside_the_archive(shipment: Shipment) -> None:
    shipment.bend_docker = lambda docker: docker[0]["Layers"].__setitem__(0, "../../../../etc/shadow")


@trick("index.json and the image's manifest differ")
def manifest_of_another_kind_than_the_index_says(shipment: Shipment) -> None:
    shipment.bend_index = lambda index: index["manifests"][0].update(
        mediaType="application/vnd.docker.distribution.manifest.v2+json"
    )


@trick("oci-layout does not say")
def layout_of_tomorrow(shipment: Shipment) -> None:
    change(shipment, "oci-layout", lambda member: setattr(member, "data", b'{"imageLayoutVersion":"2.0.0"}'))


def _without(name: str) -> Callable[[Shipment], Any]:
    def play(shipment: Shipment) -> None:
        shipment.bend_members = lambda members: [member for member in members if member.name != name]

    return play


TRICKS.extend(
    Trick(f"archive without {name}", "is not in the archive", _without(name))
    for name in ("oci-layout", "index.json", "manifest.json")
)


# --- names


@trick("just the images that were announced")
def name_that_was_not_announced(shipment: Shipment) -> None:
    shipment.bend_index = lambda index: index["manifests"].append(
        {
            **index["manifests"][0],
            "annotations": {
                "io.containerd.image.name": "docker.io/library/vault:1",
                "org.opencontainers.image.ref.name": "1",
            },
        }
    )


@trick("names an image in two ways")
def second_tag_in_the_docker_manifest(shipment: Shipment) -> None:
    shipment.bend_docker = lambda docker: docker[0]["RepoTags"].append("vault:1")


@trick("just the images that were announced")
def image_that_was_announced_but_did_not_come(shipment: Shipment) -> None:
    expect = f"expect {INCOMING} {' '.join(shipment.images[0].diff_ids)}"
    shipment.expect = [expect, f"expect localhost/layerferry:11 {digest(TOP)}"]


@trick("names an image in two ways")
def two_names_in_one_annotation(shipment: Shipment) -> None:
    shipment.bend_index = lambda index: index["manifests"][0]["annotations"].update(
        {"org.opencontainers.image.ref.name": "docker.io/library/vault:1"}
    )


@trick("does not say just what it should")
def a_further_annotation(shipment: Shipment) -> None:
    shipment.bend_index = lambda index: index["manifests"][0]["annotations"].update({"vnd.docker.reference.type": "x"})


@trick("the name vault:1 is not allowed here", loads=True)
def name_that_is_not_allowed(shipment: Shipment) -> None:
    shipment.then = [f"tag {INCOMING} docker.io/library/vault:1", "done"]


@trick("the name evil.example/app:1 is not allowed here", loads=True)
def allowed_name_of_another_registry(shipment: Shipment) -> None:
    shipment.then = [f"tag {INCOMING} evil.example/app:1", "done"]


@trick("is not a full image name", loads=True)
def name_in_short(shipment: Shipment) -> None:
    shipment.then = [f"tag {INCOMING} app:1", "done"]


@trick("is not a full image name", loads=True)
def name_with_a_digest(shipment: Shipment) -> None:
    shipment.then = [f"tag {INCOMING} docker.io/library/app:1@{'sha256:' + 'a' * 64}", "done"]


@trick("is not an image name", loads=True)
def name_that_is_an_option(shipment: Shipment) -> None:
    shipment.then = [f"tag {INCOMING} --help", "done"]


@trick("is not an image name", loads=True)
def name_that_is_a_command(shipment: Shipment) -> None:
    shipment.then = [f"tag {INCOMING} $(reboot)", "done"]


@trick("to give a name to", loads=True)
def name_for_an_image_that_is_none_of_its_business(shipment: Shipment) -> None:
    shipment.then = [f"tag {SECRET_ID} {NAME}", "done"]


@trick("to give a name to", loads=True)
def name_for_an_image_that_was_not_asked_for(shipment: Shipment) -> None:
    shipment.then = [f"tag {BASE_ID} {NAME}", "done"]


@trick("to give a name to", loads=True)
def name_for_an_image_by_its_name(shipment: Shipment) -> None:
    shipment.then = ["tag docker.io/library/vault:1 docker.io/library/app:9", "done"]


@trick("too many names", loads=True)
def endless_names(shipment: Shipment) -> None:
    shipment.then = [f"tag {INCOMING} docker.io/library/app:{number}" for number in range(100)]


@trick("is to name two images", loads=True)
def one_name_for_two_images(shipment: Shipment) -> None:
    second = Image(layers=[layer("more")], incoming="localhost/layerferry:22")
    shipment.images.append(second)
    shipment.then = [f"tag {INCOMING} {NAME}", f"tag {second.incoming} {NAME}", "done"]


# --- the conversation


@trick("here is `layerferry receive`, and nothing else")
def shell_command(shipment: Shipment) -> None:
    shipment.preamble = b"cat /etc/shadow\n"


@trick("here is `layerferry receive`, and nothing else")
def half_a_preamble(shipment: Shipment) -> None:
    shipment.preamble = b": layerferry 1\n"


@trick("this is protocol 1, not 2")
def protocol_from_the_future(shipment: Shipment) -> None:
    shipment.preamble = b": layerferry 2 0\n"


@trick("the script is too long")
def endless_script(shipment: Shipment) -> None:
    shipment.preamble = b": layerferry 1 99999999999999999999\n"


@trick("here is `layerferry receive`")
def negative_script(shipment: Shipment) -> None:
    shipment.preamble = b": layerferry 1 -5\n"


@trick("a line is longer")
def endless_line(shipment: Shipment) -> None:
    shipment.bend_all = lambda _: b"x" * (1 << 20)


@trick("a line is longer")
def endless_header(shipment: Shipment) -> None:
    shipment.expect = [f"expect {INCOMING} " + f"{digest(TOP)} " * 5000]


@trick("more than 20000 lines")
def endless_ask(shipment: Shipment) -> None:
    shipment.ask = ["hello"] * 30_000


@trick("the ask is broken")
def endless_images(shipment: Shipment) -> None:
    shipment.ask = [f"image {digest(b'%d' % number)}" for number in range(100)]


@trick("the ask is broken")
def layer_of_no_image(shipment: Shipment) -> None:
    shipment.ask = [f"layer {digest(TOP)}", "end"]


@trick("the ask is broken")
def image_by_its_name(shipment: Shipment) -> None:
    shipment.ask = ["image vault:1", "end"]


@trick("more than printable ASCII")
def control_characters(shipment: Shipment) -> None:
    shipment.ask = ["image \x1b[2J", "end"]


@trick("more than printable ASCII")
def zero_bytes(shipment: Shipment) -> None:
    shipment.bend_all = lambda data: data.replace(b"image", b"im\0ge", 1)


@trick("engine /bin/sh is not offered")
def engine_of_its_own(shipment: Shipment) -> None:
    shipment.ask = ["engine /bin/sh", "end"]


@trick("'load' has no place here")
def load_without_a_header(shipment: Shipment) -> None:
    shipment.expect = []


@trick("'done' has no place here")
def done_instead_of_an_archive(shipment: Shipment) -> None:
    shipment.load = "done"


@trick("'tag' has no place here")
def name_before_the_archive(shipment: Shipment) -> None:
    shipment.load = f"tag {INCOMING} {NAME}"


@trick("'load' has no place here", loads=True)
def two_archives(shipment: Shipment) -> None:
    shipment.then = ["load none"]


@trick("'expect' has no place here", loads=True)
def header_after_the_archive(shipment: Shipment) -> None:
    shipment.then = [f"expect {INCOMING} {digest(TOP)}"]


@trick("'exec' has no place here", loads=True)
def word_that_nobody_knows(shipment: Shipment) -> None:
    shipment.then = ["exec sh"]


@trick("a throw-away name is broken or comes twice")
def same_throw_away_name_twice(shipment: Shipment) -> None:
    shipment.expect = [f"expect {INCOMING} {digest(TOP)}"] * 2


@trick("the header is broken")
def header_with_something_else(shipment: Shipment) -> None:
    shipment.expect = [f"expect {INCOMING} latest"]


@trick("the header is broken")
def endless_throw_away_names(shipment: Shipment) -> None:
    shipment.expect = [f"expect localhost/layerferry:{number} {digest(TOP)}" for number in range(100)]


_LENGTHS = {
    "frame without a length": b"hello\n",
    "frame of a negative length": b"-1\nx",
    "frame of hex length": b"0x10\n",
    "frame of a length with zeros in front": b"0001\nx",
    "frame of a length in another script": "\u0663\n".encode(),
    "frame without end": b"99999999999999999\n",
    "frame of too many bytes": b"16777217\n",
}


def _framed(data: bytes) -> Callable[[Shipment], Any]:
    return lambda shipment: setattr(shipment, "bend_frames", lambda _: data)


TRICKS.extend(Trick(what, "a frame|printable ASCII", _framed(data)) for what, data in _LENGTHS.items())
