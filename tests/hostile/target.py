"""A target that lies, as a conduit: `target.py CASE`. The table of cases is below, each a function of the two streams.

It runs alone, on the standard library: what a case is expected to come to stands beside it for the tests.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable  # noqa: TC003 - one import less to guard
from dataclasses import dataclass

PAINT = "x\r::add-mask::x\x1b]0;owned\x07\u009b31m\x7f\u202e##vso[task.x]y ##[group]z ##teamcity[x]"
LONG = "x" * (1 << 20)
DIGITS = "9" * 5000
OTHER = "sha256:" + "b" * 64
LAYER = "application/vnd.oci.image.layer.v1.tar"
FACTS = (
    "engine docker 28.5.2 overlay2",
    "store chain",
    "platform linux/x86_64",
    "accept none gzip zstd",
    "layers tar gzip zstd",
)


#: Bytes of a layer that a target may keep.
_MUCH = 34 << 20


class Talk:
    """Our end: what is said is heard, what is answered is written at once."""

    def __init__(self) -> None:
        self.hear, self.out = sys.stdin.buffer, sys.stdout.buffer
        self.images: list[str] = []
        self.layers: list[str] = []
        self.expected: list[str] = []

    def say(self, *lines: str | bytes) -> Talk:
        for line in lines:
            self.out.write((line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape")) + b"\n")
        self.out.flush()
        return self

    def raw(self, data: bytes) -> Talk:
        self.out.write(data)
        self.out.flush()
        return self

    def for_ever(self, data: bytes, *, every: float = 0) -> Talk:
        while True:
            self.raw(data)
            if every:
                time.sleep(every)

    def preamble(self) -> Talk:
        line = self.hear.readline()
        self.hear.read(int(line.split()[3]))
        return self

    def ask(self) -> Talk:
        """Read what is asked for, to its end."""
        while line := self.hear.readline().decode().split():
            if line == ["end"]:
                return self
            if line[0] == "image":
                self.images.append(line[1])
            if line[0] == "layer":
                self.layers.append(line[1])
        return self

    def greet(self, *more: str, facts: tuple[str, ...] = FACTS, image: str | None = None) -> Talk:
        """All up to the inventory; `more` is what it has, of the image that was asked for or another, or of none."""
        self.preamble().say("layerferry 1 sh").ask()
        image = self.images[0] if image is None else image
        return self.say(*facts, *([f"image {image}"] if image else []), *more)

    def header(self) -> Talk:
        while line := self.hear.readline().decode().split():
            if line[0] == "expect":
                self.expected.append(line[1])
            if line[0] == "load":
                break
        return self

    def archive(self) -> Talk:
        while (size := self.hear.readline().strip()) not in {b"", b"0"}:
            self.hear.read(int(size))
        return self

    def loading(self) -> Talk:
        """Up to where the engine has loaded it."""
        return self.greet("end").header().archive()

    def silent(self) -> Talk:
        while self.hear.read(1 << 16):
            pass
        return self

    def stay(self) -> Talk:
        time.sleep(300)
        return self


@dataclass(frozen=True)
class Case:
    name: str
    play: Callable[[Talk], object]
    codes: tuple[int, ...] = (5,)
    says: str = ""
    options: tuple[str, ...] = ()
    #: Bytes of the image's layer; a pipe holds 64 KiB.
    size: int = 3000


def fact(name: str, line: str, codes: tuple[int, ...] = (5,)) -> Case:
    """A greeting in which one line is another; an empty one is left out."""
    word = name.split(" ", 1)[0]
    facts = tuple(filter(None, (line if known.startswith(f"{word} ") else known for known in FACTS)))
    return Case(
        f"greeting: {name}", lambda talk: talk.greet("end", facts=facts).silent(), codes, options=("--dry-run",)
    )


def has(name: str, *lines: str, codes: tuple[int, ...] = (5,), store: str = "chain") -> Case:
    facts = tuple(f"store {store}" if known.startswith("store") else known for known in FACTS)
    return Case(f"inventory: {name}", lambda talk: talk.greet(*lines, "end", facts=facts).silent(), codes,
                options=("--dry-run",))  # fmt: skip


def verdict(name: str, *lines: str | bytes, codes: tuple[int, ...] = (5,), says: str = "") -> Case:
    """What it says once it has the archive."""
    return Case(f"verdict: {name}", lambda talk: talk.loading().say(*lines), codes, says)


def shows(name: str, *words: str, codes: tuple[int, ...] = (6,)) -> Case:
    """What it says that it loaded; `INCOMING` and `IMAGE` are the honest words."""

    def play(talk: Talk) -> None:
        talk.loading()
        known = {"INCOMING": talk.expected[0], "IMAGE": talk.images[0]}
        talk.say(" ".join(known.get(word, word) for word in words), "end")
        talk.silent()

    return Case(f"loaded: {name}", play, codes)


def commits(name: str, *lines: str, codes: tuple[int, ...] = (4, 5)) -> Case:
    def play(talk: Talk) -> None:
        talk.loading()
        talk.say(f"loaded {talk.expected[0]} {talk.images[0]}", "end")
        while talk.hear.readline() not in {b"done\n", b""}:
            pass
        talk.say(*lines)
        talk.silent()

    return Case(f"done: {name}", play, codes)


def before(name: str, play: Callable[[Talk], object], codes: tuple[int, ...] = (5,), says: str = "") -> Case:
    return Case(f"before: {name}", lambda talk: play(talk.preamble()), codes, says)


def slow(
    name: str, play: Callable[[Talk], object], seconds: str = "1.5", codes: tuple[int, ...] = (4,), size: int = 3000
) -> Case:
    return Case(f"slow: {name}", play, codes, options=("--timeout", seconds), size=size)


def stderr(talk: Talk, data: bytes, code: int) -> None:
    os.write(2, data)
    sys.exit(code)


def flood(_: Talk) -> None:
    for _number in range(300):
        sys.stderr.buffer.write(b"x" * (1 << 20) + b"\n")
    sys.exit(3)


def greeting_for_ever(*lines: str) -> Callable[[Talk], object]:
    text = "".join(f"{line}\n" for line in lines).encode()
    data = text * (1 + 60_000 // len(text))
    return lambda talk: talk.greet().for_ever(data)


def new_layers(talk: Talk) -> None:
    talk.greet()
    for part in range(1 << 40):
        talk.say(*(f"loose sha256:{part:032x}{number:032x} 1 {OTHER}" for number in range(900)))


def stubborn(talk: Talk) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    talk.stay()


def never_reads(talk: Talk) -> None:
    talk.greet("end")
    talk.stay()


def breaks_off(talk: Talk) -> None:
    talk.greet("end")
    talk.header()
    talk.hear.read(5000)
    sys.exit(1)


def trickles(talk: Talk) -> None:
    talk.greet("end")
    talk.header()
    while talk.hear.read(1):
        time.sleep(0.05)


def stray(*after: str, endless: bytes = b"") -> Callable[[Talk], object]:
    """A line that nobody waits for, while the archive is on its way."""

    def play(talk: Talk) -> None:
        talk.greet("end")
        talk.header()
        talk.say("hello", *after)
        if endless:
            talk.for_ever(endless)
        talk.silent()
        talk.stay()

    return play


def pieces(*lines: str, endless: bytes = b"") -> Callable[[Talk], object]:
    """What it has kept of a large layer, and that it has loaded that."""

    def play(talk: Talk) -> None:
        talk.greet("end", facts=(*FACTS, "capability resume"))
        while talk.hear.readline() != b"0\n":
            pass
        if endless:
            talk.for_ever(endless)
        talk.say(*lines, "end").header()
        while (words := talk.hear.readline().split()) not in ([], [b"0"]):
            talk.hear.read(0 if words[0] == b"+" else int(words[0]))
        talk.say("failed load wrong diff id")

    return play


def closes(talk: Talk) -> None:
    talk.greet("end")
    os.close(1)
    talk.stay()


def killed(_: Talk) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


#: A pattern that looks for a word after another one looks from each of these to the end.
BACKTRACKING = "no such file or directory " * 40_000

CASES = (
    before("nothing", lambda _: None),
    before("it is killed", killed, (4, 5)),
    before("a status", lambda talk: stderr(talk, b"oh\n", 3), says="oh"),
    before("a painted status", lambda talk: stderr(talk, f"{PAINT}\n".encode(), 3)),
    before("a long status", lambda talk: stderr(talk, LONG.encode(), 3)),
    before("bytes on stderr", lambda talk: stderr(talk, bytes(range(1, 256)), 3)),
    before("a flood on stderr", flood),
    before("painted noise", lambda talk: talk.say(PAINT)),
    before("long noise", lambda talk: talk.say(LONG)),
    before("noise of all bytes", lambda talk: talk.say(bytes(range(1, 256)))),
    before("noise for ever", lambda talk: talk.for_ever(b"welcome\n" * 8000)),
    before("painted noise for ever", lambda talk: talk.for_ever(PAINT.encode() + b"\n")),
    before("empty lines for ever", lambda talk: talk.for_ever(b"\n" * 60_000)),
    before("a line without end", lambda talk: talk.for_ever(b"a" * 65536), (4, 5)),
    before("NULs without end", lambda talk: talk.for_ever(bytes(65536)), (4, 5)),
    before("another protocol", lambda talk: talk.say("layerferry 2 sh"), says="protocol 2"),
    before("a painted protocol", lambda talk: talk.say(f"layerferry {PAINT} sh")),
    before("a protocol of digits", lambda talk: talk.say(f"layerferry {DIGITS} sh")),
    before("a long protocol", lambda talk: talk.say(f"layerferry {LONG} sh")),
    before("a verdict", lambda talk: talk.say(f"failed no-engine {PAINT}")),
    before("half a verdict", lambda talk: talk.say("failed ")),
    before("a word of a verdict", lambda talk: talk.say("failed")),
    *(Case(f"greeting for ever: {name}", greeting_for_ever(*lines), (4, 5)) for name, lines in {
        "unknown words": ["hello there"],
        "accept": ["accept " + "none " * 1000],
        "chain": [f"chain 1 {OTHER}"],
        "images": [f"image sha256:{number:064x}" for number in range(900)],
        "loose": [f"loose sha256:{number:064x} 1 {OTHER}" for number in range(900)],
        "blob": [f"blob sha256:{number:064x} {OTHER} 5 {LAYER}" for number in range(900)],
        "empty lines": ["", ""],
    }.items()),
    Case("greeting for ever: new layers", new_layers, (4, 5)),
    Case("greeting for ever: a line", lambda talk: talk.greet().for_ever(b"a" * 65536), (4, 5)),
    fact("engine missing", ""),
    fact("engine without a name", "engine "),
    fact("engine painted", f"engine docker {PAINT} {PAINT}", (0, 5)),
    fact("engine's name painted", f"engine {PAINT}", (0, 5)),
    fact("engine long", f"engine docker {LONG}", (0, 5)),
    fact("engine's driver a surrogate", "engine docker 28 \udcff\udcfe", (0, 5)),
    fact("store missing", ""),
    fact("store unknown", "store heap", (0, 5)),
    fact("store painted", f"store {PAINT}", (0, 5)),
    fact("platform missing", ""),
    fact("platform of one word", "platform linux"),
    fact("platform of four", "platform a/b/c/d"),
    fact("platform painted", f"platform {PAINT}/{PAINT}"),
    fact("platform long", f"platform linux/{LONG}"),
    fact("accept painted", f"accept {PAINT}", (0, 5)),
    fact("layers painted", f"layers {PAINT}", (0, 5)),
    has("what was not asked for", f"image {OTHER}", "present", codes=(0, 5)),
    has("a chain of digits", f"chain {DIGITS} {OTHER}", codes=(0, 5)),
    has("a chain of other digits", f"chain \u0663 {OTHER}", codes=(0, 5)),
    has("a chain longer than the image", f"chain 999 {OTHER}", codes=(0, 5)),
    has("a chain in a painted image", f"chain 1 {PAINT}", codes=(0, 5)),
    has("a negative chain", "chain -1 x", codes=(0, 5)),
    has("a loose layer, digits below", f"loose {OTHER} {DIGITS} {OTHER}", codes=(0, 5)),
    has("a loose layer in a painted image", f"loose {OTHER} 1 {PAINT}", codes=(0, 5), store="layer"),
    has("a blob of digits", f"blob {OTHER} {OTHER} {DIGITS} {LAYER}", codes=(0, 5), store="blob"),
    has("a painted blob", f"blob {OTHER} {PAINT} 5 {PAINT}", codes=(0, 5), store="blob"),
    has("the same under a painted ID", f"same {PAINT}", codes=(0, 5)),
    has("all but painted words", PAINT, f"hello {PAINT}", "\0\0", codes=(0, 5)),
    Case("inventory: of another image", lambda talk: talk.greet("end", image=OTHER).silent(), (5,), "what it has"),
    Case("inventory: none", lambda talk: talk.greet("end", image="").silent(), (5,), "what it has"),
    verdict("refused", "failed load out of luck", says="out of luck"),
    verdict("painted", f"failed load {PAINT}"),
    verdict("at the start of a line", "failed load \r::error::x\n::error::y"),
    verdict("long", f"failed load {LONG}"),
    verdict("of bytes", b"failed load " + bytes(range(11, 256))),
    verdict("for a pattern to chew on", f"failed load {BACKTRACKING}"),
    verdict("of a painted kind", f"failed {PAINT}", codes=(4, 5)),
    verdict("of a long kind", f"failed {LONG}", codes=(4, 5)),
    verdict("of no kind", "failed ", codes=(4, 5)),
    verdict("that it is not what was sent", f"failed verify {PAINT}", codes=(6,)),
    verdict("none", codes=(4, 5)),
    verdict("of a line without end", b"a" * (5 << 20), codes=(4, 5, 6)),
    Case("verdict: words for ever", lambda talk: talk.loading().for_ever(b"hello\n" * 9000), (4, 5, 6)),
    Case("verdict: loaded for ever", lambda talk: talk.loading().for_ever(b"loaded x y\n" * 6000), (4, 5, 6)),
    shows("another image", "loaded", "INCOMING", OTHER),
    shows("under another name", "loaded", "localhost/layerferry:0", "IMAGE"),
    shows("nothing", "hello"),
    shows("a word more", "loaded", "INCOMING", "IMAGE", "x"),
    shows("a painted image", "loaded", "INCOMING", PAINT),
    shows("a long image", "loaded", "INCOMING", LONG, codes=(5, 6)),
    commits("another word", "nope"),
    commits("painted", PAINT),
    commits("long", LONG),
    commits("a painted verdict", f"failed tag {PAINT}", codes=(5,)),
    slow("it says nothing", lambda talk: talk.stay()),
    slow("it greets for ever", lambda talk: talk.greet().for_ever(b"hello\n", every=0.1)),
    slow("it is noisy for ever", lambda talk: talk.preamble().for_ever(b"hello\n", every=0.1), codes=(4, 5)),
    slow("it never reads", never_reads, size=4_000_000),
    slow("it never answers after the archive", lambda talk: talk.loading().stay()),
    slow("it trickles", trickles, size=4_000_000),
    slow("it does not heed a signal", stubborn),
    slow("it closes its output", closes),
    slow("it says what nobody waits for, and reads on", stray(), codes=(4, 5, 6), size=4_000_000),
    slow("it is never done", commits("").play),
    Case("a stray line, and an end", stray("end"), (4, 5, 6), size=4_000_000),
    Case("a stray line for ever", stray(endless=b"hello\n" * 9000), (4, 5, 6), size=4_000_000),
    Case("a stray verdict", stray(f"failed load {PAINT}"), (5,), size=4_000_000),
    *(Case(f"pieces: {name}", pieces(*lines), (5,), size=_MUCH) for name, lines in {
        "of nobody": (f"kept {'a' * 16}.{'b' * 32}.{'c' * 32}", "room 0"),
        "with words": (
            f"kept ../../{PAINT}", "kept", "room", f"room {PAINT}", "room -1", f"room {DIGITS}", f"kept {LONG[:60000]}",
        ),
        "with much room": ("room 9999999999999999", "hello"),
    }.items()),
    Case("pieces: for ever", pieces(endless=f"kept {'a' * 16}.{'b' * 32}\n".encode() * 600), (4, 5), size=_MUCH),
    Case("it breaks off", breaks_off, (4, 5), size=4_000_000),
)  # fmt: skip

if __name__ == "__main__":
    {case.name: case for case in CASES}[sys.argv[1]].play(Talk())
