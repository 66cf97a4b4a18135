"""What a registry does to a reader: logins, redirects, broken connections, and answers that are none."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import pytest

from fake_registry import PASSWORD, USER, FakeRegistry, fake_registry
from layerferry.errors import SourceError
from layerferry.oci.plan import Inventory, plan
from layerferry.registry_client import logins
from layerferry.registry_client.endpoint import Endpoint
from layerferry.sources.registry import RemoteSource
from packed import Picture

PICTURE = Picture.of("app", "gzip", "", "zstd")


pytestmark = pytest.mark.usefixtures("hurry")


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as running:
        running.add("app:1", PICTURE.manifest_type, PICTURE.manifest, PICTURE.documents)
        yield running


def environment(folder: Path, config: Mapping[str, object]) -> dict[str, str]:
    (folder / "config.json").write_text(json.dumps(config))
    return {"DOCKER_CONFIG": str(folder), "HOME": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}


def login(registry: FakeRegistry, user: str = USER, password: str = PASSWORD) -> dict[str, object]:
    return {"auths": {registry.address: {"username": user, "password": password}}}


def pull(registry: FakeRegistry, environ: Mapping[str, str], spool: Path, *wanted: int) -> dict[str, bytes]:
    reference = f"registry:{registry.address}/app:1"
    with contextlib.closing(RemoteSource(environ)) as source:
        found = source.open(reference)
        planned = plan(found.image, Inventory())
        chosen = frozenset(found.image.diff_ids[number] for number in wanted)
        with found.fetch(planned, found.choose(planned), chosen, spool) as content:
            return {blob.diff_id: b"".join(blob.chunks) for blob in content.blobs()}


def test_reads_only_the_manifest_the_config_and_the_missing_blob(registry: FakeRegistry, tmp_path: Path) -> None:
    assert list(pull(registry, environment(tmp_path, {}), tmp_path, 1)) == [PICTURE.diff_ids[1]]
    assert registry.read == [PICTURE.id, PICTURE.diff_ids[1]]
    assert [path for _, path, _ in registry.seen if "/manifests/" in path] == ["/v2/app/manifests/1"]


@pytest.mark.parametrize("ranges", [True, False])
def test_goes_on_where_a_connection_broke(registry: FakeRegistry, tmp_path: Path, *, ranges: bool) -> None:
    registry.ranges, registry.break_after, registry.breaks = ranges, 1000, 2
    assert pull(registry, environment(tmp_path, {}), tmp_path, 1) == {PICTURE.diff_ids[1]: PICTURE.layers[1]}
    asked = [headers["Range"] for _, _, headers in registry.seen if "Range" in headers]
    assert asked == (["bytes=1000-", "bytes=2000-"] if ranges else ["bytes=1000-", "bytes=1000-"])


def test_gives_up_on_a_connection_that_breaks_for_ever(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.ranges, registry.break_after, registry.breaks = False, 1000, 100
    with pytest.raises(SourceError, match=f"broke off {PICTURE.diff_ids[1]}"):
        pull(registry, environment(tmp_path, {}), tmp_path, 1)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_asks_again_where_the_trouble_may_pass(registry: FakeRegistry, tmp_path: Path, status: int) -> None:
    registry.statuses = [200, status, status]  # the first goes to /v2/
    assert pull(registry, environment(tmp_path, {}), tmp_path, 0)


@pytest.mark.parametrize(
    ("status", "message"),
    [(429, "allows no more requests"), (503, "HTTP 503"), (418, "HTTP 418"), (404, "has no app:1"), (403, "login")],
)
def test_says_what_a_status_means(registry: FakeRegistry, tmp_path: Path, status: int, message: str) -> None:
    registry.statuses = [200, *[status] * 4]
    with pytest.raises(SourceError, match=message):
        pull(registry, environment(tmp_path, {}), tmp_path, 0)


def test_sends_no_login_to_who_is_not_asked_for_one(registry: FakeRegistry, tmp_path: Path) -> None:
    pull(registry, environment(tmp_path, login(registry)), tmp_path, 0, 1, 2)
    assert not any("Authorization" in headers for _, _, headers in registry.seen)


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_sends_no_login_to_where_blobs_are_redirected(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auth: str
) -> None:
    """Nor one of the user's .netrc, which would break the presigned address of a blob store."""
    (tmp_path / ".netrc").write_text("default login anna password other\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    with fake_registry(blobs=PICTURE.documents) as store:
        registry.auth, registry.redirect = auth, f"http://localhost:{store.address.rpartition(':')[2]}"  # type: ignore[assignment]
        assert len(pull(registry, environment(tmp_path, login(registry)), tmp_path, 0, 2)) == 2
        assert len(store.seen) == 3
        assert not any("Authorization" in headers for _, _, headers in store.seen)


@pytest.mark.parametrize("auth", ["basic", "token", "identity"])
def test_a_wrong_login_is_told_with_its_place_and_without_the_secret(
    registry: FakeRegistry, tmp_path: Path, auth: str
) -> None:
    registry.auth = auth  # type: ignore[assignment]
    with pytest.raises(SourceError, match="not for this login") as caught:
        pull(registry, environment(tmp_path, login(registry, password="hunter2")), tmp_path, 0)
    assert f"docker login {registry.address}" in caught.value.hint
    assert "config.json" in caught.value.hint
    assert "hunter2" not in caught.value.hint + caught.value.message


def test_a_token_expires_on_the_way(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.auth = "token"
    registry.statuses = [200, 401]
    assert pull(registry, environment(tmp_path, login(registry)), tmp_path, 0)


@pytest.mark.parametrize("auth", ["token", "identity"])
def test_a_token_service_is_asked_again_where_its_trouble_may_pass(
    registry: FakeRegistry, tmp_path: Path, auth: Literal["token", "identity"]
) -> None:
    registry.auth, registry.token_statuses = auth, [500, 429, 503]
    config = login(registry)
    if auth == "identity":
        config = {"auths": {registry.address: {"identitytoken": PASSWORD}}}
    assert pull(registry, environment(tmp_path, config), tmp_path, 0)


@pytest.mark.parametrize(("status", "told"), [(404, "404 (NO luck)"), (503, "503 (NO luck)"), (418, "418 (NO luck)")])
def test_what_a_token_service_answers_is_not_told_as_the_registrys(
    registry: FakeRegistry, tmp_path: Path, status: int, told: str
) -> None:
    registry.auth, registry.token_statuses = "token", [status] * 4
    with pytest.raises(SourceError) as caught:
        pull(registry, environment(tmp_path, login(registry)), tmp_path, 0)
    assert caught.value.message == f"the token service of {registry.address} answers with HTTP {told}"


def test_a_token_service_that_is_not_there_is_told_as_that(registry: FakeRegistry, tmp_path: Path) -> None:
    with fake_registry() as gone:
        registry.auth, registry.realm = "token", f"http://{gone.address}/token"
    with pytest.raises(SourceError, match=f"^the token service of {registry.address} does not answer: Connection"):
        pull(registry, environment(tmp_path, login(registry)), tmp_path, 0)


def helper(folder: Path, name: str, script: str) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\nread server\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("key", ["credHelpers", "credsStore"])
def test_asks_the_credential_helper(registry: FakeRegistry, tmp_path: Path, key: str) -> None:
    registry.auth = "basic"
    answer = json.dumps({"Username": USER, "Secret": PASSWORD})
    helper(tmp_path, "test", f'[ "$1 $server" = "get {registry.address}" ] && echo \'{answer}\'')
    config = {key: "test" if key == "credsStore" else {registry.address: "test"}}
    assert pull(registry, environment(tmp_path, config), tmp_path, 0)


def test_a_helper_may_give_an_identity_token(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.auth = "identity"
    helper(tmp_path, "test", "echo '" + json.dumps({"Username": "<token>", "Secret": PASSWORD}) + "'")
    assert pull(registry, environment(tmp_path, {"credsStore": "test"}), tmp_path, 0)


def test_a_helper_that_knows_nothing_leaves_the_file(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.auth = "basic"
    helper(tmp_path, "test", "echo credentials not found in native keychain; exit 1")
    assert pull(registry, environment(tmp_path, {"credsStore": "test", **login(registry)}), tmp_path, 0)


def test_a_missing_helper_is_told_where_a_login_is_wanted(registry: FakeRegistry, tmp_path: Path) -> None:
    environ = environment(tmp_path, {"credsStore": "desktop"})
    assert pull(registry, environ, tmp_path, 0)
    registry.auth = "token"
    with pytest.raises(SourceError) as caught:
        pull(registry, environ, tmp_path, 0)
    assert "docker-credential-desktop is not installed" in caught.value.hint


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "_HELPER_TIMEOUT", 0.2)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("../odd", "", "a credential helper has no proper name"),
        ("test", "\x7fELF, but no more", "docker-credential-test cannot be started: Exec format error"),
        ("test", "#!/bin/sh\nexec sleep 60\n", "docker-credential-test gave no answer within 0.2 s"),
        ("test", "#!/bin/sh\necho no login\n", "docker-credential-test does not answer with a login: its answer is "),
    ],
)
def test_a_helper_that_does_not_help_is_told_where_a_login_is_wanted(
    registry: FakeRegistry, tmp_path: Path, name: str, content: str, says: str
) -> None:
    helper(tmp_path, "test", "")
    (tmp_path / "docker-credential-test").write_text(content)
    registry.auth = "token"
    with pytest.raises(SourceError) as caught:
        pull(registry, environment(tmp_path, {"credsStore": name}), tmp_path, 0)
    assert says in caught.value.hint


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_registry_on_this_machine_is_asked_through_no_proxy(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    registry.auth = "basic"
    with fake_registry() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.address}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        registry.address = registry.address.replace("127.0.0.1", host)
        assert pull(registry, environment(tmp_path, login(registry)), tmp_path, 0)
        assert proxy.seen == []
        with contextlib.closing(Endpoint("registry.example", {}, plain_http=True)) as elsewhere:
            elsewhere.request("GET", f"{elsewhere.url}/", {}).close()
        assert [path for _, path, _ in proxy.seen] == ["http://registry.example/v2/"]


def test_a_manifest_by_digest_has_that_digest(registry: FakeRegistry, tmp_path: Path) -> None:
    other = "sha256:" + "0" * 64
    registry.blobs[other] = PICTURE.manifest
    with pytest.raises(SourceError, match=f"damaged: what should be {other}"):
        RemoteSource(environment(tmp_path, {})).open(f"registry:{registry.address}/app@{other}")


def test_an_endless_manifest_is_not_read_to_its_end(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.tags["app:1"] = PICTURE.manifest_type, b'{"a": "' + bytes(5 << 20)
    with pytest.raises(SourceError, match="more than 4194304 bytes"):
        pull(registry, environment(tmp_path, {}), tmp_path, 0)


def test_nobody_answers(tmp_path: Path) -> None:
    with fake_registry() as registry:
        address = registry.address
    with pytest.raises(SourceError, match=f"the registry {address} does not answer: Connection refused"):
        RemoteSource({"HOME": str(tmp_path)}).open(f"registry:{address}/app:1")
