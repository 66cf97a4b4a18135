"""`docker ferry`: our command line as a plugin of docker's. Standard library only, up to where a command begins.

docker starts `docker-ferry` with its own words: `docker-ferry [GLOBAL OPTIONS] ferry push …`, `help ferry push`,
`__complete ferry push a`; before each of them, and for its help, `docker-ferry docker-cli-plugin-metadata`.

Sources: docker/cli: cli-plugins/manager (metadata.go, manager.go, cobra.go), cli-plugins/socket, cmd/docker/docker.go,
cli/flags/options.go. Seen with 28.2: words and variables as above, and that docker closes its socket at a SIGINT or
SIGTERM where its stdout is no terminal, and leaves the signal to the terminal where it is one.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from layerferry import __version__
from layerferry.errors import Halt, Interrupted, LayerferryError, UsageError
from layerferry.plugin_launcher import NAME, PROGRAM
from layerferry.streams import called, stderr, stdout

# docker asks for the metadata before each command: nothing else is loaded for that.
# ruff: noqa: PLC0415

#: `python release/install_lines.py` writes it.
ADDRESS: Final = "https://github.com/OWNER/layerferry"
_METADATA: Final = "docker-cli-plugin-metadata"
_HELP: Final = "help"
_COMPLETE: Final = ("__complete", "__completeNoDesc")
#: docker listens at it, and closes it where we are to end.
_SOCKET: Final = "DOCKER_CLI_PLUGIN_SOCKET"
#: docker's global options that have a value, by their letters, too.
_VALUES: Final = frozenset({"config", "context", "host", "log-level", "tlscacert", "tlscert", "tlskey"})
_LETTERS: Final[Mapping[str, str]] = {"c": "context", "D": "debug", "H": "host", "h": _HELP, "l": "log-level"}
_TLS_FILES: Final[Mapping[str, str]] = {"tlscacert": "ca.pem", "tlscert": "cert.pem", "tlskey": "key.pem"}
_FALSE: Final = frozenset({"false", "f", "0"})


def main(words: Sequence[str]) -> None:
    """Do what docker's words say, and end the process with one of the exit codes of `errors`."""
    if words[:1] == [_METADATA]:
        said = {"SchemaVersion": "0.1.0", "Vendor": "layerferry", "Version": __version__}
        said |= {"ShortDescription": "Move images to hosts over SSH, and send only what they lack", "URL": ADDRESS}
        return stdout().document(said)
    from layerferry import cli, settings

    globals_, verb, rest = divided(words)
    if verb in _COMPLETE:
        from layerferry.cli.completion import answer_docker

        sys.exit(answer_docker(cli.cli, PROGRAM, rest))
    if verb == _HELP or _HELP in globals_:
        rest = [*rest, "--help"]
    try:
        variables = [*_variables(globals_), (_SOCKET, "")]
    except LayerferryError as error:
        stderr().complain(error)
        sys.exit(error.exit_code)
    address = settings.environment().get(_SOCKET, "")
    with settings.with_variables(variables), called(PROGRAM), _ends_with_docker(address):
        return cli.main(rest, program=PROGRAM)


def divided(words: Sequence[str]) -> tuple[dict[str, str], str, list[str]]:
    """Docker's global options by their long names, its word before ours (`help`, `__complete`), and what is for us.

    Where our name does not come, somebody has started us by hand, and all is for us.
    """
    found: dict[str, str] = {}
    left, verb = list(words), ""
    while left and (word := left.pop(0)) != NAME:
        if word.startswith("-"):
            found |= _option(word, left)
        elif word in {_HELP, *_COMPLETE} and not verb:
            verb = word
        else:
            return {}, "", list(words)
    return found, verb, left


def _option(word: str, left: list[str]) -> Iterator[tuple[str, str]]:
    """The options of a word, as pflag reads it: `--name=value`, `--name value`, `-Dc value`, `-cvalue`."""
    if word.startswith("--"):
        name, given, value = word.removeprefix("--").partition("=")
        yield name, value if given else _value(name, left)
        return
    letters = word.removeprefix("-")
    while letters:
        name, letters = _LETTERS.get(letters[0], letters[0]), letters[1:]
        if name in _VALUES and letters:
            yield name, letters.removeprefix("=")
            return
        yield name, _value(name, left)


def _value(name: str, left: list[str]) -> str:
    return left.pop(0) if name in _VALUES and left else "true"


def _variables(options: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Docker's variables that say what its global options say; an empty one says nothing. Raises `UsageError`."""
    if "config" in options:
        yield "DOCKER_CONFIG", options["config"]
    if "host" in options:
        yield from (("DOCKER_HOST", options["host"]), ("DOCKER_CONTEXT", ""))
    elif options.get("context"):
        yield from (("DOCKER_CONTEXT", options["context"]), ("DOCKER_HOST", ""))
    for name, variable in (("tls", "DOCKER_TLS"), ("tlsverify", "DOCKER_TLS_VERIFY")):
        if name in options:
            yield variable, "" if options[name].lower() in _FALSE else "1"
    files = {name: Path(options[name]) for name in _TLS_FILES if name in options}
    folders = {file.parent for file in files.values()}
    if len(folders) > 1 or any(file.name != _TLS_FILES[name] for name, file in files.items()):
        raise UsageError(
            "docker's files for TLS have to be in one folder, as ca.pem, cert.pem and key.pem",
            hint="Let DOCKER_CERT_PATH name that, or put them into a context: docker context create.",
        )
    for folder in folders:
        yield "DOCKER_CERT_PATH", str(folder)


@contextlib.contextmanager
def _ends_with_docker(address: str) -> Iterator[None]:
    """End, as after a signal, where docker closes its socket: it has had one, or it is gone."""
    if not address:
        yield
        return
    connection = socket.socket(socket.AF_UNIX)
    with contextlib.closing(connection):
        try:
            connection.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        except OSError:  # docker has ended meanwhile, or is one of another kind
            yield
            return
        signals = _Signals()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signals.handle)
        threading.Thread(target=_watch, args=(connection, signals), daemon=True).start()
        yield


def _watch(connection: socket.socket, signals: "_Signals") -> None:
    """Wait for the end of docker's socket, whatever docker may write into it."""
    with contextlib.suppress(OSError):
        while connection.recv(64):
            pass
    signals.closed = True
    os.kill(os.getpid(), signal.SIGTERM)


class _Signals:
    """One Ctrl-C is one interruption, though it comes from the terminal, and from docker, which has had it too."""

    def __init__(self) -> None:
        #: Whether the next SIGTERM is ours: docker's socket was closed.
        self.closed = False
        self._signalled = False
        self._awaited = False

    def handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTERM and self.closed:
            self.closed = False
            if self._signalled:
                return
            self._awaited = True
        elif self._awaited:
            self._awaited = False
            return
        else:
            self._signalled = True
        raise Halt(Interrupted())
