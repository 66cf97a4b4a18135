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

# What a target says and takes. Times are seconds.

#: Bytes of one line. The longest that a target says is a verdict, of 2,000; a banner's are shorter.
LINE = 64 * KIB
#: Lines that wait to be read, before its output waits for us. A greeting has ten, and a few for each layer.
LINES_WAITING = 256
#: Lines and bytes before the greeting: a banner and a message of the day.
NOISE_LINES = 200
NOISE = 256 * KIB
#: Lines that we do not know, of a target of tomorrow; `alive` is one every 10 s, so this is a day of them.
LINES_SKIPPED = 10_000
#: Bytes of stderr that are kept; ssh's reason is the last line.
STDERR = 64 * KIB
#: Bytes of what a target or ssh says that are looked at, and that are shown.
SAID = 4 * KIB
SHOWN = 1500
#: To the first line of the greeting: a connection, a login, a slow start of a shell.
HELLO = 120.0
#: Of silence in the rest of it, and to its end: an engine lists 5,000 images in 75 s (docker 28.5, containerd store).
ANSWER = 120.0
ANSWERS = 300.0
#: For 64 KiB to leave us: a modem takes 10 s. containerd syncs a blob to a slow disk before it reads on.
TAKEN = 300.0
#: Of silence while an engine works, where the target says each 10 s that it lives.
ALIVE = 120.0
#: While an engine loads: so long, and a second for each MiB of the archive. A slow disk of a NAS writes 10 MiB in one.
LOADED = 900.0
LOADED_RATE = MIB
#: For names: an engine takes less than a second; a receiver may run a command then, which has 5 minutes by default.
NAMED = 1800.0
#: For what a target said before it hung up.
LAST_WORDS = 5.0
LAST_WORDS_LINES = 1_000
#: Between two signs of life of ours; host.sh ends itself after 300 s without any.
HEARTBEAT = 15.0
