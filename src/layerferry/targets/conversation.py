"""The conversation with a target, our end of it. `host.sh` and `receiver` are the other end.

One session does everything. It is lines of text until an archive starts (`>` is us, `<` the target):

    > : layerferry 1 6012                     the preamble: protocol, bytes of script; a no-op where a sh reads it
    > (6012 bytes of host.sh)                 a receiver skips them
    > engine ctr k8s.io                       the engine and its namespace; none where the target is to find one
    < layerferry 1 sh                         it is there; what a login shell prints before is skipped
    > image sha256:… | layer sha256:… | end   the ask: an image ID and its diff IDs, for each image
    < engine docker 28.5.2 overlay2           the greeting; words that we do not know are skipped
    < store chain                             what it finds layers by: chain, layer (diff ID) or blob
    < platform linux/x86_64
    < accept none gzip zstd                   for the archive as a stream
    < layers tar gzip zstd                    for the layers in it
    < image sha256:…                          and, for each image asked for, what is there of it:
    < present                                 it is here; or
    < same sha256:…                           it is, under this image ID; or
    < chain 7 sha256:…                        its first 7 layers are, in that image;
    < loose sha256:… 9 sha256:…               a further layer is, with 9 below it in that image
    < blob sha256:… sha256:… 2811 MEDIATYPE   blob stores: a diff ID, and the store's own blob for it
    < end
    > learn IMAGE NAME                        where blobs are not told: let the daemon push IMAGE to us as NAME
    < learned yes|no
    > tag IMAGE NAME                          an image ID, or a throw-away name, gets a name
    > expect INCOMING sha256:… sha256:…       the header: a throw-away name, and the diff IDs that it must show
    > load zstd                               and the archive follows: LENGTH, bytes, LENGTH, bytes, 0
    < loaded INCOMING sha256:… | end          the engine shows just the expected layers under this image ID
    > tag INCOMING NAME | done                we agree: it gets its names, and loses the throw-away one
    < done
    < failed KIND TEXT                        at any time: the verdict; throw-away names are gone

Until `tag`, the target's old image keeps its name; when the session breaks off, the target drops what it loaded.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from layerferry.compression import in_blocks
from layerferry.errors import ConnectError, LayerferryError, TargetError, VerificationError
from layerferry.image import (
    DOCKER_LAYER_TYPES,
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_LAYER_ZSTD,
    Descriptor,
    Image,
    Platform,
    is_digest,
)
from layerferry.targets.conduit import Conduit

PROTOCOL = 1
#: Bytes. Each costs the host a process; a multiple of its block of 64 KiB.
FRAME = 1 << 20
#: Seconds from one line of the greeting to the next; an engine with thousands of images takes some to list them.
_GREETING_TIMEOUT = 120.0
_LAST_WORD_TIMEOUT = 5.0
_NOISE = 200


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer is on the target: in an image, by its ID, with so many layers below."""

    holder: str
    below: int


@dataclass(frozen=True, slots=True)
class Holding:
    """What a target holds of one image: all of it, or its first `depth` layers in image `holder`, and `loose` ones."""

    present: bool = False
    #: The target's image ID, where the image is there under another one than the source's.
    same: str = ""
    depth: int = 0
    holder: str = ""
    #: By diff ID, layers beyond the chain's prefix.
    loose: dict[str, Place] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Greeting:
    """A target's answer to our ask. `store` is `chain`, `layer` or `blob`; `holdings` goes by asked image ID."""

    engine: str
    version: str
    driver: str
    store: str
    platform: Platform
    accept: tuple[str, ...]
    #: What the engine unpacks of layers: `tar`, `gzip`, `zstd`. docker before 23 knows no zstd.
    layers: tuple[str, ...]
    holdings: dict[str, Holding]
    #: By diff ID, the blobs that the target's store has for the layers that were asked for, as far as it tells.
    blobs: dict[str, Descriptor] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.engine} {self.version.partition('+')[0]} ({self.store_name})"

    @property
    def takes_zstd_layers(self) -> bool:
        return "zstd" in self.layers

    @property
    def store_name(self) -> str:
        if self.engine in {"ctr", "k3s"}:
            return f"namespace {self.driver}"
        return "containerd store" if self.store == "blob" else self.driver


class Conversation:
    """Our end of the conversation, over a conduit."""

    def __init__(self, conduit: Conduit, engine: str = "") -> None:
        self._conduit = conduit
        self._greeted = False
        self._engine = f"engine {(conduit.engine or engine).replace(':', ' ')}".strip()
        text = script()
        self._write(f": layerferry {PROTOCOL} {len(text)}\n".encode() + text)
        if conduit.pipelined:  # the target looks for its engine while we look at the source
            self._say(self._engine)

    @property
    def target(self) -> str:
        return self._conduit.name

    def ask(self, images: Iterable[Image]) -> None:
        """Ask what the target has of `images`. The answer is read by `greeting`."""
        lines = []
        if not self._conduit.pipelined:
            self._hello()
            lines.append(self._engine)
        for image in images:
            lines += [f"image {image.id}", *(f"layer {diff_id}" for diff_id in image.diff_ids)]
        self._say(*lines, "end")

    def greeting(self) -> Greeting:
        """Read the greeting and the inventory."""
        self._hello()
        return _parse_greeting(self.target, self._answer_lines(_GREETING_TIMEOUT))

    def _hello(self) -> None:
        noise: list[str] = []
        while not self._greeted:
            line = self._read(_GREETING_TIMEOUT, noise)
            match line.split():
                case ["layerferry", version, *_]:
                    self._greeted = True
                case _ if len(noise) < _NOISE:
                    noise.append(line)
                    continue
                case _:
                    raise TargetError(f"{self.target} does not greet, it says: {noise[0]}")
            if version != str(PROTOCOL):
                raise TargetError(
                    f"{self.target} speaks protocol {version}, we speak {PROTOCOL}",
                    hint="Install the same version of layerferry on both sides.",
                )

    def learn(self, image_id: str, name: str) -> bool:
        """Let the target's daemon push an image to `name`, which leads to a registry of ours; whether it did."""
        self._say(f"learn {image_id} {name}")
        return self._read().split() == ["learned", "yes"]

    def tag(self, image_id: str, names: Iterable[str]) -> None:
        """Give names to an image that the target has."""
        self._say(*(f"tag {image_id} {name}" for name in names), "done")
        self._expect("done")

    def load(self, expected: Mapping[str, Sequence[str]], method: str, stream: Iterable[bytes]) -> dict[str, str]:
        """Send an archive; `expected` has the diff IDs by throw-away name. The image IDs that the engine shows.

        Raises what the target says is wrong, as soon as it says so.
        """
        self._say(*(" ".join(("expect", name, *diff_ids)) for name, diff_ids in expected.items()), f"load {method}")
        for frame in in_blocks(stream, FRAME):
            if self._conduit.answered:
                break
            self._write(b"%d\n" % len(frame))
            self._write(frame)
        else:
            self._say("0")
        said = [line.split() for line in self._answer_lines()]
        shown = {words[1]: words[2] for words in said if len(words) == 3 and words[0] == "loaded"}  # noqa: PLR2004
        if set(shown) != set(expected):
            raise VerificationError(f"{self.target} does not say what it loaded")
        return shown

    def commit(self, names: Mapping[str, Iterable[str]]) -> None:
        """Give the loaded images, by throw-away name, their names, and drop the throw-away ones."""
        self._say(*(f"tag {incoming} {name}" for incoming, wanted in names.items() for name in wanted), "done")
        self._expect("done")

    def _say(self, *lines: str) -> None:
        self._write("".join(f"{line}\n" for line in lines).encode())

    def _write(self, data: bytes) -> None:
        try:
            self._conduit.write(data)
        except LayerferryError as error:
            raise self._last_word(error) from None

    def _last_word(self, error: LayerferryError) -> LayerferryError:
        """What the target said before it hung up tells more than a broken pipe: its verdict, if it gave one."""
        last = ""
        with contextlib.suppress(ConnectError, TargetError):
            while True:
                line = self._conduit.read_line(_LAST_WORD_TIMEOUT)
                if line.startswith("failed "):
                    return verdict(self.target, line)
                last = line.strip() or last
        if last and not self._greeted:
            error.hint = _before(last)
        return error

    def _read(self, timeout: float | None = None, noise: Sequence[str] = ()) -> str:
        try:
            line = self._conduit.read_line(timeout)
        except TargetError as error:
            if noise:
                error.hint = _before(noise[-1])
            raise
        # A login shell may print "failed logins: 0"; before the greeting only our own words count.
        if line.startswith("failed ") and (self._greeted or line.split(" ")[1] in _KINDS):
            raise verdict(self.target, line)
        return line

    def _expect(self, word: str) -> None:
        if (line := self._read()) != word:
            raise ConnectError(f"{self.target} says {line[:200]!r} where {word!r} should stand")

    def _answer_lines(self, timeout: float | None = None) -> Iterator[str]:
        while (line := self._read(timeout)) != "end":
            yield line


def _parse_greeting(target: str, lines: Iterable[str]) -> Greeting:
    facts: dict[str, list[str]] = {}
    holdings: dict[str, Holding] = {}
    blobs: dict[str, Descriptor] = {}
    asked = ""
    for line in lines:
        match line.split():
            case ["image", str(asked)]:
                holdings[asked] = Holding()
            case ["present"] if asked:
                holdings[asked] = Holding(present=True)
            case ["same", image_id] if asked and is_digest(image_id):
                holdings[asked] = Holding(same=image_id)
            case ["blob", diff_id, digest, size, media_type] if _is_blob(diff_id, digest, size, media_type):
                blobs.setdefault(diff_id, Descriptor(media_type, digest, int(size)).in_oci_words)
            case ["chain", depth, *holder] if asked and depth.isdecimal():
                holdings[asked] = Holding(depth=int(depth), holder=holder[0] if holder else "")
            case ["loose", diff_id, below, holder] if asked and is_digest(diff_id) and below.isdecimal():
                holdings[asked].loose[diff_id] = Place(holder, int(below))
            case [word, *values] if not asked:
                facts[word] = values
    try:
        engine, version, driver = (*facts["engine"], "", "")[:3]
        platform = Platform.parse(facts["platform"][0])
        return Greeting(
            engine,
            version,
            driver,
            facts["store"][0],
            platform,
            tuple(facts.get("accept", [])),
            tuple(facts.get("layers", [])),
            holdings,
            blobs,
        )
    except (KeyError, IndexError, ValueError, LayerferryError):
        raise TargetError(f"{target} does not say what engine it has") from None


def _is_blob(diff_id: str, digest: str, size: str, media_type: str) -> bool:
    """Whether a manifest of ours may name this blob: of an encrypted or a foreign layer we know too little."""
    known = {MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_LAYER_ZSTD, *DOCKER_LAYER_TYPES}
    return is_digest(diff_id) and is_digest(digest) and size.isdecimal() and media_type in known


def _before(line: str) -> str:
    return f"Before that, it printed: {line[:200]}"


def script() -> bytes:
    """host.sh as it is sent: without comments and blank lines."""
    text = files("layerferry.targets").joinpath("host.sh").read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("#")).encode()


#: An engine has one status, 1, for whatever fails. (pattern, message, hint), each seen on docker 20.10, 26.1 and 28.5,
#: podman 4.3.
_ENGINE_FAILURES = (
    ("no space left on device", "its disk is full", "Free some space there, with `docker image prune` for one."),
    ("permission denied|password is required|not allowed to execute|may not run",
     "the user may not use the engine", "Add the user to the docker group, or allow `sudo -n docker`."),
    ("Cannot connect to the Docker daemon|daemon running|connection refused|no such file or directory.*sock",
     "its engine does not run", "Start it: `systemctl start docker`."),
)  # fmt: skip
_UNTOUCHED = "The old image is still there under its name."
_KINDS: dict[str, tuple[type[LayerferryError], str, str]] = {
    "no-engine": (TargetError, "there is no container engine", "Install docker or podman, where ssh finds it."),
    "engine": (TargetError, "its engine cannot be used", "See what `docker info` says there."),
    "load": (TargetError, "the engine refused the image", _UNTOUCHED),
    "tag": (TargetError, "the engine refused the name", _UNTOUCHED),
    "run": (TargetError, "the image has its name, but the command of the policy failed", "Its log there says why."),
    "internal": (TargetError, "the receiver failed", "Its log on the target says why."),
    "refused": (TargetError, "the receiver refuses this", "Its policy stands in authorized_keys on the target."),
    "verify": (VerificationError, "what was loaded is not what was sent", _UNTOUCHED),
}  # fmt: skip


def verdict(target: str, line: str) -> LayerferryError:
    """The error that a `failed KIND TEXT` line tells."""
    _, kind, text = (*line.split(" ", 2), "", "")[:3]
    error, message, hint = _KINDS.get(kind, (TargetError, f"failed to {kind}", ""))
    if error is TargetError:
        for pattern, better, advice in _ENGINE_FAILURES:
            if re.search(pattern, text, re.IGNORECASE):
                message, hint = better, advice
                break
    return error(f"{target}: {message} ({text.strip()})" if text.strip() else f"{target}: {message}", hint=hint)
