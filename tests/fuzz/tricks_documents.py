"""Hostile documents: JSON, configs, manifests, indexes, and what they say of each other."""

from collections.abc import Callable
from typing import Any

from fuzz.shipment import SECRET, Shipment, digest
from fuzz.trick import TRICKS, Trick, change, trick

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
