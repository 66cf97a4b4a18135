"""JSON documents of others, a daemon's, a registry's, a layout's: bounded, typed, what is wrong told in a sentence.

A `Document` is an object that came from outside. Each reader takes one member, says of which type it must be, and
raises the error of the place that the document is from; nothing of it reaches the rest of the code unread.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from layerferry.errors import LayerferryError, SourceError
from layerferry.oci import limits
from layerferry.oci.image import Digest, MediaType, Word

_T = TypeVar("_T")
_REQUIRED: Final = object()


def load(
    data: bytes | str, what: str, *, most: int = limits.DOCUMENT, error: type[LayerferryError] = SourceError
) -> Any:
    """Parse JSON of at most `most` bytes, `limits.DEPTH` levels and `limits.MEMBERS` members. Raises `error`."""
    if len(data) > most:
        raise error(f"{what} is refused: it has more than {most} bytes")
    try:
        value = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise error(f"{what} is damaged: it is not JSON") from None
    _bound(value, what, error)
    return value


def _no_constant(text: str) -> None:
    raise ValueError(text)  # NaN and Infinity are Python's, not JSON's (RFC 8259, section 6)


def _bound(value: Any, what: str, error: type[LayerferryError]) -> None:
    """Refuse what is nested too deep or has too many members."""
    left, level = limits.MEMBERS, [value]
    for _ in range(limits.DEPTH):
        level = [child for part in level for child in _children(part)]
        left -= len(level)
        if left < 0:
            raise error(f"{what} is refused: it has more than {limits.MEMBERS} members")
        if not level:
            return
    raise error(f"{what} is refused: it is nested more than {limits.DEPTH} deep")


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object. `what` names it in errors (`the config of app:1`); each reader raises `error` for a wrong type.

    A member that is missing or null gives the reader's default; without one it is an error, too.
    """

    members: Mapping[str, Any]
    what: str
    error: type[LayerferryError] = SourceError

    @classmethod
    def parse(
        cls,
        data: bytes | str,
        what: str,
        *,
        most: int = limits.DOCUMENT,
        error: type[LayerferryError] = SourceError,
    ) -> Self:
        """Read a JSON object. Raises `error` where it is none, or beyond a bound of `load`."""
        return cls.of(load(data, what, most=most, error=error), what, error)

    @classmethod
    def of(cls, value: Any, what: str, error: type[LayerferryError] = SourceError) -> Self:
        """Take what a parser gave as an object. Raises `error` where it is none."""
        if not isinstance(value, dict):
            raise error(f"{what} is damaged: it is not a JSON object")
        return cls(value, what, error)

    def text(self, key: str, default: str | None = None, *, most: int = limits.TEXT) -> str:
        """A string of at most `most` characters, whatever is in it."""
        value = self._member(key, str, "a string", default)
        if len(value) > most:
            raise self.damaged(f"{key} has more than {most} characters")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number from 0 to `limits.SIZE`. `true` is none, nor is 1e400."""
        value = self._member(key, int, "a number", default)
        if not 0 <= value <= limits.SIZE:
            raise self.damaged(f"{key} is no number of bytes")
        return value

    def word(self, key: str, default: str | None = None) -> str:
        """A `Word`: of an operating system, an architecture, a driver."""
        return self._typed(key, Word, default)

    def digest(self, key: str) -> Digest:
        return self._typed(key, Digest, None)

    def media_type(self, key: str, default: str | None = None) -> str:
        return self._typed(key, MediaType, default)

    def object(self, key: str) -> Self:
        """A member that is an object; an empty one where it is missing or null."""
        return type(self)(self._member(key, dict, "an object", {}), f"{key} of {self.what}", self.error)

    def objects(self, key: str) -> list[Self]:
        """A list of objects; an empty one where it is missing or null."""
        return [type(self).of(item, f"{key} of {self.what}", self.error) for item in self._list(key)]

    def texts(self, key: str) -> list[str]:
        """A list of strings of at most `limits.TEXT` characters each; an empty one where it is missing or null."""
        items = self._list(key)
        if not all(isinstance(item, str) and len(item) <= limits.TEXT for item in items):
            raise self.damaged(f"{key} is no list of strings")
        return items

    def digests(self, key: str) -> list[Digest]:
        """A list of at most `limits.LAYERS` digests; an empty one where it is missing or null."""
        items = self._list(key)
        if len(items) > limits.LAYERS:
            raise self.damaged(f"{key} has more than {limits.LAYERS} entries")
        try:
            return [Digest(item) for item in items]
        except ValueError:
            raise self.damaged(f"{key} is no list of sha256 digests") from None

    def damaged(self, why: str) -> LayerferryError:
        """The error that tells what is wrong with the document."""
        return self.error(f"{self.what} is damaged: {why}")

    def _list(self, key: str) -> list[Any]:
        return self._member(key, list, "a list", [])

    def _typed(self, key: str, kind: type[_T], default: str | None) -> _T:
        try:
            return kind(self._member(key, str, "a string", default))  # type: ignore[call-arg]
        except ValueError as error:
            raise self.damaged(f"{key} {error}") from None

    def _member(self, key: str, kind: type[_T], name: str, default: Any) -> _T:
        value = self.members.get(key)
        if value is None:
            value = default
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.damaged(f"{key} is not {name}" if value is not None else f"it has no {key}")
        return value
