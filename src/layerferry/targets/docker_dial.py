"""The docker of a host at the end of an ssh session, which its own client leads to: one question, one answer."""

import http.client
import json
import socket
from collections.abc import Sequence
from typing import Any, Final

from layerferry import log
from layerferry.deadline import cut_off
from layerferry.oci import limits
from layerferry.process_socket import Piped, last_line

#: What docker's own client runs on a host that it reaches through ssh.
DIAL: Final = "docker system dial-stdio"


def ask(target: str, words: Sequence[str], path: str) -> tuple[dict[str, Any] | None, str]:
    """The object that the docker at the end of `words` answers, or None; and what ssh, or docker, said last.

    It has `limits.CONNECTED` seconds for all of it.
    """
    said, found, piped = "", None, None
    try:
        piped = Piped(words)
        found = _answer(piped.socket, path)
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        log.note(f"! {target}", f"{path}: {error!r}")
    finally:
        if piped:
            piped.socket.close()
            said = last_line(piped.end())
    return (found if isinstance(found, dict) else None), said[: limits.SHOWN]


def _answer(sock: socket.socket, path: str) -> object:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = sock
    with cut_off(limits.CONNECTED, lambda: sock):
        connection.request("GET", path)
        with connection.getresponse() as answer:
            return json.loads(answer.read(limits.DOCKER_ANSWER)) if answer.status == http.HTTPStatus.OK else None
