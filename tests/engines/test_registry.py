"""Real docker daemons push into the embedded registry: everything, nothing, or just what they are denied."""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from layerferry.embedded_registry import PushRepository, Registry, SpooledBlob
from layerferry.errors import SourceError
from rig import CONTAINERD, DOCKERS, OVERLAY2, Engine, Noise, Rig, Text

BASE, APP = "registry-base:1", "registry-app:1"
LIMIT = 1 << 30

Snapshot = dict[str, tuple[frozenset[str], frozenset[str]]]


@dataclass
class Trace:
    """The requests that a registry has answered: method, path without the repository, status."""

    rows: list[tuple[str, str, int]] = field(default_factory=list)

    def __call__(self, request: Any, response: Any) -> None:
        self.rows.append((request.method, request.path.split("/", 4)[-1], int(response.status)))

    def count(self, method: str) -> int:
        return sum(row[0] == method for row in self.rows)


@contextmanager
def serving(folder: Path, *, limit: int = LIMIT, user: str = "") -> Iterator[tuple[Registry, Trace]]:
    trace = Trace()
    credentials = (user, "a-secret") if user else None
    with Registry(spool=folder, limit=limit, credentials=credentials, observe=trace) as registry:
        yield registry, trace
        assert registry.faults == ()
    assert list(folder.iterdir()) == []


def push(
    engine: Engine,
    image: str,
    registry: Registry,
    repository: PushRepository,
    credentials: dict[str, str] | None = None,
) -> str:
    """Tag, push, untag, as layerferry does; returns what the daemon said went wrong."""
    name = f"127.0.0.1:{registry.port}/{repository.name}"
    with closing(docker.APIClient(base_url=engine.host, version="auto", timeout=120)) as api:
        api.tag(image, name, "t")
        try:
            lines = list(api.push(name, "t", stream=True, decode=True, auth_config=credentials))
        finally:
            repository.finish()
            api.remove_image(f"{name}:t")
    return next((str(line["error"]) for line in lines if "error" in line), "")


def snapshot(engine: Engine) -> Snapshot:
    """Every image with its tags and its repo digests."""
    rows = engine.api.get("/images/json?all=1")
    return {row["Id"]: (frozenset(row["RepoTags"] or ()), frozenset(row["RepoDigests"] or ())) for row in rows}


def diff_id(blob: SpooledBlob) -> str:
    """The digest of what a blob unpacks to."""
    data = blob.path.read_bytes()
    return "sha256:" + hashlib.sha256(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).hexdigest()


@pytest.fixture
def pulled(request: pytest.FixtureRequest, rig: Rig, engine: Engine) -> list[str]:
    """`APP` on the engine: two layers out of a registry, one that was built here. Returns the pulled blobs' digests.

    The layers are new to the engine: a classic store remembers a layer's digests beyond the image's removal.
    """
    registry, shop, seed = rig.registry(), rig.workshop, request.node.name
    layers = [shop.layer({"large": Text(12_000_000, seed)}), shop.layer({"small": Noise(300_000, seed)})]
    base = shop.image(layers)
    full = registry.push("base:1", base)
    engine.docker("pull", "--quiet", full)
    engine.build(APP, f"FROM {full}\nCOPY new /new\n", {"new": seed.encode()})
    manifest, _ = base.blobs("gzip-9")
    return [layer["digest"] for layer in json.loads(manifest.data)["layers"]]


@pytest.fixture
def loaded(request: pytest.FixtureRequest, rig: Rig, engine: Engine) -> str:
    """An image that the engine knows no blob digest for: one layer of 20 MB."""
    shop = rig.workshop
    engine.load(shop.archive({BASE: shop.image([shop.layer({"noise": Noise(20_000_000, request.node.name)})])}))
    return BASE


@pytest.mark.kinds(engine=DOCKERS)
def test_a_whole_image_is_pushed_and_pulled_back(engine: Engine, pulled: list[str], tmp_path: Path) -> None:
    expected = engine.diff_ids(APP)
    with serving(tmp_path) as (registry, _):
        repository = registry.repository()
        assert push(engine, APP, registry, repository) == ""
        manifest = repository.manifest(0)
        here = repository.blobs
        assert set(manifest.blobs) <= set(here)
        assert [diff_id(here[layer.digest]) for layer in manifest.layers] == expected
        assert repository.received == sum(blob.size for blob in here.values())
        engine.clear()
        name = f"127.0.0.1:{registry.port}/{repository.name}:t"
        engine.docker("pull", "--quiet", name)
        assert engine.diff_ids(name) == expected


@pytest.mark.kinds(engine=DOCKERS)
def test_a_daemon_that_hears_that_all_is_there_uploads_what_it_knows_no_digest_for_and_tells_the_rest(
    engine: Engine, pulled: list[str], tmp_path: Path
) -> None:
    with serving(tmp_path) as (registry, trace):
        repository = registry.repository()
        repository.claim_all()
        assert push(engine, APP, registry, repository) == ""
        manifest = repository.manifest(0)
        assert [layer.digest for layer in manifest.layers[:2]] == pulled
        new = [diff_id(blob) for blob in repository.blobs.values()]
        assert new == (engine.diff_ids(APP)[2:] if engine.kind.store == "overlay2" else [])
        assert repository.received < 10_000
        assert len(trace.rows) <= 12


@pytest.mark.kinds(engine=DOCKERS)
def test_the_next_push_uploads_exactly_what_is_denied(engine: Engine, pulled: list[str], tmp_path: Path) -> None:
    with serving(tmp_path) as (registry, _):
        repository = registry.repository()
        repository.claim_all()
        assert push(engine, APP, registry, repository) == ""
        learned = repository.manifest(0)
        assert learned.config is not None
        sizes = {blob.digest: blob.size for blob in (*learned.layers, learned.config)}
        for denied in ({pulled[0]}, {pulled[1], learned.config.digest}):
            before = set(repository.blobs)
            repository.claim_only({digest: size for digest, size in sizes.items() if digest not in denied})
            assert push(engine, APP, registry, repository) == ""
            arrived = [blob for blob in repository.completed() if blob.digest not in before]
            assert len(arrived) == len(denied)
            position = pulled.index(min(denied & set(pulled)))
            assert engine.diff_ids(APP)[position] in {diff_id(blob) for blob in arrived}
            if engine.kind.store == "containerd":
                assert {blob.digest for blob in arrived} == denied
            for blob in arrived:
                repository.drop(blob.digest)


@pytest.mark.kinds(engine=OVERLAY2)
def test_a_classic_store_offers_another_digest_of_a_large_layer_and_claim_only_refuses_that_too(
    engine: Engine, pulled: list[str], tmp_path: Path
) -> None:
    """Denied the blob that it pulled, dockerd gzips the layer itself, and from then on knows two digests for it."""
    with serving(tmp_path) as (registry, trace):
        first, second, third = (registry.repository() for _ in range(3))
        first.claim_all(except_={pulled[0]})
        assert push(engine, APP, registry, first) == ""
        own = first.manifest(0).layers[0].digest
        assert own != pulled[0]
        second.claim_all(except_={own})
        assert push(engine, APP, registry, second) == ""
        assert second.manifest(0).layers[0].digest == pulled[0]
        assert own not in second.blobs
        trace.rows.clear()
        third.claim_only({})
        assert push(engine, APP, registry, third) == ""
        assert own in third.blobs
        assert ("HEAD", f"blobs/{pulled[0]}", 404) in trace.rows


@pytest.mark.kinds(engine=DOCKERS)
def test_the_daemon_looks_the_same_afterwards(engine: Engine, pulled: list[str], tmp_path: Path) -> None:
    before = snapshot(engine)
    assert any(digests for _, digests in before.values())
    with serving(tmp_path) as (registry, _):
        repository = registry.repository()
        repository.claim_all()
        assert push(engine, APP, registry, repository) == ""
        assert snapshot(engine) == before
        repository.claim_only({})
        assert push(engine, APP, registry, repository) == ""
        assert snapshot(engine) == before


def over_the_bound(repository: PushRepository) -> None:
    repository.claim_only({})


def over_the_budget(repository: PushRepository) -> None:
    repository.claim_only({}, budget=1_000_000)


def aborted(repository: PushRepository) -> None:
    receive = repository.receive

    def receive_some(upload: Any, body: Any) -> None:
        repository.abort("enough")
        receive(upload, body)

    repository.claim_only({})
    repository.receive = receive_some  # type: ignore[method-assign]


@pytest.mark.kinds(engine=DOCKERS)
@pytest.mark.parametrize("begin", [over_the_bound, over_the_budget, aborted])
def test_a_push_that_is_refused_ends_at_once_and_leaves_nothing(
    engine: Engine, loaded: str, tmp_path: Path, begin: Callable[[PushRepository], None]
) -> None:
    with serving(tmp_path, limit=5_000_000) as (registry, trace):
        repository = registry.repository()
        begin(repository)
        assert push(engine, loaded, registry, repository)
        # The layer once, from a containerd store the config beside it; who tries again does so five times.
        assert 1 <= trace.count("POST") <= 2
        assert repository.refused
        with pytest.raises(SourceError, match=r"broken off|cannot be kept"):
            repository.manifest(0)
        assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 10_000


@pytest.mark.kinds(engine=CONTAINERD)
def test_a_body_that_is_corrupted_on_its_way_is_refused(
    engine: Engine, loaded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A classic store would try for almost a minute; what a corrupted upload is answered is the same for both."""
    with serving(tmp_path) as (registry, trace):
        repository = registry.repository()
        receive = repository.receive

        def corrupt(upload: Any, body: Any) -> None:
            body._chunks = (bytes([chunk[0] ^ 1]) + chunk[1:] for chunk in body._chunks)
            receive(upload, body)

        monkeypatch.setattr(repository, "receive", corrupt)
        assert push(engine, loaded, registry, repository)
        assert 400 in {status for method, _, status in trace.rows if method == "PUT"}
        assert repository.blobs == {}


@pytest.mark.kinds(engine=DOCKERS)
def test_two_pushes_at_once_do_not_disturb_each_other(
    rig: Rig, engine: Engine, pulled: list[str], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "one").mkdir()
    with serving(tmp_path / "one") as (one, _), serving(tmp_path / "other") as (other, _):
        learning, refused, whole, elsewhere = one.repository(), one.repository(), one.repository(), other.repository()
        learning.claim_all()
        refused.claim_only({}, budget=1000)
        jobs = [(one, learning), (one, refused), (one, whole), (other, elsewhere)]
        with ThreadPoolExecutor() as pool:
            errors = list(pool.map(lambda job: push(engine, APP, *job), jobs))
        assert [bool(error) for error in errors] == [False, True, False, False]
        assert learning.received < 10_000
        assert whole.manifest(0).blobs == elsewhere.manifest(0).blobs
        assert set(whole.blobs) == set(elsewhere.blobs) == set(whole.manifest(0).blobs)


@pytest.mark.kinds(engine=DOCKERS)
def test_credentials_go_with_the_request_and_are_stored_nowhere(engine: Engine, loaded: str, tmp_path: Path) -> None:
    with serving(tmp_path, user="layerferry") as (registry, trace):
        right = {"username": "layerferry", "password": "a-secret"}
        repository = registry.repository()
        repository.claim_all()
        assert push(engine, loaded, registry, repository, right) == ""
        assert repository.manifest(0).tag == "t"
        trace.rows.clear()
        assert push(engine, loaded, registry, repository)
        assert {status for *_, status in trace.rows} == {401}
