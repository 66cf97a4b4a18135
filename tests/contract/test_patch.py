"""Recipes of layers: whatever the tar and the old files are, what they stand for is the layer, byte for byte."""

import ast
import base64
import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerferry.errors import TargetError
from layerferry.patch import recipe
from layerferry.patch import target_program as program
from layerferry.patch.recipe import Recipe
from layerferry.patch.tar_segments import segments
from layerferry.patch.text import text
from layerferry.push.patching import ToldFiles
from ustar import header

NOISE = random.Random(13)


def noise(size: int) -> bytes:
    return NOISE.randbytes(size)


def tar(files: dict[str, bytes], kind: int = tarfile.GNU_FORMAT, *more: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in more:
            archive.addfile(info)
    return out.getvalue()


class Target:
    """Folders of old layers, and the program that reads them, in this process."""

    def __init__(self, folder: Path, *layers: dict[str, bytes]) -> None:
        self.folders = []
        self.asked: list[str] = []
        for number, layer in enumerate(layers):
            root = folder / str(number)
            for name, data in layer.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self.folders.append(str(root))
        self.files = program.files(self.folders)

    def known(self) -> ToldFiles:
        """As the program tells of them, in two parts."""
        told = b"".join(program.sign(self.files))
        return ToldFiles((told[:100], told[100:]))

    def ask(self, what: str, paths: bytes) -> list[bytes]:
        """What the program prints."""
        self.asked.append(what)
        return [self.run(what, paths)]

    def run(self, mode: str, data: bytes) -> bytes:
        words = [sys.executable, "-I", "-c", text(), mode, *self.folders]
        out = subprocess.run(words, input=data, stdout=subprocess.PIPE, check=True).stdout
        if mode == "expand":
            return out
        return b"".join(base64.b85decode(line.removeprefix(b"data ")) for line in out.splitlines())


def recipe_of(target: Target, layer: bytes, folder: Path, chunk: int = 1 << 16) -> tuple[Recipe, bytes]:
    recipe = Recipe(target.known(), folder / "kept")
    recipe.read((layer[start : start + chunk] for start in range(0, len(layer), chunk)), len(layer))
    recipe.resolve(target.ask)
    return recipe, b"".join(recipe.encoded()) + bytes((program.END,))


def assert_same(target: Target, layer: bytes, folder: Path) -> Recipe:
    recipe, encoded = recipe_of(target, layer, folder)
    assert (recipe.size, recipe.digest) == (len(layer), "sha256:" + hashlib.sha256(layer).hexdigest())
    assert target.run("expand", encoded) == layer
    return recipe


# What the target has is not sent.


def test_a_file_that_is_there_under_any_path_costs_a_reference(tmp_path: Path) -> None:
    files = {f"lib/{number}": noise(5000) for number in range(50)}
    target = Target(tmp_path, files)
    moved = {f"other/{number}": data for number, data in enumerate(files.values())}
    recipe = assert_same(target, tar(moved), tmp_path)
    assert recipe.literal <= 50 * 512 + 50 * 512 + 10240
    assert target.asked == []


def test_a_file_with_another_head_costs_a_block(tmp_path: Path) -> None:
    """As each .pyc has: it holds the time of its source."""
    files = {f"lib/{number}.pyc": noise(30_000) for number in range(20)}
    target = Target(tmp_path, files)
    new = {name: b"\xa7\r\r\n\0\0\0\0" + noise(4) + data[12:] for name, data in files.items()}
    recipe = assert_same(target, tar(new), tmp_path)
    assert recipe.literal < 20 * (512 + 512 + 64) + 10240
    assert target.asked == ["blocks"]


@pytest.mark.parametrize("size", [1, 700, 20_000])
def test_what_has_moved_in_a_file_is_found(tmp_path: Path, size: int) -> None:
    old = noise(400_000)
    target = Target(tmp_path, {"app.js": old})
    recipe = assert_same(target, tar({"app.js": old[:100] + noise(size) + old[100:]}), tmp_path)
    assert recipe.literal < size + 16_000
    assert target.asked == ["blocks", "pieces"]


def test_what_an_upper_layer_has_goes_before_what_a_lower_one_has(tmp_path: Path) -> None:
    upper, lower = noise(50_000), noise(50_000)
    target = Target(tmp_path, {"f": upper}, {"f": lower})
    recipe = assert_same(target, tar({"f": noise(64) + upper[64:]}), tmp_path)
    assert recipe.literal < 12_000


# Whatever the tar is.


def odd_tars() -> dict[str, bytes]:
    big = noise(70_000)
    long = "d/" * 80 + "name" * 40
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.LNKTYPE, "f"
    xattr = tarfile.TarInfo("x")
    xattr.pax_headers = {"SCHILY.xattr.user.a": "b" * 5000}
    plain = tar({"f": big, "g": b"small"})
    sparse = bytearray(tar({"f": big}))
    sparse[156:157] = b"S"
    return {
        "gnu": tar({long: big, "f": big}),
        "pax": tar({long: big, "f\nñ": big}, tarfile.PAX_FORMAT, link, xattr),
        "ustar": tar({"a/" * 60 + "f": big}, tarfile.USTAR_FORMAT, link),
        "non-UTF-8": tar({os.fsdecode(b"\xff\xfe"): big}),
        "links only": tar({}, tarfile.GNU_FORMAT, *[link] * 50),
        "many": tar({str(number): bytes([number % 251]) * 80 for number in range(3000)}),
        "empty": b"",
        "no tar": noise(5000),
        "cut in a header": plain[: len(big) + 512 + 500],
        "cut in a file": plain[:40_000],
        "more behind its end": plain + noise(3000),
        "no end": plain[:-10240],
        "a size that lies": plain[:124] + b"77777777777\0" + plain[136:],
        "a size below 0": header(b"f", b"-0000000001\0") + plain[512:],
        "a long name below 0": header(b"f", b"-0000000001\0", b"L") + plain,
        "a size below 0 in base 256": header(b"f", b"\xff" * 12) + plain[512:],
        "sparse": bytes(sparse),
        "zeros": bytes(100_000),
    }


@pytest.mark.parametrize("name", odd_tars())
def test_every_tar_comes_back_byte_for_byte(tmp_path: Path, name: str) -> None:
    layer = odd_tars()[name]
    assert_same(Target(tmp_path, {"f": noise(70_000)}), layer, tmp_path)
    rest = io.BytesIO(layer)
    found = b""
    for segment, begun in segments(rest):
        assert segment.size is None or segment.size >= len(begun)
        found += begun + rest.read(-1 if segment.size is None else segment.size - len(begun))
    assert found == layer


@pytest.mark.slow
def test_a_hundred_thousand_tiny_files_cost_their_headers(tmp_path: Path) -> None:
    files = {f"{number % 100}/{number}": b"%08d" % number * 20 for number in range(100_000)}
    target = Target(tmp_path, files)
    found = assert_same(target, tar(files), tmp_path)
    assert found.literal < 100_000 * 1024 + 10240
    assert target.asked == []


@pytest.mark.slow
def test_of_a_file_of_2_gb_what_has_changed_costs_its_blocks(tmp_path: Path) -> None:
    """It is held on neither side: three blocks of it are other ones."""
    size, step = 2 << 30, 1 << 20
    block = noise(step)
    (tmp_path / "0").mkdir()
    old, changed = tmp_path / "0/f", {0, 700, (size // step) - 1}
    with old.open("wb") as file:
        for number in range(size // step):
            file.write(b"%08d" % number + block[8:])
    info = tarfile.TarInfo("f")
    info.size = size

    def layer() -> Iterator[bytes]:
        yield info.tobuf(tarfile.GNU_FORMAT)
        for number in range(size // step):
            yield b"%08d" % number + (b"new" if number in changed else b"") + block[11 if number in changed else 8 :]
        yield bytes(1024)

    target = Target(tmp_path)
    target.folders = [str(tmp_path / "0")]
    made = Recipe(ToldFiles(()), tmp_path / "kept")
    made.read(layer(), size)
    made.resolve(target.ask)
    assert made.literal < 40_000
    encoded = b"".join(made.encoded()) + bytes((program.END,))
    words = [sys.executable, "-I", "-c", text(), "expand", *target.folders]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(encoded)
        process.stdin.close()
        whole = hashlib.sha256()
        while data := process.stdout.read(step):
            whole.update(data)
    assert made.digest == "sha256:" + whole.hexdigest()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3000), st.integers(0, 9)), max_size=6),
    st.binary(max_size=700),
)
def test_any_changes_come_back(changes: list[tuple[str, int, int]], tail: bytes) -> None:
    """Without a process: the expansion is played here."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old = {letter: random.Random(letter).randbytes(2500) for letter in "abc"}
        target = Target(folder, old)
        files = {}
        for letter, at, size in changes:
            data = old[letter]
            files[letter] = data[:at] + bytes(size) + data[at:]
        layer = tar(files) + tail
        out = bytearray()
        recipe = Recipe(target.known(), folder / "kept")
        recipe.read([layer], len(layer))
        recipe.resolve(lambda what, paths: program.parts(target.files, zlib.decompress(paths).split(b"\0"), what))
        encoded = b"".join(recipe.encoded()) + bytes((program.END,))
        for data in program.Expansion(target.files, io.BytesIO(encoded)).expand():
            out += data
        assert bytes(out) == layer


# What is not as it was said to be.


def test_old_files_that_have_changed_make_no_layer(tmp_path: Path) -> None:
    target = Target(tmp_path, {"f": noise(5000)})
    _, encoded = recipe_of(target, tar({"g": (tmp_path / "0/f").read_bytes()}), tmp_path)
    (tmp_path / "0/f").write_bytes(noise(5000))
    with pytest.raises(ValueError, match="the old files have changed"):
        list(program.Expansion(target.files, io.BytesIO(encoded)).expand())


@pytest.mark.parametrize(
    "recipe",
    [
        bytes((program.BEGIN, program.WHOLE, 8)),
        bytes((program.BEGIN, program.PART, 0, 200, 200, 200, 0)),
        bytes((program.LITERAL, 100)) + b"short",
        bytes((program.LITERAL,)) + b"\xff" * 20,
        bytes((99,)),
    ],
)
def test_a_recipe_that_is_none_is_refused(tmp_path: Path, recipe: bytes) -> None:
    target = Target(tmp_path, {"f": noise(100)})
    with pytest.raises(ValueError, match=r"recipe|number|shorter"):
        list(program.Expansion(target.files, io.BytesIO(recipe)).expand())


def unresolved(layer: bytes, folder: Path) -> Recipe:
    """One that has read its layer, while the target has told of no file."""
    recipe = Recipe(ToldFiles(()), folder / "kept")
    recipe.read([layer], len(layer))
    return recipe


@pytest.mark.parametrize(
    "answer", [b"", b"\x01", b"\xff" * 12, b"\x01\x90\x4e" + bytes(10), b"\x01\x80\x80\x80\x80\x80\x10"]
)
@pytest.mark.parametrize("what", ["blocks", "pieces"])
def test_an_answer_that_is_none_is_an_error_of_the_target(tmp_path: Path, what: str, answer: bytes) -> None:
    target = Target(tmp_path, {"f": noise(150_000)})

    def ask(asked: str, paths: bytes) -> list[bytes]:
        return [answer] if asked == what else target.ask(asked, paths)

    recipe = unresolved(tar({"f": noise(150_000)}), tmp_path)
    with pytest.raises(TargetError):
        recipe.resolve(ask)


def test_the_pieces_of_an_old_file_take_little_memory_however_many_it_has(tmp_path: Path) -> None:
    """And one that is longer than any is an error of the target."""
    target = Target(tmp_path, {"f": noise(150_000)})
    layer = tar({"f": noise(150_000)})
    count = 300_000
    many = b"\x01" + program.varint(count) * 2 + b"\x01" * count + noise(count * program.SHORT)
    long = b"\x01" + program.varint(1 << 16) + b"\x01" + program.varint(1 << 16) + bytes(program.SHORT)

    def resolve(told: bytes) -> None:
        unresolved(layer, tmp_path).resolve(
            lambda asked, paths: [told] if asked == "pieces" else target.ask(asked, paths)
        )

    tracemalloc.start()
    resolve(many)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    with pytest.raises(TargetError, match="is none"):
        resolve(long)


# The program.


def test_files_of_an_export_that_are_not_worth_a_digest_take_no_memory(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "tar", "w") as archive:
        for number in range(10_000):
            archive.addfile(tarfile.TarInfo(f"empty/{number}"))
        info = tarfile.TarInfo("one")
        info.size = program.SMALLEST
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    tracemalloc.start()
    with (tmp_path / "tar").open("rb") as file:
        ((name, view),) = program.exported(file.fileno())
    assert (name, bytes(view)) == (b"one", bytes(program.SMALLEST))
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def test_the_program_is_of_python_3_6_and_small() -> None:
    tree = ast.parse(text(), feature_version=(3, 6))
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imports <= {"base64", "hashlib", "mmap", "os", "re", "stat", "sys", "tarfile", "zlib"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign | ast.JoinedStr)]
    assert len(zlib.compress(text().encode(), 9)) < 2700
    assert text().isascii()


def test_both_sides_cut_alike() -> None:
    data = noise(300_000)
    ends = [end for _, end in program.pieces(data)]
    assert ends[-1] == len(data)
    assert 300 < len(data) / len(ends) < 1200
    large = noise(5 << 20)
    with tempfile.TemporaryFile() as file:
        file.write(b"before" + large)
        file.flush()
        parts = list(program.pieces(program.Large(file, len(large), 6)))
    assert parts == list(program.pieces(large)) == list(program.pieces(memoryview(large)))
    again = [end for _, end in program.pieces(noise(50) + large)]
    assert {end + 50 for _, end in parts[3:]} <= set(again), "an insertion moves none but the first"
    assert [end for _, end in program.blocks(1000)] == [64, 128, 256, 512, 1000]
    for size in (0, 1, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097, 8191, 8192, 8193, 12288, 12289, 300_000):
        assert recipe._count(size) == len(list(program.blocks(size))), size
