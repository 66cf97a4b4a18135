"""The newest statement that was accepted for each name, so that no older one is: a stolen key does not roll back.

A folder of the policy's has a file for each name. It must be there, as whoever set the policy made it: what cannot be
read or written is a `Refusal`, since a memory that is lost is a protection that is lost.
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerferry.oci.image import is_digest
from layerferry.receive import locks, strict_json
from layerferry.receive.refusal import Refusal

_LARGEST = 4096


@dataclass(frozen=True, slots=True)
class Accepted:
    """An image, by its config's digest, and when its statements for a name were made: the oldest, and the newest."""

    config: str
    oldest: int
    newest: int


@dataclass(frozen=True, slots=True)
class NewestStatements:
    """The memory of one host, in a folder."""

    folder: Path

    def look(self) -> None:
        """Raise `Refusal` where nothing could be remembered."""
        if not self.folder.is_dir() or not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
            raise self._unusable("it is no folder that this user can write")
        status = self.folder.stat()
        if status.st_uid not in {0, os.geteuid()} or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise self._unusable("others can write it")

    def check(self, name: str, accepted: Accepted) -> None:
        """Raise `Refusal` where a statement for the name was made before one that was accepted for another image."""
        known = self._read(name)
        if known is not None and known.config != accepted.config and accepted.oldest <= known.newest:
            raise Refusal(f"the statement for {name} is not newer than one that was accepted here")

    @contextlib.contextmanager
    def accept(self, wanted: Mapping[str, Accepted]) -> Iterator[None]:
        """Check and remember, by full name, what is accepted; no other session does until the names are given."""
        with self._locked():
            for name, accepted in wanted.items():
                self.check(name, accepted)
            for name, accepted in wanted.items():
                self._write(name, accepted)
            yield

    def _read(self, name: str) -> Accepted | None:
        """What was accepted last for a name; None where nothing ever was."""
        try:
            with self._path(name).open("rb") as file:
                data = file.read(_LARGEST)
        except FileNotFoundError:
            self.look()
            return None
        except OSError as error:
            raise self._unusable(error.strerror or "it cannot be read") from None
        return self._known(name, strict_json.parse(data, "what was accepted"))

    def _known(self, name: str, said: Any) -> Accepted:
        if isinstance(said, dict) and said.keys() == {"name", "config", "created"} and said["name"] == name:
            config, created = said["config"], said["created"]
            if isinstance(config, str) and is_digest(config) and type(created) is int:
                return Accepted(config, created, created)
        raise self._unusable(f"what it has of {name} cannot be read")

    def _write(self, name: str, accepted: Accepted) -> None:
        known = self._read(name)
        newest = max(accepted.newest, known.newest if known else 0)
        data = json.dumps({"name": name, "config": accepted.config, "created": newest}).encode()
        path = self._path(name)
        new = path.with_suffix(".new")
        try:
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
            self._sync()
        except OSError as error:
            raise self._unusable(error.strerror or "it cannot be written") from None

    def _sync(self) -> None:
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self.folder / "statements.lock", flags, 0o600)
        except OSError as error:
            raise self._unusable(error.strerror or "it cannot be locked") from None
        try:
            locks.hold(descriptor, "the memory of statements")
            yield
        finally:
            os.close(descriptor)

    def _path(self, name: str) -> Path:
        """A name may be longer than a file's, and has slashes."""
        return self.folder / f"statement-{hashlib.sha256(name.encode()).hexdigest()}"

    def _unusable(self, why: str) -> Refusal:
        return Refusal(f"no statement is accepted without a memory of the newest, {self.folder}: {why}")
