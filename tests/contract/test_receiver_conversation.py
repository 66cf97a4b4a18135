"""The receiver's conversation with honest clients, and what policy, engine and signals make of it."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz.bench import BASE_ID, BEFORE, CONTAINERD, SECRET_ID, Bench
from fuzz.shipment import BASE, INCOMING, LAYER, NAME, TOP, Image, Shipment, digest, lines, members_of_gzip, path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def image_id(shipment: Shipment) -> str:
    return digest(shipment.images[0].config)


def test_takes_an_honest_image_and_names_it(bench: Bench) -> None:
    shipment = Shipment()
    answer = bench.serve(shipment.session())
    assert answer.lines == [
        "layerferry 1 receive",
        "engine docker 28.5.2 overlay2",
        "owner root",
        "store chain",
        "platform linux/amd64",
        "accept none gzip zstd" if shutil.which("zstd") else "accept none gzip",
        "capability resume names",
        "patch zstd gzip" if shutil.which("zstd") else "patch gzip",
        f"image {image_id(shipment)}",
        f"chain 1 {BASE_ID}",
        "end",
        f"loaded {INCOMING} {image_id(shipment)}",
        "end",
        "done",
    ]
    assert (answer.code, answer.stderr) == (0, "")
    assert bench.names == {**BEFORE, NAME: image_id(shipment)}


def test_the_engine_gets_our_words_about_checked_blobs_and_nothing_of_the_clients(bench: Bench) -> None:
    shipment = Shipment()
    bench.serve(shipment.session())
    with tarfile.open(bench.loads[0]) as archive:
        held = {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]
    image = shipment.images[0]
    blobs = {path(digest(blob)): blob for blob in (TOP, image.config, image.manifest)}
    assert {name: data for name, data in held.items() if name.startswith("blobs/")} == blobs
    [told] = json.loads(held["manifest.json"])
    assert told["RepoTags"] != [INCOMING]
    assert told["Layers"] == [path(digest(BASE)), path(digest(TOP))]
    assert INCOMING.encode() not in bench.loads[0].read_bytes()


def test_leaves_no_throw_away_name_and_no_file(bench: Bench) -> None:
    bench.serve(Shipment().session())
    assert not [name for name in bench.names if "layerferry" in name]
    assert not list(bench.spool.iterdir())


@pytest.mark.parametrize(
    ("method", "encode"),
    [("none", bytes), ("gzip", gzip.compress), ("gzip", members_of_gzip)],
    ids=["none", "gzip", "gzip of two members"],
)
def test_takes_a_compressed_stream(bench: Bench, method: str, encode: Callable[[bytes], bytes]) -> None:
    assert bench.serve(Shipment(load=f"load {method}", encode=encode).session()).lines[-1] == "done"


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout


@pytest.mark.skipif(not shutil.which("zstd"), reason="no zstd binary")
def test_takes_zstd_through_the_binary_in_frames_and_in_layers(bench: Bench) -> None:
    image = Image(store=zstd, media_type=f"{LAYER}+zstd")
    assert bench.serve(Shipment([image], load="load zstd", encode=zstd).session()).lines[-1] == "done"


def test_takes_gzip_layers(bench: Bench) -> None:
    image = Image(store=gzip.compress, media_type=f"{LAYER}+gzip")
    assert bench.serve(Shipment([image]).session()).lines[-1] == "done"


def test_takes_an_image_without_layers(bench: Bench) -> None:
    assert bench.serve(Shipment([Image(layers=[], below=[])]).session()).lines[-1] == "done"


def test_changes_nothing_in_a_dry_run_whatever_comes_after(bench: Bench) -> None:
    asked = lines(["dry-run", f"image {BASE_ID}", f"layer {digest(BASE)}", "end", f"tag {BASE_ID} {NAME}", "done"])
    answer = bench.serve(Shipment().preamble + asked)
    assert answer.lines[-3:] == ["present", "end", "failed refused nothing is changed in a dry run"]
    assert bench.names == BEFORE
    shipment = Shipment()
    shipment.ask = ["dry-run", *shipment.header()[:3], "end"]
    assert bench.serve(shipment.session()).failed == "failed refused nothing is changed in a dry run"
    assert not bench.loads


def test_says_nothing_of_an_image_that_the_policy_does_not_name(bench: Bench) -> None:
    asked = lines([f"image {SECRET_ID}", f"layer {digest(b'secret')}", "end"])
    assert bench.serve(Shipment().preamble + asked).lines[-3:] == [f"image {SECRET_ID}", "chain 0", "end"]


def test_shows_what_may_be_reused_but_not_named(bench: Bench) -> None:
    asked = lines([f"image {SECRET_ID}", "end"])
    answer = bench.serve(Shipment().preamble + asked, "--allow", "app:*", "--reuse", "vault:*")
    assert answer.lines[-2] == "present"


def test_names_an_image_that_it_has_told_as_the_holder_of_all_layers(bench: Bench) -> None:
    """A source may call the very same image by another ID, as docker's containerd store does by its manifest's."""
    other = "sha256:" + "9" * 64
    asked = [f"image {other}", f"layer {digest(BASE)}", "end"]
    answer = bench.serve(Shipment().preamble + lines([*asked, f"tag {BASE_ID} {NAME}", "done"]))
    assert answer.lines[-3:] == [f"chain 1 {BASE_ID}", "end", "done"]
    assert bench.names[NAME] == BASE_ID
    answer = bench.serve(Shipment().preamble + lines([*asked, f"tag {SECRET_ID} {NAME}", "done"]))
    assert answer.failed.startswith(f"failed refused there is no '{SECRET_ID[:60]}")


def test_refuses_a_name_before_anything_is_sent_if_the_client_says_it_early(bench: Bench) -> None:
    answer = bench.serve(Shipment().preamble + b"name docker.io/library/vault:1\n")
    assert answer.failed == "failed refused the name vault:1 is not allowed here"


def test_hanging_up_after_the_greeting_is_no_failure(bench: Bench) -> None:
    answer = bench.serve(Shipment().preamble + b"end\n")
    assert (answer.code, answer.lines[-1]) == (0, "end")


# --- a containerd store, whose blobs are learned on the host itself


def containerd(tmp_path: Path) -> tuple[Bench, dict[str, object]]:
    bench = Bench(tmp_path, info=CONTAINERD)
    stored = gzip.compress(BASE)
    own = {"mediaType": f"{LAYER}+gzip", "digest": digest(stored), "size": len(stored)}
    manifest = {"schemaVersion": 2, "config": {"digest": digest(b"config"), "size": 6}, "layers": [own]}
    bench.engine["blobs"] = {BASE_ID: manifest}
    bench.save()
    return bench, own


def test_a_containerd_store_reuses_its_own_blobs_though_the_client_knows_diff_ids_only(tmp_path: Path) -> None:
    bench, own = containerd(tmp_path)
    shipment = Shipment()
    answer = bench.serve(shipment.session())
    assert "store layer" in answer.lines
    assert f"loaded {INCOMING} {image_id(shipment)}" in answer.lines
    with tarfile.open(bench.loads[0]) as archive:
        index = json.loads(archive.extractfile("index.json").read())  # type: ignore[union-attr]
        entry = index["manifests"][0]
        manifest = json.loads(archive.extractfile(path(entry["digest"])).read())  # type: ignore[union-attr]
    assert manifest["layers"][0] == own
    assert manifest["layers"][1]["digest"] == digest(TOP)
    assert bench.names[NAME] == entry["digest"]
    assert not [name for name in bench.names if "127.0.0.1" in name]


def test_a_containerd_store_knows_an_image_by_its_config_too(tmp_path: Path) -> None:
    bench, _ = containerd(tmp_path)
    asked = [f"image {digest(b'config')}", f"layer {digest(BASE)}", "end", f"tag {digest(b'config')} {NAME}", "done"]
    assert bench.serve(Shipment().preamble + lines(asked)).lines[-3:] == ["present", "end", "done"]
    assert bench.names[NAME] == BASE_ID


def test_a_containerd_store_that_does_not_tell_gets_every_layer(tmp_path: Path) -> None:
    bench = Bench(tmp_path, info=CONTAINERD)
    assert "store blob" in bench.serve(Shipment([Image(layers=[BASE, TOP], below=[])]).session()).lines


# --- engines that lie


@pytest.mark.parametrize(
    ("lie", "verdict"),
    [
        ("fail", "failed load Error: no space left on device"),
        ("empty", "failed verify the engine shows another image than was sent"),
        ("nothing", "failed verify the engine does not show what it loaded"),
    ],
)
def test_believes_what_the_engine_shows_not_what_it_says(bench: Bench, lie: str, verdict: str) -> None:
    bench.engine["lie"] = lie
    bench.save()
    answer = bench.serve(Shipment().session())
    assert (answer.failed, answer.code) == (verdict, 1)
    assert bench.names == BEFORE


def test_without_an_engine_it_says_so(bench: Bench) -> None:
    (bench.bin / "docker").unlink()
    assert bench.serve(
        Shipment().session(), "--allow", "app:*", "--engine", str(bench.bin / "docker")
    ).failed.startswith("failed no-engine")


# --- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_drops_what_was_loaded(bench: Bench, number: int) -> None:
    shipment = Shipment(then=[])
    with subprocess.Popen(
        bench.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=bench.environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(shipment.session())
        process.stdin.flush()
        while not process.stdout.readline().startswith(b"loaded"):
            pass
        assert [name for name in bench.names if "localhost/layerferry" in name]
        process.send_signal(number)
        assert process.wait(20) == 130
    assert bench.names == BEFORE


def test_what_a_session_has_left_that_was_killed_goes_with_the_next_load(bench: Bench) -> None:
    """No trap and no handler runs then: the engine keeps the throw-away name."""
    with subprocess.Popen(
        bench.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=bench.environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(Shipment(then=[]).session())
        process.stdin.flush()
        while not process.stdout.readline().startswith(b"loaded"):
            pass
        process.kill()
    (left,) = [name for name in bench.names if "localhost/layerferry" in name]
    answer = bench.serve(Shipment().session())
    assert "swept 1" in answer.lines
    assert answer.lines[-1] == "done"
    assert left not in bench.names
    assert [event["names"] for event in bench.events if event["event"] == "swept"] == [[left]]


def test_hanging_up_drops_what_was_loaded(bench: Bench) -> None:
    assert bench.serve(Shipment(then=[]).session()).code == 1
    assert bench.loads
    assert bench.names == BEFORE


# --- policies


def test_an_immutable_name_does_not_move(bench: Bench) -> None:
    shipment = Shipment(then=[f"tag {INCOMING} docker.io/library/app:1", "done"])
    answer = bench.serve(shipment.session(), "--allow", "app:*", "--immutable-tags")
    assert answer.failed == "failed refused app:1 is taken, and names do not move here"
    assert bench.names == BEFORE
    assert bench.serve(Shipment().session(), "--allow", "app:*", "--immutable-tags").lines[-1] == "done"
    assert bench.serve(Shipment().session(), "--allow", "app:*", "--immutable-tags").lines[-1] == "done"


def test_no_name_is_given_unless_all_of_them_may_be(bench: Bench) -> None:
    shipment = Shipment(then=[f"tag {INCOMING} {NAME}", f"tag {INCOMING} docker.io/library/vault:1", "done"])
    assert "vault:1 is not allowed" in bench.serve(shipment.session()).failed
    assert bench.names == BEFORE


def test_a_pinned_digest_allows_just_that_image(bench: Bench) -> None:
    everything = Shipment([Image(layers=[BASE, TOP], below=[])])
    other = f"app@{digest(b'another')}"
    assert "is not allowed" in bench.serve(everything.session(), "--allow", other).failed
    assert not bench.loads
    for wanted in (digest(everything.images[0].config), digest(everything.images[0].manifest)):
        assert bench.serve(everything.session(), "--allow", f"app@{wanted}").lines[-1] == "done"


def test_a_day_has_its_bytes_and_no_more(bench: Bench) -> None:
    options = ("--allow", "app:*", "--max-bytes-per-day", "30K", "--state", str(bench.home / "state"))
    answers = [bench.serve(Shipment().session(), *options) for _ in range(4)]
    assert answers[0].lines[-1] == "done"
    assert answers[-1].failed == "failed refused today's 30720 bytes are used up"
    assert len(bench.loads) < 4


def test_a_count_that_cannot_be_read_is_a_refusal(bench: Bench) -> None:
    state = bench.home / "state"
    state.mkdir()
    (state / "default.day").write_text("{")
    options = ("--allow", "app:*", "--max-bytes-per-day", "30K", "--state", str(state))
    assert (
        bench.serve(Shipment().session(), *options).failed == "failed refused the count of today's bytes cannot be kept"
    )


def test_a_platform_that_the_policy_names_may_come(bench: Bench) -> None:
    shipment = Shipment([Image(architecture="arm64")])
    assert "linux/arm64 are not taken" in bench.serve(shipment.session()).failed
    assert bench.serve(shipment.session(), "--allow", "app:*", "--platform", "linux/arm64").lines[-1] == "done"


def hook(bench: Bench, text: str) -> str:
    script = bench.bin / "hook"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    return str(script)


def test_runs_the_policys_command_after_a_push_with_the_image_in_its_environment(bench: Bench) -> None:
    shipment = Shipment()
    command = hook(bench, 'echo "$# $1 $LAYERFERRY_IMAGE $LAYERFERRY_IMAGE_ID" >"$HOME/ran"; echo to nobody')
    answer = bench.serve(shipment.session(), "--allow", "app:*", "--run", f"{command} 'a b; $(id)'")
    assert answer.lines[-1] == "done"
    assert (bench.home / "ran").read_text() == f"1 a b; $(id) {NAME} {image_id(shipment)}\n"
    assert [event["status"] for event in bench.events if event["event"] == "ran"] == [0]


def test_says_when_the_policys_command_fails(bench: Bench) -> None:
    answer = bench.serve(Shipment().session(), "--allow", "app:*", "--run", hook(bench, "exit 3"))
    assert answer.failed == f"failed run {NAME} is named, but what should follow ended with status 3"
    assert NAME in bench.names


def test_ends_a_command_that_does_not_end(bench: Bench) -> None:
    options = ("--allow", "app:*", "--run", hook(bench, "sleep 60"), "--run-timeout", "0.5")
    assert bench.serve(Shipment().session(), *options).failed.endswith("ended with no end in time")


def test_runs_nothing_when_nothing_was_named(bench: Bench) -> None:
    command = hook(bench, 'touch "$HOME/ran"')
    bench.serve(Shipment(then=["tag nothing at:all"]).session(), "--allow", "app:*", "--run", command)
    assert not (bench.home / "ran").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes root's files")
def test_roots_file_is_not_loosened_by_the_command_line(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('allow = ["app:*"]\nmax_bytes = "1K"\n')
    loose = ("--policy", str(file), "--allow", "**:*", "--max-bytes", "1T")
    assert "1024 bytes" in bench.serve(Shipment().session(), *loose).failed
    asked = lines(["name docker.io/library/vault:1"])
    assert "vault:1 is not allowed" in bench.serve(Shipment().preamble + asked, *loose).failed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_policy_file_that_others_can_write_is_not_obeyed(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('allow = ["app:*"]\n')
    file.chmod(0o666)
    assert "is not safe" in bench.serve(b"", "--policy", str(file)).failed
    file.chmod(0o644)
    os.chown(file, 12345, -1)
    assert "is not safe" in bench.serve(b"", "--policy", str(file)).failed


def test_without_allowed_names_there_is_nothing_to_talk_about(bench: Bench) -> None:
    assert bench.serve(Shipment().session(), "--reuse", "app:*").failed == "failed refused the policy allows no names"


def test_what_cannot_be_logged_is_not_done(bench: Bench) -> None:
    bench.log.mkdir()
    assert bench.serve(Shipment().session()).failed == "failed refused the receiver's log cannot be written"
    assert not bench.calls


# --- the log, and the process


def test_logs_each_decision_as_one_line_of_json(bench: Bench) -> None:
    bench.serve(Shipment().session())
    assert [event["event"] for event in bench.events] == ["start", "asked", "checked", "naming", "named", "end"]
    assert {event["peer"] for event in bench.events} == {"192.0.2.7"}
    bench.serve(Shipment(then=["tag nothing at:all"]).session())
    assert bench.events[-2]["event"] == "failed"
    assert bench.log.stat().st_mode & 0o077 == 0


def test_says_when_nobody_speaks(bench: Bench) -> None:
    with subprocess.Popen(
        bench.command("--allow", "app:*", "--idle", "0.3", "--session", "5"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=bench.environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"failed refused nothing came for 0.3 s\n"


def test_ends_a_session_that_dribbles(bench: Bench) -> None:
    reading, writing = os.pipe()
    with subprocess.Popen(
        bench.command("--allow", "app:*", "--idle", "1", "--session", "1.5"),
        stdin=reading,
        stdout=subprocess.PIPE,
        env=bench.environment,
    ) as process:
        while process.poll() is None:
            os.write(writing, b"x")
            time.sleep(0.1)
        assert process.stdout is not None
        assert process.stdout.read() == b"failed refused the session takes too long\n"
    os.close(reading)
    os.close(writing)


_TELL = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
_HELP = "sys.argv[1:] = ['receive', '--help']; from layerferry.__main__ import main; main()"


def loaded(code: str) -> set[str]:
    """The modules that a Python has at the end of `code`."""
    done = subprocess.run([sys.executable, "-c", _TELL + code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_imports_the_standard_library_alone_and_no_more_of_it_than_it_needs() -> None:
    bare = loaded("pass")
    found = loaded(_HELP) - bare
    assert {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names) == {"layerferry"}
    ours = {name for name in found if name.startswith("layerferry.") and "receive" not in name}
    shared = {"__main__", "ci", "ci.escape", "errors", "oci", "oci.image", "oci.limits", "oci.store_kind", "protocol"}
    shared |= {"lazy", "settings", "streams"}
    assert ours == {f"layerferry.{name}" for name in shared}
    found = loaded("import layerferry.receive.program") - bare
    assert not found & {"email", "http", "logging", "shutil", "socketserver", "tarfile", "tempfile", "tomllib"}


def test_speaks_to_programs_only(bench: Bench) -> None:
    master, slave = os.openpty()
    with os.fdopen(master, "rb"), os.fdopen(slave, "rb") as terminal:
        done = subprocess.run(
            bench.command(), stdin=terminal, capture_output=True, check=False, env=bench.environment, timeout=20
        )
    assert done.returncode == 2
    assert b"not to a person" in done.stderr


def test_a_spool_that_has_gone_is_told(bench: Bench) -> None:
    bench.spool.rmdir()
    failed = bench.serve(Shipment().session()).failed
    assert failed == "failed load the archive cannot be kept: No such file or directory"
    bench.spool.mkdir()
