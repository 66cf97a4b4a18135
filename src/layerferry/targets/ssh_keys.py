"""The keys that ssh had for a host that took none of them, for people: files with fingerprints, and an agent's."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from layerferry.processes import child_environment
from layerferry.settings import environment
from layerferry.targets.ssh_target import SshTarget
from layerferry.targets.ssh_way import Way, for_hop, own_of

_PATIENCE = 5.0
#: Keys that are named; sshd hears six at most by default (sshd_config(5), MaxAuthTries).
_MOST = 6
#: A key that came in a variable: in memory, or in an agent of ours.
_OURS = re.compile(r"/proc/\d+/fd/\d+|.*/layerferry-run-[a-z0-9_]{8}/identity")
#: `ssh-keygen -l` and `ssh-add -l`: bits, fingerprint, comment, (KIND).
_LISTED = re.compile(r"\d+ (?P<print>\S+) .*\((?P<kind>[A-Z0-9-]+)\)")


def offered(way: Way, hop: str = "") -> str:
    """A sentence on the keys that ssh had for the host, or for a jump host before it; nothing where that is unknown."""
    told = _told_of(SshTarget.parse(hop), way) if hop else way.told
    if not told.get("identityfile"):
        return ""
    keys = [*_of_files(told), *_of_agent(told)]
    if keys:
        rest = f", and {len(keys) - _MOST} more" if len(keys) > _MOST else ""
        return f"ssh had {', '.join(keys[:_MOST])}{rest}: none of them is for this user there."
    return "ssh had no key at all, in a file or an agent: set LAYERFERRY_SSH_KEY, or IdentityFile in your ssh_config."


def _told_of(hop: SshTarget, way: Way) -> Mapping[str, str]:
    told = own_of(hop, way.config)
    ours = [option.partition("=") for option in for_hop(way.material, told)]
    files = [value.strip('"').replace("%%", "%") for name, _, value in ours if name == "IdentityFile"]
    agents = [value.strip('"').replace("%%", "%") for name, _, value in ours if name == "IdentityAgent"]
    return {
        **told,
        **({"identityfile": "\n".join(files)} if files else {}),
        **({"identityagent": agents[0]} if agents else {}),
    }


def _of_files(told: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys(told.get("identityfile", "").split("\n")):
        path = Path(name.replace("%d", "~", 1)).expanduser()
        ours = _OURS.fullmatch(name) is not None
        public = path.with_name(f"{path.name}.pub")
        if not name or not (path.exists() or (ours and public.exists())):
            continue
        shown = "LAYERFERRY_SSH_KEY" if ours else name
        found = _LISTED.match(_said(["ssh-keygen", "-l", "-f", str(path)]))
        locked = "" if ours or _opens(path) else ", which a passphrase protects"
        yield f"{shown} ({found['kind']} {found['print']}{locked})" if found else f"{shown}{locked}"


def _opens(path: Path) -> bool:
    return bool(_said(["ssh-keygen", "-y", "-P", "", "-f", str(path)]))


def _of_agent(told: Mapping[str, str]) -> Iterator[str]:
    """Those of the agent; one that is in a file, too, is told once."""
    agent = told.get("identityagent", "SSH_AUTH_SOCK")
    socket = environment().get("SSH_AUTH_SOCK", "") if agent == "SSH_AUTH_SOCK" else agent
    if not socket or agent == "none" or told.get("identitiesonly") == "yes":
        return
    for line in _said(["ssh-add", "-l"], SSH_AUTH_SOCK=str(Path(socket).expanduser())).splitlines():
        if found := _LISTED.match(line):
            yield f"the agent's {found['kind']} {found['print']}"


def _said(argv: Sequence[str], **more: str) -> str:
    """What a command prints; nothing where it fails."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_PATIENCE,
            env={**child_environment(environment()), **more},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
