"""Patches of layers at the receiver: what the files of older images are, and what a recipe makes of them.

The client's program is not run; its part is played here, by the functions of `layerferry.patch.target_program`. Files
are read of images alone that the client may know of, in the folders of their layers or out of an export, and never
under a path that a client says: it names them by numbers. A recipe has no way to what it makes, so it cannot go in
circles; what it makes is counted as an archive is, and its steps are bounded by that.
"""

import base64
import errno
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from layerferry.patch import target_program as program
from layerferry.protocol import Reply, Verb
from layerferry.receive.engine import Engine
from layerferry.receive.frames import Client
from layerferry.receive.policy import Policy
from layerferry.receive.refusal import Refusal
from layerferry.receive.visible_images import Ask, VisibleImages

#: Bytes that a client may send to see how quick the line is.
_PROBES = 4 << 20
#: Images whose files may serve, and bytes of all paths that it may ask for, unpacked.
_MOST_IMAGES = 64
_PATHS = 32 << 20
#: Bytes that may be compared beyond twice those of all old files: `blocks` of each, and `pieces` of each.
_COMPARED = 64 << 20


class OldFiles:
    """The files of older images, for one client. What is exported has a file without a name, in the policy's folder."""

    def __init__(
        self, client: Client, engine: Engine, visible: VisibleImages, asks: Sequence[Ask], policy: Policy
    ) -> None:
        self._client = client
        self._engine = engine
        self._visible = visible
        self._asks = {ask.id: ask.diff_ids for ask in asks}
        self._policy = policy
        self._exports = False
        self._here: list[tuple[bytes, Any]] = []
        self._probes = 0
        #: How often a client may ask for parts of files: for blocks and for pieces, of each layer.
        self._matches = 2 * sum(len(ask.diff_ids) for ask in asks)
        self._asked = 0
        self._compared = 0
        self._done: set[str] = set()
        #: Whether the client may send a recipe.
        self.ready = False

    def obey(self, words: Sequence[str]) -> None:
        """Carry out a verb of patches, each at its time; `match` for each layer, `probe` as long as bytes are left."""
        if words[0] in self._done or not (self.ready or words[0] == Verb.PROGRAM):
            raise Refusal(f"{words[0]!r} has no place here")
        if words[0] == Verb.MATCH:
            self._matches -= 1
        if words[0] not in {Verb.PROBE, Verb.MATCH} or self._matches < 1:
            self._done.add(words[0])
        match words:
            case [Verb.PROGRAM, _]:
                self._prepare()
            case [Verb.PROBE]:
                self._probe()
            case [Verb.FILES, new, *images] if len(images) <= _MOST_IMAGES:
                self._find(new, images)
                self._tell(program.sign(self._here))
            case [Verb.MATCH, "blocks" | "pieces" as by]:
                self._match(by)
            case _:
                raise Refusal(f"{words[0]!r} is broken")
        self._client.say(Reply.END)

    def _prepare(self) -> None:
        """Tell whether there is any image to read, and how: in its folders, or exported."""
        first = next(iter(self._visible.images), "")
        self.ready = bool(first)
        self._exports = not self._readable(first)
        if first:
            self._tell([bytes((0, 0, 0, self._exports))])

    def _readable(self, image: str) -> list[str]:
        """The folders of an image's layers, the uppermost first; none where one of them cannot be read."""
        folders = self._engine.folders(image) if image else []
        return folders if all(os.access(folder, os.R_OK | os.X_OK) for folder in folders) else []

    def _probe(self) -> None:
        for piece in self._client.frames():
            self._probes += len(piece)
            if self._probes > _PROBES:
                raise Refusal(f"a client may try the line with {_PROBES} bytes")

    def _find(self, new: str, names: Sequence[str]) -> None:
        """Find the files of images, but for the layers that they share with the new one from the bottom up."""
        images = list(dict.fromkeys(filter(None, map(self._visible.find, names))))
        if self._exports:
            self._here = self._exported(images[0]) if images else []
            return
        folders: list[str] = []
        for image in images:
            layers, wanted = self._visible.images[image], self._asks.get(new, ())
            shared = next((n for n, (one, other) in enumerate(zip(layers, wanted, strict=False)) if one != other), None)
            own = len(layers) - (min(len(layers), len(wanted)) if shared is None else shared)
            folders += self._readable(image)[:own]
        self._here = [(path, OldFile(place)) for path, place in program.files(folders)]

    def _exported(self, image: str) -> list[tuple[bytes, Any]]:
        """The files of an image as a tar, in a file that may take half of what is free; none where that will not do.

        The views of it keep it open, all the session; what could not be written goes at once.
        """
        try:
            with tempfile.TemporaryFile(dir=self._policy.spool, prefix="layerferry-") as spool:
                room = min(self._policy.max_bytes, shutil.disk_usage(self._policy.spool).free // 2)
                return program.exported(spool.fileno()) if self._engine.export(image, spool, room) else []
        except OSError:
            return []

    def _match(self, by: str) -> None:
        """Tell of the parts of files under paths that the client has, each once."""
        self._tell(program.parts(self._here, self._bounded(_split(self._paths())), by))

    def _paths(self) -> bytearray:
        """The paths that come, unpacked: refused before there are too many in memory."""
        unpacked, paths = zlib.decompressobj(), bytearray()
        for frame in self._client.frames():
            try:
                piece = unpacked.decompress(frame, _PATHS - self._asked + 1)
            except zlib.error:
                raise Refusal("the paths are broken") from None
            self._asked += len(piece)
            if self._asked > _PATHS:
                raise Refusal(f"the paths have more than {_PATHS} bytes")
            if unpacked.unused_data:  # zlib would keep all that comes
                raise Refusal("the paths are broken")
            paths += piece
        return paths

    def _bounded(self, paths: Iterable[bytes]) -> Iterator[bytes]:
        sizes = {path: _size(place) for path, place in reversed(self._here)}
        most = 2 * sum(sizes.values()) + _COMPARED
        for path in paths:
            self._compared += sizes.get(path, 0)
            if self._compared > most:
                raise Refusal("more is to be compared than there is")
            yield path

    def _tell(self, parts: Iterable[bytes]) -> None:
        for data in program.lines(parts):
            self._client.say(f"{Reply.DATA} {base64.b85encode(data).decode()}")

    def expand(self, recipe: Iterable[bytes]) -> Iterator[bytes]:
        """What a recipe stands for; raises `Refusal` where it is none."""
        try:
            yield from program.Expansion(self._here, _Pieces(recipe)).expand()
        except ValueError as error:
            raise Refusal(str(error)) from None


def _split(paths: bytearray) -> Iterator[bytes]:
    """Paths one by one: as objects, all of them would take twenty times their bytes."""
    start = 0
    while (end := paths.find(b"\0", start)) >= 0:
        yield bytes(paths[start:end])
        start = end + 1
    yield bytes(paths[start:])


class OldFile:
    """A file in the folder of a layer. It is opened as no link, and only where it was found."""

    def __init__(self, path: bytes) -> None:
        self._path = path

    def open(self) -> IO[bytes]:
        """Open it. Raises `OSError`."""
        file = os.fdopen(os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        if self._is(file.fileno()):
            return file
        file.close()
        raise OSError(errno.ESTALE, "an old file is another one now")

    def _is(self, descriptor: int) -> bool:
        here = os.readlink(f"/proc/self/fd/{descriptor}".encode())  # noqa: PTH115 - a path in bytes
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and here == self._path

    @property
    def size(self) -> int:
        try:
            return os.lstat(self._path).st_size
        except OSError:
            return 0


def _size(place: Any) -> int:
    return place.size if isinstance(place, OldFile) else len(place)


class _Pieces:
    """A file of pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        """So many bytes, or less at the end."""
        data = self._held[self._at : self._at + size]
        self._at += len(data)
        while len(data) < size and (piece := next(self._pieces, None)) is not None:
            self._held, self._at = piece, min(len(piece), size - len(data))
            data += piece[: self._at]
        return data
