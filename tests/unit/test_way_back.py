"""Which name goes to which image, what keeps a way back, and which older images go: all pure."""

import re

import pytest

from layerferry.errors import UsageError
from layerferry.push import pruning, way_back
from layerferry.push.following import Named
from layerferry.push.following import way_back as line
from layerferry.push.request import Wanted, wanted
from layerferry.result import NamedImage
from layerferry.targets.named_images import ImagesThere, TargetImage

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
APP = "docker.io/library/app"


@pytest.mark.parametrize(
    ("images", "names", "expected"),
    [
        (["app:1"], ["app:latest", "app:1"], {"app:1": ("app:latest", "app:1")}),
        (["registry.example/app:1"], ["app:2"], {"registry.example/app:1": ("app:2",)}),
        (["app:1", "web:1"], ["web:latest"], {"app:1": ("app:1",), "web:1": ("web:latest",)}),
        (
            ["app:1", "web:1"],
            ["web:latest", "docker.io/library/app:prod", "app:1"],
            {"app:1": ("app:prod", "app:1"), "web:1": ("web:latest",)},
        ),
        (["registry:r.example/app:1", "web:1"], ["r.example/app:2"], {"web:1": ("web:1",)}),
        (["oci:build/app", "web:1"], ["web:2"], {"oci:build/app": (), "web:1": ("web:2",)}),
    ],
)
def test_a_name_goes_to_the_image_of_its_repository(
    images: list[str], names: list[str], expected: dict[str, tuple[str, ...]]
) -> None:
    found = {
        wish.reference: tuple(name.removeprefix("docker.io/library/") for name in wish.names)
        for wish in wanted(images, names)
    }
    assert found | expected == found


@pytest.mark.parametrize(
    ("images", "names", "says"),
    [
        (["app:1", "web:1"], ["other:1"], "the name other:1 is of the repository of none of the images"),
        (["app:1", "app:2"], ["app:latest"], "the name app:latest is of the repository of 2 of the images"),
        (["oci:build/app", "oci:build/web"], ["app:1"], "none of the images"),
        (["app:1", "web:1"], ["App"], "'App' is not an image name"),
    ],
)
def test_a_name_that_may_be_of_several_or_of_none_is_refused(images: list[str], names: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        wanted(images, names)


def test_without_names_each_image_keeps_its_own() -> None:
    assert wanted(["app:1", "web:2"], ()) == [Wanted.of("app:1"), Wanted.of("web:2")]


# The way back.


@pytest.mark.parametrize(
    ("there", "kept", "given_up"),
    [
        ({}, [], []),
        ({f"{APP}:latest": A}, [NamedImage(A, (f"{APP}:previous",))], []),
        ({f"{APP}:latest": C}, [], []),
        ({f"{APP}:latest": A, f"{APP}:1": A}, [NamedImage(A, (f"{APP}:previous",))], []),
        ({f"{APP}:latest": A, f"{APP}:1": B}, [NamedImage(A, (f"{APP}:previous",))], [(f"{APP}:1", B)]),
        ({f"{APP}:latest": C, f"{APP}:1": B}, [NamedImage(B, (f"{APP}:previous",))], []),
    ],
)
def test_the_first_name_that_moves_keeps_its_image(
    there: dict[str, str], kept: list[NamedImage], given_up: list[tuple[str, str]]
) -> None:
    assert way_back.kept([f"{APP}:latest", f"{APP}:1"], C, there, "previous") == (kept, given_up)


def test_each_repository_keeps_its_own() -> None:
    there = {f"{APP}:1": A, "r.example/app:1": B}
    kept, _ = way_back.kept([f"{APP}:1", "r.example/app:1"], C, there, "before")
    assert kept == [NamedImage(A, (f"{APP}:before",)), NamedImage(B, ("r.example/app:before",))]


def test_what_names_stood_for_before_all_tries_is_remembered() -> None:
    seen, names = way_back.NamesBefore(), ["latest", "stable", "new", "same"]
    first = {"latest": A, "stable": B, "same": C}
    assert seen.of(names, C, first) == first
    seen.broke_off(names)
    assert seen.of(names, C, {"latest": C, "stable": B, "new": C, "same": C}) == first, "one was given, one was not yet"
    assert seen.of(["stable"], C, {"stable": A}) == {"stable": A}, "somebody else has moved it meanwhile"
    assert seen.of(["stable"], C, {}) == {}, "or removed it"
    assert not seen.unknown


def test_what_was_never_heard_is_not_known() -> None:
    seen = way_back.NamesBefore()
    seen.broke_off(["latest", "stable"])
    assert seen.of(["latest", "stable"], C, {"latest": C, "stable": B}) == {"stable": B}
    assert seen.unknown == {"latest"}


@pytest.mark.parametrize(
    ("kept", "tag", "engine", "expected"),
    [
        ((), "", "docker", f"The way back, on prod: docker tag {A} app:1; docker tag {B} app:2"),
        ({A}, "previous", "docker", "The way back: layerferry rollback prod app:1\nThe way back, on prod: docker tag"),
        ({A}, "old", "ctr", "The way back: layerferry rollback prod app:1 --to old\nBefore, on prod, app:2 was"),
    ],
)  # fmt: skip
def test_the_way_back_of_each_name_is_told(kept: set[str], tag: str, engine: str, expected: str) -> None:
    named = [Named(f"{APP}:1", C, A), Named(f"{APP}:2", C, B), Named(f"{APP}:3", C, C), Named(f"{APP}:4", C)]
    assert line("prod", engine, named, kept, tag).startswith(expected)


def test_of_two_names_that_were_one_image_one_goes_back_by_its_tag() -> None:
    named = [Named(f"{APP}:1", C, A), Named(f"{APP}:2", C, A)]
    told = line("u@h?engine=docker", "docker", named, {A}, "previous").splitlines()
    assert told[0] == "The way back: layerferry rollback 'u@h?engine=docker' app:1"
    assert told[1:] == [f"The way back, on u@h?engine=docker: docker tag {A} app:2"]


# Removal.


def there(*images: tuple[str, str, str], used: str = "") -> ImagesThere:
    """Images as (ID, names, created)."""
    found = {image_id: TargetImage(image_id, names.split(), created) for image_id, names, created in images}
    return ImagesThere(found, set(used.split()))


def gone(images: ImagesThere, newest: int = 1, pushed: str = "", nameless: str = "") -> list[str]:
    found = pruning.obsolete(images, APP, newest, pushed={pushed}, nameless={nameless}, keepers={f"{APP}:previous"})
    return [image.id for image in found]


OLD, NEW = "2026-01-01T00:00:00Z", "2026-06-01T00:00:00+02:00"


def test_older_images_go() -> None:
    assert gone(there((A, "app:1", OLD), (B, "app:2", NEW))) == [A]
    assert gone(there((A, "app:1", "1767225600"), (B, "app:2", NEW))) == [A]
    assert gone(there((A, "app:1", OLD), (B, "app:2", NEW)), newest=2) == []


@pytest.mark.parametrize(
    "images",
    [
        there((A, "app:1 app:previous", OLD), (B, "app:2", NEW)),
        there((A, "app:1 other:1", OLD), (B, "app:2", NEW)),
        there((A, "app:1 localhost/app:1", OLD), (B, "app:2", NEW)),
        there((A, "other:1", OLD), (B, "app:2", NEW)),
        there((A, "", OLD), (B, "app:2", NEW)),
        there((A, "app:1", ""), (B, "app:2", NEW)),
        there((A, "app:1", "yesterday"), (B, "app:2", NEW)),
        there((A, "app:1", "2026-13-99T00:00:00Z"), (B, "app:2", NEW)),
        there((A, "app:1", "9" * 12), (B, "app:2", NEW)),
        there((A, "app:1", NEW), (B, "app:2", NEW)),
        there((A, "app:1", OLD), (B, "app:2", NEW), used=A),
        there((A, "app:1", OLD), (B, "app:2", NEW), used="app:1"),
        there((A, "app:1", OLD), (B, "app:2", NEW), used="docker.io/library/app:1"),
        there((A, "docker.io/library/app:1", OLD), (B, "app:2", NEW), used="app:1"),
        there((A, "app:1", OLD), (B, "app:2", NEW), used=A[7:19]),
        there((A, "app:1", OLD), (B, "app:2", NEW), used=A[:19]),
        there((A, "app:1", OLD), (B, "app:2", NEW), used=f"app@{A} aaaa"),
        there((A, "APP:1", OLD), (B, "app:2", NEW)),
    ],
)
def test_whatever_may_be_needed_stays(images: ImagesThere) -> None:
    assert A not in gone(images)


def test_what_a_container_stands_on_is_used() -> None:
    images = there((A, "app:1", OLD), (B, "app:2", NEW), used=C)
    images.images[A].diff_ids = (C,)
    assert gone(images) == []


def test_what_was_pushed_stays_however_old_it_is() -> None:
    assert gone(there((A, "app:1", OLD), (B, "app:2", NEW)), pushed=A) == []


def test_what_has_lost_its_last_name_by_this_push_goes_unless_it_is_used() -> None:
    assert gone(there((A, "", NEW), (B, "app:2", NEW)), 5, nameless=A) == [A]
    assert gone(there((A, f"sha256:{'0' * 64}", NEW), (B, "app:2", NEW)), 5, nameless=A) == [A]
    assert gone(there((A, "other:1", OLD), (B, "app:2", NEW)), 5, nameless=A) == []
    assert gone(there((A, "", NEW), (B, "app:2", NEW), used=A), 5, nameless=A) == []


def test_a_name_that_kubernetes_gives_by_itself_is_no_name_elsewhere() -> None:
    assert gone(there((A, f"app:1 sha256:{'0' * 64}", OLD), (B, "app:2", NEW))) == [A]
