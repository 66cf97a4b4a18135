"""A registry that lies, as the target; and one whose images are false: what is in them is not believed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile import registry_targets
from hostile.claims import one_sentence
from hostile.command import Command, Outcome
from hostile.layouts import PICTURE
from hostile.layouts import Case as Layout
from hostile.selection import params
from hostile.serving import Playing, serving
from packed import Picture, digest_of, unpacked


@pytest.fixture(scope="module")
def playing() -> Iterator[Playing]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"oci:{Layout('honest').write(tmp_path_factory.mktemp('image'))}"


def push(layerferry: Command, image: str, playing: Playing, *options: str) -> Outcome:
    return layerferry("push", image, "--name", "app:1", *options, f"registry://{playing.address}")


@pytest.mark.parametrize("case", params(registry_targets.CASES, 14))
def test_a_hostile_registry_is_told_of(
    case: registry_targets.Case, image: str, playing: Playing, layerferry: Command
) -> None:
    playing.play(registry_targets.Keeper(case))
    one_sentence(push(layerferry, image, playing, *case.options), case.codes)


@pytest.mark.parametrize("times", [1, 2])
def test_what_a_registry_says_of_its_blobs_is_not_believed(
    times: int, image: str, playing: Playing, layerferry: Command
) -> None:
    """Its `latest` says that junk is our layers: what is pushed has the right ones all the same, or it fails."""
    keeper = registry_targets.stocked(registry_targets.Case("liar"), Picture.of("junk", "gzip", "gzip"))
    playing.play(keeper)
    for _ in range(times):
        one_sentence(push(layerferry, image, playing), (0,), "verified")
    layers = json.loads(keeper.tags["1"])["layers"]
    assert [digest_of(unpacked(keeper.blobs[layer["digest"]])) for layer in layers] == list(PICTURE.diff_ids)


def test_there_are_enough_of_them() -> None:
    cases = registry_targets.CASES
    assert len({case.name for case in cases}) == len(cases) >= 30


def test_an_honest_registry_keeps_what_it_is_given(
    image: str, playing: Playing, layerferry: Command, tmp_path: Path
) -> None:
    keeper = registry_targets.Keeper(registry_targets.Case("honest"))
    playing.play(keeper)
    one_sentence(push(layerferry, image, playing), (0,), "verified")
    assert keeper.tags.keys() == {"1"}
