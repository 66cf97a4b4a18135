"""docs/errors.md, out of the code.

python tests/error_page.py > docs/errors.md     writes it; tests/unit/test_error_messages.py holds it to the code
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from error_messages import HOLE, Code, Message, code
from host_messages import host_messages

_INTERRUPTED: Final = 130
_HEAD: Final = f"""\
# Errors: each message, and what to do about it

<!-- made by `python tests/error_page.py`, out of the code; checked by tests/unit/test_error_messages.py -->

An error is one sentence that names what and where, and one that says what to do; both stand here as they are told, with
`{HOLE}` for what is put in. Search for the words that do not change. The exit code heads each part; `--json` has it as
`exit_code` ([output.md](output.md)). Where a message has no advice of its own, that of its part holds. `--log FILE`
shows what led to it.
"""


class Area(NamedTuple):
    """Messages of some modules: their title, the cause that they share, and the cure."""

    title: str
    modules: tuple[str, ...]
    about: str


_AREAS: Final = (
    Area("A receiver", ("receive/",),
         "What `layerferry receive` answers is told by the client as `HOST: the receiver refuses this (…)`, "
         "with exit code 5; its own command line and policy file end with 2. Its policy forbids it, or what "
         "came is not in the one form that it takes. Its log on the host says more; a client of the same "
         "version sends nothing that is broken."),
    Area("The ngrok tunnel", ("routes/ngrok/",),
         "ngrok's service or its agent refuses. The route `export` needs no tunnel: `--route auto` takes it by"
         " itself."),
    Area("The way out of the daemon", ("routes/", "embedded_registry/", "sources/daemon/push_capture.py"),
         "The daemon was to push to a registry in the job, and did not, or pushed something else. `--route "
         "export` reads the whole image without one; `layerferry doctor` shows what reaches what."),
    Area("The docker daemon", ("sources/daemon/", "ci/daemon_address.py"),
         "It is not there, refuses, or answers with what is no answer. `docker version` and `docker image "
         "inspect` in the same environment show whether it is the daemon; see its own log."),
    Area("Layouts, archives and image documents", ("sources/", "oci/", "chunks.py", "tar_headers.py"),
         "What is to be read is missing, not allowed to be read, cut short, or not what its digest says. Write"
         " it again; where it came over a line, fetch it again."),
    Area("Registries", ("registry_client/", "push/to_registry.py", "push/registry_inventory.py", "push/blob_proof.py"),
         "The registry refuses, or is not there. `docker login` and `docker pull` for the same name show "
         "whether it is the registry. These codes are those of a source; for a registry as the target it is 5,"
         " and 4 where it does not answer."),
    Area("Signatures", ("signing/", "image_signing.py"),
         "A signature is missing, is on something else, or cannot be made: [signing.md](signing.md)."),
    Area("What follows a push", ("push/follow_up.py", "push/following.py", "push/compose_up.py", "push/turns.py",
                                 "push/nodes.py", "compose.py"),
         "The commands, files and services of `--then`, `--copy` and `--up`: "
         "[after-the-push.md](after-the-push.md). With exit code 8 the image is there under its name."),
    Area("ssh, and what is at the other end", ("targets/",),
         "ssh cannot get there, the host has no engine that can be used, or something there says what it "
         "should not. `ssh HOST true` must work and print nothing; `ssh HOST docker version` must show the "
         "engine."),
    Area("Names, the way back, pruning", ("push/way_back.py", "push/upkeep.py", "push/pruning.py", "rollback.py"),
         "[after-the-push.md](after-the-push.md) says which names may be kept, and where images may go."),
    Area("The push", ("push/", "patch/"),
         "The image and the host do not go together, or something changed meanwhile. Push again; what has its "
         "name stays."),
    Area("Keys, secrets and the CI", ("ci/", "ci_run.py"),
         "A variable of the job is empty, cut off, or holds something else. A secret is often not there for "
         "forks and unprotected branches; `layerferry run --print-config` shows what arrived, masked."),
    Area("The command line, and this machine", ("",),
         "Something is missing or mistyped, or a folder has no room or no right. `--help` of the command shows"
         " what there is; what click says of an option that there is not is in its own words."),
)  # fmt: skip
#: What each exit code stands for.
_CODES: Final = {
    2: "usage or settings",
    3: "the source",
    4: "the connection",
    5: "the target",
    6: "verification",
    7: "a route that was asked for",
    8: "what was to follow",
    1: "output, and faults of ours",
    130: "interrupted",
}
_REASONS: Final = """\
## Reasons

These stand behind a colon, or in brackets, at the end of a message above.

"""
#: Of the host script's words, each stands in brackets in one of the messages above.
_HOST: Final = """\
## What the host script says

The script that a push runs on an ordinary host ends with these where it fails by itself; all else in brackets is the
engine's own.

| message | what to do |
|-|-|
"""


def _area_of(message: Message, number: int) -> Area:
    if number == 2 and message.module.startswith(("oci/", "sources/")):
        return _AREAS[-1]
    return next(area for area in _AREAS if message.module.startswith(area.modules))


def _cell(text: str) -> str:
    """A text in a table: outside of code, no sign of Markdown's or HTML's has its meaning there."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    parts[::2] = ["".join(f"\\{sign}" if sign in "*_<[" else sign for sign in part) for part in parts[::2]]
    return "`".join(parts).strip()


def _table(messages: Iterable[Message]) -> Iterator[str]:
    advice: dict[str, list[str]] = {}
    for message in messages:
        hints = advice.setdefault(message.text, [])
        hints += [hint for hint in message.hints if hint not in hints]
    yield "| message | what to do |\n|-|-|\n"
    for text in sorted(advice, key=lambda text: text.lstrip(f"{HOLE}:' ").lower()):
        yield f"| {_cell(text)} | {' Or: '.join(map(_cell, advice[text]))} |\n"
    yield "\n"


def page(read: Code) -> str:
    """The page."""
    parts = [_HEAD]
    whole = [message for message in read.messages() if not message.is_reason]
    for number, title in _CODES.items():
        parts.append(f"\n## {number}: {title}\n\n")
        of_code = [message for message in whole if read.kinds[message.kind] == number]
        for area in _AREAS:
            if mine := [message for message in of_code if _area_of(message, number) is area]:
                parts += [f"### {area.title} ({number})\n\n{area.about}\n\n", *_table(mine)]
        if number == _INTERRUPTED:
            parts.append("`interrupted`: by Ctrl-C or a signal. The old image has its name; push again.\n\n")
    parts += [_REASONS, *_table(message for message in read.messages() if message.is_reason)]
    told = sorted((one.told for one in host_messages()), key=lambda one: one[0].lstrip(f"{HOLE}: ").lower())
    parts += [_HOST, *(f"| {_cell(message)} | {_cell(hint)} |\n" for message, hint in told)]
    return "".join(parts).replace("\n\n\n", "\n\n").rstrip("\n") + "\n"


def main(arguments: Sequence[str]) -> None:
    if arguments:
        sys.exit(__doc__)
    sys.stdout.write(page(code()))


if __name__ == "__main__":
    main(sys.argv[1:])
