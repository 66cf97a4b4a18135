"""A registry that lies, and its token service, as the source: in bounds, in one sentence, and no login goes astray."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile import registries
from hostile.claims import one_sentence, only_asked
from hostile.command import Command
from hostile.conduits import honest
from hostile.layouts import PICTURE
from hostile.selection import params
from hostile.serving import Playing, answer, serving

PASSWORD = "sesame-and-more"


@pytest.fixture(scope="module")
def playing() -> Iterator[Playing]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Playing]:
    """Another host, which a login is not for."""
    with serving() as server:
        yield server


def log_in(layerferry: Command, address: str, **entry: str) -> None:
    folder = layerferry.home / ".docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auths": {address: entry}}))


@pytest.mark.parametrize("case", params(registries.CASES, 28))
def test_a_hostile_registry_reaches_no_target(
    case: registries.Case, playing: Playing, layerferry: Command, tmp_path: Path
) -> None:
    record = tmp_path / "heard"
    playing.play(case.answering(playing.address))
    words = ("push", f"registry:{playing.address}/app:1", "--name", "app:1", *case.options)
    run = layerferry(*words, "--", *honest(record))
    one_sentence(run, case.codes, case.says)
    only_asked(record, sent=case.sends)


@pytest.mark.parametrize("challenge", ["", registries.CHALLENGE], ids=["open", "with a token"])
def test_an_honest_registry_is_believed(challenge: str, playing: Playing, layerferry: Command, tmp_path: Path) -> None:
    record = tmp_path / "heard"
    playing.play(registries.Case("honest", challenge=challenge).answering(playing.address))
    run = layerferry("push", f"registry:{playing.address}/app:1", "--name", "app:1", "--", *honest(record))
    one_sentence(run, (0,), "verified")
    assert record.read_text().endswith("done\n")


@pytest.mark.parametrize("moving", [*(f"identity {status}" for status in (301, 302, 303, 307, 308)), "password 307"])
def test_no_login_follows_a_token_service_to_another_host(
    moving: str, playing: Playing, elsewhere: Playing, layerferry: Command, tmp_path: Path
) -> None:
    kind, _, status = moving.partition(" ")
    moved = answer(b"", f"{status} Moved", Location=f"http://localhost:{elsewhere.address.rpartition(':')[2]}/token")
    elsewhere.play(lambda _: answer(b'{"token": "x"}'))
    playing.play(registries.token("moved", moved).answering(playing.address))
    basic = base64.b64encode(f"anna:{PASSWORD}".encode()).decode()
    log_in(layerferry, playing.address, **({"identitytoken": PASSWORD} if kind == "identity" else {"auth": basic}))
    run = layerferry(
        "push", f"registry:{playing.address}/app:1", "--name", "app:1", "--dry-run", "--", *honest(tmp_path / "heard")
    )
    one_sentence(run, (0, 3))
    seen = repr(elsewhere.seen)
    assert PASSWORD not in seen
    assert basic not in seen
    if kind == "identity":
        assert elsewhere.seen == []


def test_no_login_follows_a_blob_to_another_host(
    playing: Playing, elsewhere: Playing, layerferry: Command, tmp_path: Path
) -> None:
    moved = answer(b"", "307 Moved", Location=f"http://localhost:{elsewhere.address.rpartition(':')[2]}/blob")
    elsewhere.play(lambda _: answer(PICTURE.layers[0]))
    case = registries.Case("moved", {registries.LAYER: moved}, challenge=registries.CHALLENGE)
    playing.play(case.answering(playing.address))
    run = layerferry("push", f"registry:{playing.address}/app:1", "--name", "app:1", "--", *honest(tmp_path / "heard"))
    one_sentence(run, (0,))
    assert elsewhere.seen
    assert not any("authorization" in request.headers for request in elsewhere.seen)


def test_there_are_enough_of_them() -> None:
    assert len({case.name for case in registries.CASES}) == len(registries.CASES) >= 60
