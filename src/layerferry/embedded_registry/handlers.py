"""The handlers of the requests that a push makes (OCI distribution-spec), for the repositories that there are.

Spec: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md; `end-N`: a row of its "Endpoints".
Every Location is relative, so that clients resolve it against the address that *they* have for us: behind a proxy that
terminates TLS we would name the wrong scheme (RFC 9110, section 10.2.2, allows it; all clients that we know follow it).
"""

from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path

from layerferry.embedded_registry import error_answers
from layerferry.embedded_registry.credentials import BasicAuth
from layerferry.embedded_registry.http_server import Request, RequestBody, Response
from layerferry.embedded_registry.paths import Kind, RequestPath, format_range, parse_content_range
from layerferry.embedded_registry.push_repository import PushRepository
from layerferry.embedded_registry.pushed_manifest import PushedManifest
from layerferry.embedded_registry.spool import BlobUpload
from layerferry.oci import limits
from layerferry.oci.image import is_digest

#: The spec wants registries to take manifests of 4 MiB, and lets them refuse larger ones.
MANIFEST_LIMIT = limits.DOCUMENT
_API_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
_JSON = {"Content-Type": "application/json"}


class Handlers:
    """The handlers for `repositories`, by name. Requests need `credentials`, unless those are None."""

    def __init__(self, repositories: Mapping[str, PushRepository], credentials: BasicAuth | None) -> None:
        self._repositories = repositories
        self._credentials = credentials

    def __call__(self, request: Request) -> Response:
        try:
            if self._credentials and not self._credentials.admit(request.headers.get("authorization", "")):
                raise error_answers.unauthorized()
            if self._credentials:
                request.admit()
            response = self._dispatch(request)
        except error_answers.Refused as refused:
            response = Response(refused.status, {**_JSON, **refused.headers}, refused.body())
        return Response(response.status, {**_API_VERSION, **response.headers}, response.body, response.length)

    def _dispatch(self, request: Request) -> Response:
        endpoint = RequestPath.match(request.path)
        if endpoint is None:
            raise error_answers.name_unknown()
        if endpoint.kind is Kind.BASE:
            if request.method not in {"GET", "HEAD"}:
                raise error_answers.unsupported()
            return Response(HTTPStatus.OK, _JSON, b"{}")
        repository = self._repositories.get(endpoint.name)
        if repository is None:
            raise error_answers.name_unknown()
        request.admit()  # the name is a secret: who has it is the daemon
        handler = _HANDLERS.get((endpoint.kind, request.method))
        if handler is None:
            raise error_answers.unsupported()
        repository.check()
        return handler(repository, endpoint.reference, request)


def _show_blob(repository: PushRepository, digest: str, request: Request) -> Response:
    """end-2: HEAD what is here or claimed, GET what is here."""
    _require_digest(digest)
    size = repository.size_of(digest)
    blob = repository.blobs.get(digest)
    if size is None or (blob is None and request.method == "GET"):
        raise error_answers.blob_unknown()
    headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
    return Response(HTTPStatus.OK, headers, _read(blob.path) if blob else b"", size)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(128 * 1024):
            yield chunk


def _start_upload(repository: PushRepository, _: str, request: Request) -> Response:
    """end-4a, end-4b (the whole blob in one request), end-11 (mount, with or without `from`)."""
    mount, digest = request.query.get("mount"), request.query.get("digest")
    if mount is not None:
        _require_digest(mount)
        if repository.size_of(mount) is not None:
            return _created(repository, "blobs", mount)
    if digest is not None:
        _require_digest(digest)
    upload = repository.open_upload()
    if digest is None:
        return _progress(HTTPStatus.ACCEPTED, repository, upload)
    return _complete(repository, upload.id, request, digest)


def _append_upload(repository: PushRepository, upload_id: str, request: Request) -> Response:
    """end-5: a chunk, or all of the blob."""
    with repository.borrow(upload_id) as upload:
        _require_continuation(upload, request)
        repository.receive(upload, request.body)
        return _progress(HTTPStatus.ACCEPTED, repository, upload)


def _finish_upload(repository: PushRepository, upload_id: str, request: Request) -> Response:
    """end-6: the last chunk, if any, and the digest."""
    digest = request.query.get("digest", "")
    _require_digest(digest)
    return _complete(repository, upload_id, request, digest)


def _complete(repository: PushRepository, upload_id: str, request: Request, digest: str) -> Response:
    with repository.borrow(upload_id) as upload:
        _require_continuation(upload, request)
        repository.receive(upload, request.body)
        repository.commit(upload, digest)
    return _created(repository, "blobs", digest)


def _show_upload(repository: PushRepository, upload_id: str, _: Request) -> Response:
    """end-13: how far the upload is."""
    with repository.borrow(upload_id) as upload:
        return _progress(HTTPStatus.NO_CONTENT, repository, upload)


def _cancel_upload(repository: PushRepository, upload_id: str, _: Request) -> Response:
    with repository.borrow(upload_id) as upload:
        upload.discard()
    return Response(HTTPStatus.NO_CONTENT)


def _show_manifest(repository: PushRepository, reference: str, _: Request) -> Response:
    """end-3."""
    manifest = repository.find_manifest(reference)
    headers = {"Content-Type": manifest.media_type, "Docker-Content-Digest": manifest.digest}
    return Response(HTTPStatus.OK, headers, manifest.data)


def _put_manifest(repository: PushRepository, reference: str, request: Request) -> Response:
    """end-7: by tag, or by digest."""
    by_digest = ":" in reference
    if by_digest:
        _require_digest(reference)
    media_type = request.headers.get("content-type", "")
    data = _read_manifest(request.body)
    manifest = PushedManifest.parse(data, media_type=media_type, tag="" if by_digest else reference)
    if by_digest and manifest.digest != reference:
        raise error_answers.digest_invalid(f"the manifest has the digest {manifest.digest}")
    for digest in manifest.blobs:
        if repository.size_of(digest) is None:
            raise error_answers.manifest_blob_unknown(digest)
    repository.put_manifest(manifest)
    return _created(repository, "manifests", manifest.digest)


def _read_manifest(body: RequestBody) -> bytes:
    data = bytearray()
    if (body.length or 0) > MANIFEST_LIMIT:
        raise error_answers.manifest_too_large(MANIFEST_LIMIT)
    for chunk in body:
        data += chunk
        if len(data) > MANIFEST_LIMIT:
            raise error_answers.manifest_too_large(MANIFEST_LIMIT)
    return bytes(data)


def _require_digest(digest: str) -> None:
    if not is_digest(digest):
        raise error_answers.digest_invalid("a digest here is sha256: and 64 lower case hex digits")


def _require_continuation(upload: BlobUpload, request: Request) -> None:
    """Raise `Refused`, as 416, where Content-Range says that the chunk does not follow on what is here."""
    text = request.headers.get("content-range")
    if text is None:
        return
    span = parse_content_range(text)
    if span is None:
        raise error_answers.upload_invalid("Content-Range is not <first>-<last>")
    first, last = span
    if first != upload.size:
        raise error_answers.range_invalid({"Range": format_range(upload.size)})
    if request.body.length not in {None, last - first + 1}:
        raise error_answers.upload_invalid("Content-Range and Content-Length differ")


def _progress(status: HTTPStatus, repository: PushRepository, upload: BlobUpload) -> Response:
    headers = {
        "Location": f"/v2/{repository.name}/blobs/uploads/{upload.id}",
        "Range": format_range(upload.size),
        "Docker-Upload-UUID": upload.id,
    }
    return Response(status, headers)


def _created(repository: PushRepository, what: str, digest: str) -> Response:
    headers = {"Location": f"/v2/{repository.name}/{what}/{digest}", "Docker-Content-Digest": digest}
    return Response(HTTPStatus.CREATED, headers)


_Handler = Callable[[PushRepository, str, Request], Response]
_HANDLERS: Mapping[tuple[Kind, str], _Handler] = {
    (Kind.BLOB, "HEAD"): _show_blob,
    (Kind.BLOB, "GET"): _show_blob,
    (Kind.UPLOADS, "POST"): _start_upload,
    (Kind.UPLOAD, "PATCH"): _append_upload,
    (Kind.UPLOAD, "PUT"): _finish_upload,
    (Kind.UPLOAD, "GET"): _show_upload,
    (Kind.UPLOAD, "DELETE"): _cancel_upload,
    (Kind.MANIFEST, "HEAD"): _show_manifest,
    (Kind.MANIFEST, "GET"): _show_manifest,
    (Kind.MANIFEST, "PUT"): _put_manifest,
}
