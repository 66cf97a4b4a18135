"""The conversation with a target, our end of it; `layerferry.protocol` tells it line by line.

The host script (`layerferry.targets.host`) or `layerferry.receive` is the other end.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from layerferry import log
from layerferry.ci.escape import beginning
from layerferry.compression.stream import in_blocks, in_frames
from layerferry.errors import ConnectError, LayerferryError, TargetError, VerificationError
from layerferry.events import Patience
from layerferry.oci import limits
from layerferry.oci.content import Piece
from layerferry.oci.image import Image, is_digest
from layerferry.protocol import FRAME, PLAIN, SIGN_OF_LIFE, VERSION, Capability, Reply, Verb
from layerferry.targets.conduit import Conduit, SilenceError
from layerferry.targets.engine_choice import TargetEngine
from layerferry.targets.greeting import Greeting, Reader
from layerferry.targets.host.script import ON_NODES, SUDO, SentScript
from layerferry.targets.payloads import asking, decoded, expecting, framed, said
from layerferry.targets.verdict import before, is_verdict, no_script, other_version, unanswered, verdict
from layerferry.targets.waiting import Wait, now

_DIGITS = 6
#: Seconds from one look at the progress of an archive to the next.
_LOOK = 0.1


class Conversation:
    """Our end of the conversation, over a conduit."""

    def __init__(
        self,
        conduit: Conduit,
        engine: str = "",
        *,
        dry_run: bool = False,
        told: Callable[[str], None] = lambda _: None,
        also: Sequence[str] = (),
    ) -> None:
        """`told` hears on what we wait, where that takes long; `also` are parts of the script that few pushes need."""
        self._conduit = conduit
        self.target = conduit.name
        #: Whether something follows the push, which our script alone does, and no receiver.
        self.follows = "follow" in also
        self._patience = Patience(told, now)
        #: Whether the other end has greeted, and whether it is the host script, which reads lines of any length.
        self._greeted = self._is_script = False
        #: `swept`: throw-away names of dead sessions that the target has taken away.
        self._gone = self._skipped = self.swept = 0
        #: By name, the image that it stood for before it was given another one, as far as that was told.
        self.was: dict[str, str] = {}
        #: The first lines of the greeting, and of the answer to an archive, where they were read before their time.
        self._first = self._early = ""
        self._heard: LayerferryError | None = None
        self._asked: dict[str, tuple[str, ...]] = {}
        self._announced = self._named = tuple[str, ...]()
        self._capability: frozenset[str] = frozenset()
        #: Looks at the progress of an archive; whether it wants to look again soon.
        self._watch: Callable[[], bool] = bool
        chosen = TargetEngine.parse(wanted) if (wanted := conduit.engine or engine) else None
        #: Whether images are to stay where nothing uses them.
        self.pins = chosen is not None and chosen.pin
        self._opening = [(Verb.ENGINE, *(chosen.words if chosen else ())), *([(Verb.DRY_RUN,)] if dry_run else [])]
        #: What sudo is told. On a host that gets no image, no engine is looked for, and so none by sudo.
        self._password = b"" if also == ON_NODES else conduit.sudo_password
        engines = chosen is not None and chosen.words != ("docker",)
        self._script = SentScript((*also, *(SUDO if self._password else ())), engines=engines, packed=conduit.pipelined)
        # the target looks for its engine while we look at the source
        self._send_script(self._script.first(), self._opening if conduit.pipelined else ())

    def _send_script(self, text: bytes, lines: Sequence[Sequence[str]]) -> None:
        log.note(f"> {self.target}", f": layerferry {VERSION} {len(text)} (and the script, {len(text)} bytes)")
        self._write(f": layerferry {VERSION} {len(text)}\n".encode() + text + said(lines, self.target))

    def ask(self, images: Iterable[Image], names: Iterable[str] = ()) -> None:
        """Ask what the target has of `images`. A receiver refuses at once what its policy does not allow of `names`."""
        self._announced = tuple(names)
        self._asked = {image.id: image.diff_ids for image in images}
        if not self._conduit.pipelined or self._password:
            self._hello()
        if not self._conduit.pipelined:
            self._say(*self._opening)
        if self._password and self._is_script:
            self._first = self._answer("its engine", limits.ANSWER)
            if self._first == Reply.SUDO:
                self._send((self._password,))
                self._first = ""
        self._say(*asking(self._announced, self._asked))

    def greeting(self) -> Greeting:
        """Read the greeting and the inventory."""
        self._hello()
        wait = Wait("what it has of the images", limits.ANSWER, limits.ANSWERS)
        greeting = Reader(self.target, self._asked).read(self._told(self._answer_lines(wait, self._first)))
        self._capability = frozenset(greeting.capability)
        if Capability.IDLE in self._capability:
            threading.Thread(target=self._give_signs_of_life, daemon=True).start()
        return greeting

    def _told(self, lines: Iterable[str]) -> Iterator[str]:
        """The lines of a greeting. A host that lacks parts of the script for it gets them."""
        for line in lines:
            if self._is_script and (parts := self._script.needed(line)):
                self._write(parts)
            else:
                yield line

    def _hello(self) -> None:
        noise: list[str] = []
        plain = False
        size, wait = 0, Wait("its greeting", limits.HELLO, limits.HELLO)
        while not self._greeted:
            line = self._read(wait, noise)
            match line.split():
                case ["layerferry", version, *what] if version.isdecimal():
                    self._greeted = True
                    self._is_script = what[:1] == ["sh"]
                    if self.follows and not self._is_script:
                        raise no_script(self.target)
                case words if words == PLAIN.split() and self._conduit.pipelined and not plain:
                    plain = True
                    self._send_script(self._script.plainly(), self._opening)
                    if not self._password:
                        self._say(*asking(self._announced, self._asked))
                    continue
                case _ if len(noise) < limits.NOISE_LINES and size + len(line) <= limits.NOISE:
                    noise.append(beginning(line, 200))
                    size += len(line)
                    continue
                case _:
                    raise TargetError(f"{self.target} does not greet, it says: {(noise or [beginning(line, 200)])[0]}")
            if version != str(VERSION):
                raise other_version(self.target, version)

    def learn(self, image_id: str, name: str, token: str, basic: str) -> bool:
        """Let the target's daemon push an image to `name`, which leads to a registry of ours; whether it did.

        The credentials: `token` as X-Registry-Auth has them, `basic` as config.json and RFC 7617 do.
        """
        log.mask(token, basic)
        self._say((Verb.LEARN, image_id, name, token, basic))
        return self._answer("its engine to push to us", limits.ANSWER).split() == [Reply.LEARNED, "yes"]

    @property
    def takes_any_line(self) -> bool:
        """Whether the other end is the host script, which skips a line that begins with a sign of life."""
        return self._is_script and Capability.IDLE in self._capability

    def show(self, signatures: Iterable[tuple[str, str]]) -> None:
        """Show signatures, each a statement and a SSHSIG in base64, to a target that is `Capability.SIGNED`."""
        self._say(*((Verb.SIGNATURE, *words) for words in signatures))

    def prepare(self, program: str) -> bytes:
        """Give the target the program that it is to run, as `layerferry.patch.text.word` has it; how it reads files.

        That is a number in four bytes: 0 directly, 1 out of an export of the image; or nothing where it cannot.
        """
        self._say((Verb.PROGRAM, program))
        return b"".join(self._data("it to take a program", limits.ANSWER))

    def probe(self, data: bytes) -> None:
        """Send what the target throws away; when this returns, all of it is there."""
        self._say((Verb.PROBE,))
        self._send((data,))
        b"".join(self._data("it to take some bytes", limits.ANSWER))

    def files(self, image_id: str, candidates: Iterable[str]) -> Iterator[bytes]:
        """The digests of the files of images that have layers beside those of the asked one, as it reads them."""
        self._say((Verb.FILES, image_id, *candidates))
        return self._data("it to read its files", limits.FILES_READ)

    def match(self, what: str, paths: bytes) -> Iterator[bytes]:
        """The `blocks` or the `pieces` of the files of some paths, as they come; `program` says how."""
        self._say((Verb.MATCH, what))
        self._send((paths,))
        return self._data("it to compare its files", limits.FILES_READ)

    def put(self, line: Sequence[str], data: bytes, what: str) -> Iterator[list[str]]:
        """Say a line and `data` in frames; the words of each line of an answer that tells of files."""
        self._say(line)
        self._send((data,))
        for answer in self._answer_lines(self._wait(what, limits.FILES_READ)):
            self._skip()
            yield answer.split()

    def _send(self, chunks: Iterable[bytes]) -> None:
        for frame in in_blocks(chunks, FRAME):
            self._write(b"%d\n" % len(frame) + frame)
        self._say(("0",))

    def _data(self, what: str, whole: float) -> Iterator[bytes]:
        """The bytes of an answer in lines, as they come."""
        size = 0
        for line in self._answer_lines(self._wait(what, whole)):
            match line.split():
                case [Reply.DATA, text] if size <= limits.FILES and (data := decoded(text, self.target)):
                    yield data
                    size += len(data)
                case _:
                    self._skip()

    def load(
        self,
        expected: Mapping[str, Sequence[str]],
        method: str,
        stream: Iterable[bytes | Piece],
        watch: Callable[[], bool] = bool,
    ) -> dict[str, str]:
        """Send an archive, or pieces of it; `expected` has diff IDs by throw-away name. The image IDs that are shown.

        `watch` is called while that lasts; as long as it returns True also while the answer is waited for. Raises what
        the target says is wrong, as soon as it says so.
        """
        self._watch = watch
        header = expecting(expected, self._asked, recalled=self.takes(Capability.PARTS))
        self._say(*header, (Verb.LOAD, method))
        sent = frames = loaded = 0
        for frame in in_frames(stream, FRAME):
            self._heed()
            if self._early:
                break
            self._write(framed(frame), meanwhile=self._heed)
            frames += 1
            sent += len(frame.data)
            loaded += len(frame.data) or frame.size
        log.note(f"> {self.target}", f"(the archive, frames: {frames}, bytes: {sent})")
        if not self._early:
            self._say(("0",))
        wait = self._wait(f"its engine to load {loaded} bytes", limits.LOADED + loaded / limits.LOADED_RATE)
        shown: dict[str, str] = {}
        for line in self._answer_lines(wait, self._early):
            match line.split():
                case [Reply.LOADED, name, image_id] if name in expected and name not in shown and is_digest(image_id):
                    shown[name] = image_id
                case words:
                    self._skip(words)
        if set(shown) != set(expected):
            raise VerificationError(f"{self.target} does not say what it loaded")
        return shown

    def takes(self, capability: Capability) -> bool:
        """Whether the target has said that it does."""
        return capability in self._capability

    def question(self, words: Sequence[str], what: str, whole: float) -> Iterator[list[str]]:
        """Say a line; the words of each line of the answer, up to `end`: `what` is awaited for `whole` seconds."""
        self._say(words)
        for line in self._answer_lines(self._wait(what, whole)):
            if line == Reply.ALIVE:
                self._skip()
            else:
                yield line.split()

    def commit(self, names: Iterable[tuple[str, Iterable[str]]], kept: Iterable[tuple[str, str]] = ()) -> None:
        """Give images, by ID or throw-away name, their names, those that are `kept` for the way back first.

        Where something follows, `was` has the IDs of the images that the names stood for before, as far as they did.
        """
        pairs = [(image, name) for image, wanted in names for name in wanted]
        self._named = tuple(name for _, name in pairs)
        asked = set(self._named) if self.follows else set()
        first = [*((Verb.WAS, name) for name in asked), *((Verb.KEEP, *pair) for pair in kept)]
        self._say(*first, *((Verb.TAG, *pair) for pair in pairs), (Verb.DONE,))
        wait = self._wait("its engine to give the names", limits.NAMED)
        while (line := self._read(wait)) != Reply.DONE:
            match line.split():
                case [Reply.WAS, name, image_id] if name in asked and is_digest(image_id):
                    self.was[name] = image_id
                case [Reply.ALIVE] | [Reply.WAS, _]:
                    self._skip()
                case _:
                    odd = ConnectError(f"{self.target} says {beginning(line, 200)!r} where 'done' should stand")
                    raise unanswered(odd, self._named)
        self._named = ()

    def tell(self, *words: str, payloads: Iterable[bytes] = ()) -> None:
        """Say a line, and what goes with it, each in frames of its own."""
        self._say(words)
        for payload in payloads:
            self._send((payload,))

    def hear(self, what: str, seconds: float) -> str | None:
        """The next line; None where none comes in so many seconds. `what` is told the user who waits for it."""
        wait = Wait(what, seconds, seconds)
        self._patience.moved()
        try:
            return self._read(wait)
        except ConnectError:
            if wait.left:
                raise
        return None

    def _give_signs_of_life(self) -> None:
        """A target that hears nothing, while we wait for the source, takes us for gone."""
        with contextlib.suppress(LayerferryError):
            while not self._conduit.closed.wait(limits.HEARTBEAT):
                self._conduit.write(f"{SIGN_OF_LIFE}\n".encode())

    def _heed(self) -> None:
        """Read what waits to be read: a verdict is raised, the answer to the archive kept, all else skipped."""
        self._watch()
        if self._gone != self._conduit.sent:
            self._gone = self._conduit.sent
            self._patience.moved()
        self._patience.look(f"it has taken nothing, after {self._gone} bytes,")
        try:
            while self._conduit.answered and not self._early:
                line = self._read(Wait("its answer", limits.LAST_WORDS, limits.LAST_WORDS))
                if line.split()[:1] in ([Reply.LOADED], [Reply.END]):
                    self._early = line
                else:
                    self._skip(line.split())
        except LayerferryError as error:
            self._heard = error
            raise

    def _skip(self, words: Sequence[str] = ()) -> None:
        match words:
            case [Reply.SWEPT, count] if count.isascii() and count.isdecimal() and len(count) <= _DIGITS:
                self.swept = int(count)
        self._skipped += 1
        if self._skipped > limits.LINES_SKIPPED:
            raise TargetError(f"{self.target} says thousands of lines that nobody asked for")

    def _say(self, *lines: Sequence[str]) -> None:
        text = said(lines, self.target)
        parts = self._script.before(line[0] for line in lines) if self.takes(Capability.PARTS) else b""
        self._write(parts + text)

    def _write(self, data: bytes, meanwhile: Callable[[], None] | None = None) -> None:
        try:
            self._conduit.write(data, meanwhile)
        except LayerferryError as error:
            raise error if error is self._heard else self._last_word(error) from None

    def _last_word(self, error: LayerferryError) -> LayerferryError:
        """What the target said before it hung up tells more than a broken pipe: its verdict, if it gave one."""
        last, wait = "", Wait("its last word", limits.LAST_WORDS, limits.LAST_WORDS)
        with contextlib.suppress(ConnectError, TargetError):
            for _ in range(limits.LAST_WORDS_LINES):
                line = self._conduit.read_line(wait.left)
                if line.startswith(f"{Reply.FAILED} "):
                    return verdict(self.target, line, self._named)
                self._greeted = self._greeted or line.startswith("layerferry ")
                last = line.strip() or last
        if last and not self._greeted:
            error.hint = before(last)
        return unanswered(error, self._named)

    def _read(self, wait: Wait, noise: Sequence[str] = ()) -> str:
        try:
            line = self._line(wait)
        except LayerferryError as error:
            if noise and isinstance(error, TargetError):
                error.hint = before(noise[-1])
            raise unanswered(error, self._named) from None
        if line.startswith(f"{Reply.FAILED} ") and (self._greeted or is_verdict(line)):
            raise verdict(self.target, line, self._named)
        return line

    def _line(self, wait: Wait) -> str:
        """The next line. The user hears on what we wait, again and again."""
        until = now() + wait.left
        while True:
            self._patience.look(f"waiting for {wait.what}")
            soon = _LOOK if self._watch() else limits.ANSWER
            try:
                line = self._conduit.read_line(max(0.0, min(until - now(), self._patience.left, soon)))
            except SilenceError:
                if now() < until:
                    continue
                raise wait.over(self.target) from None
            if line == Reply.ALIVE:
                wait.alive = True
            return line

    def _answer(self, what: str, whole: float) -> str:
        """One line that is no sign of life."""
        wait = self._wait(what, whole)
        while (line := self._read(wait)) == Reply.ALIVE:
            self._skip()
        return line

    def _wait(self, what: str, whole: float) -> Wait:
        self._patience.moved()
        return Wait(what, limits.ALIVE if self.takes(Capability.ALIVE) else whole, whole)

    def _answer_lines(self, wait: Wait, line: str = "") -> Iterator[str]:
        """The lines up to `end`; the first may have been read."""
        line = line or self._read(wait)
        while line != Reply.END:
            yield line
            line = self._read(wait)
