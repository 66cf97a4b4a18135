"""Hostile names, words and frames."""

from collections.abc import Callable
from typing import Any

from fuzz.bench import BASE_ID, SECRET_ID
from fuzz.shipment import INCOMING, NAME, TOP, Image, Shipment, digest, layer
from fuzz.trick import TRICKS, Trick, trick

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


# --- pieces


def _after_resume(*frames: bytes) -> Callable[[Shipment], Any]:
    """A client that has said that much is coming, and then sends frames with names."""

    def play(shipment: Shipment) -> None:
        expect = f"expect {INCOMING} {' '.join(shipment.images[0].diff_ids)}"
        shipment.expect = [f"resume 40000000 {digest(TOP)}", "0", expect]
        shipment.bend_frames = lambda _: b"".join(frames)

    return play


_PIECE = f"{'a' * 16}.{'b' * 32}.{'c' * 32}".encode()
_PIECES = {
    "piece that is not what its name says": (b"5 " + _PIECE + b"\nhello", "not what its name says"),
    "piece that leads elsewhere": (b"5 ../../../../tmp/x\nhello", "a name that is none"),
    "piece with a path": (b"5 /etc/cron.d/x\nhello", "a name that is none"),
    "piece with another's end": (b"5 " + _PIECE + b".1-2\nhello", "a name that is none"),
    "piece that is not here": (b"+ " + _PIECE + b"\n", "no piece of that name"),
    "piece that is a file of the host": (b"+ ../../../../../../etc/passwd\n", "no piece of that name"),
    "piece without a name": (b"+\n", "no piece of that name"),
    "piece without a length": (b"x " + _PIECE + b"\n", "start with its length"),
    "piece without end": (b"99999999999 " + _PIECE + b"\n", "a frame"),
}
TRICKS.extend(Trick(what, expected, _after_resume(data)) for what, (data, expected) in _PIECES.items())


@trick("a frame has a name")
def piece_that_was_not_told_of(shipment: Shipment) -> None:
    shipment.bend_frames = lambda data: data.replace(b"\n", b" " + _PIECE + b"\n", 1)


@trick("what is coming is not told")
def resume_of_no_number(shipment: Shipment) -> None:
    shipment.expect = [f"resume many {digest(TOP)}", "0"]


@trick("what is coming is not told")
def resume_of_what_is_no_layer(shipment: Shipment) -> None:
    shipment.expect = ["resume 40000000 ../../x", "0"]


@trick("'resume' has no place here")
def resume_twice(shipment: Shipment) -> None:
    shipment.expect = [f"resume 40000000 {digest(TOP)}", "0"] * 2


@trick("'gc' has no place here")
def gc_behind_the_header(shipment: Shipment) -> None:
    shipment.expect = [f"expect {INCOMING} {digest(TOP)}", "gc 0", "0"]


@trick("the script is too long")
def endless_frames_of_resume(shipment: Shipment) -> None:
    shipment.expect = [f"resume 40000000 {digest(TOP)}"]
    shipment.load = "1048576"
    shipment.bend_frames = lambda _: bytes(1 << 20) + b"1048576\n" + bytes(1 << 20)
