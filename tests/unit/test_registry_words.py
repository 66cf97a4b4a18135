"""What the embedded registry reads and says, without a connection: paths, ranges, digests, manifests, credentials."""

import base64
import json

import pytest

from layerferry.embedded_registry.claims import ClaimedBlobs
from layerferry.embedded_registry.credentials import BasicAuth
from layerferry.embedded_registry.error_answers import Refused, denied
from layerferry.embedded_registry.paths import Kind, RequestPath, format_range, parse_content_range
from layerferry.embedded_registry.pushed_manifest import PushedManifest
from layerferry.oci.image import MEDIA_TYPE_INDEX, MEDIA_TYPE_MANIFEST, digest_of

DIGEST = digest_of(b"a blob")
OTHER = digest_of(b"another blob")
UPLOAD = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2/", RequestPath(Kind.BASE)),
        ("/v2", RequestPath(Kind.BASE)),
        (f"/v2/app/blobs/{DIGEST}", RequestPath(Kind.BLOB, "app", DIGEST)),
        (f"/v2/a/b/c/blobs/{DIGEST}", RequestPath(Kind.BLOB, "a/b/c", DIGEST)),
        ("/v2/app/blobs/uploads/", RequestPath(Kind.UPLOADS, "app")),
        ("/v2/app/blobs/uploads", RequestPath(Kind.UPLOADS, "app")),
        (f"/v2/app/blobs/uploads/{UPLOAD}", RequestPath(Kind.UPLOAD, "app", UPLOAD)),
        ("/v2/app/manifests/1.0_x-y", RequestPath(Kind.MANIFEST, "app", "1.0_x-y")),
        (f"/v2/app/manifests/{DIGEST}", RequestPath(Kind.MANIFEST, "app", DIGEST)),
        ("/v2/blobs/uploads/blobs/uploads/", RequestPath(Kind.UPLOADS, "blobs/uploads")),
    ],
)
def test_a_path_of_the_spec_names_an_endpoint(path: str, expected: RequestPath) -> None:
    assert expected == RequestPath.match(path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/",
        "/v2//",
        "/v2/app",
        "/v2/app/tags/list",
        "/v2/_catalog",
        "/v2/App/manifests/1",
        f"/v2/../etc/blobs/{DIGEST}",
        f"/v2/a/../b/blobs/{DIGEST}",
        f"/v2/a%2e%2e/blobs/{DIGEST}",
        "/v2/app/blobs/..",
        "/v2/app/blobs/sha256:../../etc/passwd",
        "/v2/app/blobs/uploads/../../../etc/passwd",
        f"/v2/app/blobs/uploads/{UPLOAD.upper()}",
        "/v2/app/manifests/../1",
        "/v2/app/manifests/.1",
        f"/v2/app/manifests/{'x' * 257}",
        f"/v2/app/blobs/{DIGEST}/",
        f"/v2/app/blobs/{DIGEST}\n",
    ],
)
def test_any_other_path_names_nothing(path: str) -> None:
    assert RequestPath.match(path) is None


@pytest.mark.parametrize(("text", "expected"), [("0-0", (0, 0)), ("5-9", (5, 9)), (" 0-99 ", (0, 99))])
def test_a_content_range_gives_its_first_and_last_byte(text: str, expected: tuple[int, int]) -> None:
    assert expected == parse_content_range(text)


@pytest.mark.parametrize(
    "text", ["", "5", "9-5", "-5", "5-", "bytes 0-5/6", "0-5/6", "a-b", "\u0660-\u0665", "0-" + "9" * 40]
)
def test_anything_else_is_no_content_range(text: str) -> None:
    assert parse_content_range(text) is None


@pytest.mark.parametrize(("offset", "expected"), [(0, "0-0"), (1, "0-0"), (10, "0-9")])
def test_a_range_ends_with_the_last_byte(offset: int, expected: str) -> None:
    assert expected == format_range(offset)


def test_everything_is_claimed_but_the_exceptions() -> None:
    holdings = ClaimedBlobs(everything=True, digests=frozenset({DIGEST}), sizes={OTHER: 7})
    assert not holdings.claims(DIGEST)
    assert holdings.claims(OTHER)
    assert (holdings.size(OTHER), holdings.size(DIGEST)) == (7, 0)


def test_nothing_is_claimed_but_what_is_named() -> None:
    holdings = ClaimedBlobs(digests=frozenset({DIGEST}))
    assert holdings.claims(DIGEST)
    assert not holdings.claims(OTHER)


class TestCredentials:
    known = BasicAuth("layerferry", "pä:ss")

    @staticmethod
    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    def test_the_right_ones_are_admitted(self) -> None:
        assert self.known.admit(self.basic("layerferry:pä:ss"))
        assert self.known.admit(self.basic("layerferry:pä:ss").replace("Basic", "bAsIc"))

    @pytest.mark.parametrize("text", ["layerferry:pä:s", "layerferry:", "layerferry", ":pä:ss", "Layerferry:pä:ss", ""])
    def test_others_are_not(self, text: str) -> None:
        assert not self.known.admit(self.basic(text))

    @pytest.mark.parametrize("header", ["", "Basic", "Basic ", "Bearer abc", "Basic ÿ€ !", "Basic ===="])
    def test_what_is_no_basic_authentication_is_not(self, header: str) -> None:
        assert not self.known.admit(header)

    def test_another_scheme_with_the_right_token_is_not(self) -> None:
        assert not self.known.admit(self.basic("layerferry:pä:ss").replace("Basic", "Bearer"))


class TestPushedManifest:
    @staticmethod
    def descriptor(digest: str, **more: object) -> dict[str, object]:
        return {"mediaType": "application/x", "digest": digest, "size": 3, **more}

    def parse(self, document: object, media_type: str = MEDIA_TYPE_MANIFEST) -> PushedManifest:
        return PushedManifest.parse(json.dumps(document).encode(), media_type=media_type, tag="1")

    def test_it_tells_its_config_and_layers(self) -> None:
        document = {"config": self.descriptor(DIGEST), "layers": [self.descriptor(OTHER)]}
        manifest = self.parse(document)
        assert manifest.config is not None
        assert [DIGEST, OTHER] == [manifest.config.digest, manifest.layers[0].digest] == list(manifest.blobs)
        assert digest_of(manifest.data) == manifest.digest
        assert document == json.loads(manifest.data)

    def test_a_size_that_a_classic_store_left_out_is_0(self) -> None:
        layer = {"mediaType": "application/x", "digest": OTHER}
        assert self.parse({"config": self.descriptor(DIGEST), "layers": [layer]}).layers[0].size == 0

    def test_an_index_tells_its_children_and_needs_no_blob(self) -> None:
        index = self.parse({"mediaType": MEDIA_TYPE_INDEX, "manifests": [self.descriptor(DIGEST)]}, MEDIA_TYPE_INDEX)
        assert [child.digest for child in index.children] == [DIGEST]
        assert index.blobs == ()

    def test_a_layer_that_is_fetched_elsewhere_keeps_its_place_but_is_not_needed_here(self) -> None:
        foreign = self.descriptor(OTHER, urls=["https://example.org/layer"])
        manifest = self.parse({"config": self.descriptor(DIGEST), "layers": [foreign]})
        assert [layer.digest for layer in manifest.layers] == [OTHER]
        assert manifest.blobs == (DIGEST,)

    @pytest.mark.parametrize(
        "document",
        [
            [],
            "text",
            None,
            {"mediaType": MEDIA_TYPE_INDEX},
            {"config": {"mediaType": "x", "digest": "sha256:../..", "size": 1}},
            {"config": {"mediaType": "x", "digest": 5, "size": 1}},
            {"config": {"mediaType": "x", "digest": DIGEST, "size": -1}},
            {"config": {"mediaType": "x", "digest": DIGEST, "size": "1"}},
            {"config": {"digest": DIGEST, "size": 1}},
            {"config": 5},
            {"layers": 5},
            {"layers": [None]},
            {"manifests": [[]]},
        ],
    )
    def test_anything_else_is_refused(self, document: object) -> None:
        with pytest.raises(Refused, match="MANIFEST_INVALID"):
            self.parse(document)

    @pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
    def test_what_is_not_json_is_refused(self, data: bytes) -> None:
        with pytest.raises(Refused, match="MANIFEST_INVALID"):
            PushedManifest.parse(data, media_type=MEDIA_TYPE_MANIFEST)


def test_a_refusal_says_what_the_spec_wants_to_hear() -> None:
    assert json.loads(denied("no more").body()) == {"errors": [{"code": "DENIED", "message": "no more"}]}
