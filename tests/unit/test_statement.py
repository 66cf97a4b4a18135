"""Statements have one form, signatures are of one kind, and signers count once."""

import base64
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerferry import image_signing
from layerferry.errors import UsageError, VerificationError
from layerferry.oci.image import Image, Layer, Platform
from layerferry.receive.allowed_signers import Signer, count
from layerferry.signing.offer import read_signature, state
from layerferry.signing.sshsig import SignedStatement, armour, read_armour
from layerferry.signing.statement import LARGEST, Statement, StatementError, duration

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NAME = "docker.io/library/app:1"
SAID: dict[str, Any] = {
    "config": A,
    "created": 1_790_000_000,
    "diff_ids": [A, B],
    "expires": 0,
    "names": [NAME],
    "platform": "linux/arm/v7",
    "version": 1,
}
#: A signature that ssh-keygen made over nothing, in our namespace.
SIGNATURE = base64.b64decode(
    "U1NIU0lHAAAAAQAAAGgAAAATZWNkc2Etc2hhMi1uaXN0cDI1NgAAAAhuaXN0cDI1NgAAAEEEiAEzXAYe/7IN09FxyGP3gscZVyI3E2euBu9f"
    "rMqRPHSmeCdsPKa6dxIEwxs+jpVjporkJvHazO/QusVgH5EViQAAABBpbWFnZUBsYXllcmZlcnJ5AAAAAAAAAAZzaGE1MTIAAABkAAAAE2Vj"
    "ZHNhLXNoYTItbmlzdHAyNTYAAABJAAAAIQDyDv2TjBr55G5y7DtzXJ1F8t0oCHBOXUHUSBvkgUNSVAAAACA6fB7Wwmj8ng05AdSUFQPKsVyB"
    "rcRQLpTvsOqVbFgH1Q=="
)


def dumped(said: Any) -> bytes:
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def test_a_statement_is_read_as_it_was_written() -> None:
    statement = Statement(A, (A, B), (NAME,), Platform("linux", "arm", "v7"), 1_790_000_000)
    assert statement.encode() == dumped(SAID)
    assert Statement.read(statement.encode()) == statement


@given(st.binary(max_size=300))
def test_no_other_bytes_are_a_statement(data: bytes) -> None:
    with pytest.raises(StatementError):
        Statement.read(data)


@given(st.integers(0, len(dumped(SAID)) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_what_is_read_is_what_is_written(at: int, put: bytes, cut: int) -> None:
    """However a statement is bent, what is still one says just its bytes."""
    data = dumped(SAID)
    bent = data[:at] + put + data[at + cut :]
    try:
        statement = Statement.read(bent)
    except StatementError:
        return
    assert statement.encode() == bent


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3),
)


@given(st.sampled_from(sorted(SAID)), json_values)
def test_each_value_is_of_its_kind(key: str, value: Any) -> None:
    try:
        statement = Statement.read(dumped(SAID | {key: value}))
    except StatementError:
        return
    assert json.loads(statement.encode()) == SAID | {key: value}


def test_a_statement_is_bounded() -> None:
    with pytest.raises(StatementError, match=f"larger than {LARGEST} bytes"):
        Statement.read(b" " * (LARGEST + 1))
    with pytest.raises(StatementError, match="more than 512 layers"):
        Statement(A, (A,) * 513, (NAME,), Platform("linux", "amd64"), 1)
    layers = tuple(f"sha256:{number:064x}" for number in range(127))
    assert len(Statement(A, layers, (NAME,), Platform("linux", "amd64"), 1).encode()) < LARGEST


def test_what_an_image_must_be() -> None:
    statement = Statement.read(dumped(SAID))
    assert statement.is_of(A, [A, B], Platform("linux", "arm", "v7"))
    assert statement.is_of(A, [A, B], Platform("linux", "arm"))
    assert statement.is_of(A, [A, B])
    assert not statement.is_of(B, [A, B])
    assert not statement.is_of(A, [B, A])
    assert not statement.is_of(A, [A, B], Platform("linux", "arm", "v6"))
    assert not statement.is_of(A, [A, B], Platform("linux", "arm64"))


def test_a_signature_is_a_file_and_two_words() -> None:
    signed = SignedStatement(Statement.read(dumped(SAID)), SIGNATURE)
    assert SignedStatement.read_file(signed.to_file()) == signed
    assert SignedStatement.read_words(*signed.words, json.loads) == signed
    assert read_armour(armour(SIGNATURE).replace(b"\n", b"\r\n")) == SIGNATURE


@given(st.integers(0, len(SIGNATURE)))
def test_a_signature_that_breaks_off_is_none(end: int) -> None:
    if end < len(SIGNATURE):
        with pytest.raises(StatementError):
            SignedStatement(Statement.read(dumped(SAID)), SIGNATURE[:end])


@given(st.binary(max_size=200))
def test_no_other_bytes_are_a_file(data: bytes) -> None:
    with pytest.raises(StatementError):
        SignedStatement.read_file(data)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)]
)
def test_a_duration(text: str, seconds: int) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0d", "-1", "1.5h", "1y", "1 h", "h", "٣h", "9" * 10, "999999999w"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        duration(text)


def signer(key: str, *principals: str) -> Signer:
    return Signer(principals[0], frozenset(principals), key)


@pytest.mark.parametrize(
    ("signers", "number"),
    [
        ([], 0),
        ([signer("k", "a")], 1),
        ([signer("k", "a"), signer("l", "b")], 2),
        ([signer("k", "a"), signer("k", "b")], 1),
        ([signer("k", "a"), signer("l", "a")], 1),
        ([signer("k", "a"), signer("l", "b"), signer("k", "b")], 1),
        ([signer("k", "a"), signer("l", "b"), signer("m", "b", "a")], 1),
        ([signer("k", "a", "b"), signer("l", "c"), signer("m", "d"), signer("m", "c")], 2),
    ],
)
def test_signers_that_may_be_one_count_once(signers: list[Signer], number: int) -> None:
    assert count(signers) == number
    assert count(reversed(signers)) == number


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"platform": "linux"}, "the statement has a platform that is none"),
        ({"created": -1}, "the statement has a time that is none"),
    ],
)
def test_what_is_no_statement_is_no_signature_of_an_image(said: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = tmp_path / "app.sig"
    path.write_bytes(armour(SIGNATURE) + dumped(SAID | said))
    with pytest.raises(UsageError, match=f"^{path} is no signature of an image: {says}$"):
        read_signature(path)


def test_a_signature_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"^the signature {tmp_path}/app.sig cannot be read: No such file"):
        read_signature(tmp_path / "app.sig")


def test_an_image_that_no_statement_can_say_is_not_signed() -> None:
    image = Image("app:1", A, Platform("linux", "amd64"), Layer.chain([B] * 513, [1] * 513))
    with pytest.raises(UsageError, match=r"^app:1 cannot be signed: the statement has more than 512 layers$"):
        state(image, A, [NAME])


def test_a_statement_that_has_expired_is_told() -> None:
    signed = SignedStatement(Statement.read(dumped(SAID | {"expires": SAID["created"] + 1})), SIGNATURE)
    allowed: Any = SimpleNamespace(verify=lambda _: Signer("ann", frozenset(["ann"]), "key"))
    with pytest.raises(VerificationError, match=r"^app.sig: the statement has expired on 20"):
        image_signing._told("app.sig", signed, allowed)
