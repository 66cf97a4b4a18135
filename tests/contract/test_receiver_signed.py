"""A receiver that wants signed images, before honest clients: what a policy lets happen, and what is remembered."""

import contextlib
import json
import math
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

import signed
from fuzz import oracle
from fuzz.bench import BASE_ID, BEFORE
from fuzz.shipment import BASE, INCOMING, NAME, Image, Shipment, digest
from hostile.signatures import KEY, Stage, now, there
from layerferry.receive import program
from layerferry.receive.allowed_signers import AllowedSigners
from layerferry.receive.decision_log import DecisionLog
from layerferry.receive.decompression import Expander
from layerferry.receive.dialogue import Dialogue, Host
from layerferry.receive.engine import find_program
from layerferry.receive.frames import Client
from layerferry.receive.newest_accepted import Accepted, NewestStatements
from layerferry.receive.policy import Policy, Rules
from layerferry.receive.refusal import Refusal
from signed import Keys

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def stage(tmp_path: Path, keys: Keys) -> Stage:
    return Stage(tmp_path, keys)


def again(stage: Stage, layer: bytes, created: int) -> Stage:
    """The same client with another image, whose statement is of another time."""
    stage.shipment = Shipment([Image(layers=[layer])])
    stage.changes = {"created": created}
    return stage


def test_the_greeting_tells_how_many_must_sign(stage: Stage) -> None:
    stage.options = ("--require", "2")
    lines = stage.serve().lines
    assert "capability resume signed" in lines
    assert "signatures 2" in lines


def test_a_newer_image_follows_and_an_older_does_not_come_back(stage: Stage) -> None:
    start = now() - 100
    for layer, created, ends in [
        (b"one" * 100, start, "done"),
        (b"two" * 100, start + 10, "done"),
        (b"one" * 100, start, "failed"),
        (b"two" * 100, start + 10, "done"),  # the same once more
        (b"two" * 100, start + 5, "done"),  # signed earlier, and the same image
        (b"three" * 100, start + 9, "failed"),
        (b"three" * 100, start + 11, "done"),
    ]:
        assert again(stage, layer, created).serve().lines[-1].startswith(ends), (layer[:5], created)


def test_an_older_image_comes_back_where_the_policy_says_so(stage: Stage) -> None:
    stage.state.rmdir()
    for created in (now() - 10, now() - 20):
        assert again(stage, b"%d" % created * 100, created).serve("--allow-rollback").lines[-1] == "done"


def test_root_says_whether_an_older_image_comes_back(stage: Stage) -> None:
    policy = stage.folder / "receive.toml"
    policy.write_text(f'signers = "{stage.signers}"\nstate = "{stage.state}"\n')
    more = ("--policy", str(policy), "--allow-rollback")
    assert again(stage, b"new" * 100, now() - 10).serve(*more).lines[-1] == "done"
    assert "not newer" in again(stage, b"old" * 100, now() - 20).serve(*more).failed


def test_an_image_that_is_there_gets_a_signed_name(stage: Stage) -> None:
    ours = stage.line(config=BASE_ID, diff_ids=[digest(BASE)])
    stage.shipment.bend_all = lambda _: there(stage, ours)
    assert stage.serve().lines[-1] == "done"
    assert stage.bench.names == {**BEFORE, NAME: BASE_ID}


def test_each_name_that_was_signed_may_be_given(stage: Stage) -> None:
    names = ["docker.io/library/app:2", "docker.io/library/app:latest"]
    stage.changes = {"names": names}
    stage.shipment.then = [*(f"tag {INCOMING} {name}" for name in names), "done"]
    assert stage.serve().lines[-1] == "done"
    assert stage.bench.names.keys() == {*BEFORE, *names}
    naming = next(event for event in stage.bench.events if event["event"] == "naming")
    assert naming["signers"] == {name: ["ann@example.com"] for name in names}


def test_two_signers_sign_each_for_himself(stage: Stage) -> None:
    stage.allow(f"ann@x {stage.keys.public(KEY)}", f"bob@x {stage.keys.public('ecdsa-bob')}")
    stage.options = ("--require", "2")
    stage.lines = [stage.line(KEY), stage.line("ecdsa-bob", created=now() - 10)]
    assert stage.serve().lines[-1] == "done"
    assert [event["principals"] for event in stage.bench.events if event["event"] == "signed"] == [["ann@x"], ["bob@x"]]


def test_a_certificate_counts_by_its_principal(stage: Stage) -> None:
    stage.allow(f'*@ci.example.com cert-authority,namespaces="{signed.NAMESPACE}" {stage.keys.ca}')
    stage.key = stage.keys.certificate("ed25519-run", "main@ci.example.com,x@else", "-V", "-5m:+1h")
    assert stage.serve().lines[-1] == "done"
    assert next(event for event in stage.bench.events if event["event"] == "signed")["principals"] == [
        "main@ci.example.com"
    ]


def test_an_old_client_hears_why(stage: Stage) -> None:
    """It shows no signature, since it knows of none."""
    stage.lines = []
    answer = stage.serve()
    assert answer.failed.startswith("failed refused the image is not signed")


def test_the_hosts_own_policy_file_is_honoured(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = stage.folder / "etc.toml"
    policy.write_text(f'signers = "{stage.signers}"\nmax_signature_age = "30d"\nrequire = 1\n')
    monkeypatch.setattr(program, "POLICY_FILE", policy)
    found = program._policy(None, {"allow": ["app:*"]})
    assert found.signs
    assert found.signers() == [stage.signers]
    assert (found.max_signature_age, found.require, found.allow_rollback) == (30 * 24 * 3600, 1, False)


def test_no_command_line_chooses_the_memory_of_roots_signers() -> None:
    signers = {"signers": "/etc/layerferry/allowed_signers"}
    ours = Rules.read({"state": "/home/deploy/fresh", **signers})
    assert Policy((ours,)).memory == Path("/home/deploy/fresh")
    assert Policy((Rules.read(signers), ours)).memory == Path("/var/lib/layerferry")
    assert Policy((Rules.read({"state": "/srv/state"}), ours)).memory == Path("/srv/state")


@pytest.mark.parametrize("rule", ["require = 2", 'max_signature_age = "1d"', 'revoked = "/etc/hostname"'])
def test_a_rule_on_signatures_without_signers_lets_nothing_in(stage: Stage, rule: str) -> None:
    policy = stage.folder / "receive.toml"
    policy.write_text(rule + "\n")
    data = Shipment().session()
    answer = stage.bench.serve(data, "--allow", "app:*", "--policy", str(policy))
    assert answer.failed == "failed refused the policy wants signatures, and does not say whose"
    assert stage.bench.events[-2]["event"] == "failed"


def test_without_ssh_keygen_nothing_is_asked(stage: Stage) -> None:
    data = Shipment().session()
    rules = Rules.read({"allow": ["app:*"], "signers": str(stage.signers), "state": str(stage.state)}, os.getuid())
    assert find_program("ssh-keygen", {"PATH": str(stage.folder)}) == ""
    incoming, outgoing, log = (stage.folder / name for name in ("in", "out", "decisions"))
    incoming.write_bytes(data)
    engine = oracle.new()
    with incoming.open("rb") as heard, outgoing.open("wb") as said:
        client = Client(heard.fileno(), said.fileno(), idle=60, until=math.inf)
        host = Host(lambda _: engine, Expander("", {}), {}, stage.folder, keygen="")
        with contextlib.closing(DecisionLog(str(log))) as decisions:
            assert Dialogue(client, Policy((rules,)), host, decisions).run() == 1
    assert outgoing.read_text().splitlines() == [
        "layerferry 1 receive",
        "failed refused signatures cannot be checked: there is no ssh-keygen here",
    ]
    assert [json.loads(line)["event"] for line in log.read_text().splitlines()] == ["failed"]


def test_nothing_of_the_clients_is_on_a_command_line(stage: Stage) -> None:
    seen = stage.folder / "seen"
    wrapper = stage.bench.bin / "ssh-keygen"
    wrapper.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{seen}\nPATH=/usr/bin:/bin exec ssh-keygen "$@"\n')
    wrapper.chmod(0o755)
    assert stage.serve().lines[-1] == "done"
    words = {word for word in seen.read_text().splitlines() if not word.startswith(str(stage.bench.spool))}
    ours = {"-Y", "find-principals", "verify", "-f", "-s", "-n", signed.NAMESPACE, "-I"}
    assert words == {*ours, "ann@example.com", str(stage.signers)}


def test_the_memory_is_whole_or_as_it_was(tmp_path: Path) -> None:
    memory = NewestStatements(tmp_path)
    with memory.accept({NAME: Accepted(A, 10, 20)}):
        pass
    (tmp_path / f"statement-{'0' * 64}.new").write_text("half of")
    with pytest.raises(Refusal, match="not newer"), memory.accept({NAME: Accepted(B, 20, 30)}):
        pass
    with memory.accept({NAME: Accepted(A, 5, 6)}):
        pass
    memory.check(NAME, Accepted(B, 21, 21))
    with pytest.raises(Refusal, match="not newer"):
        memory.check(NAME, Accepted(B, 20, 20))


def test_of_two_names_none_is_accepted_where_one_is_older(tmp_path: Path) -> None:
    memory = NewestStatements(tmp_path)
    with memory.accept({NAME: Accepted(A, 20, 20)}):
        pass
    other = "docker.io/library/app:2"
    with (
        pytest.raises(Refusal, match="not newer"),
        memory.accept({other: Accepted(B, 10, 10), NAME: Accepted(B, 10, 10)}),
    ):
        pass
    memory.check(other, Accepted(A, 1, 1))


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A tmpfs in the place of a folder."""
    mount = ["mount", "-t", "tmpfs", "-o", options, "layerferry-test", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a tmpfs")
def test_a_memory_that_cannot_be_written_names_nothing(stage: Stage) -> None:
    with mounted(stage.state, "ro"):
        assert "no statement is accepted without a memory" in stage.serve().failed
        assert stage.bench.names == BEFORE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a tmpfs")
def test_a_memory_on_a_full_disk_names_nothing(stage: Stage) -> None:
    with mounted(stage.state, "size=4k,nr_inodes=3"):
        (stage.state / "filler").write_bytes(b"x" * 4096)
        assert "no statement is accepted without a memory" in stage.serve().failed
        assert stage.bench.names == BEFORE
        assert not stage.bench.loads or "naming" not in [event["event"] for event in stage.bench.events]


def test_two_sessions_do_not_pass_each_other(tmp_path: Path) -> None:
    """What one is about to name, the other compares with."""
    order: list[str] = []
    entered, leave = threading.Event(), threading.Event()

    def first() -> None:
        with NewestStatements(tmp_path).accept({NAME: Accepted(A, 20, 20)}):
            order.append("first names")
            entered.set()
            leave.wait(20)
            order.append("first has named")

    def second() -> None:
        with contextlib.suppress(Refusal), NewestStatements(tmp_path).accept({NAME: Accepted(B, 10, 10)}):
            order.append("second names")
        order.append("second ends")

    one, two = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    assert entered.wait(20)
    two.start()
    leave.set()
    one.join(20)
    two.join(20)
    assert order == ["first names", "first has named", "second ends"]


@pytest.mark.parametrize(
    ("program", "folder", "says"),
    [
        ("#!/bin/sh\nyes\n", "", r"ssh-keygen says more than \d+ bytes"),
        ("\x7fELF", "", "ssh-keygen cannot be started: Exec format error"),
        ("", "missing", "No such file or directory"),
    ],
)
def test_why_signatures_cannot_be_checked_is_told(program: str, folder: str, says: str, tmp_path: Path) -> None:
    tool = tmp_path / "keygen"
    tool.write_text(program)
    tool.chmod(0o755)
    allowed = AllowedSigners(str(tool), {"PATH": os.defpath}, tmp_path / "signers", [], tmp_path / folder)
    with pytest.raises(Refusal, match=rf"^signatures cannot be checked: {says}$"):
        allowed.verify(Mock(signature=b"signature"))
