"""Where uploads to registries go on that broke off, from one push to the next: a file of the user's cache.

A location may hold a signature, so the file is for the user alone. One that is a day old counts for nothing.
"""

import contextlib
import os
import re
import time
from collections.abc import Mapping

from layerferry.oci import limits
from layerferry.push.blob_cache import open_own, place, replace_own
from layerferry.registry_client.pusher import Unfinished

_LINE = re.compile(r"([0-9a-f]{64}) ([0-9]{1,12}) ([\x21-\x7e]+)")
_AGE = 86400
_MOST = 64


class UploadMemory(Unfinished):
    """The locations of uploads that broke off, by `key`. Where there is no place for a file, none is remembered."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._path = place(environ, "uploads")
        self.lasts = self._path is not None

    def find(self, key: str) -> str:
        return self._read().get(key, (0, ""))[1]

    def note(self, key: str, location: str) -> None:
        if len(location) <= limits.URL:
            self._write({**self._read(), key: (int(time.time()), location)})

    def forget(self, key: str) -> None:
        known = self._read()
        if known.pop(key, None):
            self._write(known)

    def _read(self) -> dict[str, tuple[int, str]]:
        text, oldest = "", time.time() - _AGE
        with contextlib.suppress(OSError, ValueError):
            if self._path:
                with os.fdopen(open_own(self._path, os.O_RDONLY), "rb") as file:
                    text = file.read(2 * _MOST * limits.URL).decode("ascii")
        matches = filter(None, map(_LINE.fullmatch, text.split("\n")))
        return {
            key: (int(when), location) for key, when, location in map(re.Match.groups, matches) if int(when) > oldest
        }

    def _write(self, known: Mapping[str, tuple[int, str]]) -> None:
        lines = [f"{key} {when} {location}\n" for key, (when, location) in known.items()]
        with contextlib.suppress(OSError):
            if self._path:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                replace_own(self._path, "".join(lines[-_MOST:]))
