"""What OpenSSH's client says when it fails. It has one status, 255, for all of it, so its words must do.

Seen on OpenSSH 9.2p1 (Debian 12); the client's messages are not translated.
"""

import re
from dataclasses import dataclass

from layerferry.errors import ConnectError, LayerferryError, TargetError, UnknownHostKeyError
from layerferry.oci import limits
from layerferry.targets.verdict import cut

_SSH_FAILED = 255


@dataclass(frozen=True, slots=True)
class _Failure:
    pattern: str
    message: str
    hint: str
    error: type[ConnectError] = ConnectError
    transient: bool = False


_FAILURES = (
    _Failure("REMOTE HOST IDENTIFICATION HAS CHANGED", "its host key is not the one we know",
             "If the host was set up anew, remove its old key with `ssh-keygen -R HOST`; else somebody may listen in."),
    _Failure(r"Host key verification failed|No \S{1,40} host key is known", "its host key is not known here",
             "Connect once by hand, or add the line that `ssh-keyscan HOST` prints to known_hosts, after checking it.",
             UnknownHostKeyError),
    _Failure("Permission denied", "it refused our authentication",
             "Check the user name and the key: `ssh -v HOST true` shows which keys were tried."),
    _Failure("Too many authentication failures", "it refused our authentication after too many keys",
             "Name the key with IdentityFile and set IdentitiesOnly yes."),
    _Failure("Temporary failure in name resolution", "no name server answers", "Check the network and DNS.",
             transient=True),
    _Failure("Could not resolve hostname", "its name cannot be resolved", "Check the name, DNS and your ssh_config."),
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


def explain(target: str, code: int, text: str, sent: int | None = None) -> LayerferryError:
    """The error for an ssh process that ended with status `code` and `text` on stderr.

    `sent` is how many bytes had gone when it did, where the other side had answered before.
    """
    lines = _lines(text)
    last = cut(lines[-1], limits.SHOWN) if lines else ""
    if code != _SSH_FAILED:
        said = f": {last}" if last else ""
        return TargetError(
            f"{target}: the remote command ended with status {code}{said}",
            hint="A POSIX sh, dd and an engine must be there; `ssh HOST true` must work and print nothing.",
        )
    for failure in _FAILURES:
        detail = next((line for line in lines if re.search(failure.pattern, line)), None)
        if detail is not None:
            why = f"{failure.message} ({cut(detail, limits.SHOWN)})"
            return failure.error(f"{_what(target, sent)}: {why}", hint=failure.hint, transient=failure.transient)
    return ConnectError(f"{_what(target, sent)}: {last or 'ssh ended without a word'}", transient=sent is not None)


def _what(target: str, sent: int | None) -> str:
    if sent is None:
        return f"cannot connect to {target}"
    return f"the connection to {target} broke after {sent} bytes"


#: What the client says last where `-W` failed; in a shared session all that it says.
_FORWARD_FAILED = "forwarding request failed"
#: What sshd answers to a forward (RFC 4254, section 5.1) and the client logs; sshd's own words follow the second.
#: Seen on OpenSSH 9.2p1.
_FORWARD_FAILURES = (
    ("administratively prohibited", "does not let connections through to",
     "AllowTcpForwarding and PermitOpen of its sshd_config, or options of the key in its authorized_keys, forbid it."),
    ("Connection refused", "reached nobody at", "Does the registry listen there, on this port?"),
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
            return ConnectError(f"{bastion} {message} {address} ({cut(last, limits.SHOWN)})", hint=hint)
    if last or not lines or _FORWARD_FAILED in lines[-1].lower():
        why = cut(last or (lines[-1] if lines else "ssh ended without a word"), limits.SHOWN)
        return ConnectError(
            f"{bastion} did not connect us to {address}: {why}",
            hint=f"Somebody must listen there, and forwarding be allowed: `ssh -W {address} {bastion}` shows it.",
        )
    return explain(bastion, _SSH_FAILED, text)
