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
#: Lines of HTTP between two pieces of a body: Python takes 100 headers, and an answer has one head, or two.
HEAD_LINES: Final = 1_000
#: Seconds from the first byte of an answer's head to its last.
HEAD_SECONDS: Final = 60
#: Bytes of any other answer than a blob: a daemon's list of images has 1 or 2 KiB for each.
ANSWER: Final = 32 * MIB
#: Pieces that an answer comes in, chunks or packets: Go's HTTP server gathers 2 KiB for one, and an MTU is 1500.
ANSWER_PIECES: Final = 1 << 17
#: Seconds that an answer of that size may take: 110 kB/s.
ANSWER_SECONDS: Final = 300
#: Bytes of a line of progress; docker's have 300.
LINE: Final = 64 * KIB
#: Lines of progress of one push. docker says one for each 512 KiB, and at most ten a second for each layer
#: (moby, pkg/progress/progressreader.go): 1 TiB.
LINES: Final = 2_000_000
#: Bytes of one image in a daemon's list: its names, digests and labels.
ROW: Final = MIB
