"""The API of ngrok's agent, whose answers pyngrok reads whole: bounded."""

import errno
import http.client
import urllib.request

#: Bytes of an answer.
LARGEST_REPLY = 1 << 16


class _Answer(http.client.HTTPResponse):
    """A response of the agent's, bounded, since pyngrok reads it whole."""

    def read(self, amt: int | None = None) -> bytes:
        data = super().read(LARGEST_REPLY if amt is None else amt)
        if len(data) >= LARGEST_REPLY:
            raise OSError(errno.EMSGSIZE, "its agent answers without end")
        return data


class _Connection(http.client.HTTPConnection):
    response_class = _Answer


class BoundedHandler(urllib.request.HTTPHandler):
    """The handler for the agent's API, which is plain HTTP; a download is not, and is not bounded."""

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)
