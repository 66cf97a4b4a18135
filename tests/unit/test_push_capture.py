"""A daemon that pushes something else than it was asked for, into a repository that tells what came."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from layerferry.errors import SourceError
from layerferry.oci import limits
from layerferry.oci.image import MEDIA_TYPE_LAYER, Descriptor, Image, Layer, Platform, digest_of
from layerferry.sources.daemon.push_capture import Pushed

CONFIG, LAYER = digest_of(b"config"), digest_of(b"layer")
IMAGE = Image("app:1", CONFIG, Platform("linux", "amd64"), Layer.chain([LAYER], [5]))
CONFIGURED = Descriptor("application/vnd.oci.image.config.v1+json", CONFIG, 6)


def manifest(**said: Any) -> Any:
    layers = (Descriptor(MEDIA_TYPE_LAYER, LAYER, 5),)
    of_image = {"config": CONFIGURED, "layers": layers, "children": (), "platforms": ()}
    return SimpleNamespace(media_type="a/b", data=b"{}", **of_image | said)


class Letting(contextlib.nullcontext[Callable[[], None]]):
    """A push that ends by itself."""

    def break_off(self) -> None: ...


class Repository:
    """What a daemon has pushed: a manifest, or none, and blobs."""

    received = 0
    failure: SourceError | None = None

    def __init__(self, pushed: Any, blobs: dict[str, Any]) -> None:
        self.pushed, self.blobs, self.manifests = pushed, blobs, dict[str, Any]()

    def manifest(self, _: float) -> Any:
        if self.pushed is None:
            raise SourceError("the push into our registry ended without a manifest")
        return self.pushed

    def completed(self) -> Iterator[None]:
        return iter(())

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def test_what_comes_is_told_with_all_that_will_as_soon_as_that_is_known() -> None:
    told: list[tuple[int, int]] = []
    repository: Any = Repository(manifest(), {})
    sizes = iter((3, 5))

    def push() -> None:
        repository.received = next(sizes)
        repository.told()

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    pushing = Letting(push)
    with Pushed(IMAGE, repository, pushing, budget=1 << 20, classic=True, told=tell) as content:
        content.want(frozenset([LAYER]), 1 << 20)
        with pytest.raises(SourceError):
            list(content.blobs())
    assert told == [(3, 0), (7, 8)], "of the last byte it is heard when the layer is here"


def test_of_how_much_will_come_nothing_is_told_where_the_daemon_gives_back_the_size_that_was_claimed() -> None:
    """A classic store that knows the digest of a layer copies 0, ours, into its manifest."""
    told: list[tuple[int, int]] = []
    unsized = (Descriptor(MEDIA_TYPE_LAYER, LAYER, 0),)
    repository: Any = Repository(manifest(layers=unsized), {})
    pushes = iter(((), (500, 1000)))

    def push() -> None:
        for repository.received in next(pushes):
            repository.told()

    pushing = Letting(push)
    with Pushed(
        IMAGE, repository, pushing, budget=1 << 20, classic=True, told=lambda done, total: told.append((done, total))
    ) as content:
        content.learn()
        repository.received = 431  # of the config
        content.want(frozenset([LAYER]), 1 << 20)
        with pytest.raises(SourceError):
            list(content.blobs())
    assert told == [(931, 0), (1431, 0)]


def test_that_all_has_come_is_told_though_nobody_knew_how_much_that_is() -> None:
    told: list[tuple[int, int]] = []
    here: dict[str, Any] = {
        digest: SimpleNamespace(size=5, digest=digest, path=Path("x")) for digest in (LAYER, CONFIG)
    }
    here[CONFIG].path = SimpleNamespace(read_bytes=lambda: b"config")
    repository: Any = Repository(manifest(), here)
    repository.received = 5
    pushing = Letting(lambda: None)
    with Pushed(
        IMAGE, repository, pushing, budget=1 << 20, classic=True, told=lambda done, total: told.append((done, total))
    ) as content:
        content.want(frozenset([LAYER]), 1 << 20)
        assert [blob.diff_id for blob in content.blobs()] == [LAYER]
    assert told == [(5, 5)]


INDEX = {"children": (Descriptor("a/b", LAYER, 5),), "platforms": (Platform("linux", "s390x"),)}
LARGE = SimpleNamespace(size=limits.DOCUMENT + 1, digest=CONFIG, path=Path("config"))


@pytest.mark.parametrize(
    ("pushed", "blobs", "says"),
    [
        (None, {}, "the push into our registry ended without a manifest"),
        (manifest(config=None), {}, "the daemon pushed another image than app:1"),
        (manifest(layers=()), {}, "the daemon pushed another image than app:1"),
        (manifest(**INDEX), {}, "the daemon pushed no manifest of app:1 for linux/amd64"),
        (manifest(), {CONFIG: LARGE}, f"the daemon pushed a config of {limits.DOCUMENT + 1} bytes for app:1"),
        (manifest(), {}, f"the daemon did not push {LAYER} of app:1"),
    ],
)
@pytest.mark.parametrize("classic", [True, False])
def test_another_push_than_was_asked_for_is_told(pushed: Any, blobs: dict[str, Any], says: str, classic: bool) -> None:
    repository: Any = Repository(pushed, blobs)
    pushing = Letting(lambda: None)
    with Pushed(IMAGE, repository, pushing, budget=1 << 20, classic=classic) as content:
        content.want(frozenset([LAYER]), 1 << 20)
        with pytest.raises(SourceError) as caught:
            list(content.blobs())
    assert caught.value.message == says


def test_one_blob_that_is_pushed_for_two_layers_is_told() -> None:
    layer, other = Descriptor(MEDIA_TYPE_LAYER, LAYER, 5), digest_of(b"other")
    image = Image("app:1", CONFIG, Platform("linux", "amd64"), Layer.chain([LAYER, other], [5, 5]))
    here: dict[str, Any] = {LAYER: SimpleNamespace(size=5, digest=LAYER, path=Path("x"))}
    repository: Any = Repository(manifest(layers=(layer, layer)), here)
    with Pushed(image, repository, Letting(lambda: None), budget=1 << 20, classic=True) as content:
        content.want(frozenset([LAYER, other]), 1 << 20)
        with pytest.raises(SourceError, match=f"^app:1 is damaged: it has one blob for two layers, {LAYER} and "):
            list(content.blobs())


def test_what_went_wrong_here_is_told_and_not_what_the_daemon_made_of_it() -> None:
    full = SourceError("layers cannot be kept in /tmp: 9 bytes free, 30 needed", hint="TMPDIR names the folder")
    repository: Any = Repository(None, {})
    repository.failure = full
    with Pushed(IMAGE, repository, Letting(lambda: None), budget=1 << 20, classic=True) as content:
        content.want(frozenset([LAYER]), 1 << 20)
        with pytest.raises(SourceError) as caught:
            list(content.blobs())
    assert caught.value is full
    assert repository.expected == IMAGE.layers[0].size
