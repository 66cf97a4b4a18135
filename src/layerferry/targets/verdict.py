"""What a target's `failed KIND TEXT` means. TEXT is an engine's: it is cut before it is looked at, and to be told."""

import re
from collections.abc import Sequence

from layerferry.ci.escape import beginning
from layerferry.errors import ArchiveError, FollowError, LayerferryError, TargetError, UsageError, VerificationError
from layerferry.oci import limits
from layerferry.oci.image import Name, is_digest
from layerferry.protocol import VERSION, Reply, VerdictKind
from layerferry.targets.engine_choice import ENGINES

_MAY = (
    "Add the user to the docker group, or allow `sudo -n docker` (NOPASSWD). "
    "Where sudo must ask for a password, LAYERFERRY_SUDO_PASSWORD tells it."
)
#: (alternatives, message, hint): of one alternative, all words occur.
_Failures = tuple[tuple[tuple[tuple[str, ...], ...], str, str], ...]
_FULL: _Failures = (
    ((("no space left on device",),),
     "its disk is full", "Free some space there, with `docker image prune` for one."),
)  # fmt: skip
#: An engine has one status, 1, for whatever fails. Each was seen on docker 20.10, 26.1 and 28.5, or podman 4.3.
_ENGINE_FAILURES: _Failures = (
    *_FULL,
    ((("sudo refused the password",),),
     "it refused the password of LAYERFERRY_SUDO_PASSWORD",
     "sudo was told it once, and is not told again. targetpw or rootpw in sudoers means another user's password."),
    ((("permission denied",), ("password is required",), ("not allowed to execute",), ("may not run",)),
     "the user may not use the engine", _MAY),
    ((("cannot connect to the docker daemon",), ("daemon running",), ("connection refused",),
      ("no such file or directory", "sock"), ("failed to connect to", "sock")),
     "its engine does not run", "Start it: `systemctl start docker`."),
    ((("pins no images",),),
     "its engine pins no images", "Leave `pin` out of the engine: k3s, rke2, k0s, microk8s and ctr have it."),
)  # fmt: skip
#: What is said of an image, or by a receiver of itself: files in it are told of in the same words as an engine.
_NOT_OF_ENGINES = (VerdictKind.LOAD, VerdictKind.REFUSED)
#: What a load says where an image that was built on has been removed since the greeting.
_GONE = ("no such file or directory", "does not exist", "not found", "unknown parent image")
#: What the host script and the receiver say where nothing goes by the throw-away name.
_NOT_SHOWN = "the engine does not show"
_UNTOUCHED = "The old image is still there under its name."
_KINDS: dict[str, tuple[type[LayerferryError], str, str]] = {
    VerdictKind.NO_ENGINE:
        (TargetError, "there is no container engine", "Install docker or podman, where ssh finds it."),
    VerdictKind.ENGINE: (TargetError, "its engine cannot be used", "See what `docker info` says there."),
    VerdictKind.STOPPED: (TargetError, "its engine does not run", f"Start it, and push again. {_UNTOUCHED}"),
    VerdictKind.LOAD: (ArchiveError, "the engine refused the image", _UNTOUCHED),
    VerdictKind.TAG: (TargetError, "the engine refused the name", _UNTOUCHED),
    VerdictKind.COPY:
        (FollowError, "the image has its name, but a file was not copied",
         "That file is as it was there, and no command was run."),
    VerdictKind.RUN:
        (FollowError, "the image has its name, but the command of the policy failed", "Its log there says why."),
    VerdictKind.INTERNAL:
        (TargetError, "its part of the push failed", "Push again. Where a receiver is there, its log says why."),
    VerdictKind.REFUSED:
        (ArchiveError, "the receiver refuses this", "Its policy stands in authorized_keys on the target."),
    VerdictKind.PROTOCOL: (TargetError, "it does not take what we say", "Nothing was changed there."),
    VerdictKind.VERIFY: (VerificationError, "what was loaded is not what was sent", _UNTOUCHED),
}  # fmt: skip
#: What VERIFY means once names are being given: what was loaded had been seen to be right by then.
_MOVED: tuple[type[LayerferryError], str, str] = (
    VerificationError, "somebody else has moved a name meanwhile", "See who else gives it; then push again.",
)  # fmt: skip
#: What stands before the text where names were given before: the last of these.
_AFTER = re.compile(r"after (\S+): ")
#: Names that a hint has one by one.
_LISTED = 10


def is_verdict(line: str) -> bool:
    """Whether a line is `failed` with a kind that we know: a login shell may print "failed logins: 0"."""
    return line.startswith(f"{Reply.FAILED} ") and line.split(" ", 2)[1] in _KINDS


def verdict(target: str, line: str, names: Sequence[str] = ()) -> LayerferryError:
    """The error that a `failed KIND TEXT` line tells; `names` are those that were being given, in that order."""
    _, kind, text = (*beginning(line, limits.SAID).split(" ", 2), "", "")[:3]
    given, text = _so_far(text.strip(), names)
    error, message, hint = _KINDS.get(kind, (TargetError, f"failed to {beginning(kind, 40)}".rstrip(), ""))
    if issubclass(error, TargetError) and (better := _better(kind, text.lower())):
        error, message, hint = better
    if kind == VerdictKind.ENGINE:
        hint += _others(text)
    if kind == VerdictKind.VERIFY and (names or text.startswith("moved")):
        error, message, hint = _MOVED
        text, where = _moved(text, names)
    else:
        where = _where(kind, names, given)
    found = error(
        f"{target}: {message} ({beginning(text, limits.SHOWN)})" if text else f"{target}: {message}",
        hint=f"{hint.replace(_UNTOUCHED, '').strip()} {where}".strip() if where else hint,
        transient=_passes(kind, text.lower()),
    )
    found.named = where
    return found


def unanswered(error: LayerferryError, names: Sequence[str]) -> LayerferryError:
    """The error that came in the place of an answer, with what is known of `names`, which were being given."""
    if names and not error.named:
        error.named = _told((), names)
        error.hint = f"{error.hint} {error.named}".strip()
    return error


def _so_far(text: str, names: Sequence[str]) -> tuple[int, str]:
    """How many of the names had been given, and the text without that."""
    found = _AFTER.match(text)
    if found is None:
        return 0, text
    return names.index(found[1]) + 1 if found[1] in names else 0, text[found.end() :]


def _moved(text: str, names: Sequence[str]) -> tuple[str, str]:
    """What names show that somebody else has moved, `moved NAME=IMAGEID...`, and what the others show.

    An older receiver tells one of them, in words of its own.
    """
    told = [word.partition("=")[::2] for word in text.split()[1:]] if text.startswith("moved") else []
    shown = {name: image_id for name, image_id in told if name in names}
    if not shown:
        return text, _told((), names)
    others = [name for name in names if name not in shown]
    words = (
        f"{_familiar(name)} " + (f"shows {image_id}" if is_digest(image_id) else "shows another image, or none")
        for name, image_id in shown.items()
    )
    return ", ".join(words), _told(others, ())


def _where(kind: str, names: Sequence[str], given: int) -> str:
    """Which names show the new image already, or may: with TAG the engine has answered, and refused the next."""
    match kind:
        case VerdictKind.TAG:
            return _told(names[:given], ())
        case VerdictKind.STOPPED | VerdictKind.ENGINE:
            return _told(names[:given], names[given : given + 1])
        case VerdictKind.INTERNAL:
            return _told((), names)
    return ""


def _told(done: Sequence[str], perhaps: Sequence[str]) -> str:
    told = [f"is already under {_listed(done)}"] if done else []
    told += [f"may be under {_listed(perhaps)}"] if perhaps else []
    return f"The new image {', and '.join(told)}." if told else ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(_familiar, names[:_LISTED])) + more


def _familiar(name: str) -> str:
    return Name.parse(name).familiar


def _passes(kind: str, text: str) -> bool:
    """Whether a further try may do: the engine was restarted, or an image that was built on has been removed.

    A containerd store says that such a load was done, and shows nothing of it (docker 28.5; docs/design.md, fact 3).
    """
    gone = (kind == VerdictKind.LOAD and _is_gone(text)) or (kind == VerdictKind.VERIFY and _NOT_SHOWN in text)
    return gone or kind == VerdictKind.STOPPED


def _better(kind: str, text: str) -> tuple[type[LayerferryError], str, str] | None:
    for alternatives, message, advice in _FULL if kind in _NOT_OF_ENGINES else _ENGINE_FAILURES:
        if any(all(word in text for word in words) for words in alternatives):
            return TargetError, message, advice
    if kind == VerdictKind.LOAD and _is_gone(text):
        return (
            ArchiveError,
            "the engine refused the image",
            f"If an image was removed there meanwhile, push again. {_UNTOUCHED}",
        )
    return None


def _others(text: str) -> str:
    """How to choose another engine: the host script tells which are there, and takes none without being told."""
    _, there, names = text.rpartition("also here: ")
    others = [name for name in names.split() if name in ENGINES] if there else []
    return f" Or choose another: {' or '.join(f'?engine={name}' for name in others)}." if others else ""


def _is_gone(text: str) -> bool:
    """Whether an image that was built on has been removed: a further try finds that out, and sends its layers."""
    return any(word in text for word in _GONE)


def other_version(target: str, version: str) -> TargetError:
    """The error for a target that greets with another protocol than ours."""
    return TargetError(
        f"{target} speaks protocol {beginning(version, 40)}, we speak {VERSION}",
        hint="Install the same version of layerferry on both sides.",
    )


def no_script(target: str) -> UsageError:
    """The error for what follows a push, where it goes to a receiver."""
    return UsageError(
        f"{target} has a receiver, which takes images, and no commands and no files",
        hint="Push to it without --then and --copy: what runs there after a push is `run` in its policy (SECURITY.md).",
    )


def before(line: str) -> str:
    """A hint with the last line that was printed before."""
    return f"Before that, it printed: {beginning(line, 200)}"
