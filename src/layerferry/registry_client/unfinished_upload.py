"""An upload that a registry goes on with where it broke off, by the offset that it tells.

Spec: distribution-spec, "Pushing a blob in chunks": PATCH takes bytes from an offset on, and GET of the upload's
location tells how many there are (`Range: 0-LAST`). distribution/distribution (Docker's registry, Harbor, GitLab)
cannot: its location has a `_state` with the offset that it knew when it was told, and an upload of which more has come
is cancelled (seen: 2.8.2, registry/handlers/blobupload.go, "upload resumed at wrong offest"). That begins anew.
"""

import re
from urllib.parse import parse_qs, urlsplit

#: Bytes of a blob from which on it goes so: below, sending it again is as quick.
WORTH_RESUMING = 32 << 20
_RANGE = re.compile(r"(?:bytes[ =])?0-([0-9]{1,17})")


def can_resume(location: str) -> bool:
    """Whether the upload at a location may be continued where it broke off."""
    return "_state" not in parse_qs(urlsplit(location).query)


def offset_of(told: str, size: int) -> int:
    """The bytes of a blob of `size` that are there, by a `Range`; 0 where that tells none, or more than there are.

    `0-0` is said where there is nothing, too.
    """
    match = _RANGE.fullmatch(told.strip())
    last = int(match[1]) if match else 0
    return last + 1 if 0 < last < size else 0
