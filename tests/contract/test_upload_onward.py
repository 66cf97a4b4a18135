"""An upload of a large layer that broke off: it goes on where the registry says, within a push and in the next one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.test_upload import layout, push
from fake_registry import FakeRegistry, fake_registry
from layerferry.errors import ConnectError, TargetError
from layerferry.oci import limits
from layerferry.oci.image import digest_of
from layerferry.registry_client import pusher, tries
from layerferry.registry_client.endpoint import Endpoint
from layerferry.result import Result
from packed import layer_tar, packed

TAR = layer_tar("large", 3 << 20)
LARGE = packed(TAR, "gzip")

pytestmark = pytest.mark.usefixtures("hurry", "small_pieces")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pusher, "WORTH_RESUMING", 1 << 20)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry(scope="repository:app:pull,push", break_after=1 << 20) as running:
        yield running


def sent(registry: FakeRegistry) -> int:
    """The bytes of all bodies of the layer's upload that were told to come."""
    return sum(int(head["Content-Length"]) for method, _, head in registry.seen if method == "PATCH")


def arrived(registry: FakeRegistry, result: Result) -> None:
    assert registry.repositories["app"][digest_of(LARGE)] == LARGE
    assert result.verified
    assert not registry.begun, "no upload is left"


def test_an_upload_that_breaks_goes_on_where_the_registry_says(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.breaks = 2
    (result,) = push(registry, tmp_path, layout(tmp_path, (TAR, "gzip")))
    arrived(registry, result)
    ranges = [head.get("Content-Range") for method, _, head in registry.seen if method == "PATCH"]
    end = len(LARGE) - 1
    assert ranges == [None, f"{1 << 20}-{end}", f"{2 << 20}-{end}"]
    assert result.bytes.resumed == 0, "it is one push"


def test_the_next_push_goes_on_with_an_upload_that_was_given_up(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.breaks, registry.break_after = tries.TRIES, 300_000
    reference = layout(tmp_path, (TAR, "gzip"))
    with pytest.raises(ConnectError, match="has not taken sha256:") as caught:
        push(registry, tmp_path, reference)
    assert caught.value.transient
    assert len(registry.begun) == 1, "it is left, to go on with"
    (there,) = registry.begun.values()
    registry.seen.clear()
    registry.breaks = 0
    (result,) = push(registry, tmp_path, reference)
    arrived(registry, result)
    assert result.bytes.resumed == len(there)
    assert sent(registry) == len(LARGE) - len(there)
    assert (tmp_path / ".cache" / "layerferry" / "uploads").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".cache" / "layerferry" / "uploads").read_text() == ""


def test_an_upload_of_which_all_has_come_is_only_ended(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.breaks, registry.break_after = 1, len(LARGE)
    (result,) = push(registry, tmp_path, layout(tmp_path, (TAR, "gzip")))
    arrived(registry, result)
    assert sent(registry) == len(LARGE)
    assert registry.cancelled == 0


def test_nor_does_the_next_push_send_more_of_it(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.breaks, registry.break_after = 1 + tries.TRIES, len(LARGE)
    reference = layout(tmp_path, (TAR, "gzip"))
    with pytest.raises(ConnectError):
        push(registry, tmp_path, reference)
    registry.seen.clear()
    (result,) = push(registry, tmp_path, reference)
    arrived(registry, result)
    assert (sent(registry), result.bytes.resumed) == (0, len(LARGE))


def test_an_upload_that_the_registry_does_not_end_is_cancelled_and_made_anew_once(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.breaks, registry.break_after, registry.refusals = 1, len(LARGE), 1
    reference = layout(tmp_path, (TAR, "gzip"))
    (result,) = push(registry, tmp_path, reference)
    arrived(registry, result)
    assert (sent(registry), registry.cancelled) == (2 * len(LARGE), 1)
    registry.repositories.clear()
    registry.tags.clear()
    registry.seen.clear()
    registry.refusals = 100
    with pytest.raises(TargetError, match=r" has not taken sha256:[0-9a-f]{12}: HTTP 416$"):
        push(registry, tmp_path, reference)
    assert sent(registry) == 2 * len(LARGE)
    assert not registry.begun
    assert (tmp_path / ".cache" / "layerferry" / "uploads").read_text() == "", "the next push begins anew"


def test_of_an_upload_whose_end_was_not_answered_nothing_is_sent_again(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.silent_ends = 1
    (result,) = push(registry, tmp_path, layout(tmp_path, (TAR, "gzip")))
    arrived(registry, result)
    assert sent(registry) == len(LARGE)
    assert (tmp_path / ".cache" / "layerferry" / "uploads").read_text() == ""


def test_the_end_of_an_upload_may_take_as_long_as_to_store_its_bytes(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORING", 1 << 20)
    request, waits = Endpoint.request, list[float]()

    def noted(self: Endpoint, method: str, url: str, *rest: Any) -> Any:
        if method == "PUT" and url.endswith(digest_of(LARGE).removeprefix("sha256:")):
            waits.append(rest[2][1])
        return request(self, method, url, *rest)

    monkeypatch.setattr(Endpoint, "request", noted)
    (result,) = push(registry, tmp_path, layout(tmp_path, (TAR, "gzip")))
    arrived(registry, result)
    assert waits == [limits.SILENCE + 3]


def test_a_registry_that_is_busy_for_long_is_told_with_its_status(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pusher.RepositoryPusher, "_patch", lambda *_: pusher._Trouble("HTTP 503"))
    with pytest.raises(ConnectError, match=r" has not taken sha256:[0-9a-f]{12}: HTTP 503$"):
        push(registry, tmp_path, layout(tmp_path, (TAR, "gzip")))


@pytest.mark.parametrize("lie", ["nothing", "too much", "words", "gone", "another's bytes"])
def test_a_registry_that_tells_no_true_offset_gets_all_of_it(registry: FakeRegistry, tmp_path: Path, lie: str) -> None:
    registry.breaks = 1
    registry.lie = lie
    (result,) = push(registry, tmp_path, layout(tmp_path, (TAR, "gzip")))
    arrived(registry, result)


@pytest.mark.parametrize(("lie", "says"), [("busy", "answers with HTTP 503"), ("no token", "the token service of ")])
def test_an_upload_that_cannot_be_asked_for_is_left_as_it_is(
    registry: FakeRegistry, tmp_path: Path, lie: str, says: str
) -> None:
    registry.auth, registry.breaks, registry.lie = "token", 1, lie
    reference = layout(tmp_path, (TAR, "gzip"))
    with pytest.raises(TargetError, match=says):
        push(registry, tmp_path, reference)
    assert ([len(data) for data in registry.begun.values()], registry.cancelled) == ([1 << 20], 0)
    registry.lie = ""
    (result,) = push(registry, tmp_path, reference)
    arrived(registry, result)
    assert result.bytes.resumed == 1 << 20


def test_where_an_upload_has_a_state_it_goes_up_in_one_piece(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.state = "_state=abc"
    registry.breaks = 1
    (result,) = push(registry, tmp_path, layout(tmp_path, (TAR, "gzip")))
    arrived(registry, result)
    assert not [method for method, _, _ in registry.seen if method == "PATCH"]
    assert registry.cancelled == 1
