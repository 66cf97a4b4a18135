"""Bounds on what others send: bytes, entries, depth and time. Honest use stays below each by a factor of ten or more.

Those in time are floats, in seconds, and docs/states.md tells which phase of a push each one is for.

Standard library only: both programs read it. What is beyond a bound is refused in one sentence, never cut to fit.
"""

from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

#: Bytes of a manifest, index or config (distribution-spec, "Pushing Manifests": 4 MiB and more may be refused).
DOCUMENT: Final = 4 * MIB
#: Characters of what a history says of a layer that are kept: here-documents and arguments of a build may be long.
CREATED_BY: Final = 500
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

#: Seconds until a source's daemon answers, and until it tells whether it reaches a registry.
DAEMON: Final = 60.0
DAEMON_PROBED: Final = 5.0
#: Seconds that it may be silent while it gives an image: so long, and a second for each MiB of it. docker before 25
#: writes all of it to its own disk first, and a slow one writes 10 MiB in one.
SAVED: Final = 300.0
SAVED_RATE: Final = MIB
#: Bytes of a daemon's answer: a list of images has 1 or 2 KiB for each.
LISTING: Final = 32 * MIB
#: Bytes of one image in that list: its names, digests and labels.
LISTED: Final = MIB
#: Bytes of a line of progress of a push; docker's have 300. And how many lines: docker says one for each 512 KiB, and
#: at most ten a second for each layer (moby, pkg/progress/progressreader.go), so these are 1 TiB.
PROGRESS_LINE: Final = 64 * KIB
PROGRESS_LINES: Final = 2_000_000

#: Bytes that are read of an archive unpacked, however small it is packed: a layer of zeros is none of ours to keep.
ARCHIVE_AT_LEAST: Final = 8 * GIB
#: Members of an image archive: a few for each layer. A tar with more is something else, a root filesystem for one.
ARCHIVE_MEMBERS: Final = 50_000
#: Bytes of a long name or a pax header, of all of them in an archive, and how many there may be for one member.
ARCHIVE_EXTENSION: Final = 64 * KIB
ARCHIVE_NAMES: Final = 8 * MIB
ARCHIVE_EXTENSIONS: Final = 8
#: Bytes of an entry of tar-split, in base64: what a layer's tar has between two contents, headers of empty files too.
TAR_SPLIT_ENTRY: Final = 16 * MIB

#: Bytes that an engine's command may say in one answer: the names of 10,000 images are 2 MB.
ENGINE_ANSWER: Final = 16 * MIB
#: Looks, 50 ms apart, at a lock that another session holds: a minute. Giving 64 names takes that one some seconds.
LOCK_ATTEMPTS: Final = 1_200
#: Bytes of a zstd frame's window that are taken: what `zstd -d` takes by itself (zstd(1), --memory); levels up to 19
#: use 8 MiB.
ZSTD_WINDOW: Final = 128 * MIB
#: Bytes of memory for unpacking xz, ours to give: `xz -9` wants 65 MiB (xz(1)).
XZ_MEMORY: Final = 160 * MIB
#: Bytes of address space of a `zstd` process that unpacks: with a window of 128 MiB, 1.5.4 needs less than 256 MiB.
ZSTD_MEMORY: Final = 512 * MIB
#: Connections without credentials at a registry of ours, and seconds that each may last: an engine shows them at once.
STRANGERS: Final = 32
STRANGER_SECONDS: Final = 2.0
#: Seconds for the same where a tunnel or an ssh session leads from the source's daemon to our registry.
GUEST_SECONDS: Final = 10.0
#: Uploads that a push may have open at a time: docker has 5, or as many as its `max-concurrent-uploads` says.
UPLOADS: Final = 200

#: Entries of an index and of all that it leads to: an image is there for some ten platforms, with an attestation each.
ENTRIES: Final = 4_000
#: Platforms that one image is there for; Go knows about fifty pairs of system and architecture.
PLATFORMS: Final = 200
#: Bytes of all manifests, indexes and configs that are read to find one image; they have some kilobytes each.
DOCUMENTS: Final = 64 * MIB

#: Bytes of a token service's or a credential helper's answer, and of what a registry says of an error.
REPLY: Final = MIB
#: Bytes of a token or a password: a JWT with many scopes has ten kilobytes.
TOKEN: Final = 64 * KIB
#: Bytes of an HTTP answer before its body; servers send some hundred, and most clients take 64 KiB at most.
HEADERS: Final = 256 * KIB
#: Characters of a URL that a registry leads to: one that is signed for a blob store has one or two thousand.
URL: Final = 16 * KIB
#: Redirects of one request, one behind the other: to a blob store it is one.
REDIRECTS: Final = 10
#: Seconds to connect to a registry, and until its answer begins.
REGISTRY_CONNECTED: Final = 15.0
ANSWER_BEGINS: Final = 60.0
#: Seconds that a registry may be silent, or send less than `PACE`, or take nothing of what it is sent.
SILENCE: Final = 60.0
#: Bytes in `SILENCE` seconds that count as progress: 280 a second, where a modem had 7,000.
PACE: Final = 16 * KIB
#: Bytes that a registry has stored in a second, at least, before it has to answer that it has a blob.
STORING: Final = 16 * MIB
#: How many times larger a layer is unpacked, at most, that somebody else's word is checked for: gzip can do 1,032,
#: layers have 2 to 10. What is beyond is sent instead.
RATIO: Final = 200
UNPACKED_AT_LEAST: Final = 64 * MIB
#: Bytes that a layer may have that is unpacked to the disk, however small it is packed: a file of zeros in it.
SPOOLED_AT_LEAST: Final = 256 * MIB
#: Bytes of a layer, unpacked, that are hashed before it goes into a registry.
UNPACKED: Final = 512 * GIB
#: Bytes of the file that remembers which blob is which layer: 30,000 of them.
MEMORY: Final = 8 * MIB
#: Seconds without progress until the user hears on whom we wait, and then each time twice as long.
STALLED: Final = 30.0

# What a target says and takes. Times are seconds.

#: Bytes of one line. The longest that a target says is a verdict, of 2,000; a banner's are shorter.
LINE = 64 * KIB
#: Lines that wait to be read, before its output waits for us. A greeting has ten, and a few for each layer.
LINES_WAITING = 256
#: Lines and bytes before the greeting: a banner and a message of the day.
NOISE_LINES = 200
NOISE = 256 * KIB
#: Lines that we do not know, of a target of tomorrow, and those of its pieces; `alive` is one every 10 s, so that there
#: is room for two days of them beside `PIECES`.
LINES_SKIPPED = 40_000
#: Bytes of stderr that are kept; ssh's reason is the last line.
STDERR = 64 * KIB
#: Bytes of what a target or ssh says that are looked at, and that are shown.
SAID = 4 * KIB
SHOWN = 1500
#: To a connection of ssh's.
CONNECTED = 30.0
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
#: Bytes of what a target tells of its files, in one answer: 16 for each, so these are four million files.
FILES: Final = 64 * MIB
#: Pieces that a target tells of, of 1 MiB and more: 16 GiB of them are what it keeps.
PIECES: Final = 20_000
#: To read all files of some layers, with signs of life: 10 GB from a slow disk take 100 s.
FILES_READ = 900.0
#: Images that a compose file names, bytes that compose says of them, and seconds that it takes.
COMPOSED: Final = 64
COMPOSE_SAID: Final = 64 * KIB
COMPOSE_FILE: Final = 4 * MIB
COMPOSE: Final = 60.0
#: Connections to a target's docker at once, bytes of its answer to a question of ours, and of a line of compose's.
DIALLED: Final = 32
DOCKER_ANSWER: Final = 4 * MIB
COMPOSE_LINE: Final = 4 * KIB
#: Lines of what a target tells of the images of some repositories, and of its containers: several for each.
IMAGES_TOLD: Final = 50_000
#: Bytes of memory that all of these lines may take: their words, and so many more for each.
IMAGES_SAID: Final = 64 * MIB
WORD_HELD: Final = 64
#: For names: an engine takes less than a second; a receiver may run a command then, which has 5 minutes by default.
NAMED = 1800.0
#: For what a target said before it hung up.
LAST_WORDS = 5.0
LAST_WORDS_LINES = 1_000
#: For all that the source's daemon is still told once a push was interrupted: a CI kills who is there 10 s later.
FAREWELL = 8.0
#: Between two signs of life of ours; the host script ends itself after 300 s without any.
HEARTBEAT = 15.0
#: Bytes of a command that follows a push, which is one argument there (Linux takes 128 KiB), and of a script.
COMMAND: Final = 64 * KIB
SCRIPT: Final = MIB
#: Bytes of a file that is copied after a push, of its path there, and how many there may be.
COPIED_FILE: Final = MIB
COPIED_PATH: Final = 1 * KIB
COPIED_FILES: Final = 100
#: Lines and bytes that are shown of what a command says; what is beyond is counted.
OUTPUT_LINES: Final = 20_000
OUTPUT: Final = 4 * MIB
#: Lines at its end that are shown once more where it fails.
LAST_OUTPUT: Final = 8
#: To the end of a command that was told to end: the target kills it after 10 s.
ENDED: Final = 60.0
# The log of a run.

#: Bytes of one line, which most say in 200; and of all that one run writes: a push writes 20 KB, and somebody who
#: makes it write more is not to fill a disk.
LOG_LINE = 4 * KIB
LOG: Final = 64 * MIB

#: Jump hosts on the way to one: people have one or two.
HOPS: Final = 8
