"""The patterns of image names that a policy has."""

import re
import string
from dataclasses import dataclass
from typing import Self

from layerferry.errors import UsageError
from layerferry.oci.image import Name, is_digest

_SIGNS = re.compile(r"\*\*|\*|\?|\[!?[A-Za-z0-9._-]+\]|[A-Za-z0-9._/:-]")
#: What a set chooses from: a part of a name has no other signs (distribution/reference, regexp.go), and `/` and `:`
#: lead out of a part.
_CHOICE = string.ascii_letters + string.digits + "._-"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern, `[HOST/]NAME[:TAG][@DIGEST]`, where `*` and `?` match all but `/`, and `**` matches anything.

    A set, `[0-9]`, or `[!x]` for all others, stands for one letter, digit or one of `._-`: never for `/` or `:`.

    As docker reads a name, `app:*` is docker.io/library/app with any tag, and a pattern without a tag means `latest`.
    With a digest it allows just that image, by its config's or its manifest's digest, under any tag unless it has one.
    """

    text: str
    repository: re.Pattern[str]
    tag: re.Pattern[str]
    digest: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `UsageError`."""
        name, at, digest = text.partition("@")
        hint = "Write it as [HOST/]NAME[:TAG][@sha256:...], with * for what may vary: --allow 'app:*'."
        if at and not is_digest(digest):
            raise UsageError(f"{text!r} does not end with a digest", hint=hint)
        repository, colon, tag = name.rpartition(":")
        if not colon or "/" in tag:
            repository, tag = name, "*" if at else "latest"
        if not repository or not tag:
            raise UsageError(f"{text!r} is not a pattern of image names", hint=hint)
        address, repository = _address(repository)
        try:
            return cls(text, _expression(address + _full(repository, address), address), _expression(tag), digest)
        except ValueError:
            raise UsageError(f"{text!r} is not a pattern of image names", hint=hint) from None

    def allows(self, name: Name) -> bool:
        """Whether an image may have this name, if it is the right one."""
        tag = name.tag or "latest"
        return bool(self.repository.fullmatch(name.repository)) and bool(self.tag.fullmatch(tag))

    def matches(self, name: Name, *ids: str) -> bool:
        """Whether the image that goes by `ids` may have this name."""
        return self.allows(name) and self.fits(*ids)

    def fits(self, *ids: str) -> bool:
        """Whether the image that goes by `ids` is the right one."""
        return not self.digest or self.digest in ids


def _address(repository: str) -> tuple[str, str]:
    """Split off an IPv6 address as a host; elsewhere a bracket opens a set."""
    match = re.match(r"\[[0-9a-fA-F:]+\](:[0-9]+)?/", repository)
    return (match[0], repository[match.end() :]) if match else ("", repository)


def _full(repository: str, address: str) -> str:
    """The repository with what docker leaves out in front (distribution/reference, `splitDockerDomain`)."""
    if address or repository == "**":
        return repository
    first, slash, rest = repository.partition("/")
    if slash and (first in {"localhost", "**"} or set(first) & set(".:") or first != first.lower()):
        if first not in {"docker.io", "index.docker.io"}:
            return repository
        repository = rest
    return "docker.io/" + (repository if "/" in repository else f"library/{repository}")


def _expression(text: str, address: str = "") -> re.Pattern[str]:
    """Translate to a regular expression; raises `ValueError` on a sign that has no meaning."""
    rest, parts = text[len(address) :], [re.escape(address)]
    while rest:
        match = _SIGNS.match(rest)
        if match is None:
            raise ValueError(text)
        sign, rest = match[0], rest[match.end() :]
        match sign[0]:
            case "*":
                parts.append(".*" if sign == "**" else "[^/]*")
            case "?":
                parts.append("[^/]")
            case "[":
                parts.append(f"[{re.escape(_members(sign[1:-1]))}]")
            case _:
                parts.append(re.escape(sign))
    return re.compile("".join(parts))


def _members(text: str) -> str:
    """All signs that a set stands for; raises `ValueError` where there is none, or a range runs backwards.

    They are listed one by one, since a range of other signs than letters and digits has some that nobody thinks of.
    """
    rest, found = text.removeprefix("!"), set[str]()
    while rest:
        first, last = rest[0], rest[2] if rest[1:2] == "-" and rest[2:] else rest[0]
        if first > last:
            raise ValueError(text)
        found |= {sign for sign in _CHOICE if first <= sign <= last}
        rest = rest[3:] if rest[1:2] == "-" and rest[2:] else rest[1:]
    chosen = "".join(sign for sign in _CHOICE if (sign in found) is not text.startswith("!"))
    if not chosen:
        raise ValueError(text)
    return chosen
