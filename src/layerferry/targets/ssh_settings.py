"""What the user's own ssh has set for a host, as `ssh -G` tells it."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from layerferry.processes import child_environment
from layerferry.settings import environment

#: What in a user's ssh_config(5) is for sessions of people, and keeps ours from taking place: its values for `ssh -G`
#: that do not, and what is said else. It is said only where it is needed: an older ssh does not know all of them.
_NEEDED = {
    "remotecommand": (("", "none"), "RemoteCommand=none"),
    "sessiontype": (("", "default"), "SessionType=default"),
    "stdinnull": (("", "no", "false"), "StdinNull=no"),
    "forkafterauthentication": (("", "no", "false"), "ForkAfterAuthentication=no"),
    "tunnel": (("", "no", "false"), "Tunnel=no"),
}
#: Forwards of the user's: another session may have their ports, and ExitOnForwardFailure be set.
_FORWARDS = ("localforward", "remoteforward", "dynamicforward")
#: Levels at which ssh does not say why it fails.
_SILENT = ("QUIET", "SILENT", "FATAL")
#: A shared connection that a question is asked for each time.
_ASKING = ("ask", "auto-ask", "autoask")


def jumps(told: Mapping[str, str]) -> tuple[str, ...]:
    """The jump hosts that ssh has set, as users write them."""
    return tuple(filter(None, told.get("proxyjump", "").split(",")))


def told_by_ssh(words: Sequence[str]) -> dict[str, str]:
    """Its options by their names in lower case; nothing where it fails. `words` ends with the destination.

    An option that it tells several times, such as IdentityFile, has a line for each.
    """
    # Where sessions go to the background, it asks for a command, which it refuses beside a RemoteCommand.
    for command in ((), ("true",)):
        try:
            done = subprocess.run(
                [*words, *command], capture_output=True, check=False, timeout=10, env=child_environment(environment())
            )
        except (OSError, subprocess.TimeoutExpired):
            return {}
        if done.returncode == 0:
            return _by_name(os.fsdecode(done.stdout))
    return {}


def _by_name(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def needed(told: Mapping[str, str]) -> list[str]:
    """The options, as words of a command line, without which a session of ours would not take place."""
    options = [option for name, (good, option) in _NEEDED.items() if told.get(name, "") not in good]
    if any(name in told for name in _FORWARDS):
        options.append("ClearAllForwardings=yes")
    if told.get("loglevel", "").upper() in _SILENT:
        options.append("LogLevel=INFO")
    return [word for option in options for word in ("-o", option)]


def shares(told: Mapping[str, str]) -> bool:
    """Whether the user's ssh shares a connection, or would: then ours goes through it."""
    path, master = told.get("controlpath", "none"), told.get("controlmaster", "no").lower()
    if path == "none" or master in _ASKING:
        return False
    return master not in {"no", "false"} or Path(path).exists()
