"""The tries of one request, or of one blob since its last byte: urllib3's `Retry` counts them and times the waits.

The loops around it are ours, in `Endpoint`. Mounted in an HTTPAdapter it would try *every* request of a session again,
also one that probes, or an upload whose body has been read; and before the next try urllib3 reads the body of the
response that failed, without a bound.
"""

import random
import time
from collections.abc import Callable
from typing import Any, Self

import urllib3

#: Tries in all. A mirror that is restarted is back within the waits between them.
TRIES = 4
#: Statuses of trouble that may pass.
PASSING = frozenset((429, 500, 502, 503, 504))
#: Seconds to wait at most where a registry says how long (RFC 9110, section 10.2.3), and where we do: 0.5, 1, 2.
_LONGEST_WAIT = 20
_BACKOFF = 0.5
#: Seconds, at most, that a wait is longer by chance: jobs that one answer sent away do not come back together.
_JITTER = 0.5
#: Seconds between two looks at whether the push goes on.
_LOOK_EVERY = 0.25

#: Raises where the push that the request belongs to has been broken off.
Check = Callable[[], None]


class Tries(urllib3.Retry):
    """The tries that are left. `increment` gives those after a failed one, `sleep` waits for the next.

    Every method may be tried again: a POST without a body begins an upload, and a registry forgets one that nobody
    goes on with. Bytes of a blob are never sent again by this alone; `RepositoryPusher.put_blob` begins a new upload.
    """

    def __init__(self, total: Any = TRIES - 1, *, check: Check | None = None, **options: Any) -> None:
        options = {"backoff_factor": _BACKOFF, "backoff_jitter": _JITTER, "allowed_methods": None, **options}
        super().__init__(total, **options)
        self._check = check

    def new(self, **options: Any) -> Self:
        return super().new(check=self._check, **options)

    @property
    def next(self) -> int:
        """The number of the next try, from 1."""
        return len(self.history) + 1

    @property
    def last(self) -> bool:
        """Whether no other follows the next try."""
        return not self.total

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """Seconds, `_LONGEST_WAIT` at most, out of a number or a date; None where a Retry-After is neither."""
        told = response.headers.get("Retry-After", "").strip()
        if told.isdecimal():
            told = told[:9]  # Python reads 4300 digits at most
        try:
            return min(self.parse_retry_after(told), _LONGEST_WAIT)
        except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError, TypeError, IndexError):
            return None

    def get_backoff_time(self) -> float:
        """Seconds without a Retry-After. urllib3 does not wait before the second try, when all are back at once."""
        return super().get_backoff_time() or _BACKOFF + random.random() * _JITTER  # noqa: S311 - no secret

    def sleep(self, response: urllib3.BaseHTTPResponse | None = None) -> None:
        """Wait for the next try. Raises what `check` raises, where the push is broken off meanwhile."""
        told = None if response is None else self.get_retry_after(response)
        _pause(self.get_backoff_time() if told is None else told, self._check)


def _pause(seconds: float, check: Check | None) -> None:
    if check is None:
        time.sleep(seconds)
        return
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _LOOK_EVERY))
        check()
