"""The embedded registry that a daemon pushes to: an OCI registry for one push, in process, in threads of its own."""

from layerferry.registry.manifests import PushedManifest
from layerferry.registry.repository import Repository
from layerferry.registry.server import Registry
from layerferry.registry.spool import SpooledBlob

__all__ = ["PushedManifest", "Registry", "Repository", "SpooledBlob"]
