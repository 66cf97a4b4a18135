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
