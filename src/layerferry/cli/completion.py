"""What a shell offers while a command line is typed: values, ssh_config's hosts, the daemon's images.

Somebody waits for it at a prompt: all of it is bounded in bytes and time, and what cannot be had is not offered.
"""

import contextlib
import http.client
import json
import re
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from glob import iglob
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

import click
from click.shell_completion import ShellComplete, get_completion_class

from layerferry import settings
from layerferry.ci.escape import one_line
from layerferry.errors import Halt, Interrupted, LayerferryError
from layerferry.oci.image import Name
from layerferry.streams import stdout

#: Files of ssh_config, how deep they include each other, and bytes of each.
_MOST_FILES = 64
_DEEPEST = 8
_LARGEST = 256 << 10
#: Of the daemon's answer, and seconds for it.
_LARGEST_ANSWER = 4 << 20
_PATIENCE = 1.0
#: Seconds for all of it.
_ALL = 3.0
#: Words that are offered.
_MOST = 500
#: What a shell of cobra's does beside what is offered (ShellCompDirective): it offers files, or it does not.
_FILES, _NO_FILES = 0, 4
_ENGINES = ("docker", "podman", "k3s", "rke2", "k0s", "microk8s", "ctr", "nerdctl")
_WORDS = {
    "route": ("auto", "registry", "ngrok", "export"),
    "compression": ("auto", "zstd", "gzip", "none"),
    "platform": (
        "linux/amd64",
        "linux/arm64",
        "linux/arm/v7",
        "linux/386",
        "linux/ppc64le",
        "linux/riscv64",
        "linux/s390x",
    ),
    "shell": ("bash", "zsh", "fish"),
    "plugin": ("install", "remove"),
    "engine": (*_ENGINES, "root@podman", "user@docker"),
}
_HOST_LINE = re.compile(r"^\s*(host|include)\s*[=\s]\s*(.+)$", re.IGNORECASE)


def answer(cli: click.Command, asked: str) -> int:
    """Tell a shell what it may offer; `asked` is `bash_complete` and the like. 1 where there is nothing to tell."""

    def told() -> str:
        kind = get_completion_class(asked.removesuffix("_complete"))
        assert kind is not None
        found = kind(cli, {}, "layerferry", "").complete()
        return f"{found}\n" if found else ""

    return _answer(told)


def answer_docker(cli: click.Command, program: str, words: Sequence[str]) -> int:
    """Tell docker what its shell may offer for the last of `words`, in the lines of cobra's `__complete`."""

    def told() -> str:
        *before, begun = words or [""]
        items = ShellComplete(cli, {}, program, "").get_completions(list(before), begun)
        plain = [item for item in items if item.type == "plain" and item.value.isprintable()]
        lines = [f"{item.value}\t{one_line(item.help)}" if item.help else item.value for item in plain]
        files = any(item.type != "plain" for item in items)
        return "\n".join([*lines, f":{_FILES if files else _NO_FILES}", ""])

    return _answer(told)


def _answer(told: Callable[[], str]) -> int:
    try:
        signal.signal(signal.SIGALRM, _give_up)
        signal.setitimer(signal.ITIMER_REAL, _ALL)
        stdout().write(told())
    except (Exception, Halt):  # noqa: BLE001 - nobody wants an error on his prompt
        return 1
    return 0


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise Halt(Interrupted())


def offer(kind: str, ctx: click.Context, begun: str) -> list[str]:
    """The words of a kind that begin as the one which is being typed."""
    try:
        return list(islice((word for word in dict.fromkeys(_words(kind, ctx, begun)) if word.startswith(begun)), _MOST))
    except Exception:  # noqa: BLE001 - nobody wants an error on his prompt
        return []


def _words(kind: str, ctx: click.Context, begun: str) -> Iterator[str]:
    if kind in _WORDS:
        yield from _WORDS[kind]
        return
    targets, aliases = _named(ctx)
    if kind != "hosts":
        yield from aliases
    if kind == "words" and begun not in targets:  # those of a pull are a host's, which nobody has named yet
        with contextlib.suppress(OSError):  # no daemon
            yield from images()
    if kind == "hosts" or ctx.params.get("words"):  # the first word is an image
        yield from targets
        yield from hosts(begun)


def _named(ctx: click.Context) -> tuple[list[str], list[str]]:
    """The targets and images that the project's file has names for; a file that is wrong offers none."""
    from layerferry.named_targets import named  # noqa: PLC0415 - where it is wanted

    try:
        return named(ctx.params.get("config"))
    except LayerferryError:
        return [], []


def where_named(word: str, config: Path | None, ssh_config: Path | None) -> str:
    """The file that has a word for a host; nothing where none is known."""
    from layerferry.named_targets import named  # noqa: PLC0415 - where it is wanted

    with contextlib.suppress(LayerferryError, OSError):
        if word in named(config)[0]:
            return "layerferry.toml"
    with contextlib.suppress(OSError):
        if word in islice(hosts(files=[ssh_config] if ssh_config else ()), _MOST):
            return "ssh_config"
    return ""


def hosts(begun: str = "", files: Sequence[Path] = ()) -> Iterator[str]:
    """The hosts that ssh_config names, or `files`, without patterns; with the user that has been typed."""
    user, at, _ = begun.rpartition("@")
    home = settings.environment().get("HOME", "")
    files = files or [Path(home, ".ssh", "config"), Path("/etc/ssh/ssh_config")]
    seen: set[Path] = set()
    for file in files:
        for host in _hosts_of(file, seen, 0):
            yield f"{user}{at}{host}"


def _hosts_of(file: Path, seen: set[Path], depth: int) -> Iterator[str]:
    if file in seen or len(seen) >= _MOST_FILES or depth > _DEEPEST or not file.is_file():
        return
    seen.add(file)
    with file.open("rb") as opened:
        text = opened.read(_LARGEST).decode(errors="replace")
    for line in text.splitlines():
        if found := _HOST_LINE.match(line):
            words = found[2].split()
            if found[1].lower() == "host":
                yield from (word for word in words if word.isprintable() and not set(word) & set("*?!\"'"))
                continue
            for word in words:
                path = Path(word.strip('"')).expanduser()
                pattern = path if path.is_absolute() else file.parent / path
                for included in islice(iglob(str(pattern)), _MOST_FILES):  # noqa: PTH207 - it has no root
                    yield from _hosts_of(Path(included), seen, depth + 1)


def images() -> Iterator[str]:
    """The names of the images in the daemon, where that is at a unix socket of this machine."""
    from layerferry.ci.daemon_address import find_address  # noqa: PLC0415 - where it is wanted

    url = find_address(settings.environment()).url
    if not url.startswith("unix://"):
        return
    for row in json.loads(_get(url.removeprefix("unix://"), "/images/json")):
        for name in row.get("RepoTags") or ():
            if _is_name(name):
                yield name


def _is_name(name: Any) -> bool:
    with contextlib.suppress(Exception):
        return bool(Name.parse(name).tag)
    return False


def _get(path: str, what: str) -> bytes:
    connection = http.client.HTTPConnection("localhost", timeout=_PATIENCE)
    connection.sock = socket.socket(socket.AF_UNIX)
    with contextlib.closing(connection):
        connection.sock.settimeout(_PATIENCE)
        connection.sock.connect(path)
        connection.request("GET", what)
        return connection.getresponse().read(_LARGEST_ANSWER)
