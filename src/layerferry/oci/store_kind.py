"""How an engine finds the layers that it holds, which decides what an archive for it may leave out."""

from enum import StrEnum


class StoreKind(StrEnum):
    """The key of an engine's layer store. The members are the words of the greeting, too (docs/protocol.md)."""

    #: docker's graph drivers (overlay2, btrfs, zfs, ...): by chain ID, a layer together with all layers below it. A
    #: *prefix* of the chain may be left out, and nothing above the first layer that is sent: `docker load` looks each
    #: chain ID up before it opens that layer's file, and from the first that it lacks opens all of them (moby,
    #: image/tarexport/load.go, `LoadImage`; design.md, fact 1).
    CHAIN = "chain"
    #: podman: by diff ID, in whatever chain, however the layer was compressed when it came. Any layer may be left out
    #: (containers/image, storage/storage_dest.go, `tryReusingBlobAsPending`; design.md, fact 1).
    LAYER = "layer"
    #: containerd, and so docker's containerd image store: by the digest of the blob as it was stored. A layer may be
    #: left out where the manifest names the very blob that the store has, with its size and media type. A manifest that
    #: names another is loaded without a word, and is broken (containerd, core/images/archive/importer.go; design.md,
    #: facts 3 and 4).
    BLOB = "blob"
