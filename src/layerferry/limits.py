"""Bounds on what others send: bytes, entries, depth and time. Honest use stays below each by a factor of ten or more.

Standard library only: both programs read it. What is beyond a bound is refused in one sentence, never cut to fit.
"""

from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

#: Bytes of a manifest, index or config (distribution-spec, "Pushing Manifests": 4 MiB and more may be refused).
DOCUMENT: Final = 4 * MIB
#: Levels of a JSON document. An index in an index, with annotations and a config's history, has eight.
DEPTH: Final = 64
#: Members of all objects and lists of one JSON document: a config of 127 layers has some thousand.
MEMBERS: Final = 200_000
#: Layers of one image; engines take 127 (moby, layer/layer_store.go, "max depth exceeded").
LAYERS: Final = 1_000
#: Bytes of any one string that becomes a name, a word of the conversation or a part of a message.
TEXT: Final = 4 * KIB
#: Bytes of a blob, a layer or an image: more than any disk holds, and what still fits a tar header (base-256).
SIZE: Final = 1 << 53

#: Bytes that an engine's command may say in one answer: the names of 10,000 images are 2 MB.
ENGINE_ANSWER: Final = 16 * MIB
#: Looks, 50 ms apart, at a lock that another session holds: a minute. Giving 64 names takes that one some seconds.
LOCK_ATTEMPTS: Final = 1_200
#: Bytes of a zstd frame's window that are taken: what `zstd -d` takes by itself (zstd(1), --memory); levels up to 19
#: use 8 MiB.
ZSTD_WINDOW: Final = 128 * MIB
#: Bytes of address space of a `zstd` process that unpacks: with a window of 128 MiB, 1.5.4 needs less than 256 MiB.
ZSTD_MEMORY: Final = 512 * MIB
#: Connections without credentials at a registry of ours, and seconds that each may last: an engine shows them at once.
STRANGERS: Final = 32
STRANGER_SECONDS: Final = 2.0
