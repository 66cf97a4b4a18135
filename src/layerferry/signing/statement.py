"""The statement that a signature is over, in its one form: JSON with sorted keys, no spaces, in ASCII, and a newline.

A statement is what it was read from, byte for byte: what would be written differently is refused. So keys that come
twice, other spellings of a number or a text, and whatever else two parsers could read in two ways cannot be in one.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

from layerferry.errors import LayerferryError
from layerferry.oci.image import Name, Platform, is_digest

#: The namespace of the signatures (ssh-keygen(1), -n): one that was made for a commit or a file is none of an image.
NAMESPACE = "image@layerferry"
VERSION = 1
#: Bytes. One of 127 layers, as many as engines take, has 10,000; with its signature it is one line of a conversation.
LARGEST = 32 << 10
_MOST_LAYERS = 512
_MOST_NAMES = 64
#: Seconds since 1970 (UTC): up to the year 5138.
_LAST = 10**11
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw]?)", re.ASCII)
_KEYS = {"config", "created", "diff_ids", "expires", "names", "platform", "version"}


class StatementError(ValueError):
    """Why something is no statement, in one sentence."""


@dataclass(frozen=True, slots=True)
class Statement:
    """The words of a signer on one image. Times are seconds since 1970, UTC; `expires` is 0 where there is no end.

    `names` are those, full and with a tag, that the image may get on a target; `config` is its config's digest.
    """

    config: str
    diff_ids: tuple[str, ...]
    names: tuple[str, ...]
    platform: Platform
    created: int
    expires: int = 0

    def __post_init__(self) -> None:
        """Raises `StatementError` on a value that is none, however it came here."""
        if not is_digest(self.config) or not all(map(is_digest, self.diff_ids)):
            raise StatementError("the statement has a digest that is none")
        if len(self.diff_ids) > _MOST_LAYERS:
            raise StatementError(f"the statement has more than {_MOST_LAYERS} layers")
        if not 0 < len(self.names) <= _MOST_NAMES:
            raise StatementError(f"the statement has not between one and {_MOST_NAMES} names")
        if list(self.names) != sorted(set(self.names)) or not all(map(_is_full, self.names)):
            raise StatementError("the statement has names that are not full, sorted and each there once")
        if not 0 < self.created < _LAST or not 0 <= self.expires < _LAST:
            raise StatementError("the statement has a time that is none")
        if self.expires and self.expires <= self.created:
            raise StatementError("the statement expires before it was made")

    @classmethod
    def read(cls, data: bytes, parse: Callable[[bytes], Any] = json.loads) -> Self:
        """Read the canonical form; raises `StatementError` on any other. `parse` reads JSON."""
        if len(data) > LARGEST:
            raise StatementError(f"the statement is larger than {LARGEST} bytes")
        try:
            document = parse(data)
        except (ValueError, RecursionError):
            raise StatementError("the statement is not JSON") from None
        statement = cls._from_json(document)
        if statement.encode() != data:
            raise StatementError("the statement is not in its canonical form, and could be read in two ways")
        return statement

    @classmethod
    def _from_json(cls, document: Any) -> Self:
        if not isinstance(document, dict) or set(document) != _KEYS:
            raise StatementError("the statement does not say just what it should")
        texts = [document["config"], document["platform"], *_list(document["diff_ids"]), *_list(document["names"])]
        numbers = [document[key] for key in ("created", "expires", "version")]
        if not all(type(text) is str for text in texts) or not all(type(number) is int for number in numbers):
            raise StatementError("the statement has a value of another kind")
        if document["version"] != VERSION:
            raise StatementError(f"the statement is of another version than {VERSION}")
        try:
            platform = Platform.parse(document["platform"])
        except LayerferryError:
            raise StatementError("the statement has a platform that is none") from None
        diff_ids, names = tuple(document["diff_ids"]), tuple(document["names"])
        return cls(document["config"], diff_ids, names, platform, document["created"], document["expires"])

    def encode(self) -> bytes:
        """The bytes that are signed."""
        document = {
            "config": self.config,
            "created": self.created,
            "diff_ids": self.diff_ids,
            "expires": self.expires,
            "names": self.names,
            "platform": str(self.platform),
            "version": VERSION,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"

    def is_of(self, config: str, diff_ids: Iterable[str], platform: Platform | None = None) -> bool:
        """Whether it is about the image of these digests; of a variant that only one side tells nothing is asked."""
        if self.config != config or self.diff_ids != tuple(diff_ids):
            return False
        if platform is None:
            return True
        variants = {self.platform.variant, platform.variant} - {""}
        return self.platform.runs(platform) and len(variants) < 2  # noqa: PLR2004 - one of each side


def duration(text: str) -> int:
    """Seconds, of a whole number with `s`, `m`, `h`, `d` or `w` after it, or alone; raises `ValueError`."""
    match = _DURATION.fullmatch(text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not seconds or seconds >= _LAST:
        raise ValueError(f"{text[:40]!r} is no time: write 90s, 30m, 12h, 7d or 2w")
    return seconds


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise StatementError("the statement has a value of another kind")
    return value


def _is_full(text: str) -> bool:
    try:
        return Name.parse(text).tagged == text
    except LayerferryError:
        return False
