"""The proof that a daemon reaches the job's registry service, and not another registry of the same name.

The job puts a tiny image there, which nobody can guess; the daemon has to find just that before it pushes anything.
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from layerferry.disk import KeptFile
from layerferry.errors import LayerferryError, RouteError
from layerferry.oci.delta_archive import manifest_of
from layerferry.oci.image import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    Name,
    digest_of,
)
from layerferry.registry_client.endpoint import Endpoint
from layerferry.registry_client.pusher import RepositoryPusher
from layerferry.temporary import TemporaryFolder


@contextmanager
def open_proof(url: str, repository: str, tag: str, environ: Mapping[str, str]) -> Iterator[str]:
    """The digest of an image that the service at `url` has under that tag while the block lasts.

    A registry that deletes nothing keeps its few hundred bytes. Raises `RouteError` where the service takes no image.
    """
    blob = json.dumps({"architecture": "amd64", "os": "linux", "author": secrets.token_hex(16)}).encode()
    digest, size = digest_of(blob), len(blob)
    # As its own layer: registries want at least one (image-spec, manifest.md), and none of them looks into it.
    layer = Descriptor(MEDIA_TYPE_LAYER, digest, size)
    manifest = manifest_of(layer, [layer])
    try:
        name = Name.parse(f"{urlsplit(url).netloc}/{repository}:{tag}")
        endpoint = Endpoint(name.domain, environ, plain_http=url.startswith("http://"))
    except LayerferryError as error:
        raise _unproved(error) from None
    with closing(RepositoryPusher(endpoint, name)) as pusher:
        try:
            _put(pusher, Descriptor(MEDIA_TYPE_CONFIG, digest, size), blob, manifest)
            yield digest_of(manifest)
        finally:
            pusher.remove(f"manifests/{digest_of(manifest)}")
            pusher.remove(f"blobs/{digest}")


def _put(pusher: RepositoryPusher, blob: Descriptor, data: bytes, manifest: bytes) -> None:
    try:
        with TemporaryFolder() as folder:
            path = Path(folder) / "blob"
            with KeptFile(path, blob.size) as file:
                file.write(data)
            pusher.put_blob(blob, path, lambda _: None)
        pusher.put_manifest(pusher.name.tag, MEDIA_TYPE_MANIFEST, manifest)
    except LayerferryError as error:
        raise _unproved(error) from None


def _unproved(error: LayerferryError) -> RouteError:
    return RouteError(
        f"nothing proves that the daemon reaches the job's registry service: {error.message}",
        hint="It has to take images without a login, as registry:2 does.",
    )
