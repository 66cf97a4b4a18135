"""The blobs that a repository claims to have: a daemon uploads those that it hears are missing."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ClaimedBlobs:
    """The digests of blobs that are claimed, though no byte of them is here.

    `everything` claims all but `digests`; else exactly `digests` are claimed. `sizes`, in bytes, is what a claimed
    blob's Content-Length says; 0 where it is not known. Classic stores copy that figure into their manifest.
    """

    everything: bool = False
    digests: AbstractSet[str] = frozenset()
    sizes: Mapping[str, int] = field(default_factory=dict)

    def claims(self, digest: str) -> bool:
        return (digest in self.digests) != self.everything

    def size(self, digest: str) -> int:
        return self.sizes.get(digest, 0)
