"""Archives that lie: docker's and OCI's, plain, gzip and zstd. Each is small on disk, whatever it unpacks to."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostile.layouts import CASES as LAYOUTS
from hostile.layouts import FILES, PICTURE, Draft
from hostile.words import DEEP, DIGITS, LONG, NO_LISTS, NO_OBJECTS, PAINT, SPEECH, dumps
from packed import packed, tar_of
from ustar import header, member, octal

CONFIG = f"{PICTURE.id[7:]}.json"
PATHS = [f"{number}/layer.tar" for number in range(len(PICTURE.tars))]
RECORD: dict[str, Any] = {"Config": CONFIG, "RepoTags": ["app:1"], "Layers": PATHS}
FILES_OF_DOCKER: dict[str, bytes] = {CONFIG: PICTURE.config, **dict(zip(PATHS, PICTURE.tars, strict=True))}


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    write: Callable[[Path], object]
    codes: tuple[int, ...] = (3,)
    says: str = ""
    dry: bool = True


HONEST = tar_of({**FILES_OF_DOCKER, "manifest.json": dumps([RECORD])})


def written(name: str, data: bytes, **more: Any) -> Case:
    return Case(name, lambda path: path.write_bytes(data), **more)


def recorded(name: str, manifest: Any, **files: bytes) -> Case:
    data = manifest if isinstance(manifest, bytes) else dumps(manifest)
    return written(f"manifest.json: {name}", tar_of({**FILES_OF_DOCKER, **files, "manifest.json": data}))


def sparse(name: str, head: bytes, size: int = 1 << 30) -> Case:
    """What is plain may have a hole."""

    def write(path: Path) -> None:
        path.write_bytes(head)
        os.truncate(path, len(head) + size)

    return Case(f"plain: {name}", write)


def packed_zeros(name: str, head: bytes, count: int = 1 << 30, chunk: bytes = bytes(1 << 20)) -> Iterable[Case]:
    """gzip, whose members come one after the other, and zstd, whose frames do; a chunk is packed once."""
    for how in ("gzip", "zstd"):
        data = packed(head, how) + packed(chunk, how) * (count // len(chunk))
        yield written(f"{how}: {name}", data)


_LONG_NAME = header(b"././@LongLink", octal(1 << 30), b"L")
_PAX = header(b"pax", octal(1 << 30), b"x")
_GLOBAL = header(b"pax", octal(1 << 30), b"g")
_CHAIN = member(b"././@LongLink", b"a\0", b"L") * 512
_PAX_CHAIN = member(b"pax", b"6 a=b\n", b"x") * 512
_EMPTY = header(b"a", octal(0), b"0") * 1024
_DOCUMENT = member(b"a", b"{" + b" " * (1 << 20) + b"}")


def paxed(name: str, records: bytes) -> Case:
    return written(f"pax: {name}", member(b"pax", records, b"x") + HONEST, codes=(0, 3))


def _record(key: str, value: bytes) -> bytes:
    body = f" {key}=".encode() + value + b"\n"
    size = len(body)
    while len(str(size)) + len(body) != size:
        size = len(str(size)) + len(body)
    return str(size).encode() + body


BOUNDS = (
    sparse("a name of 1 GiB", _LONG_NAME),
    sparse("a pax header of 1 GiB", _PAX),
    sparse("a global pax header of 1 GiB", _GLOBAL),
    sparse("a file of 1 EiB", header(b"manifest.json", b"\x80" + bytes(3) + b"\x10" + bytes(7), b"0"), 1 << 20),
    *packed_zeros("a name of 1 GiB", _LONG_NAME),
    *packed_zeros("a pax header of 1 GiB", _PAX),
    *packed_zeros("a global pax header of 1 GiB", _GLOBAL),
    *packed_zeros("a chain of names", b"", 1 << 27, _CHAIN),
    *packed_zeros("a chain of pax headers", b"", 1 << 27, _PAX_CHAIN),
    *packed_zeros("a million empty members", b"", 512 << 20, _EMPTY),
    *packed_zeros("documents for 1 GiB", b"", 1 << 30, _DOCUMENT),
    written("plain: a chain of names", _CHAIN * 16),
    written("plain: a chain of pax headers", _PAX_CHAIN * 16),
    written("a negative size", header(b"a", b"\xff" * 12, b"0") + bytes(1024)),
    written("a negative size after a file", member(b"b", b"x") + header(b"a", b"\xff" * 12, b"0") + bytes(1024)),
    written("a size that is huge", header(b"a", b"\x80" + b"\xff" * 11, b"0") + bytes(1024)),
    written("a size that is no number", header(b"a", b"12x\x1b45678901", b"0") + bytes(1024)),
    paxed("a size of digits", _record("size", b"9" * 5000)),
    paxed("a negative size", _record("size", b"-5")),
    paxed("a painted size", _record("size", PAINT.encode())),
    paxed("a painted name", _record("path", PAINT.encode())),
    paxed("a length of digits", b"9" * 400 + b" a=b\n"),
    paxed("a length of nothing", b"0 a=b\n"),
    paxed("a sparse map that is none", _record("GNU.sparse.map", b"1,2,x") + _record("GNU.sparse.size", b"5")),
    paxed("a sparse file of digits", _record("GNU.sparse.major", b"1") + _record("GNU.sparse.minor", b"0")
          + _record("GNU.sparse.realsize", b"9" * 5000)),
    paxed("another character set", _record("hdrcharset", b"BINARY") + _record("path", b"\xff\xfe")),
)  # fmt: skip

RECORDS = (
    *(recorded(name, data) for name, data in NO_OBJECTS.items() if name not in {"true", "utf-16", "painted"}),
    *(recorded(f"of {name}", [record]) for name, record in (*NO_LISTS.items(), ("null", None)) if name != "true"),
    *(recorded(f"RepoTags {name}", [{**RECORD, "RepoTags": tags}])
      for name, tags in NO_LISTS.items() if name != "of-strings"),
    *(recorded(f"Layers {name}", [{**RECORD, "Layers": value}]) for name, value in {**NO_LISTS, "deep": DEEP}.items()),
    recorded("Config list", [{**RECORD, "Config": []}]),
    recorded("Config null", [{**RECORD, "Config": None}]),
    *(recorded(f"Config {name}", [{**RECORD, "Config": config}])
      for name, config in {"number": DIGITS, "painted": PAINT, "long": LONG,
                           "path": "../../../../etc/passwd", "layer": PATHS[0]}.items()),
    recorded("Layers painted", [{**RECORD, "Layers": [PAINT, PATHS[1]]}]),
    recorded("no Config", [{}]),
    recorded("several of painted names", [RECORD, {"Config": "x.json", "RepoTags": [PAINT, f"app:1{SPEECH}"]}]),
    recorded("a hundred thousand", [RECORD] * 50_000 + [{**RECORD, "Config": "x"}]),
    *(recorded(f"a config {name}", [{**RECORD, "Config": "c"}], c=data)
      for name, data in {"deep": b"[" * 10_000, "list": b"[]", "painted": dumps({"os": PAINT, "architecture": "amd64"}),
                         "os painted": dumps({**json.loads(PICTURE.config), "os": PAINT})}.items()),
)  # fmt: skip


def _linked() -> bytes:
    """Links that lead out, and in a circle."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, where in {"manifest.json": "a", "a": "b", "b": "a", "c": "/etc/passwd"}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, where
            tar.addfile(info)
    return out.getvalue()


_OTHER = HONEST.replace(PICTURE.tars[0][600:1000], bytes(400))
_COMPRESSED = packed(HONEST, "gzip")
SHAPES = (
    written("links in a circle", _linked()),
    written("nothing", b""),
    written("no tar", PAINT.encode() * 100),
    written("a gzip header alone", b"\x1f\x8b"),
    written("gzip, cut short", _COMPRESSED[: len(_COMPRESSED) // 2]),
    written("gzip of other bytes", _COMPRESSED[:200] + bytes(200) + _COMPRESSED[400:]),
    written("zstd, cut short", packed(HONEST, "zstd")[:900]),
    written("a zstd window of 2 GiB", b"\x28\xb5\x2f\xfd\x00\xa8" + b"\x01\x00\x00"),
    written("cut short", HONEST[: len(HONEST) // 2]),
    written("a painted name in it", tar_of({"\x1b]0;x\x07\r": b"x"})),
    written("a layer that is another", _OTHER, dry=False),
    written("gzip, a layer that is another", packed(_OTHER, "gzip"), dry=False),
    *(Case(f"it is {name}", make) for name, make in FILES.items()),
)  # fmt: skip


def _of_oci(case_name: str) -> Iterable[Case]:
    """A case of a layout, in an archive, plain and compressed."""
    layout = next(case for case in LAYOUTS if case.name == case_name)

    def files() -> Mapping[str, bytes]:
        draft = Draft()
        layout.bend(draft)
        return draft.files()

    def plain(path: Path) -> None:
        path.write_bytes(tar_of(files()))

    def compressed(path: Path) -> None:
        path.write_bytes(packed(tar_of(files()), "zstd"))

    yield Case(f"oci: {case_name}", plain, layout.codes, dry=layout.dry)
    yield Case(f"oci, zstd: {case_name}", compressed, layout.codes, dry=layout.dry)


_BENT = (
    "index: list",
    "index: deep-object",
    "index: digits",
    "index.manifests: number",
    "entry.mediaType: painted",
    "manifest.layers: number",
    "manifest.layers.0.size: true",
    "config.os: painted",
    "config.rootfs.diff_ids: speech",
    "an index, 400 wide, 3 deep",
    "several: painted names",
)
OCI = tuple(case for name in _BENT for case in _of_oci(name))

CASES = (*BOUNDS, *RECORDS, *SHAPES, *OCI)
