"""The signatures that a push shows to a target which wants them: those of files, and those that a key of ours makes."""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from layerferry.errors import UsageError
from layerferry.oci.image import Image
from layerferry.signing.signer import SigningKey, open_key
from layerferry.signing.sshsig import LARGEST_FILE, SignedStatement
from layerferry.signing.statement import Statement, StatementError


class Offer:
    """What there is to show. A statement of ours is made, and signed, once for all targets and tries."""

    def __init__(self, signed: Sequence[SignedStatement], key: SigningKey | None = None) -> None:
        self._signed = signed
        self._key = key
        self._made: dict[tuple[str, tuple[str, ...]], SignedStatement] = {}
        self._lock = threading.Lock()

    def on(self, image: Image, config: str, names: Sequence[str]) -> list[SignedStatement]:
        """The signatures on an image, whose config has the digest `config`, for one of its full names at least."""
        found = [
            signed
            for signed in self._signed
            if signed.statement.is_of(config, image.diff_ids, image.platform)
            and not set(names).isdisjoint(signed.statement.names)
        ]
        return [*found, self._ours(image, config, names)] if self._key else found

    def _ours(self, image: Image, config: str, names: Sequence[str]) -> SignedStatement:
        assert self._key is not None
        wanted = config, tuple(sorted(set(names)))
        with self._lock:
            if wanted not in self._made:
                self._made[wanted] = self._key.sign(state(image, *wanted))
            return self._made[wanted]


def state(image: Image, config: str, names: Sequence[str], lasts: int = 0) -> Statement:
    """A statement of now on an image, for `lasts` seconds or, with 0, for ever; raises `UsageError` on no such."""
    now = int(time.time())
    full = tuple(sorted(set(names)))
    try:
        return Statement(config, image.diff_ids, full, image.platform, now, now + lasts if lasts else 0)
    except StatementError as error:
        raise UsageError(f"{image.reference} cannot be signed: {error}") from None


def read_signature(path: Path) -> SignedStatement:
    """A file that `layerferry sign` wrote; raises `UsageError`."""
    try:
        with path.open("rb") as file:
            return SignedStatement.read_file(file.read(LARGEST_FILE + 1))
    except OSError as error:
        raise UsageError(f"the signature {path} cannot be read: {error.strerror}") from None
    except StatementError as error:
        raise UsageError(f"{path} is no signature of an image: {error}", hint="`layerferry sign` writes one.") from None


@contextlib.contextmanager
def open_offer(key: str | None, files: Sequence[str], environ: Mapping[str, str]) -> Iterator[Offer]:
    """The signatures of some files, and a key, content or path; None for no key. Raises `UsageError`."""
    signed = [read_signature(Path(file)) for file in files]
    if key is None:
        yield Offer(signed)
        return
    with open_key(key, environ, setting="LAYERFERRY_SIGN_KEY") as opened:
        yield Offer(signed, opened)
