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
#: What an address begins with, before the name of a user.
_START = re.compile(r"\s*(?P<registry>registry:)?(?:[a-z]+:)?//|", re.IGNORECASE)
#: A user, a colon, a password and an `@`, which a URI may have as %3A and %40. What stands before a digest is none.
_LOGIN = re.compile(r"\A([^:]*?(?::|%3A)).*(@|%40)(?!sha\d+:)", re.DOTALL | re.IGNORECASE)
_TARGET_FORM = "Write a host as [user@]host[:port] or an ssh_config alias, a registry as registry://HOST[/PREFIX]."
_EMPTY = "A variable may be empty there."
_ORDER = "The images come first, then the target: layerferry push {image} {target}"
_FIRST = {
    "push": "The images come first, then the target",
    "pull": "The images come first, then the host",
    "rollback": "The targets come first, then the name",
}


def without_password(text: str) -> str:
    """A target with `***` for what stands between a user's colon and the `@`: `deploy:***@prod`.

    Of a registry's login nothing is left, for a token may stand there alone.
    """
    start = _START.match(text)
    assert start  # it may be empty
    rest = text[start.end() :]
    if not start["registry"]:
        return start[0] + _LOGIN.sub(r"\1***\2", rest)
    place, *ways = re.split(r"(?<=[?&]via=)", rest)
    shown_place = re.sub(r"\A.*(@|%40)", r"***\1", place, flags=re.DOTALL | re.IGNORECASE)
    return start[0] + shown_place + "".join(_LOGIN.sub(r"\1***\2", way) for way in ways)


def shown(text: str) -> str:
    """What the user wrote, quoted, and without a password before an `@`."""
    return repr(without_password(text)[:_SHOWN])


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
        hint = _ORDER.format(image=shown(target)[1:-1], target=shown(hosts[0])[1:-1])
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
    if is_host(text):
        return _misplaced(
            text, f"{given} is a target, and stands where an image is wanted", "Hosts belong among the targets."
        )
    return _first(
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
    if "/" in host and address == host and text.strip().startswith("ssh://"):
        whole = f"ssh://{user}{at}{host.partition('/')[0]}"
        form = f"Write {shown(whole)[1:-1]}; the engine there is found, or said as ?engine=NAME."
        return UsageError(f"{shown(text)} is no target: it has a path", hint=form)
    return _first(
        (not rest.strip(":"), "a target is empty", _EMPTY),
        (at and not user, f"there is no user before the @ in {shown(text)}", _EMPTY),
        (not first and ":" not in port, f"there is no host in {shown(text)}", _EMPTY),
        (
            address != host or ("/" in address and (set(domain) & set(".:") or domain == "localhost")),
            f"{shown(text)} is no host: it has a path, as a registry has",
            f"Write registry://{address[:_SHOWN]}, with ?via=HOST where ssh leads there.",
        ),
    ) or _of_image_for_host(text, host)


def _of_image_for_host(text: str, host: str) -> UsageError | None:
    port = host.partition(":")[2]
    if "/" in host:
        return _misplaced(text, f"{shown(text)} is no host: it has a path, as an image has", _TARGET_FORM)
    if port and ":" not in port and not port.isdigit():
        return _misplaced(text, f"{shown(text)} is no target: {port[:_SHOWN]!r} is no port", _TARGET_FORM)
    return None


def _first(*rows: tuple[object, str, str]) -> UsageError | None:
    """The error of the first row whose condition holds."""
    return next((UsageError(message, hint=hint) for holds, message, hint in rows if holds), None)


def _misplaced(text: str, message: str, hint: str) -> UsageError:
    mistake = UsageError(message, hint=hint)
    mistake.misplaced = text
    return mistake


def order(verb: str, words: Sequence[str], further: Sequence[str], word: str) -> str:
    """In which order the words of a command come, one of which is misplaced, and how they would be right.

    `further` are the values of --to. Nothing where the word is none of the words, or the command has one kind alone.
    """
    if verb not in _FIRST or word not in words:
        return ""
    hosts = list(further) or [one for one in words if is_host(one) or not set(one) & set(":/@")]
    images = [one for one in words if one not in hosts] or ["IMAGE"]
    first, *others = hosts or ["HOST"]
    if verb == "rollback":
        return f"{_FIRST[verb]}: {_command(verb, first, *others, images[0])}."
    if verb == "pull":
        start = "Images are pulled from one host, the last word" if others else _FIRST[verb]
        return f"{start}: {_command(verb, *images, [first, *others][-1])}."
    start = "The last word is a target, beside --to as well" if further else _FIRST[verb]
    more = [part for other in others for part in ("--to", other)]
    return f"{start}: {_command(verb, *images, first, *more)}."


def _command(*words: str) -> str:
    return " ".join(("layerferry", *(shown(word)[1:-1] for word in words)))


def of_missing(word: str, images: Sequence[str], target: str, known: str) -> str:
    """Advice where a word is no image of the daemon's, and may be a host; `known` says where it is the name of one."""
    command = _command("push", *([one for one in images if one != word] or ["IMAGE"]), target, "--to", word)
    start = f"{word} is a host of {known}, too" if known else f"If {word} is a host"
    return f"{start}: each target but the last takes --to: {command}."
