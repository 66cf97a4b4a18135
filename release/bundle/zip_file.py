"""A zip archive whose bytes depend on its entries alone."""

import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

#: The earliest time that the format knows.
_TIME = (1980, 1, 1, 0, 0, 0)
_FILE = 0o100644 << 16


def write(file: Path, entries: Mapping[str, bytes], *, before: bytes = b"") -> None:
    """Write an archive of `entries` behind the bytes `before`, and make it executable."""
    with file.open("wb") as out:
        out.write(before)
        _write_entries(out, entries)
    file.chmod(0o755)


def _write_entries(out: BinaryIO, entries: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(entries):
            info = zipfile.ZipInfo(name, _TIME)
            info.external_attr = _FILE
            info.create_system = 3  # Unix, wherever this runs
            archive.writestr(info, entries[name], zipfile.ZIP_DEFLATED)


def read(file: Path) -> Iterator[tuple[str, bytes]]:
    """The files of an archive, in the order of names."""
    with zipfile.ZipFile(file) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith("/"):
                yield name, archive.read(name)


def main(library: Path, release: Path, interpreter: Path, out: Path) -> None:
    """Make `interpreter` one that runs the package beside this file, out of nothing but sources."""
    entries = {str(file.relative_to(library)): file.read_bytes() for file in library.rglob("*.py")}
    entries |= {f"bundle/{file.name}": file.read_bytes() for file in (release / "bundle").glob("*.py")}
    entries["__main__.py"] = b"import runpy\nrunpy.run_module('bundle', run_name='__main__')\n"
    write(out, entries, before=interpreter.read_bytes())


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
