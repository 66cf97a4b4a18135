"""What OpenSSH's client says when it fails. It has one status, 255, for all of it, so its words must do.

Seen on OpenSSH 9.2p1 (Debian 12); the client's messages are not translated.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerferry.ci.escape import beginning
from layerferry.errors import ConnectError, LayerferryError, TargetError, UnknownHostKeyError
from layerferry.oci import limits

if TYPE_CHECKING:
    from layerferry.targets.ssh_way import Way

_SSH_FAILED = 255
#: What an ssh says whose ProxyCommand has ended: once for each host that lies behind the one which failed.
_BEHIND = "UNKNOWN port 65535"
_NO_SUCH_NAME = "Could not resolve hostname"
_CHANGED = "REMOTE HOST IDENTIFICATION HAS CHANGED"
#: What a client says whose `-W` failed.
_FORWARD_FAILED = "stdio forwarding failed"
_DENIED = "Permission denied"
#: Where ssh found another key, and the command that it shows against it (sshconnect.c).
_OFFENDING = re.compile(r"Offending \S+ key in (?P<file>.+):(?P<line>\d+)$")
_REMOVE = re.compile(r'ssh-keygen -f "?[^"]+"? -R "?[^"]+"?$')
#: The known hosts that came in a variable.
_OURS = re.compile(r"/layerferry-run-[a-z0-9_]{8}/known_hosts$")


@dataclass(frozen=True, slots=True)
class _Failure:
    pattern: str
    message: str
    hint: str
    error: type[ConnectError] = ConnectError
    transient: bool = False


_FAILURES = (
    _Failure(_CHANGED, "its host key is not the one we know",
             "If the host was set up anew, remove its old key with `ssh-keygen -R HOST`; else somebody may listen in."),
    _Failure(r"Host key verification failed|No \S{1,40} host key is known", "its host key is not known here",
             "Connect once by hand, or add the line that `ssh-keyscan HOST` prints to known_hosts, after checking it.",
             UnknownHostKeyError),
    _Failure(_DENIED, "it refused our authentication",
             "Check the user name and the key: `ssh -v HOST true` shows more."),
    _Failure("Too many authentication failures", "it refused our authentication after too many keys",
             "Name the key with IdentityFile and set IdentitiesOnly yes."),
    _Failure("Temporary failure in name resolution", "no name server answers", "Check the network and DNS.",
             transient=True),
    _Failure(_NO_SUCH_NAME, "its name cannot be resolved", "Check the name, DNS and your ssh_config."),
    _Failure("Connection refused", "it refused the connection", "Is sshd running there, on this port?"),
    _Failure("timed out|Timeout, server", "it did not answer in time", "Is the host up, and the port open from here?",
             transient=True),
    _Failure("No route to host|Network is unreachable", "no route leads to it", "Check the address and the network.",
             transient=True),
    _Failure("UNPROTECTED PRIVATE KEY", "the private key is readable by others", "Run `chmod 600` on the key file."),
    _Failure("kex_exchange_identification|banner exchange", "it closed the connection before it said who it is",
             "Many at once do that (MaxStartups of its sshd_config); sshd's log on the host says why.", transient=True),
    _Failure("Connection closed|Connection reset|Broken pipe|closed by remote host", "it closed the connection",
             "Try again; sshd's log on the host may say why.", transient=True),
    _Failure("Bad configuration option|command-line: line", "ssh does not understand an option",
             "Check --ssh-option and your ssh_config."),
)  # fmt: skip


def _lines(text: str) -> list[str]:
    """The last lines of it, which tell what failed; a banner comes first, and may be of any length."""
    return [line.strip() for line in text[-limits.SAID :].splitlines() if line.strip()]


def explain(target: str, code: int, text: str, sent: int | None = None, *, to: "Way | None" = None) -> LayerferryError:
    """The error for an ssh process that ended with status `code` and `text` on stderr.

    `sent` is how many bytes had gone when it did, where the other side had answered before; `to` is how it was called.
    """
    lines = _lines(text)
    hop, next_one = _failed_hop(lines, to.hops if to else (), target)
    if hop and any(_FORWARD_FAILED in line.lower() for line in lines):
        return explain_forward(f"{hop}, a jump host on the way to {target},", next_one, text)
    last = beginning(lines[-1], limits.SHOWN) if lines else ""
    if code != _SSH_FAILED:
        said = f": {last}" if last else ""
        return TargetError(
            f"{target}: the remote command ended with status {code}{said}",
            hint="A POSIX sh, dd and an engine must be there; `ssh HOST true` must work and print nothing.",
        )
    place = f"{hop}, a jump host on the way to {target}" if hop and sent is None else target
    for failure in _FAILURES:
        detail = next((line for line in lines if re.search(failure.pattern, line)), None)
        if detail is not None:
            failure = _told_a_secret(failure, lines, to)  # noqa: PLW2901
            why = f"{failure.message} ({beginning(detail, limits.SHOWN)})"
            hint = _hint(failure, lines, to, hop) + _word(failure, target)
            error = failure.error(f"{_what(place, sent)}: {why}", hint=hint, transient=failure.transient)
            if isinstance(error, UnknownHostKeyError):
                error.hop = hop
            return error
    said = last or "ssh ended without a word"
    return ConnectError(f"{_what(place, sent)}: {said}", transient=sent is not None)


#: What is told where ssh was told a password (`ci.askpass`): of one that was refused, or was not asked for.
_REFUSED = (
    "it refused the password of LAYERFERRY_SSH_PASSWORD",
    "It was told once, and is not told again. Check it and the user name, or use a key: LAYERFERRY_SSH_KEY.",
)
_NOT_ASKED = ("it takes no password", "ssh-copy-id gives a key to the host, LAYERFERRY_SSH_KEY to the job.")
_LOCKED = "LAYERFERRY_SSH_PASSPHRASE may be another key's, or the key one that this user does not have there."


def _told_a_secret(failure: _Failure, lines: Sequence[str], to: "Way | None") -> _Failure:
    """The failure in its own words where ssh was told a password or a passphrase, which are not tried again."""
    if failure.pattern != _DENIED or to is None or "BatchMode=no" not in to.material:
        return failure
    if "PasswordAuthentication=no" in to.material:
        return _Failure("", failure.message, _LOCKED)
    methods = " ".join(re.findall(r"Permission denied \((.*)\)", "\n".join(lines)))
    return _Failure("", *(_REFUSED if re.search("password|keyboard-interactive", methods) else _NOT_ASKED))


def _what(place: str, sent: int | None) -> str:
    return f"cannot connect to {place}" if sent is None else f"the connection to {place} broke after about {sent} bytes"


def _failed_hop(lines: Sequence[str], hops: Sequence[str], target: str) -> tuple[str, str]:
    """The jump host at which it ended, and what lies behind that; nothing where it was none of them.

    Where the jump host's own ssh has said nothing, it was the last host that closed the connection.
    """
    own = [line for line in lines if _BEHIND not in line and not line.startswith("kex_exchange_identification")]
    told = any(re.search(failure.pattern, line) for failure in _FAILURES for line in own)
    behind = min(sum(_BEHIND in line for line in lines), len(hops)) if told else 0
    return (hops[-behind], [*hops, target][-behind]) if behind else ("", "")


def _hint(failure: _Failure, lines: Sequence[str], to: "Way | None", hop: str) -> str:
    if failure.pattern == _CHANGED:
        return _changed(lines) or failure.hint
    if to is None or failure.pattern != _DENIED:
        return failure.hint
    from layerferry.targets.ssh_keys import offered  # noqa: PLC0415 - where it has failed

    return f"{offered(to, hop)} {failure.hint}".strip()


def _word(failure: _Failure, target: str) -> str:
    """More advice where an image may have been taken for a target: `app:2` is a host, and a port, as well."""
    if failure.pattern == _NO_SUCH_NAME and re.search(r"[^\]]:\d+$", target):
        return " If it is an image: a push and a pull end with the target, a rollback begins with it."
    return ""


def _changed(lines: Sequence[str]) -> str:
    """Where the old key is, and how to remove it, in ssh's own words; nothing where it has none."""
    found = next(filter(None, map(_OFFENDING.search, lines)), None)
    if found is None:
        return ""
    if _OURS.search(found["file"]):
        where, cure = "LAYERFERRY_SSH_KNOWN_HOSTS", "replace that line"
        line = f"{found['line']}, blank ones not counted,"
    else:
        where, line = found["file"], found["line"]
        command = next(filter(None, map(_REMOVE.search, lines)), None)
        cure = f"remove it: {command[0]}" if command else "remove that line"
    return f"Line {line} of {where} has another key. Somebody may listen in; if the host was set up anew, {cure}"


#: What the client says last where `-W` failed in a shared session; it is all that it says.
_SHARED_FORWARD_FAILED = "forwarding request failed"
#: What sshd answers to a forward (RFC 4254, section 5.1) and the client logs; sshd's own words follow the second.
#: Seen on OpenSSH 9.2p1.
_FORWARD_FAILURES = (
    ("administratively prohibited", "does not let connections through to",
     "AllowTcpForwarding and PermitOpen of its sshd_config, or options of the key in its authorized_keys, forbid it."),
    ("Connection refused", "reached nobody at", "Does anybody listen there, on this port?"),
    ("Name or service not known|Temporary failure in name resolution|unknown host|No address associated",
     "cannot resolve the name in", "Give the name or the address that the bastion knows it by."),
    ("timed out|No route to host|unreachable", "finds no way to", "Check the address, and the network between them."),
)  # fmt: skip


def explain_forward(bastion: str, address: str, text: str) -> LayerferryError:
    """The error for a connection to `address` that `bastion` did not make; `text` is what ssh said, the reason last."""
    lines = _lines(text)
    last = next((line for line in reversed(lines) if "open failed:" in line), "").partition("open failed: ")[2]
    for pattern, message, hint in _FORWARD_FAILURES:
        if re.search(pattern, last):
            return ConnectError(f"{bastion} {message} {address} ({beginning(last, limits.SHOWN)})", hint=hint)
    if last or not lines or _SHARED_FORWARD_FAILED in lines[-1].lower():
        why = beginning(last or (lines[-1] if lines else "ssh ended without a word"), limits.SHOWN)
        return ConnectError(
            f"{bastion} did not connect us to {address}: {why}",
            hint=f"Somebody must listen there, and forwarding be allowed: `ssh -W {address} {bastion}` shows it.",
        )
    return explain(bastion, _SSH_FAILED, text)
