"""The docker SDK's client, which lives here alone: its questions, and answers that are bounded."""

import contextlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

import docker
import docker.errors
import requests

from layerferry import __version__, log
from layerferry.causes import reason
from layerferry.ci.daemon_address import DaemonAddress
from layerferry.errors import LayerferryError, SourceError
from layerferry.oci import limits
from layerferry.oci.documents import Document
from layerferry.oci.image import Image, Platform
from layerferry.registry_client.connections import BROKEN, chunks_of, whole
from layerferry.sources.daemon.answers import lines
from layerferry.sources.daemon.ssh_transport import DialAdapter, TcpAdapter
from layerferry.targets.address import Ssh

#: The API's version for the one question that has none; docker 19.03's.
_OLDEST = "1.40"
#: Bytes of an image that are read at once.
_PIECE = 256 << 10
#: Characters of what a daemon says that go into a sentence of ours.
_SAID = 300
#: What the SDK, requests and urllib3 raise where a daemon is not there, or answers otherwise than HTTP has it.
FAULTS = (docker.errors.DockerException, *BROKEN, ValueError)


class DaemonRefusal(Exception):  # noqa: N818 - it is an answer
    """What a daemon says instead of what it was asked for, in one line."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class DaemonClient(docker.APIClient):  # type: ignore[misc]
    """The SDK's client. What it gives is the bytes of an answer, bounded, and not what JSON makes of them.

    Raises `DaemonRefusal`, one of `FAULTS`, and `SourceError`.
    """

    def __init__(
        self,
        address: DaemonAddress,
        ssh: Ssh,
        version: str,
        timeout: float,
        platform: Platform | None = None,
        *,
        words: Sequence[str] = (),
    ) -> None:
        """`version` is the API's; where it is empty the daemon is asked, which the SDK would do unbounded.

        `words` are a command line that leads to the daemon, where it is not reached by its address alone.

        With a `platform`, what is asked of an image is asked of its variant for that: inspect (from version 1.49 on),
        history and save (1.48), push (1.46).

        What the SDK does here is left out: it reads docker's configuration of the user as it finds it, takes no path
        and no port of 22 from an ssh:// address, and asks for the client certificate when it is too late.
        """
        requests.Session.__init__(self)
        self.trust_env = False  # no proxy, CA bundle or .netrc of the environment is for the daemon
        self.params = {} if platform is None else {"platform": json.dumps(platform.to_json())}
        self.timeout = timeout
        self.headers["User-Agent"] = f"layerferry/{__version__}"
        self.base_url = address.url if address.url.startswith("http") else "http://localhost"
        self._general_configs: dict[str, Any] = {}
        self._version = version or _OLDEST
        self.hooks["response"].append(log.answered("daemon"))
        dialled = self.base_url != address.url
        adapter = DialAdapter(address.url, ssh, words) if dialled else TcpAdapter(address.tls)
        self._sockets = adapter.sockets
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)
        if not version:
            self._version = _api_version(self.version(api_version=False))

    def break_off(self) -> None:
        """End what the daemon is asked, in whichever thread, now and later on."""
        self._sockets.shut_down(for_good=True)

    def is_at_least(self, *version: int) -> bool:
        """Whether the daemon's API has that version, or a later one."""
        return tuple(map(int, self._version.split("."))) >= version

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests would read the body of one that leads somewhere, however long it is."""
        del resp

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Read an answer, bounded, but for the stream that was asked for."""
        request.headers["Accept-Encoding"] = "identity"
        response: requests.Response = super().send(request, **{**options, "stream": True, "allow_redirects": False})
        if not options.get("stream") or response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            with contextlib.closing(response):
                data = whole(response, limits.LISTING)
            if data is None:
                raise SourceError(f"the docker daemon's answer is refused: it has more than {limits.LISTING} bytes")
            response.raw = io.BytesIO(data)
        return response

    def _raise_for_status(self, response: requests.Response) -> None:
        if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            raise DaemonRefusal(response.status_code, _said(response.content) or f"HTTP status {response.status_code}")

    def _result(self, response: requests.Response, *as_what: bool, **how: bool) -> bytes:
        del as_what, how
        self._raise_for_status(response)
        return response.content

    def _stream_helper(self, response: requests.Response, **how: bool) -> Iterator[bytes]:
        del how
        with contextlib.closing(response):
            yield from lines(chunks_of(response), "what the docker daemon says of its push")

    def _stream_raw_result(self, response: requests.Response, *options: Any) -> Iterator[bytes]:
        """The SDK's own would take the timeout away."""
        del options
        self._raise_for_status(response)
        with contextlib.closing(response):
            yield from chunks_of(response, _PIECE)


def _said(data: bytes) -> str:
    """The first line of an error: the `message` of the API's, or a proxy's text."""
    try:
        message = Document.parse(data, "").members.get("message")
    except SourceError:
        message = None
    return first_line(message if isinstance(message, str) else data[:_SAID].decode(errors="replace"))


def _api_version(data: bytes) -> str:
    told = Document.parse(data, "the docker daemon's version")
    version = told.word("ApiVersion")
    if not re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,3}", version):
        raise told.damaged("its ApiVersion is none")
    return version


def patience(image: Image) -> float:
    """Seconds that a daemon may be silent over an image: before 25 it writes all of it to its own disk first."""
    return limits.SAVED + image.size / limits.SAVED_RATE


def words_of(error: Exception) -> str:
    """An error in one line: what the daemon said, or what is behind it, since the SDK wraps texts in each other."""
    return first_line(error.message if isinstance(error, LayerferryError) else reason(error)) or type(error).__name__


def first_line(text: str) -> str:
    """A daemon's text, for a sentence of ours."""
    return next((line.strip()[:_SAID] for line in text[: limits.TEXT].splitlines() if line.strip()), "")


def check_progress(line: bytes) -> None:
    """A push that failed says so in its stream, after a status of 200."""
    if line.strip():
        told = Document.parse(line, "what the docker daemon says of its push", most=limits.PROGRESS_LINE)
        if error := str(told.members.get("error") or ""):
            raise SourceError(f"the docker daemon could not push: {first_line(error)}")
