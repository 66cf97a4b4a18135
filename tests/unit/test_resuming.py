"""Layers and recipes in pieces: which form a push goes on in, and what of a recipe is left out."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from layerferry.compression.stream import Method
from layerferry.oci.content import Blob, Summary
from layerferry.oci.image import MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP, Descriptor, digest_of
from layerferry.oci.piece import content_of, kept_content, piece_size, recipe_id
from layerferry.push.resuming import ContentInPieces, Kept

MB = 1 << 20
LAYER = digest_of(b"layer")
DATA = b"".join(number.to_bytes(8, "big") for number in range(5 * MB // 8))


class Recipe:
    def __init__(self, chunks: Sequence[bytes]) -> None:
        self.chunks = chunks

    def blobs(self) -> Iterator[Blob]:
        yield Blob(LAYER, Descriptor(MEDIA_TYPE_LAYER, LAYER, 9 * MB), (), recipe=self.chunks)

    def finish(self) -> Summary:
        raise AssertionError


def pieces(kept: Kept) -> list[Any]:
    (blob,) = ContentInPieces(Recipe([DATA[:1000], DATA[1000:]]), 9 * MB, kept, Method.NONE, None).blobs()
    assert blob.recipe is not None
    return list(blob.pieces or ())


def test_the_pieces_of_a_recipe_are_not_those_of_its_layer() -> None:
    kept = Kept(frozenset({LAYER}), {}, 1 << 30)
    found = pieces(kept)
    assert b"".join(piece.data for piece in found) == DATA
    assert kept.resumed == {}
    mine = {kept_content(piece.name): piece.name for piece in found}
    begun = replace(kept, pieces=mine)
    assert (begun.begun_whole, begun.begun_as_recipe) == (False, True)
    whole = {content_of(LAYER, "none", DATA[:MB]): "name"}
    begun = replace(kept, pieces=whole)
    assert (begun.begun_whole, begun.begun_as_recipe) == (True, False)
    assert [piece.data for piece in pieces(begun)] == [piece.data for piece in found]


def test_what_is_there_of_a_recipe_is_left_out() -> None:
    kept = Kept(frozenset({LAYER}), {}, 1 << 30)
    found = pieces(kept)
    there = Kept(kept.layers, {kept_content(piece.name): piece.name for piece in found[:2]}, 1 << 30)
    again = pieces(there)
    assert [piece.data for piece in again] == [b"", b"", *(piece.data for piece in found[2:])]
    assert [piece.name for piece in again] == [piece.name for piece in found]
    assert there.resumed == {LAYER: 2 * MB}


def test_a_part_of_a_layer_is_known_by_its_blob_and_its_place() -> None:
    """Blobs of one layer differ by who has compressed them."""

    def parts(digest: str) -> list[str]:
        kept = Kept(frozenset({LAYER}), {}, 1 << 30)
        descriptor = Descriptor(MEDIA_TYPE_LAYER_GZIP if digest != LAYER else MEDIA_TYPE_LAYER, digest, len(DATA))
        content: Any = SimpleNamespace(blobs=lambda: iter([Blob(LAYER, descriptor, [DATA])]))
        (blob,) = ContentInPieces(content, 9 * MB, kept, Method.NONE, None).blobs()
        return [kept_content(piece.name) for piece in blob.pieces or ()]

    assert len({*parts(LAYER), *parts(digest_of(b"of gzip")), *parts(digest_of(b"of another"))}) == 3 * len(
        parts(LAYER)
    )
    assert parts(LAYER) == parts(LAYER)


def test_a_layer_and_its_recipe_go_by_other_names() -> None:
    assert recipe_id(LAYER) == digest_of(f"recipe of {LAYER}".encode())


def test_pieces_are_larger_in_large_images_and_never_too_large_for_their_layer() -> None:
    assert [piece_size(layer * MB, image * MB) // MB for layer, image in ((30, 40), (60, 64), (90, 100))] == [1, 1, 1]
    assert [piece_size(layer * MB, image * MB) // MB for layer, image in ((60, 300), (40, 9000), (20, 9000))] == [
        2,
        2,
        1,
    ]
    assert [piece_size(layer * MB, image * MB) // MB for layer, image in ((90, 1000), (9000, 9000))] == [4, 4]
