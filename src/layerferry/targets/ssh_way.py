"""The way to a host: ssh's command line for it, with the key and the known hosts of a job, at jump hosts too.

For a target these are all that counts. A jump host, and a daemon's host, the user's own ssh knows as well: there what
it has comes after them, so that a host which it reaches by itself is reached all the same.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerferry.errors import ConnectError
from layerferry.oci import limits
from layerferry.targets.ssh_settings import jumps, needed, told_by_ssh
from layerferry.targets.ssh_target import SshTarget, ssh_words

_KNOWN_HOSTS = "UserKnownHostsFile="
_KEY = "IdentityFile="
#: What makes the job's own all that counts.
_ALONE = ("IdentitiesOnly=", "GlobalKnownHostsFile=")


@dataclass(frozen=True, slots=True)
class Way:
    """The words that call ssh for a host, up to where its destination goes, and what ssh has set for it."""

    words: tuple[str, ...]
    told: Mapping[str, str]
    config: Path | None = None
    material: tuple[str, ...] = ()

    @property
    def hops(self) -> tuple[str, ...]:
        """The jump hosts (ssh_config(5), ProxyJump), the nearest to us first."""
        return jumps(self.told)


def way(
    target: SshTarget,
    *,
    options: Sequence[str] = (),
    config: Path | None = None,
    interactive: bool = False,
    material: Sequence[str] = (),
    login: Sequence[str] = (),
) -> Way:
    """The way to a host. `material` are the `-o` values for a key and known hosts of this job's; `login` more words.

    OpenSSH hands its -F on to the ssh of a jump host, and neither -o nor -i (ssh.c): material counts there only where
    we write that command ourselves. Raises `ConnectError` where there are too many of them.
    """
    words = [*ssh_words(target, options=(*options, *material), config=config, interactive=interactive), *login]
    told = told_by_ssh([*words, "-G", "--", target.destination])
    if material and jumps(told):
        proxy = proxy_command(target, jumps(told), material, config=config, interactive=interactive)
        words[1:1] = ["-o", f"ProxyCommand={proxy}"]  # before a ProxyJump among the options: the first one counts
    return Way(tuple(words), told, config, tuple(material))


def beside_own(material: Sequence[str], told: Mapping[str, str]) -> tuple[str, ...]:
    """`material` as `-o` values, with the keys and the files of known hosts that ssh has set itself after them."""
    return tuple(_beside_own(material, told))


def _beside_own(material: Sequence[str], told: Mapping[str, str]) -> Iterator[str]:
    for option in material:
        if option.startswith(_KNOWN_HOSTS):
            files = f"{told.get('userknownhostsfile', '')} {told.get('globalknownhostsfile', '')}".split()
            yield " ".join((option, *(file for file in files if file != "none")))
        elif option.startswith(_KEY):
            yield option
            yield from (f'{_KEY}"{file}"' for file in told.get("identityfile", "").split("\n") if file)
        elif not option.startswith(_ALONE):
            yield option


def own_of(host: SshTarget, config: Path | None) -> dict[str, str]:
    """What the user's own ssh has set for a host, without anything of this job's."""
    return told_by_ssh([*ssh_words(host, config=config), "-G", "--", host.destination])


def for_hop(material: Sequence[str], told: Mapping[str, str]) -> tuple[str, ...]:
    """`material` for a jump host. How strict ssh is with its key stays the user's to say, unless any is to be taken."""
    return tuple(option for option in beside_own(material, told) if option != "StrictHostKeyChecking=yes")


def proxy_command(
    target: SshTarget, hops: Sequence[str], material: Sequence[str], *, config: Path | None, interactive: bool
) -> str:
    """The ProxyCommand that leads through `hops`, the nearest to us first, with the job's key at each.

    It is what OpenSSH makes of a ProxyJump (ssh.c), but for the options. A shell reads it, after ssh has looked for
    tokens in it: hence the quotes, and two percent signs for one. Raises `ConnectError` beyond `limits.HOPS`.
    """
    how = {"config": config, "interactive": interactive}
    return _command(target, list(hops), material, how, limits.HOPS)


def _command(target: SshTarget, hops: list[str], material: Sequence[str], how: dict[str, Any], left: int) -> str:
    if len(hops) > left:
        raise ConnectError(
            f"more than {limits.HOPS} jump hosts lead to {target}", hint="Look at ProxyJump in your ssh_config."
        )
    *further, last = hops
    hop = SshTarget.parse(last)
    told = own_of(hop, how["config"])
    words = [*ssh_words(hop, options=for_hop(material, told), **how), *needed(told)]
    if before := further or list(jumps(told)):
        words += ["-o", f"ProxyCommand={_command(target, before, material, how, left - 1)}"]
    escaped = [word.replace("%", "%%") for word in (*words, "--", hop.destination)]
    # After `--` and the host there would be a command: -W goes before.
    return shlex.join([*escaped[:-2], "-W", "[%h]:%p", *escaped[-2:]])
