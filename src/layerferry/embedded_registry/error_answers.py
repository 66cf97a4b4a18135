"""The errors of the distribution-spec: a status, a code, and the JSON body that has them."""

import json
from collections.abc import Mapping
from http import HTTPStatus


class Refused(Exception):  # noqa: N818  # a refusal is an answer, not a fault of ours
    """An answer in the 4xx range (distribution-spec v1.1.1, "Error Codes").

    What makes a client give up at once, and what makes it try again, depends on the *code* (measured, see
    tests/engines/test_registry.py): dockerd's classic store tries five times over, for over a minute, on anything but
    DENIED, UNAUTHORIZED, UNSUPPORTED and NAME_UNKNOWN.
    """

    def __init__(self, status: HTTPStatus, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        return json.dumps({"errors": [{"code": self.code, "message": self.message}]}).encode()


def unauthorized() -> Refused:
    challenge = {"WWW-Authenticate": 'Basic realm="layerferry", charset="UTF-8"'}
    return Refused(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", "authentication required", challenge)


def name_unknown() -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry")


def unsupported() -> Refused:
    return Refused(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", "the operation is unsupported")


def denied(message: str) -> Refused:
    """A refusal that a client takes as final: it neither tries again nor goes on with its other blobs."""
    return Refused(HTTPStatus.FORBIDDEN, "DENIED", message)


def blob_unknown() -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry")


def upload_unknown() -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")


def upload_invalid(message: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)


def range_invalid(headers: Mapping[str, str]) -> Refused:
    message = "the chunk does not start where the upload ends"
    return Refused(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message, headers)


def digest_invalid(message: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", message)


def manifest_unknown() -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown to registry")


def manifest_invalid(message: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "MANIFEST_INVALID", message)


def manifest_too_large(limit: int) -> Refused:
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "MANIFEST_INVALID", f"a manifest is at most {limit} bytes")


def manifest_blob_unknown(digest: str) -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", f"the manifest names {digest}, which is not here")
