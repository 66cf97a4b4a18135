"""What people write where an image or a target is wanted, and what they meant. Loaded where there is a mistake.

Pure, and none of it repeats what may be a password.
"""

import re
from collections.abc import Sequence

from layerferry.errors import UsageError

_VARIABLE = re.compile(
    r"\$\{\{[^}]*\}\}|\$\{[^}]*\}|\{\{[^}]*\}\}|\$\([A-Za-z_][\w.]*\)|\$[A-Za-z_]\w*|%[A-Za-z_]\w*%|\$\{\{?|\$$"
)
#: Characters of what a user wrote that are shown again.
_SHOWN = 100
_TARGET_FORM = "Write a host as [user@]host[:port] or an ssh_config alias, a registry as registry://HOST[/PREFIX]."
_EMPTY = "A variable may be empty there."
_ORDER = "The images come first, then the target: layerferry push {image} {target}"


def shown(text: str) -> str:
    """What the user wrote, quoted, and without a password before an `@`."""
    head, at, host = text.rpartition("@")
    return repr(f"***@{host}"[:_SHOWN] if at and ":" in head.removeprefix("ssh://") else text[:_SHOWN])


def unexpanded(text: str) -> str:
    """The variable in `text` that nobody has expanded; nothing where there is none."""
    found = _VARIABLE.search(text)
    return found[0][:_SHOWN] if found else ""


def of_variable(text: str, what: str) -> UsageError | None:
    """The error for a value that holds a variable's name; `what` is that value, in words of its own."""
    found = unexpanded(text)
    if not found:
        return None
    if found.startswith(("${{", "{{")):
        hint = "Such an expression is expanded in the CI's own file, and not in a script or in another file."
    elif found.startswith("$("):
        hint = "Azure leaves the name of a variable that is not set as it is; a secret needs a line in `env:`."
    else:
        hint = "A shell expands it outside of single quotes; a CI leaves it as it is where it is not set, or protected."
    return UsageError(f"{what} holds {found}, which nobody has expanded", hint=hint)


def is_host(text: str) -> bool:
    """Whether a word cannot be an image, and may be a host."""
    user, at, host = text.rpartition("@")
    named = bool(at and user) and re.fullmatch(r"sha\d+:[0-9a-f]*", host) is None and not unexpanded(text)
    return text.startswith(("ssh://", "registry://")) or (named and "/" not in user)


def of_words(images: Sequence[str], target: str) -> UsageError | None:
    """The error for hosts among the words that are to be images; `target` is the last word."""
    hosts = [image for image in images if is_host(image)]
    if not hosts:
        return None
    if len(hosts) == len(images) and not is_host(target):
        hint = _ORDER.format(image=target[:_SHOWN], target=shown(hosts[0])[1:-1])
        return UsageError(f"{shown(hosts[0])} is a target, and stands before the image", hint=hint)
    further = f"layerferry push IMAGE {shown(target)[1:-1]} --to {shown(hosts[0])[1:-1]}"
    return UsageError(
        f"{shown(hosts[0])} is a target, and stands where an image is wanted",
        hint=f"Each target but one takes --to: {further}",
    )


def of_image(text: str) -> UsageError | None:
    """The error for a word that is no image, where it can be told what was meant."""
    if mistake := of_variable(text, f"the image {shown(text)}"):
        return mistake
    given = shown(text)
    return _first(
        (
            is_host(text),
            f"{given} is a target, and stands where an image is wanted",
            "Hosts come last, after --to, or into LAYERFERRY_TARGETS.",
        ),
        (not text.strip(), "an image is empty", _EMPTY),
        (text.endswith((":", "@")), f"there is no tag behind the {text[-1:]} in {given}", _EMPTY),
        (text.startswith(":") or text[:1] + text[1:].replace("/", "") == "/", f"there is no name in {given}", _EMPTY),
        (
            re.match(r"https?://", text),
            f"{given} is a web address",
            "An image of a registry is registry:HOST/NAME:TAG.",
        ),
        (
            re.search(r"\.tar(?:\.\w+)?$|\.tgz$", text) or text.startswith(("./", "../", "/", "~")),
            f"{given} is a path",
            "An archive is archive:PATH, a folder with an OCI layout oci:PATH.",
        ),
    )


def of_target(text: str) -> UsageError | None:
    """The error for a word that is no host, where it can be told what was meant."""
    if mistake := of_variable(text, f"the target {shown(text)}"):
        return mistake
    rest = text.strip().removeprefix("ssh://")
    user, at, host = rest.rpartition("@")
    address = re.sub(r"^https?://", "", host)
    first, _, port = host.partition(":")
    domain = address.partition("/")[0]
    return _first(
        (not rest.strip(":"), "a target is empty", _EMPTY),
        (at and not user, f"there is no user before the @ in {shown(text)}", _EMPTY),
        (not first and ":" not in port, f"there is no host in {shown(text)}", _EMPTY),
        (
            address != host or ("/" in address and (set(domain) & set(".:") or domain == "localhost")),
            f"{shown(text)} is no host: it has a path, as a registry has",
            f"Write registry://{address[:_SHOWN]}, with ?via=HOST where ssh leads there.",
        ),
        ("/" in host, f"{shown(text)} is no host: it has a path, as an image has", _order(text)),
        (
            port and ":" not in port and not port.isdigit(),
            f"{shown(text)} is no target: {port[:_SHOWN]!r} is no port",
            _order(text),
        ),
    )


def _first(*rows: tuple[object, str, str]) -> UsageError | None:
    """The error of the first row whose condition holds."""
    return next((UsageError(message, hint=hint) for holds, message, hint in rows if holds), None)


def _order(text: str) -> str:
    return f"{_ORDER.format(image=shown(text)[1:-1], target='HOST')}. {_TARGET_FORM}"
