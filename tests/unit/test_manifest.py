"""Which platform of an image suits a host."""

import pytest

from layerferry.oci.image import Platform
from layerferry.oci.manifest import pick


def platforms(*texts: str) -> list[tuple[Platform, str]]:
    return [(Platform.parse(text), text) for text in texts]


ARMS = ("linux/arm/v5", "linux/arm/v7", "linux/arm/v6")


@pytest.mark.parametrize(
    ("offered", "wanted", "best"),
    [
        (("linux/amd64", "linux/arm64"), "linux/arm64", "linux/arm64"),
        (("linux/amd64", "linux/arm64/v8"), "linux/arm64", "linux/arm64/v8"),
        (("linux/arm64",), "linux/arm64/v8", "linux/arm64"),
        (("linux/arm64", "linux/arm64/v9"), "linux/arm64", "linux/arm64"),
        (ARMS, "linux/arm/v6", "linux/arm/v6"),
        (ARMS, "linux/arm", "linux/arm/v7"),
        (ARMS, "linux/arm/v8", "linux/arm/v7"),
        (("linux/arm/v7",), "linux/arm/v6", None),
        (("linux/amd64/v3", "linux/amd64"), "linux/amd64", "linux/amd64"),
        (("linux/amd64/v3", "linux/amd64"), "linux/amd64/v4", "linux/amd64/v3"),
        (("windows/amd64", "linux/amd64"), "linux/x86_64", "linux/amd64"),
        (("linux/amd64", "linux/arm64"), "linux/s390x", None),
        ((), "linux/amd64", None),
    ],
)
def test_picks_what_suits_best(offered: tuple[str, ...], wanted: str, best: str | None) -> None:
    assert pick(platforms(*offered), Platform.parse(wanted)) == best


def test_of_equals_the_first_is_taken() -> None:
    """Windows images come once for each build of the system."""
    windows = Platform("windows", "amd64")
    assert pick([(windows, "2022"), (windows, "2019")], windows) == "2022"
