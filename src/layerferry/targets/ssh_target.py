"""A host as ssh is told of it: the target's words as users write them, and the words of the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from layerferry.errors import UsageError
from layerferry.oci import limits
from layerferry.targets.engine_choice import TargetEngine


@dataclass(frozen=True, slots=True)
class SshTarget:
    """A host that ssh knows how to reach. `destination` is [user@]host, as the user's ssh_config understands it."""

    destination: str
    port: int | None = None
    engine: TargetEngine | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `[ssh://][user@]host[:port][?engine=NAME[&namespace=NAMESPACE][&as=USER]]`; raises `UsageError`.

        The host may be an ssh_config alias, or an address such as `[::1]`.
        """
        given = text.strip()
        is_uri = given.startswith("ssh://")  # its user may be user%40corp, and its zone %25eth0 (RFC 6874)
        login, _, host = (unquote(given.removeprefix("ssh://")) if is_uri else given).rpartition("@")
        if ":" in login:
            raise UsageError(
                f"the target at {host!r} has a password in it",
                hint="ssh takes none there, and others would see it. Use a key: ssh-copy-id, or LAYERFERRY_SSH_KEY.",
            )
        rest, _, query = given.removeprefix("ssh://").partition("?")
        rest = unquote(rest.rstrip("/")) if is_uri else rest.rstrip("/")
        user, at, host = rest.rpartition("@")
        port = ""
        if host.startswith("["):
            host, bracket, port = host[1:].partition("]")
            if not bracket or (port and not port.startswith(":")):
                raise UsageError(f"{text!r} is not a target", hint="Write an IPv6 address as [::1]:22.")
            port = port[1:]
        elif host.count(":") == 1:
            host, _, port = host.partition(":")
        # A user may be of a domain, CORP\user; none of these is ours to hand to a shell.
        odd = (
            not rest.isprintable()
            or set(rest) & set(" '\"`$;|&<>")
            or "\\" in host
            or "/" in host
            or (at and not user)
            or user.endswith("\\")
        )
        if not host or host.startswith("-") or user.startswith("-") or odd:
            raise _mistaken(text, f"{text!r} is not a target")
        if port and not _is_port(port):
            raise _mistaken(text, f"{port!r} in {text!r} is not a port")
        return cls(f"{user}{at}{host}", int(port) if port else None, TargetEngine.of_query(query) if query else None)

    @property
    def host(self) -> str:
        return self.destination.rpartition("@")[2]

    def __str__(self) -> str:
        user, at, host = self.destination.rpartition("@")
        query = f"?{self.engine.query}" if self.engine else ""
        if not self.port:
            return self.destination + query
        return (f"{user}{at}[{host}]:{self.port}" if ":" in host else f"{user}{at}{host}:{self.port}") + query


def _mistaken(text: str, message: str) -> UsageError:
    """The error that tells what was meant, or else one with `message`."""
    from layerferry.mistakes import of_target  # noqa: PLC0415 - where there is one

    return of_target(text) or UsageError(message, hint="Write it as [user@]host[:port], or an ssh_config alias.")


def ssh_words(
    target: SshTarget, *, options: Sequence[str] = (), config: Path | None = None, interactive: bool = False
) -> list[str]:
    """The command line that calls ssh for `target`, up to where its destination goes."""
    ours = ["ServerAliveInterval=15", "ServerAliveCountMax=4", f"ConnectTimeout={limits.CONNECTED:.0f}"]
    if not interactive:
        ours.append("BatchMode=yes")
    words = ["ssh", "-T", *(["-F", str(config)] if config else [])]
    for option in (*options, *ours):
        words += ["-o", option]
    return words if target.port is None else [*words, "-p", str(target.port)]


def _is_port(text: str) -> bool:
    """Others have digits, too, that ssh would not read."""
    return text.isascii() and text.isdigit() and len(text) <= len("65535") and 0 < int(text) < 1 << 16
