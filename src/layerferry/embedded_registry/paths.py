"""The endpoints of the OCI distribution-spec by their paths, and the ranges in their headers. Pure, no I/O.

Spec: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Self


class Kind(Enum):
    """The rows of the spec's table "Endpoints" that a push needs."""

    BASE = auto()  # end-1
    BLOB = auto()  # end-2
    UPLOADS = auto()  # end-4, end-11
    UPLOAD = auto()  # end-5, end-6, end-13
    MANIFEST = auto()  # end-3, end-7


_NAME = r"(?P<name>[a-z0-9]+(?:(?:[./]|__?|-+)[a-z0-9]+)*)"
_PATTERNS = {
    Kind.BASE: re.compile(r"/v2/?"),
    Kind.BLOB: re.compile(rf"/v2/{_NAME}/blobs/(?P<reference>[A-Za-z0-9_+.-]+:[A-Za-z0-9]+)"),
    Kind.UPLOADS: re.compile(rf"/v2/{_NAME}/blobs/uploads/?"),
    Kind.UPLOAD: re.compile(rf"/v2/{_NAME}/blobs/uploads/(?P<reference>[0-9a-f]{{32}})"),
    Kind.MANIFEST: re.compile(rf"/v2/{_NAME}/manifests/(?P<reference>[A-Za-z0-9_][A-Za-z0-9_+:.-]{{0,255}})"),
}
_RANGE = re.compile(r"(\d{1,18})-(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class RequestPath:
    """A path, taken apart. `reference` is a digest (BLOB), an upload's ID (UPLOAD), or a tag or digest (MANIFEST)."""

    kind: Kind
    name: str = ""
    reference: str = ""

    @classmethod
    def match(cls, path: str) -> Self | None:
        """The endpoint that `path` names, or None. A path is taken as it was sent: `..` and `%2e` match nothing."""
        for kind, pattern in _PATTERNS.items():
            if found := pattern.fullmatch(path):
                groups = found.groupdict(default="")
                return cls(kind, groups.get("name", ""), groups.get("reference", ""))
        return None


def parse_content_range(text: str) -> tuple[int, int] | None:
    """Read `<first>-<last>`, both in bytes and inclusive (spec, "Pushing a blob in chunks"); None for anything else."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    return (first, last) if first <= last else None


def format_range(offset: int) -> str:
    """The `Range` header of an upload that holds `offset` bytes; nothing at all is `0-0`, as clients expect it."""
    return f"0-{max(offset - 1, 0)}"
