"""The conversation with a target: what both ends of it say. docs/protocol.md tells it to who writes another end.

One session does everything. It is lines of text until an archive starts (`>` is the client, `<` the target):

    > : layerferry 1 4193                     the preamble: version, bytes of script; a no-op where a sh reads it
    > (4193 bytes of the host script)         what a docker needs, packed by gzip for ssh; a receiver skips them
    < layerferry plain                        there is no gzip: preamble, script and all that was said come once more
    > engine ctr k8s.io root                  the engine, its namespace, whose, and `pin`; none where the
                                              target is to find one
    > dry-run                                 where nothing is to be changed: said before any word of the source's
    < layerferry 1 sh                         it is there; what a login shell prints before is skipped
    < sudo                                    where the script was sent with that part: sudo asks for a password, which
                                              goes in frames
    < need engines                            it is another engine: the script is to have the parts for it
    > image sha256:… | layer sha256:… | end   the ask: an image ID and its diff IDs, for each image
    > part 1514 gzip                          more of the script, before the first verb that needs it, or as asked
    < engine docker 28.5.2 overlay2           the greeting; words that we do not know are skipped
    < owner root                              whose images they are
    < store chain                             what it finds layers by: `layerferry.oci.store_kind`
    < platform linux/x86_64
    < accept none gzip zstd                   for the archive as a stream
    < layers tar gzip zstd                    for the layers in it
    < capability alive idle login             see `Capability`; an older target has none
    < maker 4711-90210-5eed…                  what its throw-away names are to end with, so that it knows them again
    < free 81604378624                        bytes that are free where it unpacks layers
    < image sha256:…                          and, for each image asked for, what is there of it:
    < present NAME...                         it is here, and may be told to have these names; or
    < same sha256:…                           it is, under this image ID; or
    < chain 7 sha256:…                        its first 7 layers are, in that image;
    < loose sha256:… 9 sha256:…               a further layer is, with 9 below it in that image
    < blob sha256:… sha256:… 2811 MEDIATYPE   blob stores: a diff ID, and the store's own blob for it
    < end
    > learn IMAGE NAME TOKEN BASIC            where blobs are not told: let the daemon push IMAGE to us as NAME, with
                                              these credentials, in docker's two forms of them
    < learned yes|no
    > program BASE64                          where layers are to be patched: what the target's python3 is to run
    < end
    > probe                                   and frames: what comes is thrown away
    < end                                     they were all here
    > files sha256:… IMAGE…                   the files of the layers of IMAGE… that the asked image does not have
    < data BASE85 | end                       their digests
    > match blocks|pieces                     and frames: the paths of some files
    < data BASE85 | end                       the digests of the parts of those that are here
    > signature STATEMENT SSHSIG              for a receiver that wants signed images (`signed`), in base64
    > tag IMAGE NAME                          an image ID, or a throw-away name, gets a name
    > expect INCOMING sha256:… sha256:…       the header: a throw-away name, and the diff IDs that it must show; or
    > expect INCOMING of sha256:…             those of an image of the ask (`parts`)
    > load zstd | load patch-zstd             and the archive, or its recipe, follows: LENGTH, bytes, LENGTH, bytes, 0
    > -                                         a sign of life, between frames and between lines (`idle`)
    > resume 81604378 sha256:…                where much is to be sent (`resume`): so many bytes, in these layers; and
                                              frames: what the target runs for it
    < kept NAME                               a piece of such a layer is here, left by a push that broke off
    < room 1073741824 | end                   so many bytes of pieces may be kept. Then, between frames:
    > LENGTH NAME | + NAME                    a frame that is a piece, to be kept; a piece that is here
    < swept 1                                 so many throw-away names of dead sessions are gone
    < alive                                     one while the engine works, each 10 s (`alive`)
    < loaded INCOMING sha256:… | end          the engine shows just the expected layers under this image ID
    > resolve NAME...                         what these names stand for now (`names`)
    < resolved NAME sha256:… | end            one line for each that is there
    > keep IMAGE NAME                         as `tag`, for the way back: nothing is run for it (`names`)
    > tag INCOMING NAME | done                we agree: it gets its names, and loses the throw-away one; unsaid where
                                              each image is here, and was told to have its names
    < done
    > images NAME... sha256:…                 the images of these repositories, and these images (`prune`)
    < named sha256:… NAME...                  one with all of its names
    < created sha256:… 1790000000             when it was built, in seconds or as RFC 3339 has it
    < layers sha256:… sha256:…                its diff IDs, where containers are told by what they stand on
    < used NAME | used sha256:…               a container's image, or the chain ID that it stands on
    < end
    > remove sha256:… NAME...                 it goes, with these names, which are all that it has (`prune`)
    < removed sha256:… | stays sha256:… TEXT  and why the engine keeps it
    < end
    > copy 0640 sha256:… HEX                  what follows (`--copy`, `--then`), where the host script was sent with
                                              that part: a file's mode and digest; path and content come in frames
    > place | < end                           all files get their names
    > was NAME | < was NAME sha256:…          before `tag`: which image that name stands for
    > then command TOKEN NAME sha256:… -      and frames: the command; of each name the image, and the one before
    < output TEXT                             what it says, line by line
    > stop                                    its time is over
    < ran 0                                   its status
    < failed KIND TEXT                        at any time: the verdict; throw-away names are gone. `after NAME: TEXT`
                                              tells the last name that was given before it

Until `tag`, the target's old image keeps its name; when the session breaks off, the target drops what it loaded. After
`done` each name was seen to be its image. A line is words of printable ASCII, whoever made them: what has a space or a
control character in it is not said. Every wait is bounded, by `layerferry.oci.limits`.

The host script says these words, too; tests/unit/test_protocol.py holds it and the page to what stands here.
"""

from enum import StrEnum

#: What both sides must have the same of.
VERSION = 1
#: Bytes of a frame of ours. Each costs the host a process; a multiple of its block of 64 KiB.
FRAME = 1 << 20
#: Bytes of the longest frame that a receiver takes; the host script takes lengths of 8 digits.
LONGEST_FRAME = 16 << 20
#: Asks for the script once more, not packed.
PLAIN = "layerferry plain"
#: A sign of life of the client's.
SIGN_OF_LIFE = "-"


class Verb(StrEnum):
    """The first word of a client's line. Those of the ask come first, up to `END`."""

    ENGINE = "engine"
    DRY_RUN = "dry-run"
    #: A name that the client is going to give: a receiver refuses early what it would not. No client of ours says it.
    NAME = "name"
    IMAGE = "image"
    LAYER = "layer"
    END = "end"
    #: More of the host script, for that alone.
    PART = "part"
    LEARN = "learn"
    PROGRAM = "program"
    PROBE = "probe"
    FILES = "files"
    MATCH = "match"
    #: What earlier pushes have left of layers is asked for, or removed with all else that dead sessions have left.
    RESUME = "resume"
    GC = "gc"
    #: A statement on an image and its signature, in base64, for a target that is `Capability.SIGNED`.
    SIGNATURE = "signature"
    EXPECT = "expect"
    LOAD = "load"
    RESOLVE = "resolve"
    KEEP = "keep"
    #: Which image a name stands for, before `TAG`. This and what follows `DONE` is for the host script alone, where it
    #: was sent with the part for it.
    WAS = "was"
    TAG = "tag"
    DONE = "done"
    IMAGES = "images"
    REMOVE = "remove"
    COPY = "copy"
    PLACE = "place"
    THEN = "then"
    STOP = "stop"


class Fact(StrEnum):
    """The first word of a line of the greeting."""

    ENGINE = "engine"
    OWNER = "owner"
    STORE = "store"
    PLATFORM = "platform"
    ACCEPT = "accept"
    LAYERS = "layers"
    PATCH = "patch"
    CAPABILITY = "capability"
    MAKER = "maker"
    FREE = "free"
    #: How many signers it requires of each image.
    SIGNATURES = "signatures"


class Reply(StrEnum):
    """The first word of a target's line after the greeting."""

    IMAGE = "image"
    PRESENT = "present"
    SAME = "same"
    CHAIN = "chain"
    LOOSE = "loose"
    BLOB = "blob"
    LEARNED = "learned"
    DATA = "data"
    KEPT = "kept"
    ROOM = "room"
    FREED = "freed"
    RESOLVED = "resolved"
    NAMED = "named"
    CREATED = "created"
    LAYERS = "layers"
    USED = "used"
    REMOVED = "removed"
    STAYS = "stays"
    SWEPT = "swept"
    LOADED = "loaded"
    WAS = "was"
    END = "end"
    DONE = "done"
    OUTPUT = "output"
    RAN = "ran"
    ALIVE = "alive"
    FAILED = "failed"
    #: Before the greeting, where the script was sent with the part for it: sudo asks for a password.
    SUDO = "sudo"
    #: Before the greeting or within it: the host script wants more of itself.
    NEED = "need"


class Capability(StrEnum):
    """What a target says that it can do beyond what the first one could. Others are skipped: they are of tomorrow."""

    #: It says `alive` each 10 s while its engine works, so that a longer silence means that it is gone.
    ALIVE = "alive"
    #: It takes signs of life, and wants them: without any for 300 s it ends the session.
    IDLE = "idle"
    #: `learn` takes credentials.
    LOGIN = "login"
    #: It is the host script, which lacks the parts that verbs after the ask need, and takes `part`.
    PARTS = "parts"
    #: It keeps what has arrived of large layers: `resume`, `gc`, and frames with names.
    RESUME = "resume"
    #: A receiver gives names to signed images alone, and takes `signature`.
    SIGNED = "signed"
    #: It takes `resolve` and `keep`.
    NAMES = "names"
    #: It takes `images` and `remove`.
    PRUNE = "prune"


class VerdictKind(StrEnum):
    """The second word of `failed`: what the rest of the line, which is an engine's, is about."""

    #: There is none.
    NO_ENGINE = "no-engine"
    #: There is one, and it cannot be used.
    ENGINE = "engine"
    #: It answered at first, and does not any more.
    STOPPED = "stopped"
    LOAD = "load"
    TAG = "tag"
    #: It shows something else than was sent, or has `moved NAME=IMAGEID...`: somebody else has.
    VERIFY = "verify"
    #: The client has said what it should not have. Nothing was done of it.
    PROTOCOL = "protocol"
    #: A receiver's policy says no.
    REFUSED = "refused"
    #: The names are given, and a file could not be copied.
    COPY = "copy"
    #: The names are given, and the command of a receiver's policy failed.
    RUN = "run"
    #: A receiver has a fault.
    INTERNAL = "internal"
