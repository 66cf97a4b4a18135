"""The push half of the distribution spec, request by request, without a connection."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from layerferry.embedded_registry.credentials import BasicAuth
from layerferry.embedded_registry.handlers import MANIFEST_LIMIT, Handlers
from layerferry.embedded_registry.http_server import Request, RequestBody, Response
from layerferry.embedded_registry.push_repository import PushRepository
from layerferry.embedded_registry.spool import Spool
from layerferry.oci.image import MEDIA_TYPE_MANIFEST, digest_of

LIMIT = 8 * 1024 * 1024
DATA = b"the bytes of a blob"
DIGEST = digest_of(DATA)
ABSENT = digest_of(b"something else")


class Client:
    """Asks a registry with one repository, `app`."""

    def __init__(self, folder: Path, credentials: BasicAuth | None = None) -> None:
        self.spool = Spool(folder, LIMIT)
        self.repository = PushRepository("app", self.spool)
        self.service = Handlers({"app": self.repository}, credentials)

    def ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        chunked: bool = False,
    ) -> Response:
        path, _, query = target.partition("?")
        chunks = iter([body[:5], body[5:]])
        length = None if chunked else len(body)
        request = Request(method, path, dict(parse_qsl(query)), dict(headers or {}), RequestBody(length, chunks))
        return self.service(request)

    def start(self) -> str:
        return self.ask("POST", "/v2/app/blobs/uploads/").headers["Location"]

    def upload(self, data: bytes = DATA) -> Response:
        return self.ask("PUT", f"{self.start()}?digest={digest_of(data)}", data)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


def code(response: Response) -> tuple[int, str]:
    assert isinstance(response.body, bytes)
    return response.status, json.loads(response.body)["errors"][0]["code"]


def read(response: Response) -> bytes:
    return response.body if isinstance(response.body, bytes) else b"".join(response.body)


def manifest_of(*blobs: bytes) -> bytes:
    config, *layers = [{"mediaType": "a/x", "digest": digest_of(blob), "size": len(blob)} for blob in blobs]
    document = {"schemaVersion": 2, "mediaType": MEDIA_TYPE_MANIFEST, "config": config, "layers": layers}
    return json.dumps(document).encode()


MANIFEST_TYPE = {"content-type": MEDIA_TYPE_MANIFEST}


def test_the_version_check_is_answered(client: Client) -> None:
    response = client.ask("GET", "/v2/")
    assert response.status == 200
    assert response.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", (404, "NAME_UNKNOWN")),
        ("GET", "/v2/app/tags/list", (404, "NAME_UNKNOWN")),
        ("POST", "/v2/other/blobs/uploads/", (404, "NAME_UNKNOWN")),
        ("HEAD", f"/v2/other/blobs/{DIGEST}", (404, "NAME_UNKNOWN")),
        ("HEAD", f"/v2/app/blobs/{DIGEST}", (404, "BLOB_UNKNOWN")),
        ("GET", f"/v2/app/blobs/{DIGEST}", (404, "BLOB_UNKNOWN")),
        ("HEAD", "/v2/app/blobs/sha256:abc", (400, "DIGEST_INVALID")),
        ("HEAD", f"/v2/app/blobs/{DIGEST.upper().replace('SHA', 'sha')}", (400, "DIGEST_INVALID")),
        ("HEAD", f"/v2/app/blobs/sha512:{'a' * 128}", (400, "DIGEST_INVALID")),
        ("DELETE", f"/v2/app/blobs/{DIGEST}", (405, "UNSUPPORTED")),
        ("POST", "/v2/", (405, "UNSUPPORTED")),
        ("PATCH", "/v2/app/manifests/1", (405, "UNSUPPORTED")),
        ("POST", "/v2/app/blobs/uploads/?digest=sha256:..", (400, "DIGEST_INVALID")),
        ("POST", "/v2/app/blobs/uploads/?mount=..&from=other", (400, "DIGEST_INVALID")),
        ("PATCH", f"/v2/app/blobs/uploads/{'0' * 32}", (404, "BLOB_UPLOAD_UNKNOWN")),
        ("GET", f"/v2/app/blobs/uploads/{'0' * 32}", (404, "BLOB_UPLOAD_UNKNOWN")),
        ("PUT", f"/v2/app/blobs/uploads/{'0' * 32}?digest={DIGEST}", (404, "BLOB_UPLOAD_UNKNOWN")),
        ("HEAD", "/v2/app/manifests/1", (404, "MANIFEST_UNKNOWN")),
        ("GET", f"/v2/app/manifests/{DIGEST}", (404, "MANIFEST_UNKNOWN")),
        ("PUT", "/v2/app/manifests/sha256:abc", (400, "DIGEST_INVALID")),
    ],
)
def test_what_is_not_there_or_not_possible_is_refused_in_the_specs_words(
    client: Client, method: str, path: str, expected: tuple[int, str]
) -> None:
    assert expected == code(client.ask(method, path))


class TestUploads:
    def test_in_one_chunked_patch_as_docker_does(self, client: Client) -> None:
        started = client.ask("POST", "/v2/app/blobs/uploads/")
        location = started.headers["Location"]
        assert (started.status, started.headers["Range"]) == (202, "0-0")
        patched = client.ask("PATCH", location, DATA, chunked=True)
        assert (patched.status, patched.headers["Range"]) == (202, f"0-{len(DATA) - 1}")
        done = client.ask("PUT", f"{patched.headers['Location']}?digest={DIGEST}")
        assert (done.status, done.headers["Location"]) == (201, f"/v2/app/blobs/{DIGEST}")
        assert done.headers["Docker-Content-Digest"] == DIGEST
        assert client.repository.blobs[DIGEST].path.read_bytes() == DATA
        assert client.repository.received == len(DATA)

    def test_in_one_put_as_containerd_does(self, client: Client) -> None:
        assert client.upload().status == 201
        assert client.repository.blobs[DIGEST].size == len(DATA)

    def test_in_one_post(self, client: Client) -> None:
        assert client.ask("POST", f"/v2/app/blobs/uploads/?digest={DIGEST}", DATA).status == 201
        assert DIGEST in client.repository.blobs

    def test_in_chunks_that_follow_on_each_other(self, client: Client) -> None:
        location = client.start()
        assert client.ask("PATCH", location, DATA[:7], {"content-range": "0-6"}).status == 202
        assert client.ask("GET", location).headers["Range"] == "0-6"
        last = {"content-range": f"7-{len(DATA) - 1}"}
        assert client.ask("PUT", f"{location}?digest={DIGEST}", DATA[7:], last).status == 201

    @pytest.mark.parametrize("span", ["0-6", "8-14", "14-20"])
    def test_a_chunk_that_does_not_follow_on_is_refused_and_can_be_sent_again(self, client: Client, span: str) -> None:
        location = client.start()
        client.ask("PATCH", location, DATA[:7])
        refused = client.ask("PATCH", location, DATA[7:14], {"content-range": span})
        assert (refused.status, refused.headers["Range"]) == (416, "0-6")
        assert client.ask("PATCH", location, DATA[7:], {"content-range": f"7-{len(DATA) - 1}"}).status == 202
        assert client.ask("PUT", f"{location}?digest={DIGEST}").status == 201

    @pytest.mark.parametrize("span", ["0-5", "bytes 0-6/7", "6-0", "x"])
    def test_a_range_that_is_wrong_in_itself_is_refused(self, client: Client, span: str) -> None:
        answer = client.ask("PATCH", client.start(), DATA[:7], {"content-range": span})
        assert code(answer) == (400, "BLOB_UPLOAD_INVALID")

    def test_a_corrupted_blob_is_refused_and_removed(self, client: Client) -> None:
        location = client.start()
        answer = client.ask("PUT", f"{location}?digest={DIGEST}", DATA + b"!")
        assert code(answer) == (400, "DIGEST_INVALID")
        assert client.ask("HEAD", f"/v2/app/blobs/{DIGEST}").status == 404
        assert client.ask("GET", location).status == 404
        assert client.spool.used == 0

    @pytest.mark.parametrize("query", ["", "?digest=", "?digest=sha256:..", f"?digest=sha512:{'0' * 128}"])
    def test_a_silly_digest_is_refused_and_the_upload_stays(self, client: Client, query: str) -> None:
        location = client.start()
        assert code(client.ask("PUT", location + query, DATA)) == (400, "DIGEST_INVALID")
        assert client.ask("PUT", f"{location}?digest={DIGEST}", DATA).status == 201

    def test_a_cancelled_upload_is_gone(self, client: Client) -> None:
        location = client.start()
        client.ask("PATCH", location, DATA)
        assert client.ask("DELETE", location).status == 204
        assert client.ask("PATCH", location, DATA).status == 404
        assert (client.spool.used, list(client.spool.folder.iterdir())) == (0, [])

    def test_locations_are_relative_and_one_upload_is_not_found_by_another_id(self, client: Client) -> None:
        assert client.start().startswith("/v2/app/blobs/uploads/")
        assert client.start() != client.start()

    def test_the_same_blob_twice_is_kept_once(self, client: Client) -> None:
        assert [client.upload().status, client.upload().status] == [201, 201]
        assert client.spool.used == len(DATA)

    def test_what_was_uploaded_can_be_read(self, client: Client) -> None:
        client.upload()
        head = client.ask("HEAD", f"/v2/app/blobs/{DIGEST}")
        assert (head.status, head.length, head.headers["Docker-Content-Digest"]) == (200, len(DATA), DIGEST)
        assert read(client.ask("GET", f"/v2/app/blobs/{DIGEST}")) == DATA


class TestBounds:
    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_blob_over_the_bound_is_denied_and_leaves_nothing(self, client: Client, chunked: bool) -> None:
        location = client.start()
        answer = client.ask("PATCH", location, bytes(LIMIT + 1), chunked=chunked)
        assert code(answer) == (403, "DENIED")
        assert (client.spool.used, list(client.spool.folder.iterdir())) == (0, [])
        assert client.repository.refused

    def test_a_body_that_says_that_it_is_too_large_is_denied_unread(self, client: Client) -> None:
        client.repository.claim_all(budget=100)
        request = Request("PATCH", client.start(), {}, {}, RequestBody(101, iter(())))
        assert code(client.service(request)) == (403, "DENIED")

    @pytest.mark.parametrize("chunked", [False, True])
    def test_uploads_beyond_the_budget_are_denied(self, client: Client, chunked: bool) -> None:
        client.repository.claim_all(budget=30)
        assert client.ask("PATCH", client.start(), bytes(20), chunked=chunked).status == 202
        location = client.start()
        assert code(client.ask("PATCH", location, bytes(20), chunked=chunked)) == (403, "DENIED")
        assert client.repository.received <= 30
        assert "30 bytes" in client.repository.refused
        assert code(client.ask("GET", "/v2/app/manifests/1")) == (403, "DENIED")

    def test_an_aborted_push_is_denied_until_the_next_one_begins(self, client: Client) -> None:
        client.repository.abort()
        assert code(client.ask("POST", "/v2/app/blobs/uploads/")) == (403, "DENIED")
        client.repository.claim_all()
        assert client.ask("POST", "/v2/app/blobs/uploads/").status == 202

    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_manifest_over_4_mib_is_refused(self, client: Client, chunked: bool) -> None:
        data = b" " * MANIFEST_LIMIT + manifest_of(DATA)
        answer = client.ask("PUT", "/v2/app/manifests/1", data, MANIFEST_TYPE, chunked=chunked)
        assert code(answer) == (413, "MANIFEST_INVALID")


class TestClaims:
    def test_everything_but_the_exceptions_is_here(self, client: Client) -> None:
        client.repository.claim_all(except_={ABSENT}, sizes={DIGEST: 12})
        head = client.ask("HEAD", f"/v2/app/blobs/{DIGEST}")
        assert (head.status, head.length) == (200, 12)
        assert client.ask("HEAD", f"/v2/app/blobs/{ABSENT}").status == 404
        unknown = client.ask("HEAD", f"/v2/app/blobs/{digest_of(b'x')}")
        assert (unknown.status, unknown.length) == (200, 0)

    def test_only_what_is_named_is_here(self, client: Client) -> None:
        client.repository.claim_only({DIGEST: 12})
        assert client.ask("HEAD", f"/v2/app/blobs/{DIGEST}").length == 12
        assert client.ask("HEAD", f"/v2/app/blobs/{ABSENT}").status == 404

    def test_a_claimed_blob_is_mounted_and_another_one_is_to_be_uploaded(self, client: Client) -> None:
        client.repository.claim_only({DIGEST: 12})
        mounted = client.ask("POST", f"/v2/app/blobs/uploads/?mount={DIGEST}&from=other")
        assert (mounted.status, mounted.headers["Location"]) == (201, f"/v2/app/blobs/{DIGEST}")
        assert client.ask("POST", f"/v2/app/blobs/uploads/?mount={DIGEST}").status == 201
        started = client.ask("POST", f"/v2/app/blobs/uploads/?mount={ABSENT}&from=other")
        assert (started.status, "uploads" in started.headers["Location"]) == (202, True)

    def test_a_claimed_blob_cannot_be_read(self, client: Client) -> None:
        client.repository.claim_all()
        assert code(client.ask("GET", f"/v2/app/blobs/{DIGEST}")) == (404, "BLOB_UNKNOWN")

    def test_a_denied_blob_is_here_once_it_was_uploaded(self, client: Client) -> None:
        client.repository.claim_all(except_={DIGEST}, sizes={DIGEST: 1})
        client.upload()
        assert client.ask("HEAD", f"/v2/app/blobs/{DIGEST}").length == len(DATA)

    def test_a_dropped_blob_stays_known_until_the_push_ends(self, client: Client) -> None:
        client.repository.claim_only({})
        client.upload()
        client.repository.drop(DIGEST)
        assert client.spool.used == 0
        assert client.ask("HEAD", f"/v2/app/blobs/{DIGEST}").status == 200
        assert client.ask("GET", f"/v2/app/blobs/{DIGEST}").status == 404
        client.repository.claim_only({})
        assert client.ask("HEAD", f"/v2/app/blobs/{DIGEST}").status == 404


class TestManifests:
    data = manifest_of(b"config", DATA)

    def test_it_is_put_by_tag_and_can_be_read(self, client: Client) -> None:
        client.repository.claim_all()
        put = client.ask("PUT", "/v2/app/manifests/1", self.data, MANIFEST_TYPE)
        digest = digest_of(self.data)
        assert (put.status, put.headers["Location"]) == (201, f"/v2/app/manifests/{digest}")
        assert put.headers["Docker-Content-Digest"] == digest
        for reference in ("1", digest):
            got = client.ask("GET", f"/v2/app/manifests/{reference}")
            assert (got.body, got.headers["Content-Type"]) == (self.data, MEDIA_TYPE_MANIFEST)

    def test_one_that_is_put_by_its_digest_has_no_tag(self, client: Client) -> None:
        client.repository.claim_all()
        digest = digest_of(self.data)
        assert client.ask("PUT", f"/v2/app/manifests/{digest}", self.data, MANIFEST_TYPE).status == 201
        assert client.repository.manifests[digest].tag == ""

    def test_a_wrong_digest_is_refused(self, client: Client) -> None:
        client.repository.claim_all()
        answer = client.ask("PUT", f"/v2/app/manifests/{ABSENT}", self.data, MANIFEST_TYPE)
        assert code(answer) == (400, "DIGEST_INVALID")
        assert not client.repository.manifests

    def test_a_blob_that_is_neither_here_nor_claimed_is_missed(self, client: Client) -> None:
        client.upload(b"config")
        answer = client.ask("PUT", "/v2/app/manifests/1", self.data, MANIFEST_TYPE)
        assert code(answer) == (404, "MANIFEST_BLOB_UNKNOWN")
        client.upload()
        assert client.ask("PUT", "/v2/app/manifests/1", self.data, MANIFEST_TYPE).status == 201

    @pytest.mark.parametrize("media_type", ["", "text/plain", "application/vnd.oci.image.index.v1+json"])
    def test_another_content_type_than_its_media_type_is_refused(self, client: Client, media_type: str) -> None:
        client.repository.claim_all()
        answer = client.ask("PUT", "/v2/app/manifests/1", self.data, {"content-type": media_type})
        assert code(answer) == (400, "MANIFEST_INVALID")


class TestCredentials:
    @pytest.fixture
    def guarded(self, tmp_path: Path) -> Client:
        return Client(tmp_path, BasicAuth("user", "secret"))

    @pytest.mark.parametrize("path", ["/v2/", "/", "/v2/app/manifests/1", "/v2/other/manifests/1"])
    def test_whoever_has_none_is_asked_for_them_first(self, guarded: Client, path: str) -> None:
        answer = guarded.ask("GET", path)
        assert code(answer) == (401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")

    def test_whoever_has_wrong_ones_is_refused(self, guarded: Client) -> None:
        wrong = {"authorization": "Basic " + base64.b64encode(b"user:Secret").decode()}
        assert guarded.ask("GET", "/v2/", headers=wrong).status == 401

    def test_whoever_has_them_is_served(self, guarded: Client) -> None:
        right = {"authorization": "Basic " + base64.b64encode(b"user:secret").decode()}
        assert guarded.ask("GET", "/v2/", headers=right).status == 200
