"""Targets as users name them, and the conduits that lead to them."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from layerferry.targets import is_registry
from layerferry.targets.conduit import THIS_MACHINE, CommandConduit, Conduit, LocalConduit, SshConduit, command_name
from layerferry.targets.link import Link
from layerferry.targets.ssh_target import SshTarget

if TYPE_CHECKING:
    from layerferry.targets.bastion import Bastion
    from layerferry.targets.registry_address import Address, Direct, RegistryTarget

# Most targets are hosts, and ssh is to start at once: hence the imports inside functions.
# ruff: noqa: PLC0415


@dataclass(frozen=True, slots=True)
class Ssh:
    """How to call ssh: `-o` values, its `-F`, and whether somebody is there to answer its questions.

    `material` are the `-o` values for the key and the known hosts of this job's, which count for jump hosts, too.
    """

    options: tuple[str, ...] = ()
    config: Path | None = None
    interactive: bool = False
    material: tuple[str, ...] = ()
    #: For hosts where sudo asks for one: a line.
    sudo_password: bytes = field(default=b"", repr=False)

    @property
    def arguments(self) -> dict[str, Any]:
        return {
            "options": self.options,
            "config": self.config,
            "interactive": self.interactive,
            "material": self.material,
        }


@dataclass(frozen=True, slots=True)
class Target:
    """Where to push: the name for people, and how to get the conduit."""

    name: str
    connect: Link[Conduit]


#: A host or a command, which has a conversation with us, or a registry, which speaks HTTP.
AnyTarget: TypeAlias = "Target | RegistryTarget"


def start(
    stack: contextlib.ExitStack, target: str | Sequence[str], ssh: Ssh, environ: Mapping[str, str], *, now: bool = True
) -> AnyTarget:
    """Start to connect in a thread, at once if it is `now`; what fails is raised where the connection is wanted.

    `target` is a host, a registry or a command's words; `UsageError` is raised for what is none. `stack` hangs up.
    """
    if isinstance(target, str) and is_registry(target):
        from layerferry.targets.registry_address import Address, RegistryTarget

        address = Address.parse(target)
        return RegistryTarget(str(address), address, Link(stack, now, lambda: _link(address, ssh)), environ)
    if isinstance(target, str):
        host = SshTarget.parse(target)
        return Target(
            str(host), Link(stack, now, lambda: SshConduit(host, **ssh.arguments, sudo_password=ssh.sudo_password))
        )
    return Target(command_name(target), Link(stack, now, lambda: CommandConduit(target, ssh.sudo_password)))


def here(stack: contextlib.ExitStack) -> Target:
    """The target that is this machine, with its own engine."""
    return Target(THIS_MACHINE, Link(stack, True, LocalConduit))  # noqa: FBT003


def host_of(target: str) -> tuple[str, SshTarget | None]:
    """What a target is called, and the host that ssh connects to for it, if it does."""
    if is_registry(target):
        from layerferry.targets.registry_address import Address

        address = Address.parse(target)
        return str(address), address.via
    host = SshTarget.parse(target)
    return str(host), host


def _link(address: "Address", ssh: Ssh) -> "Bastion | Direct":
    from layerferry.targets.bastion import Bastion
    from layerferry.targets.registry_address import Direct

    return Bastion(address.via, **ssh.arguments) if address.via else Direct()
