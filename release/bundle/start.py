"""`__main__` of both archives: native modules are loaded out of the archive, and all else is imported from it.

Nothing is unpacked where there is /proc: the kernel holds such a file in memory (memfd_create(2)), and forgets it with
us. Any Python 3 can read this: an old one is told in a sentence what is needed.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - it may be started with any
    sys.exit("layerferry: this is Python " + sys.version.split()[0] + ", and 3.11 or later is needed")

import atexit
import contextlib
import os
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location, spec_from_loader
from types import ModuleType
from typing import Any, cast
from zipimport import zipimporter

#: In the archive each has a file for every Python and platform that it is made for.
NATIVE = frozenset({"pydantic_core._pydantic_core", "zstandard.backend_c"})
#: In the executable alone: a library that native modules need, and bare systems lack.
UNWINDER = "native/libgcc_s.so.1"
CERTIFICATES = "certifi/cacert.pem"
#: Where systems have their certificates; the executable's OpenSSL knows Debian's folder alone.
DEBIAN = "/usr/lib/ssl/certs"
BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")
#: Files that have to stay open: the loader takes two libraries of one path for one.
_HELD: list[int] = []


class FromArchive:
    """The finder of what cannot be imported from a zip archive as it is."""

    def __init__(self, archive: zipimporter) -> None:
        self._archive = archive

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec of a native module, or of certifi; None for any other."""
        del path, target
        if name in NATIVE:
            return self._native(name)
        return spec_from_loader(name, cast("Any", Certifi(self._archive))) if name == "certifi" else None

    def _native(self, name: str) -> ModuleSpec | None:
        entry = "native/" + name + EXTENSION_SUFFIXES[0]
        try:
            data = self._archive.get_data(entry)
        except OSError:
            version = sys.version.split()[0]
            sys.exit(f"layerferry: this file has no {entry}: Python {version} on this platform is not what it is for")
        if "_executable" in sys.builtin_module_names:
            import _executable  # noqa: PLC0415

            with as_file(self._archive.get_data(UNWINDER)) as library:
                _executable.hold(library)
        stack = contextlib.ExitStack()
        file = stack.enter_context(as_file(data))
        return spec_from_file_location(name, file, loader=Native(name, file, stack))


class Native(ExtensionFileLoader):
    """The loader of a native module, whose file need not last."""

    def __init__(self, name: str, path: str, file: contextlib.ExitStack) -> None:
        super().__init__(name, path)
        self._file = file

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Load it, and let the file go."""
        with self._file:
            return super().create_module(spec)


class Certifi:
    """The loader of certifi, which would unpack its certificates into a file that a killed process leaves behind."""

    def __init__(self, archive: zipimporter) -> None:
        self._archive = archive

    def create_module(self, spec: ModuleSpec) -> None:
        """None: the usual module."""
        del spec

    def exec_module(self, module: ModuleType) -> None:
        """Give it the functions of certifi."""
        contents = self._archive.get_data(CERTIFICATES)
        paths: list[str] = []

        def where() -> str:
            if not paths:
                stack = contextlib.ExitStack()
                atexit.register(stack.close)
                paths.append(stack.enter_context(as_file(contents)))
            return paths[0]

        vars(module).update(where=where, contents=contents.decode)


@contextlib.contextmanager
def as_file(data: bytes) -> Any:
    """A path at which `data` is, for as long as the block lasts; in memory if that can be, else a temporary file."""
    try:
        descriptor = os.memfd_create("layerferry")
    except OSError:
        descriptor = -1
    path = "/proc/self/fd/" + str(descriptor)
    if descriptor >= 0 and os.path.exists(path):  # noqa: PTH110
        _HELD.append(descriptor)
        write(descriptor, data)
        yield path
        return
    descriptor, path = tempfile.mkstemp(prefix="layerferry-")
    try:
        write(descriptor, data)
        os.close(descriptor)
        yield path
    finally:
        os.unlink(path)  # noqa: PTH108


def write(descriptor: int, data: bytes) -> None:
    """Write all of it; raises OSError."""
    while data:
        data = data[os.write(descriptor, data) :]


def trust_the_system() -> None:
    """Let OpenSSL find the system's certificates where they are not where Debian has them."""
    if not os.path.isdir(DEBIAN):  # noqa: PTH112
        for bundle in filter(os.path.exists, BUNDLES):
            os.environ.setdefault("SSL_CERT_FILE", bundle)


if "_executable" in sys.builtin_module_names:
    trust_the_system()
sys.meta_path.insert(0, cast("Any", FromArchive(cast("zipimporter", globals()["__loader__"]))))

if __name__ == "__main__":
    from layerferry.__main__ import main

    main()
