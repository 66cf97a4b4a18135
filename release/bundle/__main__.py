"""Write both archives: the executable, and layerferry.pyz.

    INTERPRETER -m bundle INTERPRETER-FOLDER WHEELS OUT

It is run by the interpreter of the executable itself: what it compiles is for that one, and its zlib is the same
wherever a release is built. WHEELS has `all` (what the executable holds, layerferry among it) and `native` (native
modules for the Pythons and platforms of layerferry.pyz).
"""

import importlib.util
import marshal
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from bundle import elf, zip_file

#: Parts of the standard library that nothing of ours imports.
_UNUSED = re.compile(
    r"__pycache__|_pyrepl|config-.*|curses|dbm|distutils|ensurepip|idlelib|lib-dynload|lib2to3|pydoc_data|sqlite3|"
    r"test|tkinter|turtledemo|unittest|venv|wsgiref|xmlrpc|(antigravity|pydoc|this|turtle)\.py"
)
#: What a package does not use when it runs; typing stubs and C sources are among it.
_LEFT_OUT = (".c", ".pxd", ".pyi", ".pyx", ".so", "/RECORD", "/direct_url.json")
_UNCHECKED_HASH = (0b01).to_bytes(4, "little")  # PEP 552
Entries = dict[str, bytes]


def main(interpreter: Path, wheels: Path, out: Path) -> None:
    """Write `layerferry` and `layerferry.pyz` into `out`."""
    packages = {name: data for wheel in sorted((wheels / "all").glob("*.whl")) for name, data in _pure(wheel)}
    start = files("bundle").joinpath("start.py").read_bytes()
    natives = dict(_natives(wheels / "native"))
    out.mkdir(parents=True, exist_ok=True)
    zip_file.write(
        out / "layerferry.pyz", {**packages, **natives, "__main__.py": start}, before=b"#!/usr/bin/env python3\n"
    )
    own = {name: data for name, data in natives.items() if name.endswith(".cpython-311-x86_64-linux-gnu.so")}
    own["native/libgcc_s.so.1"] = (interpreter / "libgcc_s.so.1").read_bytes()
    modules = {**dict(_standard_library(interpreter / "lib")), **packages, "__main__.py": start}
    zip_file.write(out / "layerferry", {**_compiled(modules), **own}, before=(interpreter / "python").read_bytes())


def _pure(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """What of a wheel runs on every Python and platform: native modules of other packages only make them quicker."""
    for name, data in zip_file.read(wheel):
        if not name.endswith(_LEFT_OUT) and ".data/" not in name and ".libs/" not in name:
            yield name, data


def _natives(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The native modules that `start.NATIVE` names, by name and suffix, without what debuggers read."""
    for wheel in sorted(folder.glob("*.whl")):
        for name, data in zip_file.read(wheel):
            if name.endswith(".so") and "/_cffi." not in name:
                yield "native/" + name.replace("/", ".", 1), elf.stripped(data)


def _standard_library(folder: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(folder.rglob("*.py")):
        name = file.relative_to(folder)
        if not _UNUSED.fullmatch(name.parts[0]) and "__pycache__" not in name.parts:
            yield str(name), file.read_bytes()


def _compiled(entries: Mapping[str, bytes]) -> Entries:
    """With modules compiled. Our own sources stay beside them: tracebacks show them, and the target gets one."""
    result: Entries = {}
    for name, data in entries.items():
        if not name.endswith(".py"):
            result[name] = data
            continue
        if name.startswith("layerferry/"):
            result[name] = data
        code = compile(data, name, "exec", dont_inherit=True, optimize=0)
        check = importlib.util.source_hash(data)
        result[f"{name}c"] = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + check + marshal.dumps(code)
    return result


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
