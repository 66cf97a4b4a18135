"""A registry as a target: how users write it, and what images are called there."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

from layerferry.errors import UsageError
from layerferry.oci.image import Name
from layerferry.targets import is_registry
from layerferry.targets.bastion import Bastion
from layerferry.targets.link import Link
from layerferry.targets.ssh_target import SshTarget

_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
_HOW = (
    "Write it as registry://HOST[:PORT][/PREFIX], or registry:http://… where it has no TLS; "
    "with ?via=[user@]BASTION where ssh leads there."
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the registry is: `domain` is host[:port], and names go under `prefix`; `via` whom, if not directly."""

    domain: str
    prefix: str = ""
    plain_http: bool = False
    via: SshTarget | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `registry:[http:|https:]//HOST[:PORT][/PREFIX][?via=BASTION]`; raises `UsageError`."""
        read = _read(text)
        if read is None:
            from layerferry.mistakes import shown  # noqa: PLC0415 - where there is one

            login = " `docker login` keeps the password." if "@" in re.split("[?&]via=", text)[0] else ""
            raise UsageError(f"{shown(text)} is no registry", hint=_HOW + login)
        parts, prefix, query = read
        via = SshTarget.parse(query["via"]) if "via" in query else None
        return cls(parts.netloc, prefix, plain_http=parts.scheme == "http", via=via)

    def __str__(self) -> str:
        via = f"?via={quote(str(self.via), safe='@:[]')}" if self.via else ""
        prefix = f"/{self.prefix}" if self.prefix else ""
        return f"registry:{'http:' if self.plain_http else ''}//{self.domain}{prefix}{via}"

    def name(self, text: str) -> Name:
        """What an image is called there: a name of this very registry as it is, any other by its path."""
        given = Name.parse(text)
        path = given.path
        if given.domain == "docker.io" and (self.domain != "docker.io" or self.prefix):
            path = path.removeprefix("library/")
        if self.prefix and (given.domain != self.domain or given.domain == "docker.io"):
            path = f"{self.prefix}/{path}"
        return Name(self.domain, path, given.tag or "latest")


@dataclass(slots=True)
class Direct:
    """No link is needed. Who pushes looks whether it was `closed`."""

    closed: bool = False

    def close(self, *, hurry: bool = False) -> None:
        del hurry
        self.closed = True


@dataclass(frozen=True, slots=True)
class RegistryTarget:
    """Where to push. `connect` gives the link that `start` has begun; logins are found through `environ`."""

    name: str
    address: Address
    connect: Link[Bastion | Direct]
    environ: Mapping[str, str] = field(repr=False)


def _read(text: str) -> tuple[SplitResult, str, dict[str, str]] | None:
    """The parts of an address, the prefix and what its query says; None where it has not the form of one."""
    try:
        parts = urlsplit(text.strip().removeprefix("registry:"))
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        prefix = Name.parse(f"localhost{parts.path.rstrip('/')}/name").path.removesuffix("name").strip("/")
    except (ValueError, UsageError):
        return None
    is_one = not parts.fragment and not set(query) - {"via"} and _DOMAIN.fullmatch(parts.netloc)
    return (parts, prefix, query) if is_one else None


def through(target: str, via: str) -> str:
    """The target; where it is a registry that names no way of its own, with `via` as that."""
    if not via or not is_registry(target):
        return target
    address = Address.parse(target)
    return target if address.via else str(replace(address, via=SshTarget.parse(via)))


def check_via(targets: Iterable[str | Sequence[str]], variable: str) -> None:
    """Raise `UsageError` where a way was asked for, and no target is a registry."""
    if not any(map(is_registry, targets)):
        raise UsageError(f"{variable} is for a registry", hint=f"{_HOW} Hosts take ssh_config's ProxyJump.")
