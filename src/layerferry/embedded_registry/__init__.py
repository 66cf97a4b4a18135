"""The embedded registry that a daemon pushes to: an OCI registry for one push, in process, in threads of its own."""

from typing import TYPE_CHECKING

from layerferry import lazy

if TYPE_CHECKING:
    from layerferry.embedded_registry.push_repository import PushRepository
    from layerferry.embedded_registry.pushed_manifest import PushedManifest
    from layerferry.embedded_registry.server import Registry
    from layerferry.embedded_registry.spool import SpooledBlob
else:
    __getattr__ = lazy.attributes(
        __name__,
        {
            "PushRepository": "push_repository",
            "PushedManifest": "pushed_manifest",
            "Registry": "server",
            "SpooledBlob": "spool",
        },
    )

__all__ = ["PushRepository", "PushedManifest", "Registry", "SpooledBlob"]
