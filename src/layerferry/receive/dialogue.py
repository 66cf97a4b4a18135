"""The receiver's end of the conversation (`layerferry.protocol` describes it): every word is checked.

The script is skipped. Unknown words in the ask are skipped too, since a later version of the client sends them before
it has read our version; after it they are refused. An archive comes at most once, and the engine gets no byte of it
before all of it is checked. Each name is checked, and none is given before `done`.
"""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from layerferry.errors import LayerferryError
from layerferry.oci.image import Name, is_digest
from layerferry.protocol import Capability, Fact, Reply, Verb, VerdictKind
from layerferry.receive.byte_limits import Day, Meter
from layerferry.receive.decision_log import DecisionLog
from layerferry.receive.decompression import Expander
from layerferry.receive.engine import Engine
from layerferry.receive.frames import Client
from layerferry.receive.opening import LARGEST_SCRIPT, MOST_IMAGES, MOST_LAYERS, hello, read_ask
from layerferry.receive.policy import Policy
from layerferry.receive.refusal import HungUp, Overdue, Refusal, one_line
from layerferry.receive.visible_images import Ask, VisibleImages, find_visible_images

if TYPE_CHECKING:
    from layerferry.receive.archive_spool import CheckedImage
    from layerferry.receive.arrived_pieces import ArrivedPieces
    from layerferry.receive.old_files import OldFiles
    from layerferry.receive.signatures import Signatures

# We greet before we load what only an archive needs: hence the imports inside functions.
# ruff: noqa: PLC0415

_LONGEST_NAME = 400
_PATCH = "patch-"
#: What a patch takes, and what else is said before the images come.
_PATCHES = {Verb.PROGRAM, Verb.PROBE, Verb.FILES, Verb.MATCH}
_BEFORE = {*_PATCHES, Verb.SIGNATURE, Verb.EXPECT, Verb.RESUME, Verb.GC}


@dataclass(frozen=True, slots=True)
class Host:
    """The programs and folders of this host that a session works with."""

    find_engine: Callable[[str], Engine]
    expander: Expander
    environment: Mapping[str, str]
    home: Path
    #: The path of ssh-keygen, where the policy names signers; empty where there is none.
    keygen: str = ""


@dataclass(slots=True)
class Dialogue:
    """A session with one client. `run` is called once."""

    client: Client
    policy: Policy
    host: Host
    decisions: DecisionLog
    #: The client has said that nothing is to be changed, before any word that its source might have made.
    _dry_run: bool = False
    _expected: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: By throw-away name of the client's.
    _loaded: dict[str, "CheckedImage"] = field(default_factory=dict)
    #: Throw-away names of ours that the engine may have.
    _incoming: list[str] = field(default_factory=list)
    _offered: dict[str, str] = field(default_factory=dict)
    _tags: list[tuple[str, Name]] = field(default_factory=list)
    #: Full names that are for the way back: the command of the policy is for others.
    _kept: set[str] = field(default_factory=set)
    #: None where the policy names no signers.
    _signatures: "Signatures | None" = None
    #: Where the client has said that much is coming.
    _pieces: "ArrivedPieces | None" = None
    _asks: list[Ask] = field(default_factory=list)
    #: Where the client has asked for what older images have.
    _old_files: "OldFiles | None" = None

    def run(self) -> int:
        """Hold the conversation, and return the exit code of the process. At its end no throw-away name is left."""
        try:
            hello(self.client)
            self._signatures = self._open_signatures()
            opening = read_ask(self.client, self._allowed)
            self._asks, self._dry_run = opening.asks, opening.dry_run
            engine = self.host.find_engine(self._engine(opening.engine))
            visible = find_visible_images(engine, self.policy, self._asks, signed=self._signatures is not None)
            with self._tidied(engine):
                self._greet(engine, visible)
                return self._obey(engine, visible)
        except HungUp:
            self._note("hung up", loaded=len(self._loaded))
            return 1 if self._loaded or self._expected else 0
        except Refusal as error:
            return self._fail(error)

    def _open_signatures(self) -> "Signatures | None":
        if not self.policy.signs:
            return None
        from layerferry.receive.signatures import open_signatures

        return open_signatures(self.policy, self.host.keygen, self.host.environment, self.decisions)

    def _note(self, event: str, **facts: object) -> None:
        """Log an event that is over, whether or not its line can be written."""
        with contextlib.suppress(LayerferryError):
            self.decisions.write(event, **facts)

    def _fail(self, error: Refusal) -> int:
        self._note("failed", kind=error.kind, text=error.message)
        with contextlib.suppress(LayerferryError):
            self.client.say(f"{Reply.FAILED} {error.kind} {one_line(error.message)}")
        self.client.drain()
        return 1

    @contextlib.contextmanager
    def _tidied(self, engine: Engine) -> Iterator[None]:
        try:
            yield
        finally:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGHUP, signal.SIGINT))
            self._drop(engine)
            if self._pieces:
                self._pieces.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _drop(self, engine: Engine) -> None:
        """Remove our throw-away names; one that the engine keeps is logged."""
        kept = [name for name in self._incoming if not engine.remove(name)]
        self._incoming = []
        if kept:
            self._note("kept", names=kept)

    def _engine(self, wanted: str) -> str:
        """The engine that the policy names, or else the client."""
        fixed = self.policy.engine
        if wanted not in {"", "docker", "podman"} or (fixed and wanted not in {"", Path(fixed).name}):
            raise Refusal(f"engine {wanted[:40]} is not offered")
        return fixed or wanted

    def _greet(self, engine: Engine, visible: VisibleImages) -> None:
        lines = [
            f"{Fact.ENGINE} {engine.kind} {engine.version} {engine.driver}",
            f"{Fact.OWNER} {engine.owner}",
            f"{Fact.STORE} {visible.told_store}",
            f"{Fact.PLATFORM} {engine.platform}",
            f"{Fact.ACCEPT} {' '.join(self.host.expander.methods)}",
            f"{Fact.CAPABILITY} {Capability.RESUME} {Capability.SIGNED if self._signatures else Capability.NAMES}",
            *([f"{Fact.PATCH} {' '.join(self.host.expander.methods[:0:-1])}"] if self._patches else []),
            *(self._signatures.facts() if self._signatures else ()),
        ]
        for ask in self._asks:
            lines += visible.answer(ask)
            if here := visible.present(ask.id):
                self._offered[ask.id] = here
        self.decisions.write("asked", images=[ask.id for ask in self._asks], present=list(self._offered))
        self.client.say(*lines, Reply.END)

    @property
    def _patches(self) -> bool:
        """Whether layers may come as recipes: files are seen to be where they were found by the /proc of Linux."""
        return sys.platform == "linux" and not self.policy.whole_layers

    def _old(self, engine: Engine, visible: VisibleImages) -> "OldFiles":
        """What reads old files, from when the client first asks."""
        from layerferry.receive.old_files import OldFiles

        self._old_files = self._old_files or OldFiles(self.client, engine, visible, self._asks, self.policy)
        return self._old_files

    def _obey(self, engine: Engine, visible: VisibleImages) -> int:
        """Carry out commands, up to `done`; the exit code."""
        while True:
            words = self.client.read_line().split(" ")
            if self._dry_run and words[0] not in {Verb.LEARN, Verb.RESOLVE}:
                raise Refusal("nothing is changed in a dry run")
            match words:
                case [Verb.LEARN, *_]:
                    self.client.say(f"{Reply.LEARNED} no")  # a client does not choose where an image is pushed to
                case [word, *_] if word in _BEFORE and not self._loaded and not self._tags:
                    self._announce(engine, visible, words)
                case [Verb.LOAD, method] if self._expected and not self._loaded and not self._tags:
                    self._load(engine, visible, method)
                case [Verb.RESOLVE | Verb.TAG | Verb.KEEP, *_] if not self._expected or self._loaded:
                    self._name(engine, visible, words)
                case [Verb.DONE] if not self._expected or self._loaded:
                    self._done(engine)
                    if not self._expected:  # a load has done it; that an image is here may be a dead session's doing
                        self._sweep(engine, visible)
                    self.client.say(Reply.DONE)
                    return 0
                case [word, *_]:
                    raise Refusal(f"{word[:20]!r} has no place here")

    def _resume(self, engine: Engine, visible: VisibleImages, verb: str, number: str, diff_ids: list[str]) -> None:
        """Tell what earlier sessions have left, or remove it."""
        from layerferry.receive.arrived_pieces import ArrivedPieces

        self.client.skip_frames(LARGEST_SCRIPT)  # what a host's script would need
        self._pieces = ArrivedPieces(self._arrived / self.policy.scope, self.policy.max_bytes)
        if verb == Verb.GC:
            swept, freed = self._sweep(engine, visible), self._pieces.collect()
            self.client.say(f"{Reply.SWEPT} {swept}", f"{Reply.FREED} {freed}", Reply.END)
            return
        self.client.say(*self._pieces.answer(number, diff_ids), Reply.END)

    def _announce(self, engine: Engine, visible: VisibleImages, words: list[str]) -> None:
        """Hear what is said of the images before they come."""
        match words:
            case [word, *_] if word in _PATCHES and self._patches and not self._expected:
                self._old(engine, visible).obey(words)
            case [Verb.EXPECT, name, *diff_ids]:
                self._expect(name, tuple(diff_ids))
            case [Verb.SIGNATURE, statement, signature] if self._signatures:
                self._signatures.take(statement, signature)
            case [Verb.RESUME | Verb.GC as verb, number, *diff_ids] if not self._pieces and not self._expected:
                self._resume(engine, visible, verb, number, diff_ids)
            case _:
                raise Refusal(f"{words[0]!r} has no place here")

    def _expect(self, name: str, diff_ids: tuple[str, ...]) -> None:
        if not (name.isascii() and 0 < len(name) <= _LONGEST_NAME) or name in self._expected:
            raise Refusal("a throw-away name is broken or comes twice")
        if len(self._expected) == MOST_IMAGES or len(diff_ids) > MOST_LAYERS or not all(map(is_digest, diff_ids)):
            raise Refusal("the header is broken")
        self._expected[name] = diff_ids

    def _load(self, engine: Engine, visible: VisibleImages, method: str) -> None:
        import tempfile

        from layerferry.receive.archive_spool import ArchiveSpool, archive, check

        per_day = self.policy.max_bytes_per_day
        day = Day(self._state / f"{self.policy.label}.day", per_day) if per_day else None
        meter = Meter(self.policy.max_bytes, day)
        try:
            with tempfile.TemporaryFile(dir=self.policy.spool, prefix="layerferry-") as spool:
                if day is not None:
                    day.charge(0)
                spooled = ArchiveSpool(spool, self.host.expander, meter)
                patch = self._patches and method.startswith(_PATCH)
                method = method.removeprefix(_PATCH) if patch else method
                expand = self._old(engine, visible).expand if patch else None
                spooled.take(self.client.frames(self._pieces), method, expand)
                meter.settle()
                images = check(spooled, self._expected, visible)
                self._admit(engine, images)
                self.decisions.write("checked", images=[image.ids[0] for image in images], bytes=meter.spent)
                if swept := self._sweep(engine, visible):
                    self.client.say(f"{Reply.SWEPT} {swept}")
                self._incoming = [image.name for image in images]
                engine.load(archive(spooled, images))
        except OSError as error:
            raise Refusal(f"the archive cannot be kept: {error.strerror}", kind=VerdictKind.LOAD) from None
        except Overdue:
            raise
        except Refusal as error:
            if self._pieces and error.kind is not VerdictKind.STOPPED:
                self._pieces.forget()
            raise
        finally:
            meter.settle()
        shown = [self._verified(engine, image) for image in images]
        self._loaded = {image.incoming: image for image in images}
        self.client.say(
            *(f"{Reply.LOADED} {image.incoming} {told}" for image, told in zip(images, shown, strict=True)), Reply.END
        )

    def _sweep(self, engine: Engine, visible: VisibleImages) -> int:
        """Remove the throw-away names that sessions have left which were killed; how many there were.

        Pieces that are too old go, too.
        """
        if self._arrived.is_dir():
            from layerferry.receive.arrived_pieces import sweep

            sweep(self._arrived)
        swept = [name for name in visible.left if engine.remove(name)]
        if swept:
            self._note("swept", names=swept)
        return len(swept)

    def _admit(self, engine: Engine, images: tuple["CheckedImage", ...]) -> None:
        for image in images:
            if not self.policy.admits(*image.ids):
                raise Refusal(f"the image {image.ids[0]} is not allowed here")
            if not self.policy.runs(image.platform, engine.platform):
                raise Refusal(f"images for {image.platform} are not taken here")
            if self._signatures:
                self._signatures.admit(image.ids, image.diff_ids, image.platform)

    def _verified(self, engine: Engine, image: "CheckedImage") -> str:
        """The image ID that the client knows: not that of a manifest which names blobs of ours.

        An engine may report a load that failed as done: docker 28.5 does, when a blob is absent.
        """
        shown = engine.inspect(image.name)
        if shown is None:
            raise Refusal("the engine does not show what it loaded", kind=VerdictKind.VERIFY)
        if shown.diff_ids != image.diff_ids or shown.id not in {image.ids[0], image.descriptor.digest}:
            raise Refusal("the engine shows another image than was sent", kind=VerdictKind.VERIFY)
        return shown.id if shown.id in image.ids else image.ids[0]

    def _allowed(self, text: str, *ids: str) -> Name:
        """The name `text`; raises `Refusal` where the policy does not allow it (for the image with `ids`)."""
        try:
            name = Name.parse(text[:_LONGEST_NAME])
        except LayerferryError:
            raise Refusal(f"{text[:80]!r} is not an image name") from None
        if name.tagged != text:
            raise Refusal(f"{text[:80]!r} is not a full image name")
        if not self.policy.names(name, *ids):
            raise Refusal(f"the name {name.familiar} is not allowed here")
        return name

    def _name(self, engine: Engine, visible: VisibleImages, words: list[str]) -> None:
        """Hear which image gets which name, or tell what names stand for: these images may be given names, then."""
        match words:
            case [Verb.RESOLVE, *names] if len(names) <= MOST_IMAGES:
                from layerferry.receive.deployment import resolve

                found = resolve(engine, [self._allowed(text) for text in names], visible.images, self._offered)
                self.client.say(*(f"{Reply.RESOLVED} {name} {told}" for name, told in found), Reply.END)
            case [Verb.TAG | Verb.KEEP as verb, image, name]:
                self._tag(visible, image, name)
                self._kept |= {name} if verb == Verb.KEEP else set()
            case [word, *_]:
                raise Refusal(f"{word!r} has no place here")

    def _tag(self, visible: VisibleImages, image: str, text: str) -> None:
        if len(self._tags) == MOST_IMAGES:
            raise Refusal("there are too many names")
        if image in self._loaded:
            loaded = self._loaded[image]
            self._tags.append((loaded.name, self._allowed(text, *loaded.ids)))
            if self._signatures:
                self._signatures.allow(text, loaded.ids[0], loaded.diff_ids, loaded.platform)
        elif here := self._offered.get(image) or (image if image and image in visible.told else ""):
            self._tags.append((here, self._allowed(text, *visible.ids(here))))
            if self._signatures:
                self._signatures.allow(text, visible.config(here), visible.images[here])
        else:
            raise Refusal(f"there is no {image[:80]!r} to give a name to")

    def _done(self, engine: Engine) -> None:
        """Give the names. The log has a line `naming` before, and a line `named` once they are given."""
        from layerferry.receive.deployment import exclusively, give, run_commands, settle

        with contextlib.ExitStack() as held:
            if self.policy.immutable_tags:
                held.enter_context(exclusively(self._state))
            given = settle(engine, self._tags, immutable=self.policy.immutable_tags)
            if self._signatures:
                held.enter_context(self._signatures.remembered())
            signers = {"signers": self._signatures.signers} if self._signatures else {}
            self.decisions.write("naming", images=given, **signers)
            give(engine, self._tags)
        self._write_on("named", images=given)
        self._drop(engine)
        if self._pieces:
            self._pieces.forget()
        if self.policy.run:
            wanted = {name: image_id for name, image_id in given.items() if name not in self._kept}
            run_commands(self.policy, self.host.environment, wanted, self._write_on)

    def _write_on(self, event: str, **facts: object) -> None:
        """Log an event once the names are given: a client that hears of a failure must hear that they are."""
        try:
            self.decisions.write(event, **facts)
        except Refusal as error:
            raise Refusal(f"the images have their names, but {error.message}") from None

    @property
    def _state(self) -> Path:
        return self.policy.state(self.host.home)

    @property
    def _arrived(self) -> Path:
        """The folder for what is kept of large layers, for each policy one in it."""
        return self._state / "arrived"
