"""Hostile clients that patch layers at the receiver: what is not theirs to read stays unread, and all is bounded."""

import base64
import hashlib
import itertools
import os
import shutil
import tarfile
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from layerferry.oci.image import Name
from layerferry.oci.store_kind import StoreKind
from layerferry.patch import target_program as program
from layerferry.receive import old_files
from layerferry.receive.archive_spool import ArchiveSpool
from layerferry.receive.byte_limits import Meter
from layerferry.receive.decompression import Expander
from layerferry.receive.old_files import OldFiles
from layerferry.receive.policy import Policy, Rules
from layerferry.receive.refusal import Refusal
from layerferry.receive.visible_images import Ask, find_visible_images

APP, VAULT, NEW = (f"sha256:{letter * 64}" for letter in "abc")
LAYERS = {APP: (f"sha256:{1:064}",), VAULT: (f"sha256:{2:064}",)}
SECRET = b"the vault's own key " * 50

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no patches are taken without Linux's /proc")


class Client:
    """What a client sends in frames, and hears."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.sends: Iterator[bytes] = iter(())

    def say(self, *lines: str) -> None:
        self.said += lines

    def frames(self) -> Iterator[bytes]:
        return self.sends

    @property
    def told(self) -> bytes:
        return b"".join(base64.b85decode(line.removeprefix("data ")) for line in self.said if line.startswith("data "))


class Engine:
    """An engine with two images, of which the policy shows one."""

    store = StoreKind.CHAIN
    driver = "overlay2"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: Whether its folders cannot be read.
        self.exports = False

    def names(self) -> list[tuple[str, Name]]:
        return [(VAULT, Name.parse("vault:1")), (APP, Name.parse("app:1"))]

    def layers(self, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        return {image: LAYERS[image] for image in ids}

    def folders(self, image: str) -> list[str]:
        return [] if self.exports else [str(self.folder / {APP: "app", VAULT: "vault"}[image])]

    def export(self, image: str, file: IO[bytes], room: int) -> bool:
        assert image == APP
        self.exported = file
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(self.folder / "app", "")
        file.flush()
        return file.tell() <= room


class Session:
    """A session that has come as far as a client wants to go."""

    def __init__(self, folder: Path, layers: Sequence[str] = (f"sha256:{3:064}",)) -> None:
        (folder / "app/lib").mkdir(parents=True)
        (folder / "vault").mkdir()
        self.old = folder / "app/lib/f"
        self.old.write_bytes(bytes(range(250)) * 400)
        (folder / "vault/key").write_bytes(SECRET)
        (folder / "outside").write_bytes(SECRET)
        self.folder = folder
        self.client = Client()
        self.engine = Engine(folder)
        engine: Any = self.engine
        asks = [Ask(NEW, tuple(layers))]
        policy = Policy((Rules.read({"allow": ["app:*"]}),))
        visible = find_visible_images(engine, policy, asks)
        client: Any = self.client
        self.files = OldFiles(client, engine, visible, asks, policy)

    def say(self, *words: str, frames: Iterator[bytes] | Sequence[bytes] = ()) -> bytes:
        self.client.said, self.client.sends = [], iter(frames)
        self.files.obey(words)
        assert self.client.said[-1] == "end"
        return self.client.told

    def open(self, *images: str) -> bytes:
        self.say("program", "QUJD")
        return self.say("files", NEW, *(images or (APP,)))

    def expand(self, recipe: Iterator[bytes] | Sequence[bytes]) -> int:
        return sum(map(len, self.files.expand(recipe)))


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


def digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=program.DIGEST).digest()


def part(step: int, start: int, size: int) -> bytes:
    return bytes((program.PART, step)) + program.varint(start) + program.varint(size)


END = bytes((program.END,))


def test_an_honest_client_is_told_what_there_is_and_gets_it(session: Session) -> None:
    content = session.old.read_bytes()
    assert session.open() == digest(content)
    check = bytes((program.CHECK,)) + hashlib.sha256(content[5:90] + content).digest()
    recipe = bytes((program.BEGIN,)) + part(2, 5, 85) + bytes((program.WHOLE, 0)) + check + END
    assert b"".join(session.files.expand([recipe])) == content[5:90] + content


@pytest.mark.parametrize(("free", "told"), [(400_000, True), (200_000, False)])
def test_an_export_takes_half_of_what_is_free_or_no_room_at_all(
    session: Session, monkeypatch: pytest.MonkeyPatch, free: int, told: bool
) -> None:
    """What could not be written would fill the disk for the whole layers that come then."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 0, free))
    session.engine.exports = True
    assert session.open() == (digest(session.old.read_bytes()) if told else b"")
    assert session.engine.exported.closed


def test_where_there_is_no_place_for_an_export_whole_layers_may_come(session: Session) -> None:
    session.engine.exports = True
    session.say("program", "QUJD")
    session.files._policy = Policy((Rules.read({"allow": ["app:*"], "spool": str(session.folder / "none")}),))
    assert session.say("files", NEW, APP) == b""


# What the policy does not show.


@pytest.mark.parametrize("word", [VAULT, "docker.io/library/vault:1", "docker.io/library/vault:2", "../vault", ""])
def test_images_that_the_policy_does_not_show_are_as_if_they_were_not(session: Session, word: str) -> None:
    assert session.open(word) == b""
    with pytest.raises(Refusal, match=r"^the recipe names a file that is not here$"):
        session.expand([bytes((program.WHOLE, 2)) + END])


def test_they_are_not_beside_one_that_it_shows(session: Session) -> None:
    assert session.open(VAULT, APP, VAULT) == digest(session.old.read_bytes())


@pytest.mark.parametrize("path", [b"../vault/key", b"lib/../../vault/key", b"/etc/passwd", b"", b"lib"])
def test_paths_lead_nowhere(session: Session, path: bytes) -> None:
    session.open()
    assert session.say("match", "blocks", frames=[zlib.compress(path)]) == b"\0"


def test_links_in_a_layer_are_no_files(session: Session) -> None:
    (session.folder / "app/out").symlink_to(session.folder / "outside")
    (session.folder / "app/etc").symlink_to(session.folder / "vault")
    (session.folder / "app/loop").symlink_to("loop")
    (session.folder / "app/lib/up").symlink_to("..")
    os.mkfifo(session.folder / "app/pipe")
    assert session.open() == digest(session.old.read_bytes())


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_file_that_has_become_a_link_is_not_read(session: Session, what: str) -> None:
    session.open()
    place = session.old if what == "file" else session.old.parent
    place.rename(session.folder / "moved")
    if what == "file":
        place.symlink_to(session.folder / "outside")
    else:
        (session.folder / "vault/f").write_bytes(SECRET)
        place.symlink_to(session.folder / "vault")
    assert session.say("match", "blocks", frames=[zlib.compress(b"lib/f")]) == b"\0"
    with pytest.raises(OSError, match=r"symbolic links|another one"):
        session.expand([bytes((program.WHOLE, 2)) + END])


# Recipes that are none.


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (part(2, 0, 100_001), "a file is shorter than the recipe says"),
        (part(2, 99_999, 2), "a file is shorter than the recipe says"),
        (part(2, 1 << 62, 1), "a file is shorter than the recipe says"),
        (part(2, 0, 1 << 62), "a file is shorter than the recipe says"),
        (part(4, 0, 1), "the recipe names a file that is not here"),
        (part(1, 0, 1), "the recipe names a file that is not here"),
        (bytes((program.WHOLE,)) + b"\xff" * 9 + b"\x01", "a number is too long"),
        (bytes((program.LITERAL,)) + program.varint(1 << 62) + b"short", "the recipe is cut short"),
        (bytes((program.CHECK,)) + bytes(32), "the recipe is none"),
        (bytes((program.BEGIN, program.CHECK)) + bytes(32), "the old files have changed: .*"),
        (bytes((6,)), "the recipe is none"),
        (b"", "the recipe is cut short"),
        (bytes((program.BEGIN,)) * 100_000, "the recipe has too many steps"),
    ],
)
def test_a_recipe_that_is_none_is_refused(session: Session, recipe: bytes, reason: str) -> None:
    session.open()
    with pytest.raises(Refusal, match=f"^{reason}$"):
        session.expand([recipe])


@pytest.mark.parametrize("size", [0, 1])
def test_a_thousand_million_tiny_references_end_early(session: Session, size: int) -> None:
    """They are a few kilobytes of zstd."""
    session.open()
    read = itertools.count()
    first, more = part(2, 0, size), part(0, 0, size) * 1000
    pieces = (piece for piece, _ in zip(itertools.chain([first], itertools.repeat(more)), read, strict=False))
    with pytest.raises(Refusal, match=r"^the recipe has too many steps$"):
        session.expand(pieces)
    assert next(read) < 20


def test_a_bomb_counts_as_the_archive_that_it_makes(session: Session) -> None:
    """As many times the same file as there is room for, and no more; memory stays flat."""
    session.open()
    first, more = bytes((program.WHOLE, 2)), bytes((program.WHOLE, 0)) * 1000
    recipe = itertools.chain([first], itertools.repeat(more))
    header = bytes((program.LITERAL,)) + program.varint(512)
    name = f"blobs/sha256/{'0' * 64}"
    from layerferry.receive.strict_tar import write_header  # noqa: PLC0415

    spool = (session.folder / "spool").open("w+b")
    spooled = ArchiveSpool(spool, Expander("", {}), Meter(8 << 20, None))
    frames = itertools.chain([header + write_header(name, 1 << 40)], recipe)
    tracemalloc.start()
    with pytest.raises(Refusal, match=r"^a push may have 8388608 bytes here, and this one has more$"):
        spooled.take(frames, "none", session.files.expand)
    spool.close()
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


# Questions that cost.


def test_a_bomb_of_paths_is_refused(session: Session) -> None:
    session.open()
    bomb = zlib.compress(bytes(100 << 20))
    with pytest.raises(Refusal, match=r"^the paths have more than 33554432 bytes$"):
        session.say("match", "blocks", frames=[bomb])


def test_a_bomb_of_paths_in_many_frames_takes_no_memory(session: Session) -> None:
    """A few frames of 32 kB unpack to 32 MiB each."""
    session.open()
    bomb = zlib.compressobj()
    frames = (bomb.compress(bytes(32 << 20)) + bomb.flush(zlib.Z_FULL_FLUSH) for _ in itertools.count())
    sent = [next(frames) for _ in range(8)]
    tracemalloc.start()
    with pytest.raises(Refusal, match=r"^the paths have more than 33554432 bytes$"):
        session.say("match", "blocks", frames=sent)
    assert tracemalloc.get_traced_memory()[1] < 128 << 20
    tracemalloc.stop()


def test_many_short_paths_take_little_memory(session: Session) -> None:
    session.open()
    sent = [zlib.compress(b"ab\0" * 1_000_000)]
    tracemalloc.start()
    assert session.say("match", "blocks", frames=sent) == bytes(1_000_001)
    assert tracemalloc.get_traced_memory()[1] < 24 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("frames", [[b"no zlib"], [zlib.compress(b"lib/f"), b"and more"]])
def test_paths_that_are_no_paths_are_refused(session: Session, frames: list[bytes]) -> None:
    session.open()
    with pytest.raises(Refusal, match=r"^the paths are broken$"):
        session.say("match", "pieces", frames=frames)


def test_the_same_file_again_and_again_is_refused(session: Session) -> None:
    session.open()
    paths = zlib.compress(b"\0".join([b"lib/f"] * 1_000_000))
    with pytest.raises(Refusal, match=r"^more is to be compared than there is$"):
        session.say("match", "blocks", frames=[paths])


def test_more_bytes_than_a_line_is_tried_with_are_refused(session: Session) -> None:
    session.say("program", "QUJD")
    session.say("probe", frames=[bytes(1 << 20)])
    with pytest.raises(Refusal, match=r"^a client may try the line with 4194304 bytes$"):
        session.say("probe", frames=itertools.repeat(bytes(1 << 20)))


@pytest.mark.parametrize(
    "words",
    [
        ["files", NEW, APP],
        ["match", "blocks"],
        ["probe"],
        ["program", "QUJD", "QUJD"],
    ],
)
def test_verbs_have_their_time(session: Session, words: list[str]) -> None:
    with pytest.raises(Refusal, match=r"has no place here|is broken"):
        session.say(*words)


@pytest.mark.parametrize("words", [["program", "QUJD"], ["files", NEW, APP]])
def test_what_costs_is_done_once(session: Session, words: list[str]) -> None:
    session.open()
    with pytest.raises(Refusal, match="has no place here"):
        session.say(*words, frames=[zlib.compress(b"x")])


def test_files_are_compared_twice_for_each_layer(session: Session) -> None:
    """By blocks and by pieces; a client may leave one of them out, and ask for the other twice."""
    session.open()
    for by in ("blocks", "blocks"):
        session.say("match", by, frames=[zlib.compress(b"x")])
    with pytest.raises(Refusal, match="has no place here"):
        session.say("match", "pieces", frames=[zlib.compress(b"x")])


def test_who_asks_of_no_layer_compares_nothing_again_and_again(tmp_path: Path) -> None:
    session = Session(tmp_path, layers=())
    session.open()
    session.say("match", "blocks", frames=[zlib.compress(b"x")])
    with pytest.raises(Refusal, match="has no place here"):
        session.say("match", "blocks", frames=[zlib.compress(b"x")])


def test_all_paths_together_have_a_bound(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(old_files, "_PATHS", 10)
    session.open()
    session.say("match", "blocks", frames=[zlib.compress(b"app/li")])
    with pytest.raises(Refusal, match="the paths have more than 10 bytes"):
        session.say("match", "pieces", frames=[zlib.compress(b"app/li")])


@pytest.mark.parametrize("words", [["match", "all"], ["match"], ["files"], ["files", NEW, *[APP] * 65]])
def test_a_broken_verb_is_refused(session: Session, words: list[str]) -> None:
    session.say("program", "QUJD")
    with pytest.raises(Refusal, match="is broken"):
        session.say(*words)
